"""One rerank, from a valid request to its response: context, features, queue and inference, answer.

The rule: never worse than not calling us. Whatever goes wrong after validation is answered with the
caller's order and its reason, unless the caller asked for the error with `strict`.
"""

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from time import monotonic, time
from typing import Literal

from bundle.features.history import ANONYMOUS, UserContext
from engine.generation import Controls, Slate
from engine.loaded_model import LoadedModel
from service.bodies import rerank as bodies
from service.bodies.rerank import ContextResult, Fallback, RerankRequest, RerankResponse
from service.bodies.twins import twin
from service.context.store import ContextStore, anonymous_id
from service.errors import (
    DeadlineExceededError,
    GenerationError,
    InvalidRequestError,
    ModelError,
    OverloadedError,
    RateLimitedError,
    Stage,
    StoreNotAskedError,
    StoreUnavailableError,
)
from service.observe import logs
from service.observe.decision_log import DecisionLog
from service.observe.metrics import Metrics
from service.observe.tracing import current
from service.serving.decisions import decision
from service.serving.exploration import Exploration, Explored
from service.serving.hard_rules import HardRules
from service.serving.loop_lag import BEAT_S
from service.serving.occupancy import Occupancy
from service.serving.preparation import Charge, judged, prepare
from service.serving.refusals import Refusals
from service.serving.registry import ServedModel, Shadowing
from service.serving.request_features import Ignored, Selection, assemble, undeclared
from service.serving.response import complete, reasoning, results
from service.serving.rules import RuleLimits, Rules
from service.serving.shadow import Shadows, Written

FALLBACKS: dict[type[GenerationError], Fallback] = {
    OverloadedError: "overload",
    DeadlineExceededError: "deadline",
    ModelError: "model",
}

Response = twin(RerankResponse)
UsedSampling, IgnoredField = twin(bodies.UsedSampling), twin(bodies.Ignored)

logger = logging.getLogger(__name__)


@dataclass
class _Rerank:
    """One request on its way. The fields with defaults are known only once their stage is done."""

    request: RerankRequest
    request_id: str
    explored: Explored | None
    served: ServedModel
    caller: Hashable
    charge: Charge
    arrived: float
    at: float  # the same in unix seconds
    deadline: float
    selection: Selection
    rules: Rules | None
    controls: Controls
    wanted: int
    ignored: Ignored
    recommendation_id: str | None = None
    context: ContextResult | None = None
    user: UserContext = ANONYMOUS
    seconds: float = 0.0  # from features to slate


def free(seconds: float) -> None:
    """Charges nothing."""


