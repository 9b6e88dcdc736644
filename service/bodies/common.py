"""What all bodies share: their strictness, and the types of ids, times, numbers and features."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

MAX_NUMBER = 2**63 - 1024
"""The largest number of a feature, up or down: the largest that is a float64 and an int64."""

Integer = Annotated[int, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Float = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
FeatureValue = Integer | Float | str | list[str | Integer | Float] | None
Features = dict[str, FeatureValue]

MAX_TIMESTAMP = 1e11
"""The largest timestamp, in unix seconds. Milliseconds sent by mistake are larger."""

Timestamp = Annotated[
    float, Field(ge=0, le=MAX_TIMESTAMP, description="Unix seconds.", examples=[1700000000])
]

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
