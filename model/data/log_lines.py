"""A log's file as JSON values with their places: what it is compressed with and written in is seen from its
first bytes, not from its name.

Knows nothing of what the lines say.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from model.data.findings import Effect, Findings
from model.data.location import DataUnavailableError
from model.data.parquet_log import is_parquet, read_rows

GZIP = b"\x1f\x8b"
FOREIGN = {
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it, or use gzip",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"BZh": "compressed with bzip2: unpack it, or use gzip",
    b"\xfd7zXZ": "compressed with xz: unpack it, or use gzip",
}
"""First bytes of files that are no log, and what to do with them."""

ISO_8859 = "Windows or Latin-1 text? Write it again in UTF-8: iconv -f latin1 -t utf-8"


def read_values(path: Path, found: Findings) -> Iterator[tuple[str, Any]]:
    """The JSON values of a file, one a line, and where each stands; a line that is no JSON is a finding. Of
    Parquet its rows.

    Raises:
        DataUnavailableError: the file cannot be opened.
    """
    if is_parquet(path):
        yield from read_rows(path, found)
        return
    for number, text in numbered_lines(path, found):
        if not text.strip():
            continue
        found.totals["lines"] += 1
        where = f"{path}:{number}"
        try:
            value = json.loads(text.rstrip())
            if "\\ud" in text.lower():
                json.dumps(value, ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            message = f"not JSON: {error.msg}, column {error.colno}{_hint(text)}"
            found.add("not JSON", Effect.LEFT_OUT, "lines", where, message)
        except UnicodeEncodeError:
            message = "not JSON: half of a pair of surrogates"
            found.add("not JSON", Effect.LEFT_OUT, "lines", where, message)
        except (ValueError, RecursionError):
            message = "not JSON that can be read: nested too deeply, or a number of too many digits"
            found.add("not JSON", Effect.LEFT_OUT, "lines", where, message)
        else:
            yield where, value
    if not found.totals["lines"] and not found.refusals:
        found.add("empty file", Effect.REFUSED, "lines", str(path), "there is nothing in it")


def numbered_lines(path: Path, found: Findings) -> Iterator[tuple[int, str]]:
    """Lines of text from 1 on, without a byte order mark, as far as they can be read.

    Raises:
        DataUnavailableError: the file cannot be opened.
    """
    number = 0
    try:
        with _unpacked(path, found) as file:
            encoding = json.detect_encoding(file.peek(4)[:4])  # of any text that begins with ASCII
            _say_encoding(path, encoding, found)
            if not encoding.startswith("utf-8"):
                with io.TextIOWrapper(file, encoding, newline="\n") as text:
                    yield from enumerate(text, start=1)
                return
            for number, line in enumerate(file, start=1):
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    _not_text(path, number, line[error.start], found)
    except UnicodeDecodeError as error:
        _not_text(path, number + 1, error.object[error.start], found)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        message = f"gzip is cut off or damaged here, and what follows is lost: {error}"
        found.add("damaged gzip", Effect.REFUSED, "", f"{path}:{number + 1}", message)
    except OSError as error:
        raise DataUnavailableError(f"{path}: {error.strerror or error}") from error


def open_for_writing(path: Path) -> IO[str]:
    """A file of UTF-8 lines, gzip if its name ends in .gz."""
    if path.suffix == ".gz":
        return cast(IO[str], gzip.open(path, "wt", compresslevel=6, encoding="utf-8"))
    return path.open("w", encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """`open_for_writing`, but what was there stays until the new file is whole. Pipes are written at once."""
    if path.exists() and not path.is_file():
        with open_for_writing(path) as file:
            yield file
        return
    path = path.resolve()
    partial = path.with_name(f".part-{path.name}")
    try:
        with open_for_writing(partial) as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _unpacked(path: Path, found: Findings) -> io.BufferedReader | gzip.GzipFile:
    """The file's bytes without gzip, nothing if they are packed in another way."""
    with path.open("rb") as file:
        head = file.read(6)
    for first, what in FOREIGN.items():
        if head.startswith(first):
            found.add("compression", Effect.REFUSED, "", str(path), f"this is {what}")
            return io.BufferedReader(io.BytesIO())
    packed, named = head.startswith(GZIP), path.suffix == ".gz"
    if packed != named and head:
        what = "gzip under another name" if packed else "plain text, though its name ends in .gz"
        found.add("compression", Effect.READ, "", str(path), what)
    return gzip.open(path) if packed else path.open("rb")


def _say_encoding(path: Path, encoding: str, found: Findings) -> None:
    if encoding == "utf-8-sig":
        found.add("encoding", Effect.READ, "", str(path), "begins with a byte order mark")
    elif encoding != "utf-8":
        found.add("encoding", Effect.READ, "", str(path), f"written in {encoding.upper()}, not UTF-8")


def _not_text(path: Path, number: int, byte: int, found: Findings) -> None:
    message = f"byte 0x{byte:02x} is no UTF-8. {ISO_8859}"
    found.add("encoding", Effect.REFUSED, "", f"{path}:{number}", message, about="text")


def _hint(text: str) -> str:
    start = text.lstrip()[:1]
    if text.strip() in ("[", "{"):
        return "; one object a line is wanted: jq -c '.[]' writes an array so"
    if start not in ("{", "["):
        return "; a table? `python -m model.data convert` makes a log of CSV and Parquet"
    return ""
