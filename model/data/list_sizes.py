"""How many items lists have, and how many of the lists there is something to learn from."""

from collections import Counter
from collections.abc import Collection

import numpy as np


class ListSizes:
    """Counts lists. One teaches something if something was done with some of its items, and not with all."""

    def __init__(self) -> None:
        self._sizes: Counter[int] = Counter()
        self.teaching = 0

    def add(self, done: Collection[bool]) -> None:
        """Count a list, of whose items each was done something with or not."""
        self._sizes[len(done)] += 1
        self.teaching += any(done) and not all(done)

    @property
    def lists(self) -> int:
        return self._sizes.total()

    @property
    def single(self) -> float:
        """Share of lists that have one item."""
        return self._sizes[1] / max(self.lists, 1)

    @property
    def spread(self) -> tuple[int, float, int]:
        """Fewest, median and most items of a list."""
        sizes = sorted(self._sizes.elements()) or [0]
        return sizes[0], float(np.median(sizes)), sizes[-1]

    @property
    def taught(self) -> str:
        return (
            f"{self.teaching:,} of {self.lists:,} lists teach something, with outcomes of some of their "
            "items, and not of all"
        )
