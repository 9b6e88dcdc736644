"""Stored results as Markdown: the blocks of docs/performance.md, and those on speed on other pages."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.marks import COMMANDS, CONNECTIONS, PEER_NAMES, Results, marks
from bench.peers.rates import RACES, best_rates
from evidence.pages import table

Row = Mapping[str, Any]

VARIANTS = {
    "graph": "contexts in the process, slate graph",
    "redis": "contexts in Redis",
    "memory": "contexts in the process",
}

ENGINES = {"native": "our compiled decoding", "graph": "ONNX Runtime"}
"""What the peers run the model with."""


def number(value: float | None, digits: int = 1) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.{digits}f}"


def marks_table(results: Mapping[str, Results]) -> str:
    made = marks(results)
    rows = [
        (
            mark["name"],
            number(mark["value"], 2),
            f"{mark['bound']} {mark['mark']:g}",
            "yes" if mark["holds"] else "**no**",
            f"`{mark['command']}`",
        )
        for mark in made
    ]
    held = sum(mark["holds"] for mark in made)
    return f"{held} of {len(made)} hold.\n\n" + table(("what", "measured", "mark", "holds", "command"), rows)


def engine_table(engine: Results) -> str:
    rows: Sequence[Row] = engine["rows"]
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    cases: dict[tuple[int, int, int], dict[str, Row]] = {}
    for row in rows:
        cases.setdefault((row["candidates"], row["s_max"], row["batch"]), {})[row["variant"]] = row
    lines = []
    for (n, s_max, batch), found in sorted(cases.items()):
        first = next(iter(found.values()))
        times = [
            f"{found[v]['us_per_request']:.0f} ({found[v]['times_floor']:.1f})" if v in found else "-"
            for v in variants
        ]
        lines.append((n, s_max, batch, f"{first['micro_steps']:.1f}", f"{first['floor_us']:.0f}", *times))
    return table(("N", "S_max", "B", "micro-steps", "floor", *variants), lines)


def padding_table(engine: Results) -> str:
    us = {(row["variant"], row["batches"]): row["us_per_request"] for row in engine["padding"]}
    variants, batches = (list(dict.fromkeys(names)) for names in zip(*us, strict=True))
    lines = [(order, *(f"{us[variant, order]:.0f}" for variant in variants)) for order in batches]
    return table(("batches", *variants), lines)


def closed_table(serving: Results) -> str:
    rows: Sequence[Row] = serving["closed"]
    lines = [
        (
            f"{row['kind']}, {VARIANTS[row['variant']]}",
            row["connections"],
            f"{row['per_second']:.0f}",
            number(row["p50_ms"], 2),
            number(row["p99_ms"], 2),
            f"{row['server_cpu_us']:.0f}",
            row["failed"],
        )
        for row in sorted(
            rows,
            key=lambda row: (row["kind"] != "ids", -list(VARIANTS).index(row["variant"]), row["connections"]),
        )
    ]
    head = ("payload", "c", "requests/s", "p50 ms", "p99 ms", "server CPU µs a request", "failed")
    return table(head, lines)


def open_table(serving: Results) -> str:
    lines = [
        (
            f"{100 * row['fraction']:.0f} %",
            f"{row['offered_per_second']:.0f}",
            f"{row['per_second']:.0f}",
            number(row["p50_ms"], 2),
            number(row["p90_ms"], 2),
            number(row["p99_ms"], 2),
            f"{row['p99_ms'] / row['p50_ms']:.1f}",
            row["failed"],
        )
        for row in serving["open"]
    ]
    head = ("of saturation", "offered/s", "answered/s", "p50 ms", "p90 ms", "p99 ms", "p99/p50", "failed")
    return table(head, lines)


def overload_table(overload: Results) -> str:
    at_20 = [
        (
            row["connections"],
            f"{row['per_second']:.0f}",
            f"{row['in_time_per_second']:.0f}",
            *_latencies(row),
            row["requests"],
            row["failed"],
        )
        for row in overload["goodput"]
    ]
    others = [
        (case, f"{row['per_second']:.0f}", *_latencies(row), row["requests"], row["failed"])
        for case, row in (
            ("8 connections alone", overload["greedy"][0]),
            ("beside a client with 17 huge requests always under way", overload["greedy"][1]),
            ("beside 17 huge requests that come once", overload["burst"][0]),
            ("these 17", overload["burst"][1]),
            ("open loop at 70 % of saturation, a stall of 50 ms every second", overload["stall"]),
        )
    ]
    times = ("p50 ms", "p99 ms", "requests", "failed")
    head = ("c, deadlines of 20 ms", "answers a second", "within 20 ms, by the client", *times)
    return table(head, at_20) + "\n\n" + table(("deadlines of 1 s", "answers a second", *times), others)


def _latencies(row: Row) -> tuple[str, str]:
    return number(row["p50_ms"], 2), number(row["p99_ms"], 2)


def stages_table(stages: Results) -> str:
    names = list(dict.fromkeys(name for row in stages["rows"] for name in row["stages_us"]))
    lines = [
        (
            row["case"],
            row["connections"],
            f"{row['other_cpu_us']:.0f}",
            f"{row['engine_cpu_us']:.0f}",
            row["failed"],
            *(f"{row['stages_us'][name]:.0f}" if name in row["stages_us"] else "-" for name in names),
        )
        for row in stages["rows"]
    ]
    return table(("request", "c", "CPU without inference", "CPU of inference", "failed", *names), lines)


def peers_table(peers: Results) -> str:
    lines: list[Sequence[str]] = []
    for decoding in RACES:
        rates = best_rates(peers["rows"], decoding)
        ours = rates.pop("ours")
        failed = Counter[str]()
        for row in peers["rows"]:
            failed[row["server"]] += row["failed"] if row["decoding"] == decoding else 0
        name = f"this service, while peers run {ENGINES[decoding]}"
        lines.append((name, *(f"{ours[c]:.0f}" for c in sorted(ours)), str(failed["ours"])))
        for server, of_server in rates.items():
            name = f"{PEER_NAMES[server]} {peers['peers'][server]['version']}, {ENGINES[decoding]}"
            cells = (f"{of_server[c]:.0f} ({ours[c] / of_server[c]:.1f} x)" for c in sorted(ours))
            lines.append((name, *cells, str(failed[server])))
    tuning = [f"- {PEER_NAMES[name]}: {about['tuning']}" for name, about in peers["peers"].items()]
    head = ("requests/s", *(f"c = {c}" for c in CONNECTIONS), "failed, all rounds")
    return table(head, lines) + "\n\n" + "\n".join(tuning)


def memory_table(memory: Results) -> str:
    served, swaps = memory["requests"], memory["swaps"]
    runs = [
        (f"{served['requests']:,} requests of 5 to 500 candidates", served),
        (f"{swaps['swaps']} bundle swaps, reranks under way", swaps),
    ]
    head = ("", "after warm-up, MiB", "highest, MiB", "growth")
    lines = [
        (name, run["after_warm_up_mib"], run["highest_mib"], f"{100 * run['growth']:.1f} %")
        for name, run in runs
    ]
    head_of_allocators = ("ONNX Runtime's allocator", "highest, MiB", "growth", "µs a request")
    allocators = [
        (row["allocator"], row["highest_mib"], f"{100 * row['growth']:.1f} %", f"{row['us_per_request']:.0f}")
        for row in memory["allocators"]
    ]
    return table(head, lines) + "\n\n" + table(head_of_allocators, allocators)


def rates_table(peers: Results) -> str:
    """Only requests a second, for the README. Our own are from the race in which all run the same code."""
    native, graph = (best_rates(peers["rows"], decoding) for decoding in ("native", "graph"))
    lines = [("**this service**", native["ours"])]
    for decoding, rates in (("native", native), ("graph", graph)):
        lines += [(f"{PEER_NAMES[name]} with {ENGINES[decoding]}", rates[name]) for name in PEER_NAMES]
    head = ("requests a second", *(f"{c} connections" if c > 1 else "1 connection" for c in CONNECTIONS))
    return table(head, [(name, *(f"{rates[c]:,.0f}" for c in CONNECTIONS)) for name, rates in lines])


def alone(serving: Results) -> str:
    """Median milliseconds of a request that has the service to itself."""
    case = ("ids", "memory", 1)
    found = (row for row in serving["closed"] if (row["kind"], row["variant"], row["connections"]) == case)
    return number(next(found)["p50_ms"])


def tracing_table(tracing: Results) -> str:
    cpu: Mapping[str, float] = tracing["cpu_us_a_request"]
    rows = [
        (name, number(cpu[key], 0), f"{cpu[key] / cpu['off'] - 1:+.0%}" if key != "off" else "")
        for key, name in (("off", "none"), ("a_tenth", "a tenth"), ("all", "all"))
    ]
    return table(("requests traced", "CPU µs a request", "cost"), rows)


def bulk_table(bulk: Results) -> str:
    rows = (
        (
            row["candidates"],
            row["engine_per_core_second"],
            row["bulk_per_core_second"],
            f"{row['share_of_engine']:.0%}",
        )
        for row in bulk["rows"]
    )
    return table(("N", "engine alone", "bulk", "share"), rows)


def logs_table(logs: Results) -> str:
    steps = ("read", "check", "fit", "batches")
    rows = (
        (
            f"{row['lists']:,}",
            row["format"],
            f"{row['peak_gib']:.2f}",
            *(f"{row['seconds'][step]:.1f}" for step in steps),
        )
        for row in logs["rows"]
    )
    return table(("lists", "as", "most memory, GiB", *(f"{step}, s" for step in steps)), rows)


def constraints_table(constraints: Results) -> str:
    rows = [
        (name, f"{row['us_per_request']:.0f}", f"{row['times']:.2f}", f"{row['planning_us']:.0f}")
        for name, row in constraints["rows"].items()
    ]
    return table(("asked of the list", "µs a list", "times none", "µs to plan"), rows)


def before_table(before: Results) -> str:
    rows = [
        (
            row["connections"],
            f"{row['before_per_second']:.0f}",
            f"{row['per_second']:.0f}",
            f"{row['ratio']:.2f} ({row['ratio_quartiles'][0]:.2f} to {row['ratio_quartiles'][1]:.2f})",
            row["failed"],
        )
        for row in before["rows"]
    ]
    return table(("c", f"{before['against']}, requests/s", "now", "ratio, its quartiles", "failed"), rows)


def decisions_table(decisions: Results) -> str:
    rates = [
        (
            row["connections"],
            f"{row['off_per_second']:.0f}",
            f"{row['per_second']:.0f}",
            f"{row['ratio']:.3f} ({row['ratio_quartiles'][0]:.3f} to {row['ratio_quartiles'][1]:.3f})",
            f"{row['off_cpu_us']} and {row['cpu_us']}",
            row["failed"],
        )
        for row in decisions["rows"]
    ]
    sizes = [
        (row["kind"], *(f"{row[name]:,}" for name in ("body", "line", "packed")))
        for row in decisions["sizes"]
    ]
    return "\n\n".join(
        (
            table(
                ("c", "without, requests/s", "with", "ratio, its quartiles", "µs of CPU, both", "failed"),
                rates,
            ),
            table(("sent", "bytes of a body", "of a line", "packed"), sizes),
        )
    )


def training_table(found: Results) -> str:
    """Training in one process and in two: seconds of the clock, and of a process's processor."""
    one, two = (
        {**of, "all of it": [sum(column) for column in zip(*of.values(), strict=True)]}
        for of in found["spent"].values()
    )
    header = ("", "1 process, s", "2 processes, s", "times as fast", "CPU s of 1", "CPU s of each of 2")
    rows = [
        (part, f"{wall:.1f}", f"{wall_of_2:.1f}", f"{wall / wall_of_2:.2f}", f"{cpu:.1f}", f"{cpu_of_2:.1f}")
        for part, (wall, cpu) in one.items()
        for wall_of_2, cpu_of_2 in [two[part]]
    ]
    return table(header, rows)


