"""The dashboards: `python -m deploy.grafana.generate` writes the `dashboards/*.json` that Grafana loads.

Edit `service`, `reasoning` and `models` beside this, generate, commit both; a test compares them. Where the
runbook is, `--runbook` says.
"""

import argparse
import json
from pathlib import Path

from deploy.grafana import models, reasoning, service
from deploy.grafana.panels import RUNBOOK

DASHBOARDS = Path(__file__).parent / "dashboards"


def dashboards() -> dict[str, str]:
    """File names and contents."""
    made = {"service": service.DASHBOARD, "reasoning": reasoning.DASHBOARD, "models": models.DASHBOARD}
    return {f"{name}.json": json.dumps(content, indent=2) + "\n" for name, content in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana.generate")
    parser.add_argument("--runbook", default=RUNBOOK, help="address of docs/runbook.md")
    runbook = parser.parse_args().runbook
    for name, text in dashboards().items():
        (DASHBOARDS / name).write_text(text.replace(RUNBOOK, runbook))


if __name__ == "__main__":
    main()
