"""Every phase of training on its own, each from the same first weights: `python every_phase.py DIRECTORY`.
With `elsewhere` after it, not on the CPU.

In a process alone or in several, on the CPU or elsewhere, so that what they come to can be compared.
"""

import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from elsewhere import computing_elsewhere
from small_run import fresh_policy, small_config
from torch import Tensor

from model.data.features import DatasetFeatures
from model.data.open_dataset import open_dataset
from model.evaluator import Evaluator
from model.sizes import feature_sizes
from model.training import devices, ranks
from model.training.beam import search_teachers
from model.training.examples import examples
from model.training.fit_evaluator import fit_one
from model.training.fit_policy import imitate, iterate, reinforce, warm_start
from model.training.phase import RunLog
from model.training.selection import held_out_score

PHASES = ("evaluator", "warm start", "imitation", "expert iteration", "grpo")
LISTS = 97
"""Three batches of 32 and one of a single list, which one of two processes has no row of."""


def train_every_phase(run: Path) -> dict[str, dict[str, Tensor]]:
    """The weights after each phase, by its name."""
    config = small_config(
        simulator={"items": 80, "lists": 300, "strength": 2.0},
        evaluator={"width": 16, "members": 1, "epochs": 2, "batch": 32, "learning_rate": 1e-2},
        supervised={"epochs": 1, "batch": 32},
        imitation={"epochs": 1, "beams": 2, "batch": 32},
        expert_iteration={"rounds": 1, "epochs": 1, "batch": 32},
        reinforcement={"epochs": 1, "group": 4, "batch": 32, "learning_rate": 1e-3},
    )
    dataset = open_dataset(config)
    features = DatasetFeatures.fit(dataset, config.features)
    train = examples(dataset.slates["train"], features, training=True)[:LISTS]
    held_out = examples(dataset.slates["validation"], features, training=False)
    assert len(train) == LISTS
    sizes, score, log = feature_sizes(features.serving), held_out_score(dataset), RunLog(run)
    torch.manual_seed(1)
    evaluator = Evaluator(config.evaluator, sizes).eval().to(devices.device())
    taught = search_teachers(config, evaluator, train)

    found = {"evaluator": fit_one(config, "evaluator", run, log, sizes, train, held_out).state_dict()}
    for phase in PHASES[1:]:
        policy = fresh_policy(config, features).to(devices.device())
        learned = (config, run, log, policy)
        if phase == "warm start":
            warm_start(*learned, train, held_out, score)
        elif phase == "imitation":
            imitate(*learned, taught, held_out, score, None)
        elif phase == "expert iteration":
            iterate(*learned, evaluator, train, held_out, score, None)
        else:
            reinforce(*learned, evaluator, train, held_out, score, None)
        found[phase] = policy.state_dict()
    log.close()
    return found


if __name__ == "__main__":
    there = computing_elsewhere() if "elsewhere" in sys.argv else nullcontext()
    with ranks.joined(), ranks.directory(Path(sys.argv[1])) as own, there:
        torch.save(train_every_phase(own), own / "weights.pt")
