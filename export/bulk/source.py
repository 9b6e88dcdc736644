"""Where rows come from: Parquet files on any filesystem, cut into parts of so many rows."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from bundle.errors import RerankerError
from model.data.arrow import ColumnError, plain_type

READ_ROWS = 512
"""At once; however large a row group is, no more of it is unpacked."""

BUFFER_BYTES = 1 << 20
MAGIC = b"PAR1"


class InputError(RerankerError):
    """What cannot be read; the message names the file."""


class InputFile(NamedTuple):
    """A file as it was when a job began. `footer_sha256` is of what Parquet says of the file's contents."""

    path: str
    bytes: int
    rows: int
    footer_sha256: str


class Part(NamedTuple):
    """Consecutive rows of one file: what one file of the output is made of."""

    number: int
    file: int
    start: int
    rows: int

    @property
    def stop(self) -> int:
        return self.start + self.rows


class Source:
    """The files of a path or a URI."""

    def __init__(self, uri: str) -> None:
        """Raises: InputError: no such filesystem."""
        self.uri = uri
        self._system, self._root = _filesystem(uri)

    def holds(self, path: Path) -> bool:
        """Whether a local path is in this directory, or is it."""
        return isinstance(self._system, fs.LocalFileSystem) and path.absolute().is_relative_to(self._root)

    def files(self) -> list[InputFile]:
        """The file, or all Parquet files below the directory, by path; names that begin with `_` or `.` are
        left out.

        Raises:
            InputError: there is none, or one cannot be read.
        """
        try:
            found = self._system.get_file_info(self._root)
            if found.type == fs.FileType.Directory:
                below = self._system.get_file_info(fs.FileSelector(self._root, recursive=True))
                paths = sorted(one.path for one in below if one.is_file and self._is_data(one.path))
            else:
                paths = [self._root] if found.type == fs.FileType.File else []
        except OSError as error:
            raise InputError(f"{self.uri}: {error}") from error
        if not paths:
            raise InputError(f"{self.uri}: no Parquet file there")
        return [self._file(path) for path in paths]

    def schema(self, path: str) -> pa.Schema:
        """Raises: InputError."""
        with self._opened(path) as opened:
            return opened.schema_arrow

    def rows(self, path: str, parts: Sequence[Part], columns: dict[str, pa.DataType]) -> Iterator["Rows"]:
        """Rows of consecutive or scattered parts of a file in their order, in one pass, which begins at the
        row group of the first.

        Args:
            columns: those to read, and the type that each is cast to.

        Raises:
            InputError: the file is damaged, or a value does not fit the type.
        """
        wanted = iter(parts)
        part = next(wanted)
        with self._opened(path) as opened:
            sizes = [opened.metadata.row_group(n).num_rows for n in range(opened.metadata.num_row_groups)]
            first, row = 0, 0
            while row + sizes[first] <= part.start:
                row += sizes[first]
                first += 1
            batches = opened.iter_batches(READ_ROWS, range(first, len(sizes)), list(columns))
            try:
                for batch in batches:
                    stop = row + len(batch)
                    while part.start < stop:
                        begin, end = max(row, part.start), min(stop, part.stop)
                        yield Rows(part, begin, _cast(batch.slice(begin - row, end - begin), columns))
                        if end < part.stop:
                            break
                        following = next(wanted, None)
                        if following is None:
                            return
                        part = following
                    row = stop
            except (OSError, pa.ArrowException) as error:
                raise InputError(f"{path}, rows from {row} on: {error}") from error

    def _is_data(self, path: str) -> bool:
        below = path.removeprefix(self._root).strip("/").split("/")
        return path.endswith((".parquet", ".pq")) and not any(name.startswith(("_", ".")) for name in below)

    def _file(self, path: str) -> InputFile:
        with self._opened(path) as opened:
            rows = opened.metadata.num_rows
        with self._system.open_input_file(path) as file:
            size = file.size()
            length = int.from_bytes(file.read_at(4, size - 8), "little")
            footer = file.read_at(length, size - 8 - length)
        return InputFile(path, size, rows, hashlib.sha256(footer).hexdigest())

    def _opened(self, path: str) -> pq.ParquetFile:
        try:
            file = self._system.open_input_file(path)
            if not file.size():
                raise InputError(f"{path}: an empty file, which is no Parquet")
            return pq.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: {error}") from error


class Rows(NamedTuple):
    """Consecutive rows of a part; the first is the `start`th of its file."""

    part: Part
    start: int
    batch: pa.RecordBatch


def parts_of(files: Sequence[InputFile], rows: int) -> list[Part]:
    """Every file in parts of so many rows, its last perhaps smaller."""
    found: list[Part] = []
    for index, file in enumerate(files):
        for start in range(0, file.rows, rows):
            found.append(Part(len(found), index, start, min(rows, file.rows - start)))
    return found


def columns_of(path: str, schema: pa.Schema, known: Sequence[str], needed: str) -> dict[str, pa.DataType]:
    """The columns of a file, and the type that each is read as.

    Raises:
        InputError: one is unknown or of no type that a request could have, or the needed one is not there.
    """
    if unknown := [name for name in schema.names if name not in known]:
        raise InputError(f"{path}: no such column of a request: {', '.join(unknown)}; {', '.join(known)} are")
    if twice := {name for name in schema.names if schema.names.count(name) > 1}:
        raise InputError(f"{path}: two columns {', '.join(sorted(twice))}")
    if needed not in schema.names:
        raise InputError(f"{path}: no column {needed!r}; found {', '.join(schema.names) or 'none'}")
    try:
        return {one.name: plain_type(one.type, one.name) for one in schema}
    except ColumnError as error:
        raise InputError(f"{path}: {error}") from None


def _cast(batch: pa.RecordBatch, columns: dict[str, pa.DataType]) -> pa.RecordBatch:
    arrays = [batch.column(name).cast(kind) for name, kind in columns.items()]
    return pa.RecordBatch.from_arrays(arrays, list(columns))


def _filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).absolute())
    try:
        found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(uri)
        return found
    except (ValueError, NotImplementedError, OSError) as error:
        told = str(error)
    try:
        import fsspec.core
    except ImportError:
        raise InputError(f"{uri}: {told}; fsspec, which knows more filesystems, is not installed") from None
    try:
        system, root = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError, OSError) as error:
        raise InputError(f"{uri}: {error}") from error
    handler: Any = fs.FSSpecHandler(system)
    return fs.PyFileSystem(handler), root
