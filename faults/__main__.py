"""`python -m faults` (or `make faults`): every fault under load, and a table of what callers saw.

Each fault has servers of its own, real ones. Results are in docs/results/faults.json, their table is in
docs/reliability.md, and the services' logs stay in build/faults/.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evidence import pages
from export.provenance import commit, hardware
from faults import callers, fleet, processes, store, tables
from faults.processes import NotInstalledError
from faults.scene import Scene
from faults.traffic import Tally
from model.progress import console

Fault = Callable[[Scene], None]

FAULTS: dict[str, Fault] = {
    fault.__name__: fault for fault in (*processes.FAULTS, *callers.FAULTS, *store.FAULTS, *fleet.FAULTS)
}
LOGS = pages.ROOT / "build/faults"


def suffer(fault: Fault, bundle: Path, seconds: float, logs: Path = LOGS) -> Tally:
    """Run one fault.

    Raises:
        NotInstalledError: this machine lacks what it needs.
    """
    own = logs / fault.__name__
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    scene = Scene(bundle, own, seconds)
    try:
        fault(scene)
    finally:
        scene.close()
    return scene.tally


def row(fault: Fault, tally: Tally) -> dict[str, Any]:
    """What is kept of a fault."""
    numbers = {name: getattr(tally, name) for name in tables.COLUMNS} | {"p99_ms": round(tally.p99_ms, 1)}
    return {
        "fault": fault.__doc__,
        **numbers,
        "repeated": tally.repeated,
        "reasons": dict(tally.reasons),
        "measured": tally.measured,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__.split("\n\n")[0])
    parser.add_argument("faults", nargs="*", choices=[[], *FAULTS], help="only these")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/ranklens"), help="what is served")
    parser.add_argument("--seconds", type=float, default=3.0, help="of traffic before and after each fault")
    arguments = parser.parse_args()
    rows = tables.stored(tables.FAULTS)
    chosen = arguments.faults or list(FAULTS)
    for number, name in enumerate(chosen, start=1):
        console.print(f"{number}/{len(chosen)}  {FAULTS[name].__doc__}")
        try:
            found = row(FAULTS[name], suffer(FAULTS[name], arguments.bundle, arguments.seconds))
        except NotInstalledError as missing:
            console.print(f"  skipped: no {missing} here")
            continue
        rows[name] = {**found, "commit": commit(), "hardware": hardware()}
        console.print(
            f"  {', '.join(f'{column} {found[column]}' for column in tables.COLUMNS)}  {tables.why(found)}"
        )
        tables.FAULTS.write_text(json.dumps(rows, indent=1) + "\n")
    pages.write(tables.PAGES, tables.blocks())


if __name__ == "__main__":
    main()
