"""The evidence: controls that keep their budget, rows that can be compared, a grid that goes on."""

import dataclasses
import json
import os
import pickle
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from own_log import write_config, write_log
from tiny_data import TINY

import evidence.cell
from evidence import __main__ as runner
from evidence import timing
from evidence.alone import fit_alone
from evidence.cell import open_cell
from evidence.controls import decodings
from evidence.data import DATA, NOT_SIMULATED, Data
from evidence.fit import IDENTITY, PEOPLE, ROWS, VALUES, fit
from evidence.grid import DECIDING, MODELS, SEEDS, TRAININGS, Task, configured, tasks
from evidence.intervals import gap
from evidence.references import REFERENCES
from evidence.results import Results, collect, difference, key, load
from evidence.tables import main_table, possible_table, steps_table
from model.policy import Policy


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evidence")


@pytest.fixture(scope="module", autouse=True)
def tiny():
    DATA["tiny"] = TINY
    yield
    del DATA["tiny"]


@pytest.fixture(scope="module")
def finished(root: Path) -> Path:
    for model in ("EGLR", "without reasoning", "LambdaMART", *REFERENCES):
        fit(Task("tiny", model, 0), root)
    return root


def test_the_grid_has_five_seeds_of_everything() -> None:
    todo = tasks(["ranklens", "simulator"])
    assert len({task.directory for task in todo}) == len(todo)
    assert {task.seed for task in todo} == set(SEEDS) == {0, 1, 2, 3, 4}
    on_logs = {task.model for task in todo if task.data == "ranklens"}
    not_there = ("+ GRPO", "same evaluators")
    assert on_logs == {
        model for model in MODELS if model not in REFERENCES and not any(name in model for name in not_there)
    }
    assert {task.model for task in todo if task.data == "simulator"} == set(MODELS) - set(NOT_SIMULATED)
    for data in DATA.values():
        for training in TRAININGS.values():
            config = configured(training, data.run_config(3))
            assert config.seed == 3
    plain = configured(TRAININGS["without reasoning"], TINY.run_config(0))
    assert plain.policy.reasoner.budget == 0
    assert plain.policy.width == 16
    longer = configured(TRAININGS["without reasoning, equal time"], TINY.run_config(0))
    assert longer.imitation.epochs == longer.expert_iteration.epochs == 2
    again = [task for task in tasks(["simulator"], training_seeds=3) if task.training_seed]
    assert {task.model for task in again} == set(DECIDING)
    assert {task.config.seed for task in again} == {seed + 100 * n for seed in SEEDS for n in (1, 2)}
    assert {task.config.simulator.seed for task in again} == set(SEEDS)


def test_what_is_asked_for_is_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit and its cell are found by their configuration, not by the data set's name."""
    before = Task("tiny", "EGLR", 0)
    same_cell = Task("tiny", "without reasoning", 0)
    assert before.cell_directory == same_cell.cell_directory
    assert before.directory != same_cell.directory
    paths = before.directory, before.cell_directory
    stronger = {**TINY.changes, "simulator": {**TINY.changes["simulator"], "strength": 9.0}}
    monkeypatch.setitem(DATA, "tiny", dataclasses.replace(TINY, changes=stronger))
    asked = Task("tiny", "EGLR", 0)
    assert asked.config.simulator.strength == 9.0
    assert asked.directory != paths[0]
    assert asked.cell_directory != paths[1]


def test_a_table_of_nothing_says_what_to_run(tmp_path: Path) -> None:
    told = main_table(Results(load(tmp_path)), "simulator-n100")
    assert told == "Not run yet: `python -m evidence --data simulator-n100`."


def test_a_log_is_fitted_as_a_world_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_config(tmp_path / "own.toml", reinforcement=0, largest_calibration_error=1.0)
    config.write_text(f"event_log = '{write_log(tmp_path / 'log.jsonl')}'\n" + config.read_text())
    data = Data("own", str(config.with_suffix("")), "ndcg@10", first_stage=True)
    monkeypatch.setitem(DATA, "own", data)
    (task,) = (one for one in tasks(["own"], range(1)) if one.model == "LambdaMART")
    fit(task, tmp_path)
    (row,) = json.loads((tmp_path / task.directory / ROWS).read_text())
    assert 0 < row["metrics"]["ndcg@10"] <= 1


