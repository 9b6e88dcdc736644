"""How long the loop runs, and what runs beside it. Read from configs/loop.toml."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from bundle.features.schema import Frozen
from evidence.data import CONFIGS
from export.promotion import Limits
from model.config import NonNegative, Positive, Rate
from model.training.config import RunConfig, read_config, with_changes

Changes = dict[str, Any]
Proportion = Annotated[float, Field(ge=0, le=1)]

OWN_LOG: Changes = {"dataset": "event_log", "selection": "evaluator"}
"""Of every training: from a log of lists, and chosen without knowing what lists are truly worth."""


@dataclass(frozen=True)
class Arm:
    """One way to run the loop. `ranker`: LambdaMART, in this process, instead of the service."""

    name: str
    changes: Changes
    explores: bool = True
    ranker: bool = False

    @property
    def folder(self) -> str:
        return self.name.replace(" ", "-")


MAIN = "EGLR"
ARMS = {
    arm.name: arm
    for arm in (
        Arm(MAIN, {}),
        Arm("without refitting the evaluator", {"evaluator": {"warm_epochs": 0}}),
        Arm("LambdaMART", {}, ranker=True),
        Arm("without reasoning", {"policy": {"reasoner": {"budget": 0}}}),
        Arm("without exploration", {}, explores=False),
    )
}
"""By name, what is most worth knowing first."""


class LoopConfig(Frozen):
    """`training` is the configuration of the first training, by its name in configs/; its simulator's lists
    are the log before the loop. `first` changes all trainings, `again` those from a round's log.

    A share of the lists is sampled at a temperature, the others are greedy. Of `repeated` of the people
    feedback is sent twice. `restart_in` is the round in whose middle the service is restarted, 0 for none.
    """

    training: str = "simulator"
    worlds: tuple[NonNegative, ...] = (0, 1, 2, 3, 4)
    rounds: Positive = 6
    lists: Positive = 20_000
    exploration_share: Proportion = 0.1
    exploration_temperature: Rate = 1.0
    connections: Positive = 8
    repeated: Proportion = 0.02
    restart_in: NonNegative = 1
    first: Changes = Field(default_factory=dict)
    again: Changes = Field(default_factory=dict)
    limits: Changes = Field(default_factory=dict)

    def run_config(self, world: int, arm: Arm, again: bool = False) -> RunConfig:
        """Of a training, but for its log. Raises: pydantic.ValidationError: a value is out of range."""
        config = read_config(CONFIGS / f"{self.training}.toml", {"seed": world, "simulator": {"seed": world}})
        for changes in (self.first, self.again if again else {}, arm.changes):
            config = with_changes(config, changes)
        return config

    def share(self, arm: Arm) -> float:
        """Of the lists that are sampled."""
        return self.exploration_share if arm.explores else 0.0

    @property
    def gate(self) -> Limits:
        return Limits(**self.limits)

    @model_validator(mode="after")
    def _has_known_limits(self) -> Self:
        known = [one.name for one in fields(Limits)]
        if unknown := sorted(self.limits.keys() - set(known)):
            raise ValueError(f"limits: no {', '.join(unknown)}; there are {', '.join(known)}")
        return self

    def identity(self, world: int, arm: Arm) -> dict[str, Any]:
        """What makes the rounds of an arm what they are, but for their number."""
        return {
            **self.model_dump(mode="json", exclude={"worlds", "rounds", "connections", "again", "first"}),
            "run": self.run_config(world, arm).model_dump(mode="json"),
            "again": self.run_config(world, arm, again=True).model_dump(mode="json"),
        }


def read(path: Path, changes: Changes) -> LoopConfig:
    """Raises: pydantic.ValidationError: a key is unknown or a value out of range; the message names it."""
    return LoopConfig.model_validate({**tomllib.loads(path.read_text()), **changes})
