"""What is kept of rounds, and what the page makes of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from export.promotion import BY_LOG, HELD_OUT
from loop.config import ARMS, MAIN
from loop.pages import blocks, collect, draw, of, over_worlds, stored
from loop.place import keep


def row(world: int, arm: str, number: int, value: float) -> dict[str, object]:
    found: dict[str, object] = {
        "world": world,
        "arm": arm,
        "round": number,
        "value": [value, value - 0.1, value + 0.1],
        "gain": [value - 2.0, value - 2.1, value - 1.9],
        "share": value / 4,
        "lists_judged": 3,
        "seconds": {"training": 60.0},
        "hardware": "a machine",
        "commit": "abc",
    }
    if arm == MAIN:
        found |= {"hacking_gap": 0.25, "evaluator_score": value + 0.25, "version": str(number)}
    if arm == MAIN and number:
        found |= {
            "candidate": value + 0.5,
            "refused": ["parity"],
            "verdicts": {HELD_OUT: [False, "worse"], BY_LOG: [None, "few lists"]},
            "off_policy": {"new": {"minus_log": {"value": 0.125, "low": -0.5, "high": 0.75}}},
            "served": {"true_value": 1.5, "regret": 0.0625},
            "requests": {
                "sent": 100,
                "failed": 1,
                "unanswered": 2,
                "fallbacks": 7,
                "accepted": 40,
                "repeated": 3,
            },
            "promotion": {"sent": 10, "failed": 4, "unanswered": 1},
            "feedback": {"events": 39, "lost": 5, "doubled": 6},
        }
    return found


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two worlds; the main arm has two rounds, LambdaMART one."""
    for world in range(2):
        folder = tmp_path / f"world-{world}"
        for arm, values in ((MAIN, (2.0, 3.0)), ("LambdaMART", (1.0,))):
            own = folder / ARMS[arm].folder
            for number, value in enumerate(values):
                (own / f"round-{number}").mkdir(parents=True)
                value += 0.5 * world
                keep(own, number, row(world, arm, number, value), np.full(3, value))
            identity = {"lists": 50, "exploration_share": 0.1, "exploration_temperature": 1.0}
            (own / "loop.json").write_text(json.dumps(identity))
        references = {name: np.full(3, n + 1.0) for n, name in enumerate(("random order", "initial order"))}
        np.savez(folder / "references.npz", oracle=np.full(3, 4.0), **references)
    return tmp_path


def test_rounds_are_collected_with_what_sets_them_apart(runs: Path, tmp_path: Path) -> None:
    target = tmp_path / "results" / "loop.json"
    collect(runs, target)
    kept = stored(target)
    assert len(kept["rows"]) == 6
    assert kept["references"]["1"] == {"random order": 1.0, "initial order": 2.0, "oracle": 4.0}
    (other,) = (one for one in of(kept, "LambdaMART") if one["world"] == 0)
    assert other["main_ahead"] == [1.0, 1.0, 1.0]
    assert other["lists"] == 50
    (runs / "world-0" / "EGLR" / "round-1" / "round.json").unlink()
    collect(runs, target)
    assert len(of(stored(target), MAIN, 1)) == 1, "what was run anew takes the place of what was"


def test_an_interval_is_over_lists_of_one_world_or_over_several_worlds() -> None:
    rows = [row(0, MAIN, 1, 2.0), row(1, MAIN, 1, 3.0)]
    assert over_worlds(rows[:1], "value") == (2.0, 1.9, 2.1)
    mean, low, high = over_worlds(rows, "value")
    assert mean == 2.5
    assert (mean - low, high - mean) == pytest.approx((12.706 * 0.5,) * 2, rel=1e-3)


def test_the_page_has_every_figure(runs: Path, tmp_path: Path) -> None:
    collect(runs, tmp_path / "loop.json")
    kept = stored(tmp_path / "loop.json")
    made = blocks(kept)
    main, ranker, *_ = made["loop-value"].splitlines()[2:]
    assert main.startswith("| EGLR | 2 | 2.250 | 3.250 | 81% | +1.250 [")
    assert ranker.startswith("| LambdaMART | 2 | 1.250 |  | 31% |")
    assert ranker.endswith("| +1.000 [+1.000, +1.000] |")
    before, first = made["loop-rounds"].splitlines()[2:]
    assert "| +0.250 |" in before
    assert first.endswith(
        "| +0.250 | 1.500 | 0.062 | 200 | 2 | 4 | 14 | 20 | 10 | 80 | 78 | 10 | 12 | 6 | 1.0 |"
    )
    assert made["loop-counts"] == (
        "of 80 clicks in 2 rounds, 0 of them with a restart of the service in their middle, 10 were lost and "
        "12 doubled; 2 requests failed, and of 100 lists 14 were fallbacks"
    )
    (judged,) = made["loop-judged"].splitlines()[2:]
    assert judged == "| EGLR | 2 | 2 | +1.500 | +0.125 | 2 | no 2 | cannot be told 2 | 2 |"
    assert "Worlds 0, 1; rounds of 50 lists" in made["loop-provenance"]
    draw(kept, tmp_path / "loop.png")
    assert imread(tmp_path / "loop.png").std() > 0.05


def test_a_page_without_results_says_so() -> None:
    assert set(blocks({"rows": [], "references": {}}).values()) == {"Not measured yet."}
