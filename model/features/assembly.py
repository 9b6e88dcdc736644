"""A request to the encoder's inputs: the one place where derived features are computed.

Legend: N candidates, H history events. Names and axes of the outputs are those of
`model.contract.ENCODER_INPUTS`, without the batch axis until `collate` adds it.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.contract import ENCODER_INPUTS, FEEDBACK_IMPRESSION, FEEDBACK_POSITIVE
from model.features.catalogue import UNKNOWN, Catalogue
from model.features.fitting import FittedFeatures, Matrix, RecordEncoder
from model.features.history import UserContext, collapse
from model.features.schema import FieldSpec

Floats = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]

AFFINITY_PRIOR = 2.0
"""Pseudo-events that pull a user's like rate of a value towards the user's overall rate."""

_FEEDBACK = np.array([FEEDBACK_IMPRESSION, FEEDBACK_POSITIVE], np.int32)
_NO_ROWS, _NO_LIKES = np.zeros(0, np.int64), np.zeros(0, bool)


class Candidates(NamedTuple):
    """Candidates of one request, in the caller's order.

    Attributes:
        ids: item ids.
        features: raw features sent with a candidate, which go before the catalogue's; None for most.
        scores: the caller's score of each candidate, NaN where absent; None where no score was sent.
        rows: their rows of the catalogue, if they were looked up before.
        matrix: numbers sent for all of them, which go before the catalogue's and after `features`.
    """

    ids: Sequence[str]
    features: Sequence[Mapping[str, Any] | None] | None = None
    scores: Sequence[float] | None = None
    rows: NDArray[np.int64] | None = None
    matrix: Matrix | None = None


class FeatureAssembler:
    """Writes the encoder's inputs of a request from fitted features and the catalogue."""

    def __init__(self, fitted: FittedFeatures, catalogue: Catalogue) -> None:
        self.schema = fitted.feature_schema
        self.fitted, self.catalogue = fitted, catalogue
        self.user, self.context = RecordEncoder(fitted, "user"), RecordEncoder(fitted, "context")
        item = catalogue.encoder
        ctr = [item.columns] if self.schema.item_ctr else []
        self._items = self._with_ctr(catalogue)
        affine = [(field, place) for field, place in item.numeric_fields if field.affinity]
        ranked = [place.start for field, place in item.numeric_fields if field.list_rank]
        scalars = [place.start for field, place in affine if field.kind != "vector"]
        self._ranked, self._affine = np.array(ranked + ctr, np.intp), np.array(scalars + ctr, np.intp)
        self._affine_vectors = [place for field, place in affine if field.kind == "vector"]
        self._token_affinity = _TokenAffinity(fitted, item.token_fields)

    @property
    def item_columns(self) -> list[str]:
        """Names of the columns that belong to the item alone; history events have just these."""
        names = []
        for field, _ in self.catalogue.encoder.numeric_fields:
            names += [f"{field.name}[{i}]" for i in range(field.columns)] if field.size else [field.name]
        return names + (["item_ctr", "item_impressions"] if self.schema.item_ctr else [])

    @property
    def candidate_columns(self) -> list[str]:
        """Names of all columns of `candidate_numeric`, in order."""
        ranked = [f.name for f, _ in self.catalogue.encoder.numeric_fields if f.list_rank]
        affine = [f.name for f, _ in self.catalogue.encoder.numeric_fields if f.affinity and not f.size]
        vectors = [f.name for f, _ in self.catalogue.encoder.numeric_fields if f.affinity and f.size]
        tokens = [f.name for f, _ in self.catalogue.encoder.token_fields if f.affinity]
        ctr = ["item_ctr"] if self.schema.item_ctr else []
        return [
            *self.item_columns,
            "initial_position",
            *(["initial_score", "list_rank:initial_score"] if self.schema.initial_score else []),
            *(f"list_rank:{name}" for name in ranked + ctr),
            *(f"affinity:{name}" for name in affine + ctr + vectors),
            *(f"affinity:{name}" for name in tokens),
            *(f"liked:{name}" for name in tokens),
        ]

    @property
    def user_columns(self) -> int:
        return self.user.columns + self.context.columns + 2

    @property
    def slot_fields(self) -> list[int]:
        """Field index of each token slot of an item; one unused slot where items have no tokens."""
        item = self.catalogue.encoder
        return [i for i, (field, _) in enumerate(item.token_fields) for _ in range(field.slots)] or [0]

    @property
    def user_slots(self) -> int:
        return max(self.user.slots + self.context.slots, 1)

    def request(
        self,
        candidates: Candidates,
        user: UserContext,
        context: Mapping[str, Any],
        timestamp: float,
    ) -> Arrays:
        """Encoder inputs of one request, without the batch axis and the candidate mask.

        Args:
            timestamp: unix seconds that ages count back from.

        Raises:
            ValueError: a raw feature is not of its declared kind; the message names the field.
        """
        rows = self.catalogue.rows(candidates.ids) if candidates.rows is None else candidates.rows
        numbers, tokens = self._known(rows, timestamp)
        if candidates.matrix is not None:
            self.catalogue.encoder.write_matrix(candidates.matrix, numbers, timestamp)
        if candidates.features is not None:
            self._write_sent(candidates.features, numbers, tokens, timestamp)
        history_rows, liked = self._history(user)
        history_numbers, history_tokens = self._known(history_rows, timestamp)

        columns = [numbers, _initial_position(len(rows))]
        if self.schema.initial_score:
            columns.append(_initial_scores(candidates.scores, len(rows)))
        if len(self._ranked):
            columns.append(_share_below(numbers.take(self._ranked, axis=1)))
        columns.append(self._affinities(numbers, history_numbers, liked))
        columns.append(self._token_affinity(tokens, history_tokens, liked))
        user_numeric, user_tokens = self._user(user.profile, context, timestamp, liked)
        return {
            "candidate_numeric": np.concatenate(columns, axis=1),
            "candidate_tokens": _at_least_one_slot(tokens),
            "user_numeric": user_numeric,
            "user_tokens": user_tokens,
            "history_numeric": history_numbers,
            "history_tokens": _at_least_one_slot(history_tokens),
            "history_feedback": _FEEDBACK[liked.view(np.int8)],
        }

    def _with_ctr(self, catalogue: Catalogue) -> Floats:
        """Item columns of the catalogue, with the smoothed click rate (log odds over the mean's) and log
        impressions. `[items + 1, item columns]`."""
        if not self.schema.item_ctr:
            return catalogue.numbers
        clicks, impressions = catalogue.clicks, catalogue.impressions
        prior, mean = self.schema.ctr_prior_impressions, min(max(self.fitted.mean_ctr, 1e-4), 1 - 1e-4)
        rate = (clicks + prior * mean) / (impressions + prior)
        log_odds = np.log(rate / (1 - rate)) - np.log(mean / (1 - mean))
        volume = np.log1p(impressions) / 5.0
        return np.column_stack([catalogue.numbers, log_odds, volume]).astype(np.float32)

    def _known(self, rows: NDArray[np.int64], timestamp: float) -> tuple[Floats, NDArray[np.int32]]:
        """What the catalogue knows of items: copies of its item columns and token slots."""
        numbers = self._items.take(rows, axis=0)
        if len(rows):
            self.catalogue.write_ages(numbers, rows, timestamp)
        return numbers, self.catalogue.tokens.take(rows, axis=0)

    def _write_sent(
        self,
        features: Sequence[Mapping[str, Any] | None],
        numbers: Floats,
        tokens: NDArray[np.int32],
        timestamp: float,
    ) -> None:
        """Write the features sent with candidates over the catalogue's."""
        sent = [index for index, record in enumerate(features) if record]
        if not sent:
            return
        encoder, records = self.catalogue.encoder, [features[index] or {} for index in sent]
        if len(sent) == len(numbers):
            encoder.write_rows(records, numbers, tokens, timestamp)
            return
        some_numbers, some_tokens = numbers[sent], tokens[sent]
        encoder.write_rows(records, some_numbers, some_tokens, timestamp)
        numbers[sent], tokens[sent] = some_numbers, some_tokens

    def _history(self, user: UserContext) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Catalogue rows of the latest events, and whether each was liked; unknown items are passed over."""
        if not user.history:
            return _NO_ROWS, _NO_LIKES
        events = collapse(user.history, self.schema.positive_types, self.schema.history_length)
        rows, liked = self.catalogue.rows(item_id for item_id, _ in events), [like for _, like in events]
        known = rows != UNKNOWN
        if known.all():
            return rows, np.array(liked, bool)
        return rows[known], np.array(liked, bool)[known]

    def _affinities(self, numbers: Floats, history: Floats, liked: NDArray[np.bool_]) -> Floats:
        """Agreement with what the user liked: direction of preference for numbers, cosine for vectors."""
        width = len(self._affine) + len(self._affine_vectors)
        likes = int(np.count_nonzero(liked))
        if not width or likes == 0 or likes == len(liked):
            return np.zeros((len(numbers), width), np.float32)
        weights = np.where(liked, 1.0 / likes, -1.0 / (len(liked) - likes)).astype(np.float32)
        direction = weights @ history  # mean of the liked less mean of the others
        parts = [numbers.take(self._affine, axis=1) * direction.take(self._affine)]
        for place in self._affine_vectors:
            vectors, taste = numbers[:, place], direction[place]
            norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(taste)
            parts.append((vectors @ taste / np.maximum(norms, 1e-6))[:, None])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _user(
        self,
        profile: Mapping[str, Any],
        context: Mapping[str, Any],
        timestamp: float,
        liked: NDArray[np.bool_],
    ) -> tuple[Floats, NDArray[np.int32]]:
        numbers, tokens = np.zeros(self.user_columns, np.float32), np.zeros(self.user_slots, np.int32)
        split, slot = self.user.columns, self.user.slots
        self.user.write(profile, numbers[:split], tokens[:slot], timestamp)
        self.context.write(context, numbers[split:], tokens[slot:], timestamp)
        rate = (np.count_nonzero(liked) + self.fitted.mean_ctr) / (len(liked) + 1.0)
        numbers[-2], numbers[-1] = math.log1p(len(liked)) / 3.0, 2.0 * (rate - self.fitted.mean_ctr)
        return numbers, tokens


class _TokenAffinity:
    """Per field: the user's smoothed like rate of the candidate's values over the user's own rate, and how
    often those values were liked, both averaged over the values known.

    With s events of a value, l of them liked, a user's own rate r and a prior p, the smoothed rate over
    the user's own is (l + p r) / (s + p) - r = (l - s r) / (s + p): 0 for a value never seen, and padding.
    """

    def __init__(self, fitted: FittedFeatures, token_fields: Sequence[tuple[FieldSpec, slice]]) -> None:
        places = [place for field, place in token_fields if field.affinity]
        slots = [slot for place in places for slot in range(place.start, place.stop)]
        owner = [field for field, place in enumerate(places) for _ in range(place.start, place.stop)]
        self._fitted, self._fields, self._slots = fitted, len(places), np.array(slots, np.intp)
        self._field_of_slot = np.eye(len(places))[np.array(owner, np.intp)]

    def __call__(
        self, tokens: NDArray[np.int32], history: NDArray[np.int32], liked: NDArray[np.bool_]
    ) -> Floats:
        """`[N, 2 fields]`, first the rates, then the counts."""
        fields = self._fields
        columns = np.zeros((len(tokens), 2 * fields), np.float32)
        if not fields or not len(liked):
            return columns
        values, past = tokens.take(self._slots, axis=1), history.take(self._slots, axis=1)
        size, mean_ctr = self._fitted.vocabulary_size, self._fitted.mean_ctr
        own_rate = (np.count_nonzero(liked) + AFFINITY_PRIOR * mean_ctr) / (len(liked) + AFFINITY_PRIOR)
        seen_count = np.bincount(past.ravel(), minlength=size)
        liked_count = np.bincount(past[liked].ravel(), minlength=size)
        seen_count[0] = liked_count[0] = 0  # padding
        seen, likes = seen_count.take(values), liked_count.take(values)
        known = np.maximum((values > 0).astype(np.float64) @ self._field_of_slot, 1.0)
        lift = (likes - own_rate * seen) / (seen + AFFINITY_PRIOR)
        columns[:, :fields] = lift @ self._field_of_slot / known
        columns[:, fields:] = np.log1p(likes) @ self._field_of_slot / known
        return columns


def collate(requests: Sequence[Arrays]) -> Arrays:
    """Stack requests of different N and H into padded batches, and add `candidate_mask`.

    Returns:
        One array for each of `ENCODER_INPUTS`, `[B, ...]`; padding is 0 and False.
    """
    if len(requests) == 1 and len(requests[0]["history_numeric"]):  # nothing to pad, nothing to copy
        alone = {name: array[None] for name, array in requests[0].items()}
        return alone | {"candidate_mask": np.ones(alone["candidate_numeric"].shape[:2], bool)}
    longest = max(len(request["candidate_numeric"]) for request in requests)
    past = max(1, *(len(request["history_numeric"]) for request in requests))
    batch: Arrays = {}
    for spec in ENCODER_INPUTS:
        if spec.name == "candidate_mask":
            lengths = np.array([len(request["candidate_numeric"]) for request in requests])
            batch[spec.name] = np.arange(longest) < lengths[:, None]
            continue
        rows = [request[spec.name] for request in requests]
        if spec.axes[1] in ("N", "H"):
            length = longest if spec.axes[1] == "N" else past
            padded = np.zeros((len(rows), length, *rows[0].shape[1:]), rows[0].dtype)
            for index, row in enumerate(rows):
                padded[index, : len(row)] = row
            batch[spec.name] = padded
        else:
            batch[spec.name] = np.stack(rows)
    return batch


@lru_cache(maxsize=4096)
def _initial_position(n: int) -> Floats:
    """Place in the caller's order, -1 the first and 1 the last. `[N, 1]`."""
    return np.linspace(-1.0, 1.0, n, dtype=np.float32)[:, None]


