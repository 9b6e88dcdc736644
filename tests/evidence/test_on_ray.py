"""The grid on a real Ray of this machine: the rows are those without it, and a fit that fails is told."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_data import TINY

from evidence import __main__ as runner
from evidence.data import DATA
from evidence.fit import ROWS, VALUES
from evidence.grid import Task

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]

KNOWS_TINY = """
import sys
if "evidence.fit" in sys.orig_argv:
    from evidence.data import DATA
    from tiny_data import TINY
    DATA["tiny"] = TINY
"""
"""Python reads it as it starts, in the processes of the fits too."""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(KNOWS_TINY)
    paths = (tmp_path / "site", ROOT, ROOT / "tests/evidence")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    monkeypatch.setitem(DATA, "tiny", TINY)
    monkeypatch.setitem(DATA, "broken", replace(TINY, name="broken"))  # which fits do not know


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_the_grid_on_ray_has_the_rows_of_the_grid_here(
    tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from evidence.on_ray import fitting_on
    from launch.ray_cluster import LOCAL

    todo = [Task("tiny", model, 0) for model in ("without reasoning", "LambdaMART", "random order")]
    here, there = tmp_path / "here", tmp_path / "there"
    assert runner.run(todo, here, 1, tmp_path / "results here", again=False) == 0
    broken = Task("broken", "EGLR", 0)
    with fitting_on(LOCAL) as fit:
        assert runner.run([broken, *todo], there, 9, tmp_path / "results there", again=False, fit=fit) == 1
        told = capsys.readouterr().out
        assert "FAILED exit status 2: " in told
        assert "invalid choice: 'broken'" in " ".join(told.split())
        assert runner.run(todo, there, 9, tmp_path / "results there", again=False, fit=fit) == 0
        assert "3 of 3 fits are finished" in capsys.readouterr().out
    for task in todo:
        first, second = (json.loads((root / task.directory / ROWS).read_text()) for root in (here, there))
        assert [{**row, "cpu_s": 0} for row in first] == [{**row, "cpu_s": 0} for row in second]
        with (
            np.load(here / task.directory / VALUES) as one,
            np.load(there / task.directory / VALUES) as other,
        ):
            assert set(one) == set(other)
            assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_is_not_there_is_told() -> None:
    from evidence.on_ray import fitting_on
    from launch.ray_cluster import NoRayError

    with pytest.raises(NoRayError, match=r"no Ray at 127\.0\.0\.1:1"), fitting_on("127.0.0.1:1"):
        pass
