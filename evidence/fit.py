"""One fit and the rows it gives: train, decode every way, measure on the test fold.

Legend: B lists, N candidates, K positions.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from evidence.cell import Cell, open_cell
from evidence.controls import Decoded, decodings
from evidence.data import DATA
from evidence.grid import TRAININGS, Task, Training
from evidence.references import REFERENCES
from export.provenance import commit
from model.baselines import BASELINES
from model.baselines.task import Task as BaselineTask
from model.metrics import diversity, ndcg, summary
from model.policy import Policy
from model.progress import console
from model.training.checkpoint import save_tensors, save_text
from model.training.config import RunConfig, with_changes
from model.training.examples import Example, batches
from model.training.fit_policy import fit_policy
from model.training.phase import RunLog

Orders = list[NDArray[np.int64]]
ROWS, VALUES, SLATES = "rows.json", "values.npz", "slates.json"


def fit(task: Task, root: Path) -> None:
    """Fit and measure. Leaves the rows, their per-list values and the slates in the task's directory; the
    rows come last, and say that the task is finished."""
    cell = open_cell(DATA[task.data], task.seed, root / task.data / str(task.seed))
    directory = root / task.directory
    directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    rows: list[dict[str, Any]] = []
    orders: dict[str, Orders] = {}
    values: dict[str, NDArray[np.float32]] = {}
    common = {"dataset": task.data, "model": task.model, "seed": task.seed, "commit": commit()}
    if task.model in TRAININGS:
        training = TRAININGS[task.model]
        policy = train(training, cell, directory)
        seconds = time.monotonic() - started
        found = decodings(policy, cell)
        for control, decoded in found if training.decides and cell.data.controls else [next(found)]:
            name = control or training.control
            row = {"backbone": training.backbone, "reasoning": decoded[1] > 0, "s_max": decoded[1]}
            orders[name or ""] = slates(decoded)
            measured, values[name or ""] = measure(cell, orders[name or ""])
            rows.append(
                {**common, **row, "control": name, **measured, **reasoning(decoded)} | {"wall_s": seconds}
            )
    else:
        orders[""] = untrained(task.model, cell, directory)
        seconds = time.monotonic() - started
        measured, values[""] = measure(cell, orders[""])
        row = {"backbone": None, "reasoning": False, "s_max": 0, "control": None, "tokens_per_list": 0.0}
        rows.append({**common, **row, **measured})
    rows = [{**row, "wall_s": round(seconds, 1)} for row in rows]
    np.savez_compressed(directory / VALUES, allow_pickle=False, **values)
    save_text(
        directory / SLATES,
        json.dumps({name: [order.tolist() for order in found] for name, found in orders.items()}),
    )
    save_text(directory / ROWS, json.dumps(rows, indent=1))


def fit_alone(task: Task, root: Path) -> None:
    """`fit` in a process of its own: one thread, and no output between the lines of the grid."""
    torch.set_num_threads(1)
    console.quiet = True
    fit(task, root)


def train(training: Training, cell: Cell, directory: Path) -> Policy:
    """The policy of a training, from the cell's lists, evaluator and teachers."""
    config = configured(training, cell.config)
    log = RunLog(directory)
    torch.manual_seed(config.seed)
    policy = Policy(config.policy, cell.sizes)
    fit_policy(
        config, directory, log, policy, cell.evaluator, cell.train, cell.held_out, cell.score, cell.taught
    )
    log.close()
    save_text(directory / "config.json", config.model_dump_json(indent=1))
    save_tensors(directory / "policy.pt", policy.state_dict())
    for state in directory.glob("*.state.pt"):
        state.unlink()
    return policy.eval()


def configured(training: Training, config: RunConfig) -> RunConfig:
    """The cell's configuration with the training's changes; `epochs` there is a factor."""
    changes = dict(training.changes)
    factor = changes.pop("epochs", 1)
    policy = config.policy.model_dump()
    for name, change in training.policy.items():
        policy[name] = {**policy[name], **change} if isinstance(change, dict) else change
    for phase in ("supervised", "imitation"):
        changes[phase] = {"epochs": round(getattr(config, phase).epochs * factor)}
    return with_changes(config, {**changes, "policy": policy})


