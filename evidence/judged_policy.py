"""The policy that is judged: what it would write, and how probable a list is that another wrote.

Legend: L lists, K positions.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Arrays
from engine.generation import Controls
from engine.likelihood import propensities
from engine.loaded_model import LoadedModel
from evidence.logged_lists import Floats, Slates

BATCH = 64


class JudgedPolicy(Protocol):
    """Writes lists as long as it is told, greedily or by chance."""

    def greedy(self, inputs: Sequence[Arrays], lengths: Sequence[int]) -> Slates:
        """The lists that are written if nothing is sampled."""
        ...

    def sampled(
        self, inputs: Sequence[Arrays], lengths: Sequence[int], temperature: Floats, seed: int
    ) -> Slates:
        """Lists sampled at a temperature each, `[L]`."""
        ...

    def chances(
        self, inputs: Sequence[Arrays], slates: Slates, temperature: Floats
    ) -> list[NDArray[np.float64]]:
        """Of each item given those before it, if the list is sampled. `[K]` each."""
        ...


class ServedPolicy:
    """A bundle as the service runs it, with the bundle's own controls and all the time it wants."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    def greedy(self, inputs: Sequence[Arrays], lengths: Sequence[int]) -> Slates:
        return self._written(inputs, self._controls(lengths))

    def sampled(
        self, inputs: Sequence[Arrays], lengths: Sequence[int], temperature: Floats, seed: int
    ) -> Slates:
        seeds = np.random.default_rng(seed).integers(2**32, size=len(lengths)).tolist()
        controls = self._controls(lengths, temperature)
        return self._written(
            inputs, [replace(own, seed=number) for own, number in zip(controls, seeds, strict=True)]
        )

    def chances(
        self, inputs: Sequence[Arrays], slates: Slates, temperature: Floats
    ) -> list[NDArray[np.float64]]:
        controls = self._controls([len(slate) for slate in slates], temperature)
        found: list[NDArray[np.float64]] = []
        for start in range(0, len(slates), BATCH):
            part = slice(start, start + BATCH)
            found += propensities(self._model, inputs[part], controls[part], slates[part])
        return found

    def _controls(self, lengths: Sequence[int], temperature: Floats | None = None) -> list[Controls]:
        controls = [Controls.default(self._model.manifest, length) for length in lengths]
        if temperature is None:
            return controls
        return [
            replace(own, selection_temperature=float(one))
            for own, one in zip(controls, temperature, strict=True)
        ]

    def _written(self, inputs: Sequence[Arrays], controls: Sequence[Controls]) -> Slates:
        slates: Slates = []
        for start in range(0, len(inputs), BATCH):
            part = slice(start, start + BATCH)
            written = self._model.generate(inputs[part], controls[part])
            slates += [np.array([place.index for place in slate.positions], np.int64) for slate in written]
        return slates
