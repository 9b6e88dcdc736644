"""The models being served: loading, warm-up, switching from plan to plan, look-up by name, version and share.

Knows nothing of requests, nor of other workers.
"""

import asyncio
import gc
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from math import log
from pathlib import Path
from time import monotonic
from typing import NamedTuple, Self

from bundle.features.fitting import key
from bundle.features.history import IMPRESSION
from engine.cpu_quota import threads_each
from engine.generation import Controls
from engine.loaded_model import LoadedModel
from engine.sessions import PROVIDERS
from engine.settings import SessionSettings
from service.bodies.models import Defaults, FeatureInfo, GateInfo, ModelInfo, ShadowInfo
from service.errors import ConflictError, GenerationError, NotFoundError, UnavailableError
from service.observe.logs import FIELDS
from service.observe.metrics import Metrics
from service.observe.model_metrics import ModelMetrics
from service.serving import exploration
from service.serving.cost import CostModel
from service.serving.occupancy import Occupancy
from service.serving.plan import ModelKey, Pin, Plan
from service.serving.scheduler import Scheduler, yield_to_others
from service.serving.warm_up import catalogue_request, touch, warm_up
from service.serving.watch import Watched
from service.settings import Settings

MEASURED = 16
"""Bundles of which it is remembered what lists take, while the process lives."""

logger = logging.getLogger(__name__)

PROBE_S = 1.0
"""For a model that is asked whether it answers again."""


@dataclass
class ServedModel:
    """A loaded model and the scheduler that runs it. `with served:` holds it for a request.

    Attributes:
        share: of the requests for its name.
        shadow: what answers some of its requests too, unseen.
    """

    pin: Pin
    model: LoadedModel
    scheduler: Scheduler
    metrics: ModelMetrics
    watched: Watched
    loaded_at: datetime
    share: float = 0.0
    shadow: "Shadowing | None" = None
    _requests: int = 0
    _let_go: asyncio.Event = field(default_factory=asyncio.Event)

    def __enter__(self) -> Self:
        self._requests += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._requests -= 1
        self._let_go.set()

    async def retire(self) -> None:
        """Stop, once no request holds it. To be called when none can begin to."""
        while self._requests:
            self._let_go.clear()
            await self._let_go.wait()
        await self.scheduler.stop()

    async def answers(self, stuck_after_s: float, now: float) -> bool:
        """Whether it generates slates. If its last batch failed, it is asked for one; `now` by its clock."""
        if self.watched.busy_s > stuck_after_s:
            return False
        if self.watched.failed:
            with suppress(GenerationError):
                inputs, controls = catalogue_request(self.model, 1), Controls.default(self.model.manifest, 1)
                await self.scheduler.generate(inputs, controls, now + PROBE_S)
        return not self.watched.failed

    @property
    def key(self) -> ModelKey:
        return self.pin.key

    @property
    def info(self) -> ModelInfo:
        manifest, fitted = self.model.manifest, self.model.features.fitted
        schema = fitted.feature_schema
        return ModelInfo(
            name=manifest.name,
            version=manifest.version,
            dataset=manifest.dataset,
            created=manifest.created,
            reasoner=manifest.reasoner,
            decoder=manifest.decoder,
            evaluator=manifest.has_evaluator,
            gate=GateInfo.model_validate(manifest.gate.model_dump(include=set(GateInfo.model_fields))),
            defaults=Defaults.model_validate(manifest.model_dump(include=set(Defaults.model_fields))),
            features=[
                FeatureInfo(
                    name=field.name,
                    scope=field.scope,
                    kind=field.kind,
                    values=len(fitted.vocabulary[key(field)]) if field.is_token else None,
                    size=field.size,
                )
                for field in schema.fields
            ],
            initial_score=schema.initial_score,
            event_types=list(schema.positive_types),
            groups=[field.name for field in schema.of("item") if field.is_token],
            provider=self.model.runner.provider,
            decoding=self.model.runner.decoding,
            loaded_at=self.loaded_at.isoformat(),
            share=self.share,
            shadow=None if self.shadow is None else self.shadow.info,
        )


class Shadowing(NamedTuple):
    """A model that answers a share of another's requests too, unseen."""

    served: ServedModel
    share: float

    @property
    def info(self) -> ShadowInfo:
        return ShadowInfo(model=self.served.key.name, version=self.served.key.version, share=self.share)


