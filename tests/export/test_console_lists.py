"""Lists of a log as the service reads them."""

import json
from pathlib import Path

import numpy as np

from bundle.features.history import Interaction, UserContext
from export.console_lists import example_lists
from model.data.slate import Dataset, LoggedSlate
from service.api.console import read_lists


def slate(user: str, liked: bool = True) -> LoggedSlate:
    return LoggedSlate(
        request_id=f"r-{user}",
        user_id=user,
        candidates=("a", "b"),
        shown=np.array([0, 1]),
        labels=np.array([0.0, float(liked)], np.float32),
        timestamp=1.7e9,
        scores=(0.5, float("nan")),
        user=UserContext({"age": 30}, (Interaction("c", "click", 1.6e9),)),
        context={"device": "ios"},
        features=({"price": 2.0}, {}),
    )


def test_the_service_can_offer_what_is_written(tmp_path: Path) -> None:
    items = {"a": {"title": "Alien"}, "b": {"title": None}, "c": {"title": "Casino"}}
    test = [slate("u1"), slate("u1"), slate("u2"), slate("u3", liked=False)]
    dataset = Dataset("log", items, {"train": [], "validation": [], "test": test}, {})
    lines = list(example_lists(dataset, 5, "title"))
    assert {line["name"] for line in lines} == {"List 1: 2 items, 1 liked", "List 2: 2 items, 1 liked"}
    path = tmp_path / "lists.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    one, other = read_lists(path)
    assert one.request == other.request
    first, second = one.request.items
    assert (first.id, first.score, first.features) == ("a", 0.5, {"price": 2.0})
    assert (second.id, second.score, second.features) == ("b", None, None)
    assert one.request.context == {"device": "ios", "timestamp": 1.7e9}
    assert one.user is not None
    assert [event.item_id for event in one.user.history] == ["c"]
    assert one.user.profile == {"age": 30}
    assert (one.titles, one.liked) == ({"a": "Alien", "c": "Casino"}, ["b"])
