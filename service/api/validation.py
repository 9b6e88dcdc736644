"""Parsing a body, and what it must satisfy beyond its type: limits that are settings, and no duplicates.

The checks are one pass over the parsed body, so that they know the settings and name the path of every fault.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

import msgspec
from pydantic import BaseModel, ValidationError

from service.api.answers import FEATURE_MESSAGE, from_validation
from service.bodies.common import MAX_TIMESTAMP, Features
from service.bodies.rerank import RerankRequest
from service.bodies.twins import twin
from service.bodies.users import ContextBody, Event, FeedbackRequest
from service.context.encoding import encode_profile
from service.errors import Fault, InvalidRequestError
from service.settings import Settings

Parsed = TypeVar("Parsed", bound=BaseModel)
P = ParamSpec("P")
Faults = Iterator[Fault]
_LONG = (str, list)
MOST_SURROGATES = 20


def parse(model: type[Parsed], body: bytes | bytearray) -> Parsed:
    """A body as its model's twin, or, if the twin rejects it, as the model.

    Raises:
        InvalidRequestError: the model rejects it too.
    """
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        return cast(Parsed, _decoder(model).decode(body))
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _surrogates(body) or from_validation(error) from None


def _surrogates(body: bytes | bytearray) -> InvalidRequestError | None:
    """The fields whose text holds half a surrogate pair: JSON can write what no decoder of ours, and no path,
    can read. Of long bodies nobody asks."""
    if b"\\u" not in body or len(body) > 65_536:
        return None
    faults: list[Fault] = []
    with suppress(ValueError, RecursionError):
        _find_surrogates("", json.loads(body), faults)
    return InvalidRequestError(faults[:MOST_SURROGATES]) if faults else None


def _find_surrogates(path: str, value: Any, faults: list[Fault]) -> None:
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        faults.append(Fault(path.lstrip(".") or "body", "half of a surrogate pair is no text"))
    elif isinstance(value, list | dict):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            _find_surrogates(f"{path}.{name}", part, faults)


@cache
def _decoder(model: type[BaseModel]) -> msgspec.json.Decoder[BaseModel]:
    return msgspec.json.Decoder(twin(model))


def _check(faults: Callable[P, Faults]) -> Callable[P, None]:
    """A generator of faults as a function that raises `InvalidRequestError` if there are any."""

    @wraps(faults)
    def check(*arguments: P.args, **named: P.kwargs) -> None:
        if found := list(faults(*arguments, **named)):
            raise InvalidRequestError(found)

    return check


@_check
def check_rerank(request: RerankRequest, settings: Settings) -> Faults:
    if request.user_id is not None:
        yield from _user_id_faults("user_id", request.user_id, settings)
    if len(request.items) > settings.max_items:
        yield Fault("items", f"at most {settings.max_items} items, got {len(request.items)}")
    wanted = min(request.top_n or 0, len(request.items))
    if wanted > settings.max_top_n:
        yield Fault("top_n", f"at most {settings.max_top_n} items are re-ranked, got {wanted}")
    if request.deadline_ms is not None and request.deadline_ms > settings.max_deadline_ms:
        yield Fault("deadline_ms", f"at most {settings.max_deadline_ms:g}")
    ids = [item.id for item in request.items]
    if len(set(ids)) < len(ids) or max(map(len, ids)) > settings.max_id_length:
        yield from _item_id_faults(ids, settings)
    for index, item in enumerate(request.items):
        if item.features:
            yield from _feature_faults(f"items.{index}.features", item.features, settings)
    if request.features_f32 is not None:
        yield from _matrix_name_faults(request.features_f32.names, settings)
    yield from _feature_faults("context", request.context, settings)
    timestamp = request.context.get("timestamp")
    if timestamp is not None and not (isinstance(timestamp, int | float) and 0 <= timestamp <= MAX_TIMESTAMP):
        yield Fault("context.timestamp", f"expected unix seconds, 0 to {MAX_TIMESTAMP:.0e}")
    if request.reasoning is not None and (request.reasoning.max_tokens or 0) > settings.max_reasoning_tokens:
        yield Fault("reasoning.max_tokens", f"at most {settings.max_reasoning_tokens}")


@_check
def check_context(body: ContextBody, settings: Settings) -> Faults:
    yield from _feature_faults("profile", body.profile, settings)
    size = len(encode_profile(body.profile))
    if size > settings.max_profile_bytes:
        yield Fault("profile", f"at most {settings.max_profile_bytes} bytes, got {size}")
    yield from _event_faults("history", body.history, settings)


@_check
def check_feedback(request: FeedbackRequest, settings: Settings) -> Faults:
    if len(request.events) > settings.max_feedback_events:
        yield Fault("events", f"at most {settings.max_feedback_events} events, got {len(request.events)}")
    yield from _event_faults("events", request.events, settings)


def _matrix_name_faults(names: Sequence[str], settings: Settings) -> Faults:
    if len(names) > settings.max_feature_values:
        yield Fault("features_f32.names", f"at most {settings.max_feature_values} names, got {len(names)}")
    yield from _repeat_faults("features_f32.names.{}", names)


def _event_faults(field: str, events: Sequence[Event], settings: Settings) -> Faults:
    for index, event in enumerate(events):
        yield from _id_faults(f"{field}.{index}.item_id", event.item_id, settings)


def _item_id_faults(ids: Sequence[str], settings: Settings) -> Faults:
    yield from _repeat_faults("items.{}.id", ids)
    for index, item_id in enumerate(ids):
        yield from _id_faults(f"items.{index}.id", item_id, settings)


def _repeat_faults(field: str, values: Sequence[str]) -> Faults:
    """Every value that occurred before. `field` has `{}` for its index."""
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield Fault(field.format(index), f"{value!r} occurs twice")
        seen.add(value)


def _id_faults(field: str, value: str, settings: Settings) -> Faults:
    if not 1 <= len(value) <= settings.max_id_length:
        yield Fault(field, f"1 to {settings.max_id_length} characters, got {len(value)}")


def _user_id_faults(field: str, value: str, settings: Settings) -> Faults:
    yield from _id_faults(field, value, settings)
    if value in (".", ".."):
        yield Fault(field, "what a path leaves out cannot be forgotten by it")


check_user_id = _check(_user_id_faults)


def _feature_faults(field: str, features: Features, settings: Settings) -> Faults:
    if len(features) > settings.max_features:
        yield Fault(field, f"at most {settings.max_features} features, got {len(features)}")
    for name, value in features.items():
        if not isinstance(value, _LONG):
            continue
        if len(value) > settings.max_feature_values:
            yield Fault(f"{field}.{name}", f"at most {settings.max_feature_values} values, got {len(value)}")
        elif isinstance(value, list) and str in (kinds := set(map(type, value))):
            if len(kinds) > 1:
                yield Fault(f"{field}.{name}", FEATURE_MESSAGE)
            elif (size := len("".join(cast(list[str], value)).encode())) > settings.max_feature_bytes:
                yield Fault(
                    f"{field}.{name}", f"at most {settings.max_feature_bytes} bytes of text, got {size}"
                )
