"""File formats as streams of rows, each with its location and, where it cannot be used, a complaint.

| what                       | read as                                                                              |
| -------------------------- | ------------------------------------------------------------------------------------ |
| .jsonl, .ndjson            | one object a line (blank lines are passed over)                                      |
| .json                      | the same, or objects over several lines, or one list of objects                      |
| .csv                       | header line, then rows; quoted cells may hold line ends                              |
| .parquet                   | rows in batches                                                                      |
| .txt with a separator      | what stands between separators, white space around it taken off, empty pieces left out |
| .txt without one           | one document, cut at a line end every 4 M characters so that memory stays fixed      |

Each also as .gz, in capitals or not. Text is UTF-8. A name that stands twice, in an object or in a header, is refused: one of its values
would be lost. No reader holds more than a batch of rows, or one document, in memory.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import itertools
import json
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
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
    """The suffix that says how a file is read, for a.jsonl and A.JSONL.GZ alike; None for what is not read."""
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix.replace(".ndjson", ".jsonl")
    return suffix if suffix in SUFFIXES else None


def is_packed(path: Path) -> bool:
    """Is it a gzip file, by its name?"""
    return path.name.lower().endswith(".gz")


def read_file(path: Path, separator: str | None) -> Iterator[RawRow]:
    """Rows of one file. Raises ValueError naming a file that is damaged as a whole."""
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
    try:
        kind = kind_of(path)
        rows = _read_txt(path, separator) if kind == ".txt" else readers[kind](path)
        yield from _refuse_wrapper(rows) if kind in (".jsonl", ".json") else rows
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a damaged or cut-off gzip file: {error}") from error


def _open(path: Path) -> IO[str]:
    """Text with bytes that are not UTF-8 kept as surrogates, so that the row they stand in can be named. Raises ValueError for UTF-16."""
    opener = gzip.open if is_packed(path) else open
    with opener(path, "rb") as file:
        start = file.read(4)
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in start:
        raise ValueError(f"{path} is not UTF-8 text but UTF-16, by its first bytes; save it as UTF-8")
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


def _names_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(values := dict(pairs)) < len(pairs):
        raise ValueError(f"the name {_first_twice([name for name, _ in pairs])!r} stands twice in one object")
    return values


def _first_twice(names: Sequence[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)


_DECODER, _LENIENT_DECODER = json.JSONDecoder(object_pairs_hook=_names_once), json.JSONDecoder()


def _decode_first(text: str) -> tuple[Any, int, str | None]:
    """(value, where it ends, complaint) of the first value in a text. Raises as `_DECODER` does, but for a name that stands twice."""
    try:
        return *_DECODER.raw_decode(text), None
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        return *_LENIENT_DECODER.raw_decode(text), _why_not_json(error)


def _why_not_json(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at column {error.colno}"
    if isinstance(error, RecursionError):
        return "lists or objects in each other, too deep to read"
    return "a whole number of too many digits" if "digits" in str(error) else str(error)


def _read_json(path: Path) -> Iterator[RawRow]:
    with _open(path) as file:
        first = file.read(1)
        while first.isspace():
            first = file.read(1)
        first_line = "" if first == "[" else first + file.readline()  # a list may be one line
    if first == "[":
        yield from _read_json_values(path, is_list=True)
        return
    try:
        _LENIENT_DECODER.decode(first_line)
    except json.JSONDecodeError as error:
        if error.pos >= len(first_line.rstrip()):  # it goes on in the next line
            yield from _read_json_values(path, is_list=False)
            return
    except (ValueError, RecursionError):  # its row says it
        pass
    yield from _read_jsonl(path)


def _read_jsonl(path: Path) -> Iterator[RawRow]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                yield _json_row(f"{path}:{number}", _DECODER.decode(line), line)
            except (ValueError, RecursionError) as error:
                goes_on = isinstance(error, json.JSONDecodeError) and error.pos >= len(line.rstrip())
                hint = "; it does not end in its line, which a file named .json may" if goes_on else ""
                yield f"{path}:{number}", {}, _why_not_json(error) + hint


def _json_row(location: str, value: Any, text: str) -> RawRow:
    if not isinstance(value, dict):
        return location, {}, f"a JSON {type(value).__name__}, not an object with fields"
    complaint = _undecodable(json.dumps(value, ensure_ascii=False) if "\\ud" in text.lower() else text)
    return location, value, complaint


def _read_json_values(path: Path, *, is_list: bool) -> Iterator[RawRow]:
    """Items of one list, or values one after another, holding no more of the text than the one at hand and a block."""
    space = re.compile(r"[\s,]*" if is_list else r"\s*")
    with _open(path) as file:
        text, line = file.read(BLOCK_CHARS), 1
        if is_list:
            before, text = text.split("[", 1)
            line += before.count("\n")
        while True:
            start = space.match(text).end()
            line += text.count("\n", 0, start)
            text = text[start:]
            if is_list and text.startswith("]"):
                _check_end(path, file, text[1:], line)
                return
            value, end, complaint, problem = None, len(text), None, None
            try:
                value, end, complaint = _decode_first(text)
            except (ValueError, RecursionError) as error:
                problem = error.msg if isinstance(error, json.JSONDecodeError) else _why_not_json(error)
            if end == len(text):  # what reaches the end of the text may go on
                if more := file.read(max(BLOCK_CHARS, len(text))):  # doubling keeps a very long item linear
                    text += more
                    continue
                if is_list or (text and problem):
                    problem = problem if text and problem else "the list is not closed"
                    raise BadRows(f"{path}:{line}: not JSON: {problem}; what follows in this file cannot be read")
                if not text:
                    return
            location, values, other = _json_row(f"{path}:{line}", value, text[:end])
            yield location, values, complaint or other
            line += text.count("\n", 0, end)
            text = text[end:]


def _check_end(path: Path, file: IO[str], rest: str, line: int) -> None:
    """Raise BadRows for anything but white space after a list's end: its rows would be lost."""
    while rest:
        if text := rest.lstrip():
            line += rest[: len(rest) - len(text)].count("\n")
            raise BadRows(f"{path}:{line}: the list has ended, and {text[:40]!r} follows; put all rows into one list")
        line += rest.count("\n")
        rest = file.read(BLOCK_CHARS)


