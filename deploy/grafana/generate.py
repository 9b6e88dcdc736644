"""The dashboards: `python -m deploy.grafana.generate` writes the `dashboards/*.json` that Grafana loads.

Edit `service`, `reasoning` and `models` beside this, generate, commit both; a test compares them.
"""

import json
from pathlib import Path

from deploy.grafana import models, reasoning, service

DASHBOARDS = Path(__file__).parent / "dashboards"


def dashboards() -> dict[str, str]:
    """File names and contents."""
    made = {"service": service.DASHBOARD, "reasoning": reasoning.DASHBOARD, "models": models.DASHBOARD}
    return {f"{name}.json": json.dumps(content, indent=2) + "\n" for name, content in made.items()}


def main() -> None:
    for name, text in dashboards().items():
        (DASHBOARDS / name).write_text(text)


if __name__ == "__main__":
    main()
