"""Several workers, as real processes on one port: users and figures shared, deaths mended, an orderly end."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from asking import asked_all_the_time, readiness, rerank
from eventually import eventually
from workers import Workers

from launch.redis import RedisServer
from service.__main__ import read_settings
from service.observe.families import SUFFIX
from service.process.listening import STARTUP_FAILURE

REQUESTS = 40
"""Of which every worker gets some."""

FILES = {f"{process}{SUFFIX}" for process in ("supervisor", "worker-0", "worker-1")}


ANSWERED = 'rerank_requests_total{code="200",endpoint="/v1/rerank"}'


@pytest.fixture(scope="module")
def workers(
    bundle: Path, redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    """Two, for tests that leave two behind, and none of their reranks uncounted."""
    folder = tmp_path_factory.mktemp("figures")
    (folder / f"worker-7{SUFFIX}").write_bytes(b"left over")
    (folder / "notes").write_text("somebody else's")
    redis_process.start()
    with Workers(bundle, redis_process.url, folder, "--drain-s", "0") as workers:
        yield workers
    assert workers.process.returncode == 0, workers.log.read_text()


async def test_figures_of_all_workers_add_up(workers: Workers) -> None:
    before = workers.reranks()
    assert {rerank(workers).status_code for _ in range(REQUESTS)} == {200}
    await eventually(lambda: (workers.reranks() - before).total() == REQUESTS)
    assert len(workers.reranks() - before) == 2, "both answered"
    assert workers.metric(ANSWERED) == before.total() + REQUESTS
    assert workers.metric("rerank_worker_restarts_total") >= 0, "told before there is any"
    assert not (workers.figures / f"worker-7{SUFFIX}").exists(), "figures of an earlier run do not count"
    assert (workers.figures / "notes").exists(), "nothing else is deleted"
    assert workers.metric('rerank_concurrency_limit{model="eglr",version="1"}') == 2048, "gauges add up too"


async def test_feedback_through_one_worker_is_seen_by_all(workers: Workers) -> None:
    before, answer = workers.reranks(), rerank(workers).json()
    event = {"type": "click", "item_id": answer["results"][0]["id"]}
    body = {"recommendation_id": answer["recommendation_id"], "events": [event]}
    assert httpx.post(f"{workers.url}/v1/feedback", json=body).status_code == 202
    assert {rerank(workers).json()["context"] for _ in range(REQUESTS)} == {"hit"}
    await eventually(lambda: (workers.reranks() - before).total() == REQUESTS + 1)
    assert len(workers.reranks() - before) == 2, "both answered"


async def test_a_killed_worker_is_replaced(workers: Workers) -> None:
    pids, before = workers.pids(), workers.reranks()
    restarts = workers.metric("rerank_worker_restarts_total")
    for _ in range(REQUESTS):
        rerank(workers)
    await eventually(lambda: (workers.reranks() - before).total() == REQUESTS)
    victim = min(pids)
    os.kill(victim, signal.SIGKILL)
    await eventually(lambda: victim not in workers.pids() and workers.listening() == 2)
    assert len(workers.pids() - pids) == 1
    assert {rerank(workers).status_code for _ in range(REQUESTS)} == {200}
    assert workers.metric("rerank_worker_restarts_total") == restarts + 1
    await eventually(lambda: (workers.reranks() - before).total() == 2 * REQUESTS)
    assert workers.metric(ANSWERED) == before.total() + 2 * REQUESTS, "what the dead one counted counts"
    await eventually(lambda: workers.holding() == 2)
    names = {path.name for path in workers.figures.glob(f"*{SUFFIX}")}
    assert names == FILES, "however many workers there were"
    assert "by signal SIGKILL; restarting it in 0.5 s" in workers.log.read_text()


async def test_a_hung_worker_is_replaced(bundle: Path, redis_server: RedisServer, tmp_path: Path) -> None:
    with Workers(bundle, redis_server.url, tmp_path, "--drain-s", "0", "--stuck-after-s", "1") as workers:
        pids = workers.pids()
        victim = max(pids)
        os.kill(victim, signal.SIGSTOP)
        await eventually(lambda: victim not in workers.pids() and workers.listening() == 2)
        assert len(workers.pids() & pids) == 1, "the other one lives"
        assert "gave no sign of life" in workers.log.read_text()
        assert {rerank(workers).status_code for _ in range(10)} == {200}
        os.kill(workers.process.pid, signal.SIGHUP)
        await eventually(lambda: "SIGHUP: nothing new to serve" in workers.log.read_text())


async def test_sigterm_drains_every_worker(bundle: Path, redis_server: RedisServer, tmp_path: Path) -> None:
    workers = Workers(bundle, redis_server.url, tmp_path, "--drain-s", "600")
    try:
        workers.until_ready()
        pids = workers.pids()
        with asked_all_the_time(workers) as codes:
            await eventually(lambda: len(codes) > 4)
            workers.process.terminate()
            await eventually(lambda: {readiness(workers) for _ in range(10)} == {(503, "draining")})
            workers.process.terminate()
            assert workers.until_ended() == 0, workers.log.read_text()
        assert set(codes) == {200}
        assert not running(pids)
    finally:
        workers.process.kill()


async def test_workers_do_not_outlive_their_supervisor(
    bundle: Path, redis_server: RedisServer, tmp_path: Path
) -> None:
    with Workers(bundle, redis_server.url, tmp_path, "--drain-s", "0") as workers:
        pids = workers.pids()
        workers.process.kill()
        await eventually(lambda: not running(pids))


def running(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


def test_a_worker_that_cannot_start_ends_them_all(
    bundle: Path, redis_server: RedisServer, tmp_path: Path
) -> None:
    workers = Workers(bundle, redis_server.url, tmp_path, "--provider", "cuda")
    assert workers.until_ended() == STARTUP_FAILURE
    logs = workers.log.read_text()
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
        port = str(stranger.getsockname()[1])
        workers = Workers(bundle, redis_server.url, tmp_path, "--port", port)
        assert workers.until_ended() == STARTUP_FAILURE
    assert "Address already in use" in workers.log.read_text()


def test_figures_need_a_place(bundle: Path, tmp_path: Path) -> None:
    workers = Workers(bundle, "redis://127.0.0.1:1", tmp_path, figures=Path("/proc/nowhere"))
    assert workers.until_ended() == STARTUP_FAILURE
    assert "several workers need a writable PROMETHEUS_MULTIPROC_DIR" in workers.log.read_text()


def test_workers_that_would_not_share_users_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        read_settings(["--bundle", "b", "--workers", "2"])
    assert exit_.value.code == 2
    assert "more than one needs redis_url" in capsys.readouterr().err
    assert read_settings(["--bundle", "b", "--workers", "2", "--redis-url", "redis://h"]).workers == 2
