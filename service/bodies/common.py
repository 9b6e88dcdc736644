"""What all bodies share: their strictness, and the types of ids, times, numbers and features."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict

Integer = Annotated[int, Strict(), Field(ge=-(2**63), le=2**63 - 1)]
Float = Annotated[float, Strict()]
Text = Annotated[str, Strict()]
FeatureValue = Integer | Float | Text | list[Text | Integer | Float] | None
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
    """Unknown keys and numbers that are not finite are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class IdentifiedBody(Body):
    """A request that may bring its id."""

    request_id: RequestId | None = Field(
        None,
        description="Echoed in the response. Defaults to the `x-request-id` header, else to a generated id.",
    )


def example(*examples: dict[str, Any]) -> ConfigDict:
    """`model_config` of a body with examples."""
    return ConfigDict(json_schema_extra={"examples": list(examples)})
