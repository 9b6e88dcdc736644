"""Features, recomputed by hand.

Long, because every kind of field has its arithmetic, on one small catalogue.
"""

import json
import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from bundle.contract import ENCODER_INPUTS
from bundle.features.assembly import Candidates, FeatureAssembler, Unknown, collate
from bundle.features.catalogue import UNKNOWN, Catalogue
from bundle.features.derived import share_below
from bundle.features.fitting import CLIP, SECONDS_PER_YEAR, FittedFeatures, RecordEncoder, fit
from bundle.features.history import IMPRESSION, Interaction, UserContext, collapse
from bundle.features.schema import FeatureSchema
from bundle.features.seen import IGNORED, LIKED, SHOWN, collapse_all

ITEMS: dict[str, dict[str, Any]] = {
    "a": {"price": 1.0, "genres": ["x", "y"], "born": 0.0, "text": "1234", "colour": "red"},
    "b": {"price": 3.0, "genres": ["y"], "born": SECONDS_PER_YEAR, "text": "12", "colour": "blue"},
    "c": {"price": 5.0, "genres": [], "born": 2 * SECONDS_PER_YEAR, "text": "", "colour": "red"},
}
COUNTS = {"a": (6, 10), "b": (1, 10), "c": (0, 0)}


def schema(**changes: Any) -> FeatureSchema:
    return FeatureSchema.model_validate(
        {
            "fields": [
                {"name": "price", "kind": "numeric", "list_rank": True, "affinity": True},
                {"name": "born", "kind": "age"},
                {"name": "text", "kind": "text_length"},
                {"name": "genres", "kind": "multivalued", "max_values": 2, "affinity": True},
                {"name": "colour", "kind": "categorical"},
            ],
            **changes,
        }
    )


def assembler(**changes: Any) -> FeatureAssembler:
    fitted = fit(
        schema(**changes), ITEMS.values(), [], [], timestamp=10 * SECONDS_PER_YEAR, clicks=7, impressions=20
    )
    return FeatureAssembler(fitted, Catalogue.build(fitted, ITEMS, COUNTS))


def columns(features: FeatureAssembler, /, **request: Any) -> dict[str, np.ndarray]:
    """The named columns of a request for a, b, c."""
    arrays = features.request(
        Candidates(request.get("ids", ["a", "b", "c"]), request.get("features"), request.get("scores")),
        request.get("user", UserContext()),
        {},
        request.get("timestamp", 10 * SECONDS_PER_YEAR),
    )
    assert arrays["candidate_numeric"].shape[1] == len(features.candidate_columns)
    return dict(zip(features.candidate_columns, arrays["candidate_numeric"].T, strict=True))


def test_numbers_are_standardised_by_training_records() -> None:
    price = columns(assembler())["price"]
    std = math.sqrt(8 / 3)
    np.testing.assert_allclose(price, [-2 / std, 0.0, 2 / std], rtol=1e-6)


def test_ages_count_back_from_the_request() -> None:
    features = assembler()
    now = columns(features)["born"]
    later = columns(features, timestamp=11 * SECONDS_PER_YEAR)["born"]
    std = math.sqrt(2 / 3)
    np.testing.assert_allclose(now, [1 / std, 0, -1 / std], rtol=1e-5)
    np.testing.assert_allclose(later - now, 1 / std, rtol=1e-5)


def test_drift_is_clipped() -> None:
    assert columns(assembler(), timestamp=1e12)["born"].max() == CLIP


