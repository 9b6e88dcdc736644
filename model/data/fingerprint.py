"""Which log a run was trained on: one hash of its bytes."""

import hashlib
from pathlib import Path

from bundle.manifest import sha256
from decisions.reading import log_files
from model.data.config import DataConfig
from model.data.parquet_log import files_of, is_parquet


def fingerprint(config: DataConfig) -> str | None:
    """SHA-256 of one's own log, in hexadecimal; of several files, of theirs in order.

    None for data that has a name: it is verified when it is read, or made by the configuration. None too
    where a file is not there, which reading it tells.
    """
    if config.dataset != "event_log":
        return None
    paths = [path for path in (config.event_log, config.item_records) if path is not None]
    files = [file for path in paths for file in _files_of(path)]
    if not files or not all(file.is_file() for file in files):
        return None
    return _digest(files)


def _files_of(path: Path) -> list[Path]:
    if is_parquet(path):
        return files_of(path)
    return log_files(path) if path.is_dir() else [path]


def _digest(files: list[Path]) -> str:
    hashes = [sha256(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
