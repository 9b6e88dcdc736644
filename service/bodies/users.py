"""What is known of a user, and feedback that adds to it."""

from typing import Annotated, Literal

from pydantic import Field

from bundle.features.history import Interaction
from bundle.timestamps import unix_seconds
from service.bodies.common import TIME, Body, Features, Id, IdentifiedBody, Natural, Timestamp, example

IgnoredReason = Literal["anonymous", "duplicate", "not_in_list", "unknown_type"]

EVENT_TYPE = r"^[a-z][a-z0-9_]{0,31}$"
EventType = Annotated[str, Field(pattern=EVENT_TYPE, examples=["click"])]


class Event(Body):
    """One past interaction of a user."""

    item_id: Id
    type: EventType
    timestamp: Timestamp | None = None
    features: Features | None = Field(
        None, description="Raw features of an item that the model may lack. Of one that it has its own count."
    )


def interaction(event: Event, received_at: float | None = None) -> Interaction:
    """What is kept of an event. `received_at` in unix seconds, for one that says no time."""
    at = received_at if event.timestamp is None else unix_seconds(event.timestamp)
    return Interaction(event.item_id, event.type, at, event.features or None)


class ContextBody(Body):
    """What is known of a user."""

    profile: Features = Field(default_factory=dict, description="Raw user features by declared name.")
    history: list[Event] = Field(
        default_factory=list,
        description="Oldest first; the newest are kept. An impression followed by a click on the same item "
        "counts once, as a click.",
    )

    model_config = example(
        {
            "profile": {"age_group": "25-34"},
            "history": [
                {"item_id": "i4", "type": "impression", "timestamp": 1700000000},
                {"item_id": "i4", "type": "click", "timestamp": 1700000009},
            ],
        }
    )


class FeedbackEvent(Event):
    """What the user did with one item of a recommendation."""

    position: Natural | None = Field(
        None, description="Where the item was shown, from 0. Validated, but not stored in the user's history."
    )
    timestamp: Timestamp | None = Field(None, description=f"{TIME} The time of receipt if absent.")
    event_id: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        None, description="Makes it safe to send the event again: it counts once for its user."
    )


class FeedbackRequest(IdentifiedBody):
    """What became of a recommendation."""

    recommendation_id: Annotated[str, Field(min_length=1, max_length=64)]
    events: Annotated[list[FeedbackEvent], Field(min_length=1, description="In the order they happened.")]

    model_config = example(
        {
            "recommendation_id": "5f0c7c1e6d3b4a0f9a57f0f6a8d1b2c3",
            "events": [
                {"type": "impression", "item_id": "i2", "position": 0},
                {"type": "click", "item_id": "i2", "position": 0, "timestamp": 1700000012, "event_id": "e-9"},
            ],
        }
    )


class EventsRequest(IdentifiedBody):
    """What a user did outside any list."""

    events: Annotated[list[FeedbackEvent], Field(min_length=1, description="In the order they happened.")]

    model_config = example({"events": [{"type": "click", "item_id": "i7", "event_id": "e-10"}]})


class IgnoredEvent(Body):
    """An event that was not added to the user's history."""

    index: int = Field(description="Of the event in the request, from 0.")
    reason: IgnoredReason = Field(
        description="`anonymous`: the list was made for nobody; `duplicate`: an event of this user with the "
        "same `event_id` was applied before; `not_in_list`: the list was made of other items; "
        "`unknown_type`: no served model makes anything of it."
    )


class FeedbackResponse(Body):
    """Accepted: a rerank of this user that starts after this answer sees the events."""

    request_id: str
    accepted: int
    applied: int = Field(description="Events added to the user's history.")
    ignored: dict[IgnoredReason, int] = Field(description="The others, counted by reason.")
    ignored_events: list[IgnoredEvent] = Field(description="The same one by one, in their order.")

    model_config = example(
        {
            "request_id": "r-18",
            "accepted": 2,
            "applied": 1,
            "ignored": {"duplicate": 1},
            "ignored_events": [{"index": 1, "reason": "duplicate"}],
        },
    )


class EventsResponse(Body):
    """Accepted: a rerank of this user that starts after this answer sees the events."""

    request_id: str
    applied: int = Field(description="Events added to the user's history.")
    ignored: list[IgnoredEvent] = Field(description="The others, in their order.")

    model_config = example(
        {"request_id": "r-19", "applied": 1, "ignored": [{"index": 0, "reason": "unknown_type"}]}
    )
