"""A request as a model takes it: the candidates, the rules of its list, and how that is to be written."""

import random
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constraints.planning import EffortError
from engine.generation import Controls
from engine.loaded_model import LoadedModel
from service.bodies.rerank import RerankRequest
from service.errors import Fault, GenerationError, InvalidRequestError
from service.serving.exploration import Explored
from service.serving.hard_rules import HardRules
from service.serving.registry import ServedModel
from service.serving.request_features import Selection, select
from service.serving.rules import AT_ONCE, RuleLimits, Rules, constrain

Charge = Callable[[float], None]
"""Told the predicted seconds of a request; may raise `RateLimitedError`."""

Prepared = tuple[Selection, Rules | None, Controls, int]
"""The last: how many items are wanted."""


async def judged(
    hard_rules: HardRules,
    served: ServedModel,
    request: RerankRequest,
    limits: RuleLimits,
    deadline: float,
    caller: Hashable,
    charge: Charge,
    explored: Explored | None,
) -> Prepared:
    """As `prepare`. Rules that take long are judged aside, and charged for.

    Raises:
        InvalidRequestError: what it asks for does not fit the model, or cannot be.
        RateLimitedError: by `charge`.
        OverloadedError, DeadlineExceededError: its rules take long, and there is no time.
    """
    asked, counted = (served.model, request, limits, explored), served.metrics.constrained.labels
    try:
        try:
            return prepare(*asked, within=AT_ONCE)
        except EffortError:
            with served.metrics.stage("rules"):
                return await hard_rules.judge(partial(prepare, *asked), deadline, caller, charge)
    except InvalidRequestError as error:
        if error.faults[0].field.startswith("constraints"):
            counted("refused" if error.decided else "undecided").inc()
        raise
    except GenerationError:
        counted("late").inc()
        raise


def prepare(
    model: LoadedModel,
    request: RerankRequest,
    limits: RuleLimits,
    explored: Explored | None = None,
    within: int | None = None,
    rows: NDArray[np.int64] | None = None,
) -> Prepared:
    """The candidates of a request, its rules, how its list is to be written, and how many items are wanted:
    the model's slate length, within the limit, where the request does not say.

    Args:
        explored: how it is, if the service explores and the request does not say.
        within: as in `constrain`.
        rows: as in `select`.

    Raises:
        InvalidRequestError: what it asks for does not fit the model, or cannot be.
        EffortError: by `constrain`.
    """
    selection = select(model.features, request, rows)
    wanted = request.top_n or min(model.manifest.slate_length, limits.max_top_n)
    if request.constraints is None:
        length = min(wanted, len(selection.candidates))
        return selection, None, _controls(model, request, length, explored), wanted
    rules = constrain(model.features, request, selection, wanted, limits, within)
    selection = selection._replace(candidates=rules.candidates)
    controls = _controls(model, request, rules.own.length, explored)
    if rules.bind:
        controls = replace(controls, constraints=rules.own)
    return selection, rules, controls, wanted


def _controls(
    model: LoadedModel, request: RerankRequest, slate_length: int, explored: Explored | None
) -> Controls:
    """The bundle's defaults with the request's overrides."""
    manifest = model.manifest
    default = Controls.default(manifest, slate_length)
    overrides: dict[str, Any] = {"trace_candidates": request.trace_candidates}
    if request.reasoning is not None:
        overrides["entropy_threshold"] = request.reasoning.entropy_threshold
        if manifest.reasoning_budget:  # else it was trained without, and has no step to think with
            overrides["reasoning_budget"] = request.reasoning.max_tokens
        overrides["reasoning_temperature"] = request.reasoning.temperature
        overrides["lookahead"] = request.reasoning.lookahead
        if request.reasoning.lookahead and model.lookahead is None:
            raise InvalidRequestError([Fault("reasoning.lookahead", "this model has no evaluator")])
    if request.sampling is not None:
        seed = request.sampling.seed
        overrides["seed"] = random.getrandbits(53) if seed is None else seed
        overrides["selection_temperature"] = request.sampling.temperature
        overrides["lookahead"] = 0
    elif explored is not None:
        overrides["exploration_share"], overrides["seed"] = explored.share, explored.seed
        overrides["selection_temperature"] = explored.temperature
    given = {name: value for name, value in overrides.items() if value is not None}
    return replace(default, **given) if given else default
