"""Looking ahead against the plain way of doing it, and what the policy is taught by it."""

import numpy as np
import pytest
import torch
from torch import Tensor

from bundle.contract import NO_ITEM
from model.config import EncoderConfig, PolicyConfig, ReasonerConfig
from model.encoder import FeatureSizes
from model.evaluator import ClickModel, Evaluator, EvaluatorEnsemble
from model.policy import Policy
from model.training.config import EvaluatorConfig, ExpertIterationConfig
from model.training.examples import Batch, Example, to_batch
from model.training.expert_iteration import improved_lists, improved_policy
from model.training.grpo import written_slate
from model.training.lookahead import EVERYWHERE, LookedAhead, look_ahead
from model.training.rollout import Rollout, greedy, roll_out, threshold_gate
from model.training.supervised import slate_teacher, supervised_loss

SIZES = FeatureSizes(numeric=4, item_numeric=2, slot_fields=(), user_numeric=1, user_slots=0, vocabulary=1)
LENGTH, COUNTS = 5, (9, 7, 3, 12, 5, 1)


def lists() -> list[Example]:
    """One list of each length; the shortest end before the slate does."""
    rng = np.random.default_rng(0)
    rows = []
    for n in COUNTS:
        inputs = {
            "candidate_numeric": rng.normal(size=(n, 4)).astype(np.float32),
            "candidate_tokens": np.zeros((n, 0), np.int32),
            "candidate_mask": np.ones(n, bool),
            "user_numeric": np.zeros(1, np.float32),
            "user_tokens": np.zeros(0, np.int32),
            "history_numeric": np.zeros((0, 2), np.float32),
            "history_tokens": np.zeros((0, 0), np.int32),
            "history_feedback": np.zeros(0, np.int32),
        }
        rows.append(Example(inputs, np.zeros(n, np.float32), np.arange(n)))
    return rows


def networks(kind: str = "deep", decoder: str = "gru") -> tuple[Policy, ClickModel]:
    torch.manual_seed(0)
    config = PolicyConfig(
        width=16,
        decoder=decoder,
        slate_length=LENGTH,
        encoder=EncoderConfig(token_width=4),
        reasoner=ReasonerConfig(kind=kind),
    )
    evaluators = [Evaluator(EvaluatorConfig(width=16, reward="clicks"), SIZES) for _ in range(2)]
    return Policy(config, SIZES).eval(), EvaluatorEnsemble(evaluators).eval()


def plainly(
    policy: Policy, evaluator: ClickModel, batch: Batch, gate: float, alternatives: int, threshold: float
) -> Tensor:
    """Every list written anew for every alternative: the improved slates `[B, K]`."""
    memory, candidates = policy.encode(batch.inputs), evaluator.encode(batch.inputs)

    def written(prefix: Tensor) -> Rollout:
        def choose(position: int, log_p: Tensor) -> Tensor:
            return prefix[:, position] if position < prefix.shape[1] else greedy(position, log_p)

        return roll_out(policy, memory, batch.mask, threshold_gate(gate), choose)

    best = written(torch.empty(len(batch.labels), 0, dtype=torch.int64))
    for position in range(LENGTH):
        tried = [best]
        for rank in range(1, alternatives):
            log_p, ranked = best.log_policy[:, position].topk(alternatives)
            open_ = (log_p[:, rank].exp() > 0) & (best.uncertainty[:, position] > threshold)
            item = ranked[:, rank].where(open_, best.slate[:, position])
            tried.append(written(torch.cat([best.slate[:, :position], item.unsqueeze(1)], dim=1)))
        values = torch.stack([evaluator.reward(candidates, written_slate(slates)) for slates in tried])
        chosen = values.argmax(0)
        rows = torch.arange(len(chosen))
        best = Rollout(*(torch.stack(column)[chosen, rows] for column in zip(*tried, strict=True)))
    return written_slate(best)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "decoder"), [("deep", "gru"), ("paper", "lstm"), ("deep", "transformer")])
@pytest.mark.parametrize("threshold", [EVERYWHERE, 0.97])
def test_looking_ahead_finds_what_writing_every_list_anew_finds(
    kind: str, decoder: str, threshold: float
) -> None:
    policy, evaluator = networks(kind, decoder)
    batch = to_batch(lists()[:5])
    gate = 0.98
    found = look_ahead(policy, evaluator, batch.inputs, threshold_gate(gate), 3, threshold)
    slates = written_slate(found.slates)
    expected = plainly(policy, evaluator, batch, gate, 3, threshold)
    assert slates.tolist() == expected.tolist()
    own = roll_out(policy, policy.encode(batch.inputs), batch.mask, threshold_gate(gate), greedy)
    assert not torch.equal(slates, written_slate(own))
    candidates = evaluator.encode(batch.inputs)
    gain = evaluator.reward(candidates, slates) - evaluator.reward(candidates, written_slate(own))
    assert (gain >= 0).all()
    assert gain.max() > 0
    if threshold > 0:
        looked = found.values[:, :, 1].isfinite()
        left = torch.tensor(COUNTS[:5]).unsqueeze(1) - torch.arange(LENGTH)  # candidates at each position
        assert torch.equal(looked, (found.slates.uncertainty > threshold) & (left > 1))
        assert 0 < looked.float().mean() < 1


