"""What the service logged, as lists to learn from."""

from binascii import b2a_base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.features.history import Interaction
from bundle.features.schema import FeatureSchema, FieldSpec
from decisions.lines import Decision, Feedback, Matrix, Outcome, Seen, Shown, encode
from decisions.reading import DecisionLogError
from model.data import __main__ as command
from model.data.check import check
from model.data.config import DataConfig
from model.data.decision_log import features_sent, write_events
from model.data.event_log import EventLogError, read_event_log
from model.data.features import DatasetFeatures
from model.data.open_dataset import open_dataset
from model.data.slate import SPLITS, Dataset, LoggedSlate

SCHEMA = FeatureSchema(
    fields=(FieldSpec(name="price", kind="numeric"), FieldSpec(name="v", kind="vector", size=2)),
    initial_score=True,
    item_ctr=False,
)
PEOPLE = [f"u{n}" for n in range(20)]


def decision(name: str, at: float, user: str | None, **given: Any) -> Decision:
    values: dict[str, Any] = {
        "items": (Shown("a", 3.0), Shown("b", 2.0, {"price": 7.0}), Shown("c", 1.0)),
        "slate": (2, 0, 1),
        "probability": (0.4, 0.7),
        "propensity": (0.5, 0.75),
        **given,
    }
    return Decision(
        request_id=f"request {name}",
        at=at,
        model="m",
        model_version="1",
        wanted=3,
        took_ms=1.0,
        id=name,
        user_id=user,
        **values,
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A list for each of the people, a click on b in every one but the first, and three others."""
    lines: list[Decision | Feedback] = [
        decision(f"d{n}", float(n), user, history=(Seen("z", "click", 0.5),), profile={"age": n})
        for n, user in enumerate(PEOPLE)
    ]
    lines += [
        Feedback(f"d{n}", n + 0.5, (Outcome("b", "click", n + 0.5),), user)
        for n, user in enumerate(PEOPLE[1:], start=1)
    ]
    lines.append(
        decision("late", 100.0, PEOPLE[1], slate=(0, 1), probability=(), propensity=(), fallback="load")
    )
    lines += [
        decision(name, 101.0, None, context={"timestamp": 55.5, "device": "ios"}) for name in ("x", "y")
    ]
    directory = tmp_path / "log"
    directory.mkdir()
    (directory / "a.jsonl").write_bytes(b"\n".join(encode(line) for line in lines) + b"\n")
    (tmp_path / "records.jsonl").write_text(
        '{"event": "item", "item": "a", "fields": [{"name": "price", "value": 1.0}]}\n'
        '{"event": "item", "item": "b", "fields": [{"name": "v", "value": [1.0, 2.0]}]}\n'
    )
    return directory


def of(dataset: Dataset) -> dict[str, LoggedSlate]:
    return {slate.request_id: slate for split in SPLITS for slate in dataset.slates[split]}


def opened(log: Path) -> Dataset:
    records = log.parent / "records.jsonl"
    return open_dataset(DataConfig(dataset="event_log", event_log=log, item_records=records, features=SCHEMA))


def test_a_list_is_as_it_was_shown(log: Path) -> None:
    dataset = opened(log)
    slate = of(dataset)["d3"]
    assert slate.candidates == ("a", "b", "c")
    assert slate.shown.tolist() == [2, 0, 1]
    assert slate.labels.tolist() == [0.0, 1.0, 0.0]
    assert slate.scores == (3.0, 2.0, 1.0)
    assert slate.propensity is not None
    assert slate.propensity.tolist() == [0.5, 0.75, 1.0]  # the last was not written, it was left
    assert slate.features is not None
    assert [dict(own) for own in slate.features] == [{}, {"price": 7.0}, {}]
    assert dataset.items == {"b": {"price": 7.0, "v": [1.0, 2.0]}, "a": {"price": 1.0}}


def test_a_log_of_ids_alone_is_refused_with_what_to_do(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    bare = [decision(f"d{n}", float(n), who, items=tuple(map(Shown, "abc"))) for n, who in enumerate(PEOPLE)]
    clicks = [
        Feedback(f"d{n}", n + 0.5, (Outcome("b", "click", n + 0.5),), who) for n, who in enumerate(PEOPLE)
    ]
    (directory / "a.jsonl").write_bytes(b"".join(encode(line) + b"\n" for line in [*bare, *clicks]))
    config = DataConfig(
        dataset="event_log", event_log=directory, features=SCHEMA.model_copy(update={"initial_score": False})
    )
    _, found = check(open_dataset(config), config.features)
    with pytest.raises(
        EventLogError, match=r"nothing but an id is known of any of the 3 items.*item_records"
    ):
        found.refuse()


def test_a_list_that_brought_nothing_is_kept(log: Path) -> None:
    dataset = opened(log)
    assert of(dataset)["d0"].labels.sum() == 0
    assert dataset.dropped == {}
    assert len(of(dataset)) == len(PEOPLE) + 3


def test_what_the_model_was_told_goes_before_what_the_log_implies(log: Path) -> None:
    slates = of(opened(log))
    assert slates["d3"].user.history == (Interaction("z", "click", 0.5),)
    assert slates["d3"].user.profile == {"age": 3}
    assert slates["late"].user.history == ()  # though the log knows of a click of theirs


def test_features_of_events_that_no_field_reads_are_named(log: Path) -> None:
    told = {"z": {"mood": "calm", "price": 2.0}}
    line = decision("told", 102.0, "u3", history=(Seen("z", "click", 0.5),), told=told)
    (log / "b.jsonl").write_bytes(encode(line) + b"\n")
    undeclared = check(opened(log), SCHEMA)[0].undeclared
    assert {(one.scope, one.name, one.present) for one in undeclared} == {
        *(("item", "mood", 1), ("user", "age", 20), ("context", "device", 2)),
    }


def test_a_fallback_is_the_callers_order_for_certain(log: Path) -> None:
    slate = of(opened(log))["late"]
    assert slate.shown.tolist() == [0, 1]
    assert slate.propensity is not None
    assert slate.propensity.tolist() == [1.0, 1.0]


def test_people_without_an_id_are_each_somebody_else(log: Path) -> None:
    slates = of(opened(log))
    assert len({slates[name].user_id for name in ("x", "y")} | {"x", "y"}) == 4  # nor an id of anything else
    assert slates["x"].anonymous
    assert slates["x"].timestamp == 55.5
    assert slates["x"].context == {"device": "ios"}


def test_the_file_and_the_directory_are_the_same_lists(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl.gz"
    tally = write_events(log, out, tmp_path / "records.jsonl")
    assert (tally.decisions, tally.events, tally.fallbacks) == (23, 19, 1)
    one, other = opened(log), read_event_log(out, "log")
    assert one.items == other.items
    assert list(one.positives) == list(other.positives)
    for split in SPLITS:
        assert str(list(one.slates[split])) == str(list(other.slates[split]))


def test_features_sent_with_a_list_are_what_the_model_learns_from(log: Path) -> None:
    dataset = opened(log)
    features = DatasetFeatures.fit(dataset, SCHEMA)
    slate = of(dataset)["d3"]
    column = features.serving.candidate_columns.index("price")
    sent, known = (
        features.arrays(one, training=False)["candidate_numeric"][:, column]
        for one in (slate, replace(slate, features=[{}, {"price": 1.0}, {}]))
    )
    assert sent[1] > sent[0]
    assert known[1] == known[0]


def test_a_matrix_is_features_of_all_items() -> None:
    values = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, 5.0], [np.nan, 6.0, 7.0]], "<f4")
    matrix = Matrix(("price", "v[0]", "v[1]"), b2a_base64(values.tobytes(), newline=False).decode())
    found = features_sent(decision("d", 0.0, None, matrix=matrix))
    assert found == [{"price": 1.0, "v": [2.0, 3.0]}, {"price": 7.0}, {"v": [6.0, 7.0]}]


def test_a_matrix_of_another_size_is_named(tmp_path: Path) -> None:
    line = decision("d", 0.0, None, matrix=Matrix(("price",), "AAAA"))
    (tmp_path / "a.jsonl").write_bytes(encode(line) + b"\n")
    with pytest.raises(DecisionLogError, match=r"a\.jsonl:1: matrix\.data: 3 bytes, expected 3 x 1 float32"):
        write_events(tmp_path, tmp_path / "out")


def test_a_log_that_cannot_be_read_leaves_what_was_there(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    write_events(log, out)
    before = out.read_bytes()
    (log / "z.jsonl").write_bytes(encode(decision("late", 1e6, None)) + b"\n{}\n")
    with pytest.raises(DecisionLogError, match=r"z\.jsonl:2"):
        write_events(log, out, window_s=10.0)
    assert out.read_bytes() == before
    assert not [*tmp_path.glob(".part*")]


def test_a_file_in_the_log_itself_and_a_window_of_no_time_are_refused(log: Path, tmp_path: Path) -> None:
    before = sorted(log.iterdir())
    with pytest.raises(ValueError, match=r"all\.jsonl\.gz: lies in the decision log"):
        write_events(log, log / "all.jsonl.gz")
    assert sorted(log.iterdir()) == before
    for window_s in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="window: expected more than 0 seconds"):
            write_events(log, tmp_path / "out.jsonl", window_s=window_s)


def test_propensities_are_as_many_as_were_shown(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"event": "ranking", "id": "r", "user": "u", "timestamp": "1", "items": [{"id": "a"}, {"id": "b"}], '
        '"shown": [1, 0], "propensity": [0.5]}\n'
    )
    with pytest.raises(EventLogError, match=r"log\.jsonl:1: .*propensity: 1 for 2 items shown"):
        read_event_log(path, "log")


def test_the_command_says_what_it_could_not_join(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    arguments = ["from-decisions", str(log), "--out", str(out), "--window", "0.1"]
    monkeypatch.setattr("sys.argv", ["model.data", *arguments])
    command.main()
    assert "decisions 23, fallbacks 1, open 2, unknown events 19" in " ".join(capsys.readouterr().out.split())
    assert not any(slate.labels.any() for slate in of(read_event_log(out, "log")).values())
    arguments[1] = str(tmp_path / "nowhere")
    monkeypatch.setattr("sys.argv", ["model.data", *arguments])
    with pytest.raises(SystemExit, match=r"no \*\.jsonl"):
        command.main()
