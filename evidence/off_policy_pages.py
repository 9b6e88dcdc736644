"""Tables and figure of docs/off-policy.md, from stored results: `python -m evidence.off_policy_pages`.

Legend: a case is one policy judged by one log.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr

from evidence import pages
from evidence.judging import DM, ENOUGH, NAMES, RIPS, SHRUNK
from evidence.results import RESULTS

STORED, COVERAGE = "off_policy.json", "off_policy_coverage.json"
PAGES, FIGURE = ("docs/off-policy.md",), "docs/images/off-policy.png"
SAME = 1e-9
"""Values that differ by less are of one policy."""
Case = dict[str, Any]
Kept = dict[str, Any]
"""`rows` are cases, `truth` the value and its standard error by policy and length."""


def summary(cases: Sequence[Case], truth: dict[str, Any], name: str) -> list[str]:
    """One estimator's row: how it ranks policies, how far off it is, how often its interval holds the truth,
    of all cases and of those with enough effective lists."""
    ranks = []
    for key in sorted({(case["log"], case["logging"], case["length"]) for case in cases}):
        own = [case for case in cases if (case["log"], case["logging"], case["length"]) == key]
        said = [case["estimates"][name]["value"] for case in own]
        true = [true_value(case, truth) for case in own]
        known = np.isfinite(said)
        ranks.append(spearmanr(np.array(said)[known], np.array(true)[known]).statistic)
    enough = [case for case in cases if effective(case, name) > ENOUGH]
    return [
        f"{NAMES[name]} ({name})",
        f"{np.mean(ranks):.3f}",
        *_errors(cases, truth, name),
        str(len(enough)),
        *_errors(enough, truth, name),
    ]


def effective(case: Case, name: str) -> float:
    """Effective lists that an estimate stands on; of the direct method those of the cascade's weights, to be
    compared with it there."""
    return float(case["estimates"][RIPS if name == DM else name]["effective"])


def true_value(case: Case, truth: dict[str, Any]) -> float:
    return float(truth[case["policy"]][str(case["length"])][0])


def _errors(cases: Sequence[Case], truth: dict[str, Any], name: str) -> tuple[str, str, str]:
    """Root mean squared error, mean error, and share of intervals that hold the truth."""
    if not cases:
        return "", "", ""
    found = [case["estimates"][name] for case in cases]
    true = np.array([true_value(case, truth) for case in cases])
    said, low, high = (np.array([one[key] for one in found]) for key in ("value", "low", "high"))
    off = (said - true)[np.isfinite(said)]
    held = np.mean((low <= true) & (true <= high))
    return f"{np.sqrt(np.mean(off**2)):.3f}", f"{off.mean():+.3f}", f"{held:.0%}"


def differences(cases: Sequence[Case], truth: dict[str, Any]) -> list[list[str]]:
    """By estimator, how often intervals of a policy's value minus that of the log's lists hold the truth: of
    cases with enough effective lists, and of policies that are not the log's own."""
    rows = []
    for name in NAMES:
        found = [
            (case["estimates"][name]["minus_logged"], true_value(case, truth) - _logging_value(case, truth))
            for case in cases
            if effective(case, name) > ENOUGH
        ]
        rows.append([f"{NAMES[name]} ({name})", *_covered(found)])
    return rows


def coverage(cases: Sequence[Case], truth: dict[str, Any]) -> list[list[str]]:
    """By the gate's estimator, of policies near the logging one: values, and values minus those of the log's
    lists, of the logging policy judged in the same way, and of one another."""
    enough = [case for case in cases if effective(case, SHRUNK) > ENOUGH]
    own = [(case["estimates"][SHRUNK], true_value(case, truth)) for case in enough]
    of_log = [
        (said["minus_logged"], true - _logging_value(case, truth))
        for (said, true), case in zip(own, enough, strict=True)
    ]
    pairs = []
    for case in enough:
        for other, said in case["minus"].items():
            true = true_value(case, truth) - true_value({**case, "policy": other}, truth)
            pairs.append((other == case["logging"], said, true))
    kinds = {
        "value": own,
        "minus the log's lists": of_log,
        "minus the logging policy": [(said, true) for live, said, true in pairs if live],
        "minus another policy": [(said, true) for live, said, true in pairs if not live],
    }
    return [[name, *_covered(found)] for name, found in kinds.items()]


def _logging_value(case: Case, truth: dict[str, Any]) -> float:
    return true_value({**case, "policy": case["logging"]}, truth)


