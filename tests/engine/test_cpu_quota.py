"""Cores from the container's quota, over made-up cgroup trees of both versions."""

import os
from pathlib import Path

import pytest

from engine.cpu_quota import threads_each, usable_cores

HERE = float(len(os.sched_getaffinity(0)))


def tree(root: Path, files: dict[str, str], membership: str) -> float:
    """Usable cores where these files are under /sys/fs/cgroup."""
    for name, text in files.items():
        (root / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "cgroup" / name).write_text(text)
    (root / "membership").write_text(membership)
    return usable_cores(root / "cgroup", root / "membership")


@pytest.mark.parametrize(
    ("files", "membership", "expected"),
    [
        ({"cpu.max": "50000 100000\n"}, "0::/\n", 0.5),
        ({"cpu.max": "max 100000\n"}, "0::/\n", HERE),
        ({"a/cpu.max": "25000 100000\n", "a/b/cpu.max": "max 100000\n"}, "0::/a/b\n", 0.25),
        ({"cpu.max": "50000 100000\n"}, "0::/not/to/be/seen\n", 0.5),
        ({"cpu,cpuacct/p/cpu.cfs_quota_us": "30000\n", "cpu,cpuacct/p/cpu.cfs_period_us": "100000\n"},
         "4:memory:/p\n2:cpu,cpuacct:/p\n", 0.3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "1:cpu:/\n", HERE),
        ({}, "", HERE),
    ],
)  # fmt: skip
def test_the_tightest_quota_counts(
    files: dict[str, str], membership: str, expected: float, tmp_path: Path
) -> None:
    assert tree(tmp_path, files, membership) == pytest.approx(min(expected, HERE))


def test_affinity_counts_where_there_is_no_quota(tmp_path: Path) -> None:
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mine)})
        assert tree(tmp_path, {}, "") == 1.0
    finally:
        os.sched_setaffinity(0, mine)


@pytest.mark.parametrize(
    ("workers", "cores", "threads"), [(1, 4.0, 4), (2, 4.0, 2), (3, 4.0, 1), (1, 0.5, 1), (8, 2.0, 1)]
)
def test_workers_share_the_cores(workers: int, cores: float, threads: int) -> None:
    assert threads_each(workers, cores) == threads
