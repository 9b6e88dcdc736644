"""A bundle judged by a decision log that it or another has written; people click by a rule that is known."""

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from bundle.features.assembly import FeatureAssembler
from decisions.lines import Decision, Exploration, Feedback, Line, Outcome, Shown, encode
from decisions.reading import Joined, Tally, read_decisions
from engine.loaded_model import LoadedModel
from evidence import off_policy
from evidence.click_models import CrossFitted
from evidence.estimators import mixed
from evidence.judged_policy import ServedPolicy
from evidence.judging import CDR, DM, IIPS, NAMES, RIPS, SN_CDR, SNIPS, Judgement, judge
from evidence.logged_lists import LoggedLists, NothingToJudgeError, logged_lists, padded
from model.sizes import feature_sizes
from model.training.checkpoint import load_config
from model.training.config import with_changes

LISTS, CANDIDATES, LENGTH = 400, 6, 3

Log = Callable[..., Path]


def click_chances(slate: NDArray[np.int64], scores: list[float]) -> NDArray[np.float64]:
    """Each item for its score, less for what stands further down or right after a better one."""
    own = np.array(scores)[slate]
    above = np.concatenate([[0.0], own[:-1]])
    return np.clip(0.1 + 0.8 * own - 0.3 * above, 0.05, 1.0) * 0.9 ** np.arange(len(slate))


def requests(count: int, seed: int) -> list[tuple[list[str], list[float]]]:
    rng = random.Random(seed)
    return [
        (rng.sample([f"i{n}" for n in range(200)], CANDIDATES), [rng.random() for _ in range(CANDIDATES)])
        for _ in range(count)
    ]


def asked(features: FeatureAssembler, count: int, seed: int) -> LoggedLists:
    """Lists without clicks or propensities, as a model sees them."""
    made = []
    for n, (ids, scores) in enumerate(requests(count, seed)):
        items = tuple(Shown(*pair) for pair in zip(ids, scores, strict=True))
        made.append(line(n, items, np.arange(LENGTH), np.ones(LENGTH), None))
    (lists,) = logged_lists([Joined(decision, ()) for decision in made], [features])
    return lists


def line(
    n: int,
    items: tuple[Shown, ...],
    slate: NDArray[np.int64],
    propensity: NDArray[np.float64],
    exploration: Exploration | None,
) -> Decision:
    return Decision(
        request_id=f"q{n}",
        at=float(n),
        model="m",
        model_version="1",
        items=items,
        slate=(*slate.tolist(), *(place for place in range(len(items)) if place not in slate)),
        wanted=len(items),
        took_ms=1.0,
        id=f"d{n}",
        user_id=f"u{n // 2}",
        probability=tuple(propensity.tolist()),
        propensity=tuple(propensity.tolist()),
        exploration=exploration,
    )


def test_a_time_in_milliseconds_or_null_is_read_as_the_service_read_it(bundle: Path) -> None:
    features, at = LoadedModel.open(bundle).features, 1_700_000_000
    (ids, scores), *_ = requests(1, 0)
    items = tuple(Shown(*pair) for pair in zip(ids, scores, strict=True))
    made = replace(line(0, items, np.arange(LENGTH), np.ones(LENGTH), None), at=float(at))
    sent: list[dict[str, Any]] = [{}, {"timestamp": None}, {"timestamp": at}, {"timestamp": at * 1000}]
    (lists,) = logged_lists([Joined(replace(made, context=one), ()) for one in sent], [features])
    first, *others = (row["candidate_numeric"] for row in lists.inputs)
    assert all(np.array_equal(first, other) for other in others)


