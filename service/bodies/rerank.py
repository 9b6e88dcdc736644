"""A list of candidates in, the re-ranked list out."""

from typing import Annotated, Literal

from pydantic import Field

from engine.generation import Stop
from service.bodies.common import Body, Features, Id, IdentifiedBody, Natural, Positive, example
from service.bodies.constraints import Constraints

Temperature = Annotated[float, Field(ge=0.01, le=100.0)]
Score = Annotated[float, Field(ge=-1e30, le=1e30)]

Fallback = Literal["deadline", "overload", "model", "unknown"]
IgnoredReason = Literal["undeclared", "unknown_value"]
ContextResult = Literal["hit", "miss", "anonymous", "unavailable"]


class Item(Body):
    """One candidate."""

    id: Id
    score: Score | None = Field(
        None,
        description="The caller's own score; higher is better. For a model that uses it, an item without one "
        "counts as having the mean of the others'.",
    )
    features: Features | None = Field(
        None,
        description="Raw features by declared name. They take precedence over the catalogue's. Names the "
        "model does not declare, and values it does not know, are ignored, and told in `ignored`; null "
        "counts as absent.",
    )


class FeatureMatrix(Body):
    """The numeric features of all items as one matrix, for callers who find decimals in JSON too slow."""

    names: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] = Field(
        description="The name of each column: a numeric feature (`price`), an age in unix seconds, the "
        "length of a text, or one element of a vector (`embedding[0]`). Undeclared names are ignored."
    )
    data: str = Field(
        description="Base64 of little-endian IEEE 754 float32 values: one row per item, in their order, and "
        "in it one value per name. NaN counts as absent.",
        json_schema_extra={
            "contentEncoding": "base64",
            "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
        },
    )


class ReasoningOverrides(Body):
    """Reasoning settings of this request. The model's defaults apply where one is absent."""

    entropy_threshold: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="Reason above this uncertainty, in the unit of the model's gate (see `GET /v1/models`).",
    )
    max_tokens: Natural | None = Field(
        None, description="Maximum reasoning tokens per position; 0 turns reasoning off."
    )
    temperature: Temperature | None = Field(
        None, description="Flattens the distribution over items that a reasoning token is made from."
    )
    lookahead: Natural | None = Field(
        None,
        description="Other items to try at each uncertain position: the list is completed after each, and "
        "the model's evaluator keeps the best, as long as there is time. 0 turns lookahead off. For models "
        "with an evaluator, and not with `sampling`, whose lists stay as they were drawn.",
    )


class Sampling(Body):
    """Exploration: sample each position instead of taking the best item. Results carry their propensities."""

    temperature: Temperature | None = Field(None, description="The model's selection temperature if absent.")
    seed: Natural | None = Field(
        None,
        description="The same seed and request give the same slate. If absent, one is drawn and returned.",
    )


class RerankRequest(IdentifiedBody):
    """A list of candidates in the caller's order, which is also the order of every fallback."""

    model: str | None = Field(None, description="Name of a served model; the default one if absent.")
    model_version: str | None = Field(
        None, description="One of its loaded versions; if absent, it is chosen by the versions' shares."
    )
    user_id: Id | None = Field(None, description="Whose stored context to use; anonymous if absent.")
    items: Annotated[list[Item], Field(min_length=1)]
    features_f32: FeatureMatrix | None = Field(
        None,
        description="Features of the items as one matrix. An item's own `features` take precedence over its "
        "row.",
    )
    context: Features = Field(
        default_factory=dict,
        description="Features of the request. `timestamp` is reserved for the time of the request in unix "
        "seconds, or a smaller unit, from which ages are counted back; now if absent.",
    )
    top_n: Positive | None = Field(
        None,
        description="How many items are wanted, up to a limit of the service; more than there are is no "
        "error. The model's slate length if absent, up to the same limit.",
    )
    return_all: bool = Field(False, description="Append the other items, in the caller's order.")
    deadline_ms: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Time allowed for the whole request, up to a limit of the service. Short of time, "
        "reasoning is cut first; past the deadline the caller's order is returned.",
    )
    explain: bool = Field(False, description="Return a trace of every position.")
    trace_candidates: Natural | None = Field(
        None,
        description="With `explain`: tell the probabilities of so many leading candidates at each position, "
        "before its first reasoning token and after each, up to a limit of the service. None if absent.",
    )
    strict: bool = Field(
        False, description="Answer 429, 503 or 504 instead of falling back to the caller's order."
    )
    reasoning: ReasoningOverrides | None = None
    sampling: Sampling | None = None
    constraints: Constraints | None = Field(
        None,
        description="Impossible ones are answered with 422 and the fields that conflict.",
    )

    model_config = example(
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
            "trace_candidates": 2,
            "reasoning": {"entropy_threshold": 0.8, "max_tokens": 3},
            "sampling": {"temperature": 1.0, "seed": 7},
            "constraints": {
                "pinned": [{"id": "i2", "position": 0}],
                "excluded": ["i3"],
                "at_most": [
                    {"feature": "genres", "count": 3},
                    {"feature": "genres", "value": "drama", "count": 1, "window": 3},
                ],
                "at_least": [{"group": "promo", "count": 1, "top": 5}],
                "groups": {"promo": ["i1", "i9"]},
            },
        },
    )


