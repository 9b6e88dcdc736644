"""A user's context as bytes: lines of JSON, the profile first, then an `[item_id, type, timestamp]` an event.

JSON holds no line feed, so that whoever adds or drops events, a script in Redis too, need not read them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from bundle.features.history import Interaction, UserContext
from service.context.store import StoreLimits

_Profile = dict[str, int | float | str | list[str | int | float] | None]

encode = msgspec.json.Encoder().encode
_profile = msgspec.json.Decoder(_Profile).decode
_events = msgspec.json.Decoder(list[tuple[str, str, float | None]]).decode


def encode_profile(profile: Mapping[str, Any]) -> bytes:
    return encode(dict(profile))


def encode_event(event: Interaction) -> bytes:
    return encode((event.item_id, event.type, event.timestamp))


def encode_context(context: UserContext) -> bytes:
    return b"\n".join((encode_profile(context.profile), *map(encode_event, context.history)))


def decode_context(value: bytes) -> UserContext:
    """Raises: ValueError: it is none."""
    profile, *events = value.split(b"\n")
    history = tuple(Interaction(*event) for event in _events(b"[" + b",".join(events) + b"]"))
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
