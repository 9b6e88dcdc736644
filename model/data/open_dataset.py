"""A dataset by the name a configuration gives it."""

from decisions.reading import Tally
from model.data import kuairand, movietweetings, ranklens, simulator, taobao_ad
from model.data.config import DataConfig
from model.data.decision_log import events_of_decisions
from model.data.event_log import dataset_of
from model.data.findings import Findings
from model.data.location import DataUnavailableError
from model.data.log_lines import read_values
from model.data.parquet_log import is_parquet
from model.data.slate import Dataset
from model.progress import console

DIRECTORIES = {"kuairand": kuairand.load, "taobao_ad": taobao_ad.load}


def open_dataset(config: DataConfig) -> Dataset:
    """Read or simulate the configured dataset.

    Raises:
        DataUnavailableError: the data is not here and cannot be downloaded.
        EventLogError, DecisionLogError, TableError: the log is malformed.
    """
    dataset = read_dataset(config)
    if dataset.findings is not None:
        dataset.findings.refuse()
    return dataset


def read_dataset(config: DataConfig) -> Dataset:
    """The same, whatever is wrong with an event log: its findings tell. Raises all but EventLogError."""
    if config.dataset == "ranklens":
        return ranklens.load()
    if config.dataset == "movietweetings":
        return movietweetings.load()
    if config.dataset == "simulator":
        return simulator.load(config.simulator)
    if config.dataset in DIRECTORIES:
        return DIRECTORIES[config.dataset](config.directory, config.sessions)
    assert config.event_log is not None
    path, found = config.event_log, Findings(config.largest_dirt_share)
    if not path.is_dir() or is_parquet(path):
        if not path.exists():
            raise DataUnavailableError(f"{path}: no such log")
        return dataset_of(read_values(path, found), path.stem, found, config.features)
    if not any(path.rglob("*.jsonl*")):
        raise DataUnavailableError(f"{path}: no *.parquet, *.jsonl or *.jsonl.gz here")
    tally = Tally()
    events = events_of_decisions(path, tally, found, config.item_records, config.feedback_window_s)
    dataset = dataset_of(events, path.name, found, config.features)
    console.print(f"{path}: {tally}")
    return dataset
