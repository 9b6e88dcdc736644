"""A single-threaded load generator for one server, closed loop and open loop.

It spends about 25 microseconds on a request, so that on a core of its own it is never the bottleneck; `Run`
says how much of the core it used. Knows HTTP/1.1 and bytes, but not what they mean.

Closed loop: each connection sends its next request once its last one is answered. This shows throughput, but
its latencies flatter a slow server, which receives less while it is slow. Open loop: requests are due at the
times of a Poisson process, whatever the server does, and latency counts from the time a request was *due*
(no coordinated omission). How late the client itself was with them is told apart (`Run.late_ms`), so that a
run can be refused whose latencies are partly its own.
"""

import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from select import EPOLLIN, epoll, select
from time import perf_counter, process_time
from typing import Any, Self

import httptools
import numpy as np
from numpy.typing import NDArray

SILENCE_S = 30.0
"""A server that is silent for this long has failed."""
SPIN_S = 0.0002
"""Before a request is due. No longer: a client that keeps its core busy drives whatever else runs on the
machine, however little, to the core of the server."""

Judge = Callable[[int, bytes], bool]
"""Whether an answer, status and body, is a good one."""


def is_ok(status: int, _: bytes) -> bool:
    return status == 200


@dataclass(frozen=True)
class Run:
    """What was measured.

    Attributes:
        latencies_ms: of every answer; open loop: since the request was due.
        good_ms: of those that were good.
        lags_ms: open loop: how much later than due each request was sent, waiting for a connection included.
        late_ms: open loop: of that, what was the client's own doing: it was due, and a connection was free.
        seconds: from the first request to the last answer.
        failed: answers that were not good.
        client_cpu_share: of one core.
    """

    latencies_ms: NDArray[np.float64]
    good_ms: NDArray[np.float64]
    lags_ms: NDArray[np.float64]
    late_ms: NDArray[np.float64]
    seconds: float
    failed: int
    client_cpu_share: float

    @property
    def per_second(self) -> float:
        """Good answers a second."""
        return (len(self.latencies_ms) - self.failed) / self.seconds

    def row(self) -> dict[str, Any]:
        """The figures to keep."""
        p50, p90, p99 = np.percentile(self.latencies_ms, (50, 90, 99))
        return {
            "requests": len(self.latencies_ms),
            "failed": self.failed,
            "per_second": round(self.per_second, 1),
            "p50_ms": round(float(p50), 3),
            "p90_ms": round(float(p90), 3),
            "p99_ms": round(float(p99), 3),
            "client_cpu_share": round(self.client_cpu_share, 3),
        }


def post(path: str, body: bytes, host: str = "127.0.0.1", method: str = "POST") -> bytes:
    """A whole request, ready to be sent."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class _Connection:
    """One request at a time; the parser's callbacks are its `on_*` methods."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SILENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.since = self.idle_since = 0.0
        self.body = b""
        self.complete = False

    def send(self, request: bytes, since: float) -> None:
        self.since, self.body, self.complete = since, b"", False
        self._parser = httptools.HttpResponseParser(self)
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Read what is there; True at the end of the answer."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the server closed a connection in the middle of a run")
        self._parser.feed_data(data)
        return self.complete

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True

    @property
    def status(self) -> int:
        return int(self._parser.get_status_code())


class Connections:
    """Keep-alive connections to one server, and a run's records: of requests since `counted_from`."""

    def __init__(self, port: int, count: int, judge: Judge = is_ok) -> None:
        self._poller, self._judge = epoll(), judge
        self._all = [_Connection(port) for _ in range(count)]
        self._by_number = {connection.socket.fileno(): connection for connection in self._all}
        for number in self._by_number:
            self._poller.register(number, EPOLLIN)
        self.idle = list(self._all)
        self.counted_from = 0.0
        self.latencies: list[float] = []
        self.good: list[float] = []
        self.lags: list[float] = []
        self.late: list[float] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._poller.close()
        for connection in self._all:
            connection.socket.close()

    @property
    def busy(self) -> int:
        return len(self._all) - len(self.idle)

    def send(self, request: bytes, due: float) -> None:
        """On an idle connection, of which there must be one."""
        connection, now = self.idle.pop(), perf_counter()
        if due >= self.counted_from:
            self.lags.append(now - due)
            self.late.append(now - max(due, connection.idle_since))
        connection.send(request, due)

    def wait_until(self, due: float) -> bool:
        """Until then, to within microseconds, or until there is something to read, which it returns."""
        while (left := due - perf_counter()) > 0:
            # Not by epoll itself, whose timeout is in milliseconds.
            if select([self._poller], [], [], max(0.0, left - SPIN_S))[0]:
                return True
        return False

    def collect(self, timeout_s: float) -> int:
        """Read the answers that have arrived; their connections are idle again. Returns the bytes read."""
        events = self._poller.poll(timeout_s)
        for number, _ in events:
            connection = self._by_number[number]
            if connection.receive():
                connection.idle_since = perf_counter()
                self.idle.append(connection)
                if connection.since < self.counted_from:
                    continue
                self.latencies.append(connection.idle_since - connection.since)
                if self._judge(connection.status, connection.body):
                    self.good.append(self.latencies[-1])
        return len(events)

    def run(self, seconds: float, cpu_s: float) -> Run:
        times = (np.array(found) * 1000 for found in (self.latencies, self.good, self.lags, self.late))
        return Run(*times, seconds, len(self.latencies) - len(self.good), cpu_s / seconds)


