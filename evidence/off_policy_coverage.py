"""How often the gate's intervals hold the truth, by many logs: `python -m evidence.off_policy_coverage`.

`evidence.off_policy_truth` judges many policies by few logs, whose cases go together: all policies of a log
have its people and their luck. Here policies near the logging one, such as a new version is near the live
one, are judged by as many logs as asked for, each of people of its own. Rows are in
docs/results/off_policy_coverage.json after every log, the table of docs/off-policy.md at the end. Some ten
minutes of one core.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from evidence.judging import SHRUNK
from evidence.off_policy_pages import COVERAGE, write_pages
from evidence.off_policy_truth import SIMPLE, Simulated, Written, judge_by
from evidence.results import RESULTS
from evidence.simulated_policies import Judged, Network
from model.training.checkpoint import save_text
from model.training.config import with_changes

LOGS, DRAWS = 40, 4
"""Logs, and lists of every person that true values are the mean of."""


def near(best: Network) -> list[Judged]:
    """The logging policy, and others such as it is replaced by: warmer, colder, of weights that moved on."""
    return [
        *(Judged(f"imitation at {temperature:g}", best, temperature) for temperature in (1.0, 0.7, 1.4)),
        Judged("imitation, noise 0.3 at 1", best.noisy(0.3)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evidence.off_policy_coverage", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--logs", type=int, default=LOGS, help="to judge by, of other people each")
    parser.add_argument("--scale", type=float, default=1.0, help="of all numbers of lists")
    parser.add_argument("--results", type=Path, default=RESULTS / COVERAGE)
    given = parser.parse_args()
    torch.set_num_threads(1)
    world = Simulated(given.logs, given.scale)
    world.known = world.averaged  # differences are small, and have to be known well
    policies = near(world.train()["imitation"])
    logger, config = policies[0], with_changes(world.config, SIMPLE)
    kept: dict[str, Any] = {
        "truth": {policy.name: world.true_values(policy, DRAWS) for policy in policies},
        "rows": [],
    }
    for log in range(given.logs):
        for row in judge_by(world, Written(world, policies, log), logger, config):
            kept["rows"].append({**row, "estimates": {SHRUNK: row["estimates"][SHRUNK]}})
        save_text(given.results, json.dumps(kept) + "\n")
    if given.results == RESULTS / COVERAGE:
        write_pages()


if __name__ == "__main__":
    main()
