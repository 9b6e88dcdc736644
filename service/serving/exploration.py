"""Exploration: a share of the lists is sampled, the others are greedy, and the propensities of both are those
of this mixture. A request that says itself how its list is to be written is left alone.
"""

import random
from hashlib import blake2b
from typing import Literal, NamedTuple, Self

from bundle.manifest import BundleError
from engine.loaded_model import LoadedModel
from service.bodies.rerank import RerankRequest
from service.settings import COLDEST, Settings

Stickiness = Literal["request", "user", "none"]

BITS = 53
"""Of a seed, and of what is compared with the share: every one of them is a float of its own."""


class Explored(NamedTuple):
    """How the list of one request is to be chosen.

    Attributes:
        share: of lists that are sampled.
        temperature: of the sampling; the model's own for None.
        seed: None for the greedy list.
    """

    share: float
    temperature: float | None
    seed: int | None


class Exploration:
    """Which lists are sampled."""

    def __init__(self, share: float, temperature: float | None, stickiness: Stickiness) -> None:
        self._share, self._temperature, self._stickiness = share, temperature, stickiness

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """None where nothing is to be explored."""
        if not settings.exploration_share:
            return None
        return cls(
            settings.exploration_share, settings.exploration_temperature, settings.exploration_stickiness
        )

    def draw(self, request: RerankRequest, request_id: str) -> Explored | None:
        """None for a request that asks for sampling or lookahead itself. What is sticky is so in all workers
        and after restarts; a request with its seed, so that it gets the same list again."""
        if request.sampling is not None or (request.reasoning is not None and request.reasoning.lookahead):
            return None
        place, seed = random.getrandbits(BITS), random.getrandbits(BITS)
        if self._stickiness == "request":
            place, seed = _fixed(request_id)
        elif self._stickiness == "user" and request.user_id is not None:
            place, _ = _fixed(request.user_id)
        return Explored(self._share, self._temperature, seed if place < self._share * 2**BITS else None)


def check(model: LoadedModel, temperature: float | None) -> None:
    """
    Args:
        temperature: of the sampling; the model's own for None.

    Raises:
        BundleError: the propensities of what this model would explore cannot be told.
    """
    manifest = model.manifest
    if temperature is None and manifest.selection_temperature < COLDEST:
        raise BundleError(
            f"{manifest.name} {manifest.version} selects at temperature {manifest.selection_temperature:g}, "
            "too low to explore at: set exploration_temperature"
        )
    if manifest.lookahead:
        raise BundleError(
            f"{manifest.name} {manifest.version} looks ahead, and nobody can say how probable its list would "
            "have been if it were sampled: export it without lookahead, or set exploration_share to 0"
        )
    if not model.runner.tells_greedy:
        raise BundleError(
            f"{manifest.name} {manifest.version}: its graphs are of an older version, and do not tell which "
            "items are the greedy ones: export it again, set decoding to native, or exploration_share to 0"
        )


def _fixed(sticky: str) -> tuple[int, int]:
    """Two numbers of `BITS` that look random, and are always the same; others than models are chosen by."""
    text = sticky.encode("utf-8", "surrogatepass")
    hashed = int.from_bytes(blake2b(text, digest_size=16, person=b"exploration").digest())
    return hashed >> (128 - BITS), hashed & (2**BITS - 1)
