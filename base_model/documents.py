"""Rows of text from where a person keeps them: files, folders, globs or the hub, always as a stream.

What each kind of file is read as stands in formats.py. A folder is all such files below it in sorted order; where they divide into
splits (train.jsonl, data/train-00000-of-00002.parquet, train/a.jsonl, or my-train.csv beside my-test.csv), only those of the split.
What a folder holds beside is named once, as a warning. What is no local path is a hub id ("owner/name" or "owner/name:config"), read
through `datasets` in streaming mode. Either may end with its split: "folder@test", "owner/name:config@test".
"""

from __future__ import annotations

import glob
import itertools
import logging
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from base_model.chat import raw_prompt
from base_model.formats import SUFFIXES, BadRows, RawRow, kind_of, read_file

COUNTED_ROWS = 100_000  # how far to look for more bad rows after the first
SPLITS = ("train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval", "heldout")


@dataclass(frozen=True)
class Source:
    """Where rows come from. `${NAME}` in path is taken from the environment."""

    path: str  # file, folder, glob or hub id; a folder's or hub id's split may stand behind it: "...@test"
    split: str = "train"  # of a hub data set, or of a folder whose files carry split names; one in the path wins
    columns: dict[str, str] | None = None  # our name -> theirs
    separator: str | None = None  # .txt only
    on_bad_rows: str = "error"  # "error" or "skip" (counted)
    raw_prompts: bool = False  # a `prompt` that is a string is text to go on from, not what a user says; see chat.py

    def __post_init__(self) -> None:
        if self.on_bad_rows not in ("error", "skip"):
            raise ValueError(f"on_bad_rows is {self.on_bad_rows!r}; use 'error' or 'skip'")
        if self.separator == "":
            raise ValueError("separator is empty; leave it out for one document a file, or name a string")
        path, _, split = self.path.rpartition("@")
        if (
            path
            and re.fullmatch(r"\w+", split)
            and not os.path.exists(os.path.expanduser(os.path.expandvars(self.path)))
        ):
            object.__setattr__(self, "path", path)
            object.__setattr__(self, "split", split)


def read_like(source: Source, path: str) -> Source:
    """Another path beside a source, its rows under the same names and with the same care. A split may stand behind the path."""
    kept = {name: getattr(source, name) for name in ("columns", "separator", "on_bad_rows", "raw_prompts")}
    return Source(path, **kept)


@dataclass(frozen=True)
class Row:
    """One row and where it stands ("folder/file.jsonl:12")."""

    location: str
    fields: dict[str, Any]


@dataclass
class Counts:
    """What reading met; `examples` holds the first few complaints."""

    read: int = 0
    skipped: int = 0
    examples: list[str] = field(default_factory=list)


def read_texts(source: Source, counts: Counts | None = None) -> Iterator[str]:
    """The `text` of each row."""
    return (row.fields["text"] for row in read_rows(source, counts=counts))


def read_rows(
    source: Source,
    required: Sequence[str] = ("text",),
    *,
    check: Callable[[dict[str, Any]], None] | None = None,
    counts: Counts | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Row]:
    """Rows of a source, in a fixed order, one at a time.

    required: fields (our names) that each row must have and that may not be null; `text` must be a string.
    check: raises ValueError for fields that cannot be used; the message becomes part of the row's complaint.
    rank, world_size: this reader's share: whole files when there are at least world_size of them, else every world_size-th row
    (then each rank looks for bad rows everywhere, and counts its own).

    Raises FileNotFoundError when there is nothing at the path; BadRows at the first bad row, or with on_bad_rows="skip" when
    not a single row is good."""
    counts = Counts() if counts is None else counts
    rows, stride = _raw_rows(source, rank, world_size)
    find_complaint = partial(_find_complaint, required=required, columns=source.columns, check=check)
    first_complaint, is_any_good = None, False
    for number, (location, values, complaint) in enumerate(rows):
        fields = _fields(values, source)
        complaint = complaint or find_complaint(fields)
        is_mine = stride == 1 or number % stride == rank
        if complaint is None:
            is_any_good = True
            if is_mine:
                counts.read += 1
                yield Row(location, fields)
            continue
        complaint = f"{location}: {complaint}"
        if source.on_bad_rows == "error":
            more = _count_more(rows, lambda values: find_complaint(_fields(values, source)))
            raise BadRows(f"{complaint}; {more} (on_bad_rows: skip leaves them out)")
        if is_mine:
            first_complaint = first_complaint or complaint
            counts.skipped += 1
            if len(counts.examples) < 5:
                counts.examples.append(complaint)
    if first_complaint is not None and not is_any_good:
        raise BadRows(f"none of the {counts.skipped} rows can be used; the first: {first_complaint}")


def list_files(source: Source) -> list[Path]:
    """The local files of a source in reading order; empty when it is a hub id.

    Raises FileNotFoundError when a local path has none, ValueError for an unset variable or a file of a kind that is not read."""
    text = expand(source.path)
    path = Path(text)
    if path.is_dir():
        there = [p for p in sorted(path.rglob("*")) if not p.name.startswith(".") and p.is_file()]
        found = [p for p in there if kind_of(p)]
        if not found:
            raise FileNotFoundError(f"the folder {path} has no {', '.join(SUFFIXES)} file (or one of them with .gz)")
        of_split = _of_split(path, found, source.split)
        if not of_split and source.split != "train":
            raise FileNotFoundError(f"no file below {path} carries the split name {source.split!r}: {_names(found)}")
        taken = of_split or found
        _warn_once(path, f"of another split than {source.split!r}", tuple(p for p in found if p not in set(taken)))
        _warn_once(path, "of a kind that is not read", tuple(p for p in there if not kind_of(p)))
        return taken
    if path.is_file():
        if not kind_of(path):
            raise ValueError(
                f"cannot tell how to read {path}; its name should end in {', '.join(SUFFIXES)} (or one of them and .gz)"
            )
        return [path]
    if glob.has_magic(text):
        there = [Path(p) for p in sorted(glob.glob(text, recursive=True)) if os.path.isfile(p)]
        found = [p for p in there if kind_of(p)]
        if not found:
            raise FileNotFoundError(f"nothing matches {text}")
        _warn_once(path, "of a kind that is not read", tuple(p for p in there if not kind_of(p)))
        return found
    if kind_of(path) or not re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", text):
        raise FileNotFoundError(f"no file or folder at {text}")
    return []


