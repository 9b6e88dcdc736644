"""docs/reference/metrics.md: every metric of the service, from `service/observe/`."""

from reference.markdown import table
from service.observe.families import Family
from service.observe.metrics import Metrics

HEAD = """# Metrics

Made from `service/observe/` by `python -m reference`. All are at `/metrics`. Counters and histograms of
several workers are added up, and gauges are combined as said. [Monitoring](../monitoring.md) explains what
the metrics tell, and has alerts and dashboards.

"""
MODEL = ("model", "version")


def page() -> str:
    metrics = Metrics()
    _ = metrics.for_model("name", "1").shadow
    families = metrics.families()
    of_models = {name: family for name, family in families.items() if family.labels[:2] == MODEL}
    others = {name: family for name, family in families.items() if name not in of_models}
    return (
        f"{HEAD}## Of the service\n\n{_table(others)}\n\n"
        f"## Of each model\n\nWith the labels `model` and `version` besides.\n\n{_table(of_models)}\n"
    )


def _table(families: dict[str, Family]) -> str:
    rows = [
        [f"`{name}`", _kind(family), ", ".join(_labels(family)), family.text]
        for name, family in sorted(families.items())
    ]
    return table(["metric", "kind", "labels", "what it is"], rows)


def _kind(family: Family) -> str:
    if family.kind == "gauge":
        return f"gauge ({family.together})"
    if family.kind == "histogram":
        return f"histogram, {family.bounds[0]:g} to {family.bounds[-1]:g}"
    return family.kind


def _labels(family: Family) -> list[str]:
    """Names, with those values that are there from the start."""
    told = []
    for place, name in enumerate(family.labels):
        if name not in MODEL:
            values = list(dict.fromkeys(f"`{labels[place]}`" for labels in family.series))
            told.append(f"`{name}`" + (f": {', '.join(values)}" if values else ""))
    return told
