"""Constraints on random requests, of every sort and together."""

from dataclasses import replace

import numpy as np

from constraints.planning import EffortError, Plan, plan
from constraints.rules import Cap, ConflictError, Constraints, Floor
from engine.generation import Controls

GROUPS = 12


def constrained(rng: np.random.Generator, controls: Controls, candidates: int) -> Controls:
    """The same with constraints that can hold, and the length that they leave."""
    found = random_plan(rng, candidates, controls.slate_length)
    return replace(controls, slate_length=found.length, constraints=found)


def random_plan(rng: np.random.Generator, candidates: int, length: int) -> Plan:
    """Caps on overlapping groups, some in windows, floors and pins; drawn again until they can hold."""
    while True:
        groups = rng.random((GROUPS, candidates)) < rng.uniform(0.02, 0.5, (GROUPS, 1))
        caps = [
            Cap(f"cap {g}", groups[g], int(rng.integers(1, 4)), (None, 2, 3, 5)[rng.integers(4)])
            for g in range(rng.integers(GROUPS + 1))
        ]
        floors = [
            Floor(f"floor {g}", groups[-g - 1], int(rng.integers(1, 3)), int(rng.integers(2, 8)))
            for g in range(rng.integers(3))
        ]
        count = min(int(rng.integers(3)), length)
        places, items = (rng.choice(most, count, replace=False).tolist() for most in (length, candidates))
        pins = dict(zip(places, items, strict=True))
        try:
            found = plan(Constraints(pins, caps=tuple(caps), floors=tuple(floors)), candidates, length)
        except (ConflictError, EffortError):
            continue
        if found.length:
            return found
