"""Raw features of a request to the encoder's inputs, with every fault named by its path in the body.

Knows nothing of stores, queues or deadlines.
"""

import logging
import math
from binascii import a2b_base64
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from time import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Arrays
from bundle.features.assembly import Candidates, FeatureAssembler, Unknown
from bundle.features.catalogue import UNKNOWN
from bundle.features.fitting import Matrix, RecordEncoder
from bundle.features.history import UserContext
from bundle.timestamps import unix_seconds
from service.bodies.common import Features
from service.bodies.rerank import IgnoredReason, Item, RerankRequest
from service.bodies.users import Event
from service.errors import Fault, InvalidRequestError

logger = logging.getLogger(__name__)


Ignored = list[tuple[str, IgnoredReason]]
"""Paths of what a request sends in vain."""


class Selection(NamedTuple):
    """Which items of a request the model can rank. Both hold indices in the caller's order.

    Attributes:
        candidates: in the catalogue, or sent with features, or with a score that the model uses.
        unrankable: none of these; nothing is known of them but their id.
        missing_ids: every item the catalogue lacks.
        rows: every item's row of the catalogue.
        matrix: every item's features that were sent as a matrix.
    """

    candidates: Sequence[int]
    unrankable: list[int]
    missing_ids: list[str]
    rows: NDArray[np.int64]
    matrix: Matrix | None


def select(
    assembler: FeatureAssembler, request: RerankRequest, rows: NDArray[np.int64] | None = None
) -> Selection:
    """Tell candidates from items the model can say nothing about.

    Args:
        rows: every item's row of the catalogue, if they were looked up before.

    Raises:
        InvalidRequestError: the matrix of features is not what it says, or does not fit the model.
    """
    items, matrix = request.items, _read_matrix(assembler, request)
    if rows is None:
        rows = assembler.catalogue.rows([item.id for item in items])
    unknown = np.flatnonzero(rows == UNKNOWN).tolist()
    if not unknown:
        return Selection(range(len(items)), [], [], rows, matrix)
    told = set() if matrix is None else set(np.flatnonzero((~np.isnan(matrix.values)).any(axis=1)).tolist())
    unrankable = [
        index for index in unknown if index not in told and not _says_anything(assembler, items[index])
    ]
    left_out = set(unrankable)
    candidates = [index for index in range(len(items)) if index not in left_out]
    missing_ids = [items[index].id for index in unknown]
    return Selection(candidates, unrankable, missing_ids, rows, matrix)


def _read_matrix(assembler: FeatureAssembler, request: RerankRequest) -> Matrix | None:
    """Raises: InvalidRequestError."""
    sent = request.features_f32
    if sent is None:
        return None
    words = {field.name for field, _ in assembler.catalogue.encoder.token_fields}
    faults = [
        Fault(f"features_f32.names.{index}", f"feature {name!r}: not a number's")
        for index, name in enumerate(sent.names)
        if name in words
    ]
    if faults:
        raise InvalidRequestError(faults)
    try:
        data = a2b_base64(sent.data, strict_mode=True)
    except ValueError:
        raise _invalid("features_f32.data", "expected base64") from None
    shape = len(request.items), len(sent.names)
    expected = 4 * shape[0] * shape[1]
    if len(data) != expected:
        message = f"expected {shape[0]} x {shape[1]} float32, {expected} bytes, got {len(data)}"
        raise _invalid("features_f32.data", message)
    values = np.frombuffer(data, "<f4").reshape(shape)
    if np.isinf(values).any():
        raise _invalid("features_f32.data", "expected finite numbers, or NaN for absent ones")
    return Matrix(sent.names, values)


def _says_anything(assembler: FeatureAssembler, item: Item) -> bool:
    if item.score is not None and assembler.schema.initial_score:
        return True
    return item.features is not None and any(value is not None for value in item.features.values())


def undeclared(assembler: FeatureAssembler, request: RerankRequest) -> Ignored:
    """What a request sends in vain: the model has no field for it, and no rule is about it."""
    encoder, found = assembler.catalogue.encoder, set()
    names = encoder.names
    for item in request.items:
        if item.features and not item.features.keys() <= names:
            found |= item.features.keys() - names
    if found and (rules := request.constraints) is not None:
        found -= {rule.feature for rule in (*rules.at_most, *rules.at_least)}
    paths = [f"items.features.{name}" for name in sorted(found)]
    if request.features_f32 is not None:
        others = set(request.features_f32.names) - encoder.matrix_names
        paths += [f"features_f32.{name}" for name in sorted(others)]
    if request.context:
        others = request.context.keys() - assembler.context.names - {"timestamp"}
        paths += [f"context.{name}" for name in sorted(others)]
    return [(path, "undeclared") for path in paths]


def undeclared_of_profile(assembler: FeatureAssembler, profile: Features) -> list[str]:
    return sorted(profile.keys() - assembler.user.names)