def _covered(found: Sequence[tuple[dict[str, float], float]]) -> list[str]:
    """Cases, error, half the width of intervals, how many hold the truth, and how many are established with
    the wrong sign. A policy minus itself is left out."""
    found = [(said, true) for said, true in found if abs(true) > SAME]
    if not found:
        return ["0", *[""] * 4]
    true = np.array([true for _, true in found])
    value, low, high = (np.array([said[key] for said, _ in found]) for key in ("value", "low", "high"))
    return [
        str(len(found)),
        f"{np.sqrt(np.mean((value - true) ** 2)):.3f}",
        f"{np.mean(high - low) / 2:.3f}",
        f"{np.mean((low <= true) & (true <= high)):.0%}",
        f"{np.mean((low > 0) & (true < 0) | (high < 0) & (true > 0)):.1%}",
    ]


HEADER = (
    *("estimator", "rank correlation", "RMSE", "mean error", "covers"),
    *(f"cases of more than {ENOUGH} effective lists", "RMSE", "mean error", "covers"),
)

COVERED = ("cases", "RMSE", "half the width", "covers", "wrong sign established")
DIFFERENCES = ("value minus that of the log's lists", *COVERED)


def blocks(kept: Kept) -> dict[str, str]:
    rows, truth = kept["rows"], kept["truth"]
    made = {}
    for length in sorted({case["length"] for case in rows}):
        own = [case for case in rows if case["length"] == length]
        made[f"off-policy-{length}"] = pages.table(HEADER, [summary(own, truth, name) for name in NAMES])
        made[f"off-policy-differences-{length}"] = pages.table(DIFFERENCES, differences(own, truth))
    by_logging = []
    for logging in dict.fromkeys(case["logging"] for case in rows):
        for length in sorted({case["length"] for case in rows}):
            own = [case for case in rows if (case["logging"], case["length"]) == (logging, length)]
            ranks = [summary(own, truth, name)[1] for name in NAMES]
            often = sum(effective(case, RIPS) > ENOUGH for case in own)
            by_logging.append([logging, length, f"{often} of {len(own)}", *ranks])
    header = ("lists of the log", "length", f"more than {ENOUGH} effective lists", *NAMES)
    made["off-policy-logging"] = pages.table(header, by_logging)
    return made


def coverage_blocks(kept: Kept) -> dict[str, str]:
    rows, made = kept["rows"], []
    for length in sorted({case["length"] for case in rows}):
        own = [case for case in rows if case["length"] == length]
        logs = len({case["log"] for case in own})
        made += [[length, logs, *row] for row in coverage(own, kept["truth"])]
    return {"off-policy-coverage": pages.table(("length", "logs", "interval of", *COVERED), made)}


def draw(kept: Kept, path: Path) -> None:
    """Every case: what each estimator says beside the truth, coloured by effective lists."""
    rows, truth = kept["rows"], kept["truth"]
    lengths = sorted({case["length"] for case in rows})
    figure, panels = plt.subplots(
        len(lengths), len(NAMES), figsize=(3.0 * len(NAMES), 3.1 * len(lengths)), layout="constrained"
    )
    for line, length in zip(panels, lengths, strict=True):
        own = [case for case in rows if case["length"] == length]
        true = np.array([true_value(case, truth) for case in own])
        span = np.array([true.min() - 0.2, true.max() + 0.2])
        for axes, name in zip(line, NAMES, strict=True):
            said = np.array([case["estimates"][name]["value"] for case in own])
            worth = np.log10([max(effective(case, name), 1.0) for case in own])
            dots = axes.scatter(true, said, c=worth, cmap="viridis", vmin=0, vmax=3.6, s=12)
            axes.plot(span, span, color="black", lw=0.8)
            axes.set(xlim=span, ylim=(span[0] - 0.5, span[1] + 0.5))
            axes.set_title(f"{name}, lists of {length}", fontsize=10)
            axes.set_xlabel("true value")
        line[0].set_ylabel("estimate")
    bar = figure.colorbar(dots, ax=panels, label="effective lists", ticks=[0, 1, 2, 3])
    bar.ax.set_yticklabels(["1", "10", "100", "1,000"])
    figure.savefig(path, dpi=120)
    plt.close(figure)


def stored(name: str = STORED) -> Kept:
    kept: Kept = json.loads((pages.ROOT / RESULTS / name).read_text())
    return kept


def every_block() -> dict[str, str]:
    return blocks(stored()) | coverage_blocks(stored(COVERAGE))


def write_pages() -> None:
    pages.write(PAGES, every_block())
    draw(stored(), pages.ROOT / FIGURE)


if __name__ == "__main__":
    write_pages()
