"""Every baseline on lists with a planted signal, and what each of them promises."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bundle.contract import FEEDBACK_POSITIVE, NO_ITEM
from model.baselines import BASELINES, dlcm, mir, nar4rec, prm, recipe, setrank
from model.baselines.recipe import RECIPE, listwise_loss, shown
from model.baselines.task import Task
from model.encoder import FeatureSizes
from model.evaluator import Evaluator
from model.metrics import ndcg
from model.training.config import EvaluatorConfig
from model.training.examples import Batch, Example, to_batch
from model.training.phase import METRICS

SIZES = FeatureSizes(numeric=4, item_numeric=2, slot_fields=(), user_numeric=1, user_slots=0, vocabulary=1)
COLUMNS = ("quality", "noise", "item_ctr", "initial_score")


def lists(count: int, seed: int, signal: float = 3.0) -> list[Example]:
    """Clicks follow the first column; 6 to 12 candidates, the last two never shown."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        n = int(rng.integers(6, 13))
        numeric = rng.normal(size=(n, 4)).astype(np.float32)
        numeric[:, 2:] = numeric[:, :1]
        labels = (rng.random(n) < 1 / (1 + np.exp(1 - signal * numeric[:, 0]))).astype(np.float32)
        labels[-2:] = 0.0
        labels[int(numeric[:-2, 0].argmax())] = 1.0
        history = int(rng.integers(0, 3))
        inputs = {
            "candidate_numeric": numeric,
            "candidate_tokens": np.zeros((n, 0), np.int32),
            "candidate_mask": np.ones(n, bool),
            "user_numeric": np.zeros(1, np.float32),
            "user_tokens": np.zeros(0, np.int32),
            "history_numeric": rng.normal(size=(history, 2)).astype(np.float32),
            "history_tokens": np.zeros((history, 0), np.int32),
            "history_feedback": np.full(history, FEEDBACK_POSITIVE, np.int32),
        }
        rows.append(Example(inputs, labels, np.arange(n - 2)))
    return rows


def task(run: Path, seed: int = 0) -> Task:
    train, held_out = lists(600, 1), lists(60, 2)
    labels = [row.labels for row in held_out]

    def score(orders: list[NDArray[np.int64]]) -> tuple[float, dict[str, float]]:
        return float(ndcg(orders, labels, 5).mean()), {}

    torch.manual_seed(0)
    evaluator = Evaluator(EvaluatorConfig(width=16), SIZES).eval()
    return Task(train, held_out, lists(80, 3), COLUMNS, SIZES, 5, seed, score, evaluator, run)


@pytest.fixture(scope="module", params=list(BASELINES))
def ranked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    given = task(tmp_path_factory.mktemp("run"))
    return request.param, given, BASELINES[request.param](given)


def test_slates_are_distinct_real_candidates(ranked) -> None:
    _, given, orders = ranked
    assert len(orders) == len(given.test)
    for row, order in zip(given.test, orders, strict=True):
        assert len(order) >= min(5, len(row.labels))
        assert len(set(order.tolist())) == len(order)
        assert set(order.tolist()) <= set(range(len(row.labels)))


def test_what_is_planted_is_found(ranked) -> None:
    name, given, orders = ranked
    labels = [row.labels for row in given.test]
    found = ndcg(orders, labels, 5).mean()
    shown_first = ndcg([np.arange(len(label)) for label in labels], labels, 5).mean()
    if name == "initial order":
        assert found == pytest.approx(shown_first)
    elif name in ("EG-Rerank", "CMR-style"):  # taught by an evaluator that was never fitted
        assert found > shown_first + 0.05
    else:
        assert found > shown_first + 0.2


@pytest.mark.parametrize("name", ["CMR-style", "EG-Rerank"])
def test_a_batch_of_one_list_teaches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(recipe, "RECIPE", RECIPE.model_copy(update={"epochs": 2, "batch": 8}))
    given = task(tmp_path)
    BASELINES[name](replace(given, train=given.train[:17]))
    losses = [line for line in (tmp_path / METRICS).read_text().splitlines() if ",loss," in line]
    assert len(losses) == 4
    assert not any("nan" in line for line in losses)


@pytest.mark.parametrize("name", ["SetRank", "NAR4Rec-like"])
def test_a_seed_repeats(tmp_path: Path, name: str) -> None:
    runs = [tmp_path / "a", tmp_path / "b"]
    for run in runs:
        run.mkdir()
    first, second = (BASELINES[name](task(run)) for run in runs)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _reversed(row: Example) -> Example:
    inputs = dict(row.inputs)
    for name in ("candidate_numeric", "candidate_tokens", "candidate_mask"):
        inputs[name] = inputs[name][::-1].copy()
    return Example(inputs, row.labels[::-1].copy(), row.shown)


