"""The supervised loss: by hand, and that it falls."""

import pytest
import torch
from small_run import fresh_policy

from bundle.contract import NO_ITEM
from model.policy import Policy
from model.sizes import feature_sizes
from model.training.examples import batches, to_batch
from model.training.supervised import label_teacher, slate_teacher, supervised_loss


def test_the_supervised_loss_falls(data) -> None:
    training, _, config, features = data
    policy, generator = fresh_policy(config, features), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    losses = []
    for batch in list(batches(training, 64)) * 4:
        loss, _ = supervised_loss(
            policy, batch.inputs, label_teacher(batch.labels, 0.5, generator), generator
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.02
    assert all(parameter.grad is not None for parameter in policy.reasoner.parameters())


@pytest.mark.parametrize("kind", ["deep", "paper", "pause"])
def test_the_supervised_loss_by_hand(data, kind: str) -> None:
    training, _, config, features = data
    settings = config.policy.model_copy(
        update={"reasoner": config.policy.reasoner.model_copy(update={"kind": kind})}
    )
    torch.manual_seed(0)
    policy = Policy(settings, feature_sizes(features.serving)).eval()
    batch = to_batch(training[:5])
    slates = batch.shown[:, torch.randperm(10, generator=torch.Generator().manual_seed(1))]
    slates[2, 7:] = NO_ITEM
    found, _ = supervised_loss(policy, batch.inputs, slate_teacher(slates), torch.Generator().manual_seed(0))

    memory, generator = policy.encode(batch.inputs), torch.Generator().manual_seed(0)
    state, temperature = policy.begin(memory, batch.mask), torch.full((5, 1), 1.5)
    losses = []
    for position in range(10):
        thoughts = [state]
        for _ in range(2):
            logits = policy.decoder.logits(thoughts[-1].readout, memory)
            thoughts.append(policy.reason(thoughts[-1], logits, memory, temperature))
        for row, item in enumerate(slates[:, position].tolist()):
            for thought in thoughts if item != NO_ITEM else ():
                scores = policy.decoder.logits(thought.readout, memory)[row, state.selectable[row]]
                place = int(state.selectable[row, :item].sum())
                losses.append(-torch.log_softmax(scores, 0)[place])
        if kind == "paper":
            tokens = torch.randint(0, 3, (5,), generator=generator)
            for token in (1, 2):
                state = thoughts[token].where(tokens == token, state)
        state = policy.commit(state, slates[:, position].clamp(min=0), memory)
    torch.testing.assert_close(found, torch.stack(losses).sum() / 3 / (slates != NO_ITEM).sum())
