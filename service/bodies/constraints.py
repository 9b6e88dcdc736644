"""Rules for the list that is asked for."""

from typing import Annotated

from pydantic import Field

from service.bodies.common import Body, Float, Id, Integer, Natural, Positive


class PinnedItem(Body):
    """An item that stands where the caller says."""

    id: Id = Field(description="One of `items`.")
    position: Natural = Field(description="From 0, within the list that is asked for.")


class Membership(Body):
    """The items that a rule is about: those with a value of a feature, or those of a group."""

    feature: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="A categorical or multivalued field of items (`groups` in `GET /v1/models`), or one that "
        "the model does not declare and items of this request are sent with. Either this or `group`.",
    )
    value: str | Integer | Float | bool | None = Field(None, description="Of the feature.")
    group: Annotated[str, Field(min_length=1)] | None = Field(None, description="One of `groups`.")


class AtMost(Membership):
    """An upper limit. Without `value` it is one for each value of the feature."""

    count: Natural
    window: Positive | None = Field(
        None, description="In any so many consecutive positions; in the whole list if absent."
    )


class AtLeast(Membership):
    """A lower limit; a feature needs its `value`."""

    count: Natural
    top: Positive | None = Field(
        None, description="Among the first so many positions; in the whole list if absent."
    )


class Constraints(Body):
    """Rules that the first `top_n` of every answer satisfy, fallbacks too."""

    pinned: list[PinnedItem] = Field(default_factory=list)
    excluded: list[Id] = Field(
        default_factory=list,
        description="Never in the answer, with `return_all` neither. Others than `items` are no error.",
    )
    at_most: list[AtMost] = Field(
        default_factory=list,
        description="Where these leave room for fewer items the list is shorter, as `shortened_by` says.",
    )
    at_least: list[AtLeast] = Field(default_factory=list)
    groups: dict[str, list[Id]] = Field(
        default_factory=dict,
        description="Ids of items, by a name of the caller's. Others than `items` are no error.",
    )
