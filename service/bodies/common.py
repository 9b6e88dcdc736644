"""What all bodies share: their strictness, and the types of ids, times, numbers and features."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from bundle.timestamps import LARGEST


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""An integer may also be written as `5.0`, which JSON Schema calls one too."""

Natural = Annotated[int, Field(ge=0, le=2**53 - 1), WHOLE]
Positive = Annotated[int, Field(ge=1, le=2**53 - 1), WHOLE]
"""As far as a float64 is exact."""

MAX_NUMBER = 2**63 - 1024
"""The largest number of a feature, up or down: the largest that is a float64 and an int64."""

Integer = Annotated[int, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Float = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
_Numbers = {"type": "number", "minimum": -MAX_NUMBER, "maximum": MAX_NUMBER}
Values = Annotated[
    list[str | Integer | Float],
    WithJsonSchema({"type": "array", "anyOf": [{"items": {"type": "string"}}, {"items": _Numbers}]}),
]
"""Texts or numbers, not both: `service.api.validation` tells."""

FeatureValue = Integer | Float | str | Values | None
Features = dict[str, FeatureValue]

MAX_TIMESTAMP = LARGEST
"""The largest timestamp, in nanoseconds. What unit one is in is told by its size."""

TIME = "Unix seconds; milliseconds, microseconds and nanoseconds are told by their size."
Timestamp = Annotated[float, Field(ge=0, le=MAX_TIMESTAMP, description=TIME, examples=[1700000000])]

REQUEST_ID_PATTERN = r"^[\x21-\x7e]{1,128}$"
"""A request id, in a body or a header: printable ASCII without spaces."""

Id = Annotated[str, Field(min_length=1)]
RequestId = Annotated[str, Field(pattern=REQUEST_ID_PATTERN)]


class Body(BaseModel):
    """Unknown keys and numbers that are not finite are errors, and so are values of another JSON type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class IdentifiedBody(Body):
    """A request that may bring its id."""

    request_id: RequestId | None = Field(
        None,
        description="Echoed in the response. Defaults to the `x-request-id` header, else to a generated id.",
    )


def example(*examples: dict[str, Any]) -> ConfigDict:
    """`model_config` of a body with examples."""
    return ConfigDict(json_schema_extra={"examples": list(examples)})
