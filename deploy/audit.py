"""`make audit`: known weaknesses of the pinned packages, by pip-audit.

Ends with 1 if there are any. Where no source of weaknesses answers it says so, and ends with 0: what was not
looked up is no failure, and no success either.
"""

import json
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


def audit() -> list[str] | None:
    """What the package index knows to be weak, a line each; None if it does not answer."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS)]
    command += ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    command += ["--timeout", "15"]
    run = subprocess.run(command, capture_output=True, text=True)
    try:
        found = json.loads(run.stdout)["dependencies"]
    except (ValueError, KeyError):
        print((run.stderr.strip().splitlines() or ["no answer"])[-1], file=sys.stderr)
        return None
    skipped = [package["name"] for package in found if "skip_reason" in package]
    if len(skipped) == len(found):
        print("the index knows none of the packages' weaknesses", file=sys.stderr)
        return None
    if skipped:
        print(f"not looked up: {', '.join(skipped)}")
    return [
        f"{package['name']} {package['version']}: {weak['id']}, fixed in {weak['fix_versions'] or 'none'}"
        for package in found
        for weak in package.get("vulns", ())
    ]


def main() -> int:
    weak = audit()
    if weak is None:
        print("AUDIT SKIPPED: no source of known weaknesses answers; nothing was looked up")
        return 0
    print(*weak, f"{len(weak)} known weaknesses", sep="\n")
    return 1 if weak else 0


if __name__ == "__main__":
    sys.exit(main())
