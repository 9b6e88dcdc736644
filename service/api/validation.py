"""What a body must satisfy beyond its type: limits that are settings, and no duplicates.

The checks are one pass over the parsed body, so that they know the settings and name the path of every fault.
Counts come first: what is too long is not looked into.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from itertools import chain
from typing import Any, ParamSpec, cast

from service.bodies.common import MAX_TIMESTAMP, Features
from service.bodies.constraints import AtLeast, AtMost, Constraints
from service.bodies.documents import DocumentsRequest
from service.bodies.rerank import RerankRequest
from service.bodies.users import ContextBody, Event, EventsRequest, FeedbackRequest
from service.context.encoding import encode_profile
from service.errors import Fault, InvalidRequestError
from service.settings import Settings

P = ParamSpec("P")
Faults = Iterator[Fault]
_LONG = {str, list}
MIXED = "expected numbers or texts, not both"


def _check(faults: Callable[P, Faults]) -> Callable[P, None]:
    """A generator of faults as a function that raises `InvalidRequestError` if there are any."""

    @wraps(faults)
    def check(*arguments: P.args, **named: P.kwargs) -> None:
        found = faults(*arguments, **named)
        if (first := next(found, None)) is not None:
            raise InvalidRequestError(chain([first], found))

    return check


@_check
def check_rerank(request: RerankRequest, settings: Settings) -> Faults:
    if request.user_id is not None:
        yield from _user_id_faults("user_id", request.user_id, settings)
    if len(request.items) > settings.max_items:
        yield _too_many("items", len(request.items), settings)
        return
    wanted = min(request.top_n or 0, len(request.items))
    if wanted > settings.max_top_n:
        yield Fault("top_n", f"at most {settings.max_top_n} items are re-ranked, got {wanted}")
    if request.deadline_ms is not None and request.deadline_ms > settings.max_deadline_ms:
        yield Fault("deadline_ms", f"at most {settings.max_deadline_ms:g}")
    ids = [item.id for item in request.items]
    if len(set(ids)) < len(ids) or max(map(len, ids)) > settings.max_id_length:
        yield from _item_id_faults(ids, settings)
    features = [item.features for item in request.items]
    if any(features):
        if (values := _values(features)) > settings.max_values:
            yield Fault("items", f"at most {settings.max_values} values of features in all, got {values}")
            return
        for index, of_item in enumerate(features):
            if of_item:
                yield from _feature_faults(f"items.{index}.features", of_item, settings)
    if request.features_f32 is not None:
        yield from _matrix_name_faults(request.features_f32.names, settings)
    yield from _feature_faults("context", request.context, settings)
    timestamp = request.context.get("timestamp")
    if timestamp is not None and not (isinstance(timestamp, int | float) and 0 <= timestamp <= MAX_TIMESTAMP):
        yield Fault("context.timestamp", f"expected unix time, 0 to {MAX_TIMESTAMP:.0e}")
    if traced := request.trace_candidates or 0:
        if traced > settings.max_trace_candidates:
            yield Fault("trace_candidates", f"at most {settings.max_trace_candidates}")
        if not request.explain:
            yield Fault("trace_candidates", "goes with `explain`")
    if request.reasoning is not None and (request.reasoning.max_tokens or 0) > settings.max_reasoning_tokens:
        yield Fault("reasoning.max_tokens", f"at most {settings.max_reasoning_tokens}")
    if request.reasoning is not None and (lookahead := request.reasoning.lookahead or 0):
        if lookahead > settings.max_lookahead:
            yield Fault("reasoning.lookahead", f"at most {settings.max_lookahead}")
        if request.sampling is not None:
            yield Fault("reasoning.lookahead", "what is sampled stays as it was drawn: one of the two")
    if request.constraints is not None:
        yield from _constraint_faults(request.constraints, ids, settings)


@_check
def check_documents(request: DocumentsRequest, settings: Settings) -> Faults:
    """What has to be known before they are taken for items."""
    if len(request.documents) > settings.max_items:
        yield _too_many("documents", len(request.documents), settings)


def _too_many(field: str, count: int, settings: Settings) -> Fault:
    return Fault(field, f"at most {settings.max_items} items, got {count}")


@_check
def check_context(body: ContextBody, settings: Settings) -> Faults:
    yield from _feature_faults("profile", body.profile, settings)
    size = len(encode_profile(body.profile)) if len(body.profile) <= settings.max_features else 0
    if size > settings.max_profile_bytes:
        yield Fault("profile", f"at most {settings.max_profile_bytes} bytes, got {size}")
    yield from _event_faults("history", body.history, settings)


@_check
def check_events(request: FeedbackRequest | EventsRequest, settings: Settings) -> Faults:
    if len(request.events) > settings.max_feedback_events:
        yield Fault("events", f"at most {settings.max_feedback_events} events, got {len(request.events)}")
    else:
        yield from _event_faults("events", request.events, settings)


def _constraint_faults(constraints: Constraints, item_ids: Sequence[str], settings: Settings) -> Faults:
    """What can be told without a model."""
    limits = {
        "pinned": (len(constraints.pinned), settings.max_pinned, "items"),
        "excluded": (len(constraints.excluded), settings.max_excluded, "ids"),
        "groups": (len(constraints.groups), settings.max_groups, "groups"),
    }
    too_many = False
    for name, (count, most, what) in limits.items():
        if count > most:
            too_many = True
            yield Fault(f"constraints.{name}", f"at most {most} {what}, got {count}")
    if (count := sum(map(len, constraints.groups.values()))) > settings.max_group_ids:
        too_many = True
        yield Fault("constraints.groups", f"at most {settings.max_group_ids} ids in all, got {count}")
    if (count := len(constraints.at_most) + len(constraints.at_least)) > settings.max_rules:
        too_many = True
        field = "at_most" if len(constraints.at_most) > len(constraints.at_least) else "at_least"
        yield Fault(f"constraints.{field}", f"at most {settings.max_rules} rules in all, got {count}")
    if too_many:
        return
    if constraints.pinned:
        yield from _pin_faults(constraints, set(item_ids))
    for index, rule in enumerate(constraints.at_most):
        yield from _rule_faults(f"constraints.at_most.{index}", rule, constraints, settings)
    for index, floor in enumerate(constraints.at_least):
        field = f"constraints.at_least.{index}"
        yield from _rule_faults(field, floor, constraints, settings)
        if floor.feature is not None and floor.value is None:
            yield Fault(f"{field}.value", "needed with `feature`")


def _pin_faults(constraints: Constraints, item_ids: set[str]) -> Faults:
    ids, positions = [pin.id for pin in constraints.pinned], [pin.position for pin in constraints.pinned]
    yield from _repeat_faults("constraints.pinned.{}.id", ids)
    yield from _repeat_faults("constraints.pinned.{}.position", positions)
    excluded = set(ids).intersection(constraints.excluded)
    for index, item_id in enumerate(ids):
        if item_id not in item_ids:
            yield Fault(f"constraints.pinned.{index}.id", f"{item_id!r} is not among the items")
        elif item_id in excluded:
            yield Fault(f"constraints.pinned.{index}.id", f"{item_id!r} is in constraints.excluded, too")


def _rule_faults(field: str, rule: AtMost | AtLeast, constraints: Constraints, settings: Settings) -> Faults:
    if (rule.feature is None) == (rule.group is None):
        yield Fault(field, "expected exactly one of `feature` and `group`")
    elif rule.group is not None and rule.group not in constraints.groups:
        yield Fault(f"{field}.group", f"no group {rule.group!r} in constraints.groups")
    if rule.value is not None and rule.feature is None:
        yield Fault(f"{field}.value", "goes with `feature`")
    if isinstance(rule.value, str) and len(rule.value) > settings.max_feature_values:
        yield Fault(f"{field}.value", f"at most {settings.max_feature_values} characters")


def _matrix_name_faults(names: Sequence[str], settings: Settings) -> Faults:
    if len(names) > settings.max_feature_values:
        yield Fault("features_f32.names", f"at most {settings.max_feature_values} names, got {len(names)}")
        return
    yield from _repeat_faults("features_f32.names.{}", names)


def _event_faults(field: str, events: Sequence[Event], settings: Settings) -> Faults:
    for index, event in enumerate(events):
        if event.features:
            yield from _told_faults(f"{field}.{index}.features", event.features, settings)
    if max((len(event.item_id) for event in events), default=0) <= settings.max_id_length:
        return  # nor is any empty, which their type sees to
    for index, event in enumerate(events):
        yield from _id_faults(f"{field}.{index}.item_id", event.item_id, settings)


def _told_faults(field: str, features: Features, settings: Settings) -> Faults:
    """Of features that come with an event, and are kept with it."""
    yield from _feature_faults(field, features, settings)
    if (
        len(features) <= settings.max_features
        and (size := len(encode_profile(features))) > settings.max_event_bytes
    ):
        yield Fault(field, f"at most {settings.max_event_bytes} bytes, got {size}")


def _item_id_faults(ids: Sequence[str], settings: Settings) -> Faults:
    yield from _repeat_faults("items.{}.id", ids)
    for index, item_id in enumerate(ids):
        yield from _id_faults(f"items.{index}.id", item_id, settings)


def _repeat_faults(field: str, values: Sequence[str | int]) -> Faults:
    """Every value that occurred before. `field` has `{}` for its index."""
    seen: set[str | int] = set()
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


def _values(features: Iterable[Features | None]) -> int:
    """How many there are, those in lists counted each, and each list as one more."""
    count = 0
    for of_one in features:
        if of_one:
            count += len(of_one)
            if list in map(type, of_one.values()):
                count += sum([len(value) for value in of_one.values() if type(value) is list])
    return count


def _feature_faults(field: str, features: Features, settings: Settings) -> Faults:
    if len(features) > settings.max_features:
        yield Fault(field, f"at most {settings.max_features} features, got {len(features)}")
        return
    if _LONG.isdisjoint(map(type, features.values())):
        return
    for name, value in features.items():
        if type(value) not in _LONG:
            continue
        value = cast(str | list[Any], value)
        if len(value) > settings.max_feature_values:
            of = "characters" if isinstance(value, str) else "values"
            yield Fault(f"{field}.{name}", f"at most {settings.max_feature_values} {of}, got {len(value)}")
        elif type(value) is list and value and (fault := _mixed_or_long(value, settings.max_feature_bytes)):
            yield Fault(f"{field}.{name}", fault)


def _mixed_or_long(values: list[Any], most_bytes: int) -> str | None:
    """What is wrong with a list that is not empty, if anything is."""
    if type(values[0]) is not str:
        return MIXED if str in map(type, values) else None
    try:
        text = "".join(values)
    except TypeError:
        return MIXED
    if 4 * len(text) > most_bytes and (size := len(text.encode())) > most_bytes:
        return f"at most {most_bytes} bytes of text, got {size}"
    return None
