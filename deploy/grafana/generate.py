"""The dashboards: `python -m deploy.grafana.generate` writes the `dashboards/*.json` that Grafana loads.

Edit here, generate, commit both; a test compares them.
"""

import json
from pathlib import Path
from typing import Any

from deploy.grafana.panels import Query, bars, by_row, dashboard, histogram, stat, timeseries

DASHBOARDS = Path(__file__).parent / "dashboards"
INSTANCE = 'instance=~"$instance"'
RERANK = 'endpoint=~".*/rerank"'
ERRORS = 'code=~"5.."'
NAMED = 'result=~"hit|miss"'
ENTROPY, POOLED, PLACED = 'signal="entropy"', 'position="all"', 'position!="all"'


def rate(metric: str, *matchers: str) -> str:
    """Per second, over the interval that Grafana chooses for the width of the panel."""
    return f"rate(rerank_{metric}{{{', '.join((INSTANCE, *matchers))}}}[$__rate_interval])"


def total(metric: str, *matchers: str, by: str = "") -> str:
    """Rate of all instances together, by a label."""
    return f"sum{f' by ({by})' if by else ''} ({rate(metric, *matchers)})"


def mean(histogram: str, *matchers: str, by: str = "") -> str:
    return f"{total(histogram + '_sum', *matchers, by=by)} / {total(histogram + '_count', *matchers, by=by)}"


def quantile(q: float, histogram: str, *matchers: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {total(histogram + '_bucket', *matchers, by=labels)})"


def quantiles(histogram: str, *matchers: str) -> list[Query]:
    return [Query(quantile(q, histogram, *matchers), f"p{round(100 * q)}") for q in (0.5, 0.9, 0.99)]


def buckets(histogram: str, *matchers: str) -> Query:
    """Observations of each bucket in an interval, for a heatmap."""
    labels = ", ".join((INSTANCE, *matchers))
    return Query(f"sum by (le) (increase(rerank_{histogram}_bucket{{{labels}}}[$__rate_interval]))", "{{le}}")


def gauge(metric: str, *matchers: str) -> str:
    return f"rerank_{metric}{{{', '.join((INSTANCE, *matchers))}}}"


def service() -> dict[str, Any]:
    return dashboard(
        "rerank-service",
        "Re-ranker: service",
        "Is it healthy? Rate, errors and duration by endpoint; where the time goes; what was shed.",
        {
            "Now": [
                stat("Requests", "A second, of every kind.", Query(total("requests_total")), "reqps"),
                stat(
                    "Reranks failed",
                    "5xx and 429, over an hour. The objective is 0.1 %.",
                    Query("max(job:rerank_unavailable:ratio_rate1h)"),
                    "percentunit",
                    limit=0.001,
                ),
                stat(
                    "Reranks over 50 ms",
                    "Over an hour. The objective is 1 %.",
                    Query("max(job:rerank_slow:ratio_rate1h)"),
                    "percentunit",
                    limit=0.01,
                ),
                stat(
                    "Fallbacks",
                    "Lists that came back in the caller's order, over five minutes.",
                    Query("max(job:rerank_fallback:ratio_rate5m)"),
                    "percentunit",
                    limit=0.05,
                ),
                stat(
                    "In flight",
                    "Requests being answered.",
                    Query(f"sum({gauge('inflight_requests')})"),
                ),
                stat("Instances", "Answering scrapes.", Query('sum(up{job="rerank"})')),
            ],
            "Rate, errors, duration by endpoint": [
                timeseries(
                    "Rate",
                    "Requests a second.",
                    Query(total("requests_total", by="endpoint"), "{{endpoint}}"),
                    unit="reqps",
                ),
                timeseries(
                    "Answers by code",
                    "Everything but 200 and 2xx of its kind. 4xx are the caller's, 5xx ours.",
                    Query(
                        total("requests_total", 'code!~"2.."', by="endpoint, code"), "{{code}} {{endpoint}}"
                    ),
                    unit="reqps",
                ),
                timeseries(
                    "Errors by endpoint",
                    "Share of 5xx answers.",
                    Query(
                        f"({total('requests_total', ERRORS, by='endpoint')}"
                        f" or 0 * {total('requests_total', by='endpoint')})"
                        f" / {total('requests_total', by='endpoint')}",
                        "{{endpoint}}",
                    ),
                    unit="percentunit",
                ),
            ],
            "Time": [
                timeseries(
                    "Duration of a rerank",
                    "Of every answer, errors too. The line is the objective: 99 % within it.",
                    *quantiles("request_duration_seconds", RERANK),
                    unit="s",
                    limits=[0.05],
                ),
                timeseries(
                    "Duration by endpoint, p99",
                    "Of every answer, errors too.",
                    Query(quantile(0.99, "request_duration_seconds", by="endpoint"), "{{endpoint}}"),
                    unit="s",
                ),
                histogram(
                    "Durations of reranks",
                    "How they are spread.",
                    buckets("request_duration_seconds", RERANK),
                    "s",
                ),
            ],
            "Stages": [
                timeseries(
                    "Time by stage",
                    "Mean of each stage, stacked: where a rerank's time goes.",
                    Query(mean("stage_duration_seconds", by="stage"), "{{stage}}"),
                    unit="s",
                    stacked=True,
                ),
                timeseries(
                    "Stages, p99",
                    "Each by itself.",
                    Query(quantile(0.99, "stage_duration_seconds", by="stage"), "{{stage}}"),
                    unit="s",
                ),
            ],
            "Queue": [
                timeseries(
                    "Queue",
                    "Requests waiting for inference, and the limit of those waiting or in inference.",
                    Query(f"sum({gauge('queue_depth')})", "waiting"),
                    Query(f"sum({gauge('concurrency_limit')})", "limit"),
                ),
                timeseries(
                    "Batch size",
                    "Requests of an inference. Batches form when requests wait for each other.",
                    Query(mean("batch_size"), "mean"),
                    Query(quantile(0.9, "batch_size"), "p90"),
                ),
                timeseries(
                    "List size",
                    "Items of a request.",
                    Query(mean("list_size"), "mean"),
                    Query(quantile(0.9, "list_size"), "p90"),
                ),
            ],
            "Shed and fallbacks": [
                timeseries(
                    "Fallbacks by reason",
                    "Lists a second that came back in the caller's order.",
                    Query(total("fallback_total", by="reason"), "{{reason}}"),
                    unit="reqps",
                ),
                timeseries(
                    "Shed by reason",
                    "Requests a second not tried (overload), or dropped from the queue (deadline).",
                    Query(total("shed_total", by="reason"), "{{reason}}"),
                    unit="reqps",
                ),
                timeseries(
                    "Deadlines passed by stage",
                    "A second.",
                    Query(total("deadline_exceeded_total", by="stage"), "{{stage}}"),
                    unit="reqps",
                ),
            ],
        },
    )


