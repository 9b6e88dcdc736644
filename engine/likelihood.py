"""How probable given slates are under a loaded model, by the engine that would have written them.

The gate, the reasoning and the temperatures are those of serving. Legend: B requests, K positions.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Arrays
from bundle.contract import NOISE
from bundle.features.assembly import collate
from engine.generation import Controls, Times, read_slates, stack_controls
from engine.graphs import CERTAIN
from engine.loaded_model import LoadedModel


def propensities(
    model: LoadedModel,
    inputs: Sequence[Arrays],
    controls: Sequence[Controls],
    slates: Sequence[NDArray[np.int64]],
) -> list[NDArray[np.float64]]:
    """Chance of each item given those before it, were the slate sampled at the controls' temperature.

    Args:
        inputs: one `FeatureAssembler.request` result a request.
        controls: one a request, its slate length that of the slate; seed and lookahead mean nothing here.
        slates: candidate indices, `[K]` each.

    Returns:
        `[K]` each.
    """
    assert all(c.slate_length == len(slate) for c, slate in zip(controls, slates, strict=True))
    sampled = [replace(control, seed=0, lookahead=0) for control in controls]
    stacked = stack_controls(sampled, [len(request["candidate_numeric"]) for request in inputs])
    noise = stacked[NOISE.name]
    noise[:] = 0.0
    for row, slate in enumerate(slates):
        noise[row, np.arange(len(slate)), slate] = CERTAIN
    written = read_slates(sampled, model.runner.run(collate(inputs), stacked, Times.of(sampled)))
    for one, slate in zip(written, slates, strict=True):
        assert [position.index for position in one.positions] == slate.tolist()
    return [np.array([position.propensity for position in one.positions]) for one in written]