def _refuse_wrapper(rows: Iterator[RawRow]) -> Iterator[RawRow]:
    """The rows of a JSON file; its only row with a complaint where that is an object around the rows, such as {"data": [{...}, ...]}."""
    first = next(rows, None)
    if first is None:
        return
    location, values, complaint = first
    name = _wrapped_name(values)
    second = next(rows, None) if name else None
    if name and second is None:
        complaint = complaint or f"the file is one object, with rows under {name!r}; write that list alone into a file"
    yield location, values, complaint
    if second is not None:
        yield second
    yield from rows


def _wrapped_name(values: dict[str, Any]) -> str | None:
    """The name of a list of objects that are not messages, in an object that is no row by its other names."""
    if values.keys() & {"text", "messages", "prompt", "chosen"}:
        return None

    def is_row(item: Any) -> bool:
        return isinstance(item, dict) and not item.keys() & {"role", "from"}

    lists = {name: items for name, items in values.items() if isinstance(items, list) and items}
    return next((name for name, items in lists.items() if all(map(is_row, items))), None)


def _read_csv(path: Path) -> Iterator[RawRow]:
    csv.field_size_limit(min(sys.maxsize, 1 << 30))
    with _open(path) as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"{path}:1: the header is not CSV: {error}; is a quotation mark left open?") from None
        _check_columns(path, header or [])
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


def _check_columns(path: Path, names: Sequence[str]) -> None:
    """Raise ValueError for two columns of one name. Those without a name, as spreadsheets leave them, are nobody's."""
    if twice := _first_twice([name for name in names if name]):
        raise ValueError(f"{path} has two columns named {twice!r}, and one would be lost; rename one of them")


def _read_parquet(path: Path) -> Iterator[RawRow]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    with tempfile.NamedTemporaryFile() as unpacked:
        if is_packed(path):  # parquet is read from its end: unpack to disk, not to memory
            with gzip.open(path) as packed:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
            unpacked.flush()
        try:
            file = ParquetFile(unpacked.name if is_packed(path) else path, pre_buffer=False, buffer_size=1 << 20)
            _check_columns(path, file.schema_arrow.names)
            rows = itertools.chain.from_iterable(map(_batch_rows, file.iter_batches(batch_size=BATCH_ROWS)))
            for number, (row, complaint) in enumerate(rows, start=1):
                yield f"{path} row {number}", row, complaint
        except ArrowException as error:
            raise ValueError(f"{path} is not a readable parquet file: {error}") from error


def _batch_rows(batch: Any) -> Iterator[tuple[dict[str, Any], str | None]]:
    """(values, complaint) of an Arrow batch's rows. Arrow does not check that a string is UTF-8 until Python wants it."""
    try:
        yield from ((row, None) for row in batch.to_pylist())
    except UnicodeDecodeError as error:
        if batch.num_rows > 1:
            for i in range(batch.num_rows):
                yield from _batch_rows(batch.slice(i, 1))
            return
        bad = [name for name in batch.schema.names if _is_undecodable(batch.column(name))]
        yield {}, f"field {bad[0]!r} is not UTF-8 text: byte 0x{error.object[error.start]:02x}"


def _is_undecodable(column: Any) -> bool:
    try:
        column.to_pylist()
    except UnicodeDecodeError:
        return True
    return False


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
