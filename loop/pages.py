"""Results of the loop, and what docs/loop.md shows of them: `python -m loop.pages`.

A row is a round of an arm in a world. Legend: W worlds.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import t as student

from evidence import pages
from evidence.figures import BLUE, GREY, RED
from export.promotion import BY_LOG, HELD_OUT
from loop.config import ARMS, MAIN
from loop.place import IDENTITY, RECORD, VALUES
from loop.worth import Record
from model.metrics import paired_difference
from model.training.checkpoint import save_text

STORED = pages.ROOT / "docs/results/loop.json"
PAGES, FIGURE = ("docs/loop.md",), pages.ROOT / "docs/images/loop.png"
MISSING = "Not measured yet."
ANSWERS = {True: "yes", False: "no", None: "cannot be told"}
REFERENCES = ("random order", "initial order", "oracle")
COLOURS = dict(zip(ARMS, (RED, BLUE, GREY, "#55a868", "#8172b2"), strict=True))
APART = 0.05
"""Rounds between the arms of a figure, so that their intervals can be told apart."""

Kept = dict[str, Any]
"""`rows`, and `references`: the mean of each by world."""


def collect(runs: Path, target: Path = STORED) -> None:
    """Put all finished rounds into the stored results, in the place of those of the same arms and worlds."""
    rows, references = [], {}
    for path in sorted(runs.glob(f"world-*/*/round-*/{RECORD}")):
        row: Record = json.loads(path.read_text())
        arm = path.parents[1]
        identity = json.loads((arm / IDENTITY).read_text())
        main = arm.with_name(ARMS[MAIN].folder) / path.parent.name / VALUES
        if main.exists() and row["arm"] != MAIN:
            ahead = paired_difference([np.load(main) - np.load(path.with_name(VALUES))])
            row["main_ahead"] = [round(one, 4) for one in ahead]
        row |= {name: identity[name] for name in ("lists", "exploration_share", "exploration_temperature")}
        rows.append(row)
        with np.load(arm.with_name("references.npz")) as found:
            references[str(row["world"])] = {name: round(float(found[name].mean()), 4) for name in REFERENCES}
    fresh = {(row["world"], row["arm"]) for row in rows}
    kept = stored(target)
    others = [row for row in kept["rows"] if (row["world"], row["arm"]) not in fresh]
    order = list(ARMS)
    rows = sorted([*others, *rows], key=lambda row: (row["world"], order.index(row["arm"]), row["round"]))
    whole = {"references": {**kept["references"], **references}, "rows": rows}
    target.parent.mkdir(parents=True, exist_ok=True)
    save_text(target, json.dumps(whole, indent=1) + "\n")


def stored(target: Path = STORED) -> Kept:
    """Empty where there is nothing."""
    if not target.exists():
        return {"rows": [], "references": {}}
    found: Kept = json.loads(target.read_text())
    return found


def of(kept: Kept, arm: str, number: int | None = None) -> list[Record]:
    """The rows of an arm, or of its round `number`, one a world."""
    return [row for row in kept["rows"] if row["arm"] == arm and number in (None, row["round"])]


def over_worlds(rows: Iterable[Record], name: str) -> tuple[float, float, float]:
    """The mean of a value, with its 95 % interval: over the lists of one world, Student's over several."""
    found = [row[name] for row in rows]
    return tuple(found[0]) if len(found) == 1 else _students([one[0] for one in found])


def _students(worlds: list[float]) -> tuple[float, float, float]:
    """The mean and its 95 % interval. `[W]`, two at least."""
    means = np.array(worlds)
    half = student.ppf(0.975, len(means) - 1) * means.std(ddof=1) / len(means) ** 0.5
    return float(means.mean()), float(means.mean() - half), float(means.mean() + half)


def blocks(kept: Kept) -> dict[str, str]:
    if not of(kept, MAIN):
        names = ("loop-value", "loop-counts", "loop-rounds", "loop-judged", "loop-provenance")
        return dict.fromkeys(names, MISSING)
    return {
        "loop-value": _values(kept),
        "loop-counts": _counts(kept),
        "loop-rounds": _rounds(kept),
        "loop-judged": _judged(kept),
        "loop-provenance": _provenance(kept),
    }


