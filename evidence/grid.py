"""What is run: data sets, trainings and controls, in the order of what they decide.

A training is one policy; it gives a row for each way of decoding it. Legend: S reasoning budget.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.baselines import BASELINES
from model.config import RunConfig, read_config
from model.train import with_changes

SEEDS = range(5)
"""Run i uses seed i, and user fold i as its test fold."""

CONFIGS = Path(__file__).parents[1] / "configs"
SIMULATOR = "simulator"
Changes = dict[str, Any]


@dataclass(frozen=True)
class Data:
    """A data set of the evidence; `metric` is what its comparisons are made in, `without` names the
    models it cannot have."""

    name: str
    config: str
    metric: str
    changes: Changes = field(default_factory=dict)
    without: tuple[str, ...] = ()
    first_stage: bool = False  # gives every model an out-of-fold LambdaMART score, as in production

    def run_config(self, seed: int) -> RunConfig:
        changes = {"seed": seed, **self.changes}
        if self.config == SIMULATOR:
            changes["simulator"] = {"seed": seed, **self.changes.get("simulator", {})}
        return with_changes(read_config(CONFIGS / f"{self.config}.toml"), changes)


def _world(name: str, **changes: object) -> Data:
    return Data(name, SIMULATOR, "true_value", {"simulator": changes}, without=("item CTR",))


DATA = {
    data.name: data
    for data in (
        _world("simulator"),
        Data("ranklens", "ranklens", "ndcg@10", first_stage=True),
        _world("simulator-n100", candidates=100),
        Data("movietweetings", "movietweetings", "ndcg@10"),
        _world("simulator-twice", strength=2.0),
        _world("simulator-none", strength=0.0),
    )
}


@dataclass(frozen=True)
class Training:
    """A policy to train; `control` says what it is a control of, None in the main table."""

    name: str
    policy: Changes
    control: str | None = None
    changes: Changes = field(default_factory=dict)
    decodings: bool = False  # also decode with the controls of evidence.controls

    @property
    def backbone(self) -> str:
        return str(self.policy.get("decoder", "gru"))


PLAIN: Changes = {"reasoner": {"budget": 0}}
PAPER: Changes = {"reasoner": {"kind": "paper"}}

TRAININGS = {
    training.name: training
    for training in (
        Training("EGLR", {}, decodings=True),
        Training("without reasoning", PLAIN, decodings=True),
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
        Training("EGLR + GRPO", {}, "GRPO", {"reinforcement": {"epochs": 2}}),
        Training("without reasoning + GRPO", PLAIN, "GRPO", {"reinforcement": {"epochs": 2}}),
    )
}

MODELS = (*TRAININGS, *BASELINES)
"""Everything that is fitted, by name: trainings first, then baselines."""


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
        if model not in DATA[name].without
        for seed in seeds
    ]
