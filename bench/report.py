"""`python -m bench.report`: marks.json, and the tables and figures of docs/performance.md.

The page's prose is written by hand; a table stands between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from bench import figures, marks
from bench.machine import ROOT
from bench.tables import blocks
from model.progress import console

PAGE, IMAGES = ROOT / "docs/performance.md", ROOT / "docs/images"


def fill(page: str, made: Mapping[str, str]) -> str:
    """The page with its tables replaced.

    Raises:
        ValueError: a table has no place on the page.
    """
    for name, text in made.items():
        place = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        page, found = place.subn(lambda match, text=text: f"{match[1]}{text}\n{match[2]}", page)
        if found != 1:
            raise ValueError(f"the page has {found} places for {name!r}")
    return page


def write(page: Path = PAGE, images: Path = IMAGES) -> None:
    results = marks.stored()
    made = marks.write(results)
    page.write_text(fill(page.read_text(), blocks(results)))
    figures.draw(results, images)
    for mark in made:
        if not mark["holds"]:
            console.print(f"missed: {mark['name']}: {mark['value']}, {mark['bound']} {mark['mark']}")
    console.print(f"{sum(mark['holds'] for mark in made)} of {len(made)} marks hold; {page}")


if __name__ == "__main__":
    write()
