"""What is sent and what comes back, named as in the API (`/docs` of a running service explains each)."""

import sys
from array import array
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

FeatureValue = str | float | Sequence[str] | Sequence[float] | None
Features = Mapping[str, FeatureValue]


@dataclass(frozen=True, slots=True)
class Item:
    """One candidate."""

    id: str
    score: float | None = None
    features: Features | None = None


@dataclass(frozen=True, slots=True)
class FeatureMatrix:
    """Numeric features of all items at once: base64 of little-endian float32, a row for each item."""

    names: Sequence[str]
    data: str

    @classmethod
    def of(cls, names: Sequence[str], rows: Iterable[Sequence[float]]) -> "FeatureMatrix":
        """
        Args:
            rows: one for each item in their order, with a number for each name; NaN where there is none.

        Raises:
            ValueError: a row has another length.
        """
        numbers = array("f")
        for index, row in enumerate(rows):
            if len(row) != len(names):
                raise ValueError(f"row {index} has {len(row)} numbers for {len(names)} names")
            numbers.extend(row)
        if sys.byteorder == "big":
            numbers.byteswap()
        return cls(names, b64encode(numbers.tobytes()).decode())


@dataclass(frozen=True, slots=True)
class Event:
    """What a user did with an item.

    Attributes:
        timestamp: unix seconds; that of its receipt if absent.
        event_id: it counts once for the user, however often it is sent; made up if absent.
        features: of an item that the model may lack.
    """

    item_id: str
    type: str
    position: int | None = None
    timestamp: float | None = None
    event_id: str | None = None
    features: Features | None = None


@dataclass(frozen=True, slots=True)
class Result:
    id: str
    index: int
    score: float | None = None
    propensity: float | None = None


@dataclass(frozen=True, slots=True)
class TraceStep:
    entropy: float
    uncertainty: float
    candidates: tuple[int, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TracePosition:
    position: int
    id: str
    probability: float
    reasoning_tokens: int
    entropy_before: float
    entropy_after: float
    uncertainty: float
    steps: tuple[TraceStep, ...] | None = None


@dataclass(frozen=True, slots=True)
class Reasoning:
    tokens: int
    stop: str
    judged: int = 0
    trace: tuple[TracePosition, ...] | None = None


@dataclass(frozen=True, slots=True)
class UsedSampling:
    temperature: float
    seed: int


@dataclass(frozen=True, slots=True)
class Ignored:
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """The re-ranked list, or the given order with the reason in `fallback`.

    Attributes:
        fallback: None, one of the service's, or `unreachable`: then nothing came from the service in time,
            and `results` are the given order.
    """

    request_id: str
    results: tuple[Result, ...]
    recommendation_id: str | None = None
    model: str | None = None
    model_version: str | None = None
    missing_ids: tuple[str, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    fallback: str | None = None
    context: str | None = None
    reasoning: Reasoning | None = None
    sampling: UsedSampling | None = None
    shortened_by: tuple[str, ...] | None = None
    took_ms: float | None = None

    @property
    def ids(self) -> list[str]:
        """Of the list, first to last."""
        return [result.id for result in self.results]


@dataclass(frozen=True, slots=True)
class IgnoredEvent:
    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class FeedbackAnswer:
    """How many events were accepted, and how many of them added to the user's history."""

    request_id: str
    accepted: int
    applied: int
    ignored: dict[str, int] = field(default_factory=dict)
    ignored_events: tuple[IgnoredEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class EventsAnswer:
    request_id: str
    applied: int
    ignored: tuple[IgnoredEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """A past interaction, with features of an item that the model may lack."""

    item_id: str
    type: str
    timestamp: float | None = None
    features: Features | None = None


@dataclass(frozen=True, slots=True)
class UserContext:
    """What is known of a user; `history` oldest first."""

    profile: Features = field(default_factory=dict)
    history: tuple[History, ...] = ()


def to_json(value: Any) -> Any:
    """A body without what is absent."""
    given = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    return {name: one for name, one in given.items() if one is not None}


Read = TypeVar("Read")


def from_json(kind: type[Read], data: Any) -> Read:
    """What a dataclass says of an answer. Keys that it does not know, of a later service, are left out."""
    return cast(Read, _read(kind, data))


def _read(kind: Any, data: Any) -> Any:
    if data is None:
        return None
    if get_origin(kind) in (Union, UnionType):
        kind = next(one for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is tuple:
        return tuple(_read(get_args(kind)[0], one) for one in data)
    if is_dataclass(kind):
        make, hints = cast(type[Any], kind), get_type_hints(kind)
        return make(
            **{one.name: _read(hints[one.name], data[one.name]) for one in fields(kind) if one.name in data}
        )
    return data
