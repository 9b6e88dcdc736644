"""The dashboards: `python -m deploy.grafana.generate` writes the `dashboards/*.json` that Grafana loads.

Edit here, generate, commit both; a test compares them.
"""

import json
from pathlib import Path
from typing import Any

from deploy.grafana.panels import Query, dashboard, stat, timeseries

DASHBOARDS = Path(__file__).parent / "dashboards"
RERANK = r'endpoint=~".*/rerank"'
I = 'instance=~"$instance"'  # noqa: E741


def rate(metric: str, *matchers: str) -> str:
    """Per second, over the interval Grafana finds right for the width of the panel."""
    return f"rate(rerank_{metric}{{{', '.join((I, *matchers))}}}[$__rate_interval])"


def quantile(q: float, metric: str, by: str, *matchers: str) -> str:
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({q}, sum by ({labels}) ({rate(metric + '_bucket', *matchers)}))"


def service() -> dict[str, Any]:
    by_endpoint = f"sum by (endpoint) ({rate('requests_total')})"
    return dashboard(
        "rerank-service",
        "Re-ranker: service",
        "Is it healthy? Rate, errors and duration by endpoint; where the time goes; what was shed.",
        {
            "Now": [
                stat("Requests", "Per second.", Query(f"sum({rate('requests_total')})"), "reqps"),
                stat("In flight", "Being answered.", Query(f"sum(rerank_inflight_requests{{{I}}})")),
            ],
            "By endpoint": [
                timeseries("Rate", "Requests per second.", Query(by_endpoint, "{{endpoint}}"), unit="reqps"),
                timeseries(
                    "Duration, p99",
                    "Of every answer, errors too.",
                    Query(quantile(0.99, "request_duration_seconds", "endpoint"), "{{endpoint}}"),
                    unit="s",
                ),
            ],
        },
    )


def dashboards() -> dict[str, str]:
    """File names and contents."""
    made = {"service": service()}
    return {f"{name}.json": json.dumps(content, indent=2) + "\n" for name, content in made.items()}


def main() -> None:
    for name, text in dashboards().items():
        (DASHBOARDS / name).write_text(text)


if __name__ == "__main__":
    main()
