"""`python -m decisions compact DIR`: takes the lines of people who asked to be forgotten out of a log."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from decisions.compaction import compact
from decisions.reading import DecisionLogError


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m decisions", description="Tools for a decision log.")
    commands = parser.add_subparsers(dest="command", required=True)
    compacting = commands.add_parser("compact", help="remove the lines of people who asked to be forgotten")
    compacting.add_argument("directory", type=Path)
    options = parser.parse_args(arguments)
    try:
        done = compact(options.directory)
    except (DecisionLogError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{done.lines} lines removed from {done.files} files; {done.busy} files are being written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
