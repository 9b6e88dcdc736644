"""Which items are in a group: values from the catalogue and from the request, known and unknown."""

from typing import Any

import numpy as np
import pytest

from bundle.features.assembly import FeatureAssembler
from bundle.features.catalogue import Catalogue
from bundle.features.fitting import fit
from bundle.features.schema import FeatureSchema, FieldSpec
from service.bodies import rerank as bodies
from service.bodies.twins import twin
from service.serving.groups import Groups

Item = twin(bodies.Item)

SCHEMA = FeatureSchema(
    fields=(
        FieldSpec(name="price", kind="numeric"),
        FieldSpec(name="genres", kind="multivalued", max_values=3),
        FieldSpec(name="studio", kind="categorical", min_count=2),
        FieldSpec(name="season", kind="categorical"),
        FieldSpec(name="device", kind="categorical", scope="context"),
    )
)
CATALOGUE: dict[str, dict[str, Any]] = {
    "a": {"price": 1.0, "genres": ["drama", "crime", "drama"], "studio": "north", "season": 1},
    "b": {"price": 2.0, "genres": ["drama"], "studio": "north", "season": 2},
    "c": {"price": 3.0, "genres": ["crime", "war", "horror", "western"], "studio": "south", "season": True},
    "d": {"price": 4.0, "genres": [], "studio": None, "season": None},
}


@pytest.fixture(scope="module")
def assembler() -> FeatureAssembler:
    fitted = fit(
        SCHEMA,
        items=CATALOGUE.values(),
        users=[{}],
        contexts=[{"device": "ios"}],
        timestamp=0.0,
        clicks=0,
        impressions=0,
    )
    return FeatureAssembler(fitted, Catalogue.build(fitted, CATALOGUE, {}))


class Asking:
    """Asks for groups as ids."""

    def __init__(self, assembler: FeatureAssembler, *items: str, shown: str = "", **features: Any) -> None:
        """`features`: of items by id; `shown`: their ids, if not all are."""
        ids = [*items, *(item_id for item_id in features if item_id not in items)]
        listed = [Item(id=item_id, features=features.get(item_id)) for item_id in ids]
        places = [place for place, item_id in enumerate(ids) if not shown or item_id in shown]
        self.ids = [ids[place] for place in places]
        self.groups = Groups(assembler, listed, assembler.catalogue.rows(ids), places)

    def of(self, feature: str, value: Any) -> str:
        return self._told(self.groups.of(feature, value)[0])

    def knows(self, feature: str, value: Any) -> bool:
        return self.groups.of(feature, value)[1]

    def each(self, feature: str) -> dict[str, str]:
        values = self.groups.values(feature)
        if not len(values.ids):
            return {}
        members = self.groups.members(values, np.arange(len(values.ids)))
        assert members.sum(axis=1).tolist() == values.counts.tolist()
        texts = [self.groups.text(feature, value) for value in values.ids.tolist()]
        return dict(zip(texts, map(self._told, members), strict=True))

    def _told(self, members: Any) -> str:
        return "".join(item_id for item_id, inside in zip(self.ids, members, strict=True) if inside)


def test_values_of_the_catalogue(assembler: FeatureAssembler) -> None:
    """As far as the schema keeps them: three genres an item, and no studio of one item alone."""
    asking = Asking(assembler, "a", "b", "c", "d", "new")
    assert asking.each("genres") == {"drama": "ab", "crime": "ac", "war": "c", "horror": "c"}
    assert asking.of("genres", "crime") == "ac"
    assert asking.of("genres", "western") == "", "the fourth of its item"
    assert asking.each("studio") == {"north": "ab"}
    assert not asking.knows("studio", "south")


def test_values_are_judged_as_features_are(assembler: FeatureAssembler) -> None:
    asking = Asking(assembler, "a", "b", "c")
    assert [asking.of("season", value) for value in (1, 1.0, "1", 2.0, True, "true")] == list("aaabcc")
    assert not asking.knows("season", 1.5)
    assert not asking.knows("season", "True")
    assert not asking.knows("genres", "Drama")


def test_what_is_sent_and_known_replaces_the_catalogues_values(assembler: FeatureAssembler) -> None:
    asking = Asking(assembler, "a", "b", a={"genres": ["war", "war"]}, d={"genres": "drama"})
    assert asking.each("genres") == {"drama": "bd", "war": "a"}


def test_what_is_sent_and_unknown_is_a_value_besides(assembler: FeatureAssembler) -> None:
    """Two such words are two groups, and none takes precedence over what is known."""
    sent = {"a": {"genres": ["Drama"]}, "x": {"genres": ["Drama", "soap"]}, "y": {"genres": ["soap", "war"]}}
    asking = Asking(assembler, "a", "b", **sent)
    assert asking.each("genres") == {"drama": "ab", "crime": "a", "war": "y", "Drama": "ax", "soap": "xy"}
    assert asking.knows("genres", "soap")
    assert asking.of("genres", "soap") == "xy"


def test_features_that_the_model_does_not_have_group_by_their_text(assembler: FeatureAssembler) -> None:
    sent = {"a": {"brand": 5}, "b": {"brand": 5.0}, "c": {"brand": ["5", "x"]}, "d": {"brand": None}}
    asking = Asking(assembler, **sent)
    assert asking.each("brand") == {"5": "abc", "x": "c"}
    assert asking.of("brand", 5) == "abc"
    assert asking.each("genres")["drama"] == "ab"


def test_a_feature_that_is_sent_without_values_groups_nothing(assembler: FeatureAssembler) -> None:
    assert Asking(assembler, a={"brand": None}).each("brand") == {}
    asking = Asking(assembler, "b", shown="b", a={"brand": "x"})
    assert asking.each("brand") == {}, "its only item may not be shown"
    assert not asking.knows("brand", "x")


@pytest.mark.parametrize("feature", ["price", "device", "brand", ""])
def test_other_features_group_nothing(assembler: FeatureAssembler, feature: str) -> None:
    asking = Asking(assembler, "b", a={"price": 3.0})
    with pytest.raises(LookupError):
        asking.groups.values(feature)


def test_named_groups(assembler: FeatureAssembler) -> None:
    asking = Asking(assembler, "a", "b", "c", shown="bc")
    members = asking.groups.named(["c", "a", "elsewhere", "c"])
    assert members.tolist() == [False, True]
