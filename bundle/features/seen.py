"""Histories of many users at once: what `history.collapse` makes of each, looked up in the catalogue.

Legend: U users, E events of all of them, I different items among these, H events of one that are left.
"""

import numpy as np
from numpy.typing import NDArray

from bundle.compiled import compiled
from bundle.features.catalogue import UNKNOWN
from bundle.features.history import Seen

IGNORED, SHOWN, LIKED = 0, 1, 2
"""What the type of an event means to a model: nothing, an impression, a positive one."""


def collapse_all(
    items: NDArray[np.int32],
    kinds: NDArray[np.int8],
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
    rows: NDArray[np.int64],
    most: int,
) -> list[Seen]:
    """Of each user, who has the events from `begins` to `ends`, `[U]`, oldest first.

    Args:
        items: `[E]`, 0 to I - 1; equal only where the ids are.
        kinds: `[E]`, `IGNORED`, `SHOWN` or `LIKED`.
        rows: `[I]`, the catalogue's row of each item, or UNKNOWN; unknown ones are left out in the end.
        most: of the latest items of a user, known or not.
    """
    kept = np.empty(int(np.minimum(ends - begins, most).sum()), np.int64)
    liked, stops = np.empty(len(kept), np.bool_), np.empty(len(begins), np.int64)
    _collapse(items, kinds, begins, ends, rows, most, kept, liked, stops)
    found, start = [], 0
    for stop in stops.tolist():
        found.append(Seen(kept[start:stop], liked[start:stop]))
        start = stop
    return found


@compiled
def _collapse(items, kinds, begins, ends, rows, most, kept, liked, stops):  # type: ignore[no-untyped-def]
    """Writes `kept` and `liked`, one user's behind the other's, and where each user's stop."""
    whose, place = np.full(rows.shape[0], -1, np.int64), np.empty(rows.shape[0], np.int64)
    latest, likes = np.empty(most, np.int64), np.empty(most, np.bool_)
    filled = 0
    for user in range(begins.shape[0]):
        count = 0
        for event in range(ends[user] - 1, begins[user] - 1, -1):  # an item stands where it was last seen
            item = items[event]
            if kinds[event] == IGNORED:
                continue
            if whose[item] != user:
                whose[item], place[item] = user, count
                if count < most:
                    latest[count], likes[count] = item, False
                    count += 1
                else:
                    place[item] = most
            if place[item] < most and kinds[event] == LIKED:
                likes[place[item]] = True
        for at in range(count - 1, -1, -1):
            row = rows[latest[at]]
            if row != UNKNOWN:
                kept[filled], liked[filled] = row, likes[at]
                filled += 1
        stops[user] = filled
