"""What is served, as a value: every change of it, and what each refuses."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bundle.manifest import BundleError
from service.errors import ConflictError, InvalidRequestError, NotFoundError
from service.serving.plan import Arm, Model, ModelKey, Pin, Plan, Shadow


def pin(version: str, name: str = "films", manifest: str = "m") -> Pin:
    return Pin(f"/bundles/{name}/{version}", name, version, manifest)


FILMS = Plan({"films": Model((Arm(pin("1"), 1.0),), pin("1"))}, "films")


def shares(plan: Plan, name: str = "films") -> dict[str, float]:
    return {arm.pin.version: arm.share for arm in plan.models[name].arms}


def test_a_loaded_version_answers_nobody_until_it_gets_a_share() -> None:
    plan = FILMS.loaded(pin("2"))
    assert shares(plan) == {"1": 1, "2": 0}
    assert shares(plan.shared("films", {"1": 0.9, "2": 0.1})) == {"1": 0.9, "2": 0.1}
    assert shares(plan.shared("films", {"2": 1})) == {"1": 0, "2": 1}
    assert shares(plan.loaded(pin("1", "books")), "books") == {"1": 1}, "a new name is answered by it"
    assert FILMS.loaded(pin("1")) is FILMS
    with pytest.raises(ConflictError, match="another bundle is loaded as films 1"):
        FILMS.loaded(pin("1", manifest="n"))


def test_shares_are_of_loaded_versions_and_whole() -> None:
    with pytest.raises(NotFoundError, match="films '2' is not loaded; loaded: 1"):
        FILMS.shared("films", {"2": 1.0})
    with pytest.raises(NotFoundError, match="no model 'books'; served: films"):
        FILMS.shared("books", {"1": 1.0})
    with pytest.raises(InvalidRequestError, match=r"they add up to 0\.5, expected 1"):
        FILMS.shared("films", {"1": 0.5})
    assert FILMS.shared("films", {"1": 1.0}) is FILMS


def test_only_what_answers_nobody_is_unloaded() -> None:
    plan = FILMS.loaded(pin("2")).loaded(pin("1", "books"))
    assert shares(plan.unloaded("films", "2")) == {"1": 1}
    assert set(plan.unloaded("books", "1").models) == {"films"}
    with pytest.raises(ConflictError, match="has a share of 1"):
        plan.unloaded("films", "1")
    with pytest.raises(ConflictError, match="all there is of the default model"):
        FILMS.unloaded("films", "1")
    with pytest.raises(ConflictError, match="is the shadow of books"):
        plan.shadowed("books", Shadow("films", "2", 1.0)).unloaded("films", "2")
    with pytest.raises(NotFoundError):
        plan.unloaded("films", "3")


def test_the_last_changes_are_undone_one_by_one() -> None:
    with pytest.raises(ConflictError, match="was not changed"):
        FILMS.rolled_back("films")
    second = FILMS.loaded(pin("2")).shared("films", {"1": 0.5, "2": 0.5})
    third = second.reloaded([pin("3")])
    assert shares(third) == {"3": 1}
    back = third.rolled_back("films")
    assert shares(back) == {"1": 0.5, "2": 0.5}
    assert shares(back.rolled_back("films")) == {"1": 1, "2": 0}
    with pytest.raises(ConflictError):
        back.rolled_back("films").rolled_back("films")


def test_a_reload_follows_the_pointers_that_have_moved_and_nothing_else() -> None:
    tried = FILMS.loaded(pin("2")).shared("films", {"1": 0.9, "2": 0.1})
    assert tried.reloaded([pin("1")]) is tried, "what is tried goes on"
    both = tried.reloaded([pin("1"), pin("1", "books")])
    assert (shares(both), shares(both, "books")) == ({"1": 0.9, "2": 0.1}, {"1": 1})
    assert shares(tried.reloaded([pin("2")])) == {"2": 1}
    back = tried.reloaded([pin("2")]).rolled_back("films")
    assert back.reloaded([pin("2")]) is back, "what was rolled back stays so"
    assert shares(back.reloaded([pin("3")])) == {"3": 1}


def test_a_shadow_is_loaded_and_ends_when_it_is_not() -> None:
    plan = FILMS.loaded(pin("2")).shadowed("films", Shadow("films", "2", 0.5))
    assert plan.models["films"].shadow == Shadow("films", "2", 0.5)
    assert plan.reloaded([pin("3")]).models["films"].shadow is None
    assert plan.shadowed("films", None).models["films"].shadow is None
    with pytest.raises(NotFoundError):
        FILMS.shadowed("films", Shadow("films", "2", 0.5))


def test_nothing_is_its_own_shadow() -> None:
    with pytest.raises(ConflictError, match="films 1 would be compared with itself"):
        FILMS.loaded(pin("2")).shadowed("films", Shadow("films", "1", 0.5))
    split = FILMS.loaded(pin("2")).shared("films", {"1": 0.5, "2": 0.5})
    assert split.shadowed("films", Shadow("films", "1", 0.5)).models["films"].shadow is not None


def test_another_name_answers_where_none_is_given() -> None:
    plan = FILMS.loaded(pin("1", "books"))
    assert plan.defaulting("books").default == "books"
    assert plan.defaulting("films") is plan
    with pytest.raises(NotFoundError):
        plan.defaulting("songs")


def test_every_change_counts() -> None:
    plan = FILMS.loaded(pin("2"))
    changed: list[Plan] = [
        plan.shared("films", {"2": 1.0}),
        plan.unloaded("films", "2"),
        plan.shadowed("films", Shadow("films", "2", 1.0)),
        plan.reloaded([pin("3")]),
        plan.shared("films", {"2": 1.0}).rolled_back("films"),
    ]
    assert [after.revision for after in changed] == [2, 2, 2, 2, 3]


def test_it_crosses_to_another_process_as_it_is() -> None:
    plan = FILMS.loaded(pin("2")).shared("films", {"1": 0.5, "2": 0.5}).shadowed("films", None)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def test_it_begins_with_one_version_of_every_model(bundle: Path, tmp_path: Path) -> None:
    plan = Plan.of([bundle])
    (only,) = plan.pins()
    assert (only.key, plan.default) == (ModelKey("eglr", "1"), "eglr")
    refused: list[tuple[Any, str]] = [
        (([bundle, bundle],), "another model is named eglr"),
        (([bundle], "films"), "no model films; there are eglr"),
        (([tmp_path],), "no bundle here"),
    ]
    for given, message in refused:
        with pytest.raises(BundleError, match=message):
            Plan.of(*given)
