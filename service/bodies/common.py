"""What every body shares: its strictness, and the types of ids, numbers and features."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict

Integer = Annotated[int, Strict(), Field(ge=-(2**63), le=2**63 - 1)]
Float = Annotated[float, Strict()]
Text = Annotated[str, Strict()]
FeatureValue = Integer | Float | Text | list[Text | Integer | Float] | None
Features = dict[str, FeatureValue]

Id = Annotated[str, Field(min_length=1)]
RequestId = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]

REQUEST_ID = "Echoed in the response; else the `x-request-id` header, else generated."


class Body(BaseModel):
    """Finite numbers only, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def example(*examples: dict[str, Any]) -> ConfigDict:
    """`model_config` of a body with examples."""
    return ConfigDict(json_schema_extra={"examples": list(examples)})