class Reranker:
    """The use case."""

    def __init__(
        self,
        contexts: ContextStore,
        metrics: Metrics,
        shadows: Shadows,
        default_deadline_ms: float,
        clock: Callable[[], float] = monotonic,
        lag_s: Callable[[], float] = lambda: 0.0,
        occupancy: Occupancy | None = None,
        max_ignored: int = 20,
        rule_limits: RuleLimits | None = None,
        hard_rules: HardRules | None = None,
        decisions: DecisionLog | None = None,
        exploration: Exploration | None = None,
    ) -> None:
        """
        Args:
            hard_rules: where those are judged that take long.
            decisions: told of every list that is answered.
            exploration: says which lists are sampled, besides those of requests that ask for it.
            max_ignored: most fields that a request is told were ignored, and that metrics name.
            clock: seconds, as `time.monotonic`; what arrivals and deadlines are told in.
            lag_s: how far the event loop is behind, by the clock.
        """
        self._contexts, self._metrics, self._clock, self._lag_s = contexts, metrics, clock, lag_s
        self._shadows = shadows
        self._default_deadline_ms, self._max_ignored = default_deadline_ms, max_ignored
        self._rule_limits = RuleLimits() if rule_limits is None else rule_limits
        self._hard_rules = HardRules(clock=clock) if hard_rules is None else hard_rules
        self._decisions, self._exploration = decisions, exploration
        self._refusals = Refusals(Occupancy(clock) if occupancy is None else occupancy)

    def arrival(self, age_s: Callable[[], float | None] = lambda: None) -> float:
        """When a request that is read now came: its deadline counts from then.

        Args:
            age_s: what the system knows of its age. While the event loop keeps up, nobody waits unread, and
                that is not asked for.
        """
        now, lag = self._clock(), self._lag_s()
        if not lag:
            return now
        age = age_s()
        return now - (lag if age is None else min(age, lag + BEAT_S))

    async def rerank(
        self,
        served: ServedModel,
        request: RerankRequest,
        request_id: str,
        arrived: float,
        caller: Hashable = "",
        charge: Charge = free,
    ) -> RerankResponse:
        """Answer a valid request.

        Args:
            arrived: `arrival()` when the request came.
            caller: whose share of the engine's time it takes.
            charge: told what it is predicted to cost, once it is admitted.

        Raises:
            InvalidRequestError: a feature or a rule does not fit the model, or rules cannot hold together.
            RateLimitedError: by `charge`.
            GenerationError: the request is strict and no slate was generated, or its rules take long to judge
                and there was no time: what would satisfy them is not known then.
        """
        if (record := current()) is not None:
            record.model = served.key
        deadline = arrived + (request.deadline_ms or self._default_deadline_ms) / 1000
        try:
            explored = None if self._exploration is None else self._exploration.draw(request, request_id)
            asked = served, request, self._rule_limits, deadline, caller, charge, explored
            selection, rules, controls, wanted = await judged(self._hard_rules, *asked)
        except GenerationError as error:
            fault = self._fault(served, error)
            await self._refusals.turn()
            raise fault from None
        served.metrics.list_size.observe(len(request.items))
        served.metrics.unknown_items.inc(len(selection.missing_ids))
        ignored = undeclared(served.model.features, request) + ([] if rules is None else rules.ignored)
        at = time() - (self._clock() - arrived)
        call = request, request_id, explored, served, caller, charge, arrived, at, deadline
        rerank = _Rerank(*call, selection, rules, controls, wanted, ignored)
        fallback: Fallback | None
        slate: Slate | None = None
        try:
            slate = await self._generate(rerank)
        except (InvalidRequestError, RateLimitedError):
            raise
        except Exception as error:
            fault = self._fault(served, error)
            if isinstance(fault, OverloadedError | DeadlineExceededError):
                await self._refusals.turn()
            if request.strict:
                raise fault from error
            fallback = FALLBACKS[type(fault)]
        else:
            fallback = "unknown" if slate is None and (rules is None or rules.plan.length) else None
        if fallback is not None:
            served.metrics.fallback.labels(fallback).inc()
        with served.metrics.stage("post"):
            if slate is not None:
                served.metrics.slate(slate, () if rules is None else rules.own.constraints.pins)
            took_ms = round((self._clock() - rerank.arrived) * 1000, 3)
            served.metrics.ignore(rerank.ignored, self._max_ignored)
            response = _respond(rerank, slate, fallback, took_ms, self._max_ignored)
            if rules is not None:
                served.metrics.constrained.labels("shortened" if response.shortened_by else "whole").inc()
        _report(rerank, slate, response)
        if self._decisions is not None:
            how = rerank.served.model.manifest, rerank.user, rerank.controls, rerank.wanted
            self._decisions.put(partial(decision, request, *how, slate, response, rerank.at))
        if slate is not None and served.shadow is not None:
            self._show(served.shadow, rerank, slate)
        return response

    async def _generate(self, rerank: _Rerank) -> Slate | None:
        """The slate, or None when no item of the request can be ranked."""
        self._check_deadline(rerank, "parse")
        scheduler, candidates = rerank.served.scheduler, len(rerank.selection.candidates)
        if not candidates or not rerank.controls.slate_length:
            await self._user_context(rerank)
            return None
        price = scheduler.admit(candidates, rerank.controls, rerank.deadline, rerank.caller)
        rerank.charge(price.most_s)
        with scheduler.stay(price, rerank.caller) as stay:
            with stay.away():
                rerank.user = user = await self._user_context(rerank)
            began = self._clock()
            with rerank.served.metrics.stage("features"):
                features = rerank.served.model.features
                inputs = assemble(features, rerank.request, rerank.selection, user, rerank.at, rerank.ignored)
            self._check_deadline(rerank, "features")
            slate = await scheduler.generate(inputs, rerank.controls, rerank.deadline, rerank.caller, price)
            rerank.seconds = self._clock() - began
        if not all(isfinite(position.probability) for position in slate.positions):
            raise ModelError("the model's probabilities are not finite")
        return slate

    def _check_deadline(self, rerank: _Rerank, stage: Stage) -> None:
        if self._clock() >= rerank.deadline:
            raise DeadlineExceededError(stage)

    async def _user_context(self, rerank: _Rerank) -> UserContext:
        """Record the recommendation and look its user up, in one round trip.

        A store that does not answer makes the user anonymous, which is flagged, and is no error even for
        a strict request: the list is still ranked by the model. It is not asked for a list of nobody.

        Raises:
            DeadlineExceededError: the store took all the time there was.
        """
        user_id = rerank.request.user_id
        known: UserContext | None = None
        result: Literal["not_asked"] | None = None  # if it is not told by the answer
        with self._metrics.stage("context"):
            if user_id is None:
                rerank.recommendation_id, rerank.context = anonymous_id(), "anonymous"
            else:
                try:
                    left_s = rerank.deadline - self._clock()
                    items = [item.id for item in rerank.request.items]
                    recommended = await self._contexts.recommend(user_id, left_s, items)
                except StoreUnavailableError as error:
                    if self._clock() >= rerank.deadline:
                        self._metrics.context_lookups.labels("timeout").inc()
                        raise DeadlineExceededError("context") from None
                    rerank.context = "unavailable"
                    if isinstance(error, StoreNotAskedError):
                        result = "not_asked"
                else:
                    rerank.recommendation_id, known = recommended
                    rerank.context = "miss" if known is None else "hit"
        self._metrics.context_lookups.labels(result or rerank.context).inc()
        user = known or ANONYMOUS
        if rerank.context in ("hit", "miss") and not user.history:
            self._metrics.cold_users.inc()
        if user.history and user.history[-1].timestamp is not None:
            self._metrics.context_age.observe(max(0.0, time() - user.history[-1].timestamp))
        return user

    def _show(self, shadowing: Shadowing, rerank: _Rerank, slate: Slate) -> None:
        request, seed, patience_s = rerank.request, rerank.controls.seed, self._default_deadline_ms / 1000

        def write(model: LoadedModel) -> tuple[list[str], int]:
            selection, _, controls, _ = prepare(model, request, self._rule_limits, rerank.explored)
            inputs = assemble(model.features, request, selection, rerank.user, rerank.at)
            controls = replace(controls, seed=seed, deadline=monotonic() + patience_s, trace_candidates=0)
            (written,) = model.generate([inputs], [controls])
            if len(written.positions) < controls.slate_length:
                raise DeadlineExceededError("infer")
            return _ids(request, selection, written), written.reasoning_tokens

        live = Written(_ids(request, rerank.selection, slate), slate.reasoning_tokens, rerank.seconds)
        self._shadows.offer(shadowing, live, write)

    @staticmethod
    def _fault(served: ServedModel, error: Exception) -> GenerationError:
        """What a failure is to the caller; one nobody foresaw counts as the model's."""
        record = current()
        if isinstance(error, DeadlineExceededError):
            served.metrics.deadline_exceeded.labels(error.stage).inc()
            if record is not None:
                record.note(deadline_stage=error.stage)
        if record is not None:
            record.reason = str(error) if isinstance(error, GenerationError) else type(error).__name__
        if isinstance(error, GenerationError):
            return error
        logger.error("unexpected error in a rerank", exc_info=error)
        return ModelError("the model failed on this request")


