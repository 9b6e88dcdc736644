"""The lines of a decision log, each a JSON object. `event` says which: `decision`, `feedback` or `forgotten`.

Keys are those of the API where it has them; what is absent has its default. Legend: N candidates, K positions
written by the model.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Index = Annotated[int, Meta(ge=0)]


class Shown(Struct, frozen=True, omit_defaults=True):
    """An item as the caller sent it: in the caller's order, which is that of every fallback."""

    id: str
    score: float | None = None
    features: dict[str, Any] | None = None


class Matrix(Struct, frozen=True):
    """Numeric features of all items as they were sent: base64 of little-endian float32, `[N, names]`."""

    names: tuple[str, ...]
    data: str


class Seen(Struct, frozen=True, array_like=True):
    """A past event of the user that the model was told of, as `[item_id, type, timestamp]`: with names they
    would be half of a line. `timestamp` in unix seconds."""

    item_id: str
    type: str
    timestamp: float | None = None


class Exploration(Struct, frozen=True):
    """The mixture that the list was chosen by: with probability `share` it is sampled at `temperature`, else
    it is the greedy one. A share of 1 is a list that was asked to be sampled."""

    share: Annotated[float, Meta(gt=0.0, le=1.0)]
    temperature: Annotated[float, Meta(gt=0.0)]


class Decision(Struct, frozen=True, omit_defaults=True, tag_field="event", tag="decision"):
    """One list that was answered.

    Attributes:
        id: the recommendation's; None if none was recorded, so that no feedback can come.
        at: unix seconds of its arrival.
        user_id: as the setting has it: the id, its keyed hash, or None. None too for anonymous lists.
        items: `[N]`, as sent.
        profile, history: what was known of the user, oldest first.
        told: features that came with events of the history, by item.
        wanted: how many items were asked for.
        slate: what was shown, as indices into `items`; the first K were written by the model.
        probability: `[K]`, of each item among those remaining, at temperature 1.
        propensity: `[K]`, of each item given those before it, under the policy that chose it,
            exploration included.
        reasoning_tokens, entropy_before, entropy_after: `[K]`; nats.
        controls: those of the model that differ from the bundle's own, by name.
        exploration: None where the list was the greedy one for certain.
        seed: of the sampling; None if the greedy list was taken.
        constraints: as sent.
        fallback: why this is the caller's order.
        took_ms: from arrival to answer.
    """

    request_id: str
    at: float
    model: str
    model_version: str
    items: tuple[Shown, ...]
    slate: tuple[Index, ...]
    wanted: Annotated[int, Meta(ge=1)]
    took_ms: float
    id: str | None = None
    user_id: str | None = None
    matrix: Matrix | None = None
    context: dict[str, Any] = {}
    profile: dict[str, Any] = {}
    history: tuple[Seen, ...] = ()
    told: dict[str, dict[str, Any]] = {}
    probability: tuple[Probability, ...] = ()
    propensity: tuple[Probability, ...] = ()
    reasoning_tokens: tuple[Index, ...] = ()
    entropy_before: tuple[float, ...] = ()
    entropy_after: tuple[float, ...] = ()
    controls: dict[str, float] = {}
    exploration: Exploration | None = None
    seed: int | None = None
    constraints: dict[str, Any] | None = None
    fallback: str | None = None


class Outcome(Struct, frozen=True, omit_defaults=True):
    """What the user did with one item. `timestamp` in unix seconds."""

    item_id: str
    type: str
    timestamp: float
    event_id: str | None = None


class Feedback(Struct, frozen=True, omit_defaults=True, tag_field="event", tag="feedback"):
    """What came of a recommendation: the events that were applied. `id` is the recommendation's."""

    id: str
    at: float
    outcomes: tuple[Outcome, ...]
    user_id: str | None = None


class Forgotten(Struct, frozen=True, tag_field="event", tag="forgotten"):
    """A user asked to be forgotten: no reader may use an earlier line of theirs; compaction removes it."""

    user_id: str
    at: float


Line = Decision | Feedback | Forgotten

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Line).decode
"""Raises: msgspec.ValidationError: names the key and what was expected of it."""
