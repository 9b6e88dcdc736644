"""What is run, the deciding fits first.

A training is one policy; it gives a row for each way of decoding it. A fit is what its configuration and its
data say, not what it is called: where it lies follows from a hash of both. Legend: S reasoning budget.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from evidence.data import DATA, SAME_EVALUATORS, Changes, Data
from evidence.references import REFERENCES
from model.baselines import BASELINES
from model.baselines.recipe import RECIPE
from model.training.config import RunConfig, with_changes

SEEDS = range(5)
"""Run i uses seed i: world i of the simulator, user fold i of a log as the test fold."""


@dataclass(frozen=True)
class Training:
    """A policy to train; `control` says what it is a control of, None in the main table."""

    name: str
    policy: Changes
    control: str | None = None
    changes: Changes = field(default_factory=dict)
    decides: bool = False  # decoded with the controls too, where the data set has them

    @property
    def backbone(self) -> str:
        return str(self.policy.get("decoder", "gru"))


PLAIN: Changes = {"reasoner": {"budget": 0}}
PAPER: Changes = {"reasoner": {"kind": "paper"}}
SCORED: Changes = {"features": {"initial_score": True}}
"""Said of logs whose scores come from `model.first_stage`, too."""

GRPO: Changes = {"reinforcement": {"epochs": 1, "learning_rate": 5e-4, "kl": 0.0}}
"""Beyond one epoch the evaluator's score continued to rise, but the true value did not."""

TRAININGS = {
    training.name: training
    for training in (
        Training("EGLR", {}, decides=True),
        Training("without reasoning", PLAIN, decides=True),
        Training("EGLR, paper's token", PAPER),
        Training("EGLR, from the initial score", {"base_score": True}, changes=SCORED),
        Training("without reasoning, from the initial score", {"base_score": True, **PLAIN}, changes=SCORED),
        Training("EGLR, LSTM", {"decoder": "lstm"}),
        Training("without reasoning, LSTM", {"decoder": "lstm", **PLAIN}),
        Training("EGLR, Transformer", {"decoder": "transformer"}),
        Training("without reasoning, Transformer", {"decoder": "transformer", **PLAIN}),
        Training("without reasoning, equal time", PLAIN, "equal training time", {"epochs": 2.0}),
        Training("pause token", {"reasoner": {"kind": "pause"}}, "constant token"),
        Training("one step, always", {"reasoner": {"budget": 1, "taught": "last"}}, "one deep step, always"),
        Training("one temperature", {"reasoner": {"temperature": 0.7}}, "equal temperatures"),
        Training("self-attention, 2 layers", {**PLAIN, "encoder": {"self_attention_layers": 2}}, "deeper"),
        Training(
            "self-attention, 2 layers, twice as long",
            {**PLAIN, "encoder": {"self_attention_layers": 2}},
            "deeper, to convergence",
            {"epochs": 2.0},
        ),
        Training("width 96", {**PLAIN, "width": 96}, "wider"),
        Training("EGLR, self-attention, 1 layer", {"encoder": {"self_attention_layers": 1}}, "deeper, EGLR"),
        Training("EGLR + GRPO", {}, "GRPO", GRPO),
        Training("without reasoning + GRPO", PLAIN, "GRPO", GRPO),
    )
}

DECIDING = ("EGLR", "without reasoning", *SAME_EVALUATORS.values(), *SAME_EVALUATORS)
"""What is trained from several training seeds."""

PHASES = ("supervised", "imitation", "expert_iteration", "reinforcement")
"""Of a policy's training."""

NOT_NEURAL = ("initial order", "initial score alone", "item CTR", *(n for n in BASELINES if "MART" in n))
"""Baselines that the neural recipe says nothing of."""

MODELS = (*TRAININGS, *BASELINES, *SAME_EVALUATORS, *REFERENCES)
"""Everything that gives a list, by name: trainings first, then baselines, then what is possible."""