BLOCKS: dict[str, tuple[str, Callable[[Results], str]]] = {
    "engine": ("engine", engine_table),
    "padding": ("engine", padding_table),
    "constraints": ("constraints", constraints_table),
    "closed": ("serving", closed_table),
    "open": ("serving", open_table),
    "before": ("before", before_table),
    "decisions": ("decisions", decisions_table),
    "overload": ("overload", overload_table),
    "stages": ("stages", stages_table),
    "peers": ("peers", peers_table),
    "rates": ("peers", rates_table),
    "memory": ("memory", memory_table),
    "tracing": ("tracing", tracing_table),
    "training": ("training", training_table),
    "bulk": ("bulk", bulk_table),
    "logs": ("logs", logs_table),
}
"""Block -> the results it is made of, and how."""


def blocks(results: Mapping[str, Results]) -> dict[str, str]:
    """Every block's Markdown, with what it was measured on."""
    made = {"marks": marks_table(results)}
    for name, (source, make) in BLOCKS.items():
        if source not in results:
            made[name] = f"Not measured yet: `{COMMANDS[source]}`."
            continue
        found = results[source]
        at = ", ".join(f"{package} {version}" for package, version in found["versions"].items())
        made[name] = f"{make(found)}\n\n{found['hardware']}; {at}; commit {found['commit']}."
    made["alone"] = alone(results["serving"]) if "serving" in results else number(None)
    return made
