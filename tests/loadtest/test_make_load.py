"""`python -m loadtest`, which is `make load`: a service of its own, a report, and the right exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from loadtest.__main__ import main, served, stand_still

ROOT = Path(__file__).parents[2]
QUICK = ["--users", "2", "--user-rate", "10", "--run-time", "4s"]


def run(bundle: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtest", "--bundle", str(bundle), "--output", str(output), *options]
    environment = {**os.environ, "RERANK_DEFAULT_DEADLINE_MS": "60000"}  # a busy machine fails no test
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_a_pass_and_its_report(bundle: Path, tmp_path: Path) -> None:
    passed = run(bundle, tmp_path, *QUICK, "--slo-p99-ms", "60000", "--seed", "3")
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "load: ok; OpenLoop, ramp, seed 3, up to 20/s offered:" in passed.stdout
    for picture in ("latency-over-time.png", "latency-against-rate.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    assert "<html" in (tmp_path / "locust.html").read_text()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["passed"] is True
    assert (summary["shape"], summary["seed"], summary["most_offered_per_s"]) == ("ramp", 3, 20.0)
    assert summary["reranks"] > 0
    assert 0 < summary["p50_ms"] <= summary["p99_ms"]
    assert (summary["error_ratio"], summary["fallback_ratio"]) == (0.0, 0.0)
    assert "GiB" in summary["hardware"]
    last = json.loads((tmp_path / "service.log").read_text().splitlines()[-1])
    assert last["message"].startswith("Finished server process"), "stopped, and in good order"


def test_a_missed_objective_is_1_and_has_a_report_too(bundle: Path, tmp_path: Path) -> None:
    missed = run(bundle, tmp_path, *QUICK, "--slo-p99-ms", "0.01")
    assert missed.returncode == 1, missed.stdout + missed.stderr
    assert "load: objectives missed;" in missed.stdout
    assert "load: objective missed: rerank p99 in ms: " in missed.stdout
    assert "load: objectives met up to " in missed.stdout
    assert json.loads((tmp_path / "summary.json").read_text())["passed"] is False
    assert (tmp_path / "latency-over-time.png").exists()
    assert "Finished server process" in (tmp_path / "service.log").read_text()


def test_a_service_that_does_not_start_is_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bundle", str(tmp_path), "--output", str(tmp_path / "report")]) == 3
    assert "no bundle here" in capsys.readouterr().err


def test_the_service_is_stopped_whatever_happens(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="whatever"), served(bundle, tmp_path / "log") as (address, _):  # noqa: PT012
        assert urlopen(f"{address}/livez").status == 200
        raise RuntimeError("whatever")
    with pytest.raises(URLError):
        urlopen(f"{address}/livez")


def test_a_service_that_stood_still_goes_on() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as service:
        stand_still(service, 1.0)
        event = os.waitid(os.P_PID, service.pid, os.WCONTINUED | os.WNOHANG)
    assert event is not None
    assert event.si_code == os.CLD_CONTINUED, "only what was stopped can go on"
