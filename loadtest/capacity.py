"""What to buy: `python -m loadtest.capacity`, a table; `--rate` and `--users` for one line of it.

From times, memory and bytes that `python -m bench.capacity` has measured on a machine like those that will
serve: workers by a simulation of one (`loadtest.simulation`) that keeps the 99th percentile within an
objective, and what they need beside them. Past the measured sizes it refuses to guess.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.simulation import Rules, Times, rate_within

MEASURED = Path(__file__).parents[1] / "bench/results/capacity.json"
RATES, USERS = (1e3, 1e5, 1e6), (1e6, 1e7, 1e8, 1e9)
GIB = 2**30
CELL = "items", "top_n", "tokens"

REPLICAS = 2
"""Of everything in Redis: a master's and its replica's."""
ROOM = 1.5
"""Memory over data: fragmentation, buffers of replicas, and room to grow until a node is added."""
REDIS_BUSY = 0.5
"""Of a node's one thread, so that a node that fails over is not overrun."""


@dataclass(frozen=True)
class Demand:
    """What is asked for.

    Attributes:
        rate: requests a second, at the busiest.
        users: whose context is kept.
        items, top_n, tokens: of a list: its candidates, its length, its reasoning tokens a position.
        events: of a user's history, on average.
        ttl_s: how long feedback on a list is accepted.
        p99_ms: the objective.
    """

    rate: float
    users: float
    items: int = 50
    top_n: int = 10
    tokens: int = 0
    events: int = 20
    ttl_s: float = 86_400.0
    p99_ms: float = 50.0

    def __post_init__(self) -> None:
        """Raises: ValueError: what cannot be; the message names it."""
        for name, least in {
            **{"rate": 1, "users": 1, "items": 1, "top_n": 1, "tokens": 0, "events": 0},
            **{"ttl_s": 1, "p99_ms": 1},
        }.items():
            value = getattr(self, name)
            if not (isfinite(value) and value >= least):
                raise ValueError(f"{name}: expected at least {least}, got {value:g}")
        if self.rate > 1e9 or self.users > 1e11:
            raise ValueError("rate, users: expected at most 1e9 and 1e11: nobody has more")
        if self.top_n > self.items:
            raise ValueError(f"top_n: expected at most items, {self.items}, got {self.top_n}")


@dataclass(frozen=True)
class Site:
    """Machines as they are bought, and how full they may be.

    Attributes:
        cores: of a machine; one of them is left to the system and the proxy.
        headroom: share of what a worker could do that is kept for the unforeseen.
        zones: that machines are spread over, of which one may be lost.
        redis_gib: memory of a node of Redis.
    """

    cores: int = 16
    headroom: float = 0.3
    zones: int = 3
    redis_gib: float = 64.0

    def __post_init__(self) -> None:
        """Raises: ValueError: what cannot be; the message names it."""
        if not self.cores >= 2:
            raise ValueError(f"cores: expected at least 2, got {self.cores}")
        if not 0 <= self.headroom < 1:
            raise ValueError(f"headroom: expected 0 to below 1, got {self.headroom:g}")
        if not self.zones >= 2:
            raise ValueError(f"zones: expected at least 2, got {self.zones}: one may be lost")
        if not (isfinite(self.redis_gib) and self.redis_gib > 0):
            raise ValueError(f"redis_gib: expected more than 0, got {self.redis_gib:g}")


@dataclass(frozen=True)
class Plan:
    """What it takes. Machines and nodes are those that survive the loss of a zone, or of a master each."""

    worker_rate: float
    workers: int
    machines: int
    machine_gib: float
    proxy_cores: int
    redis_users_gib: float
    redis_lists_gib: float
    redis_nodes: int


class Measured:
    """What `python -m bench.capacity` has written.

    Attributes:
        worst_fit: largest error of the fitted times, relative, over the lists that were measured.
    """

    def __init__(self, results: dict[str, Any]) -> None:
        self._results = results
        cells = results["cells"]
        self._most = {name: max(cell[name] for cell in cells) for name in CELL}
        self._fitted: dict[str, NDArray[np.float64]] = {}
        errors = []
        for name in ("alone_us", "request_us"):
            terms = np.array([_terms(*(cell[axis] for axis in CELL)) for cell in cells])
            times = np.array([cell[name] for cell in cells])
            self._fitted[name] = _fit(terms, times)
            errors.append(float(np.max(np.abs(terms @ self._fitted[name] / times - 1))))
        self.worst_fit = max(errors)

    @classmethod
    def read(cls, path: Path) -> "Measured":
        """Raises: ValueError: no such file, or another kind of file."""
        try:
            return cls(json.loads(path.read_text()))
        except FileNotFoundError:
            raise ValueError(f"measured: {path} is not there: `python -m bench.capacity` writes it") from None
        except OSError as error:
            raise ValueError(f"measured: {path}: {error.strerror}") from None
        except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"measured: {path} is not what bench.capacity writes: {error!r}") from None

    def times(self, demand: Demand) -> Times:
        """Raises: ValueError: longer lists than were measured."""
        for name in CELL:
            if getattr(demand, name) > self._most[name]:
                raise ValueError(f"{name}: measured up to {self._most[name]}, got {getattr(demand, name)}")
        terms = _terms(demand.items, demand.top_n, demand.tokens)
        alone, request = (float(terms @ self._fitted[name]) * 1e-6 for name in ("alone_us", "request_us"))
        return times_of(self._results, request, alone)

    def redis_bytes(self, demand: Demand) -> tuple[float, float]:
        """Of a user, and of a list that waits for feedback."""
        found = self._results["redis_bytes"]
        histories = {int(count): size for count, size in found["context"].items()}
        context = _line(histories, demand.events)
        lists = {int(count): size for count, size in found["recommendation"].items()}
        return context + found["token"] + demand.events * found["event_id"], _line(lists, demand.items)

    def plan(self, demand: Demand, site: Site) -> Plan:
        """Raises: ValueError: nothing can do it; the message names what is asked too much."""
        times = self.times(demand)
        worker_rate = (1 - site.headroom) * rate_within(times, Rules(), demand.p99_ms)
        workers = ceil(demand.rate / worker_rate)
        with_spare = ceil(workers * site.zones / (site.zones - 1))
        each = site.cores - 1
        machines = max(site.zones, ceil(with_spare / each))
        user, one_list = self.redis_bytes(demand)
        users_gib, lists_gib = (
            REPLICAS * size / GIB for size in (demand.users * user, demand.rate * demand.ttl_s * one_list)
        )
        memory_nodes = ceil((users_gib + lists_gib) * ROOM / site.redis_gib)
        busy_nodes = REPLICAS * ceil(demand.rate * self._results["redis_cpu_us"] * 1e-6 / REDIS_BUSY)
        return Plan(
            worker_rate=worker_rate,
            workers=workers,
            machines=machines,
            machine_gib=each * self._results["worker_mib"] / 1024,
            proxy_cores=ceil(demand.rate * self._results["proxy_cpu_us"] * 1e-6 / (1 - site.headroom)),
            redis_users_gib=users_gib,
            redis_lists_gib=lists_gib,
            redis_nodes=max(6, memory_nodes, busy_nodes),
        )


