"""The dashboard *service*: is it healthy, and where does the time go? Models are summed over."""

from deploy.grafana.panels import (
    LOWEST,
    Query,
    at_least,
    dashboard,
    histogram,
    stat,
    states,
    timeseries,
    up_to,
)
from deploy.grafana.promql import INSTANCES, JOBS, MOMENTS

RERANK, SERVED = 'endpoint=~".*/rerank"', 'outcome="served"'
ERRORS = 'code=~"5.."'

OF_JOBS = '{alertname=~"Rerank.*", job=~"$job|"'
"""That no instance is there is an alert of no job."""
JOBS_ALERTS, JOBS_ALERTS_SINCE = f"ALERTS{OF_JOBS}}}", f"ALERTS_FOR_STATE{OF_JOBS}}}"
FIRING = f'ALERTS{OF_JOBS}, alertstate="firing"}}'
EXPECTED = JOBS.select("job:rerank_instances:expected")
FAILED = (
    f"max({JOBS.select('job:rerank_instances:up')} == bool 0 > 0)"
    f" or max({JOBS.select('job:rerank_unavailable:ratio_rate5m')} >= 0)"
)
WAIT = INSTANCES.select("instance_model:rerank_queue_wait_seconds:p90_5m")
BUDGET = ((LOWEST, "red"), (0.0, "orange"), (0.25, "green"))


DASHBOARD = dashboard(
    "rerank-service",
    "Re-ranker: service",
    "Is it healthy? Rate, errors and duration by endpoint; where the time goes; what was shed.",
    {
        "Is it us, how bad, since when": [
            stat(
                "Firing alerts",
                "Of the chosen jobs.",
                Query(f"count({FIRING}) or vector(0)"),
                steps=[up_to(1)],
            ),
            stat(
                "Firing for",
                "The alert that has fired longest.",
                Query(f"max((time() - {JOBS_ALERTS_SINCE}) and ignoring (alertstate) {FIRING})"),
                unit="s",
                steps=[((LOWEST, "red"),)],
                nothing="none fires",
            ),
            stat(
                "Instances",
                "That answer Prometheus, and that do not although it expects them to.",
                Query(f"sum({JOBS.select('job:rerank_instances:up')}) or vector(0)", "up"),
                Query(f"sum({EXPECTED} - {JOBS.select('job:rerank_instances:up')})", "missing"),
                steps=[at_least(1), up_to(1)],
            ),
            stat(
                "Reranks failed",
                "5xx and 429, over five minutes; all, if no instance is up. The objective is 0.1 %.",
                Query(FAILED),
                unit="percentunit",
                steps=[up_to(0.001)],
                nothing="no traffic",
            ),
            stat(
                "Availability budget",
                "What is left of the 0.1 % that may fail in 30 days. Nothing is asked while all is down, so "
                "outages without an answer are not in it.",
                Query(f"1 - max({JOBS.select('job:rerank_unavailable:ratio_rate30d')} >= 0) / 0.001"),
                unit="percentunit",
                steps=[BUDGET],
                nothing="no traffic",
            ),
            stat(
                "Reranks over 50 ms",
                "Of those served, over five minutes. The objective is 1 %.",
                Query(f"max({JOBS.select('job:rerank_slow:ratio_rate5m')} >= 0)"),
                unit="percentunit",
                steps=[up_to(0.01)],
                nothing="no traffic",
            ),
            stat(
                "Latency budget",
                "What is left of the 1 % that may take over 50 ms in 30 days.",
                Query(f"1 - max({JOBS.select('job:rerank_slow:ratio_rate30d')} >= 0) / 0.01"),
                unit="percentunit",
                steps=[BUDGET],
                nothing="no traffic",
            ),
            stat(
                "Context store",
                "Whether it answers, as the instance that fares worst finds it.",
                Query(f"min({INSTANCES.gauge('context_store_up')})"),
                steps=[at_least(1)],
                nothing="nobody asks",
                says={0: "down", 1: "up"},
            ),
        ],
        "Since when": [
            states(
                "Alerts",
                "Pending and firing.",
                Query(f"max by (alertname, alertstate) ({JOBS_ALERTS})", "{{alertname}} {{alertstate}}"),
            ),
            timeseries(
                "Failed, slow, fallbacks",
                "Share of reranks over five minutes; all failed, if no instance is up.",
                Query(FAILED, "failed"),
                Query(f"max({JOBS.select('job:rerank_slow:ratio_rate5m')} >= 0)", "slow"),
                Query(f"max({JOBS.select('job:rerank_fallback:ratio_rate5m')} >= 0)", "fallbacks"),
                unit="percentunit",
            ),
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
                "Of what was served, fallbacks too. The line is the objective: 99 % within it.",
                *INSTANCES.quantiles("request_duration_seconds", RERANK, SERVED),
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
                "How they are spread, of what was served.",
                INSTANCES.buckets("request_duration_seconds", RERANK, SERVED),
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
                "Wait in the queue, p90",
                "Of each instance and model; the alert's line is half of the objective.",
                Query(f"max by (instance) ({WAIT} >= 0)", "{{instance}}"),
                unit="s",
                limits=[0.025],
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
        "Process": [
            timeseries(
                "CPU",
                "Cores that are busy.",
                Query(INSTANCES.rate("process_cpu_seconds_total", by="instance"), "{{instance}}"),
            ),
            timeseries(
                "Memory",
                "Resident; of several workers all together.",
                Query(
                    f"sum by (instance) ({INSTANCES.gauge('process_resident_memory_bytes')})", "{{instance}}"
                ),
                unit="bytes",
            ),
            timeseries(
                "Event loop lag",
                "Mean of how late it came to what was due, and how often it stood still for over 50 ms.",
                Query(INSTANCES.mean("event_loop_lag_seconds", by="instance"), "{{instance}} s"),
                Query(
                    f"{INSTANCES.select('instance:rerank_event_loop_stalls:rate5m')} >= 0",
                    "{{instance}} stalls / s",
                ),
            ),
            timeseries(
                "Restarts",
                "Of the process, and of workers, within a quarter of an hour.",
                Query(f"changes({INSTANCES.gauge('process_start_time_seconds')}[15m])", "{{instance}}"),
                Query(f"increase({INSTANCES.gauge('worker_restarts_total')}[15m])", "{{instance}} workers"),
            ),
            timeseries(
                "Decision log",
                "Lines that were dropped, by reason, and written, a second; files removed to make room.",
                Query(
                    INSTANCES.rate("decision_lines_dropped_total", by="instance, reason"),
                    "{{instance}} {{reason}} / s",
                ),
                Query(INSTANCES.rate("decision_lines_total", by="instance"), "{{instance}} written / s"),
                Query(
                    f"increase({INSTANCES.gauge('decision_files_removed_total')}[15m])",
                    "{{instance}} removed",
                ),
            ),
            timeseries(
                "Connections",
                "Open ones, and those refused, a second.",
                Query(f"sum by (instance) ({INSTANCES.gauge('open_connections')})", "{{instance}} open"),
                Query(
                    INSTANCES.rate("refused_total", 'reason="connections"', by="instance"),
                    "{{instance}} refused / s",
                ),
            ),
        ],
    },
    INSTANCES.variables,
    MOMENTS,
)
