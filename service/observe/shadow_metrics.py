"""How a model that answers unseen compares with the one that is seen: instruments labelled by the former."""

from typing import Literal, get_args

from service.observe.instruments import Instruments
from service.observe.stages import LATENCY_SECONDS

TAU = tuple(step / 10 for step in range(-9, 11))
OVERLAP = tuple(step / 10 for step in range(11))
TOKENS = (0, 1, 2, 3, 5, 8, 12, 16, 24, 32, 48, 64)

Result = Literal["compared", "dropped", "failed"]
WHOSE = "live", "shadow"


class ShadowMetrics:
    """Of the lists that both models wrote: what they have in common, and what each of them cost."""

    def __init__(self, make: Instruments) -> None:
        """`make` gives every instrument the labels of the shadow."""
        self.requests = make.counters(
            "shadow_requests_total",
            "Requests for a shadow; dropped ones would have cost more than it may.",
            "result",
            initial=get_args(Result),
        )
        self.kendall_tau = make.histogram(
            "shadow_kendall_tau", "Agreement on the order of the items that both placed, -1 to 1.", TAU
        )
        self.overlap = make.histogram(
            "shadow_overlap_ratio", "Share of the first k items that both have, k being the list's.", OVERLAP
        )
        self.tokens = make.histograms(
            "shadow_reasoning_tokens", "Reasoning tokens of a compared list.", TOKENS, "of", initial=WHOSE
        )
        self.duration = make.histograms(
            "shadow_duration_seconds",
            "From features to the compared list; of the live one with its wait for the engine.",
            LATENCY_SECONDS,
            "of",
            initial=WHOSE,
        )
