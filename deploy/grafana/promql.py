"""The PromQL of the dashboards: rates, means and quantiles of the service's metrics, of what is chosen.

Knows nothing of panels' looks.
"""

from dataclasses import dataclass

from deploy.grafana.panels import Query, Variable

BY_MODEL = "model, version"
MODEL = "{{model}} {{version}}"
"""A model in a legend."""


@dataclass(frozen=True)
class Chosen:
    """Series that the variables of a dashboard choose.

    `matchers` choose further. What has the same values of the labels in `by` is taken together.
    """

    variables: tuple[Variable, ...]

    def select(self, metric: str, *matchers: str) -> str:
        chosen = [f'{one.name}=~"${one.name}"' for one in self.variables]
        return f"{metric}{{{', '.join((*chosen, *matchers))}}}"

    def gauge(self, metric: str, *matchers: str) -> str:
        return self.select(f"rerank_{metric}", *matchers)

    def highest(self, metric: str, *matchers: str, by: str) -> str:
        """Of a gauge."""
        return f"max by ({by}) ({self.gauge(metric, *matchers)})"

    def rate(self, metric: str, *matchers: str, by: str = "") -> str:
        """Per second, over the interval that Grafana chooses for the width of the panel."""
        counter = self.gauge(metric, *matchers)
        return f"sum{f' by ({by})' if by else ''} (rate({counter}[$__rate_interval]))"

    def ratio(self, part: str, whole: str, *matchers: str, by: str = "") -> str:
        return f"{self.rate(part, *matchers, by=by)} / {self.rate(whole, *matchers, by=by)}"

    def mean(self, histogram: str, *matchers: str, by: str = "") -> str:
        return self.ratio(f"{histogram}_sum", f"{histogram}_count", *matchers, by=by)

    def quantile(self, q: float, histogram: str, *matchers: str, by: str = "") -> str:
        labels = f"le, {by}" if by else "le"
        return f"histogram_quantile({q}, {self.rate(f'{histogram}_bucket', *matchers, by=labels)})"

    def quantiles(self, histogram: str, *matchers: str) -> list[Query]:
        return [Query(self.quantile(q, histogram, *matchers), f"p{round(100 * q)}") for q in (0.5, 0.9, 0.99)]

    def buckets(self, histogram: str, *matchers: str) -> Query:
        """Observations of each bucket in an interval, for a heatmap."""
        counts = self.gauge(f"{histogram}_bucket", *matchers)
        return Query(f"sum by (le) (increase({counts}[$__rate_interval]))", "{{le}}")


JOBS = Chosen((Variable("job", "rerank_inflight_requests"),))
"""Of recording rules, which take all instances together."""
INSTANCES = Chosen((*JOBS.variables, Variable("instance", 'rerank_inflight_requests{job=~"$job"}')))
_MODEL = (
    Variable("model", 'rerank_model_loaded{job=~"$job"}'),
    Variable("version", 'rerank_model_loaded{job=~"$job", model=~"$model"}'),
)
JOBS_MODELS = Chosen((*JOBS.variables, *_MODEL))
MODELS = Chosen((*INSTANCES.variables, *_MODEL))

MOMENTS = (
    (
        "Starts",
        Query(INSTANCES.gauge("process_start_time_seconds"), "{{instance}} starts"),
        "blue",
    ),
    (
        "Models",
        Query(INSTANCES.gauge("model_load_timestamp_seconds"), f"{MODEL} on {{{{instance}}}}"),
        "purple",
    ),
)
"""A deployment, and a model that is loaded, as every dashboard draws them."""


def everything(expr: str, rate_interval: str) -> str:
    """An expression as Prometheus takes it, with all there is chosen."""
    for variable in MODELS.variables:
        expr = expr.replace(f"${variable.name}", ".*")
    return expr.replace("$__rate_interval", rate_interval)
