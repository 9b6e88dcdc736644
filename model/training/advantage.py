"""Rewards to advantages, as in GRPO (Shao et al. 2024, arXiv 2402.03300, section 4.1). Pure.

Legend: B requests, G slates of a request.
"""

from torch import Tensor


def group_advantages(rewards: Tensor, smallest_std: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Rewards standardised within their group.

    Args:
        rewards: `[B, G] float32`.

    Returns:
        `[B, G] float32` advantages, and `[B] bool`, False for a group whose rewards are all the same:
        it teaches nothing and is to be skipped.
    """
    mean = rewards.mean(1, keepdim=True)
    std = rewards.std(1, keepdim=True, correction=0)
    useful = std.squeeze(1) > smallest_std
    return (rewards - mean) / std.clamp(min=smallest_std), useful
