"""The bodies of requests and responses: names, types, meaning and examples. The OpenAPI text is here.

Limits that are settings (sizes, counts) are not: see `validation`. `twins` makes what the hot path decodes
and encodes from these models. Knows nothing of models or stores.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, field_validator
from pydantic_core import PydanticCustomError

from model.manifest import GateKind

Integer = Annotated[int, Strict(), Field(ge=-(2**63), le=2**63 - 1)]
Float = Annotated[float, Strict()]
Text = Annotated[str, Strict()]
FeatureValue = Integer | Float | Text | list[Text | Integer | Float] | None
Features = dict[str, FeatureValue]

Id = Annotated[str, Field(min_length=1)]
RequestId = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]
Temperature = Annotated[float, Field(ge=0.01, le=100.0)]
EventType = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$", examples=["click"])]
Timestamp = Annotated[float, Field(ge=0, le=1e11, description="unix seconds", examples=[1700000000])]

ErrorType = Literal["validation", "overloaded", "deadline", "not_found", "unavailable"]
Fallback = Literal["deadline", "overload", "model"]
ContextResult = Literal["hit", "miss", "anonymous", "unavailable"]

REQUEST_ID = "Echoed in the response; else the `x-request-id` header, else generated."


class Body(BaseModel):
    """Finite numbers only, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _example(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class Item(Body):
    """One candidate."""

    id: Id
    score: Annotated[float, Field(ge=-1e30, le=1e30)] | None = Field(
        None, description="The caller's own score; higher is better."
    )
    features: Features | None = Field(
        None,
        description="Raw features by declared name; they go before the catalogue's. Names the model does "
        "not declare are passed over, and null counts as absent.",
    )


class FeatureMatrix(Body):
    """Numbers of every item at once, for callers to whom JSON's decimals cost too much."""

    names: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] = Field(
        description="A name a column: a numeric feature (`price`), an age in unix seconds, the length of a "
        "text, or one number of a vector (`embedding[0]`). Names the model does not declare are passed over."
    )
    data: str = Field(
        description="Base64 of little-endian IEEE 754 float32, row by row in the order of `items`, a number "
        "for each name. NaN is absent.",
        json_schema_extra={"contentEncoding": "base64"},
    )


class ReasoningOverrides(Body):
    """What to change about reasoning for this request; the model's own defaults otherwise."""

    entropy_threshold: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Reason above this uncertainty, in the unit of the model's gate (`GET /v1/models`)."
    )
    max_tokens: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Most reasoning tokens per position; 0 turns reasoning off."
    )
    temperature: Temperature | None = Field(None, description="Softens what a reasoning token looks at.")


class Sampling(Body):
    """Explore: sample each position instead of taking the best. Propensities come with the results."""

    temperature: Temperature | None = Field(None, description="The model's selection temperature if absent.")
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = Field(
        None, description="The same seed and request give the same slate. Drawn, and returned, if absent."
    )


class RerankRequest(Body):
    """A list of candidates in the caller's order, which is also the order of every fallback."""

    request_id: RequestId | None = Field(None, description=REQUEST_ID)
    user_id: Id | None = Field(None, description="Whose stored context to use; anonymous if absent.")
    items: Annotated[list[Item], Field(min_length=1)]
    features_f32: FeatureMatrix | None = Field(
        None, description="Features of the items as one matrix. An item's own `features` go before its row."
    )
    context: Features = Field(
        default_factory=dict,
        description="Features of the request. `timestamp` is reserved: unix seconds the request is made "
        "at, which ages count back from; now if absent.",
    )
    top_n: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Items wanted; more than there are is no error. The model's slate length if absent."
    )
    return_all: bool = Field(False, description="Let the other items follow, in the caller's order.")
    deadline_ms: Annotated[float, Field(gt=0, le=600_000)] | None = Field(
        None,
        description="Time for the whole request. Reasoning is shed first, then the caller's order answers.",
    )
    explain: bool = Field(False, description="Return the trace by position.")
    strict: bool = Field(
        False, description="Answer 429, 503 or 504 where the caller's order would have been the fallback."
    )
    reasoning: ReasoningOverrides | None = None
    sampling: Sampling | None = None
    constraints: Any = Field(None, description="Reserved. Refused with 422 by this version.")

    @field_validator("constraints")
    @classmethod
    def _unsupported(cls, _: Any) -> None:
        raise PydanticCustomError("unsupported", "not supported by this version")

    model_config = _example(
        {"items": [{"id": "i1"}, {"id": "i2"}, {"id": "i3"}]},
        {
            "request_id": "r-17",
            "user_id": "u1",
            "items": [
                {"id": "i1", "score": 0.4},
                {"id": "i2", "score": 0.3, "features": {"price": 9.5, "genres": ["drama", "crime"]}},
            ],
            "features_f32": {"names": ["runtime", "price"], "data": "AADIQgAAwH8AANJCAACYQQ=="},
            "context": {"device": "ios", "timestamp": 1700000000},
            "top_n": 10,
            "return_all": True,
            "deadline_ms": 40,
            "explain": True,
            "reasoning": {"entropy_threshold": 0.8, "max_tokens": 3},
            "sampling": {"temperature": 1.0, "seed": 7},
        },
    )


