"""Who may import whom, room by room, and that serving never needs torch."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = (
    "bundle",
    "constraints",
    "decisions",
    "engine",
    "model",
    "export",
    "evidence",
    "service",
    "launch",
    "loadtest",
    "faults",
    "loop",
    "bench",
    "deploy",
    "reference",
    "tests",
)
SERVICE = ("service.errors", "service.settings")
"""Known to every room of the service."""

OFF_POLICY = ("evidence.judging", "evidence.logged_lists", "evidence.off_policy")
"""What a bundle is worth by a log, which is asked before it goes live."""

ARROWS: dict[str, tuple[str, ...]] = {
    "bundle": (),
    "constraints": ("bundle.compiled", "bundle.errors"),
    "decisions": ("bundle.errors", "bundle.timestamps"),
    "engine": ("bundle", "constraints"),
    "model": ("bundle", "constraints", "decisions"),
    "export": ("engine", "model", "bundle", "constraints", "decisions", *OFF_POLICY),
    "export.bulk": (
        *("engine", "bundle", "model.data.arrow", "model.progress"),
        *("service.api.decoding", "service.api.validation", "service.bodies", "service.context.encoding"),
        *("service.context.store", "service.serving.preparation", "service.serving.request_features"),
        *("service.serving.response", "service.serving.rules", "service.errors", "service.settings"),
        "launch.ray_cluster",
    ),
    "evidence": ("export", "engine", "model", "bundle", "decisions", "launch.ray_cluster"),
    "service": ("engine", "bundle", "constraints", "decisions"),
    "loadtest": (),
    "launch": (),
    "faults": (
        "bundle",
        "launch",
        "loadtest.payloads",
        "evidence.pages",
        "export.provenance",
        "model.progress",
    ),
    "loop": (
        *("bundle", "decisions", "engine", "evidence", "export", "launch", "model"),
        "faults.traffic.Caller",
    ),
    "bench": (
        "launch",
        "evidence.pages",
        "loadtest.capacity",
        "loadtest.payloads",
        "loadtest.simulation",
        "service",
        "export",
        "engine",
        "model",
        "bundle",
        "constraints",
        "decisions",
    ),
    "deploy": ("launch",),
    "reference": ("evidence.pages", "service"),
    # Inside the service: `app` wires the rooms, `process` runs what it made.
    "service.bodies": ("bundle", "engine"),
    "service.context": ("bundle", *SERVICE),
    "service.observe": ("bundle", "decisions", "engine", "service.bodies", *SERVICE),
    "service.serving": (
        "bundle",
        "constraints",
        "decisions",
        "engine",
        "service.bodies",
        "service.context",
        "service.observe",
        *SERVICE,
    ),
    "service.api": (
        *("bundle", "service.bodies", "service.context", "service.observe", "service.serving"),
        *("service.keys", *SERVICE),
    ),
    "service.process": (
        "bundle",
        *(
            "service.api.answers",
            "service.api.hosts",
            "service.api.request",
            "service.app",
            "service.observe",
            "service.serving.changes",
            "service.serving.plan",
        ),
        *SERVICE,
    ),
    # Inside model: networks know nothing of data and training, data nothing of either.
    "model.decoders": ("bundle", "model.encoder"),
    "model.data": ("bundle", "decisions", "model.progress"),
    "model.training": (
        "constraints",
        *("bundle", "model.config", "model.data", "model.encoder", "model.evaluator", "model.metrics"),
        *("model.policy", "model.progress", "model.reasoning", "model.sizes"),
    ),
    "model.baselines": (
        *("bundle", "model.attention", "model.config", "model.encoder", "model.evaluator", "model.policy"),
        "model.training",
    ),
}
"""What each room may import besides itself. The innermost room that is named here decides."""


ENTRIES = {ROOT / "model/data/__main__.py"}
"""Commands that know several rooms, as model/train.py does."""


def imports(path: Path) -> Iterator[str]:
    """Names of this project that a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.split(".")[0] in OURS)


def within(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


@pytest.mark.parametrize("room", sorted(ARROWS))
def test_imports_go_one_way(room: str) -> None:
    folder = ROOT / room.replace(".", "/")
    inner = [ROOT / other.replace(".", "/") for other in ARROWS if other.startswith(f"{room}.")]
    found = (path for path in folder.rglob("*.py") if path not in ENTRIES)
    files = [path for path in found if not any(path.is_relative_to(other) for other in inner)]
    assert files
    strays = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path)
        if not within(name, (room, *ARROWS[room]))
    }
    assert not strays


def test_the_networks_know_nothing_of_data_and_training() -> None:
    """They stand in `model` itself, where the rooms beside them could be reached."""
    networks = {"attention", "config", "encoder", "evaluator", "policy", "reasoning", "sizes"}
    allowed = ("bundle", "model.decoders", *(f"model.{name}" for name in networks))
    found = {name for network in networks for name in imports(ROOT / f"model/{network}.py")}
    assert {name for name in found if not within(name, allowed)} == set()
    assert {path.stem for path in ROOT.glob("model/*.py")} == networks | {
        *("__init__", "metrics", "progress"),
        "first_stage",  # a baseline's scores for a log that has none
        "train",  # the run from top to bottom: the only one that knows all of them
        "tune",  # many such runs
        "trial",  # one of them, which ends with `tune`
    }


def test_every_room_is_named() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    inner = {
        f"{room}.{path.parent.name}"
        for room in ("model", "service")
        for path in ROOT.glob(f"{room}/*/__init__.py")
    }
    assert rooms | inner <= set(ARROWS)


def test_every_error_has_one_root() -> None:
    """Whoever catches `bundle.errors.RerankerError` catches whatever is told to users."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for room in (
            *("bundle", "constraints", "decisions", "engine", "model", "export", "evidence", "service"),
            "loop",
        )
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
    }
    rooted = {"RerankerError"}
    while grown := {name for name, of in bases.items() if of & rooted} - rooted:
        rooted |= grown
    assert set(bases) - rooted == {"FieldError"}  # a body of an answer, not an exception


def test_an_arrow_that_is_not_drawn_is_found(tmp_path: Path) -> None:
    stray = tmp_path / "stray.py"
    stray.write_text("from model import policy\ndef late():\n    import service.app\n")
    assert list(imports(stray)) == ["model.policy", "service.app"]
    assert not within("model.policy", ("bundle", "engine", "modelling"))


@pytest.mark.parametrize("module", ["service.app", "engine.loaded_model", "bundle.features.assembly"])
def test_serving_leaves_torch_alone(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    "module", ["bundle.manifest", "bundle.features.assembly", "service.process.supervisor"]
)
def test_reading_and_supervising_leave_onnxruntime_alone(module: str) -> None:
    code = f"import sys, {module}; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_onnxruntime_is_imported_where_it_is_told_to_keep_to_itself() -> None:
    importing = {
        path.relative_to(ROOT).as_posix()
        for name in OURS
        for path in (ROOT / name).rglob("*.py")
        if re.search(r"^\s*(import|from) onnxruntime", path.read_text(), re.MULTILINE)
    }
    assert importing == {"engine/sessions.py"}


def test_every_package_is_listed_for_installation() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    packages = (
        "bundle",
        "constraints",
        "decisions",
        "engine",
        "model",
        "export",
        "evidence",
        "launch",
        "faults",
        "loop",
        "bench",
        "reference",
        "service",
    )
    found = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for package in packages
        for init in (ROOT / package).rglob("__init__.py")
    }
    assert listed == found | {"loadtest"}
