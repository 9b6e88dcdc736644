"""The documented path on a log of one's own, by its commands: nothing is trained in vain, none of it ends in
a refusal that cannot be answered, and what is said at the end is honest."""

import json
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from own_log import SLATE, item, run, write_config, write_lines, write_log

from bundle.features.assembly import Candidates
from bundle.features.history import Interaction, UserContext
from bundle.manifest import CATALOGUE, BundleError, read_manifest
from bundle.repository import locate
from engine.loaded_model import LoadedModel
from export import __main__ as exporting
from export import catalogue, evaluate
from model import train
from model.data.event_log import read_event_log
from model.training.checkpoint import SUMMARY, load_features, load_summary

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's libraries warn of each other

LIKED = {"event": "interaction", "ranking": "r", "item": "new", "type": "click"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`log.jsonl`, `my.toml`, `run`, `bundles/mine`, and what training said in `said.txt`."""
    made = tmp_path_factory.mktemp("own")
    write_log(made / "log.jsonl")
    write_config(made / "my.toml")
    said = run(train.main, *options(made, "my.toml", "run"))
    (made / "said.txt").write_text(said)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "QUICK_CHECK", 10)  # parity has tests of its own
        run(exporting.main, "--run", made / "run", "--bundle", made / "bundles/mine")
    return made


def options(folder: Path, config: str, directory: str) -> tuple[object, ...]:
    where = ("--config", folder / config, "--event-log", folder / "log.jsonl")
    return (*where, "--run", folder / directory)


def phases(directory: Path) -> set[str]:
    """What was trained in a run."""
    rows = (directory / "metrics.csv").read_text().splitlines()
    return {row.split(",")[0] for row in rows[1:]}


def test_after_a_rejected_evaluator_the_warm_start_goes_on_and_is_told_of(folder: Path) -> None:
    summary = load_summary(folder / "run")
    assert summary["kept"] == "warm start"
    assert summary["left_out"] == ["reinforcement"]
    assert "calibration error" in summary["evaluator_rejected"]
    assert phases(folder / "run") == {"evaluator", "warm_start"}
    said = (folder / "said.txt").read_text()
    assert "whether lists may gain from reasoning was not asked" in said
    assert "going on with the warm start alone, without reinforcement" in said
    assert "without reinforcement, lookahead when serving: the evaluator cannot be trusted" in said
    manifest = read_manifest(locate(folder / "bundles/mine"))
    assert manifest.training == summary
    assert not manifest.has_evaluator, "what nobody trusts is not for lookahead either"


def test_what_is_set_to_nothing_is_not_trained_nor_what_only_it_needs(folder: Path) -> None:
    write_config(folder / "labels.toml", supervised=1, reinforcement=0)
    for quick in ((), ("--quick",)):
        directory = folder / f"labels{len(quick)}"
        run(train.main, *options(folder, "labels.toml", directory.name), *quick)
        assert phases(directory) == {"warm_start"}
        assert load_summary(directory)["evaluator"] is None
    same, other = (torch.load(folder / name / "policy.pt") for name in ("run", "labels0"))
    assert all(torch.equal(same[name], other[name]) for name in same), "as if it had never been asked for"


def test_a_refused_run_can_be_answered_where_it_is(folder: Path) -> None:
    asked = options(folder, "my.toml", "refused")
    with pytest.raises(
        SystemExit, match=r"cannot be trusted as a reward: .* no --require-evaluator; this --run"
    ):
        run(train.main, *asked, "--require-evaluator")
    run(train.main, *asked)
    assert (folder / "refused" / SUMMARY).exists()
    with pytest.raises(SystemExit, match="already trained, without an evaluator"):
        run(train.main, *asked, "--require-evaluator")

    write_config(folder / "rewards.toml", supervised=0)
    write_config(folder / "labels.toml", supervised=1, reinforcement=0)
    with pytest.raises(SystemExit, match=r"a warm start \(\[supervised\] epochs\)"):
        run(train.main, *options(folder, "rewards.toml", "rewards"))
    run(train.main, *options(folder, "labels.toml", "rewards"))
    assert phases(folder / "rewards") == {"warm_start"}, "nothing of the refused run is left"


def test_a_changed_log_is_a_new_run(folder: Path, tmp_path: Path) -> None:
    for name in ("log.jsonl", "my.toml", "run", "bundles"):
        copy = shutil.copytree if (folder / name).is_dir() else shutil.copy
        copy(folder / name, tmp_path / name, **({"symlinks": True} if name == "bundles" else {}))
    asked = options(tmp_path, "my.toml", "again")
    run(train.main, *asked)
    assert "already trained" in run(train.main, *asked)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write(json.dumps(item(99, random.Random(1))) + "\n")
    with pytest.raises(SystemExit, match="a changed log is a new run; give another --run"):
        run(train.main, *asked)
    (tmp_path / "again" / SUMMARY).unlink()  # killed before its end
    with pytest.raises(SystemExit, match="a changed log is a new run"):
        run(train.main, *asked)


def test_the_comparison_is_honest(folder: Path) -> None:
    said = run(evaluate.main, folder / "bundles/mine", "--json", folder / "report.json")
    report = json.loads((folder / "report.json").read_text())
    log = read_event_log(folder / "log.jsonl", "log")
    clicked = np.mean([slate.labels[:SLATE].sum() for slate in log.slates["test"]])
    assert report["metrics"]["initial order"]["clicks@10"] == pytest.approx(clicked), "cut as the slates are"
    by_item, by_all = (report["metrics"][name]["ndcg@10"] for name in ("item CTR", "LambdaMART"))
    assert by_all > by_item + 0.1, "who asks is a column of LambdaMART, too"
    gap = report["ndcg@10_difference"]["LambdaMART"]
    assert f"{gap['mean']:+.4f} [{gap['interval'][0]:+.4f}, {gap['interval'][1]:+.4f}] NDCG@10" in said
    assert re.search(r"LambdaMART (is better|is as good) here|EGLR is ahead of LambdaMART", said)
    assert re.search(r"Serve (EGLR|LambdaMART)", said)
    assert "has changed" not in said


def test_evaluation_warns_of_a_changed_log(folder: Path) -> None:
    log = (folder / "log.jsonl").read_bytes()
    try:
        (folder / "log.jsonl").write_bytes(log + b"\n")
        assert "the log has changed since the bundle was trained" in run(
            evaluate.main, folder / "bundles/mine"
        )
    finally:
        (folder / "log.jsonl").write_bytes(log)


def test_items_and_counts_are_added_without_training(folder: Path, tmp_path: Path) -> None:
    before = locate(folder / "bundles/mine")
    fields = [
        {"name": "price", "value": 3.5},
        {"name": "genre", "value": "noir"},
        {"name": "prise", "value": 1},
    ]
    items = write_lines(
        tmp_path / "items.jsonl",
        [
            {"event": "item", "item": "new", "fields": fields},
            {"event": "item", "item": "i0", "fields": [{"name": "price", "value": 100.0}]},
        ],
    )
    ranking = {"event": "ranking", "id": "r", "user": "u0", "timestamp": "1800000000000"}
    shown = [{"id": "new"}, {"id": "i1"}, {"id": "i2"}]
    events = write_lines(tmp_path / "events.jsonl", [{**ranking, "items": shown}, LIKED])
    said = run(catalogue.main, folder / "bundles/mine", "--items", items, "--events", events)
    assert "1 items are new and 1 updated; 1 clicks of 1 lists" in said
    assert f"`prise`: no such field, in 1 items, first in {items}:1" in said
    assert f"`genre`: values the model never saw, in 1 items, first in {items}:1" in said

    after = locate(folder / "bundles/mine")
    old, new = read_manifest(before), read_manifest(after)  # which checks every hash
    assert new.version == f"{old.version}+c{new.hashes[CATALOGUE][:8]}" == after.name
    assert {name for name in new.hashes if new.hashes[name] != old.hashes[name]} == {CATALOGUE}
    was, now = (load_features(bundle).catalogue for bundle in (before, after))
    assert now.ids == [*was.ids, "new"]
    row = {item: int(now.rows([item])[0]) for item in ("new", "i0", "i1")}
    assert (now.clicks[row["new"]], now.impressions[row["new"]]) == (1, 1)
    assert now.impressions[row["i1"]] == was.impressions[row["i1"]] + 1
    assert now.numbers[row["i0"]][0] > was.numbers[row["i0"]][0]
    assert now.past is not None
    later = now.past.read(now._past_fields, np.array([row["new"]]), 1_900_000_000.0)
    assert later[0, 0] == 1

    told = UserContext({}, (Interaction("new", "click"),))
    seen = [
        len(
            LoadedModel.open(bundle).features.request(Candidates(["i1", "i2"]), told, {}, 1.9e9)[
                "history_numeric"
            ]
        )
        for bundle in (before, after)
    ]
    assert seen == [0, 1], "a click on an item counts from the version on that knows it"

    with pytest.raises(SystemExit, match=r"counted in .* already"):
        run(catalogue.main, folder / "bundles/mine", "--events", events)
    with pytest.raises(BundleError, match="a bundle by itself"):
        catalogue.refresh(shutil.copytree(after, tmp_path / "alone"), items, None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            {"item": "x", "fields": [{"name": "price", "value": "dear"}]},
            '`price`: expected a number \\(numeric\\), got the text "dear"',
        ),
        ({"fields": []}, "item without `item`"),
        ({"item": "x", "fields": [{"name": "price"}]}, "field 'price' without `value`"),
    ],
)
def test_a_bad_item_is_named_by_its_line(
    folder: Path, tmp_path: Path, line: dict[str, object], message: str
) -> None:
    items = write_lines(
        tmp_path / "items.jsonl", [{"event": "item", "item": "fine"}, {"event": "item", **line}]
    )
    before = sorted(path.name for path in (folder / "bundles/mine").iterdir())
    with pytest.raises(SystemExit, match=rf"items\.jsonl:2: .*{message}"):
        run(catalogue.main, folder / "bundles/mine", "--items", items)
    assert sorted(path.name for path in (folder / "bundles/mine").iterdir()) == before
