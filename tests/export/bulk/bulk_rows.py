"""Requests as rows of Parquet, and what comes of them."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tiny_bundle import GENRES

ROOT = Path(__file__).parents[3]
AT = 1.7e9

Row = dict[str, Any]


def draw(count: int, seed: int = 0) -> list[Row]:
    """Valid requests of every sort."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        ids = [f"i{n}" for n in rng.sample(range(220), rng.randint(1, 40))]  # the bundle has 200
        items = [
            {
                "id": item,
                "score": rng.choice([None, rng.random()]),
                "features": rng.choice(
                    [None, {"price": rng.uniform(1, 90), "genres": rng.sample(GENRES, 2)}]
                ),
            }
            for item in ids
        ]
        history = [
            {
                "item_id": f"i{rng.randrange(230)}",
                "type": rng.choice(["impression", "click", "stare"]),
                "timestamp": rng.choice([None, AT - 60 + at, (AT - 60 + at) * 1000]),
            }
            for at in range(rng.randint(0, 30))
        ]
        rows.append(
            {
                "request_id": f"r{number}",
                "user_id": rng.choice([None, f"u{number}"]),
                "items": items,
                "context": {"device": rng.choice(["ios", "web", "tv"]), "timestamp": AT},
                "top_n": rng.choice([None, 3, 20]),
                "return_all": rng.random() < 0.3,
                "sampling": rng.choice([None, None, {"seed": number, "temperature": 1.5}]),
                "constraints": rng.choice(
                    [None, None, {"excluded": ids[:1]}, {"at_most": [{"feature": "genres", "count": 2}]}]
                ),
                "profile": {"taste": [rng.gauss(0, 1) for _ in range(4)]},
                "history": history,
            }
        )
    return rows


def of_ids(rows: list[Row]) -> list[Row]:
    """The same requests, whose items are nothing but ids."""
    return [row | {"items": [item["id"] for item in row["items"]]} for row in rows]


def write(path: Path, rows: list[Row], **options: Any) -> Path:
    names = {name: None for row in rows for name in row}
    pq.write_table(pa.Table.from_pylist([names | row for row in rows]), path, **options)
    return path


def lists(output: Path) -> list[Row]:
    paths = sorted(output.glob("part-*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def refused(output: Path) -> dict[int, str]:
    paths = sorted((output / "refused").glob("*.parquet"))
    return {row["row"]: row["reason"] for path in paths for row in pq.read_table(path).to_pylist()}
