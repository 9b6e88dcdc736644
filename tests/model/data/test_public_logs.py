"""Public logs in their own layout, from a few hand-made rows, and user folds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from model.data import kuairand, movietweetings, simulator, taobao_ad
from model.data.features import DatasetFeatures
from model.data.folds import by_time, rotated
from model.data.location import DataUnavailableError
from model.data.movietweetings import DAY_S, Rating
from model.data.open_dataset import open_dataset
from model.data.sessions import Impression, SessionsConfig, lists_of
from model.data.slate import SPLITS, Dataset, LoggedSlate
from model.data.tables import TableError
from model.training.config import read_config

CONFIGS = Path(__file__).parents[3] / "configs"


def all_of(dataset: Dataset) -> list[LoggedSlate]:
    return [slate for split in SPLITS for slate in dataset.slates[split]]


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def kuai(tmp_path: Path) -> Path:
    write(
        tmp_path / "log_standard_4_08_to_4_21_1k.csv",
        "user_id,video_id,date,hourmin,time_ms,is_click,is_like,tab",
        "7,11,20220408,1200,1649390400000,0,0,1",
        "7,12,20220408,1201,1649390460000,1,0,1",
        "7,13,20220408,1201,1649390461000,0,0,1",
        "7,11,20220409,1200,1649476800000,1,0,1",
        "7,14,20220409,1200,1649476801000,0,0,1",
    )
    write(
        tmp_path / "user_features_1k.csv",
        "user_id,user_active_degree,is_lowactive_period,register_days",
        "7,full_active,0,300",
    )
    write(
        tmp_path / "video_features_basic_1k.csv",
        "video_id,author_id,video_type,upload_dt,video_duration,tag",
        '11,900,NORMAL,2022-04-01,15000,"3,8"',
        "12,901,AD,2022-04-01,,",
    )
    return tmp_path


def test_kuairand_sessions_become_lists(kuai: Path) -> None:
    dataset = kuairand.load(kuai)
    first, second = all_of(dataset)
    assert first.candidates == ("11", "12", "13")
    assert first.labels.tolist() == [0, 1, 0]
    assert first.timestamp == 1649390400.0
    assert first.user.profile == {"activity": "full_active", "register_days": 300.0}
    assert first.user.history == ()
    assert second.candidates == ("11", "14")
    assert [(event.item_id, event.type) for event in second.user.history] == [
        ("11", "impression"),
        ("12", "impression"),
        ("12", "click"),
        ("13", "impression"),
    ]
    assert dataset.items["11"] == {
        "author": "900",
        "type": "NORMAL",
        "tags": ["3", "8"],
        "duration_ms": 15000.0,
    }
    assert "duration_ms" not in dataset.items["12"]


def test_kuairand_trains_features_under_its_configuration(kuai: Path) -> None:
    shorter = {"directory": kuai, "sessions": {"gap_s": 600.0, "min_items": 2}}
    config = read_config(CONFIGS / "kuairand.toml", shorter)
    dataset = open_dataset(config)
    slates = all_of(dataset)
    features = DatasetFeatures.fit(
        Dataset("k", dataset.items, {"train": slates, "validation": [], "test": []}, {}), config.features
    )
    arrays = features.arrays(slates[0], training=False)
    assert arrays["candidate_numeric"].shape[0] == 3
    assert np.isfinite(arrays["candidate_numeric"]).all()


def test_a_log_that_is_not_there_is_named(tmp_path: Path, kuai: Path) -> None:
    with pytest.raises(DataUnavailableError, match=r"no video_features_basic_\*\.csv there"):
        kuairand.load(tmp_path / "nowhere")
    write(kuai / "user_features_1k.csv", "user_id,register_days", "7,300")
    with pytest.raises(TableError, match="no column 'user_active_degree'"):
        kuairand.load(kuai)


def test_taobao_ad_becomes_lists(tmp_path: Path) -> None:
    write(
        tmp_path / "raw_sample.csv",
        "user,time_stamp,adgroup_id,pid,nonclk,clk",
        "5,1494000060,2,430548_1007,0,1",
        "5,1494000000,1,430548_1007,1,0",
        "6,1494000000,1,430548_1007,1,0",
        "6,1494000001,2,430548_1007,1,0",
    )
    write(
        tmp_path / "ad_feature.csv",
        "adgroup_id,cate_id,campaign_id,customer,brand,price",
        "1,4,30,40,50,170.5",
        "2,4,31,41,NULL,19.9",
    )
    write(
        tmp_path / "user_profile.csv",
        "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,occupation,"
        "new_user_class_level ",
        "5,0,5,2,5,,3,0,3",
    )
    dataset = taobao_ad.load(tmp_path)
    (slate,) = all_of(dataset)
    assert slate.candidates == ("1", "2")  # in the order of time
    assert slate.labels.tolist() == [0, 1]
    assert slate.user.profile == {"gender": "2", "age": "5", "shopping": "3"}
    assert dataset.dropped == {"no positive": 1}
    assert dataset.items["1"]["brand"] == "50"
    assert "brand" not in dataset.items["2"]


def test_sessions_are_cut_as_configured() -> None:
    shown = [Impression("u", f"i{n}", float(n), n % 2 == 0) for n in range(9)]

    def lengths(**settings: float) -> tuple[list[int], dict[str, int]]:
        dataset = lists_of("x", shown, {}, {}, SessionsConfig.model_validate(settings))
        return [len(slate.candidates) for slate in all_of(dataset)], dict(dataset.dropped)

    assert lengths() == ([9], {})
    assert lengths(max_items=5) == ([5, 4], {})  # a long one goes on as another list
    assert lengths(max_items=5, min_items=5) == ([5], {"under 5 items": 1})
    assert lengths(gap_s=1.0) == ([], {"under 2 items": 9})
    with pytest.raises(ValidationError, match="min_items"):
        SessionsConfig(min_items=1)


def test_an_item_counts_once_a_list() -> None:
    again = [
        Impression("u", "a", 0.0, False),
        Impression("u", "b", 1.0, False),
        Impression("u", "a", 2.0, True),
    ]
    (slate,) = all_of(lists_of("x", again, {}, {}, SessionsConfig()))
    assert slate.candidates == ("a", "b")
    assert slate.labels.tolist() == [1, 0]
    assert all_of(lists_of("x", again, {}, {}, SessionsConfig(min_items=3))) == []


def test_unpacked_logs_are_found_where_data_lies(
    kuai: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGLR_DATA_DIR", str(kuai.parent))
    config = read_config(CONFIGS / "kuairand.toml")
    for name in ("kuairand", "taobao_ad"):
        with pytest.raises(DataUnavailableError, match=f"no folder {name} in .*EGLR_DATA_DIR"):
            open_dataset(config.model_copy(update={"dataset": name}))
    (kuai.parent / "kuairand").symlink_to(kuai)
    assert open_dataset(config).dropped == {"under 5 items": 1}


def test_kuairand_has_the_counts_we_report() -> None:
    try:
        dataset = open_dataset(read_config(CONFIGS / "kuairand.toml"))
    except DataUnavailableError as error:
        pytest.skip(str(error))
    slates = all_of(dataset)
    assert (len(slates), len({slate.user_id for slate in slates})) == (9662, 7184)
    assert sum(len(slate.candidates) for slate in slates) == 93240
    assert dataset.dropped == {"under 5 items": 72277, "no positive": 864, "all positive": 349}


def ratings() -> list[Rating]:
    """Two tastes: users of even number watch a..f, of odd number p..u; later each watches one more."""
    rows = []
    for user in range(30):
        films = "abcdef" if user % 2 == 0 else "pqrstu"
        seen = [films[(user // 2 + k) % 6] for k in range(4)]
        rows += [Rating(f"u{user}", film, 8, float(n * 3600)) for n, film in enumerate(seen)]
        later = films[(user // 2 + 4) % 6]
        rows.append(Rating(f"u{user}", later, 6, 50.0 * DAY_S + user))
    return sorted(rows, key=lambda rating: (rating.timestamp, rating.user, rating.film))


def test_movietweetings_lists_know_the_past_alone() -> None:
    dataset = movietweetings.lists(ratings(), {})
    slates = all_of(dataset)
    assert len(slates) == 30
    for slate in slates:
        number = int(slate.user_id[1:])
        films = "abcdef" if number % 2 == 0 else "pqrstu"
        seen = {event.item_id for event in slate.user.history}
        assert len(seen) == 4
        assert all(event.timestamp < slate.timestamp for event in slate.user.history)
        assert not seen & set(slate.candidates)
        assert set(slate.candidates) <= set(films)
        assert slate.candidates[int(slate.labels.argmax())] == films[(number // 2 + 4) % 6]
        assert slate.scores is not None
        assert list(slate.scores) == sorted(slate.scores, reverse=True)


def test_movietweetings_files_are_read(tmp_path: Path) -> None:
    write(tmp_path / "ratings.dat", "2::0104257::8::1364690142", "1::1074638::7::1364000000")
    write(tmp_path / "movies.dat", "0002844::Fantômas - Juve (1913)::Crime|Drama", "1::No year::")
    assert [r.user for r in movietweetings.read_ratings(tmp_path / "ratings.dat")] == ["1", "2"]
    films = movietweetings.read_films(tmp_path / "movies.dat")
    assert films["0002844"]["year"] == 1913.0
    assert films["0002844"]["genres"] == ["Crime", "Drama"]
    assert films["1"] == {"title": "No year", "genres": []}


def test_movietweetings_has_the_counts_we_report() -> None:
    try:
        dataset = movietweetings.load()
    except DataUnavailableError as error:
        pytest.skip(str(error))
    assert [len(dataset.slates[split]) for split in SPLITS] == [4505, 595, 1302]
    assert len(dataset.items) == 10506


def test_every_list_is_tested_in_exactly_one_fold() -> None:
    dataset = simulator.load(simulator.SimulatorConfig(items=60, lists=200))
    folds = [rotated(dataset, fold) for fold in range(5)]
    tested = [slate.request_id for fold in folds for slate in fold.slates["test"]]
    assert sorted(tested) == sorted(slate.request_id for slate in all_of(dataset))
    for n, fold in enumerate(folds):
        users = [{slate.user_id for slate in fold.slates[split]} for split in SPLITS]
        assert not users[0] & users[1] | users[0] & users[2] | users[1] & users[2]
        following = folds[(n + 1) % 5].slates["test"]
        assert [s.request_id for s in fold.slates["validation"]] == [s.request_id for s in following]
    with pytest.raises(ValueError, match="0 to 4, got 5"):
        rotated(dataset, 5)


def test_by_time_nothing_is_learned_from_what_comes_later() -> None:
    dataset = movietweetings.lists(spread_ratings(), {})
    everything = all_of(dataset)
    folds = [by_time(dataset, fold) for fold in range(5)]
    for fold in folds:
        train, validation, test = ([slate.timestamp for slate in fold.slates[split]] for split in SPLITS)
        assert max(train) < min(validation)
        assert max(validation) < min(test)
    tested = [slate.request_id for fold in folds for slate in fold.slates["test"]]
    assert len(set(tested)) == len(tested)
    assert max(slate.timestamp for slate in everything) in {s.timestamp for s in folds[0].slates["test"]}
    assert len(all_of(folds[0])) == len(everything)
    with pytest.raises(ValueError, match="0 to 4, got -1"):
        by_time(dataset, -1)


def test_by_time_a_time_with_more_than_a_period_of_lists_leaves_no_split_empty() -> None:
    def crowded(times: int) -> Dataset:
        """25 lists at each of so many times."""
        lists = [replace(slate, timestamp=float(n // 25)) for n, slate in enumerate(everything[: 25 * times])]
        return replace(dataset, slates={"train": lists, "validation": [], "test": []})

    dataset = movietweetings.lists(spread_ratings(), {})
    everything = all_of(dataset)
    for fold in range(5):
        splits = by_time(crowded(7), fold).slates
        times = [{slate.timestamp for slate in splits[split]} for split in SPLITS]
        assert times == [set(range(5 - fold)), {5 - fold}, {6 - fold}]
    with pytest.raises(ValueError, match="fold 4 needs 7 periods, but the lists' times make 6"):
        by_time(crowded(6), 4)


def spread_ratings() -> list[Rating]:
    """Forty people rate one of sixty films a week, for a year."""
    rng = np.random.default_rng(0)
    films = [rng.permutation(60) for _ in range(40)]
    rows = [
        Rating(f"u{user}", f"f{films[user][week]}", 7, (7 * week + user / 40) * DAY_S)
        for week in range(52)
        for user in range(40)
    ]
    return sorted(rows, key=lambda rating: rating.timestamp)


def test_a_summary_says_what_was_dropped() -> None:
    dataset = Dataset("x", {}, {"train": [], "validation": [], "test": []}, {})
    assert dataset.summary().endswith("dropped: none")
    again = [Impression("u", item, 0.0, item == "a") for item in "ab"]
    short = [Impression("v", "a", 0.0, True), Impression("v", "b", 999.0, True)]
    dropped = lists_of("x", again + short, {}, {}, SessionsConfig()).summary()
    assert dropped.endswith("dropped: 2 of 3 lists, 67% (under 2 items 2)")
