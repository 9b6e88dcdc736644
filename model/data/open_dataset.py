"""A dataset by the name a configuration gives it."""

from model.data import kuairand, movietweetings, ranklens, simulator, taobao_ad
from model.data.config import DataConfig
from model.data.event_log import read_event_log
from model.data.location import DataUnavailableError
from model.data.slate import Dataset

DIRECTORIES = {"kuairand": kuairand.load, "taobao_ad": taobao_ad.load}


def open_dataset(config: DataConfig) -> Dataset:
    """Read or simulate the configured dataset.

    Raises:
        DataUnavailableError: the data is not here and cannot be downloaded.
        EventLogError, TableError: the log is malformed.
    """
    if config.dataset == "ranklens":
        return ranklens.load()
    if config.dataset == "movietweetings":
        return movietweetings.load()
    if config.dataset == "simulator":
        return simulator.load(config.simulator)
    if config.dataset in DIRECTORIES:
        return DIRECTORIES[config.dataset](config.directory, config.sessions)
    assert config.event_log is not None
    if not config.event_log.is_file():
        raise DataUnavailableError(f"{config.event_log}: no such log")
    return read_event_log(config.event_log, config.event_log.stem, config.features.positive_types)
