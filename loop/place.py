"""A world of the loop on disk: its people, their log before the loop, and what is possible in it."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from loop.config import ARMS, MAIN, Arm, LoopConfig
from loop.people import Floats, People, write_log
from loop.traffic import LoopError
from loop.worth import Record
from model.training.checkpoint import save_text

IDENTITY, RECORD, VALUES = "loop.json", "round.json", "values.npy"


class Place:
    """`folder` has one folder for each arm; what arms have in common is beside these."""

    def __init__(self, config: LoopConfig, world: int, root: Path) -> None:
        self.config, self.world, self.folder = config, world, root.resolve() / f"world-{world}"
        self.folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def people(self) -> People:
        simulator = self.config.run_config(self.world, ARMS[MAIN]).simulator
        return People(simulator, self.config.rounds * self.config.lists)

    @cached_property
    def first_log(self) -> Path:
        path = self.folder / "first.jsonl.gz"
        with self.alone("log"):
            if not path.exists():
                write_log(path, self.people.items, self.people.first)
        return path

    @cached_property
    def references(self) -> dict[str, Floats]:
        path = self.folder / "references.npz"
        with self.alone("references"):
            if not path.exists():
                length = self.config.run_config(self.world, ARMS[MAIN]).policy.slate_length
                partial = path.with_suffix(".partial.npz")
                np.savez(partial, allow_pickle=False, **self.people.references(length))
                partial.replace(path)
        with np.load(path) as found:
            return dict(found)

    def of_arm(self, arm: Arm) -> Path:
        """Its folder.

        Raises:
            LoopError: it has rounds of other settings.
        """
        folder, identity = self.folder / arm.folder, self.config.identity(self.world, arm)
        folder.mkdir(exist_ok=True)
        path = folder / IDENTITY
        if path.exists() and json.loads(path.read_text()) != identity:
            raise LoopError(f"{folder} has rounds of other settings; give another --runs or remove it")
        save_text(path, json.dumps(identity, indent=1))
        return folder

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """What arms have in common is made by one process; others wait."""
        with (self.folder / f"{what}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def rounds_of(folder: Path) -> list[Record]:
    """The finished ones of an arm, in order."""
    found: list[Any] = []
    while (path := folder / f"round-{len(found)}" / RECORD).exists():
        found.append(json.loads(path.read_text()))
    return found


def values_of(folder: Path, number: int) -> Floats:
    """What the held-out lists were truly worth after a round. `[L]`."""
    values: Floats = np.load(folder / f"round-{number}" / VALUES)
    return values


def keep(folder: Path, number: int, record: Record, values: Floats) -> None:
    """The record comes last, and says that the round is finished."""
    own = folder / f"round-{number}"
    np.save(own / VALUES, values)
    save_text(own / RECORD, json.dumps(record, indent=1) + "\n")
