"""Pages with blocks that a command writes: what stands between `<!-- NAME -->` and `<!-- /NAME -->`.

A block is a table, or one figure within a sentence. The rest of a page is written by hand.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"<!-- (?P<name>[\w-]+) -->(?P<text>.*?)<!-- /(?P=name) -->", re.DOTALL)


def table(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def filled(page: str, made: Mapping[str, str]) -> str:
    """The page with its blocks replaced by what was made for them; other blocks stay as they are.

    A block on lines of its own stays so, and so does one within a line.
    """

    def replace(block: re.Match[str]) -> str:
        name, text = block["name"], block["text"]
        end = "\n" if text.startswith("\n") else ""
        return f"<!-- {name} -->{end}{made[name]}{end}<!-- /{name} -->" if name in made else block[0]

    return BLOCK.sub(replace, page)


def write(pages: Iterable[str], made: Mapping[str, str]) -> None:
    """Replace the blocks of these pages, given by their path in the project."""
    for page in pages:
        path = ROOT / page
        path.write_text(filled(path.read_text(), made))
