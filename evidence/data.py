"""The data sets of the evidence, the deciding ones first."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.training.config import RunConfig, read_config, with_changes

CONFIGS = Path(__file__).parents[1] / "configs"
SIMULATOR = "simulator"
WITH_GRPO = ("EGLR + GRPO", "without reasoning + GRPO")  # part of these data sets' own configurations
Changes = dict[str, Any]


@dataclass(frozen=True)
class Data:
    """A data set of the evidence; `metric` is what its comparisons are made in, `without` names the
    models it cannot have, `known` says that true values are known, `controls` that its deciding policies
    are also decoded with the controls of evidence.controls."""

    name: str
    config: str
    metric: str
    without: tuple[str, ...] = ()
    changes: Changes = field(default_factory=dict)
    known: bool = False
    controls: bool = False
    first_stage: bool = False  # gives every model an out-of-fold LambdaMART score, as in production

    def run_config(self, seed: int) -> RunConfig:
        changes = {"seed": seed, **self.changes}
        if self.config == SIMULATOR:
            changes["simulator"] = {"seed": seed, **self.changes.get("simulator", {})}
        return with_changes(read_config(CONFIGS / f"{self.config}.toml"), changes)


def _world(name: str, controls: bool = False, **changes: object) -> Data:
    return Data(name, SIMULATOR, "true_value", ("item CTR",), {"simulator": changes}, True, controls)


DATA = {
    data.name: data
    for data in (
        _world("simulator", controls=True),
        Data("ranklens", "ranklens", "ndcg@10", WITH_GRPO, controls=True, first_stage=True),
        _world("simulator-n100", controls=True, candidates=100),
        Data("movietweetings", "movietweetings", "ndcg@10", ("item CTR", *WITH_GRPO)),  # ratings, no rates
        _world("simulator-twice", strength=2.0),
        _world("simulator-none", strength=0.0),
    )
}
