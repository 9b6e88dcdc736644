"""The step contract: every tensor that crosses from the exported graphs to whoever runs them.

Stated once, read by the exporter, the parity check and the serving engine. Standard library only.
It deliberately does not know what any tensor is computed from.

Legend: B requests, N candidates, H history events, D width, R blocks of E columns of reasoning memory,
P noise positions (1 when decoding greedily, else at least the longest slate), M micro-steps taken,
L places of a list that the evaluator judges.
A *micro-step* emits, for each request, either one reasoning token (no item) or one item token.
"""

from collections import namedtuple
from collections.abc import Sequence
from typing import Any, NamedTuple

CONTRACT_VERSION = 1
OPSET = 20

NO_ITEM = -1
"""Value of `chosen` in a micro-step that emitted no item (a reasoning token, or a finished slate)."""

MASKED_LOGIT = -1e9
"""Logit of a candidate that cannot be selected. Finite, so that p * log(p) is 0 and never NaN."""

UNLIMITED_MICRO_STEPS = 1_000_000
"""A `micro_step_budget` no slate can reach: only the gate and the reasoning budget decide."""

# Values of `history_feedback`; also the row of the feedback embedding.
FEEDBACK_PADDING, FEEDBACK_IMPRESSION, FEEDBACK_POSITIVE = 0, 1, 2


class TensorSpec(NamedTuple):
    """One named tensor. `axes` holds symbolic names, or integers for fixed sizes."""

    name: str
    dtype: str
    axes: tuple[str | int, ...]


ENCODER_INPUTS = (
    TensorSpec("candidate_numeric", "float32", ("B", "N", "numeric")),
    TensorSpec("candidate_tokens", "int32", ("B", "N", "slots")),
    TensorSpec("candidate_mask", "bool", ("B", "N")),  # True = a real candidate
    TensorSpec("user_numeric", "float32", ("B", "user_numeric")),
    TensorSpec("user_tokens", "int32", ("B", "user_slots")),
    TensorSpec("history_numeric", "float32", ("B", "H", "item_numeric")),
    TensorSpec("history_tokens", "int32", ("B", "H", "slots")),
    TensorSpec("history_feedback", "int32", ("B", "H")),
)

MEMORY = (
    TensorSpec("memory", "float32", ("B", "N", "D")),
    TensorSpec("user", "float32", ("B", "D")),
    TensorSpec("pointer_keys", "float32", ("B", "N", "D")),
    TensorSpec("pointer_bias", "float32", ("B", "N")),
    TensorSpec("reasoning_memory", "float32", ("B", "R", "N", "E")),
)
"""What the encoder writes once a request and every micro-step reads."""

SELECTABLE = TensorSpec("selectable", "bool", ("B", "N"))  # True = may still be chosen

COUNTERS = (
    SELECTABLE,
    TensorSpec("position", "int64", ("B",)),  # items emitted so far
    TensorSpec("tokens_here", "int64", ("B",)),  # reasoning tokens spent at this position
    TensorSpec("micro_steps", "int64", ("B",)),  # micro-steps taken by this request
)
"""State that every decoder has. `selectable` begins as the candidate mask, the others as zeros."""

NOISE = TensorSpec("noise", "float32", ("B", "P", "N"))  # Gumbel noise to sample, zeros to be greedy

CONTROLS = (
    TensorSpec("slate_length", "int64", ("B",)),  # at most the number of real candidates
    TensorSpec("entropy_threshold", "float32", ("B",)),  # in the unit of the model's gate
    TensorSpec("reasoning_budget", "int64", ("B",)),  # most reasoning tokens per position
    TensorSpec("micro_step_budget", "int64", ("B",)),  # reason only while the slate still fits in it
    TensorSpec("reasoning_temperature", "float32", ("B",)),
    TensorSpec("selection_temperature", "float32", ("B",)),
    NOISE,
)

RECORD = (
    TensorSpec("chosen", "int64", ("B",)),  # candidate index, or NO_ITEM
    TensorSpec("reasoned", "bool", ("B",)),  # True = this micro-step was a reasoning token
    TensorSpec("entropy", "float32", ("B",)),  # nats, over the remaining candidates, temperature 1
    TensorSpec("uncertainty", "float32", ("B",)),  # what the gate compares with the threshold
    TensorSpec("probability", "float32", ("B",)),  # of the best or sampled candidate, temperature 1
    TensorSpec("propensity", "float32", ("B",)),  # of the same, at the selection temperature
    TensorSpec("greedy", "bool", ("B",)),  # True = it is the best without noise at that temperature
)
"""What one micro-step reports. The slate graph stacks these over micro-steps: [M, B]. Graphs of
older bundles lack the last."""

LOGITS = TensorSpec("logits", "float32", ("B", "N"))
"""Scores behind the record, unmasked. Only the step graph gives them, to be inspected."""


EVALUATED = TensorSpec("evaluated", "float32", ("B", "N", "J"))
"""What the evaluator makes of a request's candidates, J columns each. Its encoder takes `ENCODER_INPUTS`."""

SLATES = TensorSpec("slates", "int64", ("B", "L"))  # candidate indices in order, NO_ITEM past the end
VALUE = TensorSpec("value", "float32", ("B",))
"""What a whole list is worth to the evaluator, out of `EVALUATED` and `SLATES`: the click of each place at
what a click there is worth, added up."""


def _tuple_of(name: str, specs: Sequence[TensorSpec]) -> Any:
    return namedtuple(name, [spec.name for spec in specs], module=__name__)


# The same as named tuples, with a field for each tensor in the order above.
StepMemory = _tuple_of("StepMemory", MEMORY)
StepControls = _tuple_of("StepControls", CONTROLS)
StepRecord = _tuple_of("StepRecord", RECORD)


def state(decoder_widths: tuple[tuple[str, tuple[str | int, ...]], ...]) -> tuple[TensorSpec, ...]:
    """Step state, without its `past_` or `present_` prefix.

    Args:
        decoder_widths: name and axes of every tensor of the decoder's own state.
    """
    decoder = tuple(TensorSpec(f"decoder_{name}", "float32", axes) for name, axes in decoder_widths)
    return (*decoder, TensorSpec("readout", "float32", ("B", "D")), *COUNTERS)


def past(name: str) -> str:
    """Name of a state tensor as the step's input."""
    return f"past_{name}"


def present(name: str) -> str:
    """Name of a state tensor as the step's output."""
    return f"present_{name}"
