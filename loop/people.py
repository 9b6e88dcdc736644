"""A world's people: what they ask for, what they click, and what their lists are truly worth.

Legend: L lists, N candidates, K positions.
"""

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.simulator import SimulatorConfig, World, item_numbers
from model.data.slate import Dataset, LoggedSlate, Split, split_of

Floats = NDArray[np.float64]
Order = Sequence[int]
BEAMS = 16
"""Of the oracle, which knows the click model."""


class People:
    """Each asks for one list. Those of the log before the loop come first, in the simulator's own order.

    Attributes:
        first: the lists of that log.
        held_out: of these the ones that nobody trains on, by which models are compared.
    """

    def __init__(self, config: SimulatorConfig, later: int) -> None:
        """`later`: how many come after those of the log."""
        self.world = World(config.model_copy(update={"lists": config.lists + later}))
        self._slates = self.world.log()
        self._seed = config.seed
        self.first = self._slates[: config.lists]
        self.held_out = [slate for slate in self.first if split_of(slate.user_id) == "test"]

    def of_round(self, number: int, lists: int) -> list[LoggedSlate]:
        """Those who ask in a round, counted from 1. What the simulator's log says they clicked is void."""
        start = len(self.first) + (number - 1) * lists
        return self._slates[start : start + lists]

    @cached_property
    def items(self) -> dict[str, dict[str, Any]]:
        world = self.world
        return {
            f"i{n}": {"embedding": world.vectors[n].tolist(), "quality": float(world.quality[n])}
            for n in range(world.config.items)
        }

    def dataset(self, slates: Iterable[LoggedSlate]) -> Dataset:
        """Lists as a log that does not know what they are worth."""
        split: dict[Split, list[LoggedSlate]] = {"train": [], "validation": [], "test": []}
        for slate in slates:
            split[split_of(slate.user_id)].append(slate)
        return Dataset("simulator", self.items, split, {})

    def chances(self, slate: LoggedSlate, order: Order) -> Floats:
        """Of a click at each position. `[K]`."""
        return self.world.clicks(slate.user_id, item_numbers(slate), order)

    def clicks(self, slate: LoggedSlate, chances: Floats) -> NDArray[np.bool_]:
        """What this person clicks: with the same luck at each position, whatever is shown there. `[K]`."""
        number = int(slate.user_id[1:])
        return np.random.default_rng([self._seed, number]).random(len(chances)) < chances

    def values(self, slates: Sequence[LoggedSlate], orders: Iterable[Order | NDArray[np.int64]]) -> Floats:
        """Expected clicks of each list. `[L]`."""
        pairs = zip(slates, orders, strict=True)
        return np.array([self.chances(slate, [*map(int, order)]).sum() for slate, order in pairs])

    def references(self, length: int) -> dict[str, Floats]:
        """What the held-out lists are worth in random order, as they come, and by the oracle. `[L]` each."""
        rng = np.random.default_rng(self._seed)
        orders: dict[str, list[Order]] = {"random order": [], "initial order": [], "oracle": []}
        for slate in self.held_out:
            count = len(slate.candidates)
            orders["random order"].append(rng.permutation(count)[:length].tolist())
            orders["initial order"].append(range(min(length, count)))
            best = self.world.beam(slate.user_id, item_numbers(slate), length, BEAMS)
            orders["oracle"].append(best)
        return {name: self.values(self.held_out, own) for name, own in orders.items()}


def write_log(path: Path, items: Mapping[str, Mapping[str, Any]], slates: Iterable[LoggedSlate]) -> None:
    """Items and lists in the event format, as the service's log of the lists would be."""
    partial = path.with_suffix(".partial")
    with gzip.open(partial, "wt") as file:
        for event in _events(items, slates):
            file.write(json.dumps(event) + "\n")
    partial.replace(path)


def _events(
    items: Mapping[str, Mapping[str, Any]], slates: Iterable[LoggedSlate]
) -> Iterable[dict[str, Any]]:
    for item_id, record in items.items():
        yield {"event": "item", "item": item_id, "fields": _fields(record)}
    for slate in slates:
        assert slate.scores is not None
        pairs = zip(slate.candidates, slate.scores, strict=True)
        yield {
            "event": "ranking",
            "id": slate.request_id,
            "user": slate.user_id,
            "timestamp": str(round(slate.timestamp * 1000)),
            "items": [{"id": one, "fields": _fields({"relevancy": score})} for one, score in pairs],
            "shown": slate.shown.tolist(),
            "profile": _fields(slate.user.profile),
            "history": [],
        }
        for index in np.flatnonzero(slate.labels):
            clicked = {"item": slate.candidates[index], "type": "click"}
            yield {"event": "interaction", "ranking": slate.request_id, **clicked}


def _fields(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in record.items()]
