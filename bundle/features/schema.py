"""The feature schema: which fields items, users and requests have, and what is derived from them.

Declared in a configuration file, stored in the bundle. Knows nothing of how a value is encoded.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal[
    "numeric",
    "categorical",
    "multivalued",
    "vector",
    "text_length",
    "age",
    "popularity",
    "first_seen",
    "mean_value",
]
Scope = Literal["item", "user", "context"]

PAST_KINDS = ("popularity", "first_seen", "mean_value")
"""What is counted from the training log's positive events before the request."""

AGE_KINDS = ("age", "first_seen")
NUMERIC_KINDS = ("numeric", "text_length", *AGE_KINDS, "popularity", "mean_value")
TOKEN_KINDS = ("categorical", "multivalued")


class Frozen(BaseModel):
    """Immutable. An unknown key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FieldSpec(Frozen):
    """One declared field.

    `age` reads unix time, in any unit, and gives years before the request. `vector` reads `size` floats, such
    as an embedding of text or pictures computed elsewhere. `list_rank` adds the share of the request's
    candidates with a smaller value. `affinity` adds how well the value agrees with what the user liked.

    `popularity` counts the item's positive events of the last `window_days`, or all of them; `first_seen`
    gives years since the first of them, `mean_value` the mean of what people gave, such as a rating. All
    three are counted from the training log, strictly before the request; whoever counts himself sends the
    count, unix seconds or the mean as a feature, which goes first.
    """

    name: Annotated[str, Field(min_length=1)]
    kind: Kind
    scope: Scope = "item"
    log: bool = False
    list_rank: bool = False
    affinity: bool = False
    max_values: Annotated[int, Field(ge=1, le=1024)] = 8
    min_count: Annotated[int, Field(ge=1)] = 1
    size: Annotated[int, Field(ge=1, le=65_536)] | None = None
    window_days: Annotated[float, Field(gt=0)] | None = None

    @property
    def is_token(self) -> bool:
        return self.kind in TOKEN_KINDS

    @property
    def slots(self) -> int:
        """Token slots of the field: one a categorical value, `max_values` a list of them."""
        return {"categorical": 1, "multivalued": self.max_values}.get(self.kind, 0)

    @property
    def columns(self) -> int:
        """Numeric columns of the field."""
        if self.kind == "vector":
            return self.size or 0
        return 0 if self.is_token else 1

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "vector") != (self.size is not None):
            raise ValueError(f"field {self.name!r}: size goes with kind 'vector', and only with it")
        if self.window_days is not None and self.kind != "popularity":
            raise ValueError(f"field {self.name!r}: window_days goes with kind 'popularity'")
        if self.kind in PAST_KINDS and self.scope != "item":
            raise ValueError(f"field {self.name!r}: {self.kind} needs a field of the item")
        if self.log and self.kind not in NUMERIC_KINDS:
            raise ValueError(f"field {self.name!r}: log needs a numeric kind, got {self.kind!r}")
        if self.list_rank and (self.kind not in NUMERIC_KINDS or self.scope != "item"):
            raise ValueError(f"field {self.name!r}: list_rank needs a numeric field of the item")
        if self.affinity and self.scope != "item":
            raise ValueError(f"field {self.name!r}: affinity needs a field of the item")
        return self


class FeatureSchema(Frozen):
    """All declared fields and the derived features.

    `positive_types` are the interaction types that count as liking an item, `history_length` the number
    of latest events the encoder sees, `item_ctr` adds the item's smoothed click rate and its impressions
    in the training log, `initial_score` the score the caller sent with each candidate.
    """

    fields: tuple[FieldSpec, ...]
    positive_types: tuple[str, ...] = ("click",)
    history_length: Annotated[int, Field(ge=1, le=10_000)] = 50
    item_ctr: bool = True
    ctr_prior_impressions: Annotated[float, Field(gt=0)] = 10.0
    initial_score: bool = False

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [(field.scope, field.name) for field in self.fields]
        twice = {f"{scope}.{name}" for scope, name in names if names.count((scope, name)) > 1}
        if twice:
            raise ValueError(f"fields declared twice: {', '.join(sorted(twice))}")
        if not self.of("item"):
            raise ValueError("fields: at least one field of the item is needed")
        return self

    @property
    def past(self) -> tuple[FieldSpec, ...]:
        """Fields that are counted from earlier events."""
        return tuple(field for field in self.fields if field.kind in PAST_KINDS)

    def of(self, scope: Scope) -> tuple[FieldSpec, ...]:
        return tuple(field for field in self.fields if field.scope == scope)
