"""Every Prometheus instrument, in one registry an app. Base units; labels are small closed sets.

Knows nothing of when anything happens: the code that does a thing reports it here.

Where several workers serve one port, their launcher sets `PROMETHEUS_MULTIPROC_DIR` before they start, to
a directory that it has emptied, and calls `prometheus_client.multiprocess.mark_process_dead` when one ends.
Whichever worker is scraped then answers for all: counts add up, and each gauge says below how it does.
"""

import asyncio
import os
from datetime import datetime
from functools import partial
from time import monotonic, time
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from bundle.manifest import Manifest
from bundle.reference import ENTROPY_NATS, LIST_SIZES, POSITIONS, SCORES
from engine.generation import Slate, Stop
from service.bodies.rerank import ContextResult, Fallback
from service.errors import Stage
from service.observe.drift import Counts, Drift
from service.observe.instruments import Histogram, Instruments
from service.observe.tracing import RequestRecord, current

FAST_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075)
LATENCY_SECONDS = (*FAST_SECONDS, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
STAGE_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, *LATENCY_SECONDS)
TOKENS = (0, 1, 2, 3, 5, 8, 12, 16, 24, 32, 48, 64)
BATCH = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
AGE_SECONDS = (1, 10, 60, 600, 3600, 6 * 3600, 86400, 3 * 86400, 7 * 86400, 30 * 86400)

_SHARED = "PROMETHEUS_MULTIPROC_DIR" in os.environ
"""Asked once, as prometheus_client does."""

WRITE_INTERVAL_S = 1.0
"""How far behind the figures of workers other than the scraped one may be."""


class _Timed:
    """A stage while it lasts. A class, because a generator's context manager takes three times as long."""

    __slots__ = ("_metrics", "_stage", "_started")

    def __init__(self, metrics: "Metrics", stage: Stage) -> None:
        self._metrics, self._stage = metrics, stage

    def __enter__(self) -> None:
        self._started = monotonic()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._metrics.stage_took(self._stage, self._started, monotonic(), current(), kind is not None)