def send_all(port: int, requests: Iterable[bytes], connections: int = 1, judge: Judge = is_ok) -> Run:
    """Send each request once, in closed loop."""
    source = iter(requests)
    with Connections(port, connections, judge) as client:
        started, cpu = perf_counter(), process_time()
        request = next(source, None)
        while request is not None or client.busy:
            while request is not None and client.idle:
                client.send(request, perf_counter())
                request = next(source, None)
            if not client.collect(SILENCE_S):
                raise TimeoutError(f"no answer for {SILENCE_S} s")
        return client.run(perf_counter() - started, process_time() - cpu)


def closed_loop(
    port: int, requests: Sequence[bytes], connections: int, seconds: float, judge: Judge = is_ok
) -> Run:
    """Send `requests` over and over on this many connections, for this long."""

    def in_time() -> Iterator[bytes]:
        end = perf_counter() + seconds
        for request in cycle(requests):
            if perf_counter() >= end:
                return
            yield request

    return send_all(port, in_time(), connections, judge)


def paced_loop(
    port: int, requests: Sequence[bytes], pause_s: float, seconds: float, judge: Judge = is_ok
) -> Run:
    """On one connection, each request due this long after the last was answered; latency counts from then."""
    with Connections(port, 1, judge) as client:
        started, cpu = perf_counter(), process_time()
        for request in cycle(requests):
            due = perf_counter() + pause_s
            if due >= started + seconds:
                return client.run(due - started, process_time() - cpu)
            client.wait_until(due)
            client.send(request, due)
            while client.busy:
                if not client.collect(SILENCE_S):
                    raise TimeoutError(f"no answer for {SILENCE_S} s")
        raise ValueError("requests: expected at least one")


def open_loop(
    port: int,
    requests: Sequence[bytes],
    rate: float,
    seconds: float,
    *,
    connections: int = 128,
    seed: int = 0,
    judge: Judge = is_ok,
    lead_s: float = 0.0,
) -> Run:
    """Send `rate` requests a second as a Poisson process, for this long, and wait for every answer.

    A request that finds every connection busy waits in the client; its latency counts from when it was due.

    Args:
        lead_s: before that, requests come at the same rate and do not count: the server accepts connections
            meanwhile, and whatever is cold warms up.
    """
    source, waiting = cycle(requests), deque[float]()
    with Connections(port, connections, judge) as client:
        started, cpu = perf_counter(), process_time()
        client.counted_from = started + lead_s
        arrivals = _arrivals(rate, lead_s + seconds, seed, started)
        due = next(arrivals, None)
        while due is not None or waiting or client.busy:
            now = perf_counter()
            while due is not None and due <= now:
                waiting.append(due)
                due = next(arrivals, None)
            while waiting and client.idle:
                client.send(next(source), waiting.popleft())
            if due is not None:
                client.wait_until(due)
                client.collect(0.0)
            elif client.busy and not client.collect(SILENCE_S):
                raise TimeoutError(f"no answer for {SILENCE_S} s")
        return client.run(perf_counter() - client.counted_from, process_time() - cpu)


def _arrivals(rate: float, seconds: float, seed: int, started: float) -> Iterator[float]:
    """Times at which requests are due."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, size=round(rate * seconds))
    yield from (started + np.cumsum(gaps)).tolist()
