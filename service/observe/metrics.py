"""Metrics of requests and of the context store; `for_model` has those of each model. One object per app.

Base units; labels are small closed sets. Knows nothing of when anything happens: the code that does a thing
reports it here.

Where several workers serve one port, each has a file for its figures (see `families`), and whichever worker
is scraped answers for all.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal, get_args

from prometheus_client import generate_latest

from service.bodies.rerank import ContextResult, Fallback
from service.bodies.users import IgnoredReason
from service.observe.families import Exposed, Families, Kind, add_up, decode, read_others, write
from service.observe.instruments import Instruments
from service.observe.model_metrics import ModelMetrics
from service.observe.process import Process
from service.observe.stages import LATENCY_SECONDS, Stages

AGE_SECONDS = (1, 10, 60, 600, 3600, 6 * 3600, 86400, 3 * 86400, 7 * 86400, 30 * 86400)

WRITE_INTERVAL_S = 1.0
"""How far behind the figures of workers other than the scraped one may be."""

Refused = Literal["connections", "malformed", "headers", "timeout", "unread", "held_bytes", "shutdown"]
"""Why a request was refused before a route saw it whole."""

LineDropped = Literal["buffer", "sink", "unencodable"]
"""Why a line is not in the decision log: more came than could be written; the sink failed; it is no JSON."""

Outcome = Literal["served", "shed", "invalid", "failed"]
"""Of an answer: given, if only as a fallback; refused untried, by 429 or the fallback `overload`, hence fast
however slow the service is; the caller's fault; the service's fault."""

LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)

logger = logging.getLogger(__name__)


def outcome_of(code: int, fallback: Fallback | None) -> Outcome:
    if code >= 500:
        return "failed"
    if code == 429 or fallback == "overload":
        return "shed"
    return "invalid" if code >= 400 else "served"


class Metrics(Stages):
    """The instruments that speak of no model, and the exposition of all.

    Attributes:
        store_answers: tells whether the context store does; called at every scrape.
    """

    def __init__(self, path: Path | None = None) -> None:
        """
        Args:
            path: the file of one worker among several. Counting continues from what it holds.
        """
        self._path, self._writable = path, True
        self._instruments = Instruments(_inherited(path))
        self._models: dict[tuple[str, str], ModelMetrics] = {}
        super().__init__(self._instruments.labelled(model="", version=""), ("parse", "context"))
        make = self._instruments

        self.requests = make.counters("requests_total", "Requests answered, errors too.", "endpoint", "code")
        self.request_duration = make.histograms(
            "request_duration_seconds", "Time to answer a request.", LATENCY_SECONDS, "endpoint", "outcome"
        )
        self.inflight = make.gauge("inflight_requests", "Requests being answered.", "sum")
        self.loop_lag = make.histogram(
            "event_loop_lag_seconds", "How late the event loop came to what was due, every 5 ms.", LAG_SECONDS
        )
        self._process = Process(make)
        make.counter("worker_restarts_total", "Workers restarted.")  # the supervisor counts
        self.connections = make.gauge("open_connections", "Connections that are open.", "sum")
        self.refused = make.counters(
            "refused_total",
            "Connections and requests that ended at a limit of the server's.",
            "reason",
            initial=get_args(Refused),
        )
        self.context_lookups = make.counters(
            "context_lookups_total",
            "Lookups of a user's context.",
            "result",
            initial=(*get_args(ContextResult), "timeout", "not_asked"),
        )
        self.store_answers: Callable[[], bool] = lambda: True
        self._store_up = make.gauge(
            "context_store_up", "1 while the context store answers, as far as it was asked.", "min"
        )
        self.context_faults = make.counters(
            "context_faults_total",
            "What was wrong with what is kept of one user.",
            "reason",
            initial=("corrupt", "too_large", "refused_write"),
        )
        self.context_age = make.histogram(
            "context_age_seconds", "Age of a user's newest event at a rerank.", AGE_SECONDS
        )
        self.cold_users = make.counter("cold_users_total", "Reranks of named users without any history.")
        self.feedback_events = make.counter("feedback_events_total", "Feedback events accepted.")
        self.feedback_ignored = make.counters(
            "feedback_events_ignored_total",
            "Of these, events that count for nothing.",
            "reason",
            initial=get_args(IgnoredReason),
        )
        # The next are counted by the decision log's threads, each series by one of them.
        self.decisions = make.counter("decision_lines_total", "Lines of the decision log that were written.")
        self.decision_bytes = make.counter("decision_bytes_total", "Bytes of these lines.")
        self.decisions_dropped = make.counters(
            "decision_lines_dropped_total",
            "Lines of the decision log that were not written.",
            "reason",
            initial=get_args(LineDropped),
        )
        self.decisions_waiting = make.gauge("decision_lines_waiting", "Lines that wait to be written.", "sum")
        self.decision_files_removed = make.counter(
            "decision_files_removed_total", "Files of the decision log removed to make room."
        )
        self.decision_log_up = make.gauge(
            "decision_log_up", "1 while the decision log can be written, or there is none.", "min"
        )
        self.decision_log_up.set(True)

    def declare(self, endpoint: str, codes: Iterable[int | str]) -> None:
        """Show a route's answers at 0 from the start, so that the first of a kind is seen as an increase."""
        for code in codes:
            self.requests.labels(endpoint, str(code))
        for outcome in get_args(Outcome):
            self.request_duration.labels(endpoint, outcome)

    def for_model(self, name: str, version: str) -> ModelMetrics:
        """The instruments of a model. If it is loaded already, counters continue and gauges start anew."""
        make = self._instruments.labelled(model=name, version=version)
        make.remove("gauge")
        self._models[name, version] = made = ModelMetrics(make)
        return made

    def model_gone(self, model: ModelMetrics) -> None:
        """Stop showing a model, unless another one of its name and version has taken its place."""
        for name, version in [key for key, known in self._models.items() if known is model]:
            del self._models[name, version]
            make = self._instruments.labelled(model=name, version=version)
            make.remove(*get_args(Kind), retire=self._path is not None)

    def families(self) -> Families:
        """All families of this process as they are now, those without any series too."""
        return decode(self._encoded())

    async def text(self) -> bytes:
        """The exposition format. Put together in a thread, for it takes milliseconds."""
        return await asyncio.to_thread(self._text, self._encoded())

    @asynccontextmanager
    async def kept_written(self) -> AsyncIterator[None]:
        """Meanwhile, and once at the end, write figures for the scrapes that other workers answer."""
        if self._path is None:
            yield
            return
        over = asyncio.Event()
        writing = asyncio.create_task(self._keep_writing(self._path, over))
        try:
            yield
        finally:
            over.set()
            await writing

    async def _keep_writing(self, path: Path, over: asyncio.Event) -> None:
        last = False
        while not last:
            last = over.is_set()
            await asyncio.to_thread(self._write, path, self._encoded())
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), WRITE_INTERVAL_S)

    def _encoded(self) -> bytes:
        self._process.refresh()
        self._store_up.set(self.store_answers())
        for model in self._models.values():
            model.refresh()
        return self._instruments.encoded()

    def _text(self, own: bytes) -> bytes:
        others = () if self._path is None else read_others(self._path)
        return generate_latest(Exposed(add_up((decode(own), *others))))

    def _write(self, path: Path, families: bytes) -> None:
        try:
            write(path, families)
        except OSError as error:
            if self._writable:  # once, not every second
                logger.error("the figures of this worker are not up to date where others answer: %s", error)
            self._writable = False
        else:
            self._writable = True


def _inherited(path: Path | None) -> Families:
    """Counts of the worker before. Those of models are not shown until a model is loaded again."""
    if path is None or not path.exists():
        return {}
    families = {name: one for name, one in decode(path.read_bytes()).items() if one.kind != "gauge"}
    for family in families.values():
        if "model" in family.labels:
            family.retired |= family.series
            family.series = {}
    return families
