"""The site is built without a warning, with nothing loaded from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(built)]
    run = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return built


def test_every_page_is_there(site: Path) -> None:
    sources = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    built = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    assert built == sources | {Path("client"), Path("404")}


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = re.compile(
        r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\s\"'>]+)"
    )
    for page in site.rglob("*.html"):
        assert not loaded.findall(page.read_text()), page
    for style in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", style.read_text()), style


def test_equations_are_drawn(site: Path) -> None:
    page = (site / "algorithm.html").read_text()
    assert "<math" in page
    assert "\\" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_tables_lists_and_headings_are_no_text(site: Path) -> None:
    """Where GitHub's Markdown and the site's differ."""
    for page in site.rglob("*.html"):
        text = re.sub(r"<pre.*?</pre>", "", page.read_text(), flags=re.DOTALL)
        assert not re.search(r"(?:\n|<p>|<td>)(?:- |\d\. |#+ |\|)", text), page
