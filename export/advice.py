"""What a comparison with the baselines says to do, in two or three sentences."""

from typing import Any

LABELS = {"ndcg@10": "NDCG@10", "true_value": "true value"}
WITHOUT_REASONING = "EGLR, reasoning off"

INSTEAD = {
    "initial order": "Keep the order that you have, or let EGLR begin with its scores",
    "item CTR": (
        "Sort by click rates, clicks over times shown, which needs no service; or let EGLR begin with the "
        "scores of a ranker that knows them, as `python -m model.first_stage` makes them"
    ),
    "LambdaMART": (
        "Serve LambdaMART, or let EGLR begin with its scores, as `python -m model.first_stage` makes them"
    ),
}
"""What to do where one of the others is as good."""

Gap = dict[str, Any]
"""`mean` and 95 % `interval` of a difference."""


def deciding(report: dict[str, Any]) -> str:
    """What orders are compared by: true value where it is known, else NDCG@10."""
    return "true_value" if "true_value_difference" in report else "ndcg@10"


def advice(report: dict[str, Any]) -> str:
    """Of a report of `export.evaluate`: who is ahead, whether reasoning pays, why not, and what to serve."""
    metric = deciding(report)
    gaps, lists = report[f"{metric}_difference"], report["lists"]
    rivals = [name for name in gaps if name != WITHOUT_REASONING]
    rival = max(rivals, key=lambda name: report["metrics"][name][metric])
    (low, high), reasoning = gaps[rival]["interval"], gaps[WITHOUT_REASONING]
    pays = reasoning["interval"][0] > 0
    if low > 0:
        verdict = f"EGLR is ahead of {rival}, the best of the others"
        todo = "Serve EGLR" if pays else "Serve EGLR without reasoning ([policy.reasoner] budget = 0)"
    else:
        worse = f"{rival} is better here"
        verdict = worse if high < 0 else f"{rival} is as good here, as far as {lists} lists can tell"
        todo = f"{INSTEAD.get(rival, f'Serve {rival}')} (docs/training.md, if your ranker is good already)"
    told = f"EGLR minus it is {_told(gaps[rival])} {LABELS[metric]}"
    return f"{verdict} ({told}): {_of_reasoning(reasoning, pays, report['context'])}. {todo}."


def _of_reasoning(gap: Gap, pays: bool, context: dict[str, Any] | None) -> str:
    if pays:
        return f"reasoning is worth {_told(gap)}"
    if context is None:
        return (
            f"reasoning has nothing to work on, because lists are as good without it ({_told(gap)}); "
            "`python -m model.data context` tells whether order and neighbours matter in this log"
        )
    worth = f"{context['gain']:+.4f} nats a position [{context['low']:+.4f}, {context['high']:+.4f}]"
    if context["low"] <= 0:
        return (
            "reasoning has nothing to work on, because order and neighbours say nothing of the clicks in "
            f"this log ({worth})"
        )
    return (
        f"reasoning shows no gain ({_told(gap)}), although order and neighbours are worth {worth}: what was "
        "clicked in the lists that were shown cannot tell what other lists are worth (docs/off-policy.md)"
    )


def _told(gap: Gap) -> str:
    return f"{gap['mean']:+.4f} [{gap['interval'][0]:+.4f}, {gap['interval'][1]:+.4f}]"
