"""Runs lists through every path of a model before any caller does.

Nobody pays for first allocations, and what lists take is known (`service.serving.cost`).
"""

from dataclasses import replace
from itertools import cycle, islice
from math import inf, isfinite
from time import perf_counter, process_time, time

import numpy as np

from bundle.arrays import Arrays
from bundle.features.assembly import Candidates
from bundle.features.history import ANONYMOUS
from bundle.manifest import BundleError
from constraints.planning import in_order, plan
from constraints.rules import Cap, Constraints, Floor
from engine.generation import Controls
from engine.loaded_model import LoadedModel
from engine.sessions import PROVIDERS
from service.serving.cost import CostModel, Timing

LENGTHS = (2, 10, 50, 200, 1000, 2000)
POSITIONS, TOKENS, BATCH, BATCH_LENGTH = 40, 4, 8, 50
ROUNDS = 3
PATIENCE_S = 0.1
"""For the rounds of one size, the first excepted."""


def warm_up(model: LoadedModel, max_items: int, most_s: float = inf) -> CostModel:
    """Time lists of a few lengths, the longest that is accepted among them.

    Args:
        most_s: that a list of `BATCH_LENGTH` may take, with all its reasoning and lookahead.

    Raises:
        BundleError: the model's weights are not finite, or it is too slow.
    """
    lengths = [length for length in LENGTHS if length < max_items]
    timings = [_timing(model, length) for length in (*lengths, max_items)]
    one = catalogue_request(model, min(BATCH_LENGTH, max_items))
    _obey(model, one)
    alone, together = (_least_s(model, [one] * count, POSITIONS, 0) for count in (1, BATCH))
    marginal = (together - alone) / (BATCH - 1) / alone
    costs = CostModel(timings, min(max(marginal, 0.05), 1.0))
    manifest, length = model.manifest, min(BATCH_LENGTH, max_items)
    positions = min(manifest.slate_length, length)
    took_s = costs.price(length, positions, manifest.reasoning_budget, manifest.lookahead).most_s
    if took_s > most_s:
        told = f"a list of {length} items takes up to {1000 * took_s:.3g} ms"
        raise BundleError(f"{manifest.name} {manifest.version}: {told}, more than {1000 * most_s:g}")
    return costs


def touch(model: LoadedModel, max_items: int) -> None:
    """Write one list of a model that was timed before, so that no caller pays for first allocations."""
    _least_s(model, [catalogue_request(model, max_items)], 1, 0)


def _obey(model: LoadedModel, inputs: Arrays) -> None:
    """Write a list under rules, as the model and as a fallback would: what that runs is compiled first."""
    candidates = len(inputs["candidate_numeric"])
    members = np.arange(candidates) % 2 == 0
    asked = Constraints({0: 0}, caps=(Cap("", members, 1, 2),), floors=(Floor("", members, 1, 1),))
    planned = plan(asked, candidates, min(model.manifest.slate_length, candidates))
    in_order(planned)
    controls = Controls.default(model.manifest, planned.length)
    model.generate([inputs], [replace(controls, constraints=planned)])


def _timing(model: LoadedModel, length: int) -> Timing:
    inputs, positions = [catalogue_request(model, length)], min(POSITIONS, length)
    first = _least_s(model, inputs, 1, 0)
    listed = _least_s(model, inputs, positions, 0)
    position_s = max(0.0, listed - first) / max(1, positions - 1)
    token_s = position_s
    if model.manifest.reasoning_budget:
        reasoned = _least_s(model, inputs, positions, TOKENS)
        token_s = max(0.0, reasoned - listed) / (positions * TOKENS)
    looking_s = judged_s = 0.0
    if model.lookahead is not None:
        looking_s = max(0.0, _least_s(model, inputs, 1, 0, lookahead=1) - first)
        looked = _least_s(model, inputs, positions, 0, lookahead=1) - listed
        judged_s = max(0.0, looked - looking_s) / positions**2
    return Timing(length, max(0.0, first - position_s), position_s, token_s, looking_s, judged_s)


def _least_s(
    model: LoadedModel, inputs: list[Arrays], positions: int, tokens: int, lookahead: int = 0
) -> float:
    """The shortest of a few rounds, because whatever else runs on the machine only adds to it. On a CPU time
    that is spent elsewhere does not count, for it says nothing of this model."""
    length = min(positions, len(inputs[0]["candidate_numeric"]))
    default = Controls.default(model.manifest, length)
    everywhere = replace(default, entropy_threshold=-1.0, reasoning_budget=tokens, lookahead=lookahead)
    controls = [everywhere] * len(inputs)
    on_cpu = model.runner.provider == PROVIDERS["cpu"]
    least, spent = inf, 0.0
    for round_ in range(1 + ROUNDS):
        started, cpu = perf_counter(), process_time()
        slates = model.generate(inputs, controls)
        took = perf_counter() - started
        least = min(least, took, process_time() - cpu if on_cpu else inf)
        spent += took if round_ else 0.0
        if not all(isfinite(position.probability) for slate in slates for position in slate.positions):
            manifest = model.manifest
            raise BundleError(f"{manifest.name} {manifest.version}: its probabilities are not finite")
        if spent > PATIENCE_S:
            break
    return least


def catalogue_request(model: LoadedModel, length: int) -> Arrays:
    """A request of nobody's for so many items of the catalogue."""
    ids = list(islice(cycle(model.features.catalogue.ids or ["unknown"]), length))
    return model.features.request(Candidates(ids), ANONYMOUS, {}, time())
