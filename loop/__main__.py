"""The closed loop: `python -m loop`, or `make loop`.

Simulated people call a running service, and what they click trains its next model: configs/loop.toml says how
often. Every arm runs in the same worlds. Finished rounds stay under --runs, and an interrupted loop goes on
where it was. Results go to docs/results/loop.json, their tables and figure to docs/loop.md.
"""

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from bundle.errors import faults_told
from evidence.data import CONFIGS
from loop.config import ARMS, read
from loop.pages import PAGES, STORED, collect, write_pages
from loop.place import Place
from loop.ranker import RankerArm
from loop.served import ServedArm
from model.progress import console


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loop", description=__doc__.split("\n\n")[1])
    parser.add_argument("--config", type=Path, default=CONFIGS / "loop.toml", help="TOML file")
    parser.add_argument("--runs", type=Path, default=Path("runs/loop"), help="where rounds are kept")
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=tuple(ARMS), metavar="ARM")
    parser.add_argument("--worlds", nargs="+", type=int, help="instead of the configuration's")
    parser.add_argument("--rounds", type=int, help="instead of the configuration's")
    parser.add_argument("--lists", type=int, help="of a round, instead of the configuration's")
    parser.add_argument("--results", type=Path, default=STORED, help="JSON file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the service is stopped
    changes: dict[str, Any] = {
        name: getattr(given, name)
        for name in ("worlds", "rounds", "lists")
        if getattr(given, name) is not None
    }
    with faults_told(ValueError):
        config = read(given.config, changes)
        for world in config.worlds:
            place = Place(config, world, given.runs)
            for name in given.arms:
                kind = RankerArm if ARMS[name].ranker else ServedArm
                kind(place, ARMS[name]).run()
                collect(given.runs, given.results)
    if given.results == STORED:
        write_pages()
        console.print(f"wrote {', '.join(PAGES)}")


if __name__ == "__main__":
    main()
