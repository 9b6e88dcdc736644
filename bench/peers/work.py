"""Everything of a rerank but the server: the same functions that our service calls, for every peer.

Left to the peer: HTTP, processes, queue and batching. Left out, to the peer's advantage: metrics, deadlines,
request ids, traces, and a store that is more than a dictionary.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time
from typing import Any, cast
from uuid import uuid4

import msgspec

from bench.payloads import users
from bundle.arrays import Arrays
from bundle.features.history import ANONYMOUS
from engine.generation import Slate
from engine.loaded_model import LoadedModel
from engine.settings import Decoding, SessionSettings
from loadtest.payloads import read_item_ids
from service.api.decoding import parse
from service.api.validation import check_rerank
from service.bodies.rerank import RerankRequest
from service.serving.preparation import prepare
from service.serving.registry import ServedModel
from service.serving.request_features import assemble, undeclared
from service.serving.reranking import _Rerank, _respond, free
from service.serving.rules import RuleLimits
from service.settings import Settings

BUNDLE = "BENCH_BUNDLE"
DECODING = "BENCH_DECODING"
PORT = "BENCH_PORT"
MAX_BATCH_SIZE = 16
"""As our service's own."""


@dataclass
class Job:
    """A request that is ready for the model."""

    rerank: _Rerank
    inputs: Arrays


class Work:
    """Opens the bundle and knows the users."""

    def __init__(self, bundle: Path | None = None, decoding: Decoding | None = None) -> None:
        bundle = bundle or Path(os.environ[BUNDLE])
        self._settings = Settings(bundle=bundle)
        decoding = decoding or cast(Decoding, os.environ.get(DECODING, "auto"))
        self._model = LoadedModel.open(bundle, SessionSettings(decoding=decoding))
        nothing = cast(Any, None)  # no place in a repository, no queue, no metrics, no watch
        self._served = ServedModel(nothing, self._model, nothing, nothing, nothing, datetime.now(UTC))
        self._users = users(read_item_ids(bundle))

    def prepare(self, body: bytes) -> Job:
        """Parse, validate, look the user up, assemble features."""
        request, features = parse(RerankRequest, body), self._model.features
        check_rerank(request, self._settings)
        prepared = prepare(self._model, request, RuleLimits())
        known = self._users.get(request.user_id or "")
        arrived, at, ignored = monotonic(), time(), undeclared(features, request)
        call = request, uuid4().hex, None, self._served, "", free, arrived, at, arrived + 1
        rerank = _Rerank(*call, *prepared, ignored)
        rerank.recommendation_id = uuid4().hex
        rerank.context = "miss" if known is None else "hit"
        return Job(rerank, assemble(features, request, prepared[0], known or ANONYMOUS, at, ignored))

    def infer(self, jobs: list[Job]) -> list[Slate]:
        """One call of the engine for a batch."""
        return self._model.generate([job.inputs for job in jobs], [job.rerank.controls for job in jobs])

    def answer(self, job: Job, slate: Slate) -> bytes:
        """The response's body."""
        took_ms = round((monotonic() - job.rerank.arrived) * 1000, 3)
        return msgspec.json.encode(
            _respond(job.rerank, slate, None, took_ms, self._settings.max_ignored_fields)
        )
