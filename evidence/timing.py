"""Milliseconds a list through the exported graph: `python -m evidence.timing`.

The policies of seed 0, exported, one list a call, one thread, all variants in turn on the same lists so
that the machine's noise hits all alike. Run it when nothing else runs.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch

from evidence.cell import Cell, open_cell
from evidence.controls import ALWAYS, BUDGETS, QUANTILES, SAMPLED_LISTS
from evidence.data import DATA
from evidence.grid import TRAININGS, Task
from evidence.results import RESULTS, load, save
from export.step_graph import compose_slate, export_encoder, export_step, state_specs
from model.config import RunConfig
from model.features.assembly import collate
from model.manifest import SLATE
from model.policy import Policy
from model.progress import console, progress
from model.train_policy import NEVER, calibrate
from service.engine.generation import Controls, stack_controls
from service.engine.runner import SessionSettings, SlateRunner

LISTS, ROUNDS, WARM_UP = 200, 3, 20


class Variant(NamedTuple):
    """One way to decode one policy; `lists` slates of a request share a call."""

    model: str
    control: str | None
    runner: SlateRunner
    controls: Controls
    lists: int = 1


def variants(data: str, root: Path, cell: Cell) -> list[Variant]:
    """Everything of the data set that has been trained with seed 0."""
    found = []
    for name, training in progress(TRAININGS.items(), "exporting"):
        directory = root / Task(data, name, 0).directory
        if not (directory / "policy.pt").exists():
            continue
        config = RunConfig.model_validate_json((directory / "config.json").read_text()).policy
        policy = Policy(config, cell.sizes)
        policy.load_state_dict(torch.load(directory / "policy.pt", weights_only=True))
        runner, budget = _runner(policy.eval()), config.reasoner.budget
        quantile = config.reasoner.gate_quantile
        threshold = calibrate(policy, cell.held_out, quantile).threshold if budget else NEVER
        own = Controls(
            slate_length=config.slate_length,
            entropy_threshold=threshold,
            reasoning_budget=budget,
            reasoning_temperature=config.reasoner.temperature,
            selection_temperature=config.selection_temperature,
        )
        found.append(Variant(name, training.control, runner, own))
        if not (training.decides and cell.data.controls):
            continue
        if not budget:
            name_of = f"best of {SAMPLED_LISTS} lists by the evaluator"
            found.append(Variant(name, name_of, runner, own, SAMPLED_LISTS))
            continue
        always = replace(own, entropy_threshold=ALWAYS)
        found.append(Variant(name, "reasoning switched off", runner, replace(own, reasoning_budget=0)))
        found.append(Variant(name, "always", runner, always))
        for other in BUDGETS:
            for kind, controls in (("always", always), ("entropy gate", own)):
                changed = replace(controls, reasoning_budget=other)
                found.append(Variant(name, f"{kind}, S = {other}", runner, changed))
        for share in QUANTILES:
            gated = replace(own, entropy_threshold=calibrate(policy, cell.held_out, share).threshold)
            found.append(Variant(name, f"entropy gate, quantile {share}", runner, gated))
    return found


def measure(cell: Cell, found: list[Variant]) -> dict[tuple[str, str | None], float]:
    """Mean over lists of the median over rounds, in milliseconds."""
    rows = cell.test[:LISTS]
    times = np.zeros((len(found), len(rows), ROUNDS))
    for number, row in enumerate(progress(rows, "timing")):
        candidates = len(row.labels)
        for index, variant in enumerate(found):
            inputs = collate([row.inputs] * variant.lists)
            controls = stack_controls([variant.controls] * variant.lists, [candidates] * variant.lists)
            for _ in range(WARM_UP if number == 0 else 0):
                variant.runner.run(inputs, controls)
            for repeat in range(ROUNDS):
                started = time.perf_counter()
                variant.runner.run(inputs, controls)
                times[index, number, repeat] = time.perf_counter() - started
    means = 1000.0 * np.median(times, axis=2).mean(axis=1)
    return {(v.model, v.control): float(mean) for v, mean in zip(found, means, strict=True)}


def _runner(policy: Policy) -> SlateRunner:
    with tempfile.TemporaryDirectory() as directory:
        graph = compose_slate(export_encoder(policy), export_step(policy), state_specs(policy))
        onnx.save(graph, Path(directory) / SLATE)
        return SlateRunner(Path(directory), SessionSettings())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evidence.timing", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=["simulator"])
    parser.add_argument("--runs", type=Path, default=Path("runs/evidence"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, values = load(RESULTS)
    for data in arguments.data:
        cell = open_cell(DATA[data], 0, arguments.runs / data / "0")
        found = measure(cell, variants(data, arguments.runs, cell))
        for (model, control), ms in found.items():
            console.print(f"{data}  {model}, {control or 'as trained'}: {ms:.3f} ms")
            for row in rows.values():
                if (row["dataset"], row["model"], row["control"]) == (data, model, control):
                    row["ms_per_list"] = round(ms, 4)
    save(rows, values, RESULTS)


if __name__ == "__main__":
    main()