def assemble(
    assembler: FeatureAssembler,
    request: RerankRequest,
    selection: Selection,
    user: UserContext,
    now: float,
    ignored: Ignored | None = None,
) -> Arrays:
    """The encoder's inputs for the candidates of a request; what has unknown values is added to `ignored`.

    `now`, in unix seconds, is the time of a request that does not say its own.

    Where a stored profile, or features of stored events, do not fit the model (they may have been written
    for another one), both are left out: it is no fault of this caller.

    Raises:
        InvalidRequestError: a feature is not of its declared kind, or numbers are beyond float32.
    """
    listed = _candidates(assembler, request, selection)
    timestamp = _timestamp(request.context, now)
    with np.errstate(all="ignore"):  # overflow is looked for below
        try:
            unknown = Unknown(set(), set())
            arrays = assembler.request(listed, user, request.context, timestamp, unknown)
            if ignored is not None:
                ignored += [(f"items.features.{name}", "unknown_value") for name in sorted(unknown.items)]
                ignored += [(f"context.{name}", "unknown_value") for name in sorted(unknown.context)]
        except ValueError:
            faults = _request_faults(assembler, request, selection.candidates, timestamp)
            if (first := next(faults, None)) is not None:
                raise InvalidRequestError(chain([first], faults)) from None
            logger.warning("what is stored of a user does not fit the model, and only ids of items counted")
            arrays = assembler.request(listed, user.without_features(), request.context, timestamp)
    if listed.features is None and listed.matrix is None and not (user.profile or request.context):
        return arrays  # what comes from the catalogue alone is finite
    if not (np.isfinite(arrays["candidate_numeric"]).all() and np.isfinite(arrays["user_numeric"]).all()):
        raise _invalid("items", "the features hold numbers too large to compare")
    return arrays


def _candidates(assembler: FeatureAssembler, request: RerankRequest, selection: Selection) -> Candidates:
    items: Sequence[Item] = request.items
    rows, matrix = selection.rows, selection.matrix
    if len(selection.candidates) < len(items):
        chosen = list(selection.candidates)
        items, rows = [items[index] for index in chosen], rows[chosen]
        matrix = matrix and Matrix(matrix.names, matrix.values[chosen])
    features = [item.features for item in items]
    scores = None
    if assembler.schema.initial_score:
        scores = [math.nan if item.score is None else item.score for item in items]
    return Candidates(
        ids=[item.id for item in items],
        features=features if any(features) else None,
        scores=scores,
        rows=rows,
        matrix=matrix,
    )


def check_profile(assembler: FeatureAssembler, profile: Features) -> None:
    """Raises: InvalidRequestError: a value is not of its declared kind."""
    faults = list(_record_faults(assembler.user, [("profile", profile)], time()))
    if faults:
        raise InvalidRequestError(faults)


def check_told(assembler: FeatureAssembler, field: str, events: Sequence[Event]) -> None:
    """Raises: InvalidRequestError: a feature that came with an event is not of its declared kind."""
    told = [(f"{field}.{index}.features", one.features) for index, one in enumerate(events) if one.features]
    if told and (faults := list(_record_faults(assembler.catalogue.encoder, told, time()))):
        raise InvalidRequestError(faults)


def _timestamp(context: Mapping[str, Any], now: float) -> float:
    timestamp = context.get("timestamp")
    return now if timestamp is None else unix_seconds(float(timestamp))


def _request_faults(
    assembler: FeatureAssembler, request: RerankRequest, candidates: Sequence[int], timestamp: float
) -> Iterator[Fault]:
    items = [(f"items.{index}.features", request.items[index].features) for index in candidates]
    sent = [(path, features) for path, features in items if features]
    yield from _record_faults(assembler.catalogue.encoder, sent, timestamp)
    yield from _record_faults(assembler.context, [("context", request.context)], timestamp)


def _record_faults(
    encoder: RecordEncoder, records: Sequence[tuple[str, Features]], timestamp: float
) -> Iterator[Fault]:
    """The features that do not fit, of records by their path: those of halves that do not."""
    if len(records) == 1:
        ((path, record),) = records
        declared = {field.name for field, _ in (*encoder.numeric_fields, *encoder.token_fields)}
        for name in declared & record.keys():
            if fault := _misfit(encoder, [{name: record[name]}], timestamp):
                yield Fault(f"{path}.{name}", fault)
    elif _misfit(encoder, [record for _, record in records], timestamp):
        middle = len(records) // 2
        yield from _record_faults(encoder, records[:middle], timestamp)
        yield from _record_faults(encoder, records[middle:], timestamp)


def _misfit(encoder: RecordEncoder, records: Sequence[Features], timestamp: float) -> str | None:
    """Why records cannot be written, if they cannot."""
    rows = len(records)
    numbers, tokens = np.zeros((rows, encoder.columns), np.float32), np.zeros((rows, encoder.slots), np.int32)
    try:
        encoder.write_rows(records, numbers, tokens, timestamp)
    except ValueError as fault:
        return str(fault)
    return None


def _invalid(field: str, message: str) -> InvalidRequestError:
    return InvalidRequestError([Fault(field, message)])
