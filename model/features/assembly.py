"""A request to the encoder's inputs: the one place where derived features are computed.

Legend: N candidates, H history events. Names and axes of the outputs are those of
`model.contract.ENCODER_INPUTS`, without the batch axis until `collate` adds it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.contract import ENCODER_INPUTS, FEEDBACK_IMPRESSION, FEEDBACK_POSITIVE
from model.features.catalogue import UNKNOWN, Catalogue
from model.features.fitting import FittedFeatures, RecordEncoder
from model.features.history import UserContext, collapse

Floats = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]

AFFINITY_PRIOR = 2.0
"""Pseudo-events that pull a user's like rate of a value towards the user's overall rate."""


class Candidates(NamedTuple):
    """Candidates of one request, in the caller's order.

    Attributes:
        ids: item ids.
        features: raw features sent with a candidate, which go before the catalogue's; None for most.
        scores: the caller's score of each candidate, NaN where absent; None where no score was sent.
    """

    ids: Sequence[str]
    features: Sequence[Mapping[str, Any] | None] | None = None
    scores: Sequence[float] | None = None


class FeatureAssembler:
    """Writes the encoder's inputs of a request from fitted features and the catalogue."""

    def __init__(self, fitted: FittedFeatures, catalogue: Catalogue) -> None:
        self.schema = fitted.feature_schema
        self.fitted, self.catalogue = fitted, catalogue
        self.user, self.context = RecordEncoder(fitted, "user"), RecordEncoder(fitted, "context")
        item = catalogue.encoder
        self._ranked = [place.start for field, place in item.numeric_fields if field.list_rank]
        affine = [(field, place) for field, place in item.numeric_fields if field.affinity]
        self._numeric_affinity = [place.start for field, place in affine if field.kind != "vector"]
        self._vector_affinity = [place for field, place in affine if field.kind == "vector"]
        self._token_affinity = [place for field, place in item.token_fields if field.affinity]

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

    def unknown(self, candidates: Candidates) -> NDArray[np.bool_]:
        """Which candidates the catalogue does not have. `[N] bool`."""
        return np.equal(self.catalogue.rows(candidates.ids), UNKNOWN)

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
        rows = self.catalogue.rows(candidates.ids)
        item_numbers = self.catalogue.numbers_at(rows, timestamp)
        tokens = self.catalogue.tokens[rows]
        if candidates.features is not None:
            for index, record in enumerate(candidates.features):
                if record:
                    self.catalogue.encoder.write(record, item_numbers[index], tokens[index], timestamp)
        item_numbers = self._with_ctr(item_numbers, rows)

        events = collapse(user.history, self.schema.positive_types, self.schema.history_length)
        history_rows = self.catalogue.rows(item_id for item_id, _ in events)
        known = history_rows != UNKNOWN
        history_rows = history_rows[known]
        liked = np.array([is_liked for _, is_liked in events], bool)[known]
        history_numbers = self._with_ctr(self.catalogue.numbers_at(history_rows, timestamp), history_rows)
        history_tokens = self.catalogue.tokens[history_rows]

        columns = [item_numbers, _initial_position(len(rows))]
        if self.schema.initial_score:
            columns.append(_initial_scores(candidates.scores, len(rows)))
        columns += self._list_ranks(item_numbers)
        columns += self._affinities(item_numbers, history_numbers, liked)
        columns += self._token_affinities(tokens, history_tokens, liked)
        user_numeric, user_tokens = self._user(user.profile, context, timestamp, liked)
        return {
            "candidate_numeric": np.concatenate(columns, axis=1, dtype=np.float32),
            "candidate_tokens": _at_least_one_slot(tokens),
            "user_numeric": user_numeric,
            "user_tokens": user_tokens,
            "history_numeric": history_numbers,
            "history_tokens": _at_least_one_slot(history_tokens),
            "history_feedback": np.where(liked, FEEDBACK_POSITIVE, FEEDBACK_IMPRESSION).astype(np.int32),
        }

    def _with_ctr(self, numbers: Floats, rows: NDArray[np.int64]) -> Floats:
        """Item columns with the smoothed click rate (log odds over the mean's) and log impressions."""
        if not self.schema.item_ctr:
            return numbers
        clicks, impressions = self.catalogue.clicks[rows], self.catalogue.impressions[rows]
        prior, mean = self.schema.ctr_prior_impressions, min(max(self.fitted.mean_ctr, 1e-4), 1 - 1e-4)
        rate = (clicks + prior * mean) / (impressions + prior)
        log_odds = np.log(rate / (1 - rate)) - np.log(mean / (1 - mean))
        volume = np.log1p(impressions) / 5.0
        return np.column_stack([numbers, log_odds, volume]).astype(np.float32)

    def _list_ranks(self, item_numbers: Floats) -> list[Floats]:
        ctr = [item_numbers.shape[1] - 2] if self.schema.item_ctr else []
        return [_share_below(item_numbers[:, column]) for column in self._ranked + ctr]

    def _affinities(self, numbers: Floats, history: Floats, liked: NDArray[np.bool_]) -> list[Floats]:
        """Agreement with what the user liked: direction of preference for numbers, cosine for vectors."""
        scalars = self._numeric_affinity + ([numbers.shape[1] - 2] if self.schema.item_ctr else [])
        width = len(scalars) + len(self._vector_affinity)
        if not width:
            return []
        if not liked.any() or liked.all():
            return [np.zeros((len(numbers), width), np.float32)]
        direction = history[liked].mean(axis=0) - history[~liked].mean(axis=0)
        parts = [numbers[:, scalars] * direction[scalars]]
        for place in self._vector_affinity:
            vectors, taste = numbers[:, place], direction[place]
            norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(taste)
            parts.append((vectors @ taste / np.maximum(norms, 1e-6))[:, None])
        return parts

    def _token_affinities(
        self, tokens: NDArray[np.int32], history: NDArray[np.int32], liked: NDArray[np.bool_]
    ) -> list[Floats]:
        """Per field: the user's smoothed like rate of the candidate's values over the user's own rate,
        and how often those values were liked, both averaged over the values known."""
        if not self._token_affinity:
            return []
        size = self.fitted.vocabulary_size
        seen_count = np.bincount(history.ravel(), minlength=size)
        liked_count = np.bincount(history[liked].ravel(), minlength=size)
        own_rate = (liked.sum() + AFFINITY_PRIOR * self.fitted.mean_ctr) / (len(liked) + AFFINITY_PRIOR)
        lift = (liked_count + AFFINITY_PRIOR * own_rate) / (seen_count + AFFINITY_PRIOR) - own_rate
        often = np.log1p(liked_count)
        lift[0] = often[0] = 0.0  # padding
        known = tokens > 0
        lifts, liked_often = [], []
        for place in self._token_affinity:
            count = np.maximum(known[:, place].sum(axis=1), 1)
            lifts.append(lift[tokens[:, place]].sum(axis=1) / count)
            liked_often.append(often[tokens[:, place]].sum(axis=1) / count)
        return [np.column_stack(lifts + liked_often).astype(np.float32)]

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
        rate = (liked.sum() + self.fitted.mean_ctr) / (len(liked) + 1.0)
        numbers[-2:] = np.log1p(len(liked)) / 3.0, 2.0 * (rate - self.fitted.mean_ctr)
        return numbers, tokens


def collate(requests: Sequence[Arrays]) -> Arrays:
    """Stack requests of different N and H into padded batches, and add `candidate_mask`.

    Returns:
        One array for each of `ENCODER_INPUTS`, `[B, ...]`; padding is 0 and False.
    """
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
    return np.column_stack([np.clip(scaled, -4, 4), _share_below(values)]).astype(np.float32)


def _share_below(values: NDArray[Any]) -> Floats:
    """Share of the list with a smaller value, ties counted half. `[N, 1]`."""
    ordered = np.sort(values)
    below = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return (below / (2.0 * len(values))).astype(np.float32)[:, None]


def _at_least_one_slot(tokens: NDArray[np.int32]) -> NDArray[np.int32]:
    return tokens if tokens.shape[1] else np.zeros((len(tokens), 1), np.int32)
