"""How commands tell what went wrong: in a line, never by a traceback."""

from collections.abc import Callable
from pathlib import Path

import own_log
import pytest

from bundle.errors import RerankerError, faults_told
from model.data import __main__ as data_command


def no_such_folder() -> None:
    Path("/nowhere/at/all").write_text("")


def disk_full() -> None:
    raise OSError(28, "No space left on device")


def ours() -> None:
    raise RerankerError("config.toml:3: no such field")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (no_such_folder, "/nowhere/at/all: No such file or directory"),
        (disk_full, "No space left on device"),
        (ours, "config.toml:3: no such field"),
    ],
)
def test_faults_are_a_line(fault: Callable[[], None], told: str) -> None:
    with pytest.raises(SystemExit) as ended, faults_told():
        fault()
    assert ended.value.code == told


def test_mistakes_of_ours_are_not_hidden() -> None:
    with pytest.raises(KeyError), faults_told(ValueError):
        raise KeyError("a")
    with pytest.raises(ValueError, match="b"), faults_told():
        raise ValueError("b")
    with pytest.raises(SystemExit, match="c"), faults_told(ValueError):
        raise ValueError("c")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    log = own_log.write_log(tmp_path / "log.jsonl", users=3)
    for out in (tmp_path / "none" / "my.toml", tmp_path):
        with pytest.raises(SystemExit) as ended:
            own_log.run(data_command.main, "schema", log, "--out", out)
        assert str(ended.value.code).startswith(f"{out}: ")
