"""What is sent: seeded rerank bodies of a bundle's own items, and the users they are for.

`ids` names items and leaves their features to the service's catalogue; `features` sends every declared
feature of every item. The same bundle, kind and seed give the same bytes, to us and to every peer.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bundle.features.fitting import SECONDS_PER_YEAR, FittedFeatures, key
from bundle.features.history import Interaction, UserContext
from bundle.features.schema import AGE_KINDS, FieldSpec
from bundle.manifest import FEATURES
from bundle.repository import locate
from loadtest.payloads import read_item_ids, zipf

Kind = Literal["ids", "features"]

NOW = 1_700_000_000
USERS = 1000
COLD_SHARE = 0.1
BODIES = 1024
LONGEST_HISTORY = 50


@dataclass(frozen=True)
class Workload:
    """Bodies to send over and over, and what is known about their users beforehand."""

    bodies: list[bytes]
    users: dict[str, UserContext]


def workload(bundle: Path, kind: Kind = "ids", sizes: tuple[int, ...] = (50,), seed: int = 0) -> Workload:
    """The workload of a bundle.

    Args:
        sizes: candidates per request, all equally likely.
    """
    drawn = np.random.default_rng(seed)
    item_ids = read_item_ids(bundle)
    popular, frequent = zipf(len(item_ids), 0.8), zipf(USERS, 1.0)
    fields = RandomFeatures(bundle, seed)
    bodies = []
    for number in range(BODIES):
        size = min(int(drawn.choice(sizes)), len(item_ids))
        items: list[dict[str, Any]] = [
            {"id": item_ids[item]}
            for item in drawn.choice(len(item_ids), size, replace=False, p=popular).tolist()
        ]
        if kind == "features":
            items = [{**item, "features": fields.item()} for item in items]
        cold = drawn.random() < COLD_SHARE
        user = f"cold-{number}" if cold else f"user-{drawn.choice(USERS, p=frequent)}"
        body = {"user_id": user, "items": items, "context": {"timestamp": NOW}, "top_n": 10}
        bodies.append(json.dumps(body, separators=(",", ":")).encode())
    return Workload(bodies, users(item_ids, seed))


def users(item_ids: list[str], seed: int = 0) -> dict[str, UserContext]:
    """Histories of returning users: up to 50 events, three in ten of them clicks."""
    drawn = np.random.default_rng([seed, 1])
    popular = zipf(len(item_ids), 0.8)
    known = {}
    for number in range(USERS):
        length = min(int(drawn.integers(0, LONGEST_HISTORY + 1)), len(item_ids))
        seen = drawn.choice(len(item_ids), length, replace=False, p=popular).tolist()
        history = [
            Interaction(
                item_ids[item], "click" if drawn.random() < 0.3 else "impression", float(NOW - 60 * age)
            )
            for age, item in zip(range(length, 0, -1), seen, strict=True)
        ]
        known[f"user-{number}"] = UserContext({}, tuple(history))
    return known


def context_body(context: UserContext) -> bytes:
    """The body of `PUT /v1/users/{id}/context`."""
    history = [
        {"item_id": event.item_id, "type": event.type, "timestamp": event.timestamp}
        for event in context.history
    ]
    return json.dumps({"profile": dict(context.profile), "history": history}).encode()


class RandomFeatures:
    """Raw items as the bundle's training data had them: its vocabularies, its means and spreads."""

    def __init__(self, bundle: Path, seed: int) -> None:
        self._fitted = FittedFeatures.model_validate_json((locate(bundle) / FEATURES).read_bytes())
        self._random = random.Random(seed)
        self._vocabularies = {name: list(known) for name, known in self._fitted.vocabulary.items()}

    def item(self) -> dict[str, Any]:
        return {field.name: self._value(field) for field in self._fitted.feature_schema.of("item")}

    def _value(self, field: FieldSpec) -> Any:
        match field.kind:
            case "categorical":
                return self._random.choice(self._vocabularies[key(field)])
            case "multivalued":
                known = self._vocabularies[key(field)]
                return self._random.sample(known, min(field.max_values, len(known)))
            case "vector":
                return [round(self._random.gauss(0, 1), 4) for _ in range(field.size or 0)]
        scale = self._fitted.scales[key(field)]
        number = self._random.gauss(scale.mean, scale.std)
        number = float(np.expm1(min(number, 30.0))) if field.log else number
        if field.kind == "text_length":
            return "x" * max(1, min(round(number), 1000))
        return round(NOW - number * SECONDS_PER_YEAR if field.kind in AGE_KINDS else max(number, 0.0), 3)
