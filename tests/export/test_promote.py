"""A bundle goes live only if nothing speaks against it."""

import gzip
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bundle.features.assembly import Candidates
from bundle.manifest import MANIFEST, BundleError, read_manifest
from bundle.repository import locate, point
from decisions.lines import Decision, Exploration, Feedback, Outcome, Shown, encode
from decisions.reading import Joined, Tally, read_decisions
from engine.generation import Controls
from engine.loaded_model import LoadedModel
from evidence.estimators import Overlap
from evidence.judging import Estimate, Judgement, Value
from export.__main__ import export
from export.promote import main, promote, refused
from export.promotion import Limits, by_log, column_drift, read_log, verdicts
from model.data.open_dataset import open_dataset
from model.training.checkpoint import load_config
from model.training.examples import Example

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's libraries warn of each other


QUICK = Limits(parity_lists=8, timed_lists=5, time=20.0, effective_lists=50)
"""Timings say nothing here."""


@pytest.fixture(scope="module")
def folder(trained_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder: the live version 7, the same as 8, and 9, which likes least what 7 likes best."""
    made = tmp_path_factory.mktemp("models") / "simulated"
    run = shutil.copytree(trained_bundle.parents[1] / "run", made.parent / "run")
    same = [Path(shutil.copytree(trained_bundle, made / version)) for version in ("7", "8")][1]
    manifest = read_manifest(same).model_copy(update={"version": "8"})
    (same / MANIFEST).write_text(manifest.model_dump_json())
    point(made, "7")
    policy = torch.load(run / "policy.pt", weights_only=True)
    for name in policy:
        if "pointer_" in name:
            policy[name] = -policy[name]
    torch.save(policy, run / "policy.pt")
    export(run, made, "9", current=False)
    return made


@pytest.fixture(scope="module")
def log(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists that version 7 sampled, and clicks on what was clicked in the data."""
    made, model = tmp_path_factory.mktemp("decisions"), LoadedModel.open(folder / "7")
    exploration = Exploration(1.0, 1.0)
    with (made / "a.jsonl").open("wb") as file:
        for number, slate in enumerate(open_dataset(load_config(folder / "7")).slates["test"]):
            assert slate.scores is not None
            request = model.features.request(
                Candidates(slate.candidates, scores=slate.scores), slate.user, {}, slate.timestamp
            )
            controls = replace(
                Controls.default(model.manifest, 5),
                seed=number,
                selection_temperature=exploration.temperature,
            )
            (written,) = model.generate([request], [controls])
            chosen = [position.index for position in written.positions]
            decision = Decision(
                request_id=f"r{number}",
                id=f"d{number}",
                user_id=slate.user_id,
                at=float(number),
                model="simulated",
                model_version="7",
                items=tuple(map(Shown, slate.candidates, slate.scores)),
                context={"timestamp": slate.timestamp},
                slate=tuple(chosen),
                wanted=5,
                took_ms=1.0,
                probability=tuple(position.probability for position in written.positions),
                propensity=tuple(position.propensity for position in written.positions),
                reasoning_tokens=tuple(position.reasoning_tokens for position in written.positions),
                exploration=exploration,
                seed=number,
            )
            clicked = [slate.candidates[index] for index in chosen if slate.labels[index]]
            outcomes = tuple(Outcome(item_id, "click", number + 0.5) for item_id in clicked)
            file.write(encode(decision) + b"\n")
            if outcomes:
                file.write(encode(Feedback(f"d{number}", number + 0.5, outcomes, slate.user_id)) + b"\n")
    return made


def test_one_that_is_no_worse_goes_live(
    folder: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[Path, float]] = []

    def once(directory: Path, tally: Tally, since: float) -> Iterator[Joined]:
        reads.append((directory, since))
        return read_decisions(directory, tally, since=since)

    monkeypatch.setattr("export.promotion.read_decisions", once)
    arguments = [str(folder / "8"), "--over", str(folder), "--decisions", str(log)]
    arguments += ["--parity-lists", "8", "--timed-lists", "5", "--time", "20", "--effective-lists", "50"]
    report = ["--json", str(tmp_path / "out/report.json"), "--html", str(tmp_path / "out/report.html")]
    assert main([*arguments, *report, "--check-only", "--since", "1970-01-01"]) == 0
    assert locate(folder).name == "7"
    assert reads == [(log, 0.0)]
    told = json.loads((tmp_path / "out/report.json").read_text())
    assert (told["new"], told["over"]) == ("simulated 8", "simulated 7")
    by_question = {verdict["question"]: verdict for verdict in told["verdicts"]}
    assert list(by_question) == [
        "parity",
        "calibration",
        "held-out lists",
        "latency",
        "value by the decision log",
        "drift",
    ]
    assert all(verdict["passed"] for verdict in told["verdicts"]), told
    assert by_question["held-out lists"]["figures"]["difference"]["mean"] == 0
    assert by_question["drift"]["figures"]["unknown"] == 0
    page = (tmp_path / "out/report.html").read_text()
    assert "nothing speaks against it" in page
    assert "http" not in page
    try:
        assert main(arguments) == 0
        assert locate(folder).name == "8"
    finally:
        point(folder, "7")


def test_one_that_is_worse_is_refused(folder: Path, log: Path) -> None:
    found = promote(folder / "9", folder / "7", log, QUICK, aside=["calibration"])
    assert {"calibration", "held-out lists"} <= {one.question for one in found if one.passed is False}
    assert "calibration" not in refused(found)
    assert "held-out lists" in refused(found)
    assert locate(folder).name == "7"
    (by_its_log,) = [verdict for verdict in found if verdict.question == "value by the decision log"]
    assert by_its_log.passed is None  # it writes nothing like the lists of the log
    assert "fewer than 500" in by_its_log.because


@pytest.mark.parametrize(
    ("value", "difference", "effective", "live_effective", "passed"),
    [
        (2.0, (0.0, -0.1, 0.1), 900, 900, True),
        (1.9, (-0.1, -0.15, -0.05), 900, 900, False),  # established
        (1.97, (-0.03, -0.1, 0.04), 900, 900, False),  # not established, but more than 1 %
        (1.9, (-0.1, -0.15, -0.05), 400, 900, None),
        (1.9, (-0.1, -0.15, -0.05), 900, 400, None),  # of a live one that came after the log
    ],
)
def test_a_log_speaks_against_what_it_finds_worse(
    value: float,
    difference: tuple[float, float, float],
    effective: float,
    live_effective: float,
    passed: bool | None,
) -> None:
    def judged(value: float, difference: tuple[float, float, float], effective: float) -> Judgement:
        found = Overlap(effective, largest=2.0, mean=1.0, unsupported=0.0)
        _, low, high = difference
        draws = np.linspace(2.0 + low, 2.0 + high, 1000)
        sure = Value(value, value - 0.1, value + 0.1)
        estimate = Estimate(sure, Value(0.0, 0.0, 0.0), found, draws)
        return Judgement(1000, Value(2.0, 1.9, 2.1), 2.0, dict.fromkeys(("SNIPS", "CDR-OS"), estimate))

    live = judged(2.0, (0.0, 0.0, 0.0), live_effective)
    verdict = by_log(judged(value, difference, effective), live, Limits())
    assert verdict.passed is passed
    assert verdict.figures["minus_live"]["value"] == pytest.approx(difference[0])
    assert verdict.figures["minus_live"]["low"] == pytest.approx(difference[1], abs=0.01)


def test_a_damaged_one_is_refused_before_anything_else_is_asked(folder: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(folder / "8", tmp_path / "simulated/8")
    (damaged / "step.onnx").write_bytes(b"")
    found = list(verdicts(damaged, folder / "7", None, QUICK))
    assert [(verdict.question, verdict.passed) for verdict in found] == [("parity", False)]
    with pytest.raises(BundleError, match="no bundle here"):
        list(verdicts(folder / "8", tmp_path, None, QUICK))


def test_what_could_only_mislead_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is the live one itself"):
        main([str(folder / "7"), "--over", str(folder)])
    with pytest.raises(SystemExit, match=r"no \*\.jsonl or \*\.jsonl\.gz here"):
        main([str(folder / "8"), "--over", str(folder), "--decisions", str(tmp_path)])


def test_a_log_is_of_the_live_models_lists(folder: Path, log: Path, tmp_path: Path) -> None:
    """Lists of another model that the same service answers are left out; a line may be half written."""
    text = (log / "a.jsonl").read_bytes()
    other = text.replace(b'"model":"simulated"', b'"model":"another"').replace(b'"id":"d', b'"id":"other-d')
    (tmp_path / "a.jsonl").write_bytes(text + text[:50])
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(other))
    model = LoadedModel.open(folder / "7")
    found, whole = (read_log(directory, model, model) for directory in (tmp_path, log))
    assert (len(found.new), found.foreign) == (len(whole.new), found.tally.decisions - len(whole.new))
    assert found.foreign == whole.tally.decisions
    assert found.unknown == 0
    assert found.tally.truncated == 1
    assert f"left out: {found.foreign} of other models" in str(found)


def test_without_a_log_its_questions_are_not_asked(folder: Path) -> None:
    found = list(verdicts(folder / "8", folder / "7", None, QUICK))
    assert [verdict.question for verdict in found if verdict.passed is None] == [
        "value by the decision log",
        "drift",
    ]
    assert not refused(found)


def test_limits_bite(folder: Path, log: Path) -> None:
    strict = Limits(parity_lists=8, timed_lists=5, time=0.01, drift=0.0, trigger_rate=0.0)
    found = promote(folder / "8", folder / "7", log, strict)
    assert {"latency", "drift"} <= set(refused(found))


def test_a_column_that_moved_has_a_higher_index(folder: Path) -> None:
    columns = ["still", "moved"]

    def rows(shift: float) -> list[Example]:
        rng = np.random.default_rng(0)
        numbers = rng.normal(size=(500, 2)).astype(np.float32) + np.array([0, shift], np.float32)
        nothing = np.zeros(0)
        return [Example({"candidate_numeric": numbers}, nothing, nothing)]

    found = column_drift(columns, rows(0.0), rows(2.0))
    assert found["still"] == 0
    assert found["moved"] > 1
