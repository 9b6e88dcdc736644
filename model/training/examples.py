"""Slates as tensors: what every training and evaluation loop iterates over.

Legend: B lists, N candidates, L shown positions, K slate length.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.contract import NO_ITEM
from bundle.features.assembly import collate
from model.data.features import DatasetFeatures
from model.data.slate import LoggedSlate
from model.progress import progress
from model.training import devices


class Example(NamedTuple):
    """One slate: its encoder inputs, and what happened to it.

    Where a search put a slate of its own in the place of what was shown, `targets` may say how good it
    finds the candidates at each position; the slate's items alone count where there are none.
    """

    inputs: dict[str, NDArray[Any]]
    labels: NDArray[np.float32]  # [N]
    shown: NDArray[np.int64]  # [L]
    targets: NDArray[np.float32] | None = None  # [K, N], each a distribution


class Batch(NamedTuple):
    """A padded batch."""

    inputs: dict[str, Tensor]
    labels: Tensor  # [B, N] float32, 1 = clicked
    shown: Tensor  # [B, L] int64, candidate indices in shown order, NO_ITEM past the end
    targets: Tensor | None = None  # [B, K, N] float32

    @property
    def mask(self) -> Tensor:
        """`[B, N] bool, True = a real candidate`."""
        return self.inputs["candidate_mask"]

    def cut(self, rows: slice) -> "Batch":
        """Some of the lists, padded as before."""
        inputs = {name: tensor[rows] for name, tensor in self.inputs.items()}
        targets = None if self.targets is None else self.targets[rows]
        return Batch(inputs, self.labels[rows], self.shown[rows], targets)

    def clicks(self, slate: Tensor) -> Tensor:
        """Labels in the order of a slate `[B, L] int64`; mean nothing where it is NO_ITEM. `[B, L]`."""
        return self.labels.gather(1, slate.clamp(min=0))


MOST_KEPT = 100_000
"""Lists whose features are all in memory, a few kilobytes each."""


class OnDemand(Sequence[Example]):
    """Examples that are computed whenever one is wanted, of logs whose features would not fit into memory.

    Attributes:
        lengths: candidates of each list.
    """

    def __init__(self, slates: Sequence[LoggedSlate], features: DatasetFeatures, training: bool) -> None:
        self.slates, self._features, self._training = slates, features, training

    def __len__(self) -> int:
        return len(self.slates)

    @cached_property
    def lengths(self) -> list[int]:
        return [len(slate.candidates) for slate in self.slates]

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "OnDemand": ...
    def __getitem__(self, index: int | slice) -> "Example | OnDemand":
        if isinstance(index, slice):
            return OnDemand(self.slates[index], self._features, self._training)
        slate = self.slates[index]
        return Example(self._features.arrays(slate, self._training), slate.labels, slate.shown)


def examples(slates: Sequence[LoggedSlate], features: DatasetFeatures, training: bool) -> list[Example]:
    """Every slate's features: computed once, with a progress bar, or on demand if there are many."""
    if len(slates) > MOST_KEPT:
        return cast(list[Example], OnDemand(slates, features, training))  # whoever trains only reads it
    label = f"features of {len(slates)} {'training' if training else 'held-out'} lists"
    return [
        Example(features.arrays(slate, training), slate.labels, slate.shown)
        for slate in progress(slates, label)
    ]


def batches(
    rows: Sequence[Example],
    size: int,
    shuffle: torch.Generator | None = None,
    candidates: int | None = None,
) -> Iterator[Batch]:
    """All examples in batches; the arguments are those of `batch_indices`."""
    for indices in batch_indices(rows, size, shuffle, candidates):
        yield to_batch([rows[index] for index in indices])


def batch_indices(
    rows: Sequence[Example],
    size: int,
    shuffle: torch.Generator | None = None,
    candidates: int | None = None,
) -> list[list[int]]:
    """Which examples share a batch: in order, or shuffled by the generator.

    Args:
        candidates: most candidates of a batch, padding included; a list longer than that is alone. Shuffled
            batches then have lists of similar length, and there are as many whatever the generator draws.
    """
    order = (
        list(range(len(rows))) if shuffle is None else torch.randperm(len(rows), generator=shuffle).tolist()
    )
    if candidates is None:
        return [order[start : start + size] for start in range(0, len(order), size)]
    lengths = rows.lengths if isinstance(rows, OnDemand) else [len(row.labels) for row in rows]
    if shuffle is not None:
        order.sort(key=lambda index: lengths[index])  # stable: random among those of one length
    found: list[list[int]] = []
    longest = 0
    for index in order:
        longest = max(longest, lengths[index])
        if not found or len(found[-1]) == size or (len(found[-1]) + 1) * longest > candidates:
            found.append([])
            longest = lengths[index]
        found[-1].append(index)
    if shuffle is not None:
        found = [found[place] for place in torch.randperm(len(found), generator=shuffle).tolist()]
    return found


def to_batch(rows: Sequence[Example]) -> Batch:
    """Pad and stack, where this process computes."""
    candidates = max(len(row.labels) for row in rows)
    longest = max(len(row.shown) for row in rows)
    labels = np.zeros((len(rows), candidates), np.float32)
    shown = np.full((len(rows), longest), NO_ITEM, np.int64)
    for index, row in enumerate(rows):
        labels[index, : len(row.labels)] = row.labels
        shown[index, : len(row.shown)] = row.shown
    inputs = {name: devices.tensor(array) for name, array in collate([row.inputs for row in rows]).items()}
    return Batch(inputs, devices.tensor(labels), devices.tensor(shown), _targets(rows, candidates))


def _targets(rows: Sequence[Example], candidates: int) -> Tensor | None:
    """`[B, K, N]`, zeros for padding; None unless all rows have them."""
    found = [row.targets for row in rows if row.targets is not None]
    if len(found) < len(rows):
        return None
    return devices.tensor(np.stack([np.pad(t, ((0, 0), (0, candidates - t.shape[1]))) for t in found]))
