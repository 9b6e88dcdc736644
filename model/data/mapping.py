"""Which columns of which tables make a log: the mapping file of `python -m model.data convert`."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from bundle.features.schema import Frozen

Column = Annotated[str, Field(min_length=1)]


class Records(Frozen):
    """A table of items or of users: `id` is the column of their ids, `fields` those that are read, or else
    all others. `lists` has the columns with several values in a cell, and what stands between these."""

    file: str
    id: Column
    fields: tuple[Column, ...] | None = None
    lists: dict[Column, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)


class Impressions(Frozen):
    """A table with a row for each item that was shown.

    Rows with the same `list` are one list; without that column, rows of a `user` less than `gap_s` seconds
    apart are, at most `max_items` of them, in which an item counts once. `position` orders a list, or else
    the rows' order does. `outcomes` has the columns that are 1 where something was done, and what that was.
    `context` are columns of the list, `features` such as were sent with each item, `score` the initial
    ranker's.
    """

    file: str
    list: Column | None = None
    user: Column | None = None
    item: Column
    timestamp: Column
    position: Column | None = None
    score: Column | None = None
    outcomes: dict[Column, str] = Field(default_factory=dict)
    context: tuple[Column, ...] = ()
    features: tuple[Column, ...] = ()
    gap_s: Annotated[float, Field(gt=0)] = 600.0
    max_items: Annotated[int, Field(ge=2)] = 50

    @model_validator(mode="after")
    def _makes_lists(self) -> Self:
        if self.list is None and self.user is None:
            raise ValueError("one of `list` and `user` is needed, to tell which rows are a list")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """All that it names."""
        single = (self.list, self.user, self.item, self.timestamp, self.position, self.score)
        return tuple(name for name in (*single, *self.outcomes, *self.context, *self.features) if name)


class Interactions(Frozen):
    """A table with a row for each thing done. What it was is in `type_column`, or else always `type`."""

    file: str
    list: Column
    item: Column
    type: str = "click"
    type_column: Column | None = None
    timestamp: Column | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All that it names."""
        return tuple(name for name in (self.list, self.item, self.type_column, self.timestamp) if name)


class Mapping(Frozen):
    """Tables of a log. A `file` lies beside the mapping, or is a whole path; it may have wildcards."""

    impressions: Impressions
    interactions: Interactions | None = None
    items: Records | None = None
    users: Records | None = None

    @model_validator(mode="after")
    def _says_what_was_done(self) -> Self:
        if not self.impressions.outcomes and self.interactions is None:
            raise ValueError(
                "impressions.outcomes or a table of interactions is needed, to tell what was liked"
            )
        if self.interactions is not None and self.impressions.list is None:
            raise ValueError("interactions name their list, so impressions.list is needed")
        return self
