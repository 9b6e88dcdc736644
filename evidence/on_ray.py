"""Fits as tasks of a Ray cluster, each in a process of its own, as without Ray; the files it leaves are
brought to where the grid was started, whether the machines share a disk or not."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from bundle.errors import RerankerError
from evidence.alone import OUTPUT, command, in_a_process
from evidence.grid import Task
from launch.ray_cluster import ray_cluster

LAST_LINES = 3
"""Of the output of a fit that failed, what is told of it."""


class FitError(RerankerError):
    """A fit failed on a machine of the cluster; the message ends as its output does."""


@contextmanager
def fitting_on(address: str) -> Iterator[Callable[[Task, Path], None]]:
    """Fits a task on the cluster, one processor each. A fit whose machine is lost is begun again on another,
    and goes on there if the disk is the same; one that fails is not.

    Raises:
        NoRayError: there is none at this address.
    """
    remote = ray.remote(num_cpus=1, max_retries=3)(_fit_there)

    def fit(task: Task, root: Path) -> None:
        directory = (root / task.directory).resolve()
        try:
            files = ray.get(remote.remote(command(task, root.resolve()), directory))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():  # the rows last: they say that the fit is finished
            (directory / name).write_bytes(content)

    with ray_cluster(address):
        yield fit


def _fit_there(arguments: list[str], directory: Path) -> dict[str, bytes]:
    """Runs on a machine of the cluster. What the fit leaves, by the order it was written in."""
    try:
        in_a_process(arguments, directory)
    except subprocess.CalledProcessError as error:
        lines = (directory / OUTPUT).read_text().splitlines()[-LAST_LINES:]
        raise FitError(f"exit status {error.returncode}: {' / '.join(lines)}") from None
    files = [path for path in directory.iterdir() if path.is_file()]
    return {path.name: path.read_bytes() for path in sorted(files, key=lambda path: path.stat().st_mtime_ns)}
