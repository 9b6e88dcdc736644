"""Every choice of a training run, frozen and validated once. An unknown key is an error.

Read from TOML; the run's checkpoint and the bundle carry it. Legend: D width.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from model.datasets.simulator import SimulatorConfig
from model.features.schema import FeatureSchema, Frozen
from model.manifest import GateKind

Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class EncoderConfig(Frozen):
    """`self_attention_layers = 0` is the light encoder: candidates see each other as a pooled mean.

    With layers, `attention` is `full`, of every candidate to every other in so many `heads`, or `inducing`,
    through so many `inducing_points`, for long lists: its cost grows with N, not with N x N.
    """

    token_width: Positive = 16
    self_attention_layers: NonNegative = 0
    attention: Literal["full", "inducing"] = "full"
    inducing_points: Positive = 32
    heads: Positive = 2
    dropout: Share = 0.2


class ReasonerConfig(Frozen):
    """`deep` branches from the decoder state; `paper` feeds the token through the decoder's own cell.

    `pause` is a control: it branches, but sees nothing of the candidates.

    `budget` is the most reasoning tokens per position (S_max), `gate` what is compared with the threshold,
    `taught` whether the loss is taken after every number of tokens or only after all of them (a control),
    `gate_quantile` the quantile of held-out uncertainties at which the threshold is set.
    """

    kind: Literal["deep", "paper", "pause"] = "deep"
    budget: NonNegative = 2
    taught: Literal["every", "last"] = "every"
    gate: GateKind = "normalised"
    gate_quantile: Share = 0.6
    temperature: Rate = 1.5
    initial_step: Rate = 0.1


class PolicyConfig(Frozen):
    """The generator. `decoder` is a name in `model.policy.DECODERS`; `selection_temperature` sharpens the
    choice when sampling."""

    width: Positive = 64
    decoder: str = "gru"
    slate_length: Positive = 10
    selection_temperature: Rate = 0.7
    encoder: EncoderConfig = EncoderConfig()
    reasoner: ReasonerConfig = ReasonerConfig()


class PhaseConfig(Frozen):
    """One phase of training: AdamW on shuffled batches, the epoch chosen on held-out lists.

    A batch has `batch` lists. Where lists are long, `batch_candidates` bounds its candidates, padding
    included, and with them its memory; lists of like length then share a batch. Training stops early once
    `patience` epochs have brought nothing.
    """

    epochs: NonNegative
    patience: Positive
    batch: Positive = 128
    batch_candidates: Positive | None = None
    learning_rate: Rate = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2


class EvaluatorConfig(PhaseConfig):
    """The reward model and its fit to the log. Beyond `largest_calibration_error` it is refused."""

    epochs: Positive = 8
    patience: Positive = 3
    width: Positive = 64
    dropout: Share = 0.1
    longest: Positive = 64
    reward: Literal["dcg", "clicks"] = "dcg"
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


class RunConfig(Frozen):
    """A training run from data to checkpoint. `event_log` is the file of dataset `event_log`, `directory`
    where `kuairand` or `taobao_ad` was unpacked. `training_lists` uses only the first so many of the
    training split; `weight_averaging` is the decay of the moving average of weights that is kept."""

    dataset: Literal["ranklens", "movietweetings", "simulator", "kuairand", "taobao_ad", "event_log"]
    event_log: Path | None = None
    directory: Path | None = None
    simulator: SimulatorConfig = SimulatorConfig()
    name: str = "eglr"
    seed: int = 0
    training_lists: Positive | None = None
    weight_averaging: Share = 0.99
    features: FeatureSchema
    policy: PolicyConfig = PolicyConfig()
    evaluator: EvaluatorConfig = EvaluatorConfig()
    supervised: SupervisedConfig = SupervisedConfig()
    imitation: ImitationConfig = ImitationConfig()
    reinforcement: ReinforcementConfig = ReinforcementConfig()

    @model_validator(mode="after")
    def _trains(self) -> Self:
        if not (self.supervised.epochs or self.imitation.epochs or self.reinforcement.epochs):
            raise ValueError("supervised, imitation and reinforcement all have epochs = 0: nothing to train")
        return self


def read_config(path: Path) -> RunConfig:
    """Read a TOML file.

    Raises:
        pydantic.ValidationError: a key is unknown or a value out of range; the message names it.
    """
    return RunConfig.model_validate(tomllib.loads(path.read_text()))
