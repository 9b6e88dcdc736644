"""Whether a model answers: how long a batch has been in it, and whether the last one came to anything."""

import math
from collections.abc import Callable, Sequence
from time import monotonic

from bundle.arrays import Arrays
from engine.generation import Controls, Slate

Generate = Callable[[Sequence[Arrays], Sequence[Controls]], list[Slate]]


class Watched:
    """A model's `generate`, watched. Called by one thread at a time; asked by any.

    Attributes:
        generate: what is watched.
        failed: the last batch raised, or its probabilities are not finite.
    """

    def __init__(self, generate: Generate) -> None:
        self.generate, self.failed = generate, False
        self._begun: float | None = None

    def __call__(self, inputs: Sequence[Arrays], controls: Sequence[Controls]) -> list[Slate]:
        self._begun, finite = monotonic(), False
        try:
            slates = self.generate(inputs, controls)
            finite = math.isfinite(sum(p.probability for slate in slates for p in slate.positions))
        finally:
            self._begun, self.failed = None, not finite
        return slates

    @property
    def busy_s(self) -> float:
        """How long the batch that is in the model has been there; 0 without one."""
        begun = self._begun
        return 0.0 if begun is None else monotonic() - begun
