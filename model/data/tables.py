"""CSV files of public logs, read line by line with clear errors."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from bundle.errors import RerankerError
from model.data.location import DataUnavailableError
from model.progress import progress


class TableError(RerankerError):
    """A file without the columns its layout has; the message names file and column."""


def rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Rows by column name; blanks around names and values are dropped.

    Raises:
        DataUnavailableError: no such file.
        TableError: a column is missing.
    """
    if not path.is_file():
        raise DataUnavailableError(f"{path}: no such file; `directory` is where the log was unpacked")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        missing = [column for column in columns if column not in header]
        if missing:
            raise TableError(f"{path}: no column {missing[0]!r}; found {', '.join(header) or 'nothing'}")
        for row in progress(reader, path.name):
            yield {name: value.strip() for name, value in zip(header, row, strict=False)}