def _report(rerank: _Rerank, slate: Slate | None, response: RerankResponse) -> None:
    """Tell the request's trace, and, if somebody debugs, the log."""
    record = current()
    if record is not None:
        record.slate, record.fallback = slate, response.fallback
        record.note(
            model=response.model,
            model_version=response.model_version,
            list_size=len(rerank.request.items),
            context=response.context,
            fallback=response.fallback,
        )
    if logger.isEnabledFor(logging.DEBUG):
        ids = {"user_id": rerank.request.user_id, "results": [result.id for result in response.results]}
        arm = response.model, response.model_version
        logger.debug("re-ranked by %s %s in %.1f ms", *arm, response.took_ms, extra={logs.IDS: ids})


def _ids(request: RerankRequest, selection: Selection, slate: Slate) -> list[str]:
    return [request.items[selection.candidates[position.index]].id for position in slate.positions]


def _respond(
    rerank: _Rerank, slate: Slate | None, fallback: Fallback | None, took_ms: float, max_ignored: int
) -> RerankResponse:
    request, manifest, controls = rerank.request, rerank.served.model.manifest, rerank.controls
    placed = [rerank.selection.candidates[position.index] for position in slate.positions] if slate else []
    completion = complete(request, rerank.rules, placed, rerank.wanted)
    sampling = None
    if slate is not None and controls.seed is not None:
        sampling = UsedSampling(temperature=controls.selection_temperature, seed=controls.seed)
    return Response(
        request_id=rerank.request_id,
        recommendation_id=rerank.recommendation_id,
        model=manifest.name,
        model_version=manifest.version,
        results=list(results(request, placed, slate, completion.items)),
        missing_ids=rerank.selection.missing_ids,
        ignored=[IgnoredField(field=field, reason=reason) for field, reason in rerank.ignored[:max_ignored]],
        fallback=fallback,
        context=rerank.context,
        reasoning=None if slate is None else reasoning(request, rerank.selection, slate),
        sampling=sampling,
        shortened_by=completion.shortened_by or None,
        took_ms=took_ms,
    )
