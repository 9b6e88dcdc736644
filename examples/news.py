"""News, where what counts is an hour old: `python -m examples.news BUNDLE`. Articles of before
yesterday are not shown, one of the first three is of the last hour, and an article that no model has seen is
ranked by the features it is sent with.

A model that is trained with an `age` field weighs freshness by itself (docs/training.md), and
`python -m export.catalogue` adds articles to its catalogue between trainings.
"""

import time
from pathlib import Path

from eglr_client import Client, FeatureMatrix

from launch.bundles import bundle_argument
from launch.service import ServiceProcess
from loadtest.payloads import read_item_ids

HOUR = 3600.0


def main(bundle: Path) -> list[str]:
    now, known = time.time(), read_item_ids(bundle)[:20]
    published = {article: now - 4 * HOUR * age for age, article in enumerate(known, start=1)}
    published["breaking"] = now - 0.2 * HOUR
    fresh = [article for article, at in published.items() if at > now - HOUR]
    stale = [article for article, at in published.items() if at < now - 48 * HOUR]
    with (
        ServiceProcess(bundle, "--drain-s", "0", "--log-level", "warning") as service,
        Client(service.url, deadline_ms=2000) as client,
    ):
        model = client.models()["models"][0]
        numeric = [
            one["name"] for one in model["features"] if (one["scope"], one["kind"]) == ("item", "numeric")
        ]
        unknown = [float("nan")] * len(numeric)
        rows = [unknown] * len(known) + [[1.0] * len(numeric)]
        ranking = client.rerank(
            [*known, "breaking"],
            top_n=8,
            features_f32=FeatureMatrix.of(numeric, rows),
            context={"timestamp": now},
            constraints={
                "excluded": stale,
                "at_least": [{"group": "fresh", "count": 1, "top": 3}],
                "groups": {"fresh": fresh},
            },
        )
    for place, article in enumerate(ranking.ids, start=1):
        print(f"{place}  {article}  {(now - published[article]) / HOUR:.1f} hours old")
    return ranking.ids


if __name__ == "__main__":
    main(bundle_argument(__doc__))
