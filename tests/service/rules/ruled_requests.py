"""Requests with rules as callers may send them, from a seed: some cannot be satisfied, most can."""

from collections.abc import Sequence
from random import Random
from typing import Any

Json = dict[str, Any]

NEW_WORDS = ("telenovela", "Drama", "drama, comedy", "", "5")
BRANDS = ("acme", "emca", 5, 5.0, "5", 7.5, "true", None)


def request(rng: Random, catalogue: Sequence[str], genres: Sequence[str], small: bool) -> Json:
    """One of them.

    Args:
        small: few enough items to try all lists.
    """
    count = rng.randint(1, 6) if small else rng.choice((rng.randint(1, 12), rng.randint(10, 40)))
    ids = rng.sample(catalogue, count)
    if rng.random() < 0.25:
        for at in rng.sample(range(count), rng.randint(1, count)):
            ids[at] = f"new {ids[at]}"
    items = [_item(rng, item_id, genres) for item_id in ids]
    body: Json = {"items": items, "constraints": _constraints(rng, ids, items, genres)}
    if rng.random() < 0.7:
        body["top_n"] = rng.randint(1, 5 if small else 15)
    elif small:
        body["top_n"] = 4
    _how(rng, body)
    return body


def _item(rng: Random, item_id: str, genres: Sequence[str]) -> Json:
    item: Json = {"id": item_id}
    features: Json = {}
    if rng.random() < 0.1:
        words = rng.sample([*genres, *NEW_WORDS], rng.randint(0, 3))
        features["genres"] = rng.choice((words, words[0] if words else None))
    if rng.random() < 0.1:
        features["brand"] = rng.choice(BRANDS)
    if features:
        item["features"] = features
    return item


def _constraints(rng: Random, ids: list[str], items: list[Json], genres: Sequence[str]) -> Json:
    constraints: Json = {}
    excluded: list[str] = []
    if rng.random() < 0.3:
        excluded = rng.sample([*ids, "elsewhere"], rng.randint(1, max(1, len(ids) // 4)))
        constraints["excluded"] = excluded
    left = [item_id for item_id in ids if item_id not in excluded]
    if rng.random() < 0.4 and left:
        pinned = rng.sample(left, min(len(left), rng.choice((1, 1, 1, 2, 3))))
        within = max(len(pinned), 12 if rng.random() < 0.1 else min(len(left), 4))
        places = rng.sample(range(within), len(pinned))
        constraints["pinned"] = [
            {"id": item_id, "position": place} for item_id, place in zip(pinned, places, strict=True)
        ]
    constraints["groups"] = {
        name: rng.sample([*ids, "elsewhere"], rng.randint(0, len(ids))) for name in ("promo", "é \U0001f600")
    }
    features = (
        [*_FEATURES, "brand"] if any("brand" in item.get("features", {}) for item in items) else _FEATURES
    )
    if rng.random() < 0.8:
        constraints["at_most"] = [
            _rule(rng, features, genres, each=True) | _optional(rng, "window", 6)
            for _ in range(rng.choice((1, 1, 2, 3)))
        ]
    if rng.random() < 0.3:
        constraints["at_least"] = [
            _rule(rng, features, genres, each=False) | _optional(rng, "top", 8)
            for _ in range(rng.choice((1, 1, 2)))
        ]
    return constraints


_FEATURES = ("genres",)


def _rule(rng: Random, features: Sequence[str], genres: Sequence[str], each: bool) -> Json:
    count = {"count": rng.choice((0, 1, 1, 2, 2, 3) if each else (1, 1, 1, 2, 3))}
    if rng.random() < 0.4:
        return {"group": rng.choice(("promo", "é \U0001f600"))} | count
    feature = rng.choice(features)
    if each and rng.random() < 0.5:
        return {"feature": feature} | count
    values = BRANDS[:-1] if feature == "brand" else (*genres, *genres, *NEW_WORDS)
    return {"feature": feature, "value": rng.choice(values)} | count


def _optional(rng: Random, name: str, most: int) -> Json:
    return {name: rng.randint(1, most)} if rng.random() < 0.5 else {}


def _how(rng: Random, body: Json) -> None:
    """What else is asked for."""
    if rng.random() < 0.2:
        body["return_all"] = True
    if rng.random() < 0.15:
        body["deadline_ms"] = 1e-6  # over before it begins
        body["strict"] = rng.random() < 0.2
    if rng.random() < 0.3:
        body["sampling"] = {"temperature": rng.choice((0.5, 1.0, 5.0)), "seed": rng.randint(0, 2**32)}
    elif rng.random() < 0.15:
        body["reasoning"] = {"lookahead": rng.randint(1, 3), "entropy_threshold": 0.1}
    if rng.random() < 0.1:
        body["explain"] = True
