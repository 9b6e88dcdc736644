"""Milliseconds per list through the exported graph, and natively: `python -m evidence.timing`.

The policies of seed 0, exported, one list per call, one thread; all variants take turns on the same lists, so
that the machine's noise affects all equally. Native decoding is what is served if it supports the policy; the
slate graph supports all of them. Run it when nothing else runs.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bundle.arrays import Named
from bundle.features.assembly import collate
from engine.generation import Controls, stack_controls
from engine.graphs import SlateRunner
from engine.lookahead import Lookahead
from engine.native.runner import NativeRunner, decodes_natively
from engine.runner import Runner, open_lookahead
from engine.settings import SessionSettings
from evidence.cell import Cell, open_cell
from evidence.controls import ALTERNATIVES, ALWAYS, BUDGETS, QUANTILES, SAMPLED_LISTS
from evidence.data import DATA
from evidence.grid import TRAININGS, Task, Training
from evidence.results import RESULTS, load, save
from export.writer import Trained, write_bundle
from model.policy import Policy
from model.progress import console, progress
from model.training.calibration import calibrate
from model.training.config import RunConfig

LISTS, ROUNDS, WARM_UP = 200, 9, 20


class Variant(NamedTuple):
    """One way to decode one policy. `lists` slates of a request share a call."""

    model: str
    control: str | None
    runner: Runner
    controls: Controls
    lists: int = 1
    lookahead: Lookahead | None = None

    @property
    def key(self) -> tuple[str, str | None, str]:
        """Model, control, and the column of the results that its time is stored in."""
        return (
            self.model,
            self.control,
            "ms_native" if isinstance(self.runner, NativeRunner) else "ms_per_list",
        )

    def write(self, inputs: Named, stacked: Named, candidates: int) -> None:
        """The list, or lists, of a request."""
        if self.lookahead is None:
            self.runner.run(inputs, stacked)
        else:
            self.lookahead.generate(inputs, [self.controls], [candidates])


def variants(data: str, root: Path, cell: Cell) -> list[Variant]:
    """Everything of the data set that has been trained with seed 0."""
    found: list[Variant] = []
    for name, training in progress(TRAININGS.items(), "exporting"):
        directory = root / Task(data, name, 0).directory
        if not (directory / "policy.pt").exists():
            continue
        config = RunConfig.model_validate_json((directory / "config.json").read_text()).policy
        policy = Policy(config, cell.sizes)
        policy.load_state_dict(torch.load(directory / "policy.pt", weights_only=True))
        runners, lookahead, own = _runners(policy.eval(), cell)
        for runner in runners:
            found += _decoded(training, runner, own, cell, policy)
        if lookahead is not None and training.decides and cell.data.controls:
            found += _looking_ahead(training, lookahead, own)
    return found


def _decoded(
    training: Training, runner: Runner, own: Controls, cell: Cell, policy: Policy
) -> Iterator[Variant]:
    """Every way to decode a policy that only needs other inputs to the graph."""
    name, budget = training.name, own.reasoning_budget
    yield Variant(name, training.control, runner, own)
    if not (training.decides and cell.data.controls):
        return
    if not budget:
        yield Variant(name, f"best of {SAMPLED_LISTS} lists by the evaluator", runner, own, SAMPLED_LISTS)
        return
    always = replace(own, entropy_threshold=ALWAYS)
    yield Variant(name, "reasoning switched off", runner, replace(own, reasoning_budget=0))
    yield Variant(name, "always", runner, always)
    for other in BUDGETS:
        for kind, controls in (("always", always), ("entropy gate", own)):
            yield Variant(name, f"{kind}, S = {other}", runner, replace(controls, reasoning_budget=other))
    for share in QUANTILES:
        gated = replace(own, entropy_threshold=calibrate(policy, cell.held_out, share).threshold)
        yield Variant(name, f"entropy gate, quantile {share}", runner, gated)


def _looking_ahead(training: Training, lookahead: Lookahead, own: Controls) -> Iterator[Variant]:
    """As in `evidence.controls`, natively."""
    assert isinstance(lookahead.writer, NativeRunner)
    ahead = replace(own, lookahead=ALTERNATIVES - 1)
    name = "entropy gate and lookahead" if own.reasoning_budget else "lookahead"
    ways = {f"{name} at gated positions": ahead}
    if not own.reasoning_budget:
        ways["lookahead everywhere"] = replace(ahead, entropy_threshold=ALWAYS)
    for control, controls in ways.items():
        yield Variant(training.name, control, lookahead.writer, controls, lookahead=lookahead)


def measure(cell: Cell, found: list[Variant]) -> dict[tuple[str, str | None, str], float]:
    """Mean over lists of the median over rounds, in milliseconds."""
    rows = cell.test[:LISTS]
    times = np.zeros((len(found), len(rows), ROUNDS))
    for number, row in enumerate(progress(rows, "timing")):
        candidates = len(row.labels)
        for index, variant in enumerate(found):
            inputs = collate([row.inputs] * variant.lists)
            controls = stack_controls([variant.controls] * variant.lists, [candidates] * variant.lists)
            for _ in range(WARM_UP if number == 0 else 0):
                variant.write(inputs, controls, candidates)
            for repeat in range(ROUNDS):
                started = time.perf_counter()
                variant.write(inputs, controls, candidates)
                times[index, number, repeat] = time.perf_counter() - started
    means = 1000.0 * np.median(times, axis=2).mean(axis=1)
    return {variant.key: float(mean) for variant, mean in zip(found, means, strict=True)}


def _runners(policy: Policy, cell: Cell) -> tuple[list[Runner], Lookahead | None, Controls]:
    """The slate graph, and native decoding and lookahead if it supports the policy; and the policy's own
    controls."""
    calibration = calibrate(policy, cell.held_out, policy.config.reasoner.gate_quantile)
    config = cell.config.model_copy(update={"policy": policy.config})
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        trained = Trained(config, policy, cell.features, calibration, {}, cell.evaluator)
        manifest = write_bundle(trained, directory)
        runners: list[Runner] = [SlateRunner(directory, manifest, SessionSettings())]
        lookahead = None
        if decodes_natively(manifest):
            opened = directory, manifest, cell.features, SessionSettings()
            native = NativeRunner(*opened)
            runners.append(native)
            lookahead = open_lookahead(*opened, native)
    return runners, lookahead, Controls.default(manifest, manifest.slate_length)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evidence.timing", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=["simulator"])
    parser.add_argument("--runs", type=Path, default=Path("runs/evidence"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stored = load(RESULTS)
    for data in arguments.data:
        cell = open_cell(Task(data, "EGLR", 0), arguments.runs)
        found = measure(cell, variants(data, arguments.runs, cell))
        for (model, control, column), ms in found.items():
            console.print(f"{data}  {model}, {control or 'as trained'}: {column} {ms:.3f}")
            for row in stored.rows.values():
                if (row["dataset"], row["model"], row["control"]) == (data, model, control):
                    row[column] = round(ms, 4)
    save(stored, RESULTS)


if __name__ == "__main__":
    main()
