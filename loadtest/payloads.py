"""What simulated visitors send: seeded rerank requests, and feedback from a position-biased click model.

The popularity of items and of users follows Zipf's law, as on real sites: a few recur often, which matters
for caches and contexts. Knows the API's bodies, not how they are sent.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

CATALOGUE, CURRENT = "catalogue.npz", "current"  # of a bundle, its array `ids`; of a model's folder, a bundle


@dataclass(frozen=True)
class Traffic:
    """The mix of requests.

    Attributes:
        list_sizes: candidates per request, all equally likely; repeat a size to give it more weight.
        known_users: returning users. Their contexts grow with feedback.
        cold_share: share of requests from users never seen before.
        burst_share: share of requests that follow the previous one immediately.
        item_exponent, user_exponent: of Zipf's law, p(rank) ~ 1 / rank ** exponent.
        examination_exponent: of the click model; position k is looked at with p = 1 / (k + 1) ** exponent.
    """

    list_sizes: tuple[int, ...] = (24, 50, 100)
    top_n: int = 10
    deadline_ms: float | None = None
    known_users: int = 1000
    cold_share: float = 0.1
    burst_share: float = 0.0
    item_exponent: float = 0.8
    user_exponent: float = 1.0
    examination_exponent: float = 1.0

    def __post_init__(self) -> None:
        """Raises: ValueError."""
        if not self.list_sizes or min(self.list_sizes) < 1:
            raise ValueError(f"list sizes: one or more positive numbers, got {self.list_sizes}")
        if not 0.0 <= self.cold_share <= 1.0:
            raise ValueError(f"cold share: 0 to 1, got {self.cold_share}")
        if not 0.0 <= self.burst_share < 1.0:
            raise ValueError(f"burst share: 0 to below 1, got {self.burst_share}")


def read_item_ids(path: Path) -> list[str]:
    """Item ids, the most popular first, from a bundle or its catalogue, JSON lines (`id`), or CSV (`id`).

    Raises:
        ValueError: another kind of file, or fewer than one id.
    """
    if path.is_dir():
        path = (path / CURRENT if (path / CURRENT).is_dir() else path) / CATALOGUE
    match path.suffix:
        case ".npz":
            with np.load(path, allow_pickle=False) as catalogue:
                ids = [str(item_id) for item_id in catalogue["ids"]]
        case ".jsonl":
            with path.open(encoding="utf-8") as lines:
                ids = [str(json.loads(line)["id"]) for line in lines if line.strip()]
        case ".csv":
            with path.open(encoding="utf-8", newline="") as rows:
                ids = [row["id"] for row in csv.DictReader(rows)]
        case _:
            raise ValueError(f"{path}: expected a bundle, .npz, .jsonl or .csv")
    if not ids:
        raise ValueError(f"{path}: no item ids")
    return ids


class Visitors:
    """One stream of requests and feedback: the same items, mix, seed and stream give the same.

    Each simulated user of a load test has its own stream, so that what is sent does not depend on how the
    users' turns interleave. Reactions to answers have a generator of their own, so that answers do not
    change the requests that follow. Cold users are named after seed and stream: a second run against the same
    context store needs another seed, otherwise they are no longer cold.
    """

    def __init__(self, item_ids: Sequence[str], traffic: Traffic, seed: int, stream: Sequence[int]) -> None:
        if max(traffic.list_sizes) > len(item_ids):
            raise ValueError(f"lists of {max(traffic.list_sizes)} out of {len(item_ids)} items")
        self._item_ids, self._traffic = item_ids, traffic
        requests, reactions = np.random.SeedSequence([seed, *stream]).spawn(2)
        self._requests, self._reactions = np.random.default_rng(requests), np.random.default_rng(reactions)
        self._items = zipf(len(item_ids), traffic.item_exponent)
        self._users = zipf(traffic.known_users, traffic.user_exponent)
        self._cold_prefix, self._cold_users = "-".join(map(str, ["cold", seed, *stream])), 0

    def rerank(self) -> dict[str, Any]:
        """The body of the next rerank request: candidates in a first stage's order, best score first."""
        size = int(self._requests.choice(self._traffic.list_sizes))
        drawn = self._requests.choice(len(self._item_ids), size, replace=False, p=self._items)
        scores = np.sort(self._requests.random(size))[::-1].round(4)
        body = {
            "user_id": self._user_id(),
            "items": [
                {"id": self._item_ids[item], "score": score}
                for item, score in zip(drawn.tolist(), scores.tolist(), strict=True)
            ],
            "top_n": self._traffic.top_n,
        }
        if self._traffic.deadline_ms is not None:
            body["deadline_ms"] = self._traffic.deadline_ms
        return body

    def feedback(self, answer: Mapping[str, Any]) -> dict[str, Any] | None:
        """The body of the feedback on a rerank's answer; None if nothing was recorded to give it on.

        The position-based click model: a shown item is clicked if its position is looked at and the item
        attracts. An item's attraction is fixed by its id, so some items are better than others.
        """
        if answer["recommendation_id"] is None:
            return None
        events = []
        for position, result in enumerate(answer["results"]):
            looked_at = (position + 1) ** -self._traffic.examination_exponent
            clicked = self._reactions.random() < looked_at * attraction(result["id"])
            kind = "click" if clicked else "impression"
            events.append({"type": kind, "item_id": result["id"], "position": position})
        return {"recommendation_id": answer["recommendation_id"], "events": events}

    def gap_s(self, mean_s: float) -> float:
        """Time until the next request of this stream, `mean_s` on average.

        Exponential, hence a Poisson process, except that a share of the requests follow immediately: bursts
        of geometric length, as of a page that asks for several lists.
        """
        if self._reactions.random() < self._traffic.burst_share:
            return 0.0
        return float(self._reactions.exponential(mean_s / (1.0 - self._traffic.burst_share)))

    def _user_id(self) -> str:
        if self._requests.random() < self._traffic.cold_share:
            self._cold_users += 1
            return f"{self._cold_prefix}-{self._cold_users}"
        return f"user-{self._requests.choice(len(self._users), p=self._users)}"


def zipf(count: int, exponent: float) -> NDArray[np.float64]:
    """Probability of each rank, highest first. `[count] float64`."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    chances: NDArray[np.float64] = weights / weights.sum()
    return chances


def attraction(item_id: str) -> float:
    """Probability of a click on an item that is looked at, 0 to 0.5; the same in every process."""
    return crc32(item_id.encode()) / 2**33
