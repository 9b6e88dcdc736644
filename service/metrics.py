"""Every Prometheus instrument, in one registry an app. Base units; labels are small closed sets.

Knows nothing of when anything happens: the code that does a thing reports it here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest

from service.engine.generation import Slate
from service.errors import Stage
from service.tracing import RequestRecord, current

FAST_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075)
LATENCY_SECONDS = (*FAST_SECONDS, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
ENTROPY_NATS = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
TOKENS = (0, 1, 2, 3, 5, 8, 12, 16, 24, 32, 48, 64)
LENGTHS = (1, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500)
BATCH = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
AGE_SECONDS = (1, 10, 60, 600, 3600, 6 * 3600, 86400, 3 * 86400, 7 * 86400, 30 * 86400)
POSITIONS = 20
"""Positions told apart; later ones share the label `20+`, so that the label stays a small set."""


class Metrics:
    """The instruments. `registry` is the app's own, so that one process may hold many apps."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"rerank_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"rerank_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"rerank_{name}", text, labels, buckets=buckets, registry=registry)

        self.requests = counter("requests_total", "Requests answered, errors too.", "endpoint", "code")
        self.request_duration = histogram(
            "request_duration_seconds", "Time to answer a request.", LATENCY_SECONDS, "endpoint"
        )
        self.stage_duration = histogram(
            "stage_duration_seconds", "Time of a rerank in each stage.", LATENCY_SECONDS, "stage"
        )
        self.inflight = gauge("inflight_requests", "Requests being answered.")
        self.queue_depth = gauge("queue_depth", "Requests waiting for inference.")
        self.concurrency_limit = gauge("concurrency_limit", "Most requests queued or in inference.")
        self.shed = counter("shed_total", "Requests not tried, or dropped from the queue.", "reason")
        self.fallback = counter("fallback_total", "Answers in the caller's order.", "reason")
        self.deadline_exceeded = counter("deadline_exceeded_total", "Deadlines passed, by stage.", "stage")
        self.batch_size = histogram("batch_size", "Requests in an inference.", BATCH)
        self.list_size = histogram("list_size", "Items in a request.", LENGTHS)
        self.reasoning_tokens = histogram("reasoning_tokens", "Reasoning tokens of a list.", TOKENS)
        self.reasoning_stop = counter("reasoning_stop_total", "Why a list's reasoning stopped.", "reason")
        self.gate_entropy = histogram(
            "gate_entropy_nats", "Entropy before and after reasoning, every position.", ENTROPY_NATS, "when"
        )
        self.position_entropy = Summary(
            "rerank_position_entropy_nats",
            "Entropy before and after reasoning, by position.",
            ("position", "when"),
            registry=registry,
        )
        self.context_lookups = counter("context_lookups_total", "Lookups of a user's context.", "result")
        self.context_age = histogram(
            "context_age_seconds", "Age of a user's newest event at a rerank.", AGE_SECONDS
        )
        self.unknown_items = counter("unknown_items_total", "Items that the catalogue lacks.")
        self.cold_users = counter("cold_users_total", "Reranks of named users without any history.")
        self.feedback_events = counter("feedback_events_total", "Feedback events accepted.")
        self.model_loaded = gauge("model_loaded", "1 for each served model.", "model", "version")
        self.model_load_timestamp = gauge("model_load_timestamp_seconds", "When the model was loaded.")
        self.provider_active = gauge("provider_active", "1 for the active execution provider.", "provider")
        self._before = self._entropies("before")
        self._after = self._entropies("after")

    def _entropies(self, when: str) -> tuple[Histogram, list[Summary]]:
        positions = [*map(str, range(POSITIONS)), f"{POSITIONS}+"]
        return self.gate_entropy.labels(when), [self.position_entropy.labels(p, when) for p in positions]

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Time one stage of the current request, failed ones too."""
        started, failed = monotonic(), True
        try:
            yield
            failed = False
        finally:
            self.stage_took(stage, started, monotonic(), current(), failed)

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
        (all_before, before), (all_after, after) = self._before, self._after
        for index, position in enumerate(slate.positions):
            place = min(index, POSITIONS)
            all_before.observe(position.entropy_before)
            before[place].observe(position.entropy_before)
            all_after.observe(position.entropy_after)
            after[place].observe(position.entropy_after)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
