"""MovieTweetings 100K: 100,000 timed film ratings from Twitter, 2013 (Dooms et al. 2013, MIT licence).

Made into re-ranking lists by time. Every `WINDOW_DAYS` a first stage, an item-item nearest-neighbour model
from the `implicit` library, is fitted on all ratings so far and retrieves `CANDIDATES` unseen films for
each user who rates anything in the window that follows; what the user then rates is relevant. First
stage and history know the past alone. A list whose window holds none of its candidates is dropped.
"""

import re
import warnings
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bundle.features.history import Interaction, UserContext
from model.data.location import PublicFile, locate
from model.data.slate import Dataset, LoggedSlate, Positive, Split, split_of
from model.progress import progress

UPSTREAM = "https://raw.githubusercontent.com/sidooms/MovieTweetings/master/snapshots/100K/"
RATINGS = PublicFile(
    path="movietweetings-100k/ratings.dat",
    url=UPSTREAM + "ratings.dat",
    sha256="c0dd868c2632d10002ebc928ddc5345f33adeaa59eca52c2941c26a2c5e36fd6",
)
MOVIES = PublicFile(
    path="movietweetings-100k/movies.dat",
    url=UPSTREAM + "movies.dat",
    sha256="e63fb84bc734e3c574f135634a40d3cbafab22b8f94f5fc0b80f80d1d2076efc",
)
CANDIDATES, NEIGHBOURS = 50, 100
FIRST_DAYS, WINDOW_DAYS = 45, 14
DAY_S = 86_400


class Rating(NamedTuple):
    """One line of ratings.dat: `user::film::rating (0-10)::unix seconds`."""

    user: str
    film: str
    value: int
    timestamp: float


def load() -> Dataset:
    """Lists by user and window.

    Raises:
        DataUnavailableError: the files are not here and cannot be downloaded.
    """
    return lists(read_ratings(locate(RATINGS)), read_films(locate(MOVIES)))


def read_ratings(path: Path) -> list[Rating]:
    """All ratings in the order of time."""
    rows = (line.split("::") for line in path.read_text(encoding="utf-8").splitlines())
    ratings = (Rating(user, film, int(value), float(time)) for user, film, value, time in rows)
    return sorted(ratings, key=lambda rating: (rating.timestamp, rating.user, rating.film))


def read_films(path: Path) -> dict[str, dict[str, Any]]:
    """Title, year and genres by film, from `id::title (year)::genre|genre`."""
    films = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        film, title, genres = line.split("::")
        year = re.search(r"\((\d{4})\)\s*$", title)
        films[film] = {
            "title": title,
            "genres": [genre for genre in genres.split("|") if genre],
            **({"year": float(year[1])} if year else {}),
        }
    return films


def lists(ratings: list[Rating], films: dict[str, dict[str, Any]]) -> Dataset:
    """The re-ranking lists that the ratings give."""
    slates: dict[Split, list[LoggedSlate]] = {"train": [], "validation": [], "test": []}
    dropped: Counter[str] = Counter()
    histories: dict[str, list[Interaction]] = defaultdict(list)
    for past, window in progress(_windows(ratings), "first stage"):
        start = window[0].timestamp
        wanted: dict[str, set[str]] = defaultdict(set)
        for rating in window:
            wanted[rating.user].add(rating.film)
        known = [user for user in wanted if user in histories]
        for user, candidates, scores in _retrieve(past, known):
            labels = np.array([film in wanted[user] for film in candidates], np.float32)
            if not labels.any():
                dropped["nothing relevant retrieved"] += 1
                continue
            slates[split_of(user)].append(
                LoggedSlate(
                    request_id=f"{user}-{start:.0f}",
                    user_id=user,
                    candidates=tuple(candidates),
                    shown=np.arange(len(candidates)),
                    labels=labels,
                    timestamp=start,
                    scores=tuple(scores),
                    user=UserContext({}, tuple(histories[user])),
                )
            )
        for rating in window:
            histories[rating.user].append(Interaction(rating.film, "rating", rating.timestamp))
    positives = [Positive(rating.user, rating.film, rating.timestamp, rating.value) for rating in ratings]
    return Dataset("movietweetings", films, slates, dict(dropped), positives=positives)


def _windows(ratings: list[Rating]) -> list[tuple[list[Rating], list[Rating]]]:
    """Past and window at each cut; the first window is what comes before any list and has no past."""
    times = np.array([rating.timestamp for rating in ratings])
    cuts = np.arange(times[0] + FIRST_DAYS * DAY_S, times[-1], WINDOW_DAYS * DAY_S)
    places = [0, *np.searchsorted(times, cuts).tolist(), len(ratings)]
    return [(ratings[:a], ratings[a:b]) for a, b in pairwise(places) if b > a]


def _retrieve(past: list[Rating], users: list[str]) -> list[tuple[str, list[str], list[float]]]:
    """Films the first stage proposes to each user, best first, with their scores."""
    from implicit.nearest_neighbours import TFIDFRecommender  # nothing else needs these two
    from scipy.sparse import csr_matrix

    if not users:
        return []
    rows = {user: row for row, user in enumerate(sorted({rating.user for rating in past}))}
    films = sorted({rating.film for rating in past})
    columns = {film: column for column, film in enumerate(films)}
    places = ([rows[r.user] for r in past], [columns[r.film] for r in past])
    matrix = csr_matrix((np.ones(len(past), np.float32), places), shape=(len(rows), len(films)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on the threads of linear algebra
        model = TFIDFRecommender(K=NEIGHBOURS, num_threads=1)
        model.fit(matrix, show_progress=False)
    asked = np.array([rows[user] for user in users])
    found, scores = model.recommend(asked, matrix[asked], N=CANDIDATES, filter_already_liked_items=True)
    proposals = []
    for user, columns_of, score in zip(users, found, scores, strict=True):
        # Whoever rated little has fewer neighbours than candidates; the rest is filled with score 0.
        real = [(films[c], float(s)) for c, s in zip(columns_of, score, strict=True) if c >= 0 and s > 0]
        if len(real) > 1:
            proposals.append((user, [film for film, _ in real], [score for _, score in real]))
    return proposals
