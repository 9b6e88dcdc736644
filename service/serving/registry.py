"""The models being served: loading, warm-up, swap, look-up by name. One bundle, for now.

Knows nothing of requests.
"""

import asyncio
import gc
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, time
from typing import Self

from bundle.features.assembly import Candidates
from bundle.features.history import ANONYMOUS
from engine.cpu_quota import threads_each
from engine.generation import Controls
from engine.loaded_model import LoadedModel
from engine.sessions import PROVIDERS
from engine.settings import SessionSettings
from service.bodies.models import Defaults, GateInfo, ModelInfo
from service.errors import NotFoundError, UnavailableError
from service.observe.metrics import Metrics
from service.serving.scheduler import Scheduler
from service.settings import Settings

WARM_UP_ROUNDS = 3


@dataclass
class ServedModel:
    """A loaded model and the scheduler that runs it. `with served:` holds it for a request."""

    model: LoadedModel
    scheduler: Scheduler
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

    @property
    def info(self) -> ModelInfo:
        manifest = self.model.manifest
        return ModelInfo(
            name=manifest.name,
            version=manifest.version,
            dataset=manifest.dataset,
            created=manifest.created,
            reasoner=manifest.reasoner,
            decoder=manifest.decoder,
            gate=GateInfo.model_validate(manifest.gate.model_dump(include=set(GateInfo.model_fields))),
            defaults=Defaults.model_validate(manifest.model_dump(include=set(Defaults.model_fields))),
            provider=self.model.runner.provider,
            loaded_at=self.loaded_at.isoformat(),
        )


class Models:
    """Served models by name. The first loaded answers where none is named."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._served: dict[str, ServedModel] = {}
        self._loading = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._served)

    async def load(self, bundle: Path) -> None:
        """Open a bundle, warm it up, then serve it in place of the model of that name, if there is one.

        From one request to the next the new model answers. Those that began with the old one end with it;
        then it is stopped, and this returns.

        Raises:
            BundleError: it is missing, corrupted, of another contract, or cannot be loaded.
        """
        async with self._loading:
            old = await self._swap_in(bundle)
        if old is not None:
            await old.retire()
            del old
            gc.collect()  # reference cycles hold it, and would for several swaps

    async def _swap_in(self, bundle: Path) -> ServedModel | None:
        """Serve a bundle. Returns the model it takes the place of."""
        settings, metrics = self._settings, self._metrics
        sessions = SessionSettings(
            provider=settings.provider,
            decoding=settings.decoding,
            intra_op_threads=settings.intra_op_threads or threads_each(settings.workers),
            require_provider=settings.require_provider,
            keep_freed_mib=settings.keep_freed_mib,
        )
        model = await asyncio.to_thread(LoadedModel.open, bundle, sessions)
        scheduler = Scheduler(
            model.generate,
            metrics,
            max_batch_size=settings.max_batch_size,
            max_concurrency=settings.max_concurrency,
            inline_ms=settings.inline_ms,
            seconds_per_micro_step=await asyncio.to_thread(warm_up, model),
        )
        scheduler.start()
        old = self._served.get(model.manifest.name)
        self._served[model.manifest.name] = ServedModel(model, scheduler, datetime.now(UTC))
        if old is not None:
            metrics.model_gone(old.model.manifest)
        metrics.model(
            model.manifest, PROVIDERS[settings.provider], model.runner.provider, settings.drift_window
        )
        return old

    def get(self, name: str | None = None) -> ServedModel:
        """A served model.

        Raises:
            UnavailableError: nothing is loaded yet.
            NotFoundError: none has this name.
        """
        if not self._served:
            raise UnavailableError("no model is loaded yet")
        if name is None:
            return next(iter(self._served.values()))
        if name not in self._served:
            raise NotFoundError(f"no model {name!r}; served: {', '.join(self._served)}")
        return self._served[name]

    def all(self) -> list[ServedModel]:
        return list(self._served.values())

    async def stop(self) -> None:
        for served in self._served.values():
            await served.scheduler.stop()


def warm_up(model: LoadedModel) -> float:
    """Run lists of the catalogue through every path, so that no caller pays for first allocations.

    Returns:
        Seconds per micro-step of the last run.
    """
    ids = model.features.catalogue.ids[:50] or ["unknown"]
    seconds = 0.0
    for _ in range(WARM_UP_ROUNDS):
        for length in (1, len(ids)):
            inputs = model.features.request(Candidates(ids[:length]), ANONYMOUS, {}, time())
            controls = Controls.default(model.manifest, min(model.manifest.slate_length, length))
            started = perf_counter()
            (slate,) = model.generate([inputs], [controls])
            seconds = (perf_counter() - started) / slate.micro_steps
    return seconds
