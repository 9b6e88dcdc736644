"""Several workers, as real processes on one port: users and figures shared, deaths mended, an orderly end."""

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from redis_server import RedisServer
from service_process import Process, rerank

from service.__main__ import read_settings
from service.observe.families import SUFFIX, Families, decode
from service.process.supervisor import STARTUP_FAILURE

REQUESTS = 40
RERANK = "/v1/rerank"
FILES = {"supervisor.families", "worker-0.families", "worker-1.families"}


class Workers(Process):
    """Two of them, which keep their figures in `figures`."""

    def __init__(self, bundle: Path, redis_url: str, figures: Path, *arguments: str) -> None:
        self.figures = figures
        super().__init__(
            bundle,
            *("--workers", "2", "--redis-url", redis_url, "--redis-socket-timeout-ms", "5000"),
            *("--redis-connect-timeout-ms", "5000", *arguments),
            PROMETHEUS_MULTIPROC_DIR=str(figures),
        )

    def end(self) -> tuple[int, str]:
        """Stop without the wait."""
        if self.running.poll() is None:
            self.running.terminate()
            time.sleep(0.3)
            self.running.terminate()
        return self.until_closed()

    def pids(self) -> set[int]:
        children = Path(f"/proc/{self.running.pid}/task/{self.running.pid}/children")
        return set(map(int, children.read_text().split()))

    def listening(self) -> int:
        """Workers that accept connections on the port."""
        table = Path("/proc/net/tcp").read_text()
        return len(re.findall(rf"0100007F:{self.port:04X} 00000000:0000 0A ", table))

    def families(self, process: str) -> Families:
        """What a process wrote last."""
        path = (self.figures / process).with_suffix(SUFFIX)
        return decode(path.read_bytes()) if path.exists() else {}

    def reranks(self, worker: int) -> float:
        family = self.families(f"worker-{worker}").get("rerank_requests_total")
        return (
            sum(figures[0] for labels, figures in family.series.items() if RERANK in labels) if family else 0
        )

    def holding(self) -> int:
        """Workers whose gauges count."""
        written = [self.families(f"worker-{number}").values() for number in range(2)]
        return sum(any(family.kind == "gauge" for family in families) for families in written)

    def restarts(self) -> float:
        return self.families("supervisor")["rerank_worker_restarts_total"].series[()][0]

    def metrics(self) -> list[str]:
        return httpx.get(f"http://127.0.0.1:{self.port}/metrics").text.splitlines()


def until(condition: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.05)


@pytest.fixture
def workers(
    request: pytest.FixtureRequest, bundle: Path, redis_server: RedisServer, tmp_path: Path
) -> Iterator[Workers]:
    """Two that are ready. They drain for a minute, or for as long as a parameter says."""
    (tmp_path / "worker-7.families").write_bytes(b"left over")
    (tmp_path / "notes").write_text("somebody else's")
    drain_s = getattr(request, "param", "60")
    workers = Workers(bundle, redis_server.url, tmp_path, "--drain-s", drain_s)
    try:
        until(lambda: workers.listening() == 2, "two workers ready")
        yield workers
        workers.client.close()
        workers.end()
    finally:
        workers.running.kill()


def test_figures_of_all_workers_add_up(workers: Workers) -> None:
    answers = [rerank(workers.port) for _ in range(REQUESTS)]
    assert {answer.status_code for answer in answers} == {200}
    until(lambda: workers.reranks(0) + workers.reranks(1) == REQUESTS, "every request counted")
    assert min(workers.reranks(0), workers.reranks(1)) > 0, "both answered"
    lines = workers.metrics()
    assert f'rerank_requests_total{{code="200",endpoint="/v1/rerank"}} {REQUESTS}.0' in lines
    assert f'rerank_list_size_count{{model="eglr",version="1"}} {REQUESTS}.0' in lines
    assert 'rerank_concurrency_limit{model="eglr",version="1"} 128.0' in lines
    assert "rerank_worker_restarts_total 0.0" in lines
    assert not (workers.figures / "worker-7.families").exists(), "figures of an earlier run do not count"
    assert (workers.figures / "notes").exists(), "nothing else is deleted"