def reasoning() -> dict[str, Any]:
    before, after = 'when="before"', 'when="after"'
    return dashboard(
        "rerank-reasoning",
        "Re-ranker: reasoning",
        "Does the model still think as it did in training? Entropy, tokens, why it stopped, drift.",
        {
            "Now": [
                stat(
                    "Positions that reason",
                    "Share over five minutes; the bundle says what it was on held-out lists.",
                    Query("max(job:rerank_triggered:ratio_rate5m)"),
                    "percentunit",
                ),
                stat(
                    "Held-out positions that reason",
                    "When the threshold was set.",
                    Query(f"max({gauge('held_out_trigger_ratio')})"),
                    "percentunit",
                ),
                stat("Tokens of a list", "Mean reasoning tokens.", Query(mean("reasoning_tokens"))),
                stat("Entropy before", "Mean nats, all positions.", Query(mean("gate_entropy_nats", before))),
                stat("Entropy after", "Mean nats, all positions.", Query(mean("gate_entropy_nats", after))),
                stat(
                    "Drift of entropy",
                    "Population stability index; another population above 0.25.",
                    Query(f"max({gauge('drift_psi', ENTROPY, POOLED)})"),
                    limit=0.25,
                ),
            ],
            "Entropy by position": [
                by_row(
                    "Entropy by position, before reasoning",
                    "Mean nats. Position 0 is the top of the list.",
                    Query(mean("gate_entropy_nats", before, by="position"), "{{position}}"),
                ),
                by_row(
                    "Entropy by position, after reasoning",
                    "Mean nats. What reasoning took away is the difference to the left.",
                    Query(mean("gate_entropy_nats", after, by="position"), "{{position}}"),
                ),
                by_row(
                    "Entropy before, less held-out",
                    "Mean nats above or below what it was on held-out lists.",
                    Query(
                        f"{mean('gate_entropy_nats', before, by='position')}"
                        f" - max by (position) ({gauge('held_out_entropy_nats', before)})",
                        "{{position}}",
                    ),
                ),
            ],
            "Entropy": [
                histogram(
                    "Entropies before reasoning", "Nats, all positions.", buckets("gate_entropy_nats", before)
                ),
                histogram(
                    "Entropies after reasoning", "Nats, all positions.", buckets("gate_entropy_nats", after)
                ),
                bars(
                    "Entropy before, by position",
                    "Mean nats over the newest interval.",
                    Query(mean("gate_entropy_nats", before, by="position"), "{{position}}"),
                ),
            ],
            "Tokens": [
                histogram("Tokens of a list", "Reasoning tokens of each list.", buckets("reasoning_tokens")),
                timeseries(
                    "Tokens of a list",
                    "Mean, median and the most of nine lists in ten.",
                    Query(mean("reasoning_tokens"), "mean"),
                    Query(quantile(0.5, "reasoning_tokens"), "p50"),
                    Query(quantile(0.9, "reasoning_tokens"), "p90"),
                ),
                timeseries(
                    "Why reasoning stopped",
                    "Lists a second: sure enough everywhere (entropy), unsure to the end somewhere (budget), "
                    "or cut for time (deadline).",
                    Query(total("reasoning_stop_total", by="reason"), "{{reason}}"),
                    unit="reqps",
                    stacked=True,
                ),
            ],
            "Drift": [
                timeseries(
                    "Drift",
                    "Population stability index against held-out lists, worst instance. "
                    "Above the line another population.",
                    Query(f"max by (signal) ({gauge('drift_psi', POOLED)})", "{{signal}}"),
                    limits=[0.25],
                ),
                by_row(
                    "Drift of entropy by position",
                    "Population stability index, worst instance.",
                    Query(
                        f"max by (position) ({gauge('drift_psi', ENTROPY, PLACED)})",
                        "{{position}}",
                    ),
                ),
                histogram("Scores", "Probability of each chosen item among those left.", buckets("score")),
            ],
        },
    )


