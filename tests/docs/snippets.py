"""What README, docs/ and the client's README show: blocks of text as they are, and the commands in them."""

import re
import shlex
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", ROOT / "client/README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
OURS, OTHERS = {"python", "make", "curl", "pip"}, {"docker", "kubectl", "redis-cli", "locust", "mkdir"}
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
    """Those of blocks, and `python -m` and `make` within sentences."""
    shells = [(block.page, block.text) for block in blocks() if block.is_shell]
    inline = [
        (page, " ".join(code.split()))
        for page, text in PAGES.items()
        for code in INLINE.findall(_parted(text)[1])
    ]
    found = (Command(page, words) for page, text in [*shells, *inline] for words in split(text))
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
    """Blocks of a page, and the rest."""
    found: list[str] = []
    prose: list[str] = []
    fenced = indented = False
    before = ""
    for line in page.splitlines():
        if line.startswith("```"):
            fenced, indented = not fenced, False
            found += [""] if fenced else []
        elif fenced:
            found[-1] += line + "\n"
        elif line.startswith("    ") and (indented or not before):
            found += [] if indented else [""]
            indented = True
            found[-1] += line[4:] + "\n"
        elif indented and not line:
            found[-1] += "\n"
        else:
            indented = False
            prose.append(line)
        before = line
    return [text.rstrip("\n") + "\n" for text in found], "\n".join(prose)
