"""A dataset by the name a configuration gives it."""

from pathlib import Path

from decisions.reading import Tally
from model.data import kuairand, movietweetings, ranklens, simulator, taobao_ad
from model.data.config import DataConfig
from model.data.decision_log import events_of_decisions
from model.data.event_log import dataset_of, read_event_log
from model.data.location import DataUnavailableError
from model.data.slate import Dataset
from model.progress import console

DIRECTORIES = {"kuairand": kuairand.load, "taobao_ad": taobao_ad.load}


def open_dataset(config: DataConfig) -> Dataset:
    """Read or simulate the configured dataset.

    Raises:
        DataUnavailableError: the data is not here and cannot be downloaded.
        EventLogError, DecisionLogError, TableError: the log is malformed.
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
    path, positive_types = config.event_log, config.features.positive_types
    if path.is_dir():
        return _of_decisions(config, path)
    if not path.is_file():
        raise DataUnavailableError(f"{path}: no such log")
    return read_event_log(path, path.stem, positive_types)


def _of_decisions(config: DataConfig, directory: Path) -> Dataset:
    tally = Tally()
    events = events_of_decisions(directory, tally, config.item_records, config.feedback_window_s)
    dataset = dataset_of(events, directory.name, config.features.positive_types)
    console.print(f"{directory}: {tally}")
    return dataset
