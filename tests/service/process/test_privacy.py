"""Nothing leaves the machine, and nothing is left on it, but what was asked for."""

import json
import os
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from asking import rerank

from launch.service import ROOT, ServiceProcess

KNOWN = ("socket:", "pipe:", "anon_inode:", "/dev/", "/memfd:")


def opened(pid: int) -> dict[int, str]:
    """What each descriptor of a process is of, but for those that are closed meanwhile."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[int(link.name)] = os.readlink(link)
    return found


def open_files(pid: int) -> set[str]:
    """Of a process, besides what it was given, without sockets, pipes and devices."""
    found = {name for number, name in opened(pid).items() if number > 2}
    return {name for name in found if not name.startswith(KNOWN)}


def other_ends(pid: int) -> set[str]:
    """Addresses outside the loopback that the sockets of a process are connected to."""
    links = opened(pid).values()
    inodes = {link[8:-1] for link in links if link.startswith("socket:")}
    rows = [
        row.split()
        for table in ("tcp", "tcp6", "udp", "udp6")
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    ends = {row[2].partition(":")[0] for row in rows if row[9] in inodes}
    return {end for end in ends if not end.endswith("00007F") and set(end) != {"0"}}


async def test_a_service_keeps_to_itself(bundle: Path, tmp_path: Path) -> None:
    """A home that nobody but it uses, as long as a recorder of events would need to make its database."""
    home, log = tmp_path / "home", tmp_path / "log"
    home.mkdir()
    home.chmod(0o555)
    unset = {name: "" for name in os.environ if name.startswith("XDG_") or name == "ORT_DISABLE_TELEMETRY"}
    environment = {"HOME": str(home), "TMPDIR": str(tmp_path / "home"), **unset}
    with ServiceProcess(bundle, "--drain-s", "0", log=log, **environment) as service:
        for _ in range(3):
            assert rerank(service).status_code == 200
        assert not open_files(service.process.pid)
        assert not other_ends(service.process.pid)
    assert not list(home.iterdir())
    for line in log.read_text().splitlines():
        assert json.loads(line)["level"] == "info"


@pytest.mark.parametrize("given", ["folder", ""])
async def test_one_worker_leaves_the_figures_of_several_alone(
    bundle: Path, tmp_path: Path, given: str
) -> None:
    """prometheus_client would take the variable for its own, and write and add up files there."""
    left = tmp_path / "folder/worker-0.families"
    left.parent.mkdir()
    left.write_bytes(b"left over")
    (left.parent / "counter_1.db").write_bytes(bytes(1024))
    before = {path: path.stat().st_mtime_ns for path in left.parent.iterdir()}
    here = set(os.listdir(ROOT))
    folder = str(left.parent) if given else ""
    with ServiceProcess(bundle, "--drain-s", "0", PROMETHEUS_MULTIPROC_DIR=folder) as service:
        assert rerank(service).status_code == 200
        text = httpx.get(f"{service.url}/metrics").text
        assert 'rerank_requests_total{code="200",endpoint="/v1/rerank"} 1.0' in text.splitlines()
    assert {path: path.stat().st_mtime_ns for path in left.parent.iterdir()} == before
    assert set(os.listdir(ROOT)) == here
