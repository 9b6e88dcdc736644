"""What is possible in a world whose true values are known: from knowing nothing to knowing everything.

Each takes a cell of the simulator and gives an order of every test list's candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from evidence.search import beam_search
from model.data.simulator import World, item_numbers

if TYPE_CHECKING:
    from evidence.cell import Cell

Orders = list[list[int]]


def random_order(cell: Cell) -> Orders:
    rng = np.random.default_rng(cell.config.seed)
    return [rng.permutation(len(row.labels)).tolist() for row in cell.test]


def relevance_sort(cell: Cell) -> Orders:
    """By the true relevance of each item alone."""
    world = _world(cell)
    return [
        np.argsort(-world.relevance(slate.user_id, item_numbers(slate))).tolist()
        for slate in cell.dataset.slates["test"]
    ]


def oracle(cell: Cell, beams: int) -> Orders:
    """A beam search that knows the click model; with one beam it is myopic."""
    world, length = _world(cell), cell.config.policy.slate_length
    return [
        world.beam(slate.user_id, item_numbers(slate), length, beams) for slate in cell.dataset.slates["test"]
    ]


def _world(cell: Cell) -> World:
    world = World(cell.config.simulator)
    world.log()  # this is where its users come from
    return world


REFERENCES: dict[str, Callable[[Cell], Orders]] = {
    "random order": random_order,
    "relevance sort": relevance_sort,
    "evaluator's beam search": beam_search,
    "myopic oracle": partial(oracle, beams=1),
    "beam-16 oracle": partial(oracle, beams=16),
}
"""By their names in tables."""