def test_only_what_a_fit_needs_is_a_reason_to_repeat_it(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(finished, tmp_path)
    known, policy, other = load(tmp_path), Task("tiny", "EGLR", 0), Task("tiny", "LambdaMART", 0)

    def asked(phase: str, **changes: object) -> tuple[bool, bool]:
        own = {**TINY.changes, phase: {**TINY.changes.get(phase, {}), **changes}}
        monkeypatch.setitem(DATA, "tiny", dataclasses.replace(TINY, changes=own))
        return known.is_current(policy), known.is_current(other)

    assert asked("reinforcement") == (True, True)
    assert asked("expert_iteration", rounds=2) == (False, True)
    assert asked("reinforcement", patience=7) == (True, True)  # left out
    assert asked("evaluator", members=3) == (False, False)


def test_a_row_says_all_that_was_asked_for(finished: Path) -> None:
    rows = json.loads((finished / Task("tiny", "EGLR", 0).directory / ROWS).read_text())
    asked = {"dataset", "model", "backbone", "reasoning", "s_max", "control", "seed", "metrics"}
    asked |= {"tokens_per_list", "cpu_s", "commit", "cell_commit", "configuration", "training_seed"}
    assert all(asked <= set(row) for row in rows)
    names = {"ndcg@1", "ndcg@3", "ndcg@5", "ndcg@10", "map@10", "clicks@10"}
    assert set(rows[0]["metrics"]) == names | {"true_value", "evaluator_score", "diversity"}
    own, off = rows[0], next(row for row in rows if row["control"] == "reasoning switched off")
    assert (own["reasoning"], own["s_max"], own["control"]) == (True, 2, None)
    assert (off["reasoning"], off["tokens_per_list"]) == (False, 0.0)


def test_controls_keep_the_budget_they_say(finished: Path) -> None:
    torch.manual_seed(0)
    cell = open_cell(Task("tiny", "EGLR", 0), finished)
    policy = Policy(configured(TRAININGS["EGLR"], cell.config).policy, cell.sizes).eval()
    tokens = {
        control: torch.cat([rollout.tokens for rollout in decoded[0]])
        for control, decoded in decodings(policy, cell)
    }
    own = tokens[None]
    assert 0 < own.float().mean() < 2
    assert torch.equal(tokens["random gate"].sum(0), own.sum(0))  # position by position
    assert not torch.equal(tokens["random gate"], own)
    assert torch.equal(tokens["all tokens first"][:, 0], own.sum(1))
    assert not tokens["all tokens first"][:, 1:].any()
    assert (tokens["always"] == 2).all()
    assert (tokens["always, S = 1"] == 1).all()
    assert tokens["entropy gate, S = 1"].max() == 1
    assert (tokens["always, S = 3"] == 3).all()
    assert not tokens["reasoning switched off"].any()
    assert (tokens["convergence gate"] >= 1).all()
    assert policy.config.reasoner.gate == "normalised"  # put back after the other gates


def test_who_knows_more_writes_better_lists(finished: Path, tmp_path: Path) -> None:
    collect(finished, tmp_path)
    results = Results(load(tmp_path))
    values = {name: results.mean("tiny", name, None, "true_value") for name in REFERENCES}
    assert values["random order"] < values["relevance sort"] < values["myopic oracle"]
    assert values["myopic oracle"] < values["beam-16 oracle"]
    assert "| beam-16 oracle | " in possible_table(results, "tiny")
    searched = results.mean("tiny", "without reasoning", "lookahead everywhere", "evaluator_score")
    gated = results.mean("tiny", "without reasoning", "lookahead at gated positions", "evaluator_score")
    assert searched > gated > results.mean("tiny", "without reasoning", None, "evaluator_score")


def test_of_fits_of_one_name_the_newest_is_collected(tmp_path: Path) -> None:
    """Whatever their folders, named after their configurations, are called."""
    row = {"dataset": "tiny", "model": "EGLR", "control": None, "seed": 0, "training_seed": 0}
    for age, name in ((0, "a"), (60, "b")):
        folder = tmp_path / "tiny/0-0" / f"EGLR-{name}"
        folder.mkdir(parents=True)
        np.savez(folder / VALUES, **{"": np.zeros(1), PEOPLE: np.zeros(1, np.int32)})
        (folder / IDENTITY).write_text("{}")
        (folder / ROWS).write_text(json.dumps([{**row, "configuration": name, "metrics": {}}]))
        os.utime(folder / ROWS, (time.time() - age,) * 2)
    collect(tmp_path, tmp_path / "results")
    (kept,) = load(tmp_path / "results").rows.values()
    assert kept["configuration"] == "a"


def test_results_are_collected_and_compared(finished: Path, tmp_path: Path) -> None:
    collect(finished, tmp_path)
    stored = load(tmp_path)
    rows, values, configurations = stored
    assert set(rows) | {"people|tiny|0"} == set(values)
    assert {row["configuration"] for row in rows.values()} == set(configurations)
    ours, plain = "tiny|EGLR|None|0|0", "tiny|without reasoning|None|0|0"
    mean, low, high = difference(values, [ours], [plain])
    assert low < mean < high
    assert mean == pytest.approx(
        rows[ours]["metrics"]["true_value"] - rows[plain]["metrics"]["true_value"], abs=1e-3
    )
    results = Results(stored)
    table = main_table(results, "tiny")
    assert "| **EGLR** | 1 |" in table
    assert "| LambdaMART | 1 |" in table
    assert f"Commit: {rows[ours]['commit']}." in table
    steps = steps_table(results, "tiny").splitlines()
    assert len(steps) == 2 + 4  # no rows of one evaluator here
    assert f"| {results.mean('tiny', 'EGLR', 'imitation alone', 'true_value'):.4f} |" in steps[2]


def test_a_difference_pairs_run_with_run() -> None:
    hard = 5 * np.random.default_rng(0).normal(size=(2, 400)).astype(np.float32)
    values = {"a0": hard[0] + 0.1, "a1": hard[1] + 0.3, "b0": hard[0], "b1": hard[1]}
    values["a0"][0] = np.nan
    assert difference(values, ["a0", "a1"], ["b0", "b1"]) == pytest.approx((0.2, 0.2, 0.2), abs=1e-5)
    _, low, high = difference(values, ["a0", "a1"], ["b1", "b0"])
    assert high - low > 0.5


def test_both_intervals_resample_what_varies() -> None:
    rng = np.random.default_rng(0)
    worlds, lists = 5, 400
    of_world = rng.normal(0.3, 0.1, worlds)
    found = {
        (world, training): (of_world[world] + rng.normal(0, 0.5, lists)).astype(np.float32)
        for world in range(worlds)
        for training in range(3)
    }
    ours = gap(found, {}, worlds_vary=True)
    means = [np.mean([found[world, training].mean() for training in range(3)]) for world in range(worlds)]
    assert ours.mean == pytest.approx(np.mean(means))
    spread = np.std(means, ddof=1) / worlds**0.5
    assert ours.high_of_runs - ours.low_of_runs == pytest.approx(2 * 2.776 * spread, rel=1e-3)
    width = ours.high - ours.low
    assert width == pytest.approx(2 * 1.96 * np.std(means) / worlds**0.5, rel=0.2)  # worlds decide
    folds = gap({run: v for run, v in found.items() if run[1] == 0}, {}, worlds_vary=False)
    assert folds.high - folds.low == pytest.approx(2 * 1.96 * 0.5 / (worlds * lists) ** 0.5, rel=0.2)
    assert ours.sure
    assert not gap({run: v for run, v in found.items() if run[0] == 0}, {}, worlds_vary=True).sure


def test_people_are_drawn_with_all_their_lists() -> None:
    rng = np.random.default_rng(0)
    of_person = rng.normal(0, 1, 100).repeat(4).astype(np.float32)
    whose = np.arange(100, dtype=np.int32).repeat(4)
    found = {(0, 0): of_person, (1, 0): of_person}
    by_people = gap(found, {0: whose, 1: whose}, worlds_vary=False)
    by_lists = gap(found, {}, worlds_vary=False)
    assert by_people.high - by_people.low == pytest.approx(2 * (by_lists.high - by_lists.low), rel=0.2)
    found[0, 0] = np.where(np.arange(400) < 4, np.nan, of_person)
    assert np.isfinite(gap(found, {0: whose, 1: whose}, worlds_vary=False)).all()


def test_what_is_finished_is_not_run_again(finished: Path, tmp_path: Path) -> None:
    ran: list[Task] = []

    def note(task: Task, root: Path) -> None:
        ran.append(task)

    todo = [Task("tiny", model, 0) for model in ("EGLR", "LambdaMART")]
    assert runner.run(todo, finished, 1, tmp_path, again=False, fit=note) == 0
    assert not ran
    assert key(json.loads((tmp_path / "results.json").read_text())[0]).startswith("tiny|")
    assert runner.run(todo, tmp_path / "elsewhere", 1, tmp_path, again=False, fit=note) == 0
    assert not ran  # their rows are in the results
    path = tmp_path / "configurations.json"
    text = path.read_text()
    path.write_text(text.replace('"strength": 1.0, ', ""))  # a setting that came later has its default
    assert runner.run(todo, tmp_path / "elsewhere", 1, tmp_path, again=False, fit=note) == 0
    assert not ran
    path.write_text(text.replace('"strength": 1.0', '"strength": 9.0'))
    assert runner.run(todo, tmp_path / "elsewhere", 1, tmp_path, again=False, fit=note) == 0
    assert ran == todo


def test_a_fit_runs_in_a_process_that_is_named_after_it(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):  # its data set is not known there
        fit_alone(Task("tiny", "EGLR", 0), tmp_path)
    output = (tmp_path / Task("tiny", "EGLR", 0).directory / "output.txt").read_text()
    assert "python -m evidence.fit" in output


DECODED = ("EGLR", "without reasoning")


@pytest.mark.parametrize("trainings", [DECODED, pytest.param(tuple(TRAININGS), marks=pytest.mark.slow)])
def test_every_decoding_is_timed_on_both_paths(
    finished: Path, monkeypatch: pytest.MonkeyPatch, trainings: tuple[str, ...]
) -> None:
    for name, value in (("LISTS", 2), ("ROUNDS", 1), ("WARM_UP", 0)):
        monkeypatch.setattr(timing, name, value)
    monkeypatch.setattr(timing, "TRAININGS", {name: TRAININGS[name] for name in trainings})
    cell = open_cell(Task("tiny", "EGLR", 0), finished)
    found = timing.measure(cell, timing.variants("tiny", finished, cell))
    assert all(milliseconds > 0 for milliseconds in found.values())
    decoded = {(model, control) for model, control, _ in found}
    assert ("EGLR", "entropy gate, quantile 0.8") in decoded
    assert {column for *_, column in found} == {"ms_per_list", "ms_native"}
    ahead = {(model, control) for model, control in decoded if control and "lookahead" in control}
    assert len(ahead) == 3
    assert len(found) == 2 * len(decoded - ahead) + len(ahead), "lookahead natively alone"


def test_what_earlier_code_kept_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, task = [], Task("tiny", "EGLR", 0)
    monkeypatch.setattr(evidence.cell, "_make", lambda *_: made.append(1) or [len(made)])
    assert open_cell(task, tmp_path) == open_cell(task, tmp_path) == [1]
    gone = pickle.dumps(Gone())
    (tmp_path / task.cell_directory / "cell.pkl").write_bytes(gone.replace(b"Gone", b"Lost"))
    assert open_cell(task, tmp_path) == [2]


class Gone:
    """Of a class that is there no more once its name is changed in the pickle."""
