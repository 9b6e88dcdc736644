"""`python -m bench.report`: marks.json, the figures of docs/performance.md, and the tables on speed there, in
the README and in other pages."""

from bench import figures, marks
from bench.machine import ROOT
from bench.tables import blocks
from evidence import pages
from model.progress import console

PAGES = (
    "README.md",
    "docs/performance.md",
    "docs/tracing-and-logs.md",
    "docs/training.md",
    "docs/bulk.md",
    "docs/own-logs.md",
)
IMAGES = ROOT / "docs/images"


def write() -> None:
    results = marks.stored()
    made = marks.write(results)
    pages.write(PAGES, blocks(results))
    figures.draw(results, IMAGES)
    for mark in made:
        if not mark["holds"]:
            console.print(f"missed: {mark['name']}: {mark['value']}, {mark['bound']} {mark['mark']}")
    console.print(f"{sum(mark['holds'] for mark in made)} of {len(made)} marks hold; {', '.join(PAGES)}")


if __name__ == "__main__":
    write()
