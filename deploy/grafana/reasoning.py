"""The dashboard *reasoning*: does a model still reason as it did in training?

A heatmap is of all chosen models together.
"""

from deploy.grafana.panels import Query, bars, by_row, dashboard, histogram, stat, timeseries, up_to
from deploy.grafana.promql import BY_MODEL, JOBS_MODELS, MODEL, MODELS, MOMENTS

BEFORE, AFTER = 'when="before"', 'when="after"'
ENTROPY, POOLED, PLACED = 'signal="entropy"', 'position="all"', 'position!="all"'
PLACES = f"position, {BY_MODEL}"


def entropy(when: str) -> Query:
    """Mean of each model over all positions."""
    return Query(MODELS.mean("gate_entropy_nats", when, by=BY_MODEL), MODEL)


def entropy_by_position(when: str) -> Query:
    return Query(MODELS.mean("gate_entropy_nats", when, by="position"), "{{position}}")


DASHBOARD = dashboard(
    "rerank-reasoning",
    "Re-ranker: reasoning",
    "Does the model still think as it did in training? Entropy, tokens, why it stopped, drift.",
    {
        "Now": [
            stat(
                "Positions that reason",
                "Share over five minutes; the bundle says what it was on held-out lists.",
                Query(JOBS_MODELS.select("job_model:rerank_triggered:ratio_rate5m"), MODEL),
                unit="percentunit",
            ),
            stat(
                "Held-out positions that reason",
                "When the threshold was set.",
                Query(MODELS.highest("held_out_trigger_ratio", by=BY_MODEL), MODEL),
                unit="percentunit",
            ),
            stat(
                "Tokens of a list",
                "Mean reasoning tokens.",
                Query(MODELS.mean("reasoning_tokens", by=BY_MODEL), MODEL),
            ),
            stat("Entropy before", "Mean nats, all positions.", entropy(BEFORE)),
            stat("Entropy after", "Mean nats, all positions.", entropy(AFTER)),
            stat(
                "Drift of entropy",
                "Population stability index; another population above 0.25.",
                Query(MODELS.highest("drift_psi", ENTROPY, POOLED, by=BY_MODEL), MODEL),
                steps=[up_to(0.25)],
            ),
        ],
        "Entropy by position": [
            by_row(
                "Entropy by position, before reasoning",
                "Mean nats. Position 0 is the top of the list.",
                entropy_by_position(BEFORE),
            ),
            by_row(
                "Entropy by position, after reasoning",
                "Mean nats. What reasoning took away is the difference to the left.",
                entropy_by_position(AFTER),
            ),
            by_row(
                "Entropy before, less held-out",
                "Mean nats above or below what each model had on its held-out lists.",
                Query(  # of a version without traffic it would be NaN, and so of all
                    f"avg by (position) ({MODELS.mean('gate_entropy_nats', BEFORE, by=PLACES)}"
                    f" - {MODELS.highest('held_out_entropy_nats', BEFORE, by=PLACES)} > -Inf)",
                    "{{position}}",
                ),
            ),
        ],
        "Entropy": [
            histogram(
                "Entropies before reasoning",
                "Nats, all positions.",
                MODELS.buckets("gate_entropy_nats", BEFORE),
            ),
            histogram(
                "Entropies after reasoning",
                "Nats, all positions.",
                MODELS.buckets("gate_entropy_nats", AFTER),
            ),
            bars(
                "Entropy before, by position",
                "Mean nats over the newest interval.",
                entropy_by_position(BEFORE),
            ),
        ],
        "Tokens": [
            histogram(
                "Tokens of a list", "Reasoning tokens of each list.", MODELS.buckets("reasoning_tokens")
            ),
            timeseries(
                "Tokens of a list",
                "Mean, median and the most of nine lists in ten.",
                Query(MODELS.mean("reasoning_tokens", by=BY_MODEL), f"mean {MODEL}"),
                Query(MODELS.quantile(0.5, "reasoning_tokens", by=BY_MODEL), f"p50 {MODEL}"),
                Query(MODELS.quantile(0.9, "reasoning_tokens", by=BY_MODEL), f"p90 {MODEL}"),
            ),
            timeseries(
                "Why reasoning stopped",
                "Lists a second: sure enough everywhere (entropy), unsure to the end somewhere (budget), "
                "or cut for time (deadline).",
                Query(MODELS.rate("reasoning_stop_total", by="reason"), "{{reason}}"),
                unit="reqps",
                stacked=True,
            ),
        ],
        "Drift": [
            timeseries(
                "Drift",
                "Population stability index against held-out lists, worst instance. "
                "Above the line another population.",
                Query(
                    MODELS.highest("drift_psi", POOLED, by=f"signal, {BY_MODEL}"), f"{{{{signal}}}} {MODEL}"
                ),
                limits=[0.25],
            ),
            by_row(
                "Drift of entropy by position",
                "Population stability index, worst instance and model.",
                Query(MODELS.highest("drift_psi", ENTROPY, PLACED, by="position"), "{{position}}"),
            ),
            histogram("Scores", "Probability of each chosen item among those left.", MODELS.buckets("score")),
        ],
    },
    MODELS.variables,
    MOMENTS,
)
