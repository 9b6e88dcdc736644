"""How long each stage of a rerank takes: to the metrics, and to the request's trace."""

from collections.abc import Iterable
from time import monotonic

from service.errors import Stage
from service.observe.instruments import Instruments
from service.observe.tracing import RequestRecord, current

FAST_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075)
LATENCY_SECONDS = (*FAST_SECONDS, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
STAGE_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, *LATENCY_SECONDS)


class Stages:
    """Some of the stages, with the labels of `make`."""

    def __init__(self, make: Instruments, stages: Iterable[Stage]) -> None:
        self.stage_duration = make.histograms(
            "stage_duration_seconds",
            "Time of a rerank in each stage.",
            STAGE_SECONDS,
            "stage",
            initial=stages,
        )

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


class _Timed:
    """A stage while it lasts. A class, for a generator's context manager costs three times as much."""

    __slots__ = ("_stage", "_stages", "_started")

    def __init__(self, stages: Stages, stage: Stage) -> None:
        self._stages, self._stage = stages, stage

    def __enter__(self) -> None:
        self._started = monotonic()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stages.stage_took(self._stage, self._started, monotonic(), current(), kind is not None)
