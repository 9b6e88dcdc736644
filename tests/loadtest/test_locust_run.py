"""Locust for real, in a process of its own (gevent patches whatever it is in), against a real service."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from redis_server import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def address(bundle: Path) -> Iterator[str]:
    """The base URL of a running service."""
    port = free_port()
    command = [sys.executable, "-m", "service", "--bundle", str(bundle), "--port", str(port)]
    process = subprocess.Popen([*command, "--drain-s", "0"], cwd=ROOT, stderr=subprocess.DEVNULL)
    address, give_up = f"http://127.0.0.1:{port}", time.monotonic() + 30
    try:
        while True:
            assert process.poll() is None, "the service ended"
            assert time.monotonic() < give_up, "the service does not become ready"
            try:
                if httpx.get(f"{address}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)


def run_locust(address: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "--only-summary"]
    command += [
        "--host",
        address,
        "--users",
        "2",
        "--spawn-rate",
        "2",
        "--run-time",
        "2s",
        "--pause-s",
        "0.02",
    ]
    return subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_objectives_kept(address: str, bundle: Path) -> None:
    run = run_locust(address, "--items-file", str(bundle), "--slo-p99-ms", "5000")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "objective missed" not in run.stderr
    metrics = httpx.get(f"{address}/metrics").text
    assert 'rerank_requests_total{code="202",endpoint="/v1/feedback"}' in metrics
    assert 'code="422"' not in metrics


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--slo-p99-ms", "0.01"], "rerank p99"),
        (["--slo-p99-ms", "5000", "--deadline-ms", "0.001"], "fallback ratio: 1,"),
    ],
)
def test_objective_missed(options: list[str], told: str, address: str, bundle: Path) -> None:
    run = run_locust(address, "--items-file", str(bundle), *options)
    assert run.returncode == 1, run.stdout + run.stderr
    missed = [line for line in run.stderr.splitlines() if "objective missed" in line]
    assert len(missed) == 1, missed
    assert told in missed[0]


def test_no_service_is_no_pass(bundle: Path) -> None:
    run = run_locust(f"http://127.0.0.1:{free_port()}", "--items-file", str(bundle), "--slo-p99-ms", "5000")
    assert run.returncode == 1
    assert "error ratio: 1," in run.stderr


def test_options_that_make_no_sense(bundle: Path) -> None:
    run = run_locust("http://127.0.0.1:9", "--items-file", str(bundle), "--list-sizes", "600")
    assert run.returncode == 2
    assert "lists of 600 out of 200 items" in run.stderr
