"""A dataset by the name a configuration gives it."""

from model.config import RunConfig
from model.datasets import kuairand, movietweetings, ranklens, simulator, taobao_ad
from model.datasets.event_log import read_event_log
from model.datasets.location import DataUnavailableError
from model.datasets.slate import Dataset

DIRECTORIES = {"kuairand": kuairand.load, "taobao_ad": taobao_ad.load}


def open_dataset(config: RunConfig) -> Dataset:
    """Read or simulate the configured dataset.

    Raises:
        DataUnavailableError: the data is not here and cannot be downloaded.
        ValueError: a dataset that needs a path has none.
    """
    if config.dataset == "ranklens":
        return ranklens.load()
    if config.dataset == "movietweetings":
        return movietweetings.load()
    if config.dataset == "simulator":
        return simulator.load(config.simulator)
    if config.dataset in DIRECTORIES:
        if config.directory is None:
            raise ValueError(f"dataset {config.dataset!r} needs directory, where the log was unpacked")
        return DIRECTORIES[config.dataset](config.directory)
    if config.event_log is None:
        raise ValueError("dataset 'event_log' needs event_log, the path of the log")
    if not config.event_log.is_file():
        raise DataUnavailableError(f"{config.event_log}: no such log")
    return read_event_log(config.event_log, config.event_log.stem, config.features.positive_types)
