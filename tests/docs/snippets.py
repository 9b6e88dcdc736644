"""What README, docs/ and the client's README show: blocks of text as they are, and the commands in them."""

import re
import shlex
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", ROOT / "client/README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
OURS = {"python", "make", "curl", "pip", "torchrun"}
OTHERS = {"docker", "haproxy", "kubectl", "redis-cli", "locust", "mkdir", "zgrep"}
INLINE = re.compile(r"`((?:python -m|make) [^`]+)`")
VARIABLE = re.compile(r"[A-Z_]+=")


@dataclass(frozen=True)
class Block:
    """A block of a page, fenced or indented.

    Attributes:
        page: its path in the project.
    """

    page: str
    text: str

    @property
    def is_shell(self) -> bool:
        words = [word for word in self.text.split("\n")[0].split() if not VARIABLE.match(word)]
        return bool(words) and words[0] in OURS | OTHERS


@dataclass(frozen=True)
class Command:
    """Its words, without variables before it."""

    page: str
    words: tuple[str, ...]


def blocks() -> list[Block]:
    """What is answered to a command is a block of its own."""
    return [
        Block(page, part)
        for page, whole in PAGES.items()
        for text in _parted(whole)[0]
        for part in re.split(r"(?<=\n)\n(?=\{)", text)
    ]


def commands() -> list[Command]:
    """Those of blocks, and `python -m` and `make` within sentences; of torchrun also what it launches."""
    shells = [(block.page, block.text) for block in blocks() if block.is_shell]
    inline = [
        (page, " ".join(code.split()))
        for page, text in PAGES.items()
        for code in INLINE.findall(_parted(text)[1])
    ]
    found = [Command(page, words) for page, text in [*shells, *inline] for words in split(text)]
    found += [
        Command(one.page, ("python", "-m", *one.words[one.words.index("--") + 1 :]))
        for one in found
        if one.words[0] == "torchrun"
    ]
    return list(dict.fromkeys(found))


def split(shell: str) -> list[tuple[str, ...]]:
    """The commands of a piece of shell."""
    found, pending = [], ""
    for line in shell.splitlines():
        pending += line + "\n"
        if line.endswith("\\"):
            continue
        try:
            words = shlex.split(pending.replace("\\\n", " "), comments=True)
        except ValueError:  # a quotation goes on
            continue
        pending = ""
        for joined, one in groupby(words, {"&&", ";"}.__contains__):
            command = [word for word in one if not joined and word != "..."]
            while command and VARIABLE.match(command[0]):
                del command[0]
            found += [tuple(command)] if command else []
    assert not pending, f"a quotation without end: {pending}"
    return found


def _parted(page: str) -> tuple[list[str], str]:
    """Blocks of a page but equations, and the rest. Within a list a block is indented by eight."""
    found: list[list[str]] = []
    prose: list[str] = []
    fence = indented = listed = False
    before = ""
    for line in page.splitlines():
        width = 8 if listed else 4
        if line.lstrip().startswith("```"):
            fence, indented = not fence, False
            found += [[line.strip()]] if fence else []
        elif fence:
            found[-1].append(line)
        elif line.startswith(" " * width) and (indented or not before):
            found += [] if indented else [[]]
            indented = True
            found[-1].append(line)
        elif indented and not line:
            found[-1].append(line)
        else:
            item = re.match(r"(-|\d+\.) ", line) is not None
            indented, listed = False, item or (listed and (line[:1] in ("", " ") or bool(before)))
            prose.append(line)
        before = line
    whole = [lines for lines in found if lines[0] != "```math"]
    texts = [lines[1:] if lines[0].startswith("```") else lines for lines in whole]
    return [dedent("\n".join(lines)).strip("\n") + "\n" for lines in texts], "\n".join(prose)
