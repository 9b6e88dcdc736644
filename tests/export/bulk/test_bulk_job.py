"""A job that is killed goes on; its directory is its own; a full disk is told."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bulk_rows import AT, ROOT, draw, lists, refused, write

from export.bulk.__main__ import rerank
from export.bulk.job import Done, JobError


def test_a_directory_with_anything_else_in_it_is_refused(bundle: Path, tmp_path: Path) -> None:
    source, output = write(tmp_path / "requests.parquet", draw(20)), tmp_path / "out"
    rerank(bundle, str(source), output, at=AT)
    before = lists(output)
    with pytest.raises(JobError, match="another part_rows"):
        rerank(bundle, str(source), output, part_rows=7)
    with pytest.raises(JobError, match="another at"):
        rerank(bundle, str(source), output, at=AT + 1)
    write(source, draw(20, seed=1))
    with pytest.raises(JobError, match="another input"):
        rerank(bundle, str(source), output)
    job = json.loads((output / "job.json").read_text())
    (output / "job.json").write_text(json.dumps(job | {"manifest_sha256": "0" * 64}))
    write(source, draw(20))
    with pytest.raises(JobError, match="another manifest_sha256"):
        rerank(bundle, str(source), output)
    assert lists(output) == before
    with pytest.raises(JobError, match="within the input"):
        rerank(bundle, str(tmp_path), output / "deeper")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(JobError, match=r"expected an empty directory, found notes.txt"):
        rerank(bundle, str(source), tmp_path / "mine")


def test_a_job_that_was_killed_goes_on(bundle: Path, tmp_path: Path) -> None:
    rows = [row | {"top_n": row["top_n"] if n % 50 else 0} for n, row in enumerate(draw(600))]
    source, output = write(tmp_path / "requests.parquet", rows), tmp_path / "out"
    command = [sys.executable, "-m", "export.bulk", "--bundle", str(bundle), "--input", str(source)]
    command += ["--output", str(output), "--part-rows", "10", "--at", str(AT)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("part 3 "))
        os.kill(process.pid, signal.SIGKILL)
    finished = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*.parquet")}
    assert 4 <= len(finished) < 60
    (output / "part-000059.parquet.partial").write_bytes(b"half a part")
    assert rerank(bundle, str(source), output, part_rows=10) == Done(588, 12)
    after = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*.parquet")}
    assert finished.items() <= after.items()
    assert not list(output.rglob("*.partial"))
    assert [row["row"] for row in lists(output)] == [n for n in range(600) if n % 50]
    assert sorted(refused(output)) == list(range(0, 600, 50))


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """Files come to so many bytes, and no further: writing fails as it does on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_told_and_leaves_whole_parts(bundle: Path, tmp_path: Path) -> None:
    """Parts of single items fit where those of lists do not; with room again, the job goes on."""
    rows = [row | {"items": row["items"][:1]} if n < 100 else row for n, row in enumerate(draw(200))]
    source, output = write(tmp_path / "requests.parquet", rows), tmp_path / "out"
    with no_room_beyond(8_500), pytest.raises(JobError, match=r"File too large; finished parts are kept"):
        rerank(bundle, str(source), output, part_rows=50)
    assert [row["row"] for row in lists(output)] == list(range(100))
    assert not list(output.rglob("*.partial"))
    assert rerank(bundle, str(source), output, part_rows=50) == Done(200, 0)


def test_two_runs_do_not_write_to_one_directory(bundle: Path, tmp_path: Path) -> None:
    from export.bulk.job import Job

    source = write(tmp_path / "requests.parquet", draw(5))
    job = Job.open(bundle, str(source), tmp_path / "out", 5, AT, AT)
    with job.alone(), pytest.raises(JobError, match="another run"):
        rerank(bundle, str(source), tmp_path / "out", part_rows=5)
