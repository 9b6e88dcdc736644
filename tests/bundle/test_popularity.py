"""What is counted from earlier events, by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from bundle.features.assembly import Candidates, FeatureAssembler
from bundle.features.catalogue import Catalogue
from bundle.features.fitting import SECONDS_PER_YEAR, FittedFeatures, fit
from bundle.features.history import UserContext
from bundle.features.popularity import DAY_S, PastEvents
from bundle.features.schema import FeatureSchema, FieldSpec

SCHEMA = FeatureSchema(
    fields=(
        FieldSpec(name="price", kind="numeric"),
        FieldSpec(name="week", kind="popularity", window_days=7, list_rank=True),
        FieldSpec(name="ever", kind="popularity", log=True),
        FieldSpec(name="since", kind="first_seen"),
        FieldSpec(name="rating", kind="mean_value"),
    ),
    item_ctr=False,
)
EVENTS = [(0, 20 * DAY_S, 8.0), (0, 1 * DAY_S, 2.0), (2, 3 * DAY_S, 5.0), (0, 15 * DAY_S, 5.0)]
"""Of `a` three, of `b` none, of `c` one."""

PAST = PastEvents.build(3, EVENTS)


def read(day: float) -> list[list[float]]:
    return PAST.read(SCHEMA.past, np.array([0, 1, 2, -1]), day * DAY_S).tolist()


def test_what_was_before_counts() -> None:
    nothing = [0.0, 0.0, math.nan, math.nan]
    assert read(18) == pytest.approx(
        np.array([[1, 2, DAY_S, 3.5], nothing, [0, 1, 3 * DAY_S, 5], nothing]), nan_ok=True
    )


def test_the_window_has_its_start_and_not_the_request_itself() -> None:
    assert [row[0] for row in read(15)] == [0, 0, 0, 0]  # the event of that moment is not before it
    assert [row[0] for row in read(15 + 1e-6)] == [1, 0, 0, 0]
    assert [row[0] for row in read(8)] == [1, 0, 1, 0]  # seven days after the first, to the moment
    assert [row[0] for row in read(8 + 1e-6)] == [0, 0, 1, 0]


def test_after_the_last_event_counts_stay() -> None:
    assert [row[:2] for row in read(5000)] == [[2, 3], [0, 0], [0, 1], [0, 0]]


def test_events_are_added_in_their_order() -> None:
    grown = PastEvents.build(2, EVENTS[:2]).extended(3, EVENTS[2:])
    for name in ("offsets", "times", "totals"):
        np.testing.assert_array_equal(getattr(grown, name), getattr(PAST, name), err_msg=name)


def assembler() -> FeatureAssembler:
    lists = [(day * DAY_S, PAST.read(SCHEMA.past, np.arange(3), day * DAY_S)) for day in (4.0, 18.0)]
    items = {name: {"price": price} for name, price in (("a", 1.0), ("b", 2.0), ("c", 3.0))}
    fitted = fit(SCHEMA, items.values(), [], [], timestamp=0.0, clicks=0, impressions=1, past=lists)
    return FeatureAssembler(fitted, Catalogue.build(fitted, items, {}, PAST))


def columns(features: FeatureAssembler, **sent: float) -> dict[str, list[float]]:
    candidates = Candidates(["a", "b", "c", "unknown"], [sent, None, None, None])
    numbers = features.request(candidates, UserContext(), {}, 18 * DAY_S)["candidate_numeric"]
    return dict(zip(features.candidate_columns, numbers.T.tolist(), strict=True))


def test_columns_are_scaled_by_what_training_lists_had() -> None:
    features = assembler()
    week = [1, 0, 1, 1, 0, 0]  # on day 4, then on day 18
    ever = np.log1p([1, 0, 1, 2, 0, 1])
    since = np.array([3, 1, 17, 15]) * DAY_S / SECONDS_PER_YEAR  # `b` has none
    scales = features.fitted.scales
    for name, values in (("week", week), ("ever", ever), ("since", since), ("rating", [2, 5, 3.5, 5])):
        assert (scales[f"item.{name}"].mean, scales[f"item.{name}"].std) == pytest.approx(
            (np.mean(values), np.std(values))
        )
    found = columns(features)
    assert found["week"] == pytest.approx((np.array([1, 0, 0, 0]) - np.mean(week)) / np.std(week))
    assert found["list_rank:week"] == [0.875, 0.375, 0.375, 0.375]
    assert found["rating"][1] == 0.0  # nobody rated it
    assert found["rating"][0] == pytest.approx((3.5 - 3.875) / np.std([2, 5, 3.5, 5]))


def test_counts_that_are_sent_go_first() -> None:
    features = assembler()
    scale = features.fitted.scales["item.ever"]
    found = columns(features, ever=100.0)
    assert found["ever"][0] == pytest.approx(min((math.log(101) - scale.mean) / scale.std, 4.0))
    assert found["ever"][1:] == columns(features)["ever"][1:]


def test_a_stored_catalogue_counts_the_same(tmp_path: Path) -> None:
    features = assembler()
    features.catalogue.save(tmp_path / "catalogue.npz")
    fitted = FittedFeatures.model_validate_json(features.fitted.model_dump_json())
    again = FeatureAssembler(fitted, Catalogue.load(tmp_path / "catalogue.npz", fitted))
    assert columns(again) == columns(features)


@pytest.mark.parametrize(
    ("field", "fault"),
    [
        ({"name": "x", "kind": "age", "window_days": 3}, "window_days goes with kind 'popularity'"),
        ({"name": "x", "kind": "popularity", "scope": "user"}, "popularity needs a field of the item"),
        ({"name": "x", "kind": "popularity", "window_days": 0}, "greater than 0"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(field: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        FieldSpec.model_validate(field)
