"""A job and its directory: which parts are done, and what they were made of.

    job.json                        what the parts are made of; a run with anything else is refused
    part-000000.parquet ...         lists, a file a part of the input
    refused/part-000000.parquet     rows that got none, and why; only where there are any

A part is there as a whole or not at all, its refused rows before it, so that a run that was killed goes on
with the first that is missing.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from bundle.errors import RerankerError
from bundle.manifest import MANIFEST, read_manifest, sha256
from export.bulk.lists import LISTS
from export.bulk.requests import COLUMNS, ITEMS
from export.bulk.source import InputFile, Part, Source, columns_of, parts_of

JOB, REFUSED_FOLDER, PARTIAL, LOCK = "job.json", "refused", ".partial", ".lock"
COMPRESSION = "zstd"


class JobError(RerankerError):
    """The output directory is no place for this job, or could not be written to."""


class Done(NamedTuple):
    """What became of a part's rows."""

    lists: int
    refused: int


class Job(NamedTuple):
    """What to make of which input, and where.

    Attributes:
        at: unix seconds, the time of requests that do not say theirs.
    """

    bundle: Path
    source: Source
    files: list[InputFile]
    parts: list[Part]
    output: Path
    at: float

    @classmethod
    def open(cls, bundle: Path, uri: str, output: Path, part_rows: int, at: float | None, now: float) -> Self:
        """A job in a directory that is new, empty, or its own.

        Args:
            at: as the attribute; None is that of the directory's job, or `now`.

        Raises:
            BundleError, InputError: what it is made of cannot be read.
            JobError: the directory holds something else.
        """
        manifest, source = read_manifest(bundle), Source(uri)
        if source.holds(output):
            raise JobError(f"{output}: within the input, of which it would become a part")
        files = source.files()
        for file in files:
            columns_of(file.path, source.schema(file.path), COLUMNS, ITEMS)
        made_of: dict[str, Any] = {
            "bundle": f"{manifest.name} version {manifest.version}",
            "manifest_sha256": sha256(bundle / MANIFEST),
            "part_rows": part_rows,
            "at": now if at is None else at,
            "input": [file._asdict() for file in files],
        }
        path = output / JOB
        try:
            output.mkdir(parents=True, exist_ok=True)
            if path.exists():
                there = _read(path)
                if at is None:
                    made_of["at"] = there.get("at")
                if other := [name for name in made_of if there.get(name) != made_of[name]]:
                    raise JobError(f"{output}: holds parts of another job: another {', '.join(other)}")
            else:
                if found := [one.name for one in output.iterdir() if one.name != LOCK]:
                    raise JobError(f"{output}: expected an empty directory, found {sorted(found)[0]}")
                _write_text(path, json.dumps(made_of, indent=2) + "\n")
        except OSError as error:
            raise JobError(f"{output}: {error.strerror or error}") from error
        return cls(bundle, source, files, parts_of(files, part_rows), output, float(made_of["at"]))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other runs out. Raises: JobError: one is there."""
        with (self.output / LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise JobError(f"{self.output}: another run is writing there") from None
            for left in self.output.rglob(f"*{PARTIAL}"):
                left.unlink()
            yield

    def missing(self) -> list[Part]:
        return [part for part in self.parts if not self._path(part).exists()]

    def done(self) -> Done:
        """Of all finished parts together."""
        lists = sum(
            pq.read_metadata(self._path(part)).num_rows for part in self.parts if self._path(part).exists()
        )
        refused = self.output / REFUSED_FOLDER
        return Done(lists, sum(pq.read_metadata(path).num_rows for path in refused.glob("*.parquet")))

    def write(self, part: Part, lists: Sequence[pa.Table], refused: Sequence[pa.Table]) -> Done:
        """Raises: JobError."""
        path, aside = self._path(part), self._path(part, REFUSED_FOLDER)
        try:
            if refused:
                aside.parent.mkdir(exist_ok=True)
                _write_table(aside, pa.concat_tables(refused))
            _write_table(path, pa.concat_tables(lists) if lists else LISTS.empty_table())
        except (OSError, pa.ArrowException) as error:
            told = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise JobError(f"{path}: {told}; finished parts are kept") from error
        return Done(sum(map(len, lists)), sum(map(len, refused)))

    def _path(self, part: Part, folder: str = "") -> Path:
        return self.output / folder / f"part-{part.number:06d}.parquet"


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as error:
        raise JobError(f"{path}: not what a job wrote: {error}") from None


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(path.name + PARTIAL)
    partial.write_text(text)
    os.replace(partial, path)


def _write_table(path: Path, table: pa.Table) -> None:
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            pq.write_table(table, file, compression=COMPRESSION)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
