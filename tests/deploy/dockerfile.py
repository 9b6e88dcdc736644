"""The Dockerfile, read as far as tests ask."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """Every instruction and its arguments: comments dropped, continued lines joined."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines())
        if word
    ]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions from each FROM on, by the stage's name."""
    named: dict[str, list[tuple[str, str]]] = {}
    for word, rest in instructions():
        if word == "FROM":
            name = rest.split(" AS ")[1]
            named[name] = []
        if named:
            named[name].append((word, rest))
    return named


def argument(word: str, stage: str = "service") -> str:
    """Of the last such instruction of the stage, which is the one that holds."""
    return [rest for found, rest in stages()[stage] if found == word][-1]


def command(stage: str = "service", word: str = "CMD") -> list[str]:
    words: list[str] = json.loads(argument(word, stage))
    return words


def sources(stage: str) -> list[str]:
    """The arguments of COPY instructions from the tree: paths, then the folder they go to."""
    return [rest for word, rest in stages()[stage] if word == "COPY" and "--from" not in rest]
