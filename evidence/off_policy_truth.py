"""Off-policy estimates beside the true value, in the simulator: `python -m evidence.off_policy_truth`.

Twenty policies (three trainings at several temperatures, weights with noise, sorts by the initial score) are
judged by logs of one of them, long and short lists, for as many logs as asked for; nobody but the table knows
the click model. Rows are in docs/results/off_policy.json after every part, the tables and the figure of
docs/off-policy.md at the end. Some ten minutes of one core.
Legend: L lists, N candidates, K positions.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evidence.click_models import CrossFitted
from evidence.data import CONFIGS
from evidence.judging import ENOUGH, SHRUNK, Estimate, Judgement, Value, judged
from evidence.logged_lists import Floats, LoggedLists
from evidence.off_policy_pages import STORED, write_pages
from evidence.results import RESULTS
from evidence.simulated_policies import LENGTHS, Judged, Lists, Network, judged_policies, logging_policies
from model.data.features import DatasetFeatures
from model.data.simulator import World, item_numbers
from model.data.slate import Dataset, LoggedSlate, Split
from model.encoder import FeatureSizes
from model.policy import Policy
from model.progress import console
from model.sizes import feature_sizes
from model.training.calibration import calibrate
from model.training.checkpoint import save_text
from model.training.config import RunConfig, read_config, with_changes
from model.training.examples import Example, examples
from model.training.fit_evaluator import fit_one
from model.training.fit_policy import fit_policy
from model.training.phase import RunLog
from model.training.selection import held_out_score

TRAINED, CHOSEN, KNOWN, AVERAGED, JUDGED = 1500, 300, 10_000, 20_000, 2000
"""Lists to train on, to choose epochs by, to know true values from, to average them over, and of each log."""

RECIPE: dict[str, object] = {
    "policy": {"width": 32},
    "evaluator": {"members": 1, "width": 32, "epochs": 8, "context": False},
    "imitation": {"epochs": 4},
    "expert_iteration": {"rounds": 0},
}
TRAININGS: dict[str, dict[str, object]] = {
    "imitation": {},
    "imitation, few lists": {"seed": 1, "training_lists": 500},
    "warm start": {"seed": 2, "supervised": {"epochs": 3}, "imitation": {"epochs": 0}},
}
SIMPLE, PARTS = {"evaluator": {"members": 1, "width": 32, "epochs": 10}}, 2
"""The click models of the direct method, and of how many parts of the people."""


class Simulated:
    """The world, its people's lists, and the policies trained in it."""

    def __init__(self, logs: int, scale: float) -> None:
        """`scale` makes everything smaller, to try it out."""
        self.trained, self.chosen, self.known, self.averaged, self.judged = (
            int(scale * count) for count in (TRAINED, CHOSEN, KNOWN, AVERAGED, JUDGED)
        )
        ahead = self.trained + self.chosen + self.averaged
        changes = {**RECIPE, "simulator": {"lists": ahead + logs * self.judged}}
        self.config = read_config(CONFIGS / "simulator.toml", changes)
        self.world = World(self.config.simulator)
        self.slates = self.world.log()
        splits: dict[Split, list[LoggedSlate]] = {
            "train": self.slates[: self.trained],
            "validation": self.slates[self.trained : self.trained + self.chosen],
            "test": [],
        }
        items = {
            f"i{n}": {"embedding": self.world.vectors[n].tolist(), "quality": float(self.world.quality[n])}
            for n in range(self.config.simulator.items)
        }
        self.dataset = Dataset("simulator", items, splits, {}, self.world.value_of)
        self.features = DatasetFeatures.fit(self.dataset, self.config.features)

    @property
    def sizes(self) -> FeatureSizes:
        return feature_sizes(self.features.serving)

    def train(self) -> dict[str, Network]:
        split = self.dataset.slates
        train, held_out = (
            examples(split[name], self.features, training=False) for name in ("train", "validation")
        )
        found = {}
        for name, changes in TRAININGS.items():
            config = with_changes(self.config, changes)
            own = train[: config.training_lists]
            torch.manual_seed(config.seed)
            policy = Policy(config.policy, self.sizes)
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder)
                log = RunLog(run)
                evaluator = fit_one(config, "evaluator", run, log, self.sizes, own, held_out)
                score = held_out_score(self.dataset)
                fit_policy(config, run, log, policy, evaluator, own, held_out, score)
                log.close()
            gate = calibrate(policy, held_out, config.policy.reasoner.gate_quantile)
            found[name] = Network(policy, gate.threshold)
        return found

    @cached_property
    def people_known(self) -> tuple[list[LoggedSlate], list[Example]]:
        """Lists that say what a policy is truly worth."""
        start = self.trained + self.chosen
        slates = self.slates[start : start + self.known]
        return slates, examples(slates, self.features, training=False)

    @cached_property
    def initial_clicks(self) -> Floats:
        """Of lists as the initial ranker gave them, which true values are averaged over. `[L, K]`."""
        start = self.trained + self.chosen
        slates, order = self.slates[start : start + self.averaged], np.arange(max(LENGTHS))
        return np.array([self.clicks(slate, order) for slate in slates])

    def true_values(self, policy: Judged, draws: int = 1) -> dict[int, tuple[float, float]]:
        """Of each length, and its standard error: what the policy's lists, so many for each person, are worth
        more than the initial ones, plus what these are worth on many more lists (a control variate)."""
        slates, rows = self.people_known
        clicks = np.zeros((len(rows), max(LENGTHS)))
        for seed in range(1, draws + 1):
            written = zip(slates, policy.write(rows, seed), strict=True)
            clicks += np.array([self.clicks(*pair) for pair in written]) / draws
        found = {}
        for length in LENGTHS:
            initial = self.initial_clicks[:, :length].sum(1)
            gain = clicks[:, :length].sum(1) - initial[: len(clicks)]
            error = np.hypot(gain.std() / len(gain) ** 0.5, initial.std() / len(initial) ** 0.5)
            found[length] = (float(gain.mean() + initial.mean()), float(error))
        return found

    def clicks(self, slate: LoggedSlate, order: NDArray[np.int64]) -> Floats:
        """True click probability at each position. `[K]`."""
        return self.world.clicks(slate.user_id, item_numbers(slate), order.tolist())

    def lists_of(self, log: int) -> tuple[list[LoggedSlate], list[Example]]:
        """The people of a log."""
        start = self.trained + self.chosen + self.averaged + log * self.judged
        slates = self.slates[start : start + self.judged]
        return slates, examples(slates, self.features, training=False)

    def logged(
        self, slates: list[LoggedSlate], rows: list[Example], policy: Judged, log: int
    ) -> tuple[Lists, Floats, Floats]:
        """What a logging policy shows them, with its propensities, and what they click. `[L, K]` each."""
        shown = policy.write(rows, 1000 + log)
        own_greedy = policy.greedy(rows) if policy.share < 1 else shown
        chance = np.array([self.clicks(slate, own) for slate, own in zip(slates, shown, strict=True)])
        clicked = np.random.default_rng(1000 + log).random(chance.shape) < chance
        return shown, policy.chances(rows, shown, own_greedy), clicked.astype(float)


