"""KuaiRand, impressions of short videos with clicks (Gao et al. 2022, arXiv 2208.08696, CC BY-SA 4.0;
https://kuairand.com). Reads the unpacked `data` directory of KuaiRand-1K or KuaiRand-Pure.

    log_standard_*.csv           user_id, video_id, time_ms, is_click, ... one impression a line
    user_features_*.csv          user_id, user_active_degree, register_days, ...
    video_features_basic_*.csv   video_id, author_id, video_type, video_duration, tag, ...

Impressions less than `GAP_S` apart are one list, `is_click` its labels. log_random_*.csv is left out:
videos were slipped into the feed one at a time, not ranked.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.data.location import DataUnavailableError
from model.data.sessions import Impression, lists_of
from model.data.slate import Dataset
from model.data.tables import rows

GAP_S = 600.0
LOG = ("user_id", "video_id", "time_ms", "is_click")
VIDEO = ("video_id", "author_id", "video_type", "video_duration", "tag")
USER = ("user_id", "user_active_degree", "register_days")


def load(directory: Path) -> Dataset:
    """Lists by user.

    Raises:
        DataUnavailableError: the files are not in `directory`.
        TableError: a file has another layout.
    """
    return lists_of("kuairand", _impressions(directory), _videos(directory), _users(directory), GAP_S)


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
        raise DataUnavailableError(
            f"{directory}: no {pattern} there; download KuaiRand-1K or KuaiRand-Pure from "
            "https://kuairand.com and set `directory` to its data directory"
        )
    return found
