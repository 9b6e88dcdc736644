"""Training in one process and in two, beside each other: `python -m bench.training`.

Every process has one thread. Each round trains an epoch of every phase and searches once, in one process and
then in two, from the same weights; the table in docs/training.md (`python -m bench.report`) has the quickest
of each.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
ONE_EPOCH = {
    **{phase: {"epochs": 1} for phase in ("evaluator", "supervised", "imitation", "reinforcement")},
    "expert_iteration": {"rounds": 1, "epochs": 1},
}


def work(run: Path) -> dict[str, float]:
    """Seconds of each part."""
    config = read_config(ROOT / "configs/simulator.toml", {"simulator": {"lists": LISTS}})
    config = with_changes(config, ONE_EPOCH)
    dataset = open_dataset(config)
    features = DatasetFeatures.fit(dataset, config.features)
    train = examples(dataset.slates["train"], features, training=True)
    held_out = examples(dataset.slates["validation"], features, training=False)
    sizes, score, log = feature_sizes(features.serving), held_out_score(dataset), RunLog(run)
    torch.manual_seed(0)
    policy, evaluator = Policy(config.policy, sizes), Evaluator(config.evaluator, sizes).eval()
    learned, seconds = (config, run, log, policy), {}

    fit_one(config, "evaluator", run, log, sizes, train, held_out)
    warm_start(*learned, train, held_out, score)
    started = time.perf_counter()
    taught = search_teachers(config, evaluator, train)
    seconds["beam search for teachers"] = time.perf_counter() - started
    imitate(*learned, taught, held_out, score, None)
    started = time.perf_counter()
    improved_lists(policy, evaluator, train, config.expert_iteration, 0.5)
    seconds["lookahead for expert iteration"] = time.perf_counter() - started
    reinforce(*learned, evaluator, train, held_out, score, None)
    log.close()
    for phase, _, metric, value in csv.reader((run / "metrics.csv").read_text().splitlines()):
        if metric == "seconds":
            seconds[f"{phase.replace('_', ' ')}, an epoch"] = float(value)
    return seconds


def launched(processes: int) -> dict[str, float]:
    """The same from a launch of so many processes."""
    with tempfile.TemporaryDirectory() as name:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        subprocess.run(
            [*torchrun, "--nproc-per-node", str(processes), "-m", "--", "bench.training", "--within", name],
            check=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return dict(json.loads((Path(name) / "seconds.json").read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="of which the quickest count")
    parser.add_argument("--within", type=Path, help="be one of the processes, which write there")
    arguments = parser.parse_args()
    if arguments.within:
        with ranks.joined(), ranks.directory(arguments.within) as own:
            (own / "seconds.json").write_text(json.dumps(work(own)))
        return
    rounds = [{count: launched(int(count)) for count in ("1", "2")} for _ in range(arguments.rounds)]
    found = {
        count: {name: round(min(one[count][name] for one in rounds), 2) for name in rounds[0][count]}
        for count in ("1", "2")
    }
    keep("training", {"lists": LISTS, "seconds": found}, "torch", command="python -m bench.training")
    console.print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