class Result(Body):
    """One item of the answer."""

    id: str
    index: int = Field(description="Place in the request, from 0.")
    score: float | None = Field(
        description="Probability of the item among those left at its position, at temperature 1; null where "
        "the model did not place it. Not comparable between positions."
    )
    propensity: float | None = Field(
        description="Probability that this policy puts the item here, given the items before it: 1 unless "
        "sampled; null where the model did not place it."
    )


class TracePosition(Body):
    """What happened at one position."""

    position: int = Field(description="From 0.")
    id: str
    probability: float = Field(description="Of the chosen item, at temperature 1.")
    reasoning_tokens: int
    entropy_before: float = Field(description="Nats, over the remaining items, before any reasoning.")
    entropy_after: float = Field(description="Nats, after the last reasoning token.")
    uncertainty: float = Field(description="What the gate compared with the threshold last.")


class Reasoning(Body):
    """How much the model reasoned, and why it stopped."""

    tokens: int = Field(description="Reasoning tokens over the whole list.")
    stop: Literal["entropy", "budget", "deadline"] = Field(
        description="`entropy`: certain enough everywhere; `budget`: a position used all its tokens; "
        "`deadline`: the remaining time cut it."
    )
    trace: list[TracePosition] | None = Field(default=None, description="With `explain` only.")


class UsedSampling(Body):
    """The sampling that was used; repeat it to get the same slate."""

    temperature: float
    seed: int


class RerankResponse(Body):
    """The re-ranked list, or the caller's order with the reason in `fallback`."""

    request_id: str
    recommendation_id: str | None = Field(
        description="Send it back with feedback. Null when it could not be recorded: the context store did "
        "not answer, or the request failed before asking it."
    )
    model: str
    model_version: str
    results: list[Result]
    missing_ids: list[str] = Field(
        description="Items the catalogue lacks. With features they are ranked from those; without, put last."
    )
    fallback: Fallback | None = Field(description="Why this is the caller's order; null when it is not.")
    context: ContextResult | None = Field(
        description="What became of the user's context. `unavailable`: ranked as anonymous since the store "
        "did not answer; null: not asked for before the fallback."
    )
    reasoning: Reasoning | None = Field(description="Null when nothing was generated.")
    sampling: UsedSampling | None = Field(description="Null when the best was taken everywhere.")
    took_ms: float

    model_config = _example(
        {
            "request_id": "r-17",
            "recommendation_id": "5f0c7c1e6d3b4a0f9a57f0f6a8d1b2c3",
            "model": "eglr",
            "model_version": "3",
            "results": [
                {"id": "i2", "index": 1, "score": 0.61, "propensity": 0.61},
                {"id": "i1", "index": 0, "score": 1.0, "propensity": 1.0},
            ],
            "missing_ids": [],
            "fallback": None,
            "context": "hit",
            "reasoning": {
                "tokens": 2,
                "stop": "entropy",
                "trace": [
                    {
                        "position": 0,
                        "id": "i2",
                        "probability": 0.61,
                        "reasoning_tokens": 2,
                        "entropy_before": 0.69,
                        "entropy_after": 0.55,
                        "uncertainty": 0.79,
                    },
                    {
                        "position": 1,
                        "id": "i1",
                        "probability": 1.0,
                        "reasoning_tokens": 0,
                        "entropy_before": 0.0,
                        "entropy_after": 0.0,
                        "uncertainty": 0.0,
                    },
                ],
            },
            "sampling": {"temperature": 1.0, "seed": 7},
            "took_ms": 7.1,
        }
    )