def _initial_scores(scores: Sequence[float] | None, n: int) -> Floats:
    """The caller's scores standardised within the list, and their list rank. `[N, 2]`."""
    values = np.full(n, np.nan) if scores is None else np.asarray(scores, np.float64)
    present = values[np.isfinite(values)]
    if len(present) == 0:
        return np.tile(np.array([0.0, 0.5], np.float32), (n, 1))
    values = np.nan_to_num(values, nan=float(present.mean()))
    spread = float(values.std())
    scaled = (values - values.mean()) / (spread if spread > 1e-6 else 1.0)
    ranks = _share_below(values[:, None])
    return np.concatenate([np.clip(scaled, -4, 4)[:, None].astype(np.float32), ranks], axis=1)


def _share_below(values: NDArray[Any]) -> Floats:
    """Share of the list with a smaller value, ties counted half, for each column. `[N, C]` to `[N, C]`.

    All columns are sorted at once. Equal neighbours form a run from `start` to `end`: below each of its
    members are `start` values and half of the run, which makes (start + end) / 2.
    """
    n, columns = values.shape
    by_column = np.ascontiguousarray(values.T)
    first_of_column, its_row = _firsts(n, columns)
    order = (by_column.argsort(axis=1) + its_row).ravel()
    ordered = by_column.take(order)
    edge = np.ones(n * columns + 1, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=edge[1:-1])
    edge[first_of_column] = True
    edges = edge.nonzero()[0]
    start, end = edges[:-1], edges[1:]
    below = np.empty(n * columns)
    below[order] = (start + end).repeat(end - start)
    shares: Floats = ((below.reshape(columns, n) - 2.0 * its_row) / (2.0 * n)).T
    return shares.astype(np.float32)


@lru_cache(maxsize=4096)
def _firsts(n: int, columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each of the columns begins when they follow one another. `[columns]` and `[columns, 1]`."""
    first = np.arange(0, n * columns, n)
    return first, first[:, None]


def _at_least_one_slot(tokens: NDArray[np.int32]) -> NDArray[np.int32]:
    return tokens if tokens.shape[1] else np.zeros((len(tokens), 1), np.int32)
