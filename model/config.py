"""Every choice of the networks: encoder, reasoner, policy, evaluator. Frozen and validated once.

`model.training.config` has the choices of a run, these among them. Legend: D width.
"""

from typing import Annotated, Literal

from pydantic import Field

from bundle.features.schema import Frozen
from bundle.manifest import GateKind

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
    choice when sampling.

    With `base_score` a candidate's logit begins as its initial score, and nothing is added to it yet: before
    any training the greedy list is the initial ranker's own.
    """

    width: Positive = 64
    decoder: str = "gru"
    base_score: bool = False
    slate_length: Positive = 10
    selection_temperature: Rate = 0.7
    encoder: EncoderConfig = EncoderConfig()
    reasoner: ReasonerConfig = ReasonerConfig()


class EvaluatorNetworkConfig(Frozen):
    """The evaluator: its width, the longest list it reads, and what a list's clicks are worth."""

    width: Positive = 64
    dropout: Share = 0.1
    longest: Positive = 64
    reward: Literal["dcg", "clicks"] = "dcg"
