"""Locust for real, in processes of its own (gevent patches whatever it is in), against a real service."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from eventually import eventually

from launch.service import ServiceProcess
from launch.waiting import free_port

ROOT = Path(__file__).parents[2]
PATIENT = ("--drain-s", "0", "--default-deadline-ms", "60000")
SLOW_IS_FINE = ("--slo-p99-ms", "60000")
"""With these a busy machine fails no test."""
BODY = {"user_id": "u-replay", "items": [{"id": "i1"}, {"id": "i9"}], "top_n": 2}
LOCUST = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "--only-summary"]


@pytest.fixture(scope="module")
def address(bundle: Path) -> Iterator[str]:
    """The base URL of a running service."""
    with ServiceProcess(bundle, *PATIENT) as service:
        yield service.url


def reranks(address: str) -> int:
    """Answered by the service so far."""
    answered = r'^rerank_requests_total\{code="200",endpoint="/v1/rerank"\} (\d+)'
    found = re.search(answered, httpx.get(f"{address}/metrics").text, re.MULTILINE)
    return int(found[1]) if found else 0


def start(*options: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*LOCUST, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )


async def run_for(count: int, address: str, *options: str) -> tuple[int, str]:
    """Exit code and output of two users, once the service has answered so many reranks."""
    before = reranks(address)
    run = start("--host", address, "--users", "2", "--spawn-rate", "2", *options)
    await eventually(lambda: reranks(address) >= before + count or run.poll() is not None)
    run.terminate()
    output, _ = run.communicate(timeout=60)
    return run.returncode, output


async def test_closed_loop_keeps_its_objectives(address: str, bundle: Path) -> None:
    code, output = await run_for(20, address, "--items-file", str(bundle), *SLOW_IS_FINE, "--pause-s", "0.02")
    assert code == 0, output
    assert "objective missed" not in output
    metrics = httpx.get(f"{address}/metrics").text
    assert 'rerank_requests_total{code="202",endpoint="/v1/feedback"} 0.0' not in metrics
    assert 'rerank_requests_total{code="422",endpoint="/v1/rerank"} 0.0' in metrics
    assert 'rerank_requests_total{code="422",endpoint="/v1/feedback"} 0.0' in metrics


async def test_fallbacks_miss_an_objective(address: str, bundle: Path) -> None:
    gone = ("--deadline-ms", "0.000001")
    code, output = await run_for(3, address, "--items-file", str(bundle), *SLOW_IS_FINE, *gone)
    assert code == 1, output
    (missed,) = [line for line in output.splitlines() if "objective missed" in line]
    assert "fallback ratio: 1," in missed


async def test_a_dead_store_misses_an_objective(bundle: Path) -> None:
    """Every list is answered, and as good as an anonymous one."""
    nowhere = ("--redis-url", f"redis://127.0.0.1:{free_port()}/0")
    with ServiceProcess(bundle, *PATIENT, *nowhere) as service:
        code, output = await run_for(3, service.url, "--items-file", str(bundle), *SLOW_IS_FINE)
    assert code == 1, output
    (missed,) = [line for line in output.splitlines() if "objective missed" in line]
    assert "storeless ratio: 1," in missed


@pytest.mark.parametrize("given", [False, True])
def test_a_key_is_sent_and_not_told(bundle: Path, tmp_path: Path, given: bool) -> None:
    key, report = "rk_" + "k" * 40, (tmp_path / "report.html", tmp_path / "summary.json")
    grants = f'[load]\nsha256 = ["{sha256(key.encode()).hexdigest()}"]\nscopes = ["rerank", "feedback"]'
    with ServiceProcess(bundle, *PATIENT, RERANK_API_KEYS=grants) as service:
        files = ("--html", str(report[0]), "--summary-file", str(report[1]), "--items-file", str(bundle))
        paced = ("--users", "2", "--pause-s", "0.05", "--run-time", "3s", "--host", service.url)
        environment = {**os.environ, **({"LOCUST_API_KEY": key} if given else {})}
        output, _ = (run := start(*paced, *files, *SLOW_IS_FINE, env=environment)).communicate(timeout=60)
    assert run.returncode == (0 if given else 1), output
    assert key not in output + "".join(path.read_text() for path in report)


def test_no_service_is_no_pass(tmp_path: Path) -> None:
    (tmp_path / "replay.jsonl").write_text(json.dumps({"at_s": 0.0, "body": BODY, "clicked": []}))
    address = f"http://127.0.0.1:{free_port()}"
    run = start("--host", address, "--replay", str(tmp_path / "replay.jsonl"), *SLOW_IS_FINE)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "error ratio: 1," in output


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--list-sizes", "600"], "lists of 600 out of 200 items"),
        (["--replay", "no/such/file"], "No such file"),
    ],
)
def test_options_that_make_no_sense(options: list[str], told: str, bundle: Path) -> None:
    run = start("--host", "http://127.0.0.1:9", "--items-file", str(bundle), *options)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 2
    assert told in output


def test_a_replay_sends_the_log_once_and_ends(address: str, tmp_path: Path) -> None:
    log, summary = tmp_path / "replay.jsonl", tmp_path / "summary.json"
    lines = [{"at_s": n / 40, "body": BODY, "clicked": ["i9"]} for n in range(20)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--host", address, "--replay", str(log), "--replay-speed", "2", "--summary-file", str(summary)]
    run = start(*options, *SLOW_IS_FINE)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert json.loads(summary.read_text())["reranks"] == 20
    history = httpx.get(f"{address}/v1/users/u-replay/context").json()["history"]
    assert sum(event["type"] == "click" and event["item_id"] == "i9" for event in history) == 20


def test_a_master_judges_what_two_workers_measured(address: str, bundle: Path, tmp_path: Path) -> None:
    summary, port, before = tmp_path / "summary.json", str(free_port()), reranks(address)
    master = start(
        *("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--expect-workers", "2"),
        *("--host", address, "--items-file", str(bundle), "--users", "4", "--user-rate", "10"),
        *("--shape", "ramp", "--run-time", "3s", *SLOW_IS_FINE, "--summary-file", str(summary)),
    )
    workers = [start("--worker", "--master-host", "127.0.0.1", "--master-port", port) for _ in range(2)]
    output, _ = master.communicate(timeout=60)
    for worker in workers:
        assert worker.wait(timeout=20) == 0
        assert worker.stdout is not None
        worker.stdout.close()
    assert master.returncode == 0, output
    measured = json.loads(summary.read_text())
    assert measured["arrivals"] == "OpenLoop"
    assert [level["users"] for level in measured["levels"]] == [1, 1, 2, 3, 3, 4]
    assert measured["reranks"] == reranks(address) - before > 0
    assert [level["breaches"] for level in measured["levels"]] == [[]] * 6


async def test_an_open_loop_tells_of_a_pause_that_a_closed_one_hides(bundle: Path, tmp_path: Path) -> None:
    """The service stands still for two seconds, at least one of them by the clock."""
    stall_s, burst = 2.0, 40
    loops = {"open": ("--user-rate", "40"), "closed": ("--pause-s", "0.01")}
    with ServiceProcess(bundle, *PATIENT) as service:
        common = ("--host", service.url, "--items-file", str(bundle), "--burst-share", "0")
        runs = [
            start(*common, *loop, "--summary-file", str(tmp_path / f"{name}.json"))
            for name, loop in loops.items()
        ]
        for run in runs:
            assert run.stdout is not None
            assert any("All users spawned" in line for line in run.stdout)
        await answered(service.url, burst)
        service.process.send_signal(signal.SIGSTOP)
        await asyncio.gather(asyncio.sleep(stall_s), eventually(lambda: connections(service.port) >= burst))
        service.process.send_signal(signal.SIGCONT)
        await answered(service.url, 4 * burst)
        for run in runs:
            run.terminate()
            run.communicate(timeout=60)
    opened, closed = (json.loads((tmp_path / f"{name}.json").read_text()) for name in loops)
    assert min(second["reranks"] for second in closed["seconds"][1:-1]) == 0, "its one caller waited"
    assert min(second["reranks"] for second in opened["seconds"][1:-1]) > 0
    assert opened["p90_ms"] > 1000 * stall_s / 2, "many were due in the first half"


async def answered(address: str, count: int) -> None:
    """Wait until so many more reranks were."""
    before = reranks(address)
    await eventually(lambda: reranks(address) >= before + count)


def connections(port: int) -> int:
    """From here to a local port: one for each request that waits for its answer, and some that are kept."""
    return len(re.findall(rf" 0100007F:{port:04X} 01 ", Path("/proc/net/tcp").read_text()))