def _values(kept: Kept) -> str:
    """A line an arm: by round, and how it ended."""
    last = max(row["round"] for row in kept["rows"])
    header = [
        "lists by",
        "worlds",
        "before",
        *(f"round {number}" for number in range(1, last + 1)),
        "share of what is possible",
        "gain [95 %]",
        f"{MAIN} minus it [95 %]",
    ]
    lines = []
    for arm in ARMS:
        numbers = sorted({row["round"] for row in of(kept, arm)})
        if not numbers:
            continue
        ended = of(kept, arm, numbers[-1])
        ahead = _told(*over_worlds(ended, "main_ahead")) if all("main_ahead" in row for row in ended) else ""
        values = [f"{over_worlds(of(kept, arm, number), 'value')[0]:.3f}" for number in numbers]
        lines.append(
            [
                arm,
                len(ended),
                *values,
                *[""] * (last + 1 - len(values)),
                f"{np.mean([row['share'] for row in ended]):.0%}",
                _told(*over_worlds(ended, "gain")),
                ahead,
            ]
        )
    for name, told in (("random order", "0%"), ("initial order", ""), ("oracle", "100%")):
        value = np.mean([world[name] for world in kept["references"].values()])
        lines.append([name, len(kept["references"]), f"{value:.3f}", *[""] * last, told, "", ""])
    return pages.table(header, lines)


def _rounds(kept: Kept) -> str:
    """A line a round of the main arm: means over worlds, and sums of what is counted."""
    header = [
        *(
            "round",
            "true value [95 %]",
            "gained in the round [95 %]",
            "evaluator's score minus it",
            "of the lists shown",
            "exploration cost",
        ),
        *("requests", "failed", "unanswered", "fallbacks", "while replaced", "failed or unanswered"),
        *("clicks accepted", "in the log", "lost", "doubled", "sent twice", "minutes"),
    ]
    lines = []
    for number in sorted({row["round"] for row in of(kept, MAIN)}):
        rows = of(kept, MAIN, number)
        value, low, high = over_worlds(rows, "value")
        line: list[object] = [number, f"{value:.3f} [{low:.3f}, {high:.3f}]", _gained(kept, number)]
        line.append(f"{np.mean([row['hacking_gap'] for row in rows]):+.3f}")
        if number:
            total = _totals(rows)
            line += [
                f"{np.mean([row['served'][name] for row in rows]):.3f}" for name in ("true_value", "regret")
            ]
            line += [total("requests", name) for name in ("sent", "failed", "unanswered", "fallbacks")]
            line += [
                total("promotion", "sent"),
                total("promotion", "failed") + total("promotion", "unanswered"),
            ]
            line += [total("requests", "accepted")]
            line += [total("feedback", name) for name in ("events", "lost", "doubled")]
            line += [total("requests", "repeated")]
        else:
            line += [""] * 13
        line.append(f"{np.mean([sum(row['seconds'].values()) for row in rows]) / 60:.1f}")
        lines.append(line)
    return pages.table(header, lines)


def _counts(kept: Kept) -> str:
    """What callers saw in the rounds of all served arms, as part of a sentence."""
    rows = [row for row in kept["rows"] if "requests" in row]
    total = _totals(rows)
    restarts = sum(row["served"].get("restarted", False) for row in rows)
    return (
        f"of {total('requests', 'accepted'):,} clicks in {len(rows)} rounds, {restarts} of them with a "
        f"restart of the service in their middle, {total('feedback', 'lost')} were lost and "
        f"{total('feedback', 'doubled')} doubled; {total('requests', 'failed')} requests failed, and of "
        f"{sum(row['lists'] for row in rows):,} lists {total('requests', 'fallbacks')} were fallbacks"
    )


def _gained(kept: Kept, number: int) -> str:
    """What the main arm gained in a round, over worlds."""
    if not number:
        return ""
    before = {row["world"]: row["value"][0] for row in of(kept, MAIN, number - 1)}
    found = [row["value"][0] - before[row["world"]] for row in of(kept, MAIN, number)]
    return _told(*_students(found)) if len(found) > 1 else f"{found[0]:+.3f}"


def _totals(rows: list[Record]) -> Callable[[str, str], int]:
    return lambda part, name: sum(row[part].get(name, 0) for row in rows)


