"""The report of a log: its figures, what it suspects, and how the command ends."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from small_log import SCHEMA, START_MS, clean, click, fields, item, ranking, schema, write

from bundle.features.schema import FeatureSchema
from model.data import __main__ as command
from model.data.check import Report, check
from model.data.event_log import dataset_of
from model.data.findings import Findings
from model.data.log_lines import read_values
from model.data.simulator import SimulatorConfig, load

CONFIG = 'dataset = "event_log"\n[features]\nfields = [{ name = "price", kind = "numeric" }]\n'


def report(path: Path, **changes: Any) -> Report:
    found = Findings()
    dataset = dataset_of(read_values(path, found), path.stem, found, schema(**changes))
    return check(dataset, schema(**changes))[0]


def checked(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["model.data", "check", *map(str, arguments)])
    try:
        command.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_figures(tmp_path: Path) -> None:
    added = [
        ranking("x", user=None, timestamp=START_MS + 86_400_000),
        click("x", "i0"),
        click("x", "i0", type="buy"),
        ranking("y", user="u9", timestamp=START_MS - 1000),
    ]
    found = report(write(tmp_path / "log.jsonl", clean() + added))
    assert (found.lists, found.dropped) == (61, {"no positive": 1})
    assert (found.people, found.anonymous, found.lists_by_person) == (30, 1, (2, 2.0, 2))
    assert (found.items, found.described, found.candidates) == (40, 40, (3, 5.0, 5))
    assert (found.since, found.until) == ("2021-11-15T16:31:02+00:00", "2021-11-16T16:31:02+00:00")
    assert found.interaction_types == {"click": 61, "buy": 1}
    assert found.labels_by_position == pytest.approx((1 / 61, 60 / 61, 0, 0, 0))
    assert sum(size.lists for size in found.splits.values()) == 61
    assert not found.refused
    text = str(found)
    assert "log: 61 lists of 3 to 5 items (5 in the median), 30 people, 1 anonymous lists" in text
    assert "left out    1 of 62 lists: no positive 1" in text
    assert "field       item `price`: 40 of 40 items" in text


def test_fields_that_are_not_declared_are_told(tmp_path: Path) -> None:
    found = report(write(tmp_path / "log.jsonl", clean()), fields=SCHEMA["fields"][:1])
    assert {(one.scope, one.name) for one in found.undeclared} == {
        ("context", "device"),
        *(("item", name) for name in ("maker", "genres", "title", "released", "look")),
    }
    assert "not read    item `genres` (40 of 40), item `look`" in str(found)


def test_fields_of_items_in_no_list_are_told_too(tmp_path: Path) -> None:
    """As a decision log has them, of items that events alone describe."""
    found = report(write(tmp_path / "log.jsonl", [*clean(), item("x", mood="m"), item("y")]))
    assert [(one.name, one.present, one.total) for one in found.undeclared] == [("mood", 1, 42)]


def leaking(number: int, rng: random.Random) -> list[Any]:
    """A list, the click on one of its items, and features that were sent with it."""
    shown = [f"i{n}" for n in rng.sample(range(40), 5)]
    liked = rng.randrange(5)
    items = [
        {
            "id": name,
            "fields": fields(
                dwell=float(place == liked) + rng.random() / 2,
                noise=rng.random(),
                page=f"page {number}",
                mark="seen" if place == liked else "not",
                **({"seconds": 1.0} if place == liked else {}),
                relevancy=rng.random() - float(place == liked),
            ),
        }
        for place, name in enumerate(shown)
    ]
    context = fields(session=f"s{number}", device=rng.choice(["ios", "web"]))
    at = START_MS + 60_000 * number
    event = ranking(f"r{number}", user=f"u{number % 30}", timestamp=at, items=items, fields=context)
    return [event, click(f"r{number}", shown[liked], timestamp=at)]


def test_what_tells_the_label_is_suspected(tmp_path: Path) -> None:
    rng = random.Random(0)
    events = [item(number) for number in range(40)]
    for number in range(60):
        events += leaking(number, rng)
    declared = [
        *({"name": name, "kind": "numeric"} for name in ("price", "dwell", "noise", "seconds")),
        *({"name": name, "kind": "categorical"} for name in ("page", "mark", "maker")),
        *({"name": name, "kind": "categorical", "scope": "context"} for name in ("session", "device")),
    ]
    found = report(write(tmp_path / "log.jsonl", events), fields=declared, initial_score=True)
    told = {one.line for one in found.findings if one.effect == "suspect"}
    ids, order = "an id, which says nothing of others", "of pairs: is it known before the click?"
    assert told == {
        f"`session` is another one for every list, 60 of them: {ids}",
        f"`page` is another one for every list, 60 of them: {ids}",
        f"`dwell` tells clicked items from others of their list in 100% {order}",
        f"`mark` tells clicked items from others of their list in 100% {order}",
        f"whether there is a `seconds` tells clicked items from others of their list in 100% {order}",
        f"`relevancy` tells clicked items from others of their list in 100% {order}",
    }
    assert not found.refused


def test_most_lists_left_out_are_suspected(tmp_path: Path) -> None:
    empty = [ranking(f"x{number}", user=f"v{number}") for number in range(61)]
    for count, suspected in ((60, False), (61, True)):
        found = report(write(tmp_path / "log.jsonl", clean() + empty[:count]))
        told = [one.line for one in found.findings if one.kind == "most lists left out"]
        assert bool(told) == suspected
    assert told[0].startswith("61 of 121 lists teach nothing (no positive 61)")
    assert str(found).splitlines()[-2:] == ["likely wrong:", f"  {told[0]}"]


def test_data_that_is_no_event_log_is_reported_too() -> None:
    features = FeatureSchema.model_validate({"fields": [{"name": "quality", "kind": "numeric"}]})
    found, _ = check(load(SimulatorConfig(items=100, lists=200)), features)
    assert (found.lists, found.refused) == (200, False)


def test_the_command_ends_with_0_or_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log, config = write(tmp_path / "log.jsonl", clean()), tmp_path / "my.toml"
    config.write_text(CONFIG)
    assert checked(monkeypatch, "--config", config, "--event-log", log) == 0
    assert "log: 60 lists" in capsys.readouterr().out
    config.write_text(CONFIG.replace("price", "prize"))
    assert checked(monkeypatch, "--config", config, "--event-log", log, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["refused"]
    assert found["coverage"] == [{"scope": "item", "name": "prize", "present": 0, "total": 40}]
    refusals = [one["line"] for one in found["findings"] if one["refused"]]
    assert refusals == ["`prize`: 0 of 40 items; did you mean `price`?"]


def test_how_much_dirt_is_allowed_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, config = write(tmp_path / "log.jsonl", [*clean(), click("gone")]), tmp_path / "my.toml"
    for share, code in (("0.0", 1), ("0.02", 0)):
        config.write_text(f"largest_dirt_share = {share}\n{CONFIG}")
        assert checked(monkeypatch, "--config", config, "--event-log", log) == code


def test_pictures_are_drawn_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, config = write(tmp_path / "log.jsonl", clean()), tmp_path / "my.toml"
    config.write_text(CONFIG)
    asked = ("--config", config, "--event-log", log, "--pictures", tmp_path / "pictures")
    assert checked(monkeypatch, *asked) == 0
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {"labels_by_position.png", "lists_by_person.png", "lists_over_time.png"}
