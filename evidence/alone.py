"""A fit in a process of its own (`python -m evidence.fit`), with one thread, its output beside its rows."""

import os
import subprocess
import sys
from pathlib import Path

from evidence.grid import Task

OUTPUT = "output.txt"


def command(task: Task, root: Path) -> list[str]:
    """Arguments of Python."""
    named = ["-m", "evidence.fit", task.data, task.model, str(task.seed)]
    return [*named, "--training-seed", str(task.training_seed), "--runs", str(root)]


def fit_alone(task: Task, root: Path) -> None:
    """Raises: subprocess.CalledProcessError: it failed."""
    in_a_process(command(task, root), root / task.directory)


def in_a_process(arguments: list[str], directory: Path) -> None:
    """Raises: subprocess.CalledProcessError: it failed."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / OUTPUT).open("a") as output:
        subprocess.run(
            [sys.executable, *arguments],
            check=True,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
