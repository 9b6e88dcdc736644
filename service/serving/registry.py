"""The models being served: loading, warm-up, swap, look-up by name and version.

Knows nothing of requests.
"""

import asyncio
import gc
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import NamedTuple, Self

from bundle.features.fitting import key
from engine.cpu_quota import threads_each
from engine.generation import Controls
from engine.loaded_model import LoadedModel
from engine.sessions import PROVIDERS
from engine.settings import SessionSettings
from service.bodies.models import Defaults, FeatureInfo, GateInfo, ModelInfo
from service.errors import GenerationError, NotFoundError, UnavailableError
from service.observe.logs import FIELDS
from service.observe.metrics import Metrics
from service.observe.model_metrics import ModelMetrics
from service.serving.occupancy import Occupancy
from service.serving.scheduler import Scheduler
from service.serving.warm_up import catalogue_request, warm_up
from service.serving.watch import Watched
from service.settings import Settings

logger = logging.getLogger(__name__)

PROBE_S = 1.0
"""For a model that is asked whether it answers again."""


class ModelKey(NamedTuple):
    """What a served model is known by."""

    name: str
    version: str


@dataclass
class ServedModel:
    """A loaded model and the scheduler that runs it. `with served:` holds it for a request."""

    model: LoadedModel
    scheduler: Scheduler
    metrics: ModelMetrics
    watched: Watched
    loaded_at: datetime
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
        return ModelKey(self.model.manifest.name, self.model.manifest.version)

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
        )


class Models:
    """Served models by name and version.

    Of each name one version answers: the first loaded, until `swap`. The default model is the one that
    answers for the name loaded first.
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
        self._served: dict[ModelKey, ServedModel] = {}
        self._answering: dict[str, ModelKey] = {}
        self._loading = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._served)

    async def load(self, bundle: Path) -> ModelKey:
        """Open a bundle, warm it up, then serve it beside the others.

        One of its name and version it replaces: from one request to the next the new model answers. Those
        that began with the old one end with it; then it is stopped, and this returns.

        Raises:
            BundleError: it is missing, corrupted, of another contract, or cannot be loaded.
        """
        return await self._load(bundle, alone=False)

    async def swap(self, bundle: Path) -> ModelKey:
        """As `load`, in place of every version of its name.

        Raises:
            BundleError: as `load`.
        """
        return await self._load(bundle, alone=True)

    async def unload(self, key: ModelKey) -> None:
        """Stop serving a model, once its open requests have ended.

        If it answered for its name, the version loaded last takes over.

        Raises:
            NotFoundError: it is not served.
        """
        leaving = [self._served.pop(self.get(*key).key)]
        if self._answering[key.name] == key:
            left = [other for other in self._served if other.name == key.name]
            if left:
                self._answering[key.name] = left[-1]
            else:
                del self._answering[key.name]
        await self._retire(leaving)

    def get(self, name: str | None = None, version: str | None = None) -> ServedModel:
        """A served model: the named version, or the one that answers for the name, or the default model.

        Raises:
            UnavailableError: nothing is loaded yet.
            NotFoundError: none has this name and version.
        """
        if not self._served:
            raise UnavailableError("no model is loaded yet")
        key = next(iter(self._answering.values())) if name is None else self._answering.get(name)
        if version is not None and key is not None:
            key = ModelKey(key.name, version)
        served = None if key is None else self._served.get(key)
        if served is None:
            wanted = repr(name) if version is None else f"{name!r} {version!r}"
            known = ", ".join(f"{key.name} {key.version}" for key in self._served)
            raise NotFoundError(f"no model {wanted}; served: {known}")
        return served

    def all(self) -> list[ServedModel]:
        """All served models, the default one first."""
        default = next(iter(self._answering.values()), None)
        return sorted(self._served.values(), key=lambda served: served.key != default)

    async def stop(self) -> None:
        for served in self._served.values():
            await served.scheduler.stop()

    async def _open(self, bundle: Path) -> ServedModel:
        """A model that is ready to serve. Raises: BundleError."""
        settings = self._settings
        sessions = SessionSettings(
            provider=settings.provider,
            decoding=settings.decoding,
            intra_op_threads=settings.intra_op_threads or threads_each(settings.workers),
            require_provider=settings.require_provider,
            keep_freed_mib=settings.keep_freed_mib,
        )
        model = await asyncio.to_thread(LoadedModel.open, bundle, sessions)
        costs = await asyncio.to_thread(warm_up, model, settings.max_items)
        manifest = model.manifest
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
        return ServedModel(model, scheduler, metrics, watched, datetime.now(UTC))

    async def _load(self, bundle: Path, alone: bool) -> ModelKey:
        async with self._loading:
            served = await self._open(bundle)
        key, runner = served.key, served.model.runner
        told = {"bundle": str(bundle), "model": key.name, "version": key.version}
        told |= {"provider": runner.provider, "decoding": runner.decoding}
        logger.info("a model is served", extra={FIELDS: told})
        replaced = [other for other in self._served if other == key or (alone and other.name == key.name)]
        leaving = [self._served.pop(other) for other in replaced]
        self._served[key] = served
        if alone or key.name not in self._answering:
            self._answering[key.name] = key
        await self._retire(leaving)
        return key

    async def _retire(self, leaving: list[ServedModel]) -> None:
        """Stop models that no new request gets, and empty the list, so that they can be freed."""
        while leaving:
            await leaving[-1].retire()
            self._metrics.model_gone(leaving.pop().metrics)
            gc.collect()  # reference cycles hold it, and would for several swaps
