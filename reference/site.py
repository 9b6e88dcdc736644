"""What MkDocs is told besides mkdocs.yml: pages from outside docs/, equations, and links that leave docs/.

Equations become MathML when the site is built, which browsers draw by themselves, so that no script has to.
"""

import re
from html import escape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
BROUGHT = {"client/README.md": "client.md"}
"""Pages from outside docs/, and where they stand in the site."""

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Every decision is in the navigation."""
    for section in config.nav or ():
        if "Decisions" in section:
            section["Decisions"] = sorted(
                path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/decisions/*.md")
            )
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in BROUGHT.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files that the site lacks become their names."""
    brought = {place: source for source, place in BROUGHT.items()}
    folder = (ROOT / brought.get(page.file.src_uri, f"docs/{page.file.src_uri}")).parent

    def replace(link: re.Match[str]) -> str:
        target = (folder / link["target"]).resolve()
        outside = not target.is_relative_to(ROOT / "docs") or target.is_dir()
        path = target.relative_to(ROOT).as_posix()
        here = "../" * page.file.src_uri.count("/")
        if path in BROUGHT:
            return f"[{link['text']}]({here}{BROUGHT[path]}{link['anchor'] or ''})"
        if outside:
            return f"{link['text']} (`{path}`)"
        if page.file.src_uri in brought:
            inside = target.relative_to(ROOT / "docs").as_posix()
            return f"[{link['text']}]({here}{inside}{link['anchor'] or ''})"
        return link[0]

    return _lists_apart(LINK.sub(replace, markdown))


def _lists_apart(markdown: str) -> str:
    """An empty line before each list, which GitHub does without and Python-Markdown does not."""
    lines: list[str] = []
    listed = fenced = False
    for line in markdown.split("\n"):
        fenced ^= line.startswith("```")
        if not fenced and not listed and lines and lines[-1] and line.startswith(("- ", "1. ")):
            lines.append("")
        listed = bool(re.match(r"- |\d+\. ", line)) or (listed and line[:1] in ("", " "))
        lines.append(line)
    return "\n".join(lines)


def equation(source: str, language: str, css_class: str, *_: Any, **__: Any) -> str:
    """A fence of `math`, as MathML."""
    return f'<div class="{escape(css_class)}">{convert(source.strip(), display="block")}</div>'