def test_feedback_through_one_worker_is_seen_by_all(workers: Workers) -> None:
    answer = rerank(workers.port).json()
    event = {"type": "click", "item_id": answer["results"][0]["id"]}
    body = {"recommendation_id": answer["recommendation_id"], "events": [event]}
    assert httpx.post(f"http://127.0.0.1:{workers.port}/v1/feedback", json=body).status_code == 202
    assert {rerank(workers.port).json()["context"] for _ in range(REQUESTS)} == {"hit"}
    until(lambda: min(workers.reranks(0), workers.reranks(1)) > 0, "both answered")


def test_a_killed_worker_is_replaced(workers: Workers) -> None:
    before = workers.pids()
    for _ in range(REQUESTS):
        rerank(workers.port)
    until(lambda: workers.reranks(0) + workers.reranks(1) == REQUESTS, "every request counted")
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    until(lambda: workers.holding() == 1, "what the dead one held is held no more")
    until(lambda: victim not in workers.pids() and workers.listening() == 2, "a successor")
    assert len(workers.pids() - before) == 1
    assert {rerank(workers.port).status_code for _ in range(REQUESTS)} == {200}
    assert workers.restarts() == 1
    until(lambda: workers.reranks(0) + workers.reranks(1) == 2 * REQUESTS, "what the dead one counted counts")
    assert {path.name for path in workers.figures.glob("*.families")} == FILES, (
        "however many workers there were"
    )
    code, logs = workers.end()
    assert code == 0, logs
    assert "by signal SIGKILL; restarting it in 0.5 s" in logs


def test_sigterm_drains_every_worker(workers: Workers) -> None:
    def keep_asking() -> list[int]:
        codes = []
        while True:
            try:
                codes.append(rerank(workers.port).status_code)
            except httpx.TransportError:
                return codes

    pids = workers.pids()
    with ThreadPoolExecutor(2) as threads:
        asking = [threads.submit(keep_asking) for _ in range(2)]
        time.sleep(0.2)
        workers.running.terminate()
        time.sleep(0.5)
        ready = {httpx.get(f"http://127.0.0.1:{workers.port}/readyz").status_code for _ in range(10)}
        workers.running.terminate()
        code, logs = workers.until_closed()
        answered = [answer for one in asking for answer in one.result()]
    assert code == 0, logs
    assert ready == {503}, "every worker fails readiness first"
    assert len(answered) > 4
    assert set(answered) == {200}
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize("workers", ["0"], indirect=True)
def test_workers_do_not_outlive_their_supervisor(workers: Workers) -> None:
    pids = workers.pids()
    workers.running.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "no orphans")


def test_a_worker_that_cannot_start_ends_them_all(
    bundle: Path, redis_server: RedisServer, tmp_path: Path
) -> None:
    process = Workers(bundle, redis_server.url, tmp_path, "--provider", "cuda")
    code, logs = process.until_closed()
    assert code == STARTUP_FAILURE
    assert "cannot start" in logs
    assert "CUDAExecutionProvider was asked for" in logs


def test_a_taken_port_is_not_shared_with_a_stranger(
    bundle: Path, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Though the stranger would share it."""
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        process = Workers(bundle, redis_server.url, tmp_path, "--port", str(stranger.getsockname()[1]))
        code, logs = process.until_closed()
    assert code == STARTUP_FAILURE
    assert "Address already in use" in logs


def test_figures_need_a_place(bundle: Path) -> None:
    process = Workers(bundle, "redis://127.0.0.1:1", Path("/proc/nowhere"))
    code, logs = process.until_closed()
    assert code == STARTUP_FAILURE
    assert "several workers need a writable PROMETHEUS_MULTIPROC_DIR" in logs


def test_workers_that_would_not_share_users_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        read_settings(["--bundle", "b", "--workers", "2"])
    assert exit_.value.code == 2
    assert "more than one needs redis_url" in capsys.readouterr().err
    assert read_settings(["--bundle", "b", "--workers", "2", "--redis-url", "redis://h"]).workers == 2
