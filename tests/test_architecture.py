"""Who may import whom, and that serving never needs torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("model", "export", "evidence", "service", "loadtest", "bench", "deploy", "tests")
TORCH_FREE = ("model.compiled", "model.contract", "model.manifest", "model.reference", "model.features")
ENGINE = (
    "service.engine.runner",
    "service.engine.generation",
    "service.engine.loaded_model",
    "service.engine.native",
)
ALLOWED = {
    "model": ("model",),
    "export": ("export", "model", *ENGINE),
    "evidence": ("evidence", "export", "model", *ENGINE),
    "service": ("service", *TORCH_FREE),
    "loadtest": ("loadtest",),
    "bench": ("bench", "loadtest.payloads", "service", "export", "model"),
    "deploy": ("deploy",),
}


def imports(path: Path) -> Iterator[str]:
    """Modules of this project that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        yield from (name for name in names if name.split(".")[0] in OURS)


def within(module: str, allowed: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_go_one_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    strays = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        for module in imports(path)
        if not within(module, ALLOWED[package]) and not (package == "loadtest" and "." not in module)
    }
    assert not strays


@pytest.mark.parametrize("module", ["service.app", "service.engine.loaded_model"])
def test_serving_leaves_torch_alone(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_package_is_listed_for_installation() -> None:
    listed = (ROOT / "pyproject.toml").read_text()
    for package in ("model", "export", "evidence", "bench", "service"):
        for init in (ROOT / package).rglob("__init__.py"):
            name = ".".join(init.parent.relative_to(ROOT).parts)
            assert f'"{name}"' in listed, f"{name} is missing from [tool.setuptools] packages"