class Prepared(NamedTuple):
    """A model that is ready to serve, and what its lists take."""

    model: LoadedModel
    costs: CostModel


class Models:
    """The models of a plan, in memory. Which of them answers whom is the plan's to say.

    A change takes two steps, so that several workers can agree on it: `prepare` opens what is new, beside
    what is served; `commit` switches, from one request to the next. A request ends with the model it began
    with; a model that the new plan lacks is then freed.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], float] = monotonic,
        lag_s: Callable[[], float] = lambda: 0.0,
        occupancy: Occupancy | None = None,
    ) -> None:
        """`lag_s` tells how far the event loop is behind, by the clock."""
        self._settings, self._metrics, self._clock, self._lag_s = settings, metrics, clock, lag_s
        self._occupancy = Occupancy(clock) if occupancy is None else occupancy
        self.plan: Plan | None = None
        self._served: dict[ModelKey, ServedModel] = {}
        self._arms: dict[str, list[tuple[float, ServedModel]]] = {}
        self._prepared: dict[Pin, Prepared] = {}
        self._next: Plan | None = None
        self._costs: dict[Pin, CostModel] = {}  # of bundles that were measured, the latest last
        # One thread for each, lest loads that hang pile up. Warming up yields to requests; loading does not,
        # because the threads that ONNX Runtime makes meanwhile would yield for ever.
        self._loader = ThreadPoolExecutor(1, "loading")
        self._warmer = ThreadPoolExecutor(1, "warm-up", initializer=yield_to_others)
        self._retiring: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._served)

    async def prepare(self, plan: Plan) -> None:
        """Open and warm up what a plan has and is not served yet. Whatever was prepared before is forgotten.

        Raises:
            BundleError: a bundle is missing, corrupted, of another contract, not finite or too slow.
            ConflictError: the plan has more than `max_models`.
        """
        self.abort()
        pins = list(plan.pins())
        if len(pins) > self._settings.max_models:
            raise ConflictError(f"{len(pins)} models are more than {self._settings.max_models}; unload some")
        if self._retiring:
            await asyncio.wait(self._retiring)
        served, prepared = {one.pin for one in self._served.values()}, {}
        run, warmer = asyncio.get_running_loop().run_in_executor, self._warmer if served else self._loader
        most_items, most_s = self._settings.max_items, self._settings.max_list_ms / 1000
        for pin in pins:
            if pin not in served:
                model = await run(self._loader, self._open, pin)
                costs = self._costs.pop(pin, None)  # what was served before comes back at once
                if costs is None:
                    costs = await run(warmer, warm_up, model, most_items, most_s)
                else:
                    await run(warmer, touch, model, most_items)
                self._costs[pin] = costs
                if len(self._costs) > MEASURED:
                    del self._costs[next(iter(self._costs))]
                prepared[pin] = Prepared(model, costs)
        self._prepared, self._next = prepared, plan

    def commit(self) -> None:
        """Serve the plan that was prepared."""
        plan, prepared = self._next, self._prepared
        assert plan is not None, "prepared"
        self.abort()
        before = {one.pin: one for one in self._served.values()}
        served = [before.get(pin) or self._serve(pin, *prepared[pin]) for pin in plan.pins()]
        self._served = {one.key: one for one in served}
        self.plan = plan
        self._arms = {}
        for name, model in plan.models.items():
            shadow = None
            if model.shadow is not None:
                key = ModelKey(model.shadow.name, model.shadow.version)
                shadow = Shadowing(self._served[key], model.shadow.share)
                assert shadow.served.metrics.shadow, "its series are there from now on"
            for arm in model.arms:
                one = self._served[arm.pin.key]
                itself = shadow is not None and shadow.served is one
                one.share, one.shadow = arm.share, None if itself else shadow
                one.metrics.share.set(arm.share)
            self._arms[name] = [(arm.share, self._served[arm.pin.key]) for arm in model.arms if arm.share]
        leaving = [one for pin, one in before.items() if one not in served]
        if leaving:
            retiring = asyncio.create_task(self._retire(leaving))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)

    def abort(self) -> None:
        """Forget what was prepared."""
        self._prepared, self._next = {}, None

    def route(self, name: str | None, version: str | None, sticky: str) -> ServedModel:
        """The model for a request.

        Of versions that share a name the one with the highest random weight is taken (weighted rendezvous
        hashing): whoever has the same `sticky` gets the same one, in all workers and after restarts, and when
        shares change, only as many move as have to.

        Raises:
            UnavailableError, NotFoundError: as `get`.
        """
        if version is None and self.plan is not None:
            arms = self._arms.get(self.plan.default if name is None else name, ())
            if len(arms) > 1:
                return max(arms, key=lambda arm: arm[0] / -log(_uniform(sticky, arm[1].key)))[1]
        return self.get(name, version)

    def get(self, name: str | None = None, version: str | None = None) -> ServedModel:
        """The named version, or the one with the largest share of the name, or of the default.

        Raises:
            UnavailableError: nothing is loaded yet.
            NotFoundError: none has this name and version.
        """
        if self.plan is None:
            raise UnavailableError("no model is loaded yet")
        name = self.plan.default if name is None else name
        if version is not None:
            served = self._served.get(ModelKey(name, version))
        else:
            _, served = max(self._arms.get(name, ()), key=lambda arm: arm[0], default=(0.0, None))
        if served is None:
            wanted = repr(name) if version is None else f"{name!r} {version!r}"
            known = ", ".join(f"{key.name} {key.version}" for key in self._served)
            raise NotFoundError(f"no model {wanted}; served: {known}")
        return served

    def all(self) -> list[ServedModel]:
        """All served models, those that answer where no name is given first."""
        default = self.plan and self.plan.default
        return sorted(self._served.values(), key=lambda one: (one.key.name != default, -one.share))

    @property
    def event_types(self) -> frozenset[str]:
        """Types of events that some served model makes something of."""
        schemas = [one.model.features.fitted.feature_schema for one in self._served.values()]
        return frozenset({IMPRESSION}).union(*(schema.positive_types for schema in schemas))

    async def stop(self) -> None:
        for served in self._served.values():
            await served.scheduler.stop()
        for executor in (self._loader, self._warmer):
            executor.shutdown(wait=False, cancel_futures=True)

    def _open(self, pin: Pin) -> LoadedModel:
        """Raises: BundleError."""
        settings = self._settings
        sessions = SessionSettings(
            provider=settings.provider,
            decoding=settings.decoding,
            intra_op_threads=settings.intra_op_threads or threads_each(settings.workers),
            require_provider=settings.require_provider,
            keep_freed_mib=settings.keep_freed_mib,
        )
        model = LoadedModel.open(Path(pin.folder), sessions)
        pin.check()
        if settings.exploration_share:
            exploration.check(model, settings.exploration_temperature)
        return model

    def _serve(self, pin: Pin, model: LoadedModel, costs: CostModel) -> ServedModel:
        settings, manifest = self._settings, model.manifest
        metrics = self._metrics.for_model(manifest.name, manifest.version)
        watched = Watched(model.generate)
        scheduler = Scheduler(
            watched,
            metrics,
            costs,
            max_batch_size=settings.max_batch_size,
            batch_s=settings.batch_ms / 1000,
            max_queue=settings.max_queue,
            lag_s=self._lag_s,
            occupancy=self._occupancy,
            clock=self._clock,
        )
        scheduler.start()
        metrics.serving(manifest, PROVIDERS[settings.provider], model.runner.provider, settings.drift_window)
        told = {"bundle": pin.folder, "model": pin.name, "version": pin.version}
        told |= {"provider": model.runner.provider, "decoding": model.runner.decoding}
        logger.info("a model is served", extra={FIELDS: told})
        return ServedModel(pin, model, scheduler, metrics, watched, datetime.now(UTC))

    async def _retire(self, leaving: list[ServedModel]) -> None:
        """Stop models that no new request gets, and empty the list, so that they can be freed."""
        while leaving:
            await leaving[-1].retire()
            self._metrics.model_gone(leaving.pop().metrics)
            gc.collect()  # reference cycles hold it, and would for several swaps


def _uniform(sticky: str, key: ModelKey) -> float:
    """A number above 0 and below 1 that looks random and is always the same."""
    hashed = blake2b("\0".join((*key, sticky)).encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return (int.from_bytes(hashed) + 0.5) / 2**48