class Result(Body):
    """One item of the answer."""

    id: str
    index: int = Field(description="Index of the item in the request, from 0.")
    score: float | None = Field(
        description="Probability of the item among those remaining at its position, at temperature 1; null "
        "if the model did not place it. Not comparable between positions."
    )
    propensity: float | None = Field(
        description="Probability that this policy puts the item here, given the items before it: 1 for a "
        "greedy list, with lookahead too, unless the service explores: then, sampled or not, that of the "
        "mixture; null if the model did not place it."
    )


class TraceStep(Body):
    """What the model saw before it wrote a token."""

    entropy: float = Field(description="Nats, over the remaining items.")
    uncertainty: float = Field(description="What the gate compared with the threshold.")
    candidates: list[int] = Field(description="The most probable items, best first, by index in the request.")
    probabilities: list[float] = Field(description="Of each of these, at temperature 1.")


class TracePosition(Body):
    """What happened at one position."""

    position: int = Field(description="From 0.")
    id: str
    probability: float = Field(description="Of the chosen item, at temperature 1.")
    reasoning_tokens: int
    entropy_before: float = Field(description="Nats, over the remaining items, before any reasoning.")
    entropy_after: float = Field(description="Nats, after the last reasoning token.")
    uncertainty: float = Field(description="What the gate last compared with the threshold.")
    steps: list[TraceStep] | None = Field(
        default=None,
        description="With `trace_candidates` only: before the first reasoning token and after each, so one "
        "more than there are tokens. The item was chosen by the last, unless lookahead put another there.",
    )


class Reasoning(Body):
    """How much the model reasoned, and why it stopped."""

    tokens: int = Field(description="Reasoning tokens in the whole list.")
    stop: Stop = Field(
        description="`entropy`: certain enough at every position; `budget`: some position used all its "
        "tokens; `deadline`: the remaining time cut it short, or lookahead."
    )
    judged: int = Field(default=0, description="Lists that lookahead compared with this one; absent if none.")
    trace: list[TracePosition] | None = Field(default=None, description="With `explain` only.")


class UsedSampling(Body):
    """The sampling that was applied. Sent with the same request again, it gives the same slate."""

    temperature: float
    seed: int


class Ignored(Body):
    """A field of the request that the model could not use."""

    field: str = Field(description="Its path, for all items at once: `items.features.colour`.")
    reason: IgnoredReason = Field(
        description="`undeclared`: the model has no such field; `unknown_value`: some of its values were "
        "never seen in training. Those are left out, and where all of an item's are, the catalogue's hold."
    )


class RerankResponse(Body):
    """The re-ranked list, or the caller's order with the reason in `fallback`."""

    request_id: str
    recommendation_id: str | None = Field(
        description="To be sent back with feedback. Null if it could not be recorded: the context store did "
        "not answer, or refuses writes (`context` is then still what was read), or the request failed before "
        "the store was asked."
    )
    model: str
    model_version: str = Field(description="Which of the versions that share the name answered.")
    results: list[Result]
    missing_ids: list[str] = Field(
        description="Items that are not in the catalogue. Those sent with features, or with a score "
        "that the model uses, are ranked by them, the others put last."
    )
    ignored: list[Ignored] = Field(description="What was sent and not used, up to a limit of the service.")
    fallback: Fallback | None = Field(
        description="Why this is the caller's order; null if it is not. `unknown`: the model knows nothing "
        "of any of the items; this is no error, and answered so to strict requests too."
    )
    context: ContextResult | None = Field(
        description="Result of looking up the user's context. `unavailable`: ranked as anonymous because the "
        "store did not answer; null: the request fell back before the look-up."
    )
    reasoning: Reasoning | None = Field(description="Null if nothing was generated.")
    sampling: UsedSampling | None = Field(description="Null if the best item was taken at every position.")
    shortened_by: list[str] | None = Field(
        None,
        description="The rules that left room for fewer items than were asked for, by path in the request; "
        "absent if the list is whole.",
    )
    took_ms: float

    model_config = example(
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
            "ignored": [{"field": "items.features.colour", "reason": "undeclared"}],
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
            "shortened_by": ["constraints.at_most.0"],
            "took_ms": 7.1,
        }
    )
