"""Requests in, lists out: the service's way of preparing and completing a list, in large batches.

Legend: B requests in a batch, N candidates.
"""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any, NamedTuple

import pyarrow as pa

from bundle.arrays import Arrays
from engine.generation import Controls, Slate
from engine.loaded_model import LoadedModel
from export.bulk.requests import BulkRequest, Record, RequestReader
from service.errors import InvalidRequestError
from service.serving.preparation import prepare
from service.serving.request_features import Ignored, Selection, assemble, undeclared
from service.serving.response import complete
from service.serving.rules import RuleLimits, Rules
from service.settings import Settings

BATCH = 64

RESULT = pa.struct(
    [("id", pa.string()), ("index", pa.int32()), ("score", pa.float64()), ("propensity", pa.float64())]
)
LISTS = pa.schema(
    [
        ("file", pa.dictionary(pa.int32(), pa.string())),
        ("row", pa.int64()),
        ("request_id", pa.string()),
        ("user_id", pa.string()),
        ("results", pa.list_(RESULT)),
        ("missing_ids", pa.list_(pa.string())),
        ("ignored", pa.list_(pa.struct([("field", pa.string()), ("reason", pa.string())]))),
        ("fallback", pa.string()),
        ("reasoning", pa.struct([("tokens", pa.int32()), ("judged", pa.int32()), ("stop", pa.string())])),
        ("shortened_by", pa.list_(pa.string())),
    ]
)
"""A row of the output: where its request stands, and what the service's answer says, in its words."""

REFUSED = pa.schema(
    [
        ("file", pa.dictionary(pa.int32(), pa.string())),
        ("row", pa.int64()),
        ("request_id", pa.string()),
        ("user_id", pa.string()),
        ("reason", pa.string()),
    ]
)


class _Prepared(NamedTuple):
    """A request on its way."""

    place: int
    request: BulkRequest
    selection: Selection
    rules: Rules | None
    controls: Controls
    wanted: int
    ignored: Ignored


class BulkReranker:
    """One model in one process."""

    def __init__(self, model: LoadedModel, settings: Settings, at: float) -> None:
        """`at`: unix seconds, the time of requests that do not say theirs."""
        self.model, self._at = model, at
        self._reader = RequestReader(model.features, settings)
        self._limits = RuleLimits(*(getattr(settings, name) for name in RuleLimits._fields))
        self._most_ignored = settings.max_ignored_fields

    def rerank(self, batch: pa.RecordBatch) -> tuple[list[Record | InvalidRequestError], list[Record | str]]:
        """The rows of a batch as they were read, and of each a row of `LISTS`, without where it is from; or
        why there is none."""
        rows = self._reader.rows(batch)
        answers: list[Record | str] = [""] * len(rows)
        ready = []
        for place, row in enumerate(rows):
            try:
                if isinstance(row, InvalidRequestError):
                    raise row
                one = self._prepared(place, row)
            except InvalidRequestError as error:
                answers[place] = _told(error)
                continue
            if one.selection.candidates and one.controls.slate_length:
                ready.append(one)
            else:
                answers[place] = self._answer(one, None)
        ready.sort(key=lambda one: len(one.selection.candidates))  # lists of like lengths need little padding
        for start in range(0, len(ready), BATCH):
            together: list[_Prepared] = []
            inputs: list[Arrays] = []
            for one in ready[start : start + BATCH]:
                try:
                    inputs.append(self._inputs(one))
                    together.append(one)
                except InvalidRequestError as error:
                    answers[one.place] = _told(error)
            for one, slate in zip(together, self._slates(together, inputs), strict=True):
                answers[one.place] = slate if isinstance(slate, str) else self._answer(one, slate)
        return rows, answers

    def _prepared(self, place: int, row: Record) -> _Prepared:
        """Raises: InvalidRequestError."""
        request = self._reader.read(row)
        selection, rules, controls, wanted = prepare(
            self.model, request.body, self._limits, rows=request.rows
        )
        features = self.model.features
        ignored = undeclared(features, request.body) + ([] if rules is None else rules.ignored)
        return _Prepared(place, request, selection, rules, controls, wanted, ignored)

    def _inputs(self, one: _Prepared) -> Arrays:
        """Raises: InvalidRequestError."""
        body, user, _ = one.request
        return assemble(self.model.features, body, one.selection, user, self._at, one.ignored)

    def _slates(self, batch: Sequence[_Prepared], inputs: Sequence[Arrays]) -> list[Slate | str]:
        """Of each its slate; or, of one that the model fails on, why."""
        if not batch:
            return []
        try:
            slates = self.model.generate(inputs, [one.controls for one in batch])
        except MemoryError:
            raise
        except Exception as error:
            if len(batch) > 1:
                return [self._slates([one], [own])[0] for one, own in zip(batch, inputs, strict=True)]
            return [f"the model failed on this request: {type(error).__name__}: {error}"]
        return [
            slate
            if all(isfinite(position.probability) for position in slate.positions)
            else "the model's probabilities are not finite"
            for slate in slates
        ]

    def _answer(self, one: _Prepared, slate: Slate | None) -> Record:
        body, positions = one.request.body, slate.positions if slate else ()
        placed = [one.selection.candidates[position.index] for position in positions]
        completion = complete(body, one.rules, placed, one.wanted)
        listed = placed + completion.items
        nothing = slate is None and (one.rules is None or one.rules.plan.length > 0)
        return {
            "request_id": body.request_id,
            "user_id": body.user_id,
            "results": (
                [body.items[index].id for index in listed],
                listed,
                [position.probability for position in positions],
                [position.propensity for position in positions],
            ),
            "missing_ids": one.selection.missing_ids,
            "ignored": [
                {"field": field, "reason": reason} for field, reason in one.ignored[: self._most_ignored]
            ],
            "fallback": "unknown" if nothing else None,
            "reasoning": None
            if slate is None
            else {"tokens": slate.reasoning_tokens, "judged": slate.judged, "stop": slate.stop},
            "shortened_by": completion.shortened_by or None,
        }


