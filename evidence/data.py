"""The data sets of the evidence, the deciding ones first."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from model.data import kuairand, movietweetings, ranklens
from model.data.folds import FOLDS, by_time, rotated
from model.data.location import PublicFile
from model.data.slate import Dataset
from model.training.config import RunConfig, read_config, with_changes

CONFIGS = Path(__file__).parents[1] / "configs"
SIMULATOR = "simulator"
WITH_GRPO = ("EGLR + GRPO", "without reasoning + GRPO")  # part of these data sets' own configurations
FROM_SCORE = ("EGLR, from the initial score", "without reasoning, from the initial score")
NOT_SIMULATED = ("item CTR", *FROM_SCORE)
"""Not in the simulator: clicks of items were not counted, and its initial score is no trained ranker's."""
OF_THE_SCORE = ("initial score alone", "LambdaMART without the initial score", *FROM_SCORE)
"""Need a score that came with each list."""

SAME_EVALUATORS = {"CMR-style, same evaluators": "CMR-style", "EG-Rerank, same evaluators": "EG-Rerank"}
"""Baselines that learn from an evaluator have one by default; these have all that the policies have."""

ONE = "one-evaluator"
TRAINING_SEEDS_APART = 100
Changes = dict[str, Any]


@dataclass(frozen=True)
class Data:
    """A data set of the evidence; `metric` is what its comparisons are made in, `without` names the
    models it cannot have, `only` those it is for if not for all, `known` says that true values are known,
    `controls` that its deciding policies are also decoded with the controls of evidence.controls."""

    name: str
    config: str
    metric: str
    without: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    changes: Changes = field(default_factory=dict)
    known: bool = False
    controls: bool = False
    first_stage: bool = False  # gives every model an out-of-fold LambdaMART score, as in production
    files: tuple[PublicFile, ...] = ()
    by_time: bool = False  # tested on later lists of the same people, not on other people

    def split(self, dataset: Dataset, seed: int) -> Dataset:
        """Run `seed`'s lists to train on, to choose by and to test on."""
        return (by_time if self.by_time else rotated)(dataset, seed % FOLDS)

    def run_config(self, seed: int, training_seed: int = 0) -> RunConfig:
        """World or fold `seed`, trained for the `training_seed`-th time."""
        changes = {"seed": seed + TRAINING_SEEDS_APART * training_seed, **self.changes}
        if self.config == SIMULATOR:
            changes["simulator"] = {"seed": seed, **self.changes.get("simulator", {})}
        return with_changes(read_config(CONFIGS / f"{self.config}.toml"), changes)


def _world(name: str, controls: bool = False, **changes: object) -> Data:
    own: Changes = {"simulator": changes}
    return Data(name, SIMULATOR, "true_value", NOT_SIMULATED, changes=own, known=True, controls=controls)


def _imitating_one(data: Data) -> Data:
    """The same world with one evaluator and no expert iteration, which most ablations were run with."""
    recipe = {"evaluator": {"members": 1}, "expert_iteration": {"rounds": 0}}
    without = (*data.without, *SAME_EVALUATORS)
    return replace(data, name=f"{data.name}-{ONE}", without=without, changes={**data.changes, **recipe})


WORLDS = (
    _world("simulator", controls=True),
    _world("simulator-n100", controls=True, candidates=100),
    _world("simulator-twice", strength=2.0),
    _world("simulator-none", strength=0.0),
)

GAIN_ALONE = ("EGLR", "without reasoning")
BESIDE_FIRST_STAGE = (*GAIN_ALONE, *FROM_SCORE, "LambdaMART", "initial score alone")
WEAKER = (
    replace(_world("simulator-quarter", strength=0.25), only=GAIN_ALONE),
    replace(_world("simulator-half", strength=0.5), only=GAIN_ALONE),
)
STRENGTHS = ("simulator-none", "simulator-quarter", "simulator-half", "simulator", "simulator-twice")
"""Worlds of 20 candidates with stronger and stronger effects between them. Gains are compared with one
evaluator, which is what all of them were run with."""

DATA = {
    data.name: data
    for data in (
        *WORLDS,
        Data(
            "ranklens",
            "ranklens",
            "ndcg@10",
            (*WITH_GRPO, *SAME_EVALUATORS),
            controls=True,
            first_stage=True,
            files=(ranklens.EVENTS,),
        ),
        Data(
            "movietweetings",
            "movietweetings",
            "ndcg@10",
            ("item CTR", *WITH_GRPO, *SAME_EVALUATORS),  # ratings, no rates
            files=(movietweetings.RATINGS, movietweetings.MOVIES),
        ),
        Data(
            "movietweetings-by-time",
            "movietweetings",
            "ndcg@10",
            ("item CTR", *WITH_GRPO, *SAME_EVALUATORS),
            files=(movietweetings.RATINGS, movietweetings.MOVIES),
            by_time=True,
        ),
        Data(
            "movietweetings-scored",
            "movietweetings",
            "ndcg@10",
            only=BESIDE_FIRST_STAGE,
            first_stage=True,
            files=(movietweetings.RATINGS, movietweetings.MOVIES),
        ),
        Data(
            "kuairand",
            "kuairand",
            "ndcg@10",
            (*OF_THE_SCORE, *SAME_EVALUATORS),
            controls=True,
            files=kuairand.FILES,
        ),
        Data(
            "kuairand-scored",
            "kuairand",
            "ndcg@10",
            only=BESIDE_FIRST_STAGE,
            first_stage=True,
            files=kuairand.FILES,
        ),
        *(_imitating_one(data) for data in (*WORLDS, *WEAKER)),
    )
}
