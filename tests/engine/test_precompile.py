"""What an image has compiled is what serving runs."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tiny_bundle import TinyBundles

ROOT = Path(__file__).parents[2]

SERVE = """
import gc, sys
import numpy as np
from dataclasses import replace
from pathlib import Path
from time import time
from numba.core.dispatcher import Dispatcher
from bundle.features.assembly import Candidates
from bundle.features.history import Interaction, UserContext
from constraints.planning import in_order, plan
from constraints.rules import Cap, Constraints, Floor
from engine.generation import Controls
from engine.loaded_model import LoadedModel
from engine.precompile import SIGNATURES, precompile

def signatures():
    found = [one for one in gc.get_objects() if isinstance(one, Dispatcher)]
    return {(one, signature) for one in found for signature in one.signatures}

precompile()
before = signatures()
model = LoadedModel.open(Path(sys.argv[1]))
past = UserContext({}, (Interaction("i1", "click"), Interaction("i2", "impression")))
features = [{"price": 1.0, "genres": ["drama"]}, None, None]
inputs = model.features.request(Candidates(["i1", "i2", "new"], features, [1.0, 2.0, 3.0]), past, {}, time())
controls = Controls.default(model.manifest, 3)
members = np.array([True, True, False])
asked = Constraints({0: 2}, caps=(Cap("cap", members, 1, 2),), floors=(Floor("floor", members, 1, 2),))
found = plan(asked, 3, 2)
in_order(found), in_order(found, [2, 1, 0])
plan(Constraints(caps=(Cap("short", members, 0),)), 3, 3)
for ahead in (0, 1):
    each = replace(controls, lookahead=ahead, entropy_threshold=-1.0)
    model.generate([inputs, inputs], [each] * 2)
    constrained = replace(each, slate_length=found.length, constraints=found)
    model.generate([inputs, inputs], [each, constrained])
    model.generate([inputs], [constrained])
assert signatures() == before, signatures() - before
for function in SIGNATURES:
    print(function.py_func.__qualname__, len(function.stats.cache_misses))
"""


def test_nothing_is_compiled_that_is_not_listed(tiny_bundles: "TinyBundles") -> None:
    for bundle in (tiny_bundles(evaluators=3), tiny_bundles(reasoner="none")):
        run = subprocess.run(
            [sys.executable, "-c", SERVE, str(bundle)], cwd=ROOT, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_a_tree_that_was_precompiled_compiles_nothing(bundle: Path, tmp_path: Path) -> None:
    """As in a container: nothing to be found at home."""
    for package in ("bundle", "constraints", "engine"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    build = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "NUMBA_CPU_NAME": "x86-64-v3",
        "NUMBA_CPU_FEATURES": "",
    }
    subprocess.run([sys.executable, "-B", "-m", "engine.precompile"], cwd=tmp_path, env=build, check=True)
    run = subprocess.run(
        [sys.executable, "-B", "-c", SERVE, str(bundle)],
        cwd=tmp_path,
        env=build,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    missed = dict(line.split() for line in run.stdout.splitlines())
    assert "decode" in missed
    assert set(missed.values()) == {"0"}
