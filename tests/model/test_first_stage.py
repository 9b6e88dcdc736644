"""A first stage for a log without one: good scores, none by a ranker that saw the list's user."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bundle.features.schema import FeatureSchema, FieldSpec
from model import first_stage
from model.baselines.lambdamart import LambdaMART
from model.data.event_log import read_event_log
from model.data.slate import SPLITS, LoggedSlate
from model.metrics import ndcg
from model.training.config import RunConfig
from model.training.examples import Example

ITEMS, SHOWN = 60, 8
SCHEMA = FeatureSchema(
    fields=(FieldSpec(name="quality", kind="numeric"),), item_ctr=False, initial_score=True
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Clicks go by quality; the scores that come with the log say the opposite."""
    rng = np.random.default_rng(0)
    quality = rng.normal(size=ITEMS)
    events = [
        {"event": "item", "item": f"i{n}", "fields": [{"name": "quality", "value": float(quality[n])}]}
        for n in range(ITEMS)
    ]
    for number in range(600):
        shown = rng.choice(ITEMS, SHOWN, replace=False)
        items = [
            {"id": f"i{n}", "fields": [{"name": "relevancy", "value": float(-quality[n])}]} for n in shown
        ]
        name = f"r{number}"
        events.append(
            {"event": "ranking", "id": name, "user": f"u{number // 2}", "timestamp": "1000", "items": items}
        )
        clicked = shown[np.argsort(-(quality[shown] + 0.3 * rng.normal(size=SHOWN)))[:2]]
        events += [
            {"event": "interaction", "ranking": name, "item": f"i{n}", "type": "click"} for n in clicked
        ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def test_the_log_has_scores_of_a_good_ranker_then(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "scored.jsonl.gz"
    first_stage.score_log(RunConfig(dataset="event_log", event_log=log, features=SCHEMA), out)
    before, after = (read_event_log(path, "log").slates for path in (log, out))
    for split in SPLITS:
        assert len(after[split]) == len(before[split]) > 0
        orders = [np.argsort(-np.array(slate.scores)) for slate in after[split]]
        labels = [slate.labels for slate in after[split]]
        assert ndcg(orders, labels, 10).mean() > 0.8
        shown = [np.arange(SHOWN)] * len(labels)
        assert ndcg(shown, labels, 10).mean() < 0.65


def test_no_list_is_scored_by_a_ranker_that_has_seen_its_user(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users: dict[int, str] = {}
    scored: list[set[str]] = []

    def examples(slates: Sequence[LoggedSlate], *arguments: Any) -> list[Example]:
        rows = make(slates, *arguments)
        users.update({id(row): slate.user_id for row, slate in zip(rows, slates, strict=True)})
        return rows

    def fit(train: list[Example], stop: list[Example], seed: int) -> LambdaMART:
        ranker = fit_one(train, stop, seed)
        seen, scores = {users[id(row)] for row in (*train, *stop)}, ranker.scores

        def score(rows: list[Example]) -> list[NDArray[np.float64]]:
            scored.append({users[id(row)] for row in rows})
            assert not seen & scored[-1]
            return scores(rows)

        monkeypatch.setattr(ranker, "scores", score)
        return ranker

    make, fit_one = first_stage.examples, first_stage.lambdamart.fit
    monkeypatch.setattr(first_stage, "examples", examples)
    monkeypatch.setattr(first_stage.lambdamart, "fit", fit)
    first_stage.with_scores(read_event_log(log, "log"), SCHEMA, seed=0)
    assert len(scored) == first_stage.INNER_FOLDS + 2
    assert len(set.union(*scored)) == 300
