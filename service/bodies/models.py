"""The served models, and the state of the process."""

from typing import Annotated, Literal

from pydantic import Field

from bundle.features.schema import Kind, Scope
from bundle.manifest import GateKind
from engine.settings import Decoding
from service.bodies.common import Body, example

Share = Annotated[float, Field(ge=0, le=1)]


class GateInfo(Body):
    """When the model reasons."""

    kind: GateKind = Field(
        description="`normalised`: entropy over log of the remaining items, 0 to 1; `raw`: nats; `margin`: "
        "1 - (best - second best probability)."
    )
    threshold: float
    trigger_rate: float = Field(description="Share of held-out positions that reason at this threshold.")


class Defaults(Body):
    """What applies to a request that overrides nothing."""

    slate_length: int
    reasoning_budget: int
    reasoning_temperature: float
    selection_temperature: float
    lookahead: int


class ShadowInfo(Body):
    """What answers some requests too, unseen, to be compared."""

    model: str
    version: str
    share: float = Field(description="Of the requests, 0 to 1.")


class FeatureInfo(Body):
    """A field that requests may send: with items, in a user's profile, or in the request's `context`."""

    name: str
    scope: Scope
    kind: Kind
    values: int | None = Field(None, description="Known values of a categorical or multivalued field.")
    size: int | None = Field(None, description="Numbers of a vector.")


class ModelInfo(Body):
    """One served model."""

    name: str
    version: str
    dataset: str
    created: str
    reasoner: str
    decoder: str
    evaluator: bool = Field(description="Whether requests may ask for lookahead.")
    gate: GateInfo
    defaults: Defaults
    features: list[FeatureInfo]
    initial_score: bool = Field(description="Whether an item's `score` is used.")
    event_types: list[str] = Field(description="Types of events that count as liking an item.")
    groups: list[str] = Field(description="Fields of items whose values group them.")
    provider: str = Field(description="The active ONNX Runtime execution provider.")
    decoding: Decoding = Field(description="How slates are written: `native`, `graph` or `step`.")
    loaded_at: str
    share: float = Field(
        description="Of the requests for its name, 0 to 1. With 0 only requests that name its version get it."
    )
    shadow: ShadowInfo | None = Field(None, description="What its requests are shown to, if anything.")


class ModelList(Body):
    """All served models. Requests that name none get the first one, or one of its name by their shares."""

    models: list[ModelInfo]

    model_config = example(
        {
            "models": [
                {
                    "name": "eglr",
                    "version": "3",
                    "dataset": "ranklens",
                    "created": "2025-01-01T00:00:00+00:00",
                    "reasoner": "deep",
                    "decoder": "gru",
                    "evaluator": True,
                    "gate": {"kind": "normalised", "threshold": 0.82, "trigger_rate": 0.4},
                    "defaults": {
                        "slate_length": 10,
                        "reasoning_budget": 3,
                        "reasoning_temperature": 2.0,
                        "selection_temperature": 0.5,
                        "lookahead": 0,
                    },
                    "features": [{"name": "genres", "scope": "item", "kind": "multivalued", "values": 18}],
                    "initial_score": False,
                    "event_types": ["click"],
                    "groups": ["genres"],
                    "provider": "CPUExecutionProvider",
                    "decoding": "native",
                    "loaded_at": "2025-01-02T00:00:00+00:00",
                    "share": 0.9,
                    "shadow": {"model": "eglr", "version": "4", "share": 0.1},
                }
            ]
        }
    )


class SharesBody(Body):
    """How the requests for a name are divided."""

    shares: Annotated[dict[str, Share], Field(min_length=1)] = Field(
        description="By version; they add up to 1. Versions that are not named get none."
    )

    model_config = example({"shares": {"3": 0.9, "4": 0.1}})


class ShadowBody(Body):
    """What a name is compared with."""

    model: str | None = Field(None, description="The same name if absent.")
    version: str
    share: Share = Field(1.0, description="Of the requests.")

    model_config = example({"version": "4", "share": 0.1})


HealthStatus = Literal["ok", "starting", "draining", "failing"]


class Health(Body):
    """State of the process."""

    status: HealthStatus
