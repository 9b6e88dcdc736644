"""Tables and figures in README and docs/ are what the commands write, and figures in the prose are theirs."""

import re
from functools import cache
from pathlib import Path

import pytest

from bench import capacity_page, locality, marks
from bench import report as bench_report
from bench.tables import blocks as bench_blocks
from evidence import off_policy_pages, pages
from evidence import report as evidence_report
from evidence.results import RESULTS, Results, load
from evidence.tables import blocks as evidence_blocks
from faults import tables as faults_tables
from loop import pages as loop_pages

PAGES = [
    path.relative_to(pages.ROOT).as_posix()
    for path in (pages.ROOT / "README.md", *sorted((pages.ROOT / "docs").rglob("*.md")))
]


@cache
def made() -> dict[str, str]:
    """Every block of every page, by name."""
    parts = (
        evidence_blocks(Results(load(pages.ROOT / RESULTS))),
        off_policy_pages.every_block(),
        bench_blocks(marks.stored()),
        faults_tables.blocks(),
        loop_pages.blocks(loop_pages.stored()),
        capacity_page.blocks(),
        locality.blocks(),
    )
    found = {name: text for part in parts for name, text in part.items()}
    assert len(found) == sum(map(len, parts))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_as_the_commands_write_them(page: str) -> None:
    text = (pages.ROOT / page).read_text()
    assert {block["name"] for block in pages.BLOCK.finditer(text)} <= set(made())
    assert pages.filled(text, made()) == text, "run `python -m evidence.report` and `python -m bench.report`"


def test_the_commands_write_every_page_with_blocks() -> None:
    found = {page for page in PAGES if pages.BLOCK.search((pages.ROOT / page).read_text())}
    assert found == {
        *evidence_report.PAGES,
        *off_policy_pages.PAGES,
        *bench_report.PAGES,
        *faults_tables.PAGES,
        *loop_pages.PAGES,
        *capacity_page.PAGES,
        *locality.PAGES,
    }


def test_every_block_of_speed_has_a_place() -> None:
    text = "".join((pages.ROOT / page).read_text() for page in bench_report.PAGES)
    assert {block["name"] for block in pages.BLOCK.finditer(text)} >= set(bench_blocks(marks.stored()))


@pytest.mark.parametrize("page", ["README.md", "docs/results.md", "docs/large-lists.md"])
def test_figures_in_the_prose_are_the_tables_own(page: str) -> None:
    """Every figure with three or more decimals is in one of the page's blocks, up to rounding and sign."""
    text = (pages.ROOT / page).read_text()
    tables = " ".join(block["text"] for block in pages.BLOCK.finditer(text))
    known = {abs(float(number)) for number in re.findall(r"\d+\.\d+", tables)}
    assert known
    prose = re.sub(r"^    .*$", "", pages.BLOCK.sub("", text), flags=re.MULTILINE)
    for number in re.findall(r"(?<![\d.])\d{0,3}\.\d{3,}(?!\d|\.\d)", prose):
        rounding = 0.51 * 10.0 ** -len(number.partition(".")[2])
        assert min(abs(float(number) - value) for value in known) < rounding, number


def test_a_block_is_replaced_where_it_stands(tmp_path: Path) -> None:
    page = "a\n<!-- x -->\nold\n<!-- /x -->\nb <!-- y -->1<!-- /y --> c <!-- z --><!-- /z -->\n"
    new = pages.filled(page, {"x": "| t |", "y": "2"})
    assert new == "a\n<!-- x -->\n| t |\n<!-- /x -->\nb <!-- y -->2<!-- /y --> c <!-- z --><!-- /z -->\n"
    assert pages.filled(new, {"x": "| t |", "y": "2"}) == new


def test_a_table_has_a_row_a_line() -> None:
    assert pages.table(["", "b"], [[1, 2.5]]) == "|  | b |\n|---|---|\n| 1 | 2.5 |"
