"""The policy: entropy, gate, reasoners, micro-steps, rollouts."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from constraints_by_force import holds
from tiny_bundle import tiny_features, tiny_policy

from bundle.contract import (
    CONTROLS,
    MASKED_LOGIT,
    NO_ITEM,
    NOISE,
    UNLIMITED_MICRO_STEPS,
    StepControls,
    StepRecord,
)
from bundle.features.assembly import Candidates, collate
from bundle.features.history import Interaction, UserContext
from export.random_constraints import random_plan
from model.policy import Policy
from model.reasoning import entropy_nats, log_probabilities, uncertainty
from model.training.rollout import greedy, replay_choice, replay_gate, roll_out, sample, threshold_gate

FEATURES = tiny_features()


def inputs(*sizes: int, start: int = 0) -> dict[str, torch.Tensor]:
    """Requests of these many candidates, as a padded batch."""
    user = UserContext(
        {"taste": [1.0, -1.0, 0.5, 0.0]},
        tuple(Interaction(f"i{n}", "click" if n % 3 else "impression") for n in range(150, 170)),
    )
    requests = [
        FEATURES.request(Candidates([f"i{start + k}" for k in range(n)]), user, {"device": "ios"}, 0.0)
        for n in sizes
    ]
    return {name: torch.from_numpy(array) for name, array in collate(requests).items()}


def controls(rows: int, **changes: Any) -> StepControls:
    values: dict[str, Any] = {
        "slate_length": 10,
        "entropy_threshold": 0.65,
        "reasoning_budget": 2,
        "micro_step_budget": UNLIMITED_MICRO_STEPS,
        "reasoning_temperature": 1.5,
        "selection_temperature": 0.7,
        **changes,
    }
    tensors = {
        spec.name: torch.full((rows,), values[spec.name], dtype=getattr(torch, spec.dtype))
        for spec in CONTROLS
        if spec is not NOISE
    }
    return StepControls(**tensors, noise=changes.get("noise", torch.zeros(rows, 1, 200)))


@torch.no_grad()
def write(policy: Policy, batch: dict[str, torch.Tensor], asked: StepControls) -> list[StepRecord]:
    """All micro-steps until every slate is full."""
    memory = policy.encode(batch)
    state = policy.begin(memory, batch["candidate_mask"])
    asked = asked._replace(noise=asked.noise[:, :, : batch["candidate_mask"].shape[1]])
    records = []
    while bool((state.position < asked.slate_length).any()):
        state, record, _ = policy.micro_step(state, asked, memory)
        records.append(record)
    return records


def slates(records: list[StepRecord]) -> list[list[int]]:
    chosen = torch.stack([record.chosen for record in records], dim=1).tolist()
    return [[item for item in row if item != NO_ITEM] for row in chosen]


def test_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0), 7.0]])
    selectable = torch.tensor([[True, True, False]])
    log_p = log_probabilities(logits, selectable)
    expected = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    torch.testing.assert_close(entropy_nats(log_p), torch.tensor([expected]))
    assert uncertainty(log_p, torch.tensor([expected]), selectable, "raw").item() == pytest.approx(expected)
    normalised = uncertainty(log_p, torch.tensor([expected]), selectable, "normalised")
    assert normalised.item() == pytest.approx(expected / math.log(2))
    margin = uncertainty(log_p, torch.tensor([expected]), selectable, "margin")
    assert margin.item() == pytest.approx(1 - (0.75 - 0.25))


def test_one_candidate_left_is_certain_and_finite() -> None:
    log_p = log_probabilities(torch.tensor([[3.0, -2.0]]), torch.tensor([[False, True]]))
    assert entropy_nats(log_p).item() == 0.0
    assert math.copysign(1, entropy_nats(log_p).item()) == 1
    assert uncertainty(log_p, entropy_nats(log_p), torch.tensor([[False, True]]), "normalised").item() == 0.0
    assert log_p[0, 0] < MASKED_LOGIT / 2


def test_temperature_flattens() -> None:
    logits, every = torch.tensor([[0.0, 2.0, 4.0]]), torch.ones(1, 3, dtype=torch.bool)
    sharp, flat = (entropy_nats(log_probabilities(logits, every, t)) for t in (0.5, 2.0))
    assert sharp < flat


@pytest.mark.parametrize("reasoner", ["deep", "paper"])
@torch.no_grad()
def test_what_a_reasoning_token_changes(reasoner: str) -> None:
    policy, batch = tiny_policy(FEATURES, reasoner), inputs(12, 7)
    memory = policy.encode(batch)
    state = policy.begin(memory, batch["candidate_mask"])
    logits = policy.decoder.logits(state.readout, memory)
    after = policy.reason(state, logits, memory, torch.full((2, 1), 1.5))
    assert not torch.allclose(after.readout, state.readout)
    assert torch.equal(after.selectable, state.selectable)
    assert after.position.tolist() == [0, 0]
    assert after.tokens_here.tolist() == after.micro_steps.tolist() == [1, 1]
    branches = torch.equal(after.decoder[0], state.decoder[0])
    assert branches == (reasoner == "deep")
    if reasoner == "paper":
        assert torch.equal(after.decoder[0], after.readout)


@pytest.mark.parametrize("reasoner", ["deep", "paper"])
@torch.no_grad()
def test_a_residual_scale_of_zero_is_no_reasoning(reasoner: str) -> None:
    policy, batch = tiny_policy(FEATURES, reasoner), inputs(20)
    policy.reasoner.residual_scale.zero_()  # type: ignore[attr-defined]
    thinking, plain = (write(policy, batch, controls(1, reasoning_budget=b)) for b in (2, 0))
    assert slates(thinking) == slates(plain)
    assert sum(int(record.reasoned.sum()) for record in thinking) > 0


@pytest.mark.parametrize(("layers", "attention"), [(0, "full"), (1, "full"), (2, "inducing")])
def test_padding_changes_nothing(layers: int, attention: str) -> None:
    policy = tiny_policy(FEATURES, layers=layers, attention=attention)
    together = slates(write(policy, inputs(12, 40), controls(2)))
    alone = [slates(write(policy, inputs(n), controls(1)))[0] for n in (12, 40)]
    assert together == alone


@torch.no_grad()
def test_candidates_may_stand_in_any_order() -> None:
    policy, batch = tiny_policy(FEATURES), inputs(15)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(1))
    turned = {
        name: tensor[:, order] if name.startswith("candidate") else tensor for name, tensor in batch.items()
    }
    first, second = slates(write(policy, batch, controls(1))), slates(write(policy, turned, controls(1)))
    assert first[0] == order[second[0]].tolist()


def test_slates_are_full_without_duplicates_and_only_of_real_candidates() -> None:
    records = write(tiny_policy(FEATURES), inputs(30, 11), controls(2, slate_length=10))
    for slate, n in zip(slates(records), (30, 11), strict=True):
        assert len(slate) == len(set(slate)) == 10
        assert max(slate) < n


def test_the_gate_reasons_above_the_threshold_and_within_the_budget() -> None:
    policy, batch = tiny_policy(FEATURES), inputs(30)
    spent = 0
    for record in write(policy, batch, controls(1)):
        doubtful = record.uncertainty.item() > 0.65
        reasons = bool(record.reasoned.item())
        assert reasons == (doubtful and spent < 2)
        spent = spent + 1 if reasons else 0
    always = write(policy, batch, controls(1, entropy_threshold=-1.0, reasoning_budget=3))
    assert len(always) == 10 * (1 + 3)
    never = write(policy, batch, controls(1, entropy_threshold=2.0))
    assert len(never) == 10


@pytest.mark.parametrize("budget", [10, 11, 17, 25])
def test_a_micro_step_budget_cuts_reasoning_never_the_slate(budget: int) -> None:
    policy = tiny_policy(FEATURES)
    records = write(policy, inputs(30), controls(1, entropy_threshold=-1.0, micro_step_budget=budget))
    assert len(slates(records)[0]) == 10
    assert len(records) == min(budget, 30)


@pytest.mark.parametrize("reasoner", ["deep", "paper"])
@torch.no_grad()
def test_a_rollout_writes_what_micro_steps_write(reasoner: str) -> None:
    policy, batch = tiny_policy(FEATURES, reasoner), inputs(30, 14, 5)
    rollout = roll_out(policy, policy.encode(batch), batch["candidate_mask"], threshold_gate(0.65), greedy)
    lengths = [10, 10, 5]
    records = write(policy, batch, controls(3)._replace(slate_length=torch.tensor(lengths)))
    assert rollout.written.sum(1).tolist() == lengths
    assert [slate.tolist() for slate in rollout.slates()] == slates(records)
    for row in range(len(lengths)):
        tokens = sum(int(record.reasoned[row]) for record in records)
        assert int((rollout.tokens * rollout.written)[row].sum()) == tokens


@pytest.mark.parametrize("reasoner", ["deep", "paper"])
@torch.no_grad()
def test_a_replay_has_the_likelihoods_of_its_rollout(reasoner: str) -> None:
    policy, batch = tiny_policy(FEATURES, reasoner), inputs(30, 14)
    memory, mask = policy.encode(batch), batch["candidate_mask"]
    generator = torch.Generator().manual_seed(3)
    first = roll_out(policy, memory, mask, threshold_gate(0.65), sample(generator))
    again = roll_out(policy, memory, mask, replay_gate(first.tokens), replay_choice(first.slate))
    assert first.tokens.any()
    torch.testing.assert_close(first.log_probability, again.log_probability)
    torch.testing.assert_close(first.log_policy, again.log_policy)
    other = roll_out(
        policy, memory, mask, replay_gate(1 - first.tokens.clamp(max=1)), replay_choice(first.slate)
    )
    assert not torch.allclose(first.log_probability, other.log_probability)


@torch.no_grad()
def test_what_is_sampled_under_constraints_satisfies_them_and_is_replayed() -> None:
    """Each row its own, or none; what may not stand has no probability, what may has all of it."""
    sizes, rng = (30, 14, 24, 20), np.random.default_rng(4)
    plans = [random_plan(rng, n, 10) for n in sizes[:3]]
    policy, batch = tiny_policy(FEATURES), inputs(*sizes)
    memory, mask = policy.encode(batch), batch["candidate_mask"]
    asked = [*plans, None]
    generator = torch.Generator().manual_seed(3)
    first = roll_out(policy, memory, mask, threshold_gate(0.65), sample(generator), constraints=asked)
    for found, slate in zip(plans, first.slates(), strict=False):
        assert holds(found.constraints, slate.tolist())
    assert first.written.sum(1).tolist() == [*(found.length for found in plans), 10]
    again = roll_out(
        policy, memory, mask, replay_gate(first.tokens), replay_choice(first.slate), constraints=asked
    )
    torch.testing.assert_close(first.log_probability, again.log_probability)
    free = roll_out(policy, memory, mask, replay_gate(first.tokens), replay_choice(first.slate))
    gained = (again.log_probability - free.log_probability)[first.written]
    assert (gained > -1e-5).all()
    assert (gained > 0.1).any()
    torch.testing.assert_close(
        again.log_policy.exp().sum(-1)[first.written], torch.ones(int(first.written.sum()))
    )


def test_noise_samples_the_reported_propensities() -> None:
    policy, batch, rows = tiny_policy(FEATURES), inputs(6), 4000
    many = {name: tensor.expand(rows, *tensor.shape[1:]) for name, tensor in batch.items()}
    noise = torch.from_numpy(np.random.default_rng(0).gumbel(size=(rows, 1, 6))).float()
    asked = controls(rows, slate_length=1, reasoning_budget=0, noise=noise, selection_temperature=2.0)
    (record,) = write(policy, many, asked)
    drawn = torch.bincount(record.chosen, minlength=6) / rows
    propensity = torch.zeros(6).scatter(0, record.chosen, record.propensity)
    assert propensity.sum().item() == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(drawn, propensity, atol=0.03, rtol=0)
