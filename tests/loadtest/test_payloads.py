"""Payloads: seeded, of the asked-for mix, and feedback that follows the click model."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from loadtest.payloads import Traffic, Visitors, attraction, read_item_ids, zipf

ITEMS = [f"i{n}" for n in range(300)]


def visitors(seed: int = 0, stream: tuple[int, ...] = (0,), **traffic: object) -> Visitors:
    return Visitors(ITEMS, Traffic(**traffic), seed, stream)


def answer(*item_ids: str, recommendation_id: str | None = "r") -> dict[str, object]:
    return {"recommendation_id": recommendation_id, "results": [{"id": item} for item in item_ids]}


def test_the_same_seed_and_stream_send_the_same_whatever_was_answered() -> None:
    one, same = visitors(), visitors()
    sent = [one.rerank() for _ in range(20)]
    repeated = []
    for _ in range(20):
        repeated.append(same.rerank())
        same.feedback(answer("i1", "i2"))
        same.gap_s(1.0)
    assert sent == repeated
    for other in (visitors(seed=1), visitors(stream=(1,)), visitors(stream=(0, 0))):
        assert sent != [other.rerank() for _ in range(20)]


def test_a_request_is_a_first_stage_list() -> None:
    bodies = [visitors(list_sizes=(5, 50), top_n=7, deadline_ms=40.0).rerank()]
    stream = visitors(list_sizes=(5, 50))
    bodies += [stream.rerank() for _ in range(50)]
    assert (bodies[0]["top_n"], bodies[0]["deadline_ms"]) == (7, 40.0)
    assert "deadline_ms" not in bodies[1]
    assert {len(body["items"]) for body in bodies} == {5, 50}
    for body in bodies:
        ids = [item["id"] for item in body["items"]]
        scores = [item["score"] for item in body["items"]]
        assert len(set(ids)) == len(ids)
        assert set(ids) <= set(ITEMS)
        assert scores == sorted(scores, reverse=True)


def test_popular_items_and_users_recur() -> None:
    stream = visitors(list_sizes=(10,), cold_share=0.0, known_users=100)
    bodies = [stream.rerank() for _ in range(2000)]
    items = Counter(item["id"] for body in bodies for item in body["items"])
    users = Counter(body["user_id"] for body in bodies)
    assert items["i0"] > 5 * items["i200"]
    # p(rank 1) of Zipf's law over 100 users is 1 / H(100) = 0.193
    assert users.most_common(1)[0][0] == "user-0"
    assert users["user-0"] / 2000 == pytest.approx(0.193, abs=0.03)


def test_cold_users_are_never_seen_again() -> None:
    stream = visitors(list_sizes=(1,), cold_share=0.3)
    users = Counter(stream.rerank()["user_id"] for _ in range(2000))
    cold = {user: times for user, times in users.items() if user.startswith("cold-")}
    assert set(cold.values()) == {1}
    assert len(cold) / 2000 == pytest.approx(0.3, abs=0.04)
    other = visitors(list_sizes=(1,), cold_share=1.0, stream=(1,))
    assert not set(cold) & {other.rerank()["user_id"] for _ in range(2000)}


def test_feedback_is_one_event_a_position_and_follows_the_click_model() -> None:
    stream, shown = visitors(), ("i5", "i6", "i7", "i8")
    clicks = np.zeros(4)
    for _ in range(4000):
        body = stream.feedback(answer(*shown))
        assert body is not None
        assert body["recommendation_id"] == "r"
        assert [(event["item_id"], event["position"]) for event in body["events"]] == [
            (item, position) for position, item in enumerate(shown)
        ]
        clicks += [event["type"] == "click" for event in body["events"]]
    expected = [attraction(item) / (position + 1) for position, item in enumerate(shown)]
    assert clicks / 4000 == pytest.approx(expected, abs=0.03)


def test_no_feedback_on_what_was_not_recorded() -> None:
    assert visitors().feedback(answer("i1", recommendation_id=None)) is None


def test_gaps_keep_their_mean_whatever_the_bursts() -> None:
    for burst_share in (0.0, 0.4):
        stream = visitors(burst_share=burst_share)
        gaps = np.array([stream.gap_s(0.02) for _ in range(20_000)])
        assert gaps.mean() == pytest.approx(0.02, rel=0.05)
        assert (gaps == 0).mean() == pytest.approx(burst_share, abs=0.02)
        between = gaps[gaps > 0]
        assert between.std() == pytest.approx(between.mean(), rel=0.05), "exponential"


def test_zipf() -> None:
    assert zipf(3, 1.0) == pytest.approx([6 / 11, 3 / 11, 2 / 11])
    assert zipf(4, 0.0) == pytest.approx([0.25] * 4)


@pytest.mark.parametrize(
    ("name", "text"),
    [("i.jsonl", '{"id": "a", "price": 1}\n\n{"id": "b"}\n'), ("i.csv", "price,id\n1,a\n2,b\n")],
)
def test_items_from_text(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert read_item_ids(tmp_path / name) == ["a", "b"]


def test_items_from_a_bundle(bundle: Path) -> None:
    ids = read_item_ids(bundle)
    assert ids == read_item_ids(bundle / "catalogue.npz")
    assert ids == [f"i{n}" for n in range(200)]


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="no item ids"):
        read_item_ids(tmp_path / "empty.jsonl")
    with pytest.raises(ValueError, match="expected a bundle"):
        read_item_ids(tmp_path / "items.txt")
    with pytest.raises(ValueError, match="lists of 301 out of 300 items"):
        visitors(list_sizes=(10, 301))
    with pytest.raises(ValueError, match="list sizes"):
        Traffic(list_sizes=(10, 0))
    with pytest.raises(ValueError, match="cold share"):
        Traffic(cold_share=1.1)
    with pytest.raises(ValueError, match="burst share"):
        Traffic(burst_share=1.0)