def as_lists(
    slates: list[LoggedSlate], rows: list[Example], shown: Lists, propensity: Floats, clicked: Floats
) -> LoggedLists:
    labels = np.zeros((len(rows), len(rows[0].labels)), np.float32)
    np.put_along_axis(labels, shown, clicked.astype(np.float32), axis=1)
    return LoggedLists(
        [Example(row.inputs, own, order) for row, own, order in zip(rows, labels, shown, strict=True)],
        list(shown),
        propensity,
        np.array([slate.user_id for slate in slates]),
        np.ones(len(rows)),
        np.ones(len(rows)),
    )


class Written:
    """What every policy writes for the people of a log."""

    def __init__(self, world: Simulated, policies: Sequence[Judged], log: int) -> None:
        self.log, self.policies = log, policies
        self.slates, self.rows = world.lists_of(log)
        self.sampled = [policy.sampled(self.rows, 0) for policy in policies]
        self.greedy = [
            policy.greedy(self.rows) if 0 < policy.share < 1 else sampled
            for policy, sampled in zip(policies, self.sampled, strict=True)
        ]


def judge_by(world: Simulated, written: Written, logger: Judged, config: RunConfig) -> list[dict[str, Any]]:
    """Every policy judged by what a logging policy shows them, long lists and short."""
    slates, rows = written.slates, written.rows
    shown, propensity, clicked = world.logged(slates, rows, logger, written.log)
    every = list(zip(written.policies, written.sampled, written.greedy, strict=True))
    chances = [policy.chances(rows, shown, own_greedy) for policy, _, own_greedy in every]
    found = []
    for length in LENGTHS:
        lists = as_lists(slates, rows, shown[:, :length], propensity[:, :length], clicked[:, :length])
        models = CrossFitted.fit(config, world.sizes, lists.examples, lists.people.tolist(), PARTS)
        judgements: dict[str, Judgement] = {}
        for (policy, sampled, own_greedy), new in zip(every, chances, strict=True):
            judgements[policy.name] = judgement = judged(
                lists,
                models,
                new[:, :length],
                [list(sampled[:, :length])] if policy.share else [],
                list(own_greedy[:, :length]),
                np.full(len(rows), policy.share),
            )
            found.append(
                {
                    "log": written.log,
                    "logging": logger.name,
                    "length": length,
                    "policy": policy.name,
                    "lists": len(rows),
                    "logged": judgement.logged.value,
                    "estimates": {name: _stored(one) for name, one in judgement.estimates.items()},
                    "minus": _differences(policy.name, judgements),
                }
            )
    console.print(f"log {written.log}: judged by what was {logger.name}")
    return found


