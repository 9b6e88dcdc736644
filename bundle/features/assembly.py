"""A request to the encoder's inputs: the one place where derived features are computed.

Legend: N candidates, H history events. Names and axes of the outputs are those of
`bundle.contract.ENCODER_INPUTS`, without the batch axis until `collate` adds it.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Arrays
from bundle.contract import ENCODER_INPUTS, FEEDBACK_IMPRESSION, FEEDBACK_POSITIVE
from bundle.features.catalogue import UNKNOWN, Catalogue
from bundle.features.derived import (
    look_up,
    share_below,
    write_affinities,
    write_list_ranks,
    write_token_affinities,
)
from bundle.features.fitting import CLIP, FittedFeatures, Matrix, RecordEncoder
from bundle.features.history import UserContext, collapse

Floats = NDArray[np.float32]

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


class Unknown(NamedTuple):
    """Names of fields of the items, and of the request, some of whose values are in no vocabulary."""

    items: set[str]
    context: set[str]


class FeatureAssembler:
    """Writes the encoder's inputs of a request from fitted features and the catalogue."""

    def __init__(self, fitted: FittedFeatures, catalogue: Catalogue) -> None:
        self.schema = fitted.feature_schema
        self.fitted, self.catalogue = fitted, catalogue
        self.user, self.context = RecordEncoder(fitted, "user"), RecordEncoder(fitted, "context")
        item = catalogue.encoder
        ctr = [item.columns] if self.schema.item_ctr else []
        self._items, self._slots = self._with_ctr(catalogue), len(self.slot_fields)
        ranked = [place.start for field, place in item.numeric_fields if field.list_rank]
        affine = [(field, place) for field, place in item.numeric_fields if field.affinity]
        scalars = [place.start for field, place in affine if not field.size]
        vectors = [(place.start, place.stop) for field, place in affine if field.size]
        self._vectors = [
            c for field, place in item.numeric_fields if field.size for c in range(place.start, place.stop)
        ]
        self._ranked, self._affine = np.array(ranked + ctr, np.intp), np.array(scalars + ctr, np.intp)
        self._affine_vectors = np.array(vectors, np.intp).reshape(-1, 2)
        places = [place for field, place in item.token_fields if field.affinity]
        slots = [
            (slot, field) for field, place in enumerate(places) for slot in range(place.start, place.stop)
        ]
        self._token_slots, self._token_fields = np.array(slots, np.intp).reshape(-1, 2).T.copy()
        self._ends = list(accumulate(map(len, self._column_groups())))  # each is where the next begins

    @cached_property
    def _vector_range(self) -> tuple[Floats, Floats]:
        """Least and largest of each column of a vector in the catalogue. Events count no more, or one with
        huge numbers would spoil all lists of its user."""
        known = self.catalogue.numbers[:, self._vectors]
        return known.min(axis=0), known.max(axis=0)

    @property
    def item_columns(self) -> list[str]:
        """Names of the columns that belong to the item alone; history events have just these."""
        return self._column_groups()[0]

    @property
    def candidate_columns(self) -> list[str]:
        """Names of all columns of `candidate_numeric`, in order."""
        return list(chain(*self._column_groups()))

    @property
    def initial_score_column(self) -> int | None:
        """Where the initial score is in `candidate_numeric`, its list rank behind it; None without one."""
        return self._ends[1] if self.schema.initial_score else None

    def _column_groups(self) -> list[list[str]]:
        """`candidate_columns` by where they come from."""
        numeric, tokens = self.catalogue.encoder.numeric_fields, self.catalogue.encoder.token_fields
        names = []
        for field, _ in numeric:
            names += [f"{field.name}[{i}]" for i in range(field.columns)] if field.size else [field.name]
        ctr = ["item_ctr"] if self.schema.item_ctr else []
        scalars = [field.name for field, _ in numeric if field.affinity and not field.size]
        vectors = [field.name for field, _ in numeric if field.affinity and field.size]
        affine_tokens = [field.name for field, _ in tokens if field.affinity]
        return [
            names + (["item_ctr", "item_impressions"] if self.schema.item_ctr else []),
            ["initial_position"],
            ["initial_score", "list_rank:initial_score"] if self.schema.initial_score else [],
            [f"list_rank:{name}" for name in [field.name for field, _ in numeric if field.list_rank] + ctr],
            [f"affinity:{name}" for name in scalars + ctr + vectors],
            [f"{kind}:{name}" for kind in ("affinity", "liked") for name in affine_tokens],
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
        unknown: Unknown | None = None,
    ) -> Arrays:
        """Encoder inputs of one request, without the batch axis and the candidate mask.

        Args:
            timestamp: unix seconds that ages count back from.
            unknown: gets the names of fields that were sent with values the model does not know.

        Raises:
            ValueError: a raw feature is not of its declared kind; the message names the field.
        """
        rows = self.catalogue.rows(candidates.ids) if candidates.rows is None else candidates.rows
        position, initial, ranks, affinities, token_affinities, columns = self._ends
        numbers, tokens = self._known(rows, timestamp, columns)
        if candidates.matrix is not None:
            self.catalogue.encoder.write_matrix(candidates.matrix, numbers, timestamp)
        if candidates.features is not None:
            self._write_sent(candidates.features, numbers, tokens, timestamp, unknown and unknown.items)
        history_rows, liked, told = self._history(user)
        history, history_tokens = self._known(history_rows, timestamp, position)
        if told is not None:
            self._write_sent(told, history, history_tokens, timestamp, None)
            history[:, self._vectors] = history[:, self._vectors].clip(*self._vector_range)

        numbers[:, position] = _initial_position(len(rows))
        if self.schema.initial_score:
            _write_initial_scores(candidates.scores, numbers[:, initial:ranks])
        write_list_ranks(numbers, self._ranked, ranks)
        write_affinities(numbers, history, liked, self._affine, self._affine_vectors, affinities)
        write_token_affinities(
            numbers,
            tokens,
            history_tokens,
            liked,
            self._token_slots,
            self._token_fields,
            self.fitted.mean_ctr,
            self.fitted.vocabulary_size,
            token_affinities,
        )
        user_numeric, user_tokens = self._user(
            user.profile, context, timestamp, liked, unknown and unknown.context
        )
        return {
            "candidate_numeric": numbers,
            "candidate_tokens": tokens,
            "user_numeric": user_numeric,
            "user_tokens": user_tokens,
            "history_numeric": history,
            "history_tokens": history_tokens,
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

    def _known(
        self, rows: NDArray[np.int64], timestamp: float, columns: int
    ) -> tuple[Floats, NDArray[np.int32]]:
        """What the catalogue knows of items: copies of their columns, with room for more, and token slots."""
        numbers = np.empty((len(rows), columns), np.float32)
        tokens = np.zeros((len(rows), self._slots), np.int32)
        look_up(self._items, self.catalogue.tokens, rows, numbers, tokens)
        self.catalogue.write_as_of(numbers, rows, timestamp)
        return numbers, tokens

    def _write_sent(
        self,
        features: Sequence[Mapping[str, Any] | None],
        numbers: Floats,
        tokens: NDArray[np.int32],
        timestamp: float,
        unknown: set[str] | None,
    ) -> None:
        """Write the features sent with candidates over the catalogue's."""
        sent = [index for index, record in enumerate(features) if record]
        if not sent:
            return
        encoder, records = self.catalogue.encoder, [features[index] or {} for index in sent]
        if len(sent) == len(numbers):
            encoder.write_rows(records, numbers, tokens, timestamp, unknown)
            return
        some_numbers, some_tokens = numbers[sent], tokens[sent]
        encoder.write_rows(records, some_numbers, some_tokens, timestamp, unknown)
        numbers[sent], tokens[sent] = some_numbers, some_tokens

    def _history(
        self, user: UserContext
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], list[Mapping[str, Any] | None] | None]:
        """Catalogue rows of the latest events, whether each was liked, and the features that came with events
        of items that the catalogue lacks, if any did; other unknown items are ignored."""
        if user.seen is not None:
            return *user.seen, None
        if not user.history:
            return _NO_ROWS, _NO_LIKES, None
        events = collapse(user.history, self.schema.positive_types, self.schema.history_length)
        rows, liked = self.catalogue.rows(item_id for item_id, _ in events), [like for _, like in events]
        known = rows != UNKNOWN
        if known.all():
            return rows, np.array(liked, bool), None
        sent = {event.item_id: event.features for event in user.history if event.features}
        told = [
            None if row != UNKNOWN else sent.get(item_id)
            for row, (item_id, _) in zip(rows, events, strict=True)
        ]
        kept = [index for index, features in enumerate(told) if known[index] or features is not None]
        chosen = [told[index] for index in kept] if sent else None
        return rows[kept], np.array(liked, bool)[kept], chosen

    def _user(
        self,
        profile: Mapping[str, Any],
        context: Mapping[str, Any],
        timestamp: float,
        liked: NDArray[np.bool_],
        unknown: set[str] | None,
    ) -> tuple[Floats, NDArray[np.int32]]:
        numbers, tokens = np.zeros(self.user_columns, np.float32), np.zeros(self.user_slots, np.int32)
        split, slot = self.user.columns, self.user.slots
        self.user.write(profile, numbers[:split], tokens[:slot], timestamp)
        self.context.write(context, numbers[split:], tokens[slot:], timestamp, unknown)
        rate = (np.count_nonzero(liked) + self.fitted.mean_ctr) / (len(liked) + 1.0)
        numbers[-2], numbers[-1] = math.log1p(len(liked)) / 3.0, 2.0 * (rate - self.fitted.mean_ctr)
        return numbers, tokens


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
    """Place in the caller's order, -1 the first and 1 the last. `[N]`."""
    return np.linspace(-1.0, 1.0, n, dtype=np.float32)


def _write_initial_scores(scores: Sequence[float] | None, columns: Floats) -> None:
    """The caller's scores standardised within the list, and their list rank. `[N, 2]`."""
    values = np.full(len(columns), np.nan) if scores is None else np.asarray(scores, np.float64)
    present = values[np.isfinite(values)]
    values = np.nan_to_num(values, nan=float(present.mean()) if len(present) else 0.0)
    spread = float(values.std())
    columns[:, 0] = np.clip((values - values.mean()) / (spread if spread > 1e-6 else 1.0), -CLIP, CLIP)
    share_below(values, columns[:, 1])
