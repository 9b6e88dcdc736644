"""docs/capacity.md and its picture, from what `bench.capacity` has stored."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from bench.machine import ROOT, kept
from evidence import pages
from loadtest import capacity

Row = dict[str, Any]

PAGES = ("docs/capacity.md",)
PICTURE = ROOT / "docs/images/capacity.png"
NEAR = 0.15


def write() -> None:
    pages.write(PAGES, blocks())
    if (results := kept("capacity")) is not None:
        draw(results, PICTURE)


def off(row: Row, name: str) -> float:
    """By how much the simulation is off, relative."""
    return float(row[f"simulated_{name}"] / row[name] - 1)


def compared_table(results: Row) -> str:
    header = (
        "requests/s",
        "of saturation",
        "deadline ms",
        "answered",
        "simulated",
        "p50 ms",
        "simulated",
        "off",
    )
    lines = [
        (
            f"{row['offered_per_second']:.0f}",
            f"{100 * row['fraction']:.0f} %",
            f"{row['deadline_ms']:g}",
            f"{100 * row['answered']:.1f} %",
            f"{100 * row['simulated_answered']:.1f} %",
            *(
                text
                for name in ("p50_ms", "p99_ms")
                for text in (
                    f"{row[name]:.2f}",
                    f"{row[f'simulated_{name}']:.2f}",
                    f"{100 * off(row, name):+.0f} %"
                    if abs(off(row, name)) <= NEAR
                    else f"**{100 * off(row, name):+.0f} %**",
                )
            ),
        )
        for row in results["compared"]
    ]
    return pages.table((*header, "p99 ms", "simulated", "off"), lines)


def alone_told(results: Row) -> str:
    """How far the open loops had the machine to themselves."""
    rounds = [found for row in results["compared"] for found in row["kept_from"]]
    disturbed = sum(not found["alone"] for found in rounds)
    late, waited, stolen = (
        max(found[name] for found in rounds) for name in ("late_p99_ms", "worker_waited", "worker_stolen")
    )
    return (
        f"Rounds that were disturbed: {disturbed} of {len(rounds)}. At most, the client sent one in "
        f"a hundred {late:.2f} ms late, and the worker waited {100 * waited:.1f} % of the time for other "
        f"processes and {100 * stolen:.1f} % for the host."
    )


def blocks() -> dict[str, str]:
    """Of docs/capacity.md, from what is stored."""
    results = kept("capacity")
    if results is None:
        return dict.fromkeys(("plan", "plan-hour", "sizes", "once", "compared"), "Not measured yet.")
    sizes = [
        (
            *(cell[name] for name in capacity.CELL),
            f"{cell['alone_us']:.0f}",
            f"{cell['request_us']:.0f}",
            f"{cell['per_second']:.0f}",
            "none" if rate is None else f"{rate:.0f}",
            cell["body_bytes"],
        )
        for cell, rate in zip(results["cells"], results["worker_rates"], strict=True)
    ]
    near = [
        row for row in results["compared"] if max(abs(off(row, "p50_ms")), abs(off(row, "p99_ms"))) <= NEAR
    ]
    told = (
        f"{len(near)} of {len(results['compared'])} rates are within {100 * NEAR:.0f} % at both quantiles. "
        f"{alone_told(results)} {results['hardware']}; commit {results['commit']}."
    )
    bytes_ = results["redis_bytes"]
    once = pages.table(
        ("measured once", "value"),
        [
            *(
                (f"a round of the event loop with a batch of {size:.1f}, µs", f"{of:.0f}")
                for size, of in results["rounds_us"]
            ),
            ("before it waits, µs", f"{results['rest_us']:.0f}"),
            ("a request's own time on it, µs", f"{results['request_us']:.0f}"),
            ("inference of a list alone, µs", f"{results['alone_us']:.0f}"),
            ("what one more adds to a batch, over that", f"{results['marginal']:.2f}"),
            *(
                (f"more after a pause of {pause} ms, µs, the median", f"{sample[len(sample) // 2]:.0f}")
                for pause, sample in results["wakes_us"].items()
            ),
            ("outside the worker, less its work after an answer, µs", f"{results['wire_us']:.0f}"),
            ("resident memory of a worker, MiB", f"{results['worker_mib']:.0f}"),
            ("CPU of HAProxy for a rerank, µs", f"{results['proxy_cpu_us']:.0f}"),
            ("CPU of Redis for a rerank, µs", f"{results['redis_cpu_us']:.0f}"),
            ("bytes in Redis of a user with 20 events", f"{bytes_['context']['20']:.0f}"),
            ("bytes of a list of 50 that waits for feedback", f"{bytes_['recommendation']['50']:.0f}"),
        ],
    )
    return {
        "plan": pages.table(capacity.HEADER, results["plan"]),
        "plan-hour": pages.table(capacity.HEADER, results["plan_hour"]),
        "sizes": pages.table(
            (*capacity.CELL, "inference µs", "request µs", "most/s", "planned/s", "bytes sent"), sizes
        )
        + f"\n\nTimes are fitted to within {100 * results['worst_fit']:.0f} % of these.",
        "compared": compared_table(results) + "\n\n" + told,
        "once": once,
    }


def draw(results: Row, path: Path) -> None:
    """The latencies of both against the rate."""
    rows = [row for row in results["compared"] if row["deadline_ms"] > results["tight_ms"]]
    rates = [row["offered_per_second"] for row in rows]
    figure, axes = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    for name, color in (("p50_ms", "C0"), ("p99_ms", "C1")):
        each = [row[f"rounds_{name}"] for row in rows]
        axes.fill_between(rates, [min(of) for of in each], [max(of) for of in each], color=color, alpha=0.2)
        axes.plot(rates, [row[name] for row in rows], "o", color=color, label=f"{name[:3]}, real")
        axes.plot(
            rates,
            [row[f"simulated_{name}"] for row in rows],
            "-",
            color=color,
            label=f"{name[:3]}, simulated",
        )
    axes.axvline(results["saturation_per_second"], color="grey", linestyle=":", label="closed loop's most")
    axes.set(xlabel="offered requests/s, Poisson", ylabel="ms since due", yscale="log")
    axes.set_title("One worker: real (range of the rounds) and simulated")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
