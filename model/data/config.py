"""Which log is read, from where, and what of it becomes features. Frozen and validated once."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from bundle.features.schema import FeatureSchema, Frozen
from decisions.reading import WINDOW_S
from model.data.findings import LARGEST_DIRT_SHARE
from model.data.sessions import SessionsConfig
from model.data.simulator import SimulatorConfig


class DataConfig(Frozen):
    """A dataset by name. `event_log` is the file of dataset `event_log`, or the directory of a decision log,
    which `item_records` may say more of the items of, and whose feedback counts for `feedback_window_s`
    seconds; more faulty lines or values than `largest_dirt_share` are not left out, the log is refused;
    `directory` where `kuairand` or `taobao_ad` was unpacked, if not where data lies, and `sessions` how their
    impressions become lists; `simulator` the world of `simulator`. Each is ignored by the other datasets."""

    dataset: Literal["ranklens", "movietweetings", "simulator", "kuairand", "taobao_ad", "event_log"]
    event_log: Path | None = None
    item_records: Path | None = None
    feedback_window_s: PositiveFloat = WINDOW_S
    largest_dirt_share: Annotated[float, Field(ge=0, le=1)] = LARGEST_DIRT_SHARE
    directory: Path | None = None
    sessions: SessionsConfig = SessionsConfig()
    simulator: SimulatorConfig = SimulatorConfig()
    features: FeatureSchema

    @model_validator(mode="after")
    def _has_a_path(self) -> Self:
        if self.dataset == "event_log" and self.event_log is None:
            raise ValueError("dataset 'event_log' needs event_log, the path of the log")
        return self
