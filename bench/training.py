"""Training in one process and in two, beside each other: `python -m bench.training`.

Every process has one thread. Each round trains an epoch of every phase and searches once, in one process and
then in two, from the same weights; the table in docs/training.md (`python -m bench.report`) has the quickest
of each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from bench.machine import ROOT, keep
from model.data.features import DatasetFeatures
from model.data.open_dataset import open_dataset
from model.evaluator import Evaluator
from model.policy import Policy
from model.progress import console
from model.sizes import feature_sizes
from model.training import ranks
from model.training.beam import search_teachers
from model.training.config import read_config, with_changes
from model.training.examples import examples
from model.training.expert_iteration import improved_lists
from model.training.fit_evaluator import fit_one
from model.training.fit_policy import imitate, reinforce, warm_start
from model.training.phase import RunLog
from model.training.selection import held_out_score

LISTS = 3000
T = TypeVar("T")
ONE_EPOCH = {
    **{phase: {"epochs": 1} for phase in ("evaluator", "supervised", "imitation", "reinforcement")},
    "expert_iteration": {"rounds": 1, "epochs": 1},
}


class Spent(NamedTuple):
    """On a part, by the first process: seconds of the clock, and of its processor."""

    wall_s: float
    cpu_s: float


def work(run: Path) -> dict[str, Spent]:
    """What each part takes; of phases one epoch, with the validation after it."""
    config = read_config(ROOT / "configs/simulator.toml", {"simulator": {"lists": LISTS}})
    config = with_changes(config, ONE_EPOCH)
    dataset = open_dataset(config)
    features = DatasetFeatures.fit(dataset, config.features)
    train = examples(dataset.slates["train"], features, training=True)
    held_out = examples(dataset.slates["validation"], features, training=False)
    sizes, score, log = feature_sizes(features.serving), held_out_score(dataset), RunLog(run)
    torch.manual_seed(0)
    policy, evaluator = Policy(config.policy, sizes), Evaluator(config.evaluator, sizes).eval()
    learned = (config, run, log, policy)
    spent: dict[str, Spent] = {}

    def timed(part: str, do: Callable[[], T]) -> T:
        wall, cpu = time.perf_counter(), time.process_time()
        found = do()
        spent[part] = Spent(time.perf_counter() - wall, time.process_time() - cpu)
        return found

    timed("evaluator", lambda: fit_one(config, "evaluator", run, log, sizes, train, held_out))
    timed("warm start", lambda: warm_start(*learned, train, held_out, score))
    taught = timed("beam search for teachers", lambda: search_teachers(config, evaluator, train))
    timed("imitation", lambda: imitate(*learned, taught, held_out, score, None))
    looked = config.expert_iteration
    timed("lookahead for expert iteration", lambda: improved_lists(policy, evaluator, train, looked, 0.5))
    timed("GRPO", lambda: reinforce(*learned, evaluator, train, held_out, score, None))
    log.close()
    return spent


def launched(processes: int) -> dict[str, Spent]:
    """The same from a launch of so many processes."""
    with tempfile.TemporaryDirectory() as name:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        subprocess.run(
            [*torchrun, "--nproc-per-node", str(processes), "-m", "--", "bench.training", "--within", name],
            check=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        found = json.loads((Path(name) / "spent.json").read_text())
        return {part: Spent(*of) for part, of in found.items()}


def quickest(rounds: Sequence[Mapping[str, Spent]]) -> dict[str, Spent]:
    """Of each part, by either clock."""
    parts = {part: [one[part] for one in rounds] for part in rounds[0]}
    return {
        part: Spent(*(round(min(clock), 2) for clock in zip(*found, strict=True)))
        for part, found in parts.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="of which the quickest count")
    parser.add_argument("--within", type=Path, help="be one of the processes, which write there")
    arguments = parser.parse_args()
    if arguments.within:
        with ranks.joined(), ranks.directory(arguments.within) as own:
            (own / "spent.json").write_text(json.dumps(work(own)))
        return
    rounds = [{count: launched(int(count)) for count in ("1", "2")} for _ in range(arguments.rounds)]
    found = {count: quickest([one[count] for one in rounds]) for count in ("1", "2")}
    keep("training", {"lists": LISTS, "spent": found}, "torch", command="python -m bench.training")
    console.print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
