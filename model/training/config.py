"""Every choice of a training run, frozen and validated once. An unknown key is an error.

Read from TOML; the run's checkpoint and the bundle carry it. The networks' choices are defined in
`model.config`, those of the data in `model.data.config`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from bundle.features.schema import Frozen
from model.config import EvaluatorNetworkConfig, NonNegative, PolicyConfig, Positive, Rate, Share
from model.data.config import DataConfig
from model.data.toml_file import read_toml, validated


class PhaseConfig(Frozen):
    """One phase of training: AdamW on shuffled batches, the epoch chosen on held-out lists.

    A batch has `batch` lists. Where lists are long, `batch_candidates` bounds its candidates, padding
    included, and with them its memory; lists of similar length then share a batch. Training stops early once
    `patience` epochs have brought nothing.
    """

    epochs: NonNegative
    patience: Positive
    batch: Positive = 128
    batch_candidates: Positive | None = None
    learning_rate: Rate = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2


class EvaluatorConfig(EvaluatorNetworkConfig, PhaseConfig):
    """The reward model and its fit to the log. Beyond `largest_calibration_error` it is refused.

    With several `members`, fitted from different seeds, the reward is the mean of what they say. `context`
    also fits one that is blind to order and neighbours, to say what these are worth. One that starts from an
    earlier run's weights gets `warm_epochs`; with 0 it stays what it was."""

    members: Positive = 1
    context: bool = True
    epochs: Positive = 8
    warm_epochs: NonNegative = 4
    patience: Positive = 3
    largest_calibration_error: Rate = 0.05


class SupervisedConfig(PhaseConfig):
    """Warm start on logged labels; 0 epochs leave it out. `teacher_share` of the positions continue with
    a relevant item, the others with one the policy drew, so that it also learns to go on from its own
    choices."""

    epochs: NonNegative = 10
    patience: Positive = 5
    teacher_share: Annotated[float, Field(ge=0, le=1)] = 0.5


class ImitationConfig(PhaseConfig):
    """Imitation of the lists that a beam search of `beams` finds best under the evaluator; 0 epochs leave
    it out. Worth it where what surrounds an item matters, which labels alone do not teach."""

    epochs: NonNegative = 0
    patience: Positive = 5
    beams: Positive = 4


class ExpertIterationConfig(PhaseConfig):
    """Imitation of the policy's own lists as looking ahead improves them; 0 `rounds` leave it out.

    In each round the `alternatives` most probable candidates of every position are tried, and the policy
    learns the softmax of what the evaluator makes of each, at this `temperature` in units of reward."""

    rounds: NonNegative = 0
    epochs: Positive = 8
    patience: Positive = 5
    alternatives: Annotated[int, Field(ge=2)] = 3
    temperature: Rate = 0.03


class ReinforcementConfig(PhaseConfig):
    """GRPO on the evaluator's reward; 0 epochs leave it out. `group` slates are sampled for each request,
    and each batch of rollouts serves `passes` updates."""

    epochs: NonNegative = 3
    patience: Positive = 3
    learning_rate: Rate = 5e-5
    group: Annotated[int, Field(ge=2)] = 8
    passes: Positive = 2
    clip: Rate = 0.2
    kl: Annotated[float, Field(ge=0)] = 0.05


class RunConfig(DataConfig):
    """A training run from data to checkpoint; what is said of the data stands beside the rest.

    `training_lists` uses only the first so many of the training split, and `policy_lists` lets the policy
    learn from the last so many of these alone; `weight_averaging` is the decay of the moving average of
    weights that is kept. `selection` is what weights of the policy are chosen by on held-out lists: `labels`
    (the true value where it is known), or what the `evaluator` makes of the policy's lists, for a log whose
    labels praise what an earlier policy has shown.
    """

    name: str = "eglr"
    seed: int = 0
    training_lists: Positive | None = None
    policy_lists: Positive | None = None
    selection: Literal["labels", "evaluator"] = "labels"
    weight_averaging: Share = 0.99
    policy: PolicyConfig = PolicyConfig()
    evaluator: EvaluatorConfig = EvaluatorConfig()
    supervised: SupervisedConfig = SupervisedConfig()
    imitation: ImitationConfig = ImitationConfig()
    expert_iteration: ExpertIterationConfig = ExpertIterationConfig()
    reinforcement: ReinforcementConfig = ReinforcementConfig()

    @model_validator(mode="after")
    def _trains(self) -> Self:
        if not (self.supervised.epochs or self.learns_from_evaluator):
            raise ValueError("nothing to train: every phase of the policy has epochs or rounds = 0")
        if self.policy.base_score and not self.features.initial_score:
            raise ValueError("policy.base_score needs the initial score: set features.initial_score")
        return self

    @property
    def learns_from_evaluator(self) -> tuple[str, ...]:
        """The phases in which the policy follows the evaluator, so that it must be one to trust."""
        lengths = {
            "imitation": self.imitation.epochs,
            "expert_iteration": self.expert_iteration.rounds,
            "reinforcement": self.reinforcement.epochs,
        }
        return tuple(phase for phase, length in lengths.items() if length)

    def without_evaluator(self) -> "RunConfig":
        """The same but for the phases that follow the evaluator.

        Raises:
            pydantic.ValidationError: no other is left.
        """
        none = {"imitation": {"epochs": 0}, "expert_iteration": {"rounds": 0}, "reinforcement": {"epochs": 0}}
        return with_changes(self, none)


def read_config(path: Path, changes: Mapping[str, object] | None = None) -> RunConfig:
    """Read a TOML file, with some of its values replaced as in `with_changes`.

    Raises:
        ConfigError: no such file, no TOML, a key is unknown or a value out of range; the message names it.
    """
    return validated(RunConfig, _merged(read_toml(path), changes or {}), path)


def with_changes(config: RunConfig, changes: Mapping[str, object]) -> RunConfig:
    """The configuration with some values replaced, validated again; tables are merged key by key."""
    return RunConfig.model_validate(_merged(config.model_dump(), changes))


def _merged(values: dict[str, Any], changes: Mapping[str, object]) -> dict[str, Any]:
    merged = {
        name: {**own, **change} if isinstance(change, dict) and isinstance(own, dict) else change
        for name, change in changes.items()
        for own in [values.get(name, {})]
    }
    return {**values, **merged}
