"""The served models, and the state of the process."""

from typing import Literal

from pydantic import Field

from bundle.manifest import GateKind
from service.bodies.common import Body, example


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
    provider: str = Field(description="The active ONNX Runtime execution provider.")
    loaded_at: str


class ModelList(Body):
    """All served models. The first one answers requests that name no model."""

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
                    "provider": "CPUExecutionProvider",
                    "loaded_at": "2025-01-02T00:00:00+00:00",
                }
            ]
        }
    )


HealthStatus = Literal["ok", "starting", "draining", "failing"]


class Health(Body):
    """State of the process."""

    status: HealthStatus
