"""The gate before a model goes live:

    python -m export.promote bundles/ranklens/8 --over bundles/ranklens --decisions decisions/

Parity, calibration, held-out lists, latency, and by a decision log its value and drift: `export.promotion`.
If nothing speaks against it, the new version becomes the current one of its model's folder, which the service
takes at its next reload; else the exit code is 1, and why is told. What is set aside is asked, and told.
"""

import argparse
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, fields
from html import escape
from pathlib import Path

import torch
from rich.table import Table

from bundle.errors import faults_told
from bundle.manifest import read_manifest
from bundle.repository import locate, point
from bundle.timestamps import unix_time
from export.promotion import MAY_BE_ASIDE, Limits, Verdict, refused, verdicts
from export.provenance import commit
from model.progress import console

MARKS = {True: "passed", False: "refused", None: "no verdict"}
ASIDE = "not passed, set aside"

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
td, th {{ text-align: left; vertical-align: top; padding: .4rem 1rem .4rem 0; }}
tr {{ border-bottom: 1px solid #8888; }} table {{ border-collapse: collapse; }}
.refused {{ color: #a40000; font-weight: 600; }} .passed {{ color: #0a6b2d; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #ddd; }} }}
</style>
<h1>{title}</h1><p>{outcome}</p><table><tr><th>question<th>verdict<th>because</tr>{rows}</table>
<p>Commit {commit}.</p></html>
"""


def promote(
    new: Path,
    live: Path,
    decisions: Path | None = None,
    limits: Limits | None = None,
    go_live: bool = True,
    aside: Collection[str] = (),
    since: float = -math.inf,
) -> list[Verdict]:
    """Ask everything of a bundle, and make it the current version of its folder if nothing refuses it.

    Raises:
        BundleError: the live one cannot be served, or is the new one, or that lies in no model's folder.
        DataUnavailableError: of the new one's dataset.
        DecisionLogError: the log cannot be read.
    """
    found = []
    for verdict in verdicts(new, live, decisions, limits or Limits(), aside, since):
        console.print(f"{verdict.question}: {mark(verdict)}: {verdict.because}")
        found.append(verdict)
    if go_live and not refused(found):
        point(locate(new).parent, locate(new).name)
    return found


def mark(verdict: Verdict) -> str:
    return ASIDE if verdict.passed is False and verdict.aside else MARKS[verdict.passed]


def page(title: str, found: Sequence[Verdict]) -> str:
    """The report as one HTML file that loads nothing."""
    rows = ""
    for one in found:
        rows += f"<tr><td>{escape(one.question)}<td class='{mark(one)}'>{mark(one)}<td>{escape(one.because)}"
    return PAGE.format(
        title=escape(title), outcome=escape(outcome(found)), rows=rows, commit=escape(commit())
    )


def outcome(found: Sequence[Verdict]) -> str:
    return f"refused: {', '.join(refused(found))}" if refused(found) else "nothing speaks against it"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m export.promote", description=__doc__.split("\n\n")[0])
    parser.add_argument("new", type=Path, help="the bundle")
    parser.add_argument("--over", type=Path, required=True, help="the live bundle, or its model's folder")
    parser.add_argument("--decisions", type=Path, help="directory of the live model's decision log")
    parser.add_argument(
        "--since",
        type=unix_time,
        default=-math.inf,
        help="leave out decisions from before, such as NEW has learned from: ISO 8601 or unix time",
    )
    parser.add_argument("--check-only", action="store_true", help="leave the current version as it is")
    parser.add_argument(
        "--aside",
        nargs="+",
        choices=MAY_BE_ASIDE,
        default=(),
        metavar="QUESTION",
        help=f"asked, but decides nothing: {', '.join(MAY_BE_ASIDE)}",
    )
    parser.add_argument("--json", type=Path, help="also write the report here")
    parser.add_argument("--html", type=Path, help="also write the report here, as a page")
    for one in fields(Limits):
        parser.add_argument(
            f"--{one.name.replace('_', '-')}",
            type=type(one.default),
            default=one.default,
            help=f"{one.metadata['help']} ({one.default})",
        )
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    limits = Limits(**{one.name: getattr(given, one.name) for one in fields(Limits)})
    with faults_told():
        live, new = locate(given.over), locate(given.new)  # before the current version is another
        found = promote(new, live, given.decisions, limits, not given.check_only, given.aside, given.since)
        names = [f"{one.name} {one.version}" for one in map(read_manifest, (new, live))]
    title = f"{names[0]} over {names[1]}"
    table = Table(title=title)
    for column in ("question", "verdict"):
        table.add_column(column)
    for verdict in found:
        table.add_row(verdict.question, mark(verdict))
    console.print(table)
    console.print(outcome(found))
    report = {
        "new": names[0],
        "over": names[1],
        "commit": commit(),
        "verdicts": [asdict(one) for one in found],
    }
    with faults_told():
        for path, text in (
            (given.json, json.dumps(report, indent=1) + "\n"),
            (given.html, page(title, found)),
        ):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    return 1 if refused(found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
