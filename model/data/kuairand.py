"""KuaiRand, impressions of short videos with clicks (Gao et al. 2022, arXiv 2208.08696, CC BY-SA 4.0;
https://kuairand.com). Reads the unpacked `data` directory of KuaiRand-1K or KuaiRand-Pure.

    log_standard_*.csv           user_id, video_id, time_ms, is_click, ... one impression a line
    user_features_*.csv          user_id, user_active_degree, register_days, ...
    video_features_basic_*.csv   video_id, author_id, video_type, video_duration, tag, ...

`is_click` is the label. log_random_*.csv is left out: videos were slipped into the feed one at a time,
not ranked. Which impressions are one list is the caller's choice.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.data.location import DataUnavailableError, PublicFile, directory_of
from model.data.sessions import Impression, SessionsConfig, lists_of
from model.data.slate import Dataset
from model.data.tables import rows

NAME = "kuairand"
UPSTREAM = "KuaiRand-1K or KuaiRand-Pure, https://kuairand.com"
SHA256 = {
    "log_standard_4_25_to_5_08_pure.csv": "90cb8f400e82855e965a96909054e7b026e6cf6e249e05709a799b09eaf9a0bf",
    "user_features_pure.csv": "dc729a656301b4c6d07f713fe41d05ec9bfaab670b90e531c70037caf033c011",
    "video_features_basic_pure.csv": "a6f7ee02684c5777422306cdc416e170302288aa89aca9dfea995edbd625bcc2",
}
FILES = tuple(PublicFile(f"{NAME}/{name}", None, digest) for name, digest in SHA256.items())
"""What docs/results.md was measured on: of KuaiRand-Pure the impressions from 25 April to 8 May 2022."""

LOG = ("user_id", "video_id", "time_ms", "is_click")
VIDEO = ("video_id", "author_id", "video_type", "video_duration", "tag")
USER = ("user_id", "user_active_degree", "register_days")


def load(directory: Path | None = None, sessions: SessionsConfig | None = None) -> Dataset:
    """Lists by user; without a directory from where data lies.

    Raises:
        DataUnavailableError: the files are not in `directory`.
        TableError: a file has another layout.
    """
    found = directory_of(NAME, UPSTREAM) if directory is None else directory
    lists = sessions or SessionsConfig()
    return lists_of(NAME, _impressions(found), _videos(found), _users(found), lists)


def _impressions(directory: Path) -> Iterator[Impression]:
    for path in _files(directory, "log_standard_*.csv"):
        for row in rows(path, LOG):
            time_s = float(row["time_ms"]) / 1000.0
            yield Impression(row["user_id"], row["video_id"], time_s, row["is_click"] == "1")


def _videos(directory: Path) -> dict[str, dict[str, Any]]:
    return {
        row["video_id"]: {
            "author": row["author_id"],
            "type": row["video_type"],
            "tags": [tag for tag in row["tag"].split(",") if tag],
            **({"duration_ms": float(row["video_duration"])} if row["video_duration"] else {}),
        }
        for path in _files(directory, "video_features_basic_*.csv")
        for row in rows(path, VIDEO)
    }


def _users(directory: Path) -> dict[str, dict[str, Any]]:
    return {
        row["user_id"]: {"activity": row["user_active_degree"], "register_days": float(row["register_days"])}
        for path in _files(directory, "user_features_*.csv")
        for row in rows(path, USER)
    }


def _files(directory: Path, pattern: str) -> list[Path]:
    found = sorted(directory.glob(pattern))
    if not found:
        raise DataUnavailableError(f"{directory}: no {pattern} there, as there is in the data of {UPSTREAM}")
    return found
