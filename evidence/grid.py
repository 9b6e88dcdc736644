"""What is run, the deciding fits first.

A training is one policy; it gives a row for each way of decoding it. Legend: S reasoning budget.
"""

from dataclasses import dataclass, field

from evidence.data import DATA, Changes
from evidence.references import REFERENCES
from model.baselines import BASELINES

SEEDS = range(5)
"""Run i uses seed i, and user fold i as its test fold."""


@dataclass(frozen=True)
class Training:
    """A policy to train; `control` says what it is a control of, None in the main table."""

    name: str
    policy: Changes
    control: str | None = None
    changes: Changes = field(default_factory=dict)
    decides: bool = False  # decoded with the controls too, where the data set has them

    @property
    def backbone(self) -> str:
        return str(self.policy.get("decoder", "gru"))


PLAIN: Changes = {"reasoner": {"budget": 0}}
PAPER: Changes = {"reasoner": {"kind": "paper"}}
GRPO: Changes = {"reinforcement": {"epochs": 1, "learning_rate": 5e-4, "kl": 0.0}}
"""Beyond one epoch the evaluator's score continued to rise, but the true value did not."""

TRAININGS = {
    training.name: training
    for training in (
        Training("EGLR", {}, decides=True),
        Training("without reasoning", PLAIN, decides=True),
        Training("EGLR, paper's token", PAPER),
        Training("EGLR, LSTM", {"decoder": "lstm"}),
        Training("without reasoning, LSTM", {"decoder": "lstm", **PLAIN}),
        Training("EGLR, Transformer", {"decoder": "transformer"}),
        Training("without reasoning, Transformer", {"decoder": "transformer", **PLAIN}),
        Training("without reasoning, equal time", PLAIN, "equal training time", {"epochs": 2.0}),
        Training("pause token", {"reasoner": {"kind": "pause"}}, "constant token"),
        Training("one step, always", {"reasoner": {"budget": 1, "taught": "last"}}, "one deep step, always"),
        Training("one temperature", {"reasoner": {"temperature": 0.7}}, "equal temperatures"),
        Training("self-attention, 2 layers", {**PLAIN, "encoder": {"self_attention_layers": 2}}, "deeper"),
        Training(
            "self-attention, 2 layers, twice as long",
            {**PLAIN, "encoder": {"self_attention_layers": 2}},
            "deeper, to convergence",
            {"epochs": 2.0},
        ),
        Training("width 96", {**PLAIN, "width": 96}, "wider"),
        Training("EGLR, self-attention, 1 layer", {"encoder": {"self_attention_layers": 1}}, "deeper, EGLR"),
        Training("EGLR + GRPO", {}, "GRPO", GRPO),
        Training("without reasoning + GRPO", PLAIN, "GRPO", GRPO),
    )
}

MODELS = (*TRAININGS, *BASELINES, *REFERENCES)
"""Everything that gives a list, by name: trainings, then baselines, then references."""


@dataclass(frozen=True)
class Task:
    """One fit: a training or a baseline, on one data set, with one seed."""

    data: str
    model: str
    seed: int

    @property
    def directory(self) -> str:
        return f"{self.data}/{self.seed}/{self.model.replace(' ', '-').replace(',', '')}"


def tasks(names: list[str], seeds: range = SEEDS) -> list[Task]:
    """All fits of the data sets, the deciding ones first."""
    return [
        Task(name, model, seed)
        for name in names
        for model in MODELS
        if model not in DATA[name].without and (DATA[name].known or model not in REFERENCES)
        for seed in seeds
    ]
