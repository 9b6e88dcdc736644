"""RankLens: 9,800 slates of 24 films shown to 2,145 people (metarank/ranklens, CC BY-SA 4.0)."""

from model.data.event_log import read_event_log
from model.data.location import PublicFile, locate
from model.data.slate import Dataset

EVENTS = PublicFile(
    path="ranklens/events.jsonl.gz",
    url="https://media.githubusercontent.com/media/metarank/metarank/master/"
    "src/test/resources/ranklens/events/events.jsonl.gz",
    sha256="d4009c698bcc23f0648107dc167f2a3c797ebcb1737e68ec727c7057558a99aa",
)


def load() -> Dataset:
    """The event log, split by user.

    Raises:
        DataUnavailableError: the log is not here and cannot be downloaded.
    """
    return read_event_log(locate(EVENTS), "ranklens")
