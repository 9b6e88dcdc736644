"""The dashboard *service*: is it healthy, and where does the time go? Models are summed over."""

from deploy.grafana.panels import Query, dashboard, histogram, stat, timeseries
from deploy.grafana.promql import INSTANCES

RERANK = 'endpoint=~".*/rerank"'
ERRORS = 'code=~"5.."'


DASHBOARD = dashboard(
    "rerank-service",
    "Re-ranker: service",
    "Is it healthy? Rate, errors and duration by endpoint; where the time goes; what was shed.",
    {
        "Now": [
            stat("Requests", "A second, of every kind.", Query(INSTANCES.rate("requests_total")), "reqps"),
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
                Query(f"sum({INSTANCES.gauge('inflight_requests')})"),
            ),
            stat("Instances", "Answering scrapes.", Query('sum(up{job="rerank"})')),
        ],
        "Rate, errors, duration by endpoint": [
            timeseries(
                "Rate",
                "Requests a second.",
                Query(INSTANCES.rate("requests_total", by="endpoint"), "{{endpoint}}"),
                unit="reqps",
            ),
            timeseries(
                "Answers by code",
                "Everything but 200 and 2xx of its kind. 4xx are the caller's, 5xx ours.",
                Query(
                    INSTANCES.rate("requests_total", 'code!~"2.."', by="endpoint, code"),
                    "{{code}} {{endpoint}}",
                ),
                unit="reqps",
            ),
            timeseries(
                "Errors by endpoint",
                "Share of 5xx answers.",
                Query(
                    f"({INSTANCES.rate('requests_total', ERRORS, by='endpoint')}"
                    f" or 0 * {INSTANCES.rate('requests_total', by='endpoint')})"
                    f" / {INSTANCES.rate('requests_total', by='endpoint')}",
                    "{{endpoint}}",
                ),
                unit="percentunit",
            ),
        ],
        "Time": [
            timeseries(
                "Duration of a rerank",
                "Of every answer, errors too. The line is the objective: 99 % within it.",
                *INSTANCES.quantiles("request_duration_seconds", RERANK),
                unit="s",
                limits=[0.05],
            ),
            timeseries(
                "Duration by endpoint, p99",
                "Of every answer, errors too.",
                Query(INSTANCES.quantile(0.99, "request_duration_seconds", by="endpoint"), "{{endpoint}}"),
                unit="s",
            ),
            histogram(
                "Durations of reranks",
                "How they are spread.",
                INSTANCES.buckets("request_duration_seconds", RERANK),
                "s",
            ),
        ],
        "Stages": [
            timeseries(
                "Time by stage",
                "Mean of each stage, stacked: where a rerank's time goes.",
                Query(INSTANCES.mean("stage_duration_seconds", by="stage"), "{{stage}}"),
                unit="s",
                stacked=True,
            ),
            timeseries(
                "Stages, p99",
                "Each by itself.",
                Query(INSTANCES.quantile(0.99, "stage_duration_seconds", by="stage"), "{{stage}}"),
                unit="s",
            ),
        ],
        "Queue": [
            timeseries(
                "Queue",
                "Requests waiting for inference, and the limit of those waiting or in inference.",
                Query(f"sum({INSTANCES.gauge('queue_depth')})", "waiting"),
                Query(f"sum({INSTANCES.gauge('concurrency_limit')})", "limit"),
            ),
            timeseries(
                "Batch size",
                "Requests of an inference. Batches form when requests wait for each other.",
                Query(INSTANCES.mean("batch_size"), "mean"),
                Query(INSTANCES.quantile(0.9, "batch_size"), "p90"),
            ),
            timeseries(
                "List size",
                "Items of a request.",
                Query(INSTANCES.mean("list_size"), "mean"),
                Query(INSTANCES.quantile(0.9, "list_size"), "p90"),
            ),
        ],
        "Shed and fallbacks": [
            timeseries(
                "Fallbacks by reason",
                "Lists a second that came back in the caller's order.",
                Query(INSTANCES.rate("fallback_total", by="reason"), "{{reason}}"),
                unit="reqps",
            ),
            timeseries(
                "Shed by reason",
                "Requests a second not tried (overload), or dropped from the queue (deadline).",
                Query(INSTANCES.rate("shed_total", by="reason"), "{{reason}}"),
                unit="reqps",
            ),
            timeseries(
                "Deadlines passed by stage",
                "A second.",
                Query(INSTANCES.rate("deadline_exceeded_total", by="stage"), "{{stage}}"),
                unit="reqps",
            ),
        ],
    },
    INSTANCES.variables,
)