def times_of(results: dict[str, Any], request_s: float, alone_s: float) -> Times:
    """Of a kind of list, with what was measured once for all of them."""
    wakes = {float(pause) / 1000: seconds_of(sample) for pause, sample in results["wakes_us"].items()}
    return Times(
        wire_s=results["wire_us"] * 1e-6,
        wakes_s=tuple(sorted(wakes.items())),
        rest_s=results["rest_us"] * 1e-6,
        rounds_s=tuple((size, one * 1e-6) for size, one in results["rounds_us"]),
        request_s=request_s,
        alone_s=(alone_s,),
        marginal=results["marginal"],
        extras_s=seconds_of(results["extras_us"]),
    )


def seconds_of(sample_us: Sequence[float]) -> tuple[float, ...]:
    return tuple(one * 1e-6 for one in sample_us)


def _terms(items: int, top_n: int, tokens: int) -> NDArray[np.float64]:
    """What a list's time is a sum of: itself, items, positions, positions over items, and tokens."""
    return np.array([1, items, top_n, top_n * items, top_n * tokens, top_n * tokens * items], float)


def _fit(terms: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares of relative errors, without terms that would be negative."""
    kept = list(range(terms.shape[1]))
    while True:
        found = np.linalg.lstsq(terms[:, kept] / times[:, None], np.ones(len(times)), rcond=None)[0]
        if found.min() >= 0:
            fitted = np.zeros(terms.shape[1])
            fitted[kept] = found
            return fitted
        del kept[int(found.argmin())]


def _line(sizes: dict[int, float], count: float) -> float:
    """Between the measured, and beyond them in proportion."""
    counts = sorted(sizes)
    low, high = next((pair for pair in pairwise(counts) if count <= pair[1]), (counts[-2], counts[-1]))
    return sizes[low] + (sizes[high] - sizes[low]) * (count - low) / (high - low)


HEADER = (
    *("requests/s", "users", "workers", "machines", "GiB each", "proxy cores"),
    *("Redis users GiB", "Redis lists GiB", "Redis nodes"),
)


def row(demand: Demand, plan: Plan) -> tuple[str, ...]:
    """As `HEADER` has them."""
    return (
        *(f"{demand.rate:.0e}".replace("e+0", "e"), f"{demand.users:.0e}".replace("e+0", "e")),
        *(f"{plan.workers:,}", f"{plan.machines:,}", f"{plan.machine_gib:.0f}", f"{plan.proxy_cores:,}"),
        *(f"{plan.redis_users_gib:,.0f}", f"{plan.redis_lists_gib:,.0f}", f"{plan.redis_nodes:,}"),
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.capacity", description=__doc__.split("\n\n")[0])
    parser.add_argument("--measured", type=Path, default=MEASURED, help="what bench.capacity has written")
    for kind, default in ((Demand, Demand(1, 1)), (Site, Site())):
        for name, of in kind.__dataclass_fields__.items():
            given = None if name in ("rate", "users") else getattr(default, name)
            type_ = float if of.type in (float, "float") else int
            parser.add_argument(f"--{name.replace('_', '-')}", type=type_, default=given)
    told = vars(parser.parse_args())
    one = {name: told.pop(name) for name in ("rate", "users")}
    try:
        measured = Measured.read(told.pop("measured"))
        site = Site(**{name: told.pop(name) for name in Site.__dataclass_fields__})
        rates, users = (
            every if one[name] is None else (one[name],)
            for name, every in (("rate", RATES), ("users", USERS))
        )
        demands = [Demand(*pair, **told) for pair in product(rates, users)]
        rows = [row(demand, measured.plan(demand, site)) for demand in demands]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(" | ".join(HEADER))
    for line in rows:
        print(" | ".join(line))
    print(f"Times are fitted to within {100 * measured.worst_fit:.0f} % of those measured.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
