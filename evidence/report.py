"""`python -m evidence.report`: tables and figures of docs/ and the README on quality, from stored results."""

import json
from pathlib import Path

from evidence import figures, pages
from evidence.results import RESULTS, Results, load
from evidence.tables import blocks
from export.figure import draw as draw_bundle
from model.progress import console

PAGES = ("README.md", "docs/results.md", "docs/large-lists.md")
IMAGES = Path("docs/images")


def main() -> None:
    results = Results(load(RESULTS))
    pages.write(PAGES, blocks(results))
    IMAGES.mkdir(exist_ok=True)
    for name, draw in figures.FIGURES.items():
        draw(results, IMAGES / f"{name}.png")
    draw_bundle(json.loads((RESULTS / "bundle.json").read_text()), IMAGES / "ranklens.png")
    console.print(f"wrote {', '.join(PAGES)} and {len(figures.FIGURES) + 1} figures")


if __name__ == "__main__":
    main()