class Event(Body):
    """One past interaction of a user."""

    item_id: Id
    type: EventType
    timestamp: Timestamp | None = None


class ContextBody(Body):
    """What is known of a user."""

    profile: Features = Field(default_factory=dict, description="Raw user features by declared name.")
    history: list[Event] = Field(
        default_factory=list,
        description="Oldest first; the newest are kept. An impression followed by a click of the same item "
        "counts once, as a click.",
    )

    model_config = _example(
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

    position: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Where the item was shown, from 0. Checked, but no part of the user's history."
    )
    timestamp: Timestamp | None = Field(None, description="Unix seconds; the time of receipt if absent.")


class FeedbackRequest(Body):
    """What became of a recommendation."""

    request_id: RequestId | None = Field(None, description=REQUEST_ID)
    recommendation_id: Annotated[str, Field(min_length=1, max_length=64)]
    events: Annotated[list[FeedbackEvent], Field(min_length=1, description="In the order they happened.")]

    model_config = _example(
        {
            "recommendation_id": "5f0c7c1e6d3b4a0f9a57f0f6a8d1b2c3",
            "events": [
                {"type": "impression", "item_id": "i2", "position": 0},
                {"type": "click", "item_id": "i2", "position": 0, "timestamp": 1700000012},
            ],
        }
    )


class FeedbackResponse(Body):
    """Accepted: a rerank of this user that starts after this answer sees the events."""

    request_id: str
    accepted: int
    applied: int = Field(description="Events added to a user's history; 0 if the request was anonymous.")

    model_config = _example({"request_id": "r-18", "accepted": 2, "applied": 2})


class GateInfo(Body):
    """When the model reasons."""

    kind: GateKind = Field(
        description="`normalised`: entropy over log of the remaining items, 0 to 1; `raw`: nats; `margin`: "
        "1 - (best - second best probability)."
    )
    threshold: float
    trigger_rate: float = Field(description="Share of held-out positions that reason at the threshold.")


class Defaults(Body):
    """What a request that overrides nothing gets."""

    slate_length: int
    reasoning_budget: int
    reasoning_temperature: float
    selection_temperature: float


class ModelInfo(Body):
    """One served model."""

    name: str
    version: str
    dataset: str
    created: str
    reasoner: str
    decoder: str
    gate: GateInfo
    defaults: Defaults
    provider: str = Field(description="The ONNX Runtime execution provider that is active.")
    loaded_at: str


class ModelList(Body):
    """Every served model; the first answers where no model is named."""

    models: list[ModelInfo]

    model_config = _example(
        {
            "models": [
                {
                    "name": "eglr",
                    "version": "3",
                    "dataset": "ranklens",
                    "created": "2025-01-01T00:00:00+00:00",
                    "reasoner": "deep",
                    "decoder": "gru",
                    "gate": {"kind": "normalised", "threshold": 0.82, "trigger_rate": 0.4},
                    "defaults": {
                        "slate_length": 10,
                        "reasoning_budget": 3,
                        "reasoning_temperature": 2.0,
                        "selection_temperature": 0.5,
                    },
                    "provider": "CPUExecutionProvider",
                    "loaded_at": "2025-01-02T00:00:00+00:00",
                }
            ]
        }
    )


class Health(Body):
    """State of the process."""

    status: Literal["ok", "starting", "draining"]


class FieldError(Body):
    """What is wrong with one field."""

    field: str = Field(description="Path in the body, such as `items.3.id`.")
    message: str


class ErrorResponse(Body):
    """The one shape of every error."""

    error: str
    error_type: ErrorType
    request_id: str
    fields: list[FieldError] | None = Field(None, description="With status 422 only.")

    model_config = _example(
        {
            "error": "the request is not valid: items.1.id: 'i1' is there twice",
            "error_type": "validation",
            "request_id": "r-17",
            "fields": [{"field": "items.1.id", "message": "'i1' is there twice"}],
        }
    )
