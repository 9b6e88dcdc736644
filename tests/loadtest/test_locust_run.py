"""Locust for real, in processes of its own (gevent patches whatever it is in), against a real service."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from launch.waiting import free_port
from loadtest.__main__ import served, stand_still

ROOT = Path(__file__).parents[2]
LOCUST = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "--only-summary"]


@pytest.fixture(scope="module")
def address(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a running service."""
    with served(bundle, tmp_path_factory.mktemp("service") / "log") as (address, _):
        yield address


def start(*options: str, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*LOCUST, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )


def run_locust(address: str, *options: str) -> tuple[int, str]:
    """Exit code and output of a short run."""
    run = start("--host", address, "--users", "2", "--spawn-rate", "2", "--run-time", "1s", *options)
    output, _ = run.communicate(timeout=60)
    return run.returncode, output


def test_closed_loop_keeps_its_objectives(address: str, bundle: Path) -> None:
    code, output = run_locust(
        address, "--items-file", str(bundle), "--slo-p99-ms", "5000", "--pause-s", "0.02"
    )
    assert code == 0, output
    assert "objective missed" not in output
    metrics = httpx.get(f"{address}/metrics").text
    assert 'rerank_requests_total{code="202",endpoint="/v1/feedback"}' in metrics
    assert 'code="422"' not in metrics


def test_fallbacks_miss_an_objective(address: str, bundle: Path) -> None:
    options = ["--items-file", str(bundle), "--slo-p99-ms", "5000", "--deadline-ms", "0.001"]
    code, output = run_locust(address, *options)
    assert code == 1, output
    (missed,) = [line for line in output.splitlines() if "objective missed" in line]
    assert "fallback ratio: 1," in missed


def test_no_service_is_no_pass(bundle: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    code, output = run_locust(
        address, "--items-file", str(bundle), "--user-rate", "20", "--slo-p99-ms", "5000"
    )
    assert code == 1
    assert "error ratio: 1," in output


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--list-sizes", "600"], "lists of 600 out of 200 items"),
        (["--replay", "no/such/file"], "No such file"),
    ],
)
def test_options_that_make_no_sense(options: list[str], told: str, bundle: Path) -> None:
    code, output = run_locust("http://127.0.0.1:9", "--items-file", str(bundle), *options)
    assert code == 2
    assert told in output


def test_a_replay_sends_the_log_once_and_ends(address: str, tmp_path: Path) -> None:
    log, summary = tmp_path / "replay.jsonl", tmp_path / "summary.json"
    lines = [
        {
            "at_s": n / 40,
            "body": {"user_id": "u-replay", "items": [{"id": f"i{n}"}, {"id": "i9"}], "top_n": 2},
        }
        for n in range(10, 30)
    ]
    log.write_text("".join(json.dumps({**line, "clicked": ["i9"]}) + "\n" for line in lines))
    options = ["--host", address, "--replay", str(log), "--replay-speed", "2", "--summary-file", str(summary)]
    run = start(*options, "--slo-p99-ms", "5000")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert json.loads(summary.read_text())["reranks"] == 20
    history = httpx.get(f"{address}/v1/users/u-replay/context").json()["history"]
    assert sum(event["type"] == "click" and event["item_id"] == "i9" for event in history) == 20


def test_a_master_judges_what_two_workers_measured(address: str, bundle: Path, tmp_path: Path) -> None:
    summary, port = tmp_path / "summary.json", str(free_port())
    master = start(
        *("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--expect-workers", "2"),
        *(
            "--host",
            address,
            "--items-file",
            str(bundle),
            "--users",
            "4",
            "--user-rate",
            "10",
            "--shape",
            "ramp",
        ),
        *("--run-time", "3s", "--slo-p99-ms", "5000", "--summary-file", str(summary)),
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
    expected = sum(level["users"] for level in measured["levels"]) * 10 * 0.5
    assert expected / 2 < measured["reranks"] < expected * 2


def test_an_open_loop_tells_of_a_pause_that_a_closed_one_hides(bundle: Path, tmp_path: Path) -> None:
    """The service stands still for a second: of a closed loop's requests one waits, of an open one's many."""
    runs = {"open": ("--user-rate", "40"), "closed": ("--pause-s", "0.01")}
    with served(bundle, tmp_path / "log") as (address, service):
        common = ["--host", address, "--items-file", str(bundle), "--run-time", "4s", "--burst-share", "0"]
        started = [
            start(*common, *options, "--summary-file", str(tmp_path / f"{name}.json"))
            for name, options in runs.items()
        ]
        metrics, give_up = "", time.monotonic() + 30
        while 'rerank_requests_total{code="200",endpoint="/v1/rerank"}' not in metrics:
            assert time.monotonic() < give_up
            metrics = httpx.get(f"{address}/metrics").text
            time.sleep(0.1)
        time.sleep(0.5)
        stand_still(service, 1.0)
        for run in started:
            run.communicate(timeout=60)
    opened, closed = (json.loads((tmp_path / f"{name}.json").read_text()) for name in runs)
    assert opened["p90_ms"] > 200, "a quarter of the arrivals waited"
    assert closed["p90_ms"] < opened["p90_ms"] / 2, "one of many requests did"
