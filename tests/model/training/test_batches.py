"""Which lists share a batch."""

import numpy as np
import torch

from model.training.examples import Example, batch_indices

LENGTHS = [24, 1000, 24, 50, 24, 50, 2000, 50, 24, 24]


def of_lengths(lengths: list[int]) -> list[Example]:
    return [Example({}, np.zeros(length, np.float32), np.arange(10)) for length in lengths]


def test_batches_in_order_are_bounded_by_their_candidates() -> None:
    found = batch_indices(of_lengths(LENGTHS), 3, candidates=1000)
    assert found == [[0], [1], [2, 3, 4], [5], [6], [7, 8, 9]]  # 2,000 candidates are alone


def test_shuffled_batches_have_lists_of_similar_length() -> None:
    cuts = [
        batch_indices(of_lengths(LENGTHS), 3, torch.Generator().manual_seed(seed), candidates=1000)
        for seed in range(5)
    ]
    assert len({str(cut) for cut in cuts}) > 1
    for cut in cuts:
        assert sorted(index for batch in cut for index in batch) == list(range(len(LENGTHS)))
        lengths = sorted(sorted(LENGTHS[index] for index in batch) for batch in cut)
        assert lengths == [[24, 24, 24], [24, 24, 50], [50, 50], [1000], [2000]]


def test_batches_without_a_bound_are_of_the_asked_size() -> None:
    shuffled = batch_indices(of_lengths(LENGTHS), 4, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in shuffled] == [4, 4, 2]
    assert batch_indices(of_lengths(LENGTHS), 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batch_indices([], 4, candidates=10) == []
