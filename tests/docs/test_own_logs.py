"""The page on logs of one's own: its example can be read, its table has every kind of fault."""

import re
import tomllib
from pathlib import Path

from bundle.features.schema import FeatureSchema
from model.data.event_log import dataset_of
from model.data.findings import Findings
from model.data.log_lines import read_values
from model.data.mapping import Mapping
from model.data.slate import SPLITS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/own-logs.md").read_text()
SCHEMA = FeatureSchema.model_validate(
    {"fields": [{"name": "price", "kind": "numeric"}, {"name": "genres", "kind": "multivalued"}]}
)


def block(begins: str) -> str:
    """The indented block whose first line begins so."""
    after = PAGE[PAGE.index(f"    {begins}") :]
    lines = re.match(r"(?:    .*\n|\n)+", after)
    assert lines
    return re.sub(r"^    ", "", lines[0], flags=re.MULTILINE)


def test_the_example_is_a_log(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(block('{"event"'))
    found = Findings()
    dataset = dataset_of(read_values(tmp_path / "log.jsonl", found), "log", found, SCHEMA)
    assert not found.refusals
    assert {finding.effect for finding in found} == {"read"}
    assert sum(len(dataset.slates[split]) for split in SPLITS) == 3


def test_the_mapping_is_one() -> None:
    Mapping.model_validate(tomllib.loads(block("[impressions]")))


def test_every_kind_of_fault_is_in_the_table() -> None:
    code = "".join(
        path.read_text() for path in (ROOT / "model/data").glob("*.py") if path.stem != "raw_table"
    )
    kinds = set(re.findall(r'(?:\.add\(|LineError\()\s*"([^"]+)"', code))
    told = [row.split("|") for row in PAGE.splitlines() if row.startswith("| `")]
    assert kinds <= {name for row in told for cell in row for name in re.findall(r"`([^`]+)`", cell)}
    assert {name for row in told for name in re.findall(r"`([^`]+)`", row[1])} <= kinds
