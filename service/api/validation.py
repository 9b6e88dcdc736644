"""What a parsed body must still satisfy: limits that are settings, and duplicates.

Done in one pass after parsing, so that limits can be settings and the path of every fault is named.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import TypeVar, cast

import msgspec
from pydantic import BaseModel, ValidationError

from service.api.answers import FEATURE_MESSAGE, from_validation
from service.bodies.common import Features
from service.bodies.rerank import RerankRequest
from service.bodies.twins import twin
from service.bodies.users import ContextBody, Event, FeedbackRequest
from service.errors import Fault, InvalidRequestError
from service.settings import Settings

Parsed = TypeVar("Parsed", bound=BaseModel)
Faults = Iterator[Fault]
_LONG = (str, list)


def parse(model: type[Parsed], body: bytes | bytearray) -> Parsed:
    """A body as `model`, or as its twin.

    Raises:
        InvalidRequestError: it is not one.
    """
    with suppress(msgspec.DecodeError, UnicodeDecodeError):  # the model decides, and names what is wrong
        return cast(Parsed, _decoder(model).decode(body))
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error) from None


@cache
def _decoder(model: type[BaseModel]) -> msgspec.json.Decoder[BaseModel]:
    return msgspec.json.Decoder(twin(model))


def check_rerank(request: RerankRequest, settings: Settings) -> None:
    """Raises: InvalidRequestError."""
    _raise(_rerank_faults(request, settings))


def check_context(body: ContextBody, settings: Settings) -> None:
    """Raises: InvalidRequestError."""
    _raise(_context_faults(body, settings))


def check_feedback(request: FeedbackRequest, settings: Settings) -> None:
    """Raises: InvalidRequestError."""
    _raise(_feedback_faults(request, settings))


def check_id(field: str, value: str, settings: Settings) -> None:
    """Raises: InvalidRequestError."""
    _raise(_id_faults(field, value, settings))


def _raise(faults: Faults) -> None:
    if found := list(faults):
        raise InvalidRequestError(found)


def _rerank_faults(request: RerankRequest, settings: Settings) -> Faults:
    if request.user_id is not None:
        yield from _id_faults("user_id", request.user_id, settings)
    if len(request.items) > settings.max_items:
        yield Fault("items", f"at most {settings.max_items} items, got {len(request.items)}")
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
    if timestamp is not None and not (isinstance(timestamp, int | float) and 0 <= timestamp <= 1e11):
        yield Fault("context.timestamp", "expected unix seconds")
    if request.reasoning is not None and (request.reasoning.max_tokens or 0) > settings.max_reasoning_tokens:
        yield Fault("reasoning.max_tokens", f"at most {settings.max_reasoning_tokens}")


def _matrix_name_faults(names: Sequence[str], settings: Settings) -> Faults:
    if len(names) > settings.max_feature_values:
        yield Fault("features_f32.names", f"at most {settings.max_feature_values} names, got {len(names)}")
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield Fault(f"features_f32.names.{index}", f"{name!r} is there twice")
        seen.add(name)


def _context_faults(body: ContextBody, settings: Settings) -> Faults:
    yield from _feature_faults("profile", body.profile, settings)
    yield from _event_faults("history", body.history, settings)


def _feedback_faults(request: FeedbackRequest, settings: Settings) -> Faults:
    if len(request.events) > settings.max_feedback_events:
        yield Fault("events", f"at most {settings.max_feedback_events} events, got {len(request.events)}")
    yield from _event_faults("events", request.events, settings)


def _event_faults(field: str, events: Sequence[Event], settings: Settings) -> Faults:
    for index, event in enumerate(events):
        yield from _id_faults(f"{field}.{index}.item_id", event.item_id, settings)


def _item_id_faults(ids: Sequence[str], settings: Settings) -> Faults:
    seen: set[str] = set()
    for index, item_id in enumerate(ids):
        if item_id in seen:
            yield Fault(f"items.{index}.id", f"{item_id!r} is there twice")
        seen.add(item_id)
        yield from _id_faults(f"items.{index}.id", item_id, settings)


def _id_faults(field: str, value: str, settings: Settings) -> Faults:
    if not 1 <= len(value) <= settings.max_id_length:
        yield Fault(field, f"1 to {settings.max_id_length} characters, got {len(value)}")


def _feature_faults(field: str, features: Features, settings: Settings) -> Faults:
    if len(features) > settings.max_features:
        yield Fault(field, f"at most {settings.max_features} features, got {len(features)}")
    for name, value in features.items():
        if not isinstance(value, _LONG):
            continue
        if len(value) > settings.max_feature_values:
            yield Fault(f"{field}.{name}", f"at most {settings.max_feature_values} values, got {len(value)}")
        elif isinstance(value, list) and len(kinds := set(map(type, value))) > 1 and str in kinds:
            yield Fault(f"{field}.{name}", FEATURE_MESSAGE)
