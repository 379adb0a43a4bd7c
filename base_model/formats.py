"""File formats as streams of rows, each with its location and, where it cannot be used, a complaint.

| what                       | read as                                                                              |
| -------------------------- | ------------------------------------------------------------------------------------ |
| .jsonl, .json with objects | one object a line (blank lines are passed over)                                      |
| .json with a list          | the list's items, parsed one after another                                           |
| .csv                       | header line, then rows; quoted cells may hold line ends                              |
| .parquet                   | rows in batches                                                                      |
| .txt with a separator      | what stands between separators, white space around it taken off, empty pieces left out |
| .txt without one           | one document, cut at a line end every 4 M characters so that memory stays fixed      |

Each also as .gz. No reader holds more than a batch of rows, or one document, in memory.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".txt")
DOCUMENT_CHARS = 1 << 22  # a .txt without a separator is cut after the first line end past this
SEPARATOR_CHARS = 1 << 28  # no separator in so much text: it is the wrong one
BLOCK_CHARS = 1 << 16  # how much is read at once
BATCH_ROWS = 512  # rows of a parquet file in memory at a time

RawRow = tuple[str, dict[str, Any], str | None]  # location "path:line", values, complaint


class BadRows(ValueError):
    """A row that cannot be used; the message names file, line, field and how many more there are."""


def kind_of(path: Path) -> str | None:
    """The suffix that says how a file is read, for a.jsonl and a.jsonl.gz alike; None for what is not read."""
    suffix = Path(path.name[:-3]).suffix if path.name.endswith(".gz") else path.suffix
    return suffix if suffix in SUFFIXES else None


def read_file(path: Path, separator: str | None) -> Iterator[RawRow]:
    """Rows of one file. Raises ValueError naming a file that is damaged as a whole."""
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
    try:
        kind = kind_of(path)
        yield from _read_txt(path, separator) if kind == ".txt" else readers[kind](path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a damaged or cut-off gzip file: {error}") from error


def _open(path: Path) -> IO[str]:
    """Text with bytes that are not UTF-8 kept as surrogates, so that the row they stand in can be named."""
    opener = gzip.open if path.name.endswith(".gz") else open
    newline = "" if kind_of(path) == ".csv" else None  # csv finds its own line ends
    return opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _undecodable(text: str) -> str | None:
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        what = f"byte 0x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"lone surrogate U+{code:04X}"
        return f"not UTF-8 text: {what} after {text[max(0, error.start - 20) : error.start]!r}"
    return None


def _read_json(path: Path) -> Iterator[RawRow]:
    with _open(path) as file:
        first = file.read(1)
        while first.isspace():
            first = file.read(1)
    yield from _read_json_list(path) if first == "[" else _read_jsonl(path)


def _read_jsonl(path: Path) -> Iterator[RawRow]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                yield _json_row(f"{path}:{number}", json.loads(line), line)
            except json.JSONDecodeError as error:
                yield f"{path}:{number}", {}, f"not JSON: {error.msg} at column {error.colno}"


def _json_row(location: str, value: Any, text: str) -> RawRow:
    if not isinstance(value, dict):
        return location, {}, f"a JSON {type(value).__name__}, not an object with fields"
    complaint = _undecodable(json.dumps(value, ensure_ascii=False) if "\\ud" in text.lower() else text)
    return location, value, complaint


def _read_json_list(path: Path) -> Iterator[RawRow]:
    """Items of one big list, holding no more of the text than the item at hand and a block."""
    with _open(path) as file:
        yield from _json_items(path, file)


def _json_items(path: Path, file: IO[str]) -> Iterator[RawRow]:
    decoder = json.JSONDecoder()
    space = re.compile(r"[\s,]*")
    text, line = file.read(BLOCK_CHARS).split("[", 1)[1], 1
    while True:
        start = space.match(text).end()
        line += text.count("\n", 0, start)
        text = text[start:]
        if text.startswith("]"):
            return
        problem = "the list is not closed"
        try:
            value, end = decoder.raw_decode(text)
        except json.JSONDecodeError as error:
            end, problem = len(text), error.msg
        if end < len(text):  # an item that reaches the end of the text may go on
            yield _json_row(f"{path}:{line}", value, text[:end])
            line += text.count("\n", 0, end)
            text = text[end:]
        elif more := file.read(max(BLOCK_CHARS, len(text))):  # doubling keeps a very long item linear
            text += more
        else:
            raise BadRows(f"{path}:{line}: not JSON: {problem}; what follows in this file cannot be read")


def _read_csv(path: Path) -> Iterator[RawRow]:
    csv.field_size_limit(min(sys.maxsize, 1 << 30))
    with _open(path) as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, None)
        while header is not None:
            location = f"{path}:{reader.line_num + 1}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield location, {}, f"not CSV: {error}"
                continue
            if not cells:
                continue
            complaint = _undecodable("".join(cells))
            if len(cells) != len(header):
                complaint = f"{len(cells)} cells under a header of {len(header)}"
            yield location, dict(zip(header, cells, strict=False)), complaint


def _read_parquet(path: Path) -> Iterator[RawRow]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    with tempfile.NamedTemporaryFile() as unpacked:
        if path.name.endswith(".gz"):  # parquet is read from its end: unpack to disk, not to memory
            with gzip.open(path) as packed:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
            unpacked.flush()
        try:
            file = ParquetFile(
                unpacked.name if path.name.endswith(".gz") else path, pre_buffer=False, buffer_size=1 << 20
            )
            batches = file.iter_batches(batch_size=BATCH_ROWS)
            for number, row in enumerate(itertools.chain.from_iterable(b.to_pylist() for b in batches), start=1):
                yield f"{path} row {number}", row, None
        except ArrowException as error:
            raise ValueError(f"{path} is not a readable parquet file: {error}") from error


def _read_txt(path: Path, separator: str | None) -> Iterator[RawRow]:
    with _open(path) as file:
        pieces = _cut_at_lines(file) if separator is None else _split(path, file, separator)
        for line, text in pieces:
            yield f"{path}:{line}", {"text": text}, _undecodable(text)


def _cut_at_lines(file: IO[str]) -> Iterator[tuple[int, str]]:
    line = 1
    while text := file.read(DOCUMENT_CHARS):
        text += file.readline()
        yield line, text
        line += text.count("\n")


def _split(path: Path, file: IO[str], separator: str) -> Iterator[tuple[int, str]]:
    line, rest, is_open = 1, "", True
    while is_open:
        block = file.read(max(BLOCK_CHARS, len(rest)))  # doubling keeps a very long document linear
        is_open = bool(block)
        *whole, rest = (rest + block).split(separator)
        for piece in whole if is_open else [*whole, rest]:
            if text := piece.strip():
                yield line + piece[: len(piece) - len(piece.lstrip())].count("\n"), text
            line += piece.count("\n") + separator.count("\n")
        if len(rest) > SEPARATOR_CHARS:
            raise ValueError(
                f"{path}: {len(rest):,} characters without the separator {separator!r}; is it the right one?"
            )
