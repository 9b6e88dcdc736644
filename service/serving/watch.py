"""Whether a model answers: how long a batch has been in it, and whether the last one came to anything."""

import math
import threading
from collections.abc import Callable, Sequence
from time import monotonic

from bundle.arrays import Arrays
from engine.generation import Controls, Slate

Generate = Callable[[Sequence[Arrays], Sequence[Controls]], list[Slate]]


class Watched:
    """A model's `generate`, watched, for any threads.

    Attributes:
        generate: what is watched.
        failed: the last batch raised, or its probabilities are not finite.
    """

    def __init__(self, generate: Generate) -> None:
        self.generate, self.failed = generate, False
        self._begun: dict[int, float] = {}  # by thread

    def __call__(self, inputs: Sequence[Arrays], controls: Sequence[Controls]) -> list[Slate]:
        thread, finite = threading.get_ident(), False
        self._begun[thread] = monotonic()
        try:
            slates = self.generate(inputs, controls)
            finite = math.isfinite(sum([p.probability for slate in slates for p in slate.positions]))
        finally:
            del self._begun[thread]
            self.failed = not finite
        return slates

    @property
    def busy_s(self) -> float:
        """How long the batch that has been in the model for longest has been there; 0 without one."""
        begun = tuple(self._begun.values())
        return monotonic() - min(begun) if begun else 0.0
