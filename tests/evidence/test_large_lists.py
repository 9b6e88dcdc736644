"""Long lists: every encoder is fitted once, timed as it is served, and compared list by list."""

import json
from pathlib import Path

import numpy as np
import pytest

from evidence import large_lists
from evidence.large_lists import CONFIG, ENCODERS, all_fits, draw, report, timings
from model.training.config import read_config, with_changes

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's libraries warn of each other

TINY = with_changes(
    read_config(CONFIG),
    {
        "simulator": {"items": 1100, "lists": 120, "candidates": (50, 1000)},
        "policy": {"width": 16, "encoder": {"token_width": 4, "inducing_points": 4}},
        "imitation": {"epochs": 1},
    },
)


@pytest.mark.slow
def test_encoders_are_compared_on_the_same_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_lists, "ROUNDS", 1)
    values = all_fits(TINY, [0], tmp_path)
    for n in (50, 1000):
        worth = {who: values[f"{who}|0|{n}"] for who in ("relevance sort", *ENCODERS, "beam-4 oracle")}
        assert len({len(of_one) for of_one in worth.values()}) == 1
        assert worth["relevance sort"].mean() < worth["beam-4 oracle"].mean()
        assert len({float(worth[who].mean()) for who in ENCODERS}) == len(ENCODERS)
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("values.npz")}
    again = all_fits(TINY, [0], tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("values.npz")} == finished
    assert again.keys() == values.keys()

    found = report(values, timings(TINY, tmp_path / "0", (50, 1000)), TINY, [0])
    rows = {(row["lists_by"], row["n"]): row for row in found["quality"]}
    gap = rows["light", 50]["minus_full"]
    assert gap["mean"] == pytest.approx(np.mean(values["light|0|50"] - values["full|0|50"]), abs=1e-6)
    assert gap["low"] <= gap["mean"] <= gap["high"]
    for decoding in ("graph", "native"):
        assert found["growth"][decoding][found["recommended"]] > 0
        assert found["p50_ms"][decoding][found["recommended"]][1000] > 0
    draw(json.loads(json.dumps(found)), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
