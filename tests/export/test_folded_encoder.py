"""The folded encoder against the encoder it is made of, both in PyTorch."""

import pytest
import torch
from torch import Tensor

from export.folded_encoder import FoldedEncoder
from model.config import EncoderConfig
from model.encoder import Encoder, FeatureSizes

LENGTHS, EVENTS = (7, 3, 5, 1), (4, 0, 2, 1)
"""Candidates and history events of each request; one user has no history."""


def inputs(sizes: FeatureSizes) -> dict[str, Tensor]:
    """A padded batch: 0 is padding, and some items and one user have no tokens."""
    batch, n, h, slots = len(LENGTHS), max(LENGTHS), max(EVENTS), len(sizes.slot_fields)
    mask = torch.arange(n) < torch.tensor(LENGTHS)[:, None]
    there = torch.arange(h) < torch.tensor(EVENTS)[:, None]

    def tokens(*shape: int) -> Tensor:
        drawn = torch.randint(0, sizes.vocabulary, shape)
        drawn[0, 0] = 0
        return drawn.int()

    return {
        "candidate_numeric": torch.randn(batch, n, sizes.numeric) * mask[..., None],
        "candidate_tokens": tokens(batch, n, slots) * mask[..., None],
        "candidate_mask": mask,
        "user_numeric": torch.randn(batch, sizes.user_numeric),
        "user_tokens": tokens(batch, sizes.user_slots),
        "history_numeric": torch.randn(batch, h, sizes.item_numeric) * there[..., None],
        "history_tokens": tokens(batch, h, slots) * there[..., None],
        "history_feedback": (torch.randint(1, 3, (batch, h)) * there).int(),
    }


@pytest.mark.parametrize("user_slots", [1, 3])
@pytest.mark.parametrize(("layers", "attention"), [(0, "full"), (1, "full"), (1, "inducing")])
def test_real_candidates_have_the_same_memory(user_slots: int, layers: int, attention: str) -> None:
    torch.manual_seed(0)
    sizes = FeatureSizes(6, 4, (0, 0, 2, 2, 2), 2, user_slots, 30)
    config = EncoderConfig.model_validate(
        {"token_width": 4, "self_attention_layers": layers, "attention": attention}
    )
    encoder = Encoder(sizes, 16, (4, 8), config).eval()
    batch = inputs(sizes)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        for embedding in (encoder.item.embedding, encoder.feedback):
            embedding.weight[0] = 0.0  # padding's, as training leaves it
        expected, found = encoder(**batch), FoldedEncoder(encoder)(**batch)
    mask = batch["candidate_mask"]
    torch.testing.assert_close(found.user, expected.user, atol=2e-5, rtol=1e-4)
    for name in ("candidates", "pointer_keys", "pointer_bias"):
        mine, theirs = getattr(found, name)[mask], getattr(expected, name)[mask]
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-4)
    mine, theirs = (memory.reasoning_memory.transpose(1, 2)[mask] for memory in (found, expected))
    torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-4)
