"""`make bench`: engine, service, overload, stages and memory, then the report. A few minutes."""

import argparse
import subprocess
import sys
from pathlib import Path

from bench import report
from bench.machine import ROOT
from bundle.manifest import BundleError, read_manifest
from bundle.repository import locate
from model.progress import console

PARTS = ("engine", "constraints", "serving", "overload", "stages", "memory")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        bundle = locate(arguments.bundle)
        read_manifest(bundle)
    except BundleError as error:
        console.print(f"{error}\n`make train` makes the bundle to measure, in a few minutes.")
        return 2
    for number, part in enumerate(PARTS, 1):
        console.print(f"{number} of {len(PARTS)}: {part}")
        command = [sys.executable, "-m", f"bench.{part}", "--bundle", str(bundle)]
        subprocess.run(command, cwd=ROOT, check=True)
    report.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
