"""Checking answers: every way one can be wrong is told, and what is right passes."""

from typing import Any

import pytest

from loadtest.answers import fault

REQUEST = {"items": [{"id": "a"}, {"id": "b"}, {"id": "c"}], "top_n": 2}


def body(*results: tuple[str, int]) -> dict[str, Any]:
    listed = [{"id": item_id, "index": index} for item_id, index in results]
    return {"results": listed, "fallback": None, "recommendation_id": "r"}


def test_right_answers() -> None:
    assert fault(REQUEST, body(("c", 2), ("a", 0))) is None
    assert fault(REQUEST | {"top_n": 9}, body(("c", 2), ("a", 0), ("b", 1))) is None


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "not the body"),
        ([], "not the body"),
        ({"results": []}, "not the body"),
        ({"results": [{"id": "a"}], "fallback": None, "recommendation_id": "r"}, "not the body"),
        (body(("a", 0)), "not as many"),
        (body(("a", 0), ("b", 1), ("c", 2)), "not as many"),
        (body(("a", 0), ("a", 0)), "twice"),
        (body(("a", 0), ("d", 1)), "not in the request"),
        (body(("a", 0), ("b", 2)), "index"),
    ],
)
def test_wrong_answers(answer: Any, told: str) -> None:
    assert told in str(fault(REQUEST, answer))
