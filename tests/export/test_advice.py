"""What a report is told to mean."""

from typing import Any

import pytest

from export.advice import WITHOUT_REASONING, advice

NOTHING = {"gain": 0.0001, "low": -0.0002, "high": 0.0004}
SOMETHING = {"gain": 0.02, "low": 0.01, "high": 0.03}


def report(gap: float, reasoning: float, context: dict[str, float] | None, **changes: Any) -> dict[str, Any]:
    """EGLR ahead of LambdaMART by `gap`, give or take .01, and of itself without reasoning by `reasoning`."""
    means = {"initial order": 0.3, "LambdaMART": gap, WITHOUT_REASONING: reasoning}
    differences = {name: {"mean": m, "interval": (m - 0.01, m + 0.01)} for name, m in means.items()}
    metrics = {"initial order": 0.4, "LambdaMART": 0.7 - gap, "EGLR": 0.7, WITHOUT_REASONING: 0.7 - reasoning}
    return {
        "lists": 90,
        "metrics": {name: {"ndcg@10": value, "true_value": value} for name, value in metrics.items()},
        "ndcg@10_difference": differences,
        "context": context,
        **changes,
    }


@pytest.mark.parametrize(
    ("found", "parts"),
    [
        (
            report(0.0, 0.0, NOTHING),
            [
                "LambdaMART is as good here, as far as 90 lists can tell (EGLR minus it is +0.0000 [-0.0100, "
                "+0.0100] NDCG@10): reasoning has nothing to work on, because order and neighbours say",
                "+0.0001 nats a position [-0.0002, +0.0004]",
                "Serve LambdaMART, or let EGLR begin with its scores",
            ],
        ),
        (report(-0.05, 0.0, None), ["LambdaMART is better here", "because lists are as good without it"]),
        (
            report(0.05, 0.0, SOMETHING),
            ["EGLR is ahead of LambdaMART, the best", "shows no gain", "Serve EGLR without reasoning"],
        ),
        (report(0.05, 0.02, SOMETHING), ["reasoning is worth +0.0200 [+0.0100, +0.0300]. Serve EGLR."]),
    ],
)
def test_it_says_what_to_do(found: dict[str, Any], parts: list[str]) -> None:
    told = advice(found)
    assert [part for part in parts if part not in told] == []


def test_true_values_decide_where_they_are_known() -> None:
    ahead = report(0.05, 0.02, None)
    behind = {"ndcg@10_difference": report(-0.05, 0.0, None)["ndcg@10_difference"]}
    told = advice({**ahead, **behind, "true_value_difference": ahead["ndcg@10_difference"]})
    assert "EGLR is ahead of LambdaMART" in told
    assert "true value" in told


def test_an_order_that_is_better_than_all_is_named() -> None:
    found = report(0.05, 0.0, None)
    found["metrics"]["initial order"]["ndcg@10"] = 0.8
    found["ndcg@10_difference"]["initial order"] = {"mean": -0.1, "interval": (-0.2, -0.05)}
    assert advice(found).startswith("initial order is better here")
    assert "Keep the order that you have, or let EGLR begin with its scores" in advice(found)


def test_item_ctr_is_not_told_to_be_served_nor_to_make_scores() -> None:
    found = report(0.05, 0.0, None)
    found["metrics"]["item CTR"] = {"ndcg@10": 0.8}
    found["ndcg@10_difference"]["item CTR"] = {"mean": 0.0, "interval": (-0.1, 0.1)}
    told = advice(found)
    assert (
        "Sort by click rates, clicks over times shown, which needs no service; or let EGLR begin with" in told
    )
    assert "Serve item CTR" not in told