class Metrics:
    """The instruments. `registry` is the app's own, so that one process may hold many apps."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._instruments = make = Instruments(self.registry, "rerank_")
        self._drift: Drift | None = None
        stages = get_args(Stage)

        self.requests = make.counters("requests_total", "Requests answered, errors too.", "endpoint", "code")
        self.request_duration = make.histograms(
            "request_duration_seconds", "Time to answer a request.", LATENCY_SECONDS, "endpoint"
        )
        self.stage_duration = make.histograms(
            "stage_duration_seconds",
            "Time of a rerank in each stage.",
            STAGE_SECONDS,
            "stage",
            initial=stages,
        )
        self.inflight = make.gauge("inflight_requests", "Requests being answered.", "livesum")
        self.queue_depth = make.gauge("queue_depth", "Requests waiting for inference.", "livesum")
        self.concurrency_limit = make.gauge(
            "concurrency_limit", "Most requests queued or in inference.", "livesum"
        )
        self.shed = make.counters(
            "shed_total",
            "Requests not tried, or dropped from the queue.",
            "reason",
            initial=("overload", "deadline"),
        )
        self.fallback = make.counters(
            "fallback_total", "Answers in the caller's order.", "reason", initial=get_args(Fallback)
        )
        self.deadline_exceeded = make.counters(
            "deadline_exceeded_total", "Deadlines passed, by stage.", "stage", initial=stages[:-1]
        )
        self.batch_size = make.histogram("batch_size", "Requests in an inference.", BATCH)
        self.list_size = make.histogram("list_size", "Items in a request.", LIST_SIZES)

        self.reasoning_tokens = make.histogram("reasoning_tokens", "Reasoning tokens of a list.", TOKENS)
        self.reasoning_stop = make.counters(
            "reasoning_stop_total", "Why a list's reasoning stopped.", "reason", initial=get_args(Stop)
        )
        self.reasoned_positions = make.counter(
            "reasoned_positions_total", "Positions with at least one reasoning token."
        )
        self.gate_entropy = make.histograms(
            "gate_entropy_nats",
            "Entropy of each position before and after reasoning.",
            ENTROPY_NATS,
            "position",
            "when",
        )
        self.score = make.histogram("score", "Probability of each chosen item among those left.", SCORES)

        self.context_lookups = make.counters(
            "context_lookups_total",
            "Lookups of a user's context.",
            "result",
            initial=(*get_args(ContextResult), "timeout"),
        )
        self.context_age = make.histogram(
            "context_age_seconds", "Age of a user's newest event at a rerank.", AGE_SECONDS
        )
        self.unknown_items = make.counter("unknown_items_total", "Items that the catalogue lacks.")
        self.cold_users = make.counter("cold_users_total", "Reranks of named users without any history.")
        self.feedback_events = make.counter("feedback_events_total", "Feedback events accepted.")

        self.model_loaded = make.gauges(
            "model_loaded", "1 for each served model.", "livemax", "model", "version"
        )
        self.model_created_timestamp = make.gauges(
            "model_created_timestamp_seconds", "When the bundle was written.", "livemax", "model", "version"
        )
        self.model_load_timestamp = make.gauge(
            "model_load_timestamp_seconds", "When the model was loaded.", "livemin"
        )
        self.provider_active = make.gauges(
            "provider_active",
            "1 for the active execution provider, 0 for one that was asked for and is not.",
            "livemin",
            "provider",
        )
        self.held_out_entropy = make.gauges(
            "held_out_entropy_nats",
            "Mean entropy on held-out lists, when the threshold was set.",
            "livemax",
            "position",
            "when",
        )
        self.held_out_trigger = make.gauge(
            "held_out_trigger_ratio", "Share of held-out positions that reason.", "livemax"
        )
        self.drift = make.gauges(
            "drift_psi",
            "Population stability index of recent lists against held-out ones.",
            "livemax",
            "signal",
            "position",
        )
        self.drift_lists = make.gauge("drift_window_lists", "Lists the indices are about.", "livemin")
        self._positions: list[tuple[Histogram, Histogram]] = []

    def stage(self, stage: Stage) -> "_Timed":
        """Time one stage of the current request, failed ones too: `with metrics.stage("parse"):`."""
        return _Timed(self, stage)

    def stage_took(
        self,
        stage: Stage,
        started: float,
        ended: float,
        record: RequestRecord | None,
        failed: bool = False,
    ) -> None:
        """Report a stage, in `time.monotonic()` seconds, of the request with this record."""
        self.stage_duration.labels(stage).observe(ended - started)
        if record is not None:
            record.stage(stage, started, ended, failed)

    def slate(self, slate: Slate) -> None:
        """Report a generated slate."""
        self.reasoning_tokens.observe(slate.reasoning_tokens)
        self.reasoning_stop.labels(slate.stop).inc()
        for place, position in enumerate(slate.positions):
            before, after = self._at(place)
            before.observe(position.entropy_before)
            after.observe(position.entropy_after)
            self.score.observe(position.probability)
            if position.reasoning_tokens:
                self.reasoned_positions.inc()

    def model(self, manifest: Manifest, wanted: str, active: str, drift_window: int) -> None:
        """Report a model that is served from now on, and what drift is judged against.

        Args:
            wanted, active: names of ONNX Runtime execution providers.
            drift_window: lists that drift is judged by.
        """
        name, gate = (manifest.name, manifest.version), manifest.gate
        self.model_loaded.labels(*name).set(1)
        self.model_created_timestamp.labels(*name).set(datetime.fromisoformat(manifest.created).timestamp())
        self.model_load_timestamp.set(time())
        for provider in {wanted, active}:
            self.provider_active.labels(provider).set(provider == active)
        for when, entropies in gate.entropy_by_position.items():
            for place, entropy in enumerate(entropies[:POSITIONS]):
                self.held_out_entropy.labels(str(place), when).set(entropy)
        self.held_out_trigger.set(gate.trigger_rate)
        self._drift = None
        if gate.reference is not None and gate.reference.comparable:
            counts = partial(self._counts, len(gate.reference.entropy))
            self._drift = Drift(gate.reference, counts, drift_window)

    def model_gone(self, manifest: Manifest) -> None:
        """Report a model that is served no longer."""
        name = (manifest.name, manifest.version)
        if _SHARED:
            self.model_loaded.labels(*name).set(0)
            return
        self.model_loaded.remove(*name)
        self.model_created_timestamp.remove(*name)

    async def text(self) -> bytes:
        """The exposition format. Put together in a thread, because it takes milliseconds."""
        self.write()
        registry = self.registry
        if _SHARED:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return await asyncio.to_thread(generate_latest, registry)

    def write(self) -> None:
        """Bring all that was counted to where scrapes find it."""
        if self._drift is not None:
            for signal, index in self._drift.indices().items():
                self.drift.labels(*signal).set(index)
            self.drift_lists.set(self._drift.lists)
        self._instruments.write()

    async def keep_written(self) -> None:
        """Runs as long as the app, for the scrapes that another worker answers."""
        while _SHARED:
            self.write()
            await asyncio.sleep(WRITE_INTERVAL_S)

    def _at(self, place: int) -> tuple[Histogram, Histogram]:
        """Entropy before and after reasoning at a position."""
        place = min(place, POSITIONS)
        while place >= len(self._positions):
            label = str(len(self._positions)) if len(self._positions) < POSITIONS else f"{POSITIONS}+"
            before, after = (
                self.gate_entropy.labels(label, "before"),
                self.gate_entropy.labels(label, "after"),
            )
            self._positions.append((before, after))
        return self._positions[place]

    def _counts(self, positions: int) -> Counts:
        """What `Drift` compares."""
        entropy = [tuple(self._at(place)[0].counts) for place in range(positions)]
        scored, reasoned = sum(self.score.counts), int(self.reasoned_positions.value)
        return (
            *entropy,
            tuple(map(sum, zip(*entropy, strict=True))),
            (scored - reasoned, reasoned),
            tuple(self.score.counts),
            tuple(self.list_size.counts),
        )
