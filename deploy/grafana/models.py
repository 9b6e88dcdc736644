"""The dashboard *models*: what is served, how each model fares, what is known of users."""

from deploy.grafana.panels import Query, dashboard, histogram, stat, timeseries, up_to
from deploy.grafana.promql import BY_MODEL, INSTANCES, MODEL, MODELS, MOMENTS

FAULTS = 'result="unavailable"'
NAMED = 'result=~"hit|miss"'

DASHBOARD = dashboard(
    "rerank-models",
    "Re-ranker: models and context store",
    "What is served, on what, how old; what is known of users, and whether their store answers.",
    {
        "Models": [
            stat(
                "Served",
                "Model and version, by the number of instances.",
                Query(f"sum by ({BY_MODEL}) ({MODELS.gauge('model_loaded')})", MODEL),
            ),
            stat(
                "Age of the model",
                "Since the bundle was written.",
                Query(
                    f"max by ({BY_MODEL}) (time() - {MODELS.gauge('model_created_timestamp_seconds')})", MODEL
                ),
                unit="s",
                steps=[up_to(30 * 86400)],
            ),
            stat(
                "Loaded since",
                "The instance that has run longest.",
                Query(
                    f"max by ({BY_MODEL}) (time() - {MODELS.gauge('model_load_timestamp_seconds')})", MODEL
                ),
                unit="s",
            ),
            stat(
                "Execution provider",
                "Instances it is active on; 0 is one that was asked for and is not.",
                Query(
                    f"sum by (provider, {BY_MODEL}) ({MODELS.gauge('provider_active')})",
                    f"{{{{provider}}}} {MODEL}",
                ),
            ),
        ],
        "Traffic by model": [
            timeseries(
                "Lists",
                "Reranks a second, fallbacks too.",
                Query(MODELS.rate("list_size_count", by=BY_MODEL), MODEL),
                unit="reqps",
            ),
            timeseries(
                "Fallbacks by model",
                "Share of lists that came back in the caller's order.",
                Query(MODELS.ratio("fallback_total", "list_size_count", by=BY_MODEL), MODEL),
                unit="percentunit",
            ),
            timeseries(
                "Queue by model",
                "Requests waiting for inference.",
                Query(f"sum by ({BY_MODEL}) ({MODELS.gauge('queue_depth')})", MODEL),
            ),
            timeseries(
                "Inference, p99",
                "Of the batch that a request is part of.",
                Query(MODELS.quantile(0.99, "stage_duration_seconds", 'stage="infer"', by=BY_MODEL), MODEL),
                unit="s",
            ),
        ],
        "Rules for the list": [
            timeseries(
                "Requests with rules",
                "A second. `shortened`: limits left room for fewer; `refused`: they contradict each other, "
                "or do not fit the model; `undecided`: not told within `max_constraint_states`; `late`: hard "
                "to judge, and there was no time.",
                Query(
                    MODELS.rate("constrained_requests_total", by=f"result, {BY_MODEL}"),
                    f"{{{{result}}}} {MODEL}",
                ),
                unit="reqps",
            ),
            timeseries(
                "Time to judge hard rules, p99",
                "In a thread, with the wait for those before; rules that are not hard are judged in no time.",
                Query(MODELS.quantile(0.99, "stage_duration_seconds", 'stage="rules"', by=BY_MODEL), MODEL),
                unit="s",
            ),
        ],
        "Versions": [
            timeseries(
                "Share of requests",
                "As it was set; 0 is a version that only its own callers, or a shadow, get.",
                Query(MODELS.highest("model_share", by=BY_MODEL), MODEL),
                unit="percentunit",
            ),
            timeseries(
                "Reasoning tokens by version",
                "Of a list, mean.",
                Query(MODELS.mean("reasoning_tokens", by=BY_MODEL), MODEL),
            ),
            timeseries(
                "Probability of chosen items",
                "Mean; an arm that is less sure of its lists.",
                Query(MODELS.mean("score", by=BY_MODEL), MODEL),
                unit="percentunit",
            ),
        ],
        "Shadows": [
            timeseries(
                "Agreement on the first items",
                "Share of the first k items that shadow and live list both have, mean.",
                Query(MODELS.mean("shadow_overlap_ratio", by=BY_MODEL), MODEL),
                unit="percentunit",
            ),
            timeseries(
                "Agreement on order",
                "Kendall's tau of the items that both placed, quartiles. 1 is the same order, 0 is chance.",
                *(
                    Query(MODELS.quantile(q, "shadow_kendall_tau", by=BY_MODEL), f"p{round(100 * q)} {MODEL}")
                    for q in (0.25, 0.5, 0.75)
                ),
                lowest=-1,
            ),
            timeseries(
                "Compared and dropped",
                "A second. `dropped`: it would have cost too much; `failed`: of other features, or too slow.",
                Query(
                    MODELS.rate("shadow_requests_total", by=f"result, {BY_MODEL}"), f"{{{{result}}}} {MODEL}"
                ),
                unit="reqps",
            ),
            timeseries(
                "What a list costs",
                "Mean time of shadow and live lists, the latter with its wait for the engine.",
                Query(MODELS.mean("shadow_duration_seconds", by=f"of, {BY_MODEL}"), f"{{{{of}}}} {MODEL}"),
                unit="s",
            ),
            timeseries(
                "Reasoning tokens of both",
                "Mean of a compared list.",
                Query(MODELS.mean("shadow_reasoning_tokens", by=f"of, {BY_MODEL}"), f"{{{{of}}}} {MODEL}"),
            ),
            timeseries(
                "Time that shadows take",
                "Cores; the service spends no more than `shadow_load` for each worker.",
                Query(MODELS.rate("shadow_duration_seconds_sum", 'of="shadow"', by=BY_MODEL), MODEL),
            ),
        ],
        "Items and people": [
            timeseries(
                "Unknown items",
                "Of a list, mean: the catalogue lacks them.",
                Query(MODELS.ratio("unknown_items_total", "list_size_count", by=BY_MODEL), MODEL),
            ),
            timeseries(
                "Ignored fields",
                "Requests a second with a field that the model does not know, or does not know a value of.",
                Query(MODELS.rate("ignored_fields_total", by="field, reason"), "{{field}} {{reason}}"),
                unit="reqps",
            ),
            timeseries(
                "Cold users",
                "Share of look-ups of named users without any history.",
                Query(
                    f"{INSTANCES.rate('cold_users_total')}"
                    f" / {INSTANCES.rate('context_lookups_total', NAMED)}",
                    "cold",
                ),
                unit="percentunit",
            ),
            timeseries(
                "Feedback",
                "Events a second.",
                Query(INSTANCES.rate("feedback_events_total"), "events"),
                unit="cps",
            ),
        ],
        "Context store": [
            timeseries(
                "Look-ups",
                "A second. `unavailable`: the store refused or was left alone; `timeout`: the deadline came "
                "first; `not_asked`: no connection was free, or no time to see the answer.",
                Query(INSTANCES.rate("context_lookups_total", by="result"), "{{result}}"),
                unit="reqps",
            ),
            timeseries(
                "Faults",
                "Share of look-ups that the store did not answer.",
                Query(
                    f"{INSTANCES.rate('context_lookups_total', FAULTS)}"
                    f" / {INSTANCES.rate('context_lookups_total')}",
                    "faults",
                ),
                unit="percentunit",
                limits=[0.05],
            ),
            timeseries(
                "Time of a look-up",
                "The stage `context` of a rerank.",
                *INSTANCES.quantiles("stage_duration_seconds", 'stage="context"'),
                unit="s",
            ),
        ],
        "Contexts": [
            histogram(
                "Age of contexts", "Of a user's newest event.", INSTANCES.buckets("context_age_seconds"), "s"
            ),
            timeseries(
                "Age of contexts",
                "Of a user's newest event.",
                *INSTANCES.quantiles("context_age_seconds"),
                unit="s",
            ),
        ],
    },
    MODELS.variables,
    MOMENTS,
)
