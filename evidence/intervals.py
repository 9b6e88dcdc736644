"""How sure a paired difference is: what varies between runs is resampled, not lists alone.

In the simulator worlds and training seeds vary: worlds are drawn with replacement, trainings within them,
lists within those. Folds of a real log hold all its people once: there people are drawn within their fold,
and trainings. Five worlds are few for a bootstrap, which is then a tenth too narrow; Student's interval over
the runs' means stands beside it, and only what both leave zero out of counts.
Legend: B lists, R resamples.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

RESAMPLES = 2000
LEVEL = 0.95

Run = tuple[int, int]
"""A world or fold, and a training seed."""


class Gap(NamedTuple):
    """A mean difference, its bootstrap interval, and Student's interval over worlds or folds (NaN of one)."""

    mean: float
    low: float
    high: float
    low_of_runs: float
    high_of_runs: float

    @property
    def sure(self) -> bool:
        """Both intervals leave zero out, on the same side."""
        above = self.low > 0 and self.low_of_runs > 0
        return above or (self.high < 0 and self.high_of_runs < 0)


def gap(
    differences: Mapping[Run, NDArray[np.float32]],
    people: Mapping[int, NDArray[np.integer]],
    worlds_vary: bool,
) -> Gap:
    """The mean over worlds or folds of the mean difference in each.

    Args:
        differences: of each test list, `[B]` a run, NaN where a list has none.
        people: whose the lists of each world or fold are, `[B]`; lists count one by one where there are none.
        worlds_vary: draw worlds too, not what is within them alone.
    """
    rng = np.random.default_rng(0)
    by_world: dict[int, list[NDArray[np.float64]]] = {}  # [R] for each training
    means: dict[int, list[float]] = {}
    for (world, _), values in sorted(differences.items()):
        known = ~np.isnan(values)
        own = people.get(world, np.arange(len(values)))[known]
        by_world.setdefault(world, []).append(_resampled_means(values[known], own, rng))
        means.setdefault(world, []).append(float(values[known].mean()))
    worlds = sorted(by_world)
    drawn = np.zeros(RESAMPLES)
    for place in range(len(worlds)):
        picks = rng.integers(len(worlds), size=RESAMPLES) if worlds_vary else np.full(RESAMPLES, place)
        for number, world in enumerate(worlds):
            rows = np.flatnonzero(picks == number)
            trainings = np.stack(by_world[world])  # [trainings, R]
            within = rng.integers(len(trainings), size=(len(trainings), len(rows)))
            again = rng.integers(RESAMPLES, size=(len(trainings), len(rows)))
            drawn[rows] += trainings[within, again].mean(0) / len(worlds)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    of_runs = np.array([np.mean(means[world]) for world in worlds])
    half = np.nan
    if len(of_runs) > 1:
        half = student.ppf((1 + LEVEL) / 2, len(of_runs) - 1) * of_runs.std(ddof=1) / len(of_runs) ** 0.5
    mean = float(of_runs.mean())
    return Gap(mean, float(low), float(high), mean - float(half), mean + float(half))


def _resampled_means(
    values: NDArray[np.float32], people: NDArray[np.integer], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Means over lists whose people are drawn with replacement. `[R]`."""
    _, whose = np.unique(people, return_inverse=True)
    totals, counts = np.bincount(whose, values), np.bincount(whose)
    drawn = rng.integers(len(counts), size=(RESAMPLES, len(counts)))
    lists = counts[drawn].sum(1) if counts.max(initial=1) > 1 else len(counts)
    means: NDArray[np.float64] = totals[drawn].sum(1) / lists
    return means
