"""A user's context as bytes: lines of JSON, the profile first, then an `[item_id, type, timestamp]` an event,
and its item's features behind them if there are any.

JSON holds no line feed, so that whoever adds or drops events, a script in Redis too, need not read them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from bundle.features.history import Interaction, UserContext
from service.context.store import StoreLimits

_Features = dict[str, int | float | str | list[str | int | float] | None]


class _Told(msgspec.Struct, array_like=True, frozen=True):
    """An event that may have features."""

    item_id: str
    type: str
    timestamp: float | None
    features: _Features | None = None


encode = msgspec.json.Encoder().encode
_profile = msgspec.json.Decoder(_Features).decode
_events = msgspec.json.Decoder(list[tuple[str, str, float | None]]).decode
_told = msgspec.json.Decoder(list[_Told]).decode


def encode_profile(profile: Mapping[str, Any]) -> bytes:
    return encode(dict(profile))


def encode_event(event: Interaction) -> bytes:
    known = event.item_id, event.type, event.timestamp
    return encode((*known, dict(event.features)) if event.features else known)


def encode_context(context: UserContext) -> bytes:
    return b"\n".join((encode_profile(context.profile), *map(encode_event, context.history)))


def decode_context(value: bytes) -> UserContext:
    """Raises: ValueError: it is none."""
    profile, *events = value.split(b"\n")
    lines = b"[" + b",".join(events) + b"]"
    try:
        history = tuple(Interaction(*event) for event in _events(lines))
    except msgspec.ValidationError:  # few have features, and without any it is quicker
        history = tuple(
            Interaction(one.item_id, one.type, one.timestamp, one.features) for one in _told(lines)
        )
    return UserContext(_profile(profile), history)


def newest(history: Sequence[Interaction], limits: StoreLimits) -> tuple[Interaction, ...]:
    """The events that are kept of a history: as many of the last as the limits allow."""
    return tuple(history[len(history) - _fitting(reversed(history), limits) :])


def _fitting(latest_first: Iterable[Interaction], limits: StoreLimits) -> int:
    count = size = 0
    for event in latest_first:
        size += len(encode_event(event)) + 1
        if count == limits.max_history or size > limits.max_history_bytes:
            break
        count += 1
    return count
