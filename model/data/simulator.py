"""A seeded world with known inter-item effects: the one place where a new slate's true value is known.

Independent of the evaluator's architecture. A user dislikes items like those just seen (fatigue, by
distance) and likes some that go well with the one before (complement):

    v = normalise(its genre's centre + 0.15 noise), b ~ N(0, 0.7), relevance r = 2 v.u + b
    P(click at position k) = 1 / (1 + 0.08 k) * sigmoid(-1 + r - 2 s fatigue + 1.5 s complement)
    fatigue = sum over earlier items of relu(cos(v, v')) * 0.8 ** (distance - 1)
    complement = tanh(v_prev' A v), one fixed random A; s = strength of the effects

The logging policy shows the first `shown` of a Gumbel ordering by r / 2; r / 2 itself comes with each
list as the initial ranker's score. Lists without a click are kept: leaving them out would teach the
evaluator too many clicks.
Legend: N candidates, K positions, W beam width.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.features.history import UserContext
from bundle.features.schema import Frozen
from model.data.slate import Dataset, LoggedSlate, Split, split_of

DIMENSIONS, GENRES, ORACLE_BEAMS = 8, 10, 4
Floats = NDArray[np.float64]


class SimulatorConfig(Frozen):
    """Size and seed of the world. `strength` scales both inter-item effects: 0 none, 1, 2 twice.

    Several numbers of `candidates` share the lists, as many for each, those of the first number first.
    """

    seed: int = 0
    items: int = 2000
    lists: int = 8000
    candidates: int | tuple[int, ...] = 20
    shown: int = 10
    strength: float = 1.0


class World:
    """Items, users' tastes and the click model."""

    def __init__(self, config: SimulatorConfig) -> None:
        rng = np.random.default_rng(config.seed)
        self.config = config
        centres = _unit(rng.normal(size=(GENRES, DIMENSIONS)))
        genre = rng.integers(GENRES, size=config.items)
        self.vectors = _unit(centres[genre] + 0.15 * rng.normal(size=(config.items, DIMENSIONS)))
        self.quality = rng.normal(0.0, 0.7, size=config.items)
        self.complement = rng.normal(size=(DIMENSIONS, DIMENSIONS))
        self.tastes: dict[str, Floats] = {}
        self._rng = rng

    def relevance(self, user_id: str, items: NDArray[np.int64]) -> Floats:
        """r of each item for the user. `[N]`."""
        return 2.0 * self.vectors[items] @ self.tastes[user_id] + self.quality[items]

    def next_click(self, relevance: Floats, items: NDArray[np.int64], prefix: Sequence[int]) -> Floats:
        """Click probability of each candidate if it came right after `prefix` (candidate indices). `[N]`."""
        vectors, strength = self.vectors[items], self.config.strength
        fatigue, complement = np.zeros(len(items)), np.zeros(len(items))
        if len(prefix):
            earlier = vectors[list(prefix)]
            decay = 0.8 ** np.arange(len(prefix) - 1, -1, -1)
            fatigue = np.maximum(vectors @ earlier.T, 0.0) @ decay
            complement = np.tanh(vectors @ (self.complement.T @ earlier[-1]))
        attraction = -1.0 + relevance - 2.0 * strength * fatigue + 1.5 * strength * complement
        return 1.0 / (1.0 + 0.08 * len(prefix)) / (1.0 + np.exp(-attraction))

    def true_value(self, user_id: str, items: NDArray[np.int64], slate: Sequence[int]) -> float:
        """Expected clicks of a slate of candidate indices."""
        return float(self.clicks(user_id, items, slate).sum())

    def clicks(self, user_id: str, items: NDArray[np.int64], slate: Sequence[int]) -> Floats:
        """Click probability at each position of a slate of candidate indices. `[K]`."""
        relevance = self.relevance(user_id, items)
        return np.array([self.next_click(relevance, items, slate[:k])[slate[k]] for k in range(len(slate))])

    def value_of(self, slate: LoggedSlate, order: Sequence[int]) -> float:
        """Expected clicks of an order of a logged list's candidates."""
        return self.true_value(slate.user_id, item_numbers(slate), order)

    def beam(self, user_id: str, items: NDArray[np.int64], length: int, width: int) -> list[int]:
        """The best slate a beam search that knows the click model finds; width 1 is the myopic oracle."""
        relevance = self.relevance(user_id, items)
        beams: list[tuple[float, list[int]]] = [(0.0, [])]
        for _ in range(length):
            grown = []
            for value, prefix in beams:
                clicks = self.next_click(relevance, items, prefix)
                clicks[prefix] = -np.inf
                for index in np.argsort(-clicks)[:width]:
                    grown.append((value + float(clicks[index]), [*prefix, int(index)]))
            beams = sorted(grown, key=lambda beam: -beam[0])[:width]
        return beams[0][1]

    def best_of(self, slate: LoggedSlate, length: int) -> list[int]:
        """The oracle's order of a logged list's candidates."""
        return self.beam(slate.user_id, item_numbers(slate), length, ORACLE_BEAMS)

    def log(self) -> list[LoggedSlate]:
        """Lists shown by the logging policy, with sampled clicks; one list a user."""
        return list(self.lists())

    def lists(self) -> Iterator[LoggedSlate]:
        """The same one by one."""
        asked, lists = self.config.candidates, self.config.lists
        counts = asked if isinstance(asked, tuple) else (asked,)
        for n in range(lists):
            count = counts[n * len(counts) // lists]
            user_id = f"u{n}"
            self.tastes[user_id] = _unit(self._rng.normal(size=DIMENSIONS))
            items = self._rng.choice(self.config.items, count, replace=False)
            scores = self.relevance(user_id, items) / 2 + self._rng.gumbel(size=len(items))
            items = items[np.argsort(-scores)]
            relevance = self.relevance(user_id, items)
            labels = np.zeros(len(items), np.float32)
            for k in range(self.config.shown):
                click = self.next_click(relevance, items, range(k))[k]
                labels[k] = self._rng.random() < click
            yield LoggedSlate(
                request_id=f"r{n}",
                user_id=user_id,
                candidates=tuple(f"i{item}" for item in items),
                shown=np.arange(self.config.shown),
                labels=labels,
                timestamp=float(n),
                scores=tuple((relevance / 2).tolist()),
                user=UserContext({"taste": self.tastes[user_id].tolist()}),
            )


def load(config: SimulatorConfig) -> Dataset:
    """A log of the world, split by user, that can say the true value of any slate."""
    world = World(config)
    slates: dict[Split, list[LoggedSlate]] = {"train": [], "validation": [], "test": []}
    for slate in world.log():
        slates[split_of(slate.user_id)].append(slate)
    items = {
        f"i{n}": {"embedding": world.vectors[n].tolist(), "quality": float(world.quality[n])}
        for n in range(config.items)
    }
    return Dataset("simulator", items, slates, {}, world.value_of, oracle=world.best_of)


FIRST_S, LISTS_A_DAY, LISTS_A_USER = 1.6e9, 10_000, 10
"""Of a written log: when it begins, and how its lists lie in time and among people."""


def log_events(config: SimulatorConfig) -> Iterator[dict[str, Any]]:
    """The world's log in the event format: items, and each list with what came of it."""
    world = World(config)
    for n, item_id in enumerate(f"i{n}" for n in range(config.items)):
        fields = [
            {"name": "embedding", "value": world.vectors[n].tolist()},
            {"name": "quality", "value": float(world.quality[n])},
        ]
        yield {"event": "item", "item": item_id, "fields": fields}
    for n, slate in enumerate(world.lists()):
        del world.tastes[slate.user_id]  # which grow with the log
        at = FIRST_S + 86_400 / LISTS_A_DAY * n
        assert slate.scores is not None
        items = [
            {"id": item, "fields": [{"name": "relevancy", "value": score}]}
            for item, score in zip(slate.candidates, slate.scores, strict=True)
        ]
        yield {
            "event": "ranking",
            "id": slate.request_id,
            "user": f"u{n // LISTS_A_USER}",
            "timestamp": at,
            "items": items,
            "shown": slate.shown.tolist(),
            "profile": [{"name": "taste", "value": slate.user.profile["taste"]}],
        }
        for index in np.flatnonzero(slate.labels).tolist():
            clicked = {"ranking": slate.request_id, "item": slate.candidates[index], "type": "click"}
            yield {"event": "interaction", **clicked, "timestamp": at + 1 + index}


def item_numbers(slate: LoggedSlate) -> NDArray[np.int64]:
    """The world's item numbers of a slate's candidates. `[N]`."""
    return np.array([int(item_id[1:]) for item_id in slate.candidates])


def _unit(x: Floats) -> Floats:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))