@torch.no_grad()
@pytest.mark.parametrize(
    ("build", "of_order"), [(setrank.SetRank, False), (prm.PRM, True), (dlcm.DLCM, True)]
)
def test_who_reads_the_initial_order(build, of_order: bool) -> None:
    torch.manual_seed(0)
    model = build(SIZES).eval()
    rows = [row for row in lists(40, 5) if len(row.labels) == 9]
    scores = model(to_batch(rows))
    turned = model(to_batch([_reversed(row) for row in rows])).flip(1)
    assert torch.allclose(scores, turned, atol=1e-5) != of_order


@torch.no_grad()
@pytest.mark.parametrize("build", [setrank.SetRank, prm.PRM, dlcm.DLCM, mir.MIR])
def test_padding_changes_no_score(build) -> None:
    torch.manual_seed(0)
    model = build(SIZES).eval()
    rows = lists(6, 7)
    together = model(to_batch(rows))
    for index, row in enumerate(rows):
        alone = model(to_batch([row]))[0]
        torch.testing.assert_close(together[index, : len(alone)], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_mir_reads_the_history() -> None:
    torch.manual_seed(0)
    model = mir.MIR(SIZES).eval()
    row = next(row for row in lists(20, 5) if len(row.inputs["history_feedback"]) == 2)
    other = {**row.inputs, "history_numeric": row.inputs["history_numeric"] + 2.0}
    assert not torch.allclose(model(to_batch([row])), model(to_batch([row._replace(inputs=other)])))


def test_only_what_was_shown_has_a_label() -> None:
    batch = Batch(
        {"candidate_mask": torch.ones(2, 4, dtype=torch.bool)},
        torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]),
        torch.tensor([[2, 1], [0, NO_ITEM]]),
    )
    assert shown(batch).tolist() == [[False, True, True, False], [True, False, False, False]]
    scores = torch.tensor([[5.0, 1.0, 1.0, 9.0], [3.0, 1.0, 1.0, 1.0]])
    assert listwise_loss(scores, batch).item() == pytest.approx(np.log(2.0))


def test_an_assignment_never_repeats() -> None:
    batch = to_batch(lists(5, 1))
    log_p = torch.zeros(5, 5, batch.labels.shape[1])
    log_p[:, :, 1] = 1.0
    slates = nar4rec.assign(log_p, batch)
    assert all(len(set(slate)) == 5 for slate in slates.tolist())
    assert (slates[:, 0] == 1).all()


def test_the_plain_ranker_does_not_see_the_initial_score(tmp_path: Path) -> None:
    given = task(tmp_path)
    for rows in (given.train, given.held_out, given.test):
        for row in rows:  # nothing but the initial score tells what is good
            row.inputs["candidate_numeric"][:, :3] = 0.0
    labels = [row.labels for row in given.test]
    plain, stacked = (
        ndcg(BASELINES[name](given), labels, 5).mean()
        for name in ("LambdaMART without the initial score", "LambdaMART")
    )
    assert stacked > plain + 0.2


def test_all_columns_are_those_of_tokens_and_users_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    given = task(tmp_path)

    def rows(found: Sequence[Example]) -> list[Example]:
        """A click where the candidate has the token that the user has too, 1 or 2; 3 is in every list."""
        out = []
        for row in found:
            n, wanted = len(row.labels), int(rng.integers(1, 3))
            tokens = np.stack([rng.integers(1, 3, n), np.full(n, 3)], axis=1).astype(np.int32)
            tokens[0, 0], tokens[1, 0] = 1, 2
            inputs = {
                **row.inputs,
                "candidate_numeric": np.zeros((n, 4), np.float32),
                "candidate_tokens": tokens,
                "user_numeric": np.array([wanted], np.float32),
                "user_tokens": np.array([3], np.int32),
            }
            out.append(Example(inputs, (tokens[:, 0] == wanted).astype(np.float32), np.arange(n)))
        return out

    given = replace(
        given,
        train=rows(given.train),
        held_out=(held_out := rows(given.held_out)),
        test=rows(given.test),
        sizes=SIZES._replace(vocabulary=5),
        score=lambda orders: (float(ndcg(orders, [row.labels for row in held_out], 5).mean()), {}),
    )
    found = BASELINES["LambdaMART with all columns"](given)
    assert ndcg(found, [row.labels for row in given.test], 5).mean() > 0.99
