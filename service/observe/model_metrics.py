"""The instruments of one served model: every series has the labels `model` and `version`.

The served model holds them, so that no request looks them up. Knows nothing of when anything happens.
"""

from collections.abc import Callable, Container, Iterable
from datetime import datetime
from functools import cached_property
from time import time
from typing import get_args

from bundle.manifest import Manifest
from bundle.reference import ENTROPY_NATS, LIST_SIZES, POSITIONS, SCORES
from engine.generation import Slate, Stop
from service.bodies.rerank import Fallback, IgnoredReason
from service.errors import Stage
from service.observe.drift import Counts, Drift
from service.observe.instruments import Histogram, Instruments
from service.observe.shadow_metrics import TOKENS, ShadowMetrics
from service.observe.stages import Stages

OTHER_FIELDS = "other"
MODEL_STAGES: tuple[Stage, ...] = ("rules", "features", "queue", "infer", "post")
BATCH = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class ModelMetrics(Stages):
    """Made by `Metrics.for_model`.

    Attributes:
        queued: returns the length of the model's queue; called at every scrape.
    """

    def __init__(self, make: Instruments) -> None:
        """`make` gives every instrument the model's labels."""
        super().__init__(make, MODEL_STAGES)
        self._make = make
        self._drift: Drift | None = None
        self.queued: Callable[[], int] = lambda: 0

        self.queue_depth = make.gauge("queue_depth", "Requests waiting for inference.", "sum")
        self.concurrency_limit = make.gauge(
            "concurrency_limit", "Most requests that may wait for inference.", "sum"
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
            "deadline_exceeded_total", "Deadlines passed, by stage.", "stage", initial=get_args(Stage)[:-1]
        )
        self.batch_size = make.histogram("batch_size", "Requests in an inference.", BATCH)
        self.list_size = make.histogram("list_size", "Items in a request.", LIST_SIZES)
        self.unknown_items = make.counter("unknown_items_total", "Items that the catalogue lacks.")

        self.constrained = make.counters(
            "constrained_requests_total",
            "Requests with constraints, by what came of them.",
            "result",
            initial=("whole", "shortened", "refused", "undecided", "late"),
        )

        self._ignored = make.counters(
            "ignored_fields_total",
            "Requests with a field that the model does not know, or does not know a value of.",
            "field",
            "reason",
        )
        self._ignored_names: set[str] = set()

        self.reasoning_tokens = make.histogram("reasoning_tokens", "Reasoning tokens of a list.", TOKENS)
        self.reasoning_stop = make.counters(
            "reasoning_stop_total", "Why a list's reasoning stopped.", "reason", initial=get_args(Stop)
        )
        self.judged_lists = make.histogram(
            "judged_lists", "Lists that a lookahead compared with its own.", TOKENS
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
        self._positions: list[tuple[Histogram, Histogram]] = []

        self.loaded = make.gauge("model_loaded", "1 for each served model.", "max")
        self.share = make.gauge("model_share", "Share of the requests for its name.", "max")
        self.created_timestamp = make.gauge(
            "model_created_timestamp_seconds", "When the bundle was written.", "max"
        )
        self.load_timestamp = make.gauge("model_load_timestamp_seconds", "When the model was loaded.", "min")
        self.provider_active = make.gauges(
            "provider_active",
            "1 for the active execution provider, 0 for one that was asked for and is not.",
            "min",
            "provider",
        )
        self.held_out_entropy = make.gauges(
            "held_out_entropy_nats",
            "Mean entropy on held-out lists, when the threshold was set.",
            "max",
            "position",
            "when",
        )
        self.held_out_trigger = make.gauge(
            "held_out_trigger_ratio", "Share of held-out positions that reason.", "max"
        )
        self.drift = make.gauges(
            "drift_psi",
            "Population stability index of recent lists against held-out ones.",
            "max",
            "signal",
            "position",
        )
        self.drift_lists = make.gauge("drift_window_lists", "Lists the indices are about.", "min")

    @cached_property
    def shadow(self) -> ShadowMetrics:
        """There once the model is a shadow."""
        return ShadowMetrics(self._make)

    def serving(self, manifest: Manifest, wanted: str, active: str, drift_window: int) -> None:
        """Report what is served from now on, and what drift is judged against.

        Args:
            wanted, active: names of ONNX Runtime execution providers.
            drift_window: lists that drift is judged by.
        """
        gate = manifest.gate
        self.loaded.set(1)
        self.created_timestamp.set(datetime.fromisoformat(manifest.created).timestamp())
        self.load_timestamp.set(time())
        for provider in {wanted, active}:
            self.provider_active.labels(provider).set(provider == active)
        for when, entropies in gate.entropy_by_position.items():
            for place, entropy in enumerate(entropies[:POSITIONS]):
                self.held_out_entropy.labels(str(place), when).set(entropy)
        self.held_out_trigger.set(gate.trigger_rate)
        reference = gate.reference
        if reference is not None and reference.comparable:
            self._drift = Drift(reference, lambda: self._counts(len(reference.entropy)), drift_window)

    def ignore(self, fields: Iterable[tuple[str, IgnoredReason]], most: int) -> None:
        """Report fields of a request that were ignored. The first `most` are named, as callers name them."""
        for field, reason in fields:
            if field not in self._ignored_names:
                if len(self._ignored_names) < most:
                    self._ignored_names.add(field)
                else:
                    field = OTHER_FIELDS
            self._ignored.labels(field, reason).inc()

    def slate(self, slate: Slate, pinned: Container[int] = ()) -> None:
        """Report a generated slate. Positions that were pinned tell nothing of the model."""
        self.reasoning_tokens.observe(slate.reasoning_tokens)
        self.reasoning_stop.labels(slate.stop).inc()
        if slate.judged:
            self.judged_lists.observe(slate.judged)
        for place, position in enumerate(slate.positions):
            if place in pinned:
                continue
            before, after = self._at(place)
            before.observe(position.entropy_before)
            after.observe(position.entropy_after)
            self.score.observe(position.probability)
            if position.reasoning_tokens:
                self.reasoned_positions.inc()

    def refresh(self) -> None:
        """Update the gauges that nobody sets as things happen."""
        self.queue_depth.set(self.queued())
        if self._drift is not None:
            for signal, index in self._drift.indices().items():
                self.drift.labels(*signal).set(index)
            self.drift_lists.set(self._drift.lists)

    def _at(self, place: int) -> tuple[Histogram, Histogram]:
        """Entropy before and after reasoning at a position."""
        place = min(place, POSITIONS)
        while place >= len(self._positions):
            label = str(len(self._positions)) if len(self._positions) < POSITIONS else f"{POSITIONS}+"
            before, after = (self.gate_entropy.labels(label, when) for when in ("before", "after"))
            self._positions.append((before, after))
        return self._positions[place]

    def _counts(self, positions: int) -> Counts:
        """What `Drift` compares."""
        entropy = [tuple(self._at(place)[0].counts) for place in range(positions)]
        scored, reasoned = sum(self.score.counts), self.reasoned_positions.value
        return (
            *entropy,
            tuple(map(sum, zip(*entropy, strict=True))),
            (scored - reasoned, reasoned),
            tuple(self.score.counts),
            tuple(self.list_size.counts),
        )
