"""Two replicas, restarted one after the other under load: no request fails.

The callers keep their connections, look at none before they use it, and send nothing twice.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from threading import Event, Thread

import pytest
from raw import RERANK, Caller

from launch.debian import find
from launch.proxies import PROXIES
from launch.service import ServiceProcess
from launch.waiting import answers_ok, free_port

CALLERS = 3
"""Of each way to the replicas."""

LOOK_S = 0.2

Where = Callable[[], int]
"""The port to connect to."""


class Replicas:
    """Two, on ports of their own."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self._bundle, self._folder = bundle, folder
        self.ports = [free_port(), free_port()]
        self._running = [self._start(port) for port in self.ports]
        self.ready: tuple[int, ...] = ()

    def _start(self, port: int) -> ServiceProcess:
        return ServiceProcess(self._bundle, "--drain-s", "2", port=port, log=self._folder / f"{port}.log")

    def until_ready(self) -> None:
        for service in self._running:
            service.until_ready()

    def restart(self) -> None:
        """One after the other, each once the other is known to be ready."""
        for number, port in enumerate(self.ports):
            leaving = self._running[number]
            leaving.process.terminate()
            assert leaving.until_ended() == 0
            self._running[number] = self._start(port)
            self._running[number].until_ready()
            Event().wait(5 * LOOK_S)  # until everybody has looked

    @contextmanager
    def looked_at(self) -> Iterator[None]:
        """Meanwhile `ready` are the ports of those that say so, as an orchestrator would know them."""
        over = Event()

        def look() -> None:
            while not over.is_set():
                self.ready = tuple(port for port in self.ports if says_yes(port))
                over.wait(LOOK_S)

        looking = Thread(target=look)
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join()

    def stop(self) -> None:
        for service in self._running:
            service.process.kill()
            service.process.wait()


def says_yes(port: int) -> bool:
    try:
        return answers_ok(f"http://127.0.0.1:{port}/readyz")
    except OSError:
        return False


def call(where: Where, least: int, over: Event) -> Counter[str]:
    """Outcomes of at least so many reranks, until it is over."""
    outcomes: Counter[str] = Counter()
    caller: Caller | None = None
    while not over.is_set() or outcomes.total() < least:
        try:
            caller = caller or Caller(("127.0.0.1", where()))
            answer = caller.send(RERANK).answer()
            outcomes[f"{answer.status} {answer.json.get('fallback')}"] += 1
            leave = answer.closes
        except (OSError, ValueError) as error:
            outcomes[repr(error)] += 1
            leave = True
        if leave and caller is not None:
            caller.close()
            caller = None
    if caller is not None:
        caller.close()
    return outcomes


def rolling_restart(bundle: Path, folder: Path, least: int) -> dict[str, Counter[str]]:
    """Outcomes by the way the requests took, at least so many of each."""
    replicas = Replicas(bundle, folder)
    with ExitStack() as stack:
        stack.callback(replicas.stop)
        replicas.until_ready()
        stack.enter_context(replicas.looked_at())
        turns = cycle(range(1 << 20))
        ways: dict[str, Where] = {"none": lambda: replicas.ready[next(turns) % len(replicas.ready)]}
        for name in filter(find, PROXIES):
            (folder / name).mkdir()
            port = stack.enter_context(PROXIES[name](folder / name, replicas.ports))
            ways[name] = lambda port=port: port
        over = Event()
        with ThreadPoolExecutor(CALLERS * len(ways)) as threads:
            calling = {
                name: [threads.submit(call, where, least // CALLERS, over) for _ in range(CALLERS)]
                for name, where in ways.items()
            }
            try:
                replicas.restart()
            finally:
                over.set()
            return {
                name: sum((caller.result() for caller in callers), Counter())
                for name, callers in calling.items()
            }


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_proxy_is_there(proxy: str) -> None:
    if find(proxy) is None:
        pytest.skip(f"{proxy} is not installed, so that no rolling restart behind it was tested")


@pytest.mark.parametrize(
    "least", [1000, pytest.param(20_000, marks=pytest.mark.faults)], ids=["short", "whole"]
)
def test_a_rolling_restart_loses_no_request(bundle: Path, tmp_path: Path, least: int) -> None:
    for way, outcomes in rolling_restart(bundle, tmp_path, least).items():
        print(way, dict(outcomes))
        assert set(outcomes) == {"200 None"}, way
        assert outcomes.total() >= least - CALLERS
