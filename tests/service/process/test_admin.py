"""The second port, on a real process."""

import socket
from pathlib import Path

import httpx

from launch.service import ServiceProcess
from launch.waiting import free_port


def test_metrics_have_a_port_of_their_own(bundle: Path) -> None:
    port = str(free_port())
    with ServiceProcess(bundle, "--admin-port", port, "--drain-s", "0") as service:
        assert httpx.get(f"{service.url}/metrics").status_code == 404
        assert "rerank_requests_total" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 404
        service.process.terminate()
        assert service.until_ended() == 0


def test_a_taken_port_is_refused_at_the_start(bundle: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        service = ServiceProcess(bundle, "--admin-port", port, log=tmp_path / "log")
        assert service.until_ended() == 3
    assert f"cannot bind 127.0.0.1 port {port}" in (tmp_path / "log").read_text()


def test_strangers_are_refused_at_the_start_in_one_line(bundle: Path, tmp_path: Path) -> None:
    service = ServiceProcess(bundle, "--host", "0.0.0.0", log=tmp_path / "log")
    assert service.until_ended() == 2
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert "--host: others may reach 0.0.0.0: set api_keys_file or allow_anonymous" in line
