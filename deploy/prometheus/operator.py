"""This folder's rules as a PrometheusRule, for the Prometheus operator.

    python -m deploy.prometheus.operator --runbook https://wiki.example.com/rerank \\
        --grafana https://grafana.example.com | kubectl apply -f -

A cluster's Prometheus has external labels of its own, so the two that links begin with are filled in.
"""

import argparse
import re
from typing import Any

import yaml

from deploy.prometheus.local import FOLDER


def prometheus_rule(**addresses: str) -> dict[str, Any]:
    """`addresses` by the name of the external label they stand for."""
    groups = []
    for path in sorted(FOLDER.glob("rules/*.yml")):
        text = re.sub(
            r"\{\{ \$externalLabels\.(\w+) \}\}", lambda label: addresses[label[1]], path.read_text()
        )
        groups += yaml.safe_load(text)["groups"]
    names = [group["name"] for group in groups]
    for group in groups:  # of the two files some have one name, which the operator refuses
        if names.count(group["name"]) > 1 and "record" in group["rules"][0]:
            group["name"] += "-recorded"
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "eglr-reranker", "labels": {"app.kubernetes.io/name": "eglr-reranker"}},
        "spec": {"groups": groups},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.prometheus.operator")
    parser.add_argument("--runbook", required=True, help="address of docs/runbook.md, as the site has it")
    parser.add_argument("--grafana", required=True, help="address of Grafana")
    print(yaml.safe_dump(prometheus_rule(**vars(parser.parse_args())), sort_keys=False, width=1000), end="")


if __name__ == "__main__":
    main()
