"""How many cores this process may use: the container's quota, not the host's count.

ONNX Runtime and the BLAS libraries size their threads from the host, and then fight over the share the
container is given. Legend: a quota is in cores and may be a fraction.
"""

import os
from pathlib import Path

CGROUP, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores(cgroup: Path = CGROUP, membership: Path = MEMBERSHIP) -> float:
    """The least of the cores this process may run on and the quotas of the groups it is in."""
    return min([float(len(os.sched_getaffinity(0))), *_quotas(cgroup, membership)])


def threads_each(workers: int, cores: float | None = None) -> int:
    """Threads inside one operator so that so many worker processes fit into the cores: at least 1."""
    return max(1, int((usable_cores() if cores is None else cores) / workers))


def _quotas(cgroup: Path, membership: Path) -> list[float]:
    """Quotas of the own group and of those above it, of cgroup v2 (`cpu.max`) and v1 (`cpu.cfs_*`)."""
    found = []
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, quota = cgroup, _version_2
        elif "cpu" in controllers.split(","):
            root, quota = cgroup / controllers, _version_1
            root = root if root.is_dir() else cgroup / "cpu"
        else:
            continue
        group = root / path.lstrip("/")
        while True:
            found += quota(group)
            if group == root:
                break
            group = group.parent
    return found


def _version_2(group: Path) -> list[float]:
    """`cpu.max` is `QUOTA PERIOD`, the quota a number of microseconds or `max`."""
    limit = _read(group / "cpu.max").split()
    return [int(limit[0]) / int(limit[1])] if limit and limit[0] != "max" else []


def _version_1(group: Path) -> list[float]:
    """A quota of -1 is none."""
    quota, period = _read(group / "cpu.cfs_quota_us").strip(), _read(group / "cpu.cfs_period_us").strip()
    return [int(quota) / int(period)] if quota and period and int(quota) > 0 else []


def _read(path: Path) -> str:
    """Empty where there is no such file: inside a container, groups above its own are not to be seen."""
    try:
        return path.read_text()
    except OSError:
        return ""
