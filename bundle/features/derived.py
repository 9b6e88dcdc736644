"""What features say of an item only together with a request, written into columns by compiled functions.

Ages count from the request's time, list ranks compare the candidates with one another, affinities with the
user's history. Everything is one pass over arrays, in place.

Legend: N candidates, H history events, X either, I item columns, T token slots, F token fields with affinity.
"""

import math

import numpy as np

from bundle.compiled import compiled
from bundle.features.fitting import CLIP, SECONDS_PER_YEAR

AFFINITY_PRIOR = 2.0
"""Pseudo-events that pull a user's like rate of a value towards the user's overall rate."""


@compiled
def look_up(items, slots, rows, numbers, tokens):  # type: ignore[no-untyped-def]
    """Copy `rows` of the catalogue, `[items, I]` and `[items, T]`, to the first columns of `[X, ..]` each."""
    for index in range(rows.shape[0]):
        row = rows[index]
        for column in range(items.shape[1]):
            numbers[index, column] = items[row, column]
        for slot in range(slots.shape[1]):
            tokens[index, slot] = slots[row, slot]


@compiled
def write_ages(born, rows, columns, logged, scales, timestamp, numbers):  # type: ignore[no-untyped-def]
    """Years from `born` to `timestamp`, scaled, into the `columns` of `[X, ..]`; 0 where not known.

    `born` is `[items, ages]`, `columns` and `logged` are `[ages]`, `scales` `[ages, 2]`.
    """
    for age in range(columns.shape[0]):
        mean, deviation = scales[age]
        for index in range(rows.shape[0]):
            years = (timestamp - born[rows[index], age]) / SECONDS_PER_YEAR
            if logged[age]:
                years = math.copysign(math.log1p(abs(years)), years)
            scaled = min(max((years - mean) / deviation, -CLIP), CLIP)
            numbers[index, columns[age]] = 0.0 if math.isnan(years) else scaled


@compiled
def share_below(values, shares):  # type: ignore[no-untyped-def]
    """Share of the list with a smaller value, ties counted half. `[N]` to `[N]`.

    Every pair is compared, which vector instructions do faster than they sort up to lists of thousands.
    """
    n = values.shape[0]
    for i in range(n):
        own, twice = values[i], np.float32(0.0)
        for j in range(n):
            twice += np.float32(values[j] < own) + np.float32(values[j] <= own)
        shares[i] = twice / np.float32(2 * n)


@compiled
def write_list_ranks(numbers, ranked, first):  # type: ignore[no-untyped-def]
    """`share_below` of each `ranked` column of `[N, ..]`, into those from `first` on."""
    n = numbers.shape[0]
    values, shares = np.empty(n, np.float32), np.empty(n, np.float32)
    for place in range(ranked.shape[0]):
        for i in range(n):
            values[i] = numbers[i, ranked[place]]
        share_below(values, shares)
        for i in range(n):
            numbers[i, first + place] = shares[i]


@compiled
def write_affinities(numbers, history, liked, scalars, vectors, first):  # type: ignore[no-untyped-def]
    """Agreement with what the user liked, into the columns of `[N, ..]` from `first` on.

    The direction of taste is the mean of the liked events less the mean of the others, 0 if there are none
    of either. A scalar column is multiplied by it; the columns of a vector, from and to in `vectors`
    `[vectors, 2]`, give a cosine.
    """
    width, likes = history.shape[1], 0
    for event in range(liked.shape[0]):
        likes += liked[event]
    others = liked.shape[0] - likes
    direction = np.zeros(width, np.float32)
    if likes > 0 and others > 0:
        for event in range(liked.shape[0]):
            weight = np.float32(1.0 / likes if liked[event] else -1.0 / others)
            for column in range(width):
                direction[column] += weight * history[event, column]
    for place in range(scalars.shape[0]):
        column = scalars[place]
        for i in range(numbers.shape[0]):
            numbers[i, first + place] = numbers[i, column] * direction[column]
    first += scalars.shape[0]
    for place in range(vectors.shape[0]):
        start, stop = vectors[place]
        taste = math.sqrt(np.sum(direction[start:stop] ** 2))
        for i in range(numbers.shape[0]):
            dot, square = np.float32(0.0), np.float32(0.0)
            for column in range(start, stop):
                dot += numbers[i, column] * direction[column]
                square += numbers[i, column] * numbers[i, column]
            numbers[i, first + place] = dot / max(math.sqrt(square) * taste, 1e-6)


@compiled
def write_token_affinities(numbers, tokens, history, liked, slots, fields, mean_ctr, size, first):  # type: ignore[no-untyped-def]
    """The like rate of a candidate's values over the user's own, and how often they were liked.

    Per field, averaged over the values known, into `[N, ..]` from `first` on: F rates, then F logarithms of
    counts. With s events of a value, l of them liked, a user's own rate r and a prior p, the smoothed rate
    over the user's own is (l + p r) / (s + p) - r = (l - s r) / (s + p): 0 for a value never seen.

    Args:
        slots, fields: which token slots count, and the field of each; fields are 0 to F - 1, in order.
        size: of the vocabulary.
    """
    count = 1 + fields[-1] if fields.shape[0] else 0
    last = first + 2 * count
    numbers[:, first:last] = 0.0
    events = liked.shape[0]
    if not count or not events:
        return
    seen, likes, all_likes = np.zeros(size, np.float32), np.zeros(size, np.float32), np.float32(0.0)
    for event in range(events):
        one = np.float32(liked[event])
        all_likes += one
        for place in range(slots.shape[0]):
            token = history[event, slots[place]]
            seen[token] += np.float32(1.0)
            likes[token] += one
    own = (all_likes + AFFINITY_PRIOR * mean_ctr) / (events + AFFINITY_PRIOR)
    known = np.empty(count, np.float32)
    for i in range(tokens.shape[0]):
        known[:] = 0.0
        for place in range(slots.shape[0]):
            token, field = tokens[i, slots[place]], fields[place]
            if token == 0:  # padding
                continue
            known[field] += np.float32(1.0)
            if seen[token] > 0:
                rate = (likes[token] - own * seen[token]) / (seen[token] + AFFINITY_PRIOR)
                numbers[i, first + field] += rate
                numbers[i, first + count + field] += math.log1p(likes[token])
        for field in range(count):
            share = np.float32(1.0) / max(known[field], np.float32(1.0))
            numbers[i, first + field] *= share
            numbers[i, first + count + field] *= share