@pytest.fixture
def log(bundle: Path, tmp_path: Path) -> Log:
    """The bundle's own log, with a share of the lists sampled at a temperature."""

    def write(share: float, temperature: float, more: tuple[Line, ...] = ()) -> Path:
        model = LoadedModel.open(bundle)
        policy, lists, rng = ServedPolicy(model), asked(model.features, LISTS, 0), np.random.default_rng(0)
        lengths, hot = [LENGTH] * LISTS, np.full(LISTS, temperature)
        sampled, greedy = policy.sampled(lists.inputs, lengths, hot, 7), policy.greedy(lists.inputs, lengths)
        explored = rng.random(LISTS) < share
        slates = [s if e else g for s, g, e in zip(sampled, greedy, explored, strict=True)]
        same = padded([a == b for a, b in zip(slates, greedy, strict=True)], 1.0).astype(bool)
        chances = padded(policy.chances(lists.inputs, slates, hot), 1.0)
        propensity = mixed(chances, same, np.full(LISTS, share))
        lines: list[Line] = []
        for n, (ids, scores) in enumerate(requests(LISTS, 0)):
            items = tuple(Shown(*pair) for pair in zip(ids, scores, strict=True))
            exploration = Exploration(share, temperature) if share else None
            lines.append(line(n, items, slates[n], propensity[n], exploration))
            clicked = slates[n][rng.random(LENGTH) < click_chances(slates[n], scores)]
            outcomes = tuple(Outcome(ids[place], "click", n + 0.5) for place in clicked)
            lines.append(Feedback(f"d{n}", n + 0.5, outcomes, f"u{n // 2}"))
        directory = tmp_path / "decisions"
        directory.mkdir(exist_ok=True)
        text = b"".join(encode(one) + b"\n" for one in [*lines, *more])
        (directory / "decisions-1.jsonl").write_bytes(text)
        return directory

    return write


def true_value(bundle: Path, temperature: float) -> float:
    model = LoadedModel.open(bundle)
    lists = asked(model.features, 2000, 1)
    hot = np.full(len(lists), temperature)
    slates = ServedPolicy(model).sampled(lists.inputs, [LENGTH] * len(lists), hot, 3)
    scores = [scores for _, scores in requests(2000, 1)]
    return float(np.mean([click_chances(*pair).sum() for pair in zip(slates, scores, strict=True)]))


def judged(
    directory: Path, bundle: Path, share: float | None = None, temperature: float | None = None
) -> Judgement:
    found = off_policy.judge_bundle(directory, bundle, share=share, temperature=temperature, folds=2, draws=2)
    return found[0]


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_the_policy_of_the_log_is_worth_what_its_lists_brought(log: Log, bundle: Path, share: float) -> None:
    found = judged(log(share, 1.0), bundle)
    for name in (IIPS, RIPS, SNIPS):
        value, difference, overlap, _ = found.estimates[name]
        assert value == pytest.approx(found.logged, rel=1e-3)
        assert abs(difference.low) < 1e-3 > abs(difference.high)
        assert overlap is not None
        assert overlap.effective == pytest.approx(LISTS, rel=1e-3)
        assert (overlap.largest, overlap.mean) == (pytest.approx(1.0, rel=1e-2), pytest.approx(1.0, rel=1e-2))
    assert set(found.estimates) == set(NAMES)


def test_another_temperature_is_worth_what_it_would_bring(log: Log, bundle: Path) -> None:
    directory = log(1.0, 3.0)
    found = judged(directory, bundle, share=1.0, temperature=1.0)
    true, logged = true_value(bundle, 1.0), true_value(bundle, 3.0)
    for name in (RIPS, SNIPS, CDR, SN_CDR):
        value, difference, overlap, _ = found.estimates[name]
        assert value.low < true < value.high
        assert difference.low < true - logged < difference.high
        assert overlap is not None
        assert 50 < overlap.effective < 0.95 * LISTS
    assert found.logged.low < logged < found.logged.high


def test_greedy_lists_of_a_sampled_log_are_mostly_unknown(log: Log, bundle: Path) -> None:
    found = judged(log(1.0, 3.0), bundle, share=0.0)
    overlap = found.estimates[SNIPS].overlap
    assert overlap is not None
    assert overlap.unsupported > 0.5
    assert [warning for warning in found.warnings() if "could not come from this policy" in warning]
    assert [warning for warning in found.warnings() if "fewer than 500" in warning]


def test_what_says_nothing_is_left_out_and_counted(log: Log, bundle: Path) -> None:
    items = tuple(Shown(f"i{n}", 0.5) for n in range(CANDIDATES))
    good = line(1000, items, np.arange(LENGTH), np.full(LENGTH, 0.5), None)
    known = {name: getattr(good, name) for name in good.__struct_fields__}

    def but(name: str, **changes: object) -> Decision:
        return Decision(**{**known, "id": name, **changes})

    nothing = (Shown("nobody knows"), *items[1:])
    more = (
        but("fallback", fallback="overload"),
        but("rules", constraints={"pinned": []}),
        but("none", probability=(), propensity=()),
        but("zero", propensity=(0.5, 0.0, 0.5)),
        but("unknown", items=nothing),
        but("unknown, with a score", items=(Shown("nobody knows", 1.0), *items[1:])),
        but("unknown, with features", items=(Shown("nobody knows", None, {"price": 1.0}), *items[1:])),
    )
    directory = log(1.0, 1.0, more)
    _, lists, tally = off_policy.judge_bundle(directory, bundle, folds=2, draws=1)
    assert tally.decisions == LISTS + 7
    assert len(lists) == LISTS + 2
    expected = {"fallbacks": 1, "with constraints": 1, "without propensities": 2}
    assert lists.left_out == Counter({**expected, "with items the bundle cannot rank": 1})