def models() -> dict[str, Any]:
    faults = 'result=~"unavailable|timeout"'
    return dashboard(
        "rerank-models",
        "Re-ranker: models and context store",
        "What is served, on what, how old; what is known of users, and whether their store answers.",
        {
            "Models": [
                stat(
                    "Served",
                    "Model and version, by the number of instances.",
                    Query(f"sum by (model, version) ({gauge('model_loaded')})", "{{model}} {{version}}"),
                ),
                stat(
                    "Age of the model",
                    "Since the bundle was written, the oldest served.",
                    Query(f"max(time() - {gauge('model_created_timestamp_seconds')})"),
                    "s",
                    limit=30 * 86400,
                ),
                stat(
                    "Loaded since",
                    "The instance that has run longest.",
                    Query(f"max(time() - {gauge('model_load_timestamp_seconds')})"),
                    "s",
                ),
                stat(
                    "Execution provider",
                    "Instances it is active on; 0 is one that was asked for and is not.",
                    Query(f"sum by (provider) ({gauge('provider_active')})", "{{provider}}"),
                ),
            ],
            "Items and people": [
                timeseries(
                    "Unknown items",
                    "Of a list, mean: the catalogue lacks them.",
                    Query(f"{total('unknown_items_total')} / {total('list_size_count')}", "unknown"),
                ),
                timeseries(
                    "Cold users",
                    "Share of look-ups of named users without any history.",
                    Query(
                        f"{total('cold_users_total')} / {total('context_lookups_total', NAMED)}",
                        "cold",
                    ),
                    unit="percentunit",
                ),
                timeseries(
                    "Feedback",
                    "Events a second.",
                    Query(total("feedback_events_total"), "events"),
                    unit="cps",
                ),
            ],
            "Context store": [
                timeseries(
                    "Look-ups",
                    "A second. `unavailable`: the store refused or was left alone; "
                    "`timeout`: it was slower than the deadline.",
                    Query(total("context_lookups_total", by="result"), "{{result}}"),
                    unit="reqps",
                ),
                timeseries(
                    "Faults",
                    "Share of look-ups without an answer.",
                    Query(
                        f"{total('context_lookups_total', faults)} / {total('context_lookups_total')}",
                        "faults",
                    ),
                    unit="percentunit",
                    limits=[0.05],
                ),
                timeseries(
                    "Time of a look-up",
                    "The stage `context` of a rerank.",
                    *quantiles("stage_duration_seconds", 'stage="context"'),
                    unit="s",
                ),
            ],
            "Contexts": [
                histogram(
                    "Age of contexts", "Of a user's newest event.", buckets("context_age_seconds"), "s"
                ),
                timeseries(
                    "Age of contexts",
                    "Of a user's newest event.",
                    *quantiles("context_age_seconds"),
                    unit="s",
                ),
            ],
        },
    )


def dashboards() -> dict[str, str]:
    """File names and contents."""
    made = {"service": service(), "reasoning": reasoning(), "models": models()}
    return {f"{name}.json": json.dumps(content, indent=2) + "\n" for name, content in made.items()}


def main() -> None:
    for name, text in dashboards().items():
        (DASHBOARDS / name).write_text(text)


if __name__ == "__main__":
    main()
