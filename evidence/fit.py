"""One fit and the rows it gives: train, decode every way, measure on the test fold.

`python -m evidence.fit DATA MODEL SEED` does one, in one thread. A killed one goes on where it stopped.
Legend: B lists, N candidates, K positions.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from evidence.cell import Cell, open_cell
from evidence.controls import Decoded, decodings
from evidence.data import DATA, SAME_EVALUATORS
from evidence.grid import MODELS, TRAININGS, Task, digest
from evidence.references import REFERENCES
from export.provenance import commit
from model.baselines import BASELINES
from model.baselines.task import Task as BaselineTask
from model.evaluator import ClickModel
from model.metrics import diversity, ndcg, summary
from model.policy import Policy
from model.training.checkpoint import save_tensors, save_text
from model.training.examples import Example
from model.training.fit_policy import fit_policy
from model.training.phase import RunLog
from model.training.selection import rewards

Orders = list[NDArray[np.int64]]
ROWS, VALUES, SLATES, IDENTITY = "rows.json", "values.npz", "slates.json", "identity.json"
PEOPLE = "people"
STAGES = {
    "imitation": "imitation alone",
    "expert_iteration_1": "one round of expert iteration",
    "expert_iteration_2": "two rounds of expert iteration",
}
"""What a policy is called in tables that had the best weights of a phase but the last."""


def fit(task: Task, root: Path) -> None:
    """Fit and measure. Leaves the rows, their per-list values and the slates in the task's directory; the
    rows come last, and say that the task is finished."""
    cell = open_cell(task, root)
    directory = root / task.directory
    directory.mkdir(parents=True, exist_ok=True)
    started = time.process_time()
    rows: list[dict[str, Any]] = []
    orders: dict[str, Orders] = {}
    values: dict[str, NDArray[np.float32]] = {}
    common = {
        "dataset": task.data,
        "model": task.model,
        "seed": task.seed,
        "training_seed": task.training_seed,
        "configuration": digest(task.identity),
        "commit": commit(),
        "cell_commit": cell.commit,
    }
    if task.model in TRAININGS:
        training = TRAININGS[task.model]
        policy = train(task, cell, directory)
        seconds = time.process_time() - started
        found = all_decodings(task, policy, cell, directory)
        for control, decoded in found:
            name = control or training.control
            row = {"backbone": training.backbone, "reasoning": decoded[1] > 0, "s_max": decoded[1]}
            orders[name or ""] = slates(decoded)
            measured, values[name or ""] = measure(cell, orders[name or ""])
            rows.append({**common, **row, "control": name, **measured, **reasoning(decoded)})
    else:
        orders[""] = untrained(task.model, cell, directory)
        seconds = time.process_time() - started
        measured, values[""] = measure(cell, orders[""])
        row = {"backbone": None, "reasoning": False, "s_max": 0, "control": None, "tokens_per_list": 0.0}
        rows.append({**common, **row, **measured})
    rows = [{**row, "cpu_s": round(seconds, 1)} for row in rows]
    np.savez_compressed(directory / VALUES, allow_pickle=False, **values, **{PEOPLE: people(cell)})
    save_text(
        directory / SLATES,
        json.dumps({name: [order.tolist() for order in found] for name, found in orders.items()}),
    )
    save_text(directory / IDENTITY, json.dumps(task.identity, indent=1))
    for state in directory.glob("*.state.pt"):
        state.unlink()
    save_text(directory / ROWS, json.dumps(rows, indent=1))


def train(task: Task, cell: Cell, directory: Path) -> Policy:
    """The policy of a training, from the cell's lists, evaluator and teachers."""
    config = task.config
    log = RunLog(directory)
    torch.manual_seed(config.seed)
    policy = Policy(config.policy, cell.sizes)
    fit_policy(
        config, directory, log, policy, cell.evaluator, cell.train, cell.held_out, cell.score, cell.taught
    )
    log.close()
    save_text(directory / "config.json", config.model_dump_json(indent=1))
    save_tensors(directory / "policy.pt", policy.state_dict())
    return policy.eval()


def all_decodings(
    task: Task, policy: Policy, cell: Cell, directory: Path
) -> Iterator[tuple[str | None, Decoded]]:
    """The policy's own gate first; for what decides the controls, and the policy as it was after each phase
    but the last."""
    found = decodings(policy, cell)
    yield next(found)
    if not TRAININGS[task.model].decides:
        return
    if cell.data.controls and task.training_seed == 0:
        yield from found
    for phase, name in list(STAGES.items())[: task.config.expert_iteration.rounds]:
        earlier = Policy(policy.config, cell.sizes)
        state = torch.load(directory / f"{phase}.state.pt", weights_only=True)
        earlier.load_state_dict(state["best"])
        yield name, next(decodings(earlier.eval(), cell))[1]


def untrained(model: str, cell: Cell, directory: Path) -> Orders:
    """The slates of a baseline or a reference."""
    evaluator = cell.evaluator if model in SAME_EVALUATORS else cell.one_evaluator
    found: Sequence[ArrayLike] = (
        REFERENCES[model](cell)
        if model in REFERENCES
        else BASELINES[SAME_EVALUATORS.get(model, model)](baseline_task(cell, directory, evaluator))
    )
    return [np.asarray(order, np.int64)[: cell.config.policy.slate_length] for order in found]


def baseline_task(cell: Cell, directory: Path, evaluator: ClickModel) -> BaselineTask:
    return BaselineTask(
        train=cell.train,
        held_out=cell.held_out,
        test=cell.test,
        columns=cell.features.candidate_columns,
        sizes=cell.sizes,
        slate_length=cell.config.policy.slate_length,
        seed=cell.config.seed,
        score=cell.score,
        evaluator=evaluator,
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
    metrics["evaluator_score"] = float(rewards(cell.evaluator, rows, orders).mean())
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


def people(cell: Cell) -> NDArray[np.int32]:
    """Whose each test list is, numbered. `[B]`."""
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(slate.user_id, len(numbers)) for slate in cell.dataset.slates["test"]]
    return np.array(found, np.int32)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evidence.fit", description=__doc__.split("\n\n")[0])
    parser.add_argument("data", choices=tuple(DATA))
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("seed", type=int)
    parser.add_argument("--training-seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = Task(arguments.data, arguments.model, arguments.seed, arguments.training_seed)
    fit(task, arguments.runs)


if __name__ == "__main__":
    main()
