"""The decision log of real processes: killed, ended in good order, and several beside each other."""

import os
import signal
import threading
from collections import Counter
from pathlib import Path

import httpx
from asking import rerank
from eventually import eventually
from workers import Workers

from decisions.files import listed
from decisions.lines import Decision
from decisions.reading import Tally, read_lines
from launch.redis import RedisServer
from launch.service import ServiceProcess

FLUSH_S = 0.1
BODY = {"items": [{"id": f"i{n}"} for n in range(10)]}


def logged(directory: Path) -> list[str]:
    """Ids of requests whose lines are whole, in their order in each file."""
    found = []
    for path in listed(directory):
        found += [line.request_id for _, line in read_lines(path, Tally()) if isinstance(line, Decision)]
    return found


async def test_a_kill_costs_at_most_what_came_since_the_last_flush(bundle: Path, tmp_path: Path) -> None:
    log, answered = tmp_path / "log", []
    settings = ("--decision-log", str(log), "--decision-log-flush-s", str(FLUSH_S))
    with ServiceProcess(bundle, *settings, log=tmp_path / "out") as service:
        over = threading.Event()

        def ask() -> None:
            with httpx.Client(timeout=60) as client:
                while not over.is_set():
                    try:
                        answer = client.post(f"{service.url}/v1/rerank", json=BODY)
                    except httpx.TransportError:
                        return
                    answered.append(answer.json()["request_id"])

        callers = [threading.Thread(target=ask) for _ in range(4)]
        for caller in callers:
            caller.start()
        await eventually(lambda: len(answered) > 200)
        early = [*answered]
        await eventually(lambda: set(early) <= set(logged(log)))
        service.process.kill()  # under load
        service.process.wait()
        over.set()
        for caller in callers:
            caller.join()
    found = logged(log)
    assert set(early) <= set(found), "what was flushed is not lost"
    assert max(Counter(found).values()) == 1
    lost = [number for number, one in enumerate(answered) if one not in set(found)]
    in_flight = len(callers)
    assert all(number >= len(answered) - len(lost) - in_flight for number in lost), "the latest alone"


async def test_an_orderly_end_loses_nothing(bundle: Path, tmp_path: Path) -> None:
    settings = ("--decision-log", str(tmp_path / "log"), "--decision-log-flush-s", "3600", "--drain-s", "0")
    with ServiceProcess(bundle, *settings, log=tmp_path / "out") as service:
        given = [httpx.post(f"{service.url}/v1/rerank", json=BODY).json()["request_id"] for _ in range(30)]
    assert logged(tmp_path / "log") == given


async def test_workers_write_files_of_their_own_and_pack_what_the_dead_left(
    bundle: Path, redis_process: RedisServer, tmp_path: Path
) -> None:
    redis_process.start()
    log = tmp_path / "decisions"
    given = ("--drain-s", "0", "--decision-log", str(log), "--decision-log-flush-s", str(FLUSH_S))
    with Workers(bundle, redis_process.url, tmp_path, *given) as workers:
        asked = {rerank(workers).json()["request_id"] for _ in range(40)}
        await eventually(lambda: set(logged(log)) == asked)
        assert len(listed(log)) == 2
        killed = min(workers.pids())
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: len(workers.pids() - {killed}) == 2)
        await eventually(lambda: [path.suffix for path in listed(log)].count(".gz") == 1)
        await eventually(lambda: workers.listening() == 2)
        asked |= {rerank(workers).json()["request_id"] for _ in range(40)}
    assert sorted(logged(log)) == sorted(asked)