@dataclass(frozen=True)
class Task:
    """One fit: a training or a baseline, on one data set, in one world or on one fold (`seed`), for the
    `training_seed`-th time."""

    data: str
    model: str
    seed: int
    training_seed: int = 0

    @property
    def config(self) -> RunConfig:
        """Of the run; baselines and references have the data set's own."""
        own = self._data.run_config(self.seed, self.training_seed)
        return configured(TRAININGS[self.model], own) if self.model in TRAININGS else own

    @property
    def cell_config(self) -> RunConfig:
        """Of what is made ready for all models: the data set's own, but for the evaluators and the search
        that a training asks for."""
        own, config = self._data.run_config(self.seed, self.training_seed), self.config
        imitation = own.imitation.model_copy(update={"beams": config.imitation.beams})
        return own.model_copy(update={"evaluator": config.evaluator, "imitation": imitation})

    @property
    def identity(self) -> dict[str, Any]:
        """Everything the fit depends on but the code and its seeds."""
        fitted = (self.model in BASELINES and self.model not in NOT_NEURAL) or self.model in SAME_EVALUATORS
        recipe = RECIPE.model_dump(mode="json") if fitted else None
        return {"run": seedless(self.config), "recipe": recipe, **self._of_data}

    def needs(self, config: RunConfig) -> dict[str, Any]:
        """What of a configuration, as JSON has it, this fit depends on: neither the seeds nor a phase that is
        left out, and only policies are trained in phases. Beams stay: references search with them."""
        values, trained = seedless(config), self.model in TRAININGS
        for phase in PHASES:
            own = values[phase]
            if not (trained and own.get("rounds", own["epochs"])):
                values[phase] = {name: own[name] for name in ("beams",) if name in own}
        return values

    @property
    def directory(self) -> str:
        name = self.model.replace(" ", "-").replace(",", "")
        return f"{self.data}/{self.seed}-{self.training_seed}/{name}-{digest(self.identity)}"

    @property
    def cell_directory(self) -> str:
        identity = {"run": seedless(self.cell_config), **self._of_data}
        return f"{self.data}/{self.seed}-{self.training_seed}/cell-{digest(identity)}"

    @property
    def _data(self) -> Data:
        return DATA[self.data]

    @property
    def _of_data(self) -> dict[str, Any]:
        files = {file.path: file.sha256 for file in self._data.files}
        split = {"by_time": True} if self._data.by_time else {}
        return {"first_stage": self._data.first_stage, "files": files, **split}


def seedless(config: RunConfig) -> dict[str, Any]:
    """The configuration as JSON has it, without the seeds that tell runs of the same fit apart, and
    without what no fit depends on."""
    values = config.model_dump(mode="json")
    del values["seed"], values["simulator"]["seed"], values["largest_dirt_share"]
    return values


def digest(value: dict[str, Any]) -> str:
    """Twelve hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def configured(training: Training, config: RunConfig) -> RunConfig:
    """The configuration with the training's changes; `epochs` there is a factor."""
    changes = dict(training.changes)
    factor = changes.pop("epochs", 1)
    policy = config.policy.model_dump()
    for name, change in training.policy.items():
        policy[name] = {**policy[name], **change} if isinstance(change, dict) else change
    for phase in ("supervised", "imitation", "expert_iteration"):
        epochs = {"epochs": round(getattr(config, phase).epochs * factor)}
        changes[phase] = {**epochs, **changes.get(phase, {})}
    return with_changes(config, {**changes, "policy": policy})


def tasks(names: list[str], seeds: range = SEEDS, training_seeds: int = 1) -> list[Task]:
    """All fits of the data sets, the deciding ones first; only these are trained more than once."""
    return [
        Task(name, model, seed, training_seed)
        for training_seed in range(training_seeds)
        for name in names
        for model in MODELS
        if model not in DATA[name].without
        and model in (DATA[name].only or MODELS)
        and (DATA[name].known or model not in REFERENCES)
        and (training_seed == 0 or model in DECIDING)
        for seed in seeds
    ]