def _judged(kept: Kept) -> str:
    """A line an arm: what the gate said of its new versions, beside the truth."""
    header = [
        "arm",
        "new versions",
        "truly better",
        "true value, new minus live",
        "by the log, new minus its lists",
        "of the true sign",
        "better, by labels",
        "better, by the log",
        "refused",
    ]
    lines = []
    for arm in ARMS:
        judged = [row for row in of(kept, arm) if "candidate" in row]
        if not judged:
            continue
        live = {(row["world"], row["round"]): row["value"][0] for row in of(kept, arm)}
        true = np.array([row["candidate"] - live[row["world"], row["round"] - 1] for row in judged])
        of_log = [
            row["off_policy"].get("new", {}).get("minus_log", {}).get("value", np.nan) for row in judged
        ]
        asked = [
            Counter(ANSWERS[row["verdicts"].get(question, (None,))[0]] for row in judged)
            for question in (HELD_OUT, BY_LOG)
        ]
        told = [", ".join(f"{answer} {count}" for answer, count in answers.items()) for answers in asked]
        refused = sum(bool(row["refused"]) for row in judged)
        signs = int((np.sign(of_log) == np.sign(true)).sum())
        means = [f"{true.mean():+.3f}", f"{np.nanmean(of_log):+.3f}"]
        lines.append([arm, len(judged), int((true > 0).sum()), *means, signs, *told, refused])
    return pages.table(header, lines)


def _provenance(kept: Kept) -> str:
    rows = kept["rows"]
    worlds = sorted({row["world"] for row in rows})
    lists = sorted({row["lists"] for row in rows})
    shares = sorted({(row["exploration_share"], row["exploration_temperature"]) for row in rows})
    machines, made = (sorted({row[name] for row in rows}) for name in ("hardware", "commit"))
    made_on = f"{', '.join(machines)}; commit{'s' * (len(made) > 1)} {', '.join(made)}"
    judged = sorted({row["lists_judged"] for row in rows})
    explored = ", ".join(
        f"{share:.0%} of the lists sampled at {temperature:g}" for share, temperature in shares
    )
    return (
        f"World{'s' * (len(worlds) > 1)} {', '.join(map(str, worlds))}; "
        f"rounds of {', '.join(f'{one:,}' for one in lists)} lists, "
        f"{explored}; {', '.join(f'{one:,}' for one in judged)} held-out lists a world. {made_on}."
    )


def _told(mean: float, low: float, high: float) -> str:
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def draw(kept: Kept, path: Path) -> None:
    """Left the true value by round of arms that have all worlds, and what the main arm's evaluators say;
    right what every arm has gained in the worlds that it has."""
    figure, (values, gains) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    last = max(row["round"] for row in kept["rows"])
    for place, (arm, colour) in enumerate(COLOURS.items()):
        numbers = sorted({row["round"] for row in of(kept, arm)})
        if not numbers:
            continue
        width = 2.5 if arm == MAIN else 1.5
        worlds = len(of(kept, arm, 0))
        if worlds == len(of(kept, MAIN, 0)):
            means = [over_worlds(of(kept, arm, number), "value")[0] for number in numbers]
            values.plot(numbers, means, "o-", color=colour, label=arm, lw=width)
        gained = np.array([over_worlds(of(kept, arm, number), "gain") for number in numbers])  # [rounds, 3]
        below, above = gained[:, 0] - gained[:, 1], gained[:, 2] - gained[:, 0]
        name = f"{arm}, {worlds} world{'s' * (worlds > 1)}"
        beside = [number + APART * (place - len(ARMS) // 2) for number in numbers]
        gains.errorbar(
            beside, gained[:, 0], (below, above), fmt="o-", capsize=3, color=colour, label=name, lw=width
        )
    numbers = sorted({row["round"] for row in of(kept, MAIN)})
    said = [np.mean([row["evaluator_score"] for row in of(kept, MAIN, number)]) for number in numbers]
    values.plot(numbers, said, ":", color=COLOURS[MAIN], label=f"what the evaluators of {MAIN} say")
    for name in REFERENCES[1:]:
        value = np.mean([world[name] for world in kept["references"].values()])
        values.axhline(value, color="black", lw=0.8, ls="--")
        values.annotate(
            f"{name} {value:.2f}", (last, value), (0, 3), textcoords="offset points", ha="right", fontsize=8
        )
    values.set(ylabel="true value, expected clicks a list")
    gains.axhline(0, color="black", lw=0.8)
    gains.set(ylabel="gained since before the loop, 95 %")
    for axes in (values, gains):
        axes.set(xlabel="round", xticks=range(last + 1))
        axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def write_pages() -> None:
    kept = stored()
    pages.write(PAGES, blocks(kept))
    if of(kept, MAIN):
        draw(kept, FIGURE)


if __name__ == "__main__":
    write_pages()
