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
from torch import Tensor, nn

from bench.machine import ROOT, keep
from model.data.features import DatasetFeatures
from model.data.open_dataset import open_dataset
from model.evaluator import Evaluator
from model.policy import Policy
from model.progress import console
from model.sizes import feature_sizes
from model.training import devices, ranks
from model.training.beam import search_teachers
from model.training.config import read_config, with_changes
from model.training.examples import Example, examples
from model.training.expert_iteration import improved_lists
from model.training.fit_evaluator import fit_one
from model.training.fit_policy import imitate, reinforce, warm_start
from model.training.phase import RunLog
from model.training.selection import held_out_score

LISTS = 3000
WORKED = "worked.pt"
T = TypeVar("T")
ONE_EPOCH = {
    **{phase: {"epochs": 1} for phase in ("evaluator", "supervised", "imitation", "reinforcement")},
    "expert_iteration": {"rounds": 1, "epochs": 1},
}


class Spent(NamedTuple):
    """On a part, by the first process: seconds of the clock, and of its processor."""

    wall_s: float
    cpu_s: float


class Worked(NamedTuple):
    """What each part took, the weights that a phase came to, and the lists that a search came to."""

    spent: dict[str, Spent]
    weights: dict[str, dict[str, Tensor]]
    lists: dict[str, list[list[int]]]


def work(run: Path, lists: int) -> Worked:
    """Every part, on a log of so many lists; of phases one epoch, with the validation after it."""
    config = read_config(ROOT / "configs/simulator.toml", {"simulator": {"lists": lists}})
    config = with_changes(config, ONE_EPOCH)
    dataset = open_dataset(config)
    features = DatasetFeatures.fit(dataset, config.features)
    train = examples(dataset.slates["train"], features, training=True)
    held_out = examples(dataset.slates["validation"], features, training=False)
    sizes, score, log = feature_sizes(features.serving), held_out_score(dataset), RunLog(run)
    torch.manual_seed(0)
    networks = Policy(config.policy, sizes), Evaluator(config.evaluator, sizes).eval()
    policy, evaluator = (network.to(devices.device()) for network in networks)
    learned = (config, run, log, policy)
    worked = Worked({}, {}, {})

    def timed(part: str, do: Callable[[], T]) -> T:
        wall, cpu = time.perf_counter(), time.process_time()
        found = do()
        worked.spent[part] = Spent(time.perf_counter() - wall, time.process_time() - cpu)
        return found

    def trained(part: str, network: nn.Module) -> None:
        worked.weights[part] = {name: of.cpu().clone() for name, of in network.state_dict().items()}

    def searched(part: str, do: Callable[[], list[Example]]) -> list[Example]:
        found = timed(part, do)
        worked.lists[part] = [example.shown.tolist() for example in found]
        return found

    fitted = timed("evaluator", lambda: fit_one(config, "evaluator", run, log, sizes, train, held_out))
    trained("evaluator", fitted)
    timed("warm start", lambda: warm_start(*learned, train, held_out, score))
    trained("warm start", policy)
    taught = searched("beam search for teachers", lambda: search_teachers(config, evaluator, train))
    timed("imitation", lambda: imitate(*learned, taught, held_out, score, None))
    trained("imitation", policy)
    looked = config.expert_iteration
    searched("lookahead for expert iteration", lambda: improved_lists(policy, evaluator, train, looked, 0.5))
    timed("GRPO", lambda: reinforce(*learned, evaluator, train, held_out, score, None))
    trained("GRPO", policy)
    log.close()
    return worked


def launched(processes: int, device: str = "cpu", lists: int = LISTS) -> Worked:
    """The same from a launch of so many processes.

    Raises:
        RuntimeError: it failed; with the last that it said.
    """
    with tempfile.TemporaryDirectory() as name:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        within = ["bench.training", "--within", name, "--device", device, "--lists", str(lists)]
        done = subprocess.run(
            [*torchrun, "--nproc-per-node", str(processes), "-m", "--", *within],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip()[:2000])
        spent, *more = torch.load(Path(name) / WORKED, weights_only=True)
        return Worked({part: Spent(*of) for part, of in spent.items()}, *more)


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
    parser.add_argument("--device", choices=devices.ASKED, default="cpu", help="of such a process")
    parser.add_argument("--lists", type=int, default=LISTS, help="of the log of such a process")
    arguments = parser.parse_args()
    if arguments.within:
        with ranks.joined(asked=arguments.device), ranks.directory(arguments.within) as own:
            spent, *more = work(own, arguments.lists)
            torch.save(({part: tuple(of) for part, of in spent.items()}, *more), own / WORKED)
        return
    rounds = [{count: launched(int(count)).spent for count in ("1", "2")} for _ in range(arguments.rounds)]
    found = {count: quickest([one[count] for one in rounds]) for count in ("1", "2")}
    keep("training", {"lists": LISTS, "spent": found}, "torch", command="python -m bench.training")
    console.print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