def expand(path: str) -> str:
    """`path` with ${NAME} and ~ filled in; raises ValueError naming a variable that is not set."""
    expanded = os.path.expanduser(os.path.expandvars(path))
    if unset := re.search(r"\$\{(\w+)\}", expanded):
        raise ValueError(f"{path} uses ${{{unset[1]}}}, which is not set; export {unset[1]}=...")
    return expanded


# ---- checks


def _fields(values: dict[str, Any], source: Source) -> dict[str, Any]:
    """A row under our names, its prompt in the form in which it travels."""
    fields = _rename(values, source.columns)
    is_raw = source.raw_prompts and isinstance(fields.get("prompt"), str)
    return {**fields, "prompt": raw_prompt(fields["prompt"])} if is_raw else fields


def _rename(values: dict[str, Any], columns: dict[str, str] | None) -> dict[str, Any]:
    if not columns:
        return values
    theirs = set(columns.values())
    renamed = {ours: values[name] for ours, name in columns.items() if name in values}
    return {name: value for name, value in values.items() if name not in theirs} | renamed


def _find_complaint(
    fields: dict[str, Any],
    required: Sequence[str],
    columns: dict[str, str] | None,
    check: Callable[[dict[str, Any]], None] | None,
) -> str | None:
    for name in required:
        if fields.get(name) is None:
            state = "null" if name in fields else "missing"
            theirs = f" (their column {columns[name]!r})" if columns and name in columns else ""
            there = textwrap.shorten(", ".join(map(str, fields)) or "nothing", 200, placeholder=" ...")
            return f"field {name!r}{theirs} is {state}; the row has {there}; map another name to it with columns"
    if "text" in required and not isinstance(fields["text"], str):
        return f"field 'text' is {type(fields['text']).__name__}, not a string"
    if check is not None:
        try:
            check(fields)
        except ValueError as error:
            return str(error)
    return None


def _count_more(rows: Iterator[RawRow], find_complaint: Callable[[dict[str, Any]], str | None]) -> str:
    looked = more = 0
    try:
        for _, values, complaint in itertools.islice(rows, COUNTED_ROWS):
            looked += 1
            more += (complaint or find_complaint(values)) is not None
    except ValueError:  # what follows cannot be read at all
        more += 1
    within = f" in the next {COUNTED_ROWS:,}" if looked == COUNTED_ROWS else ""
    return f"{more} more bad row{'' if more == 1 else 's'}{within}"


# ---- reading


def _of_split(folder: Path, files: Sequence[Path], split: str) -> list[Path]:
    """The files of a folder that carry the split's name as splits do: a word of a title ("how to train a puppy.txt") is none."""
    alone = re.compile(rf"{re.escape(split)}([-_]?\d+)?(-of-\d+(-[0-9a-f]+)?)?", re.IGNORECASE)
    word = re.compile(rf"(?<![^-_.]){re.escape(split)}(?![^-_.])", re.IGNORECASE)
    names = {p: p.relative_to(folder).as_posix() for p in files}
    patterns = {re.sub(r"\d+", "0", name) for name in names.values()}  # of shards, whose numbers differ

    def is_beside_another(path: Path) -> bool:
        """Does a file have this one's name with another split's in its place?"""
        start = names[path].removesuffix(path.name)
        others = [word.sub(other, path.name) for other in SPLITS if other != split.lower()]
        return any(name != path.name and re.sub(r"\d+", "0", start + name) in patterns for name in others)

    def is_named(path: Path) -> bool:
        folders = [part.lower() for part in path.relative_to(folder).parts[:-1]]
        is_asked_for = split != "train" and word.search(path.name)
        is_split = split.lower() in folders or alone.fullmatch(path.name.split(".")[0])
        return is_asked_for or is_split or is_beside_another(path)

    return [path for path in files if is_named(path)]


@cache
def _warn_once(folder: Path, what: str, left_out: tuple[Path, ...]) -> None:
    if left_out:
        said = f"{len(left_out)} file{'s' if len(left_out) > 1 else ''} {what} left out: {_names(left_out)}"
        logging.getLogger(__name__).warning("%s: %s", folder, said)


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(p.name for p in paths[:5]) + (", ..." if len(paths) > 5 else "")


def _raw_rows(source: Source, rank: int, world_size: int) -> tuple[Iterator[RawRow], int]:
    """Rows that this rank goes through, and which of them are its own: every stride-th."""
    files = list_files(source)
    if len(files) >= world_size:
        return itertools.chain.from_iterable(read_file(path, source.separator) for path in files[rank::world_size]), 1
    if files:
        return itertools.chain.from_iterable(read_file(path, source.separator) for path in files), world_size
    return _read_hub(expand(source.path), source.split), world_size


def _read_hub(name: str, split: str) -> Iterator[RawRow]:
    import datasets

    path, _, config = name.partition(":")
    try:
        rows = datasets.load_dataset(path, config or None, split=split, streaming=True)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{name} is no local file or folder, and as a hub data set it cannot be opened: {error}"
        ) from error
    for number, row in enumerate(rows, start=1):
        yield f"{name} {split} row {number}", row, None
