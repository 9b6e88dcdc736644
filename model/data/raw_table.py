"""Rows of a CSV or Parquet table with their places, and values of the types that they look like.

A column of a CSV is numbers if all of its values are; a cell in brackets is a list as JSON has it. Knows
nothing of what the columns mean.
"""

import csv
import difflib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from glob import glob
from pathlib import Path
from typing import Any

from bundle.timestamps import ISO, Instant, read_time
from model.data.findings import Effect, Findings
from model.data.location import DataUnavailableError
from model.data.log_lines import numbered_lines
from model.data.toml_file import ConfigError

ABSENT = frozenset({"", "null", "none", "nan", "na", "n/a", "\\n"})
"""How a cell reads that has no value, in small letters."""

DELIMITERS = ",;\t|"
PARQUET = b"PAR1"
LONGEST_CELL = 1 << 24
"""Characters; the csv module stops at 131,072, less than an embedding may have."""

Row = tuple[str, dict[str, Any]]
"""Where a row stands, and its values by column; None where a cell has none."""


class RawTable:
    """A table in one file, or in several with the same columns.

    Raises:
        DataUnavailableError: no file is there.
        ConfigError: one of the files lacks a column; `key` is the place in the mapping that asks for it.
    """

    def __init__(self, directory: Path, pattern: str, found: Findings, key: str) -> None:
        self.paths = sorted(directory / name for name in glob(pattern, root_dir=directory, recursive=True))
        self._found, self._key = found, key
        self.rows_of = f"rows of {key}"  # as `Findings.totals` has them
        if not self.paths:
            raise DataUnavailableError(f"{directory / pattern}: no such file ({key}.file)")
        self.columns = self._header(self.paths[0])
        for path in self.paths[1:]:
            if missing := set(self.columns).difference(self._header(path)):
                raise ConfigError(f"{key}: {path} has no column `{min(missing)}`, which {self.paths[0]} has")

    def check(self, columns: Sequence[str]) -> None:
        """Raises: ConfigError: the table does not have each of them once."""
        for column in columns:
            if self.columns.count(column) > 1:
                raise ConfigError(f"{self._key}: {self.paths[0]} has more than one column `{column}`")
            if column not in self.columns:
                near = difflib.get_close_matches(column, self.columns, 1)
                hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(self.columns)}"
                raise ConfigError(f"{self._key}: {self.paths[0]} has no column `{column}`; {hint}")

    def rows(self, columns: Sequence[str], typed: Sequence[str] = ()) -> Iterator[Row]:
        """These columns of every row. Those of `typed` are numbers where the whole column is, which takes a
        CSV to be read twice; others are texts as they stand."""
        numbers = self._numeric(typed)
        for path in self.paths:
            if _is_parquet(path):
                yield from self._parquet_rows(path, columns)
                continue
            for where, cells in self._cells(path):
                yield where, {name: _value(cells[name], name in typed, name in numbers) for name in columns}

    def _numeric(self, columns: Sequence[str]) -> set[str]:
        """Columns in which every value is a number as numbers are written."""
        left = set(columns)
        for path in self.paths:
            if left and not _is_parquet(path):
                for _, cells in self._cells(path, Findings()):
                    left -= {
                        name for name in left if not (_is_absent(cells[name]) or _is_number(cells[name]))
                    }
        return left

    def _cells(self, path: Path, found: Findings | None = None) -> Iterator[tuple[str, dict[str, str]]]:
        found = found or self._found
        lines = numbered_lines(path, found)
        _, first = next(lines, (0, ""))
        csv.field_size_limit(LONGEST_CELL)
        delimiter = max(DELIMITERS, key=first.count)
        header = _names(first, delimiter)
        reader = csv.reader((line for _, line in lines), delimiter=delimiter)
        before = 1
        try:
            for cells in reader:
                where, before = f"{path}:{before + 1}", reader.line_num + 1
                if not cells:
                    continue
                found.totals[self.rows_of] += 1
                if len(cells) != len(header):
                    message = f"{len(cells)} values, the header has {len(header)} names"
                    found.add("row of another length", Effect.LEFT_OUT, self.rows_of, where, message)
                    continue
                yield where, dict(zip(header, map(str.strip, cells), strict=True))
        except csv.Error as error:
            found.add("not CSV", Effect.REFUSED, self.rows_of, f"{path}:{before + 1}", f"not CSV: {error}")

    def _parquet_rows(self, path: Path, columns: Sequence[str]) -> Iterator[Row]:
        number = 0
        for batch in _parquet(path).iter_batches(columns=list(columns)):
            for row in batch.to_pylist():
                number += 1
                self._found.totals[self.rows_of] += 1
                yield f"{path}: row {number}", {name: _plain(value) for name, value in row.items()}

    def _header(self, path: Path) -> list[str]:
        if _is_parquet(path):
            names: list[str] = _parquet(path).schema_arrow.names
            return names
        _, first = next(numbered_lines(path, Findings()), (0, ""))
        return _names(first, max(DELIMITERS, key=first.count))


def instant(value: Any) -> Instant:
    """The time in a cell. Raises: ValueError: it is none."""
    if not isinstance(value, date):
        return read_time(value)
    at = value if isinstance(value, datetime) else datetime.combine(value, time())
    return Instant((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp(), ISO, at.tzinfo is not None)


def split(value: Any, separator: str) -> Any:
    """A text as the list that is written in it: numbers if all are, and some have a fraction."""
    if not isinstance(value, str):
        return value
    parts = [part for one in value.strip("[](){} ").split(separator) if (part := one.strip(" \"'"))]
    numbers = all(map(_is_number, parts)) and any("." in part for part in parts)
    return [float(part) for part in parts] if numbers else parts


def _names(line: str, delimiter: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]


def _is_absent(cell: str) -> bool:
    return cell.lower() in ABSENT


def _is_number(cell: str) -> bool:
    """Not codes such as 007, nor ones that float takes for numbers without looking like any."""
    digits = cell.lstrip("+-")
    if not digits[:1].isdigit() and not digits.startswith("."):
        return False
    try:
        return math.isfinite(float(cell)) and (not digits.startswith("0") or digits[1:2] in ("", ".", "e"))
    except ValueError:
        return False


def _value(cell: str, typed: bool, number: bool) -> Any:
    if _is_absent(cell):
        return None
    if number:
        value = float(cell)
        return int(cell) if value.is_integer() and cell.lstrip("+-").isdigit() else value
    if typed and cell.startswith("["):
        try:
            return _plain(json.loads(cell))
        except (json.JSONDecodeError, RecursionError):
            return cell
    return cell


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == PARQUET
    except OSError as error:
        raise DataUnavailableError(f"{path}: {error.strerror or error}") from error


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ConfigError(f"{path}: Parquet needs pyarrow: pip install pyarrow") from None
    try:
        return parquet.ParquetFile(path)
    except ArrowException as error:
        raise ConfigError(f"{path}: not whole Parquet: {error}") from None


def _plain(value: Any) -> Any:
    """A value as JSON has it; dates are unix seconds."""
    if isinstance(value, date):
        return instant(value).seconds
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return {name: _plain(one) for name, one in value.items()} if isinstance(value, Mapping) else value
