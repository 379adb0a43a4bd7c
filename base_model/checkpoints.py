"""Folders on disk that are either whole or not there: atomic writes, seals (checksums), and the newest good checkpoint.

A folder is written beside its final name and renamed into place; a reader never sees half of it. A training checkpoint also carries
`sealed.json`, the sha256 of each of its files, written last: a checkpoint without a seal, or whose files do not match it, was
interrupted or damaged and is passed over. Training code names checkpoints `checkpoint-<step>`.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SEAL = "sealed.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)$")


def sha256_file(path: Path | str) -> str:
    """Hex sha256 of a file's bytes, read in blocks (memory does not grow with the file)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_folder(folder: Path | str) -> dict[str, str]:
    """{path relative to the folder, in sorted order: sha256} of every file below it, the seal itself left out."""
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text_atomically(path: Path | str, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never a part; survives a crash (fsync before rename)."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def read_json_lines(path: Path | str) -> Iterator[Any]:
    """The values of a file of one JSON value a line. (str.splitlines would also cut at U+2028 and others, which JSON holds as they are.)"""
    with open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)


@contextmanager
def write_atomically(folder: Path | str) -> Iterator[Path]:
    """Yield a fresh folder to fill; when the block ends well it takes the name `folder` (replacing what was there), else it is removed.

    Usage: `with write_atomically(run / "checkpoints" / "checkpoint-10") as partial: save_into(partial)`.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_partials(folder.parent, folder.name)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir()
    try:
        yield partial
        for path in partial.rglob("*"):
            if path.is_file():
                _sync(path)
        _sync(partial)
        if folder.exists():  # a rename cannot replace a folder that has files: move the old one aside first
            old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.old.partial")
            os.replace(folder, old)
            os.replace(partial, folder)
            shutil.rmtree(old)
        else:
            os.replace(partial, folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def remove_partials(parent: Path, name: str = "") -> None:
    """Remove what an interrupted `write_atomically` left under `parent` (for one name, or all)."""
    for path in parent.glob(f".{name}*.partial"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def seal(folder: Path | str) -> None:
    """Write `sealed.json`: the folder is whole, and any later change of it will be noticed."""
    folder = Path(folder)
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)
    write_text_atomically(folder / SEAL, json.dumps(sha256_folder(folder), indent=1) + "\n")


def damage(folder: Path | str) -> str | None:
    """What is wrong with a sealed folder, as a phrase naming the file; None if it is whole."""
    folder = Path(folder)
    if not (folder / SEAL).is_file():
        return f"{SEAL} is missing (the save was interrupted)"
    try:
        expected = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    except ValueError:
        return f"{SEAL} is not readable"
    if not isinstance(expected, dict) or not expected:
        return f"{SEAL} holds no checksums"
    found = sha256_folder(folder)
    for name in {**expected, **found}:
        if name not in found:
            return f"{name} is missing"
        if found[name] != expected.get(name):
            return f"{name} does not match its checksum" if name in expected else f"{name} is not in {SEAL}"
    return None


def checkpoints(parent: Path | str) -> list[Path]:
    """The `checkpoint-<step>` folders below `parent`, newest (largest step) first; empty if there are none."""
    found = [path for path in Path(parent).glob("checkpoint-*") if path.is_dir() and _CHECKPOINT.search(path.name)]
    return sorted(found, key=step_of, reverse=True)


def step_of(checkpoint: Path | str) -> int:
    """The step in a checkpoint's name: 40 for `.../checkpoint-40`. Raises ValueError for any other name."""
    match = _CHECKPOINT.search(Path(checkpoint).name)
    if not match:
        raise ValueError(f"{checkpoint} is not named checkpoint-<step>")
    return int(match[1])


def newest_sealed(parent: Path | str) -> Path | None:
    """The newest whole checkpoint below `parent`; damaged ones are passed over with a warning naming the file. None if none is."""
    for folder in checkpoints(parent):
        problem = damage(folder)
        if problem is None:
            return folder
        warnings.warn(f"{folder} is damaged: {problem}; using the checkpoint before it", stacklevel=2)
    return None


def keep_newest(parent: Path | str, count: int, step: int | None = None) -> None:
    """Remove all but the newest `count` checkpoints. Keep at least 2, so that there is one to fall back on if the newest is damaged.

    step: the newest there should be, just written. Later ones go too: the run went back before them, and makes them again."""
    found = checkpoints(parent)
    kept = [folder for folder in found if step is None or step_of(folder) <= step][:count]
    for folder in set(found) - set(kept):
        shutil.rmtree(folder, ignore_errors=True)