def untrained(model: str, cell: Cell, directory: Path) -> Orders:
    """The slates of a baseline or a reference."""
    found: Sequence[ArrayLike] = (
        REFERENCES[model](cell) if model in REFERENCES else BASELINES[model](baseline_task(cell, directory))
    )
    return [np.asarray(order, np.int64)[: cell.config.policy.slate_length] for order in found]


def baseline_task(cell: Cell, directory: Path) -> BaselineTask:
    return BaselineTask(
        train=cell.train,
        held_out=cell.held_out,
        test=cell.test,
        columns=cell.features.candidate_columns,
        sizes=cell.sizes,
        slate_length=cell.config.policy.slate_length,
        seed=cell.config.seed,
        score=cell.score,
        evaluator=cell.evaluator,
        run=directory,
    )


def slates(decoded: Decoded) -> Orders:
    return [slate for rollout in decoded[0] for slate in rollout.slates()]


@torch.no_grad()
def measure(cell: Cell, orders: Orders) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Means over the test lists, and the comparison's metric of each list (NaN where it has none)."""
    rows, lists = cell.test, cell.dataset.slates["test"]
    labels = [row.labels for row in rows]
    metrics = summary(orders, labels)
    vectors = (contents(cell, row) for row in rows)
    metrics["diversity"] = float(np.mean([diversity(*pair) for pair in zip(vectors, orders, strict=True)]))
    metrics["evaluator_score"] = float(np.mean(_rewards(cell, orders)))
    values = ndcg(orders, labels, 10)
    if cell.dataset.true_value is not None:
        pairs = zip(lists, orders, strict=True)
        values = np.array([cell.dataset.true_value(slate, order.tolist()) for slate, order in pairs])
        metrics["true_value"] = float(values.mean())
    return {"metrics": {name: round(value, 5) for name, value in metrics.items()}}, values.astype(np.float32)


def contents(cell: Cell, row: Example) -> NDArray[np.float32]:
    """Vectors to compare the candidates by, `[N, X]`: embeddings if there are any, else tokens."""
    columns = [i for i, name in enumerate(cell.features.candidate_columns) if name.startswith("embedding")]
    if columns:
        vectors: NDArray[np.float32] = row.inputs["candidate_numeric"][:, columns]
        return vectors
    tokens = row.inputs["candidate_tokens"]
    present: NDArray[np.bool_] = (tokens[:, :, None] == np.unique(tokens[tokens > 0])).any(1)
    return present.astype(np.float32)


def reasoning(decoded: Decoded) -> dict[str, Any]:
    """Tokens a list, and mean entropy in nats and trigger rate by position."""
    rollouts = decoded[0]
    written = torch.cat([rollout.written for rollout in rollouts]).float()

    def by_position(name: str) -> list[float]:
        values = torch.cat([getattr(rollout, name) for rollout in rollouts]).float()
        return [round(value, 4) for value in ((values * written).sum(0) / written.sum(0)).tolist()]

    tokens = torch.cat([rollout.tokens for rollout in rollouts]) * written
    return {
        "tokens_per_list": round(float(tokens.sum(1).mean()), 3),
        "entropy_before": by_position("entropy_before"),
        "entropy_after": by_position("entropy_after"),
        "tokens_by_position": by_position("tokens"),
    }


def _rewards(cell: Cell, orders: Orders) -> list[float]:
    """The evaluator's own score of each slate."""
    rewards: list[float] = []
    start = 0
    for batch in batches(cell.test, 256):
        part = orders[start : start + len(batch.labels)]
        start += len(part)
        padded = np.full((len(part), max(map(len, part))), -1, np.int64)
        for index, order in enumerate(part):
            padded[index, : len(order)] = order
        rewards += cell.evaluator.reward(
            cell.evaluator.encode(batch.inputs), torch.from_numpy(padded)
        ).tolist()
    return rewards
