"""More items and fresh counts in a trained bundle, without training:

    python -m export.catalogue bundles/mine --items new.jsonl --events recent.jsonl.gz

Writes another version with the same weights. Both files are in the event format. Items may be new, or known
ones of which more is said; events are what happened since the log, and never what was counted before. Clicks
and impressions are added as in training, from lists that came to something, and so are the events that
popularity is counted from. What was learned of the log stays: vocabularies, scales, the mean click rate. A
history may hold items that the catalogue lacks: they count from the version on that knows them.
"""

import argparse
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle.errors import faults_told
from bundle.features.assembly import FeatureAssembler
from bundle.manifest import CATALOGUE, MANIFEST, BundleError, Manifest, read_manifest, sha256
from bundle.repository import CURRENT, locate, marked, point, publish
from export.parity import check_bundle
from model.data.event_log import read_event_log, read_items
from model.data.slate import SPLITS, Dataset
from model.progress import console
from model.training.checkpoint import load_features, save_features, save_text

CHECKED = 50
"""Random lists compared with PyTorch's: only the catalogue is another one."""

History = list[dict[str, Any]]
"""Of a bundle's catalogue: what was added to it, and when."""


@dataclass
class Refreshed:
    """What was added.

    Attributes:
        new, updated: items that were not known, and those of which more is said now.
        lists, clicks: counted.
        undeclared, unseen: where a field that the model does not have, or a field's value that it never saw,
            first occurs, and in how many items.
    """

    new: int = 0
    updated: int = 0
    lists: int = 0
    clicks: int = 0
    undeclared: dict[str, tuple[str, int]] = field(default_factory=dict)
    unseen: dict[str, tuple[str, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        told = [
            f"{self.new} items are new and {self.updated} updated; {self.clicks} clicks of {self.lists} lists"
        ]
        for found, what in ((self.undeclared, "no such field"), (self.unseen, "values the model never saw")):
            told += [
                f"  `{name}`: {what}, in {n} items, first in {where}" for name, (where, n) in found.items()
            ]
        return "\n".join(told)


def refresh(
    bundle: Path, items: Path | None, events: Path | None, version: str | None = None, current: bool = True
) -> tuple[Path, Refreshed]:
    """Write a version with the items and the counts of the events, beside the bundle's own.

    Args:
        current: serve it from the next (re)load on, if the bundle's own was the current one.

    Returns:
        Where it is, and what was added.

    Raises:
        BundleError: the bundle is none or has no versions beside it, or events were counted before.
        EventLogError: a line is wrong; the message names file and line.
        ParityError: the new version does not write PyTorch's lists.
    """
    bundle = locate(bundle)
    manifest, folder = read_manifest(bundle), bundle.parent
    if not (folder / CURRENT).is_symlink():
        raise BundleError(
            f"{bundle}: a bundle by itself; versions lie in bundles/NAME, where export puts them"
        )
    earlier: History = manifest.training.get("catalogue", [])
    counted = {one["events_sha256"] for one in earlier} | {manifest.training.get("log_sha256")}
    hashes = {name: path and sha256(path) for name, path in (("items", items), ("events", events))}
    if events is not None and hashes["events"] in counted:
        raise BundleError(f"{events}: counted in {bundle} already")

    features, found = load_features(bundle), Refreshed()
    catalogue, known = features.catalogue, set(features.catalogue.ids)
    records = _records([path for path in (events, items) if path is not None], features, found)
    counts: dict[str, tuple[int, int]] = {}
    happened: list[tuple[str, float, float]] = []
    if events is not None:
        dataset = read_event_log(events, events.stem, features.schema)
        counts = _counts(dataset, found)
        happened = [(event.item_id, event.timestamp, event.value) for event in dataset.positives]
    for item_id in (*counts, *(item_id for item_id, _, _ in happened)):
        if item_id not in known:
            records.setdefault(item_id, {})
    found.new = sum(item_id not in known for item_id in records)
    found.updated = len(records) - found.new

    entry = {f"{name}_sha256": found_hash for name, found_hash in hashes.items()} | {"lists": found.lists}
    training = {**manifest.training, "catalogue": [*earlier, {**entry, "new": found.new}]}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as copies:
        copy = Path(shutil.copytree(bundle, Path(copies) / "copy"))
        save_features(copy, FeatureAssembler(features.fitted, catalogue.extended(records, counts, happened)))
        changed = _signed(copy, manifest, training, version)
        check_bundle(copy, random=CHECKED, real=0)
        target = publish(copy, folder, changed.version)
    if current and locate(folder) == bundle.resolve():
        point(folder, changed.version)
    return target, found


def _records(paths: list[Path], features: FeatureAssembler, found: Refreshed) -> dict[str, dict[str, Any]]:
    """Raw records of the files' items, by id; later lines go before earlier ones.

    Raises:
        EventLogError: anything is wrong with a line, such as a value that is not of its field's kind.
    """
    records: dict[str, dict[str, Any]] = {}
    encoder = features.catalogue.encoder
    for where, item_id, record in read_items(paths, features.schema):
        unseen: set[str] = set()
        numbers, tokens = encoder.nothing()
        encoder.write(record, numbers, tokens, 0.0, unseen)
        for names, told in ((record.keys() - encoder.names, found.undeclared), (unseen, found.unseen)):
            for name in sorted(names):
                first, count = told.get(name, (where, 0))
                told[name] = first, count + 1
        records.setdefault(item_id, {}).update(record)
    return records


def _counts(dataset: Dataset, found: Refreshed) -> dict[str, tuple[int, int]]:
    """Clicks and impressions of the lists that came to something, as training counts them."""
    clicks, impressions = Counter[str](), Counter[str]()
    for slate in (slate for split in SPLITS for slate in dataset.slates[split]):
        found.lists += 1
        for index in slate.shown:
            impressions[slate.candidates[index]] += 1
            clicks[slate.candidates[index]] += int(slate.labels[index])
    found.clicks = clicks.total()
    return {item_id: (clicks[item_id], shown) for item_id, shown in impressions.items()}


def _signed(bundle: Path, manifest: Manifest, training: dict[str, Any], version: str | None) -> Manifest:
    """Write the manifest of a bundle with another catalogue, whose hash the version ends in."""
    found = {name: sha256(bundle / name) for name in manifest.hashes}
    named = version or marked(manifest.version, "c", found[CATALOGUE][:8])
    changed = manifest.model_copy(update={"version": named, "hashes": found, "training": training})
    save_text(bundle / MANIFEST, changed.model_dump_json(indent=2) + "\n")
    return changed


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m export.catalogue", description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle", type=Path, help="a version, or the model's folder for its current one")
    parser.add_argument("--items", type=Path, help="JSON lines; those of items are read")
    parser.add_argument("--events", type=Path, help="rankings and interactions since the log, and items")
    parser.add_argument("--version", help="of the model; the bundle's own and the catalogue's hash if absent")
    parser.add_argument("--not-current", action="store_true", help="leave the current version as it is")
    given = parser.parse_args()
    if given.items is None and given.events is None:
        parser.error("nothing to add: give --items, --events or both")
    with faults_told():
        target, found = refresh(given.bundle, given.items, given.events, given.version, not given.not_current)
    console.print(f"{target}: {found}", markup=False)


if __name__ == "__main__":
    main()
