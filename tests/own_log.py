"""A small log of one's own, and a configuration for it, such as a newcomer writes them."""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.progress import console

SHOWN, SLATE = 8, 4
"""Items of a list, and how many of them a policy ranks."""

CONFIG = """
dataset = "event_log"

[features]
fields = [
  {{ name = "price", kind = "numeric" }},
  {{ name = "likes", kind = "popularity" }},
  {{ name = "genre", kind = "categorical" }},
  {{ name = "group", kind = "categorical", scope = "user" }},
]

[policy]
width = 16
slate_length = {slate}
encoder = {{ token_width = 4 }}

[evaluator]
width = 16
epochs = 1
context = false
largest_calibration_error = {largest_calibration_error}

[supervised]
epochs = {supervised}

[reinforcement]
epochs = {reinforcement}
"""


def write_config(
    path: Path, supervised: int = 1, reinforcement: int = 1, largest_calibration_error: float = 1e-9
) -> Path:
    """By default no evaluator can pass its checks."""
    text = CONFIG.format(
        slate=SLATE,
        supervised=supervised,
        reinforcement=reinforcement,
        largest_calibration_error=largest_calibration_error,
    )
    path.write_text(text)
    return path


def item(number: int, rng: random.Random) -> dict[str, Any]:
    """The line of item `i0`, `i1`, ..."""
    fields = {"price": rng.uniform(1, 9), "genre": rng.choice(["drama", "crime"])}
    return {"event": "item", "item": f"i{number}", "fields": _fields(fields)}


def write_log(path: Path, users: int = 60, lists: int = 3, seed: int = 0) -> Path:
    """Half of the people want what is cheap, half what is dear: what is best depends on who asks."""
    rng, lines = random.Random(seed), []
    items = [item(number, rng) for number in range(30)]
    price = {one["item"]: one["fields"][0]["value"] for one in items}
    for user in range(users):
        cheap = user % 2 == 0
        lines.append({"event": "user", "user": f"u{user}", "fields": _fields({"group": f"g{int(cheap)}"})})
        for number in range(lists):
            shown, name = rng.sample(sorted(price), SHOWN), f"r{user}-{number}"
            milliseconds = str(1_700_000_000_000 + 60_000 * (number * users + user))
            ranking = {"event": "ranking", "id": name, "user": f"u{user}", "timestamp": milliseconds}
            lines.append({**ranking, "items": [{"id": one} for one in shown]})
            wanted = sorted(shown, key=lambda one: price[one] if cheap else -price[one])[:2]
            for one in wanted:
                lines.append({"event": "interaction", "ranking": name, "item": one, "type": "click"})
    write_lines(path, [*items, *lines])
    return path


def write_lines(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(main: Callable[[], object], *arguments: object) -> str:
    """Run a command as from the command line. Returns what it printed. Raises: SystemExit."""
    with pytest.MonkeyPatch.context() as patch, console.capture() as printed:
        patch.setattr(sys, "argv", ["command", *map(str, arguments)])
        main()
    return " ".join(printed.get().split())


def _fields(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in record.items()]
