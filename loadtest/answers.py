"""Whether an answer to a rerank is right: a fast wrong answer must not count as a good one."""

from collections.abc import Mapping
from typing import Any


def fault(request: Mapping[str, Any], answer: Any) -> str | None:
    """What is wrong with a 200 answer, or None. Texts name no ids, because Locust groups failures by text."""
    try:
        results = [(result["id"], result["index"]) for result in answer["results"]]
        answer["fallback"], answer["recommendation_id"]
    except (TypeError, KeyError):
        return "not the body of a rerank"
    expected = min(request["top_n"], len(request["items"]))
    if len(results) != expected:
        return "not as many results as asked for"
    if len({item_id for item_id, _ in results}) != expected:
        return "an item is there twice"
    requested = {item["id"]: index for index, item in enumerate(request["items"])}
    if any(item_id not in requested for item_id, _ in results):
        return "an item that was not in the request"
    if any(requested[item_id] != index for item_id, index in results):
        return "an index that is not the item's place in the request"
    return None
