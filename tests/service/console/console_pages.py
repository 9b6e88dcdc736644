"""What the tests of the console share: the lists it offers, the service behind it, and an open page."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from playwright.sync_api import Page

HOSTILE = "<img src=x onerror=\"document.title='taken'\">"


def lists() -> list[dict[str, Any]]:
    """The first has a user; in the second ids and titles are no text for a page that would believe them."""
    items = [f"i{n}" for n in range(24)]
    liked = [{"item_id": item, "type": "click"} for item in ("i30", "i31")]
    return [
        {
            "name": "of a person",
            "request": {"items": [{"id": item} for item in items], "user_id": "u1"},
            "user": {"history": [{"item_id": "i32", "type": "impression"}, *liked]},
            "titles": {item: f"Title {item}" for item in [*items, "i30", "i31"]},
            "liked": ["i3", "i5"],
        },
        {
            "name": f"hostile {HOSTILE}",
            "request": {"items": [{"id": HOSTILE}, {"id": "i1"}, {"id": "i2"}]},
            "titles": {"i1": HOSTILE},
        },
    ]


@dataclass
class Served:
    """A service with API keys: `key` is for everything, `weak` for reranks alone."""

    url: str
    key: str
    weak: str

    def post(self, path: str, body: dict[str, Any]) -> Any:
        answer = httpx.post(f"{self.url}{path}", json=body, headers={"x-api-key": self.key})
        return answer.raise_for_status().json()

    def history(self, user: str) -> list[str]:
        """Ids of a user's events, the oldest first."""
        answer = httpx.get(f"{self.url}/v1/users/{user}/context", headers={"x-api-key": self.key})
        return [event["item_id"] for event in answer.raise_for_status().json()["history"]]


@dataclass
class Opened:
    """A page, the bodies of the reranks that it has asked for, and what went wrong in it."""

    page: Page
    bodies: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def reasoned(self) -> dict[str, Any]:
        """The last body that was not to compare with."""
        return next(body for body in reversed(self.bodies) if "trace_candidates" in body)


Open = Callable[..., Opened]
