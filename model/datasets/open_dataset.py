"""A dataset by the name a configuration gives it."""

from model.config import RunConfig
from model.datasets import ranklens, simulator
from model.datasets.event_log import read_event_log
from model.datasets.location import DataUnavailableError
from model.datasets.slate import Dataset


def open_dataset(config: RunConfig) -> Dataset:
    """Read or simulate the configured dataset.

    Raises:
        DataUnavailableError: the data is not here and cannot be downloaded.
        ValueError: `dataset = "event_log"` without a path.
    """
    if config.dataset == "ranklens":
        return ranklens.load()
    if config.dataset == "simulator":
        return simulator.load(config.simulator)
    if config.event_log is None:
        raise ValueError("dataset 'event_log' needs event_log, the path of the log")
    if not config.event_log.is_file():
        raise DataUnavailableError(f"{config.event_log}: no such log")
    return read_event_log(config.event_log, config.event_log.stem, config.features.positive_types)