def _stored(estimate: Estimate) -> dict[str, Any]:
    return {
        **_rounded(estimate.value),
        "minus_logged": _rounded(estimate.difference),
        "effective": estimate.overlap and round(estimate.overlap.effective, 1),
    }


def _differences(name: str, judgements: dict[str, Judgement]) -> dict[str, Any]:
    """What the gate asks, of one policy beside each that was judged before it, where the log says enough of
    both."""
    estimates = {other: judgement.estimates[SHRUNK] for other, judgement in judgements.items()}
    own = estimates.pop(name)
    if not _enough(own):
        return {}
    return {other: _rounded(own.minus(one)) for other, one in estimates.items() if _enough(one)}


def _enough(estimate: Estimate) -> bool:
    return estimate.overlap is not None and estimate.overlap.effective > ENOUGH


def _rounded(value: Value) -> dict[str, float]:
    return {name: round(one, 4) for name, one in value._asdict().items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m evidence.off_policy_truth", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--logs", type=int, default=4, help="to judge by, of other people each")
    parser.add_argument("--scale", type=float, default=1.0, help="of all numbers of lists")
    parser.add_argument("--results", type=Path, default=RESULTS / STORED)
    given = parser.parse_args()
    torch.set_num_threads(1)
    world = Simulated(given.logs, given.scale)
    trained = world.train()
    column = world.features.serving.initial_score_column
    assert column is not None
    policies, loggers = judged_policies(trained, column), logging_policies(trained)
    truth = {policy.name: world.true_values(policy) for policy in (*policies, *loggers)}
    given.results.parent.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = {"truth": truth, "rows": []}
    config = with_changes(world.config, SIMPLE)
    for log in range(given.logs):
        written = Written(world, policies, log)
        for logger in loggers:
            kept["rows"] += judge_by(world, written, logger, config)
            save_text(given.results, json.dumps(kept) + "\n")
    if given.results == RESULTS / STORED:
        write_pages()


if __name__ == "__main__":
    main()