def test_no_list_to_judge_by_is_an_error(bundle: Path, tmp_path: Path) -> None:
    items = tuple(Shown(f"i{n}") for n in range(CANDIDATES))
    good = line(0, items, np.arange(LENGTH), np.ones(LENGTH), None)
    one = Decision(**{**{name: getattr(good, name) for name in good.__struct_fields__}, "fallback": "model"})
    (tmp_path / "a.jsonl").write_bytes(encode(one) + b"\n")
    with pytest.raises(NothingToJudgeError, match="can be judged by: 1 fallbacks"):
        off_policy.judge_bundle(tmp_path, bundle)
    (tmp_path / "a.jsonl").write_bytes(encode(good) + b"\n")
    with pytest.raises(ValueError, match="1 people are too few to fit 3 click models to"):
        off_policy.judge_bundle(tmp_path, bundle)


def test_the_command_prints_and_stores_the_same(
    log: Log, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, directory = tmp_path / "found.json", log(1.0, 2.0)
    common = ["--decisions", str(directory), "--bundle", str(bundle)]
    off_policy.main([*common, "--folds", "2", "--draws", "1", "--json", str(out)])
    stored, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert stored["lists"] == LISTS
    assert f"{stored['estimates'][RIPS]['value']['value']:.4f}" in printed
    assert stored["estimates"][DM]["overlap"] is None
    for wrong in (("--share", "1.5"), ("--temperature", "nan"), ("--folds", "0"), ("--draws", "0")):
        with pytest.raises(SystemExit):
            off_policy.main([*common, *wrong])
        assert f"{wrong[0]}: expected" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"no \*\.jsonl"):
        off_policy.main(["--decisions", str(tmp_path / "none"), "--bundle", str(bundle)])


def test_a_click_model_has_not_seen_whom_it_judges(log: Log, bundle: Path) -> None:
    """Labels that say nothing but who the person is cannot be known of others."""
    model = LoadedModel.open(bundle)
    lists = asked(model.features, 300, 0)
    rng = np.random.default_rng(0)
    labels = [rng.integers(2, size=CANDIDATES).astype(np.float32) for _ in range(len(lists))]
    rows = [row._replace(labels=own) for row, own in zip(lists.examples, labels, strict=True)]
    config = with_changes(
        load_config(bundle), {"evaluator": {"epochs": 15, "patience": 15, "learning_rate": 0.02}}
    )
    people = lists.people.tolist()
    models = CrossFitted.fit(config, feature_sizes(model.features), rows, people, folds=2)
    clicked = padded([own[slate] for own, slate in zip(labels, lists.slates, strict=True)], 0.0)
    predicted = models.clicks(rows, lists.slates)
    assert abs(np.corrcoef(predicted.ravel(), clicked.ravel())[0, 1]) < 0.12


def test_judging_is_the_same_whichever_way_it_is_asked(log: Log, bundle: Path) -> None:
    """A share of 1 leaves the greedy list out, a share of 0 the sampled one."""
    directory = log(1.0, 1.0)
    model = LoadedModel.open(bundle)
    (lists,) = logged_lists(read_decisions(directory, Tally()), [model.features])
    people = lists.people.tolist()
    models = CrossFitted.fit(load_config(bundle), feature_sizes(model.features), lists.examples, people, 2)
    policy, hot = ServedPolicy(model), np.ones(len(lists))
    values = [
        judge(lists, policy, models, np.full(len(lists), share), hot, draws=2).estimates[DM].value.value
        for share in (0.0, 0.5, 1.0)
    ]
    assert values[1] == pytest.approx((values[0] + values[2]) / 2)
    assert values[0] != pytest.approx(values[2], abs=1e-4)