def lists_table(file: str, rows: Sequence[int], answers: Sequence[Record]) -> pa.Table:
    """As `LISTS`."""
    columns: list[pa.Array] = [_repeated(file, len(rows)), pa.array(rows, pa.int64())]
    for field in LISTS:
        if field.name in ("file", "row"):
            continue
        told = [answer[field.name] for answer in answers]
        columns.append(_results(told) if field.name == "results" else pa.array(told, field.type))
    return pa.Table.from_arrays(columns, schema=LISTS)


def refused_table(file: str, rows: Iterable[tuple[int, Record | InvalidRequestError, str]]) -> pa.Table:
    """As `REFUSED`, of the number, the row and the reason of each."""
    found = [
        (number, _text(row, "request_id"), _text(row, "user_id"), reason) for number, row, reason in rows
    ]
    columns = [
        pa.array(column, field.type)
        for column, field in zip(zip(*found, strict=True), [*REFUSED][1:], strict=True)
    ]
    return pa.Table.from_arrays([_repeated(file, len(found)), *columns], schema=REFUSED)


def _results(told: Sequence[tuple[list[str], list[int], list[float], list[float]]]) -> pa.Array:
    """Lists of `RESULT`, from its columns of each list; items that the model did not place have only two."""
    ids: list[str] = []
    places: list[int] = []
    scores: list[float | None] = []
    propensities: list[float | None] = []
    ends = [0]
    for of_ids, of_places, of_scores, of_propensities in told:
        others = [None] * (len(of_ids) - len(of_scores))
        ids += of_ids
        places += of_places
        scores += of_scores
        scores += others
        propensities += of_propensities
        propensities += others
        ends.append(len(ids))
    columns = zip((ids, places, scores, propensities), RESULT, strict=True)
    arrays = [pa.array(column, field.type) for column, field in columns]
    return pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()), pa.StructArray.from_arrays(arrays, fields=[*RESULT])
    )


def _repeated(file: str, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), [file])


def _text(row: Record | InvalidRequestError, name: str) -> str | None:
    value: Any = None if isinstance(row, InvalidRequestError) else row.get(name)
    return value if isinstance(value, str) else None


def _told(error: InvalidRequestError) -> str:
    return "; ".join(f"{fault.field}: {fault.message}" for fault in error.faults)