def test_click_rate_is_smoothed_towards_the_mean() -> None:
    got = columns(assembler(ctr_prior_impressions=10.0))
    mean = 7 / 20

    def log_odds(p: float) -> float:
        return math.log(p / (1 - p))

    expected = [log_odds((clicks + 10 * mean) / (n + 10)) - log_odds(mean) for clicks, n in COUNTS.values()]
    np.testing.assert_allclose(got["item_ctr"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["item_impressions"], [math.log(11) / 5, math.log(11) / 5, 0.0], rtol=1e-6)


def test_list_rank_is_the_share_below_with_ties_halved() -> None:
    got = columns(assembler(), ids=["a", "b", "c"])["list_rank:price"]
    np.testing.assert_allclose(got, [1 / 6, 3 / 6, 5 / 6], rtol=1e-6)
    alone = columns(assembler(), ids=["b"])["list_rank:price"]
    np.testing.assert_allclose(alone, [0.5])


def test_list_ranks_are_counted_by_pairs() -> None:
    """With ties, in lists of many lengths."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 60):
        values = rng.integers(-3, 4, n).astype(np.float32) / 3
        pairs = (values[None] < values[:, None]).sum(axis=1) + 0.5 * (values[None] == values[:, None]).sum(
            axis=1
        )
        shares = np.empty(n, np.float32)
        share_below(values, shares)
        np.testing.assert_allclose(shares, pairs / n, rtol=1e-6)


def test_records_are_written_together_as_they_are_alone() -> None:
    encoder = assembler().catalogue.encoder
    records: list[dict[str, Any]] = [
        *ITEMS.values(),
        {"price": None, "genres": "x"},
        {"text": "1", "colour": ["blue", "red"]},
        {"genres": ["z", "y", "y", "x"], "born": 5},
        {},
    ]
    numbers, tokens = (
        np.ones((len(records), encoder.columns), np.float32),
        np.ones((len(records), 3), np.int32),
    )
    encoder.write_rows(records, numbers, tokens, 7.0)
    for row, record in enumerate(records):
        alone, its_tokens = np.ones(encoder.columns, np.float32), np.ones(3, np.int32)
        encoder.write(record, alone, its_tokens, 7.0)
        np.testing.assert_array_equal(numbers[row], alone)
        np.testing.assert_array_equal(tokens[row], its_tokens)
    assert (numbers[-1] == 1).all()
    assert (tokens[-1] == 1).all()


def test_initial_scores_are_standardised_within_the_list() -> None:
    got = columns(assembler(initial_score=True), scores=[3.0, math.nan, 1.0])
    std = math.sqrt(2 / 3)
    np.testing.assert_allclose(got["initial_score"], [1 / std, 0.0, -1 / std], rtol=1e-6)
    absent = columns(assembler(initial_score=True))
    np.testing.assert_allclose(absent["initial_score"], 0.0)


def test_affinity_is_the_smoothed_like_rate_of_the_values_over_the_users_own() -> None:
    user = UserContext(history=(Interaction("a", "click"), Interaction("b", "impression")))
    got = columns(assembler(), user=user)
    own = (1 + 2 * 7 / 20) / (2 + 2)
    x = (1 + 2 * own) / (1 + 2) - own  # only in a, liked
    y = (1 + 2 * own) / (2 + 2) - own  # in a, liked, and in b, not
    np.testing.assert_allclose(got["affinity:genres"], [(x + y) / 2, y, 0.0], rtol=1e-5)
    np.testing.assert_allclose(got["liked:genres"], [math.log(2), math.log(2), 0.0], rtol=1e-5)
    price = got["price"]
    np.testing.assert_allclose(got["affinity:price"], price * (price[0] - price[1]), rtol=1e-5)


def test_vector_affinity_is_the_cosine_with_what_was_liked_less_what_was_not() -> None:
    items = {"p": {"v": [1.0, 0.0]}, "q": {"v": [0.0, 1.0]}, "r": {"v": [3.0, 0.0]}}
    declared = FeatureSchema.model_validate(
        {"fields": [{"name": "v", "kind": "vector", "size": 2, "affinity": True}], "item_ctr": False}
    )
    fitted = fit(declared, items.values(), [], [], 0.0, 1, 2)
    features = FeatureAssembler(fitted, Catalogue.build(fitted, items, {}))
    user = UserContext(history=(Interaction("p", "click"), Interaction("q", "impression")))
    arrays = features.request(Candidates(["p", "q", "r"]), user, {}, 0.0)
    got = dict(zip(features.candidate_columns, arrays["candidate_numeric"].T, strict=True))
    np.testing.assert_allclose(got["affinity:v"], [1 / math.sqrt(2), -1 / math.sqrt(2), 1 / math.sqrt(2)])


def test_cold_users_have_no_affinity() -> None:
    got = columns(assembler())
    assert all(not values.any() for name, values in got.items() if name.startswith(("affinity", "liked")))


def test_unknown_items_are_zeros_and_sent_features_fill_them_in() -> None:
    features = assembler()
    arrays = features.request(
        Candidates(["a", "new", "newer"], [None, {"price": 1.0, "genres": ["x"]}, None]),
        UserContext(),
        {},
        10 * SECONDS_PER_YEAR,
    )
    price = arrays["candidate_numeric"][:, features.candidate_columns.index("price")]
    assert price[1] == pytest.approx(price[0])
    assert price[2] == 0.0
    assert arrays["candidate_tokens"][1, 0] == arrays["candidate_tokens"][0, 0]
    assert not arrays["candidate_tokens"][2].any()
    assert features.catalogue.rows(["a", "new"]).tolist() == [0, UNKNOWN]


def test_sent_features_go_before_the_catalogues() -> None:
    got = columns(assembler(), features=[{"price": 5.0}, None, None])["price"]
    assert got[0] == pytest.approx(got[2])


def test_unknown_values_and_items_of_the_history_are_passed_over() -> None:
    features = assembler()
    user = UserContext(history=(Interaction("gone", "click"), Interaction("a", "click")))
    arrays = features.request(Candidates(["b"], [{"colour": "green"}]), user, {}, 0.0)
    assert len(arrays["history_numeric"]) == 1
    own = features.request(Candidates(["b"]), user, {}, 0.0)
    assert own["candidate_tokens"][0, -1] != 0
    np.testing.assert_array_equal(arrays["candidate_tokens"], own["candidate_tokens"])
    stranger = features.request(Candidates(["nobody"], [{"colour": "green"}]), user, {}, 0.0)
    assert stranger["candidate_tokens"][0, -1] == 0


def test_an_unknown_item_of_the_history_counts_by_the_features_that_came_with_it() -> None:
    features = assembler(item_ctr=False)  # rates are the catalogue's alone

    def history(item_id: str, told: dict[str, Any] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        user = UserContext(
            history=(Interaction("b", "click"), Interaction(item_id, "impression", None, told))
        )
        arrays = features.request(Candidates(["c"]), user, {}, 0.0)
        return arrays["history_numeric"], arrays["history_tokens"], arrays["candidate_numeric"]

    for known, told in zip(history("a", None), history("new", ITEMS["a"]), strict=True):
        np.testing.assert_array_equal(known, told)
    for known, told in zip(history("a", None), history("a", {"price": 99.0}), strict=True):
        np.testing.assert_array_equal(known, told, err_msg="the catalogue's own go first")
    assert len(history("new", {})[0]) == 1
    with pytest.raises(ValueError, match="'price': expected a number"):
        history("new", {"price": "dear"})


def test_vectors_of_the_history_count_no_more_than_the_catalogues() -> None:
    vector = FeatureSchema.model_validate(
        {"fields": [{"name": "v", "kind": "vector", "size": 2, "affinity": True}], "item_ctr": False}
    )
    items = {"a": {"v": [1.0, -2.0]}, "b": {"v": [3.0, 0.0]}}
    fitted = fit(vector, items.values(), [], [], timestamp=0.0, clicks=0, impressions=1)
    features = FeatureAssembler(fitted, Catalogue.build(fitted, items, {}))
    user = UserContext(history=(Interaction("new", "click", None, {"v": [9e18, -9e18]}),))
    arrays = features.request(Candidates(["a", "b"]), user, {}, 0.0)
    assert arrays["history_numeric"].tolist() == [[3.0, -2.0]]
    assert np.isfinite(arrays["candidate_numeric"]).all()


def test_fields_with_unknown_values_are_told() -> None:
    unknown = Unknown(set(), set())
    sent = [{"colour": "green", "price": 1.0}, {"genres": ["x", "opera"]}]
    assembler().request(Candidates(["a", "b"], sent), UserContext(), {}, 0.0, unknown)
    assert unknown == ({"colour", "genres"}, set())


@pytest.mark.parametrize(
    ("record", "name"),
    [({"price": "cheap"}, "price"), ({"price": True}, "price"), ({"text": 3}, "text")],
)
def test_a_value_of_another_kind_is_named(record: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        columns(assembler(), features=[record, None, None])


@pytest.mark.parametrize("value", [[1.0], [1.0, float("nan")], "ab", {"x": 1}])
def test_a_vector_must_have_its_size_and_be_finite(value: Any) -> None:
    declared = FeatureSchema.model_validate({"fields": [{"name": "v", "kind": "vector", "size": 2}]})
    encoder = RecordEncoder(fit(declared, [], [], [], 0.0, 0, 0), "item")
    with pytest.raises(ValueError, match="'v'"):
        encoder.write({"v": value}, np.zeros(2, np.float32), np.zeros(0, np.int32), 0.0)


def test_an_impression_followed_by_a_click_counts_once() -> None:
    history = [
        Interaction("a", "impression"),
        Interaction("b", "impression"),
        Interaction("a", "click"),
        Interaction("c", "hover"),
        Interaction("b", "impression"),
    ]
    assert collapse(history, ("click",), most=10) == [("a", True), ("b", False)]
    assert collapse(history, ("click",), most=1) == [("b", False)]
    assert collapse([*history, Interaction("a", "impression")], ("click",), 10)[-1] == ("a", True)


@pytest.mark.parametrize("most", [1, 3, 50])
def test_histories_of_many_are_collapsed_as_each_by_itself(most: int) -> None:
    rng = np.random.default_rng(most)
    rows = np.array([4, UNKNOWN, 0, 7, UNKNOWN, 2])
    meaning = {"hover": IGNORED, IMPRESSION: SHOWN, "click": LIKED}
    lengths = np.array([0, 1, *rng.integers(0, 12, 200), 0])
    items = rng.integers(0, len(rows), lengths.sum(), np.int32)
    kinds = rng.choice(list(meaning), lengths.sum())
    ends = lengths.cumsum()
    begins = ends - np.minimum(lengths, 9)
    means = np.array([meaning[kind] for kind in kinds], np.int8)
    together = collapse_all(items, means, begins, ends, rows, most)
    for begin, end, seen in zip(begins, ends, together, strict=True):
        history = [
            Interaction(str(item), kind)
            for item, kind in zip(items[begin:end], kinds[begin:end].tolist(), strict=True)
        ]
        alone = [(rows[int(item)], liked) for item, liked in collapse(history, ("click",), most)]
        known = [(row, liked) for row, liked in alone if row != UNKNOWN]
        assert list(zip(*(part.tolist() for part in seen), strict=True)) == known


def test_out_of_fold_counts_leave_the_catalogue_as_it_is() -> None:
    catalogue = assembler().catalogue
    less = catalogue.without(np.array([1, 0, 0, 0], np.float32), np.array([2, 0, 0, 0], np.float32))
    assert less.clicks.tolist() == [5, 1, 0, 0]
    assert less.impressions.tolist() == [8, 10, 0, 0]
    assert catalogue.clicks.tolist() == [6, 1, 0, 0]


def test_a_catalogue_that_grew_is_as_one_that_was_built_whole() -> None:
    fitted = assembler().fitted
    known = {"a": ITEMS["a"], "b": {**ITEMS["b"], "price": 9.0, "born": 5.0}}
    grown = Catalogue.build(fitted, known, {"a": (4, 6), "b": (1, 10)}).extended(
        {"c": ITEMS["c"], "b": {"price": ITEMS["b"]["price"], "born": ITEMS["b"]["born"]}}, {"a": (2, 4)}
    )
    whole = Catalogue.build(fitted, ITEMS, COUNTS)
    assert grown.ids == whole.ids
    for name in ("numbers", "tokens", "born", "clicks", "impressions"):
        np.testing.assert_array_equal(getattr(grown, name), getattr(whole, name), err_msg=name)
    assert grown.rows(["c", "nobody"]).tolist() == [2, UNKNOWN]
    with pytest.raises(ValueError, match="'price': expected a number"):
        grown.extended({"d": {"price": "dear"}}, {})


def test_the_catalogue_and_the_fitted_features_survive_storage(tmp_path: Any) -> None:
    features = assembler()
    features.catalogue.save(tmp_path / "catalogue.npz")
    fitted = FittedFeatures.model_validate_json(features.fitted.model_dump_json())
    again = FeatureAssembler(fitted, Catalogue.load(tmp_path / "catalogue.npz", fitted))
    assert again.catalogue.rows(["b", "gone"]).tolist() == [1, UNKNOWN]
    for name, values in columns(features).items():
        np.testing.assert_array_equal(columns(again)[name], values)


def test_collate_pads_with_zeros_and_masks() -> None:
    features = assembler()
    user = UserContext(history=(Interaction("a", "click"),))
    requests = [
        features.request(Candidates(["a", "b", "c"]), UserContext(), {}, 0.0),
        features.request(Candidates(["b"]), user, {}, 0.0),
    ]
    batch = collate(requests)
    assert set(batch) == {spec.name for spec in ENCODER_INPUTS}
    assert {spec.name: str(batch[spec.name].dtype) for spec in ENCODER_INPUTS} == {
        spec.name: spec.dtype for spec in ENCODER_INPUTS
    }
    assert batch["candidate_mask"].tolist() == [[True, True, True], [True, False, False]]
    assert not batch["candidate_numeric"][1, 1:].any()
    assert batch["history_feedback"].tolist() == [[0], [2]]
    np.testing.assert_array_equal(batch["candidate_numeric"][1, 0], requests[1]["candidate_numeric"][0])


def test_collate_of_one_request_is_the_same_row_as_in_a_batch() -> None:
    features = assembler()
    request = features.request(
        Candidates(["a", "b"]), UserContext(history=(Interaction("a", "click"),)), {}, 0.0
    )
    alone, batch = collate([request]), collate([request, request])
    assert set(alone) == set(batch)
    for name, array in alone.items():
        assert array.dtype == batch[name].dtype
        np.testing.assert_array_equal(array, batch[name][:1])


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"name": "v", "kind": "vector"}, "size"),
        ({"name": "v", "kind": "numeric", "size": 3}, "size"),
        ({"name": "v", "kind": "categorical", "log": True}, "log"),
        ({"name": "v", "kind": "categorical", "list_rank": True}, "list_rank"),
        ({"name": "v", "kind": "numeric", "scope": "user", "affinity": True}, "affinity"),
        ({"name": "v", "kind": "number"}, "kind"),
        ({"name": "v", "kind": "numeric", "colour": 1}, "colour"),
    ],
)
def test_a_faulty_declaration_is_refused(field: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FeatureSchema.model_validate({"fields": [field]})


def test_fields_declared_twice_are_refused() -> None:
    field = {"name": "v", "kind": "numeric"}
    with pytest.raises(ValidationError, match=r"item\.v"):
        FeatureSchema.model_validate({"fields": [field, field]})


def test_rare_values_are_unknown() -> None:
    declared = FeatureSchema.model_validate(
        {"fields": [{"name": "colour", "kind": "categorical", "min_count": 2}]}
    )
    fitted = fit(declared, ITEMS.values(), [], [], 0.0, 0, 0)
    assert json.loads(fitted.model_dump_json())["vocabulary"] == {"item.colour": {"red": 1}}


@pytest.mark.parametrize(
    ("trained", "sent"), [(5, 5.0), (5.0, 5), (5, "5"), (True, "true"), ([1.0, 2.5], [1, 2.5])]
)
def test_a_value_is_the_same_however_json_writes_it(trained: Any, sent: Any) -> None:
    declared = FeatureSchema.model_validate(
        {"fields": [{"name": "studio", "kind": "multivalued", "max_values": 2, "min_count": 1}]}
    )
    encoder = RecordEncoder(fit(declared, [{"studio": trained}], [], [], 0.0, 0, 0), "item")
    tokens = np.zeros((2, 2), np.int32)
    encoder.write_rows([{"studio": trained}, {"studio": sent}], np.zeros((2, 0), np.float32), tokens, 0.0)
    assert tokens[0].any()
    np.testing.assert_array_equal(tokens[1], tokens[0])
