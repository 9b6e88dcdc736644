"""What is kept of compiled functions is theirs: no source has changed since that they may be made of."""

import os
from pathlib import Path

from bundle.compiled import ROOT, SOURCES, compiled, stamp


def test_any_source_that_changes_is_seen(tmp_path: Path) -> None:
    (tmp_path / "constraints").mkdir()
    source = tmp_path / "constraints/search.py"
    source.write_text("x = 1")
    before = stamp(tmp_path)
    source.write_text("x = 2")
    os.utime(source, (1, 1))
    assert stamp(tmp_path) != before


def test_every_compiled_function_is_in_a_source() -> None:
    rooms = ("bundle", "constraints", "engine", "model", "service")
    files = [
        file for room in rooms for file in (ROOT / room).rglob("*.py") if "@compiled" in file.read_text()
    ]
    assert files
    for file in files:
        assert str(file.parent.relative_to(ROOT)) in SOURCES, file


def test_the_stamp_is_what_numba_compares() -> None:
    function = compiled(stamp)  # never called, hence not compiled
    assert function._cache._cache_file._source_stamp == stamp(ROOT)