@torch.no_grad()
def test_an_alternative_is_worth_the_list_it_is_completed_to() -> None:
    policy, evaluator = networks()
    batch = to_batch(lists()[:2])
    found = look_ahead(policy, evaluator, batch.inputs, threshold_gate(0.98), 3)
    candidates = evaluator.encode(batch.inputs)
    torch.testing.assert_close(
        found.values[:, -1].amax(-1), evaluator.reward(candidates, written_slate(found.slates))
    )
    best = found.alternatives.gather(2, found.values.argmax(-1, keepdim=True)).squeeze(2)
    assert torch.equal(best, found.slates.slate)
    assert (found.values.amax(-1).diff(dim=1) >= -1e-6).all()  # a position never loses what was found before


def test_targets_are_the_softmax_of_what_alternatives_are_worth() -> None:
    nothing = torch.zeros(1, 3, dtype=torch.int64)
    slates = Rollout(*[nothing] * len(Rollout._fields))
    inf = -torch.inf
    alternatives = torch.tensor([[[2, 0], [1, 3], [0, 1]]])
    values = torch.tensor([[[1.0, 1.03], [0.5, inf], [inf, inf]]])
    target = improved_policy(LookedAhead(slates, alternatives, values), 4, 0.03)
    e = float(np.exp(1.0))
    expected = [[e / (1 + e), 0, 1 / (1 + e), 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    torch.testing.assert_close(target, torch.tensor([expected]), rtol=1e-4, atol=1e-6)


def test_what_is_taught_goes_on_from_the_improved_list() -> None:
    policy, evaluator = networks()
    rows = lists()
    settings = ExpertIterationConfig(rounds=1, alternatives=3, temperature=0.01)
    taught = improved_lists(policy, evaluator, rows, settings, 0.98)
    for row, lesson in zip(rows, taught, strict=True):
        n = len(row.labels)
        assert lesson.targets.shape == (LENGTH, n)
        assert len(lesson.shown) == min(n, LENGTH)
        assert len(set(lesson.shown.tolist())) == len(lesson.shown)
        sums = lesson.targets.sum(1)
        assert sums[: len(lesson.shown)] == pytest.approx(1.0, abs=1e-5)
        assert not sums[len(lesson.shown) :].any()
        assert (lesson.targets > 0).sum(1).max() <= 3
        for position, item in enumerate(lesson.shown):
            assert lesson.targets[position, item] == lesson.targets[position].max()
            assert not lesson.targets[position + 1 :, item].any()  # what is taken is not wanted again
    batch = to_batch(taught)
    assert batch.targets.shape == (len(rows), LENGTH, max(COUNTS))
    loss, _ = supervised_loss(
        policy, batch.inputs, slate_teacher(batch.shown, batch.targets), torch.Generator().manual_seed(0)
    )
    assert torch.isfinite(loss)


def test_learning_what_was_found_raises_the_reward() -> None:
    policy, evaluator = networks()
    rows = lists() * 8
    optimizer, generator = torch.optim.Adam(policy.parameters(), lr=3e-3), torch.Generator().manual_seed(0)

    def reward() -> float:
        batch = to_batch(rows[: len(COUNTS)])
        with torch.no_grad():
            slates = roll_out(policy, policy.encode(batch.inputs), batch.mask, threshold_gate(0.98), greedy)
            return float(evaluator.reward(evaluator.encode(batch.inputs), written_slate(slates)).mean())

    before = reward()
    for _ in range(2):
        taught = improved_lists(policy, evaluator, rows, ExpertIterationConfig(rounds=1), 0.98)
        batch = to_batch(taught)
        for _ in range(60):
            loss, _ = supervised_loss(
                policy, batch.inputs, slate_teacher(batch.shown, batch.targets), generator
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert reward() > before


def test_a_slate_that_ends_early_teaches_nothing_after_its_end() -> None:
    teach = slate_teacher(torch.tensor([[1, NO_ITEM]]))
    selectable, log_p = torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3)
    sums = [float(teach(position, selectable, log_p)[0].sum()) for position in range(4)]
    assert sums == [1.0, 0.0, 0.0, 0.0]
