"""What README and docs/ name is there: files, modules, links, settings, make targets."""

import ast
import re
from pathlib import Path

import pytest

from service.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "client/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
KEPT = (*FOLDERS, "examples", "tests", "configs", "docs", "client")
"""Folders of the project; others, such as `bundles/` and `runs/`, are made by its commands."""

NOT_OURS = {"service.name", "service.log", "constraints.at_most.0"}
"""An attribute of OpenTelemetry's, a file of the load test's and a place in a body only look like modules."""

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def files_named(text: str) -> set[str]:
    """Paths of Python files, and of whatever lies in a folder of the project."""
    words = set(re.findall(r"(?<![\w./-])[\w.-]+(?:/[\w.*-]+)*(?:/|\.\w+)?", text))
    paths = {word.rstrip(".") for word in words if word.endswith(".py") or word.split("/")[0] in KEPT}
    return {path for path in paths if path.endswith(".py") or "/" in path.rstrip("/")}


def modules_named(text: str) -> set[str]:
    """Dotted names that begin with a package of ours, and what `python -m` is given."""
    dotted = re.findall(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})(?:\.\w+)+(?![\w/-])", text)
    run = re.findall(r"python -m ([\w.]+)", text)
    ours = {name for name in run if name.split(".")[0] in (*FOLDERS, "examples")}
    return {name for name in {*dotted, *ours} if not name.endswith((".py", ".md", ".txt"))} - NOT_OURS


def exists(name: str) -> bool:
    """Whether a dotted name is a module of ours, or something that stands at the top of one."""
    path, parts = ROOT, name.split(".")
    while parts and (path / parts[0]).is_dir():
        path /= parts.pop(0)
    if not parts:
        return True
    module = path / f"{parts.pop(0)}.py"
    if not module.exists() or len(parts) > 1:
        return False
    tops = ast.parse(module.read_text()).body
    names = {getattr(top, "name", None) for top in tops}
    names |= {
        target.id
        for top in tops
        if isinstance(top, ast.Assign)
        for target in top.targets
        if isinstance(target, ast.Name)
    }
    return not parts or parts[0] in names


@pages
def test_files_exist(page: Path) -> None:
    folders = ROOT, page.parent  # a link says where from its page
    named = files_named(page.read_text())
    assert not {name for name in named if not any(list(folder.glob(name)) for folder in folders)}


@pages
def test_modules_exist(page: Path) -> None:
    assert not {name for name in modules_named(page.read_text()) if not exists(name)}


@pages
def test_names_are_in_the_files_they_are_said_to_be_in(page: Path) -> None:
    for name, path in re.findall(r"`([\w.]+)`\s(?:in\s|\()`([\w/]+\.py)`", page.read_text()):
        assert re.search(rf"\b{name.rpartition('.')[2]}\b", (ROOT / path).read_text()), f"{name} in {path}"


@pages
def test_links_and_images_resolve(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, link


@pages
def test_settings_and_make_targets_exist(page: Path) -> None:
    text = page.read_text()
    settings = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(rf"\b{ENV_PREFIX}[A-Z0-9_]*[A-Z0-9]\b", text)) <= settings | {"RERANK_BUNDLE_DIR"}
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, flags=re.MULTILINE)) <= set(targets)


def test_files_named_in_code_exist() -> None:
    named = {
        path
        for folder in KEPT
        for source in (ROOT / folder).rglob("*.py")
        if source != Path(__file__)
        for path in re.findall(
            rf"(?<![\w./-])(?:{'|'.join(KEPT)})/[\w/-]+\.(?:md|py|toml)\b", source.read_text()
        )
    }
    assert {"docs/results.md", "loadtest/locustfile.py"} <= named
    assert not {path for path in named if not (ROOT / path).exists()}


def test_what_is_missing_is_found() -> None:
    text = "`service/api/none.py`, configs/none, `routes.py`, `engine.native.kernel`, `-m service.run`"
    assert files_named(text) == {"service/api/none.py", "configs/none", "routes.py"}
    assert modules_named(text) == {"engine.native.kernel", "service.run"}
    assert exists("engine.native.kernel.decode")
    assert not exists("service.run")
    assert not exists("engine.native.kernel.nothing")
