"""A run's folder on disk: whose it is, what an interrupted run left in it, and how a finished run takes its place.

    runs/tiny/ppo/
        manifest.json  model.safetensors  ...   a finished run: what its record lists
        started.json   checkpoints/  log.jsonl  a run that goes on, or was interrupted: its settings, training state and log
        .unfinished/                            what that run has made so far

What a run makes lies in `.unfinished/` until its record is written there too; only then it moves up, and a finished run that stood
there goes. So nothing half-made is ever in the folder, a run that fails replaces nothing, and a person's own files are nobody's.
"""

import fcntl
import glob
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from base_model.checkpoints import checkpoints, remove_partials, write_text_atomically
from base_model.documents import Source, expand

MANIFEST, STARTED, LOG, PROGRESS, LOCK = "manifest.json", "started.json", "log.jsonl", ".progress.json", ".lock"
TRAINING_STATE, UNFINISHED, REPLACED = "checkpoints", ".unfinished", ".replaced.json"
TRAINED = f"{TRAINING_STATE}/trained.json"  # training is over, and the model in `.unfinished/`
BESIDE_FILES = ("README.md", "tensorboard")  # made by a run, not listed in its record's files
OWN = (MANIFEST, STARTED, LOG, PROGRESS, LOCK, TRAINING_STATE, UNFINISHED, REPLACED, *BESIDE_FILES)


class OtherSettings(ValueError):
    """An interrupted run cannot be resumed: it was started with other settings, parents or data."""


class AlreadyFinished(ValueError):
    """The folder holds a finished run, and nobody asked to replace it."""


def read_record(path: Path, *keys: str) -> dict[str, Any] | None:
    """A JSON object with these keys; None where the file is missing or holds anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and all(key in found for key in keys) else None


class FolderLock:
    """A folder that this process alone works in, until `close` or the process's end. Raises ValueError if another one has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = open(folder / LOCK, "w")  # noqa: SIM115 - closing it gives the lock up
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ValueError(
                f"another process is working in {folder}; wait for it, or give another --output_dir"
            ) from None
        self._descriptor = os.open(folder, os.O_RDONLY)  # while it is open no other folder gets its number

    def check(self) -> None:
        """Raise ValueError if the folder has been removed, or another one has its name."""
        try:
            is_same = os.path.samestat(os.stat(self.folder), os.fstat(self._descriptor))
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise ValueError(
                f"{self.folder} was removed or replaced while this run was going on; it stops, and leaves what is there now alone"
            )

    def close(self) -> None:
        """Give the folder up."""
        if not self._file.closed:
            self._file.close()
            os.close(self._descriptor)


def is_interrupted(folder: Path) -> bool:
    """Does a run of it wait to be gone on with? (Beside a finished one it is the run that was to replace that.)"""
    return (folder / STARTED).is_file() or (folder / UNFINISHED / MANIFEST).is_file()


def open_folder(folder: Path, settings: dict[str, Any], *, overwrite: bool, resume: bool) -> FolderLock:
    """Make the folder ready for a run with these settings; returns its lock. started.json then holds the settings.

    Raises AlreadyFinished, OtherSettings, or ValueError for files that no run made, for another running process, and for an interrupted
    run that was to be started anew without `overwrite`. Nothing has been removed then."""
    manifest = read_record(folder / MANIFEST, "stage", "files")
    started = read_record(folder / STARTED, "stage", "seed", "config")
    is_ours = (
        manifest
        or started
        or (folder / UNFINISHED / MANIFEST).is_file()
        or ((folder / STARTED).is_file() and (folder / LOCK).is_file())
    )
    if not is_ours and any(_is_foreign(path) for path in _entries(folder)):
        raise ValueError(f"{folder} holds files that no run made; give another --output_dir")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder)
    try:
        _make_ready(folder, settings, overwrite, resume)
    except BaseException:
        lock.close()
        raise
    return lock


def _make_ready(folder: Path, settings: dict[str, Any], overwrite: bool, resume: bool) -> None:
    if (folder / UNFINISHED / MANIFEST).is_file():  # killed as it took its place
        take_place(folder)
    is_started = (folder / STARTED).is_file()
    if (folder / MANIFEST).is_file() and not overwrite and not (resume and is_started):
        more = ", or --resume to go on with the run that was to replace it" if is_started else ""
        raise AlreadyFinished(
            f"{folder} holds a finished run; pass --overwrite to replace it{more}, or another --output_dir"
        )
    if is_started and resume:
        check_same_settings(folder / STARTED, settings)
    elif is_started and not overwrite and (left := _worth_keeping(folder)):
        raise ValueError(
            f"{folder} holds an interrupted run ({left}): --resume goes on with it, --overwrite removes it and starts anew"
        )
    else:
        _remove_unfinished(folder)
        write_text_atomically(folder / STARTED, json.dumps(settings, indent=1) + "\n")
    remove_partials(folder)
    (folder / UNFINISHED).mkdir(exist_ok=True)


def forget(folder: Path) -> None:
    """As if a run that has made nothing had not been started: its next start may have other settings, with --resume too."""
    _remove_unfinished(folder)
    (folder / STARTED).unlink(missing_ok=True)


def check_same_settings(record: Path, settings: dict[str, Any]) -> None:
    """Raise OtherSettings naming what differs between the settings in a file (started.json, a checkpoint's run.json) and these."""
    before = read_record(record, "stage", "config")
    if before is None:
        raise OtherSettings(f"{record} does not say with what settings the run was started; --overwrite starts anew")
    differing = differences(before, settings)
    if differing:
        raise OtherSettings(
            f"{record.parent} was started with other settings ({'; '.join(differing)}): resume with those, or start anew "
            "(--overwrite)"
        )


def differences(before: dict, after: dict) -> list[str]:
    """Readable "key: old -> new" of two settings, one level into `config`, whose keys may be named as the others are."""
    found = []
    for old, new in ((before, after), (before.get("config") or {}, after.get("config") or {})):
        for key in {**old, **new}:
            if key != "config" and old.get(key) != new.get(key):
                found.append(f"{key}: {_short(old.get(key))} -> {_short(new.get(key))}")
    return list(dict.fromkeys(found))


def _short(value: Any) -> Any:
    """A list of hashes as the first letters of each."""
    if isinstance(value, list):
        return ", ".join(str(item)[:12] for item in value) or "none"
    return value


def inputs_inside(folder: Path, inputs: Iterable[Path | str]) -> list[str]:
    """Those of the inputs (a checkpoint's folder, data as a `Source` has it) of which a file lies in the folder, or that are it."""
    home = folder.resolve()

    def is_inside(path: str) -> bool:
        return home in (Path(path).resolve(), *Path(path).resolve().parents)

    found = []
    for item in map(str, inputs):
        path = expand(Source(item).path)
        if folder.is_dir() and any(map(is_inside, [path, *(glob.glob(path, recursive=True) if "*" in path else [])])):
            found.append(item)
    return found


def take_place(folder: Path) -> None:
    """Move the finished run in `.unfinished/` up, its record last. What it replaces goes: the files that the old record lists.

    Killed at any moment it goes on where it stopped when called again, and until it is done there is no record."""
    made, replaced = folder / UNFINISHED, folder / REPLACED
    if (folder / MANIFEST).is_file():
        os.replace(folder / MANIFEST, replaced)
    if replaced.is_file():
        old = read_record(replaced, "files") or {"files": []}
        inside = (name for name in old["files"] if not Path(name).is_absolute() and ".." not in Path(name).parts)
        for path in (folder / name for name in (*inside, *BESIDE_FILES, LOG)):
            _remove(path)
            _remove_empty(path.parent, folder)
        replaced.unlink()  # before new files of the same names are there
    for path in sorted(made.iterdir()):
        if path.name != MANIFEST:
            _remove(folder / path.name)
            os.replace(path, folder / path.name)
    for name in (PROGRESS, STARTED):
        (folder / name).unlink(missing_ok=True)
    (folder / TRAINED).unlink(missing_ok=True)
    _remove_empty(folder / TRAINING_STATE, folder)
    os.replace(made / MANIFEST, folder / MANIFEST)
    made.rmdir()


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_foreign(path: Path) -> bool:
    is_empty_folder = path.is_dir() and not any(path.iterdir())
    return path.name not in (LOCK, PROGRESS) and not path.match(".*.partial") and not is_empty_folder


def _worth_keeping(folder: Path) -> str | None:
    """What of an interrupted run would be lost, in words."""
    newest = next(iter(checkpoints(folder / TRAINING_STATE)), None)
    if newest:
        return f"newest checkpoint: {newest.name}"
    for name in (LOG, f"{TRAINING_STATE}/*.jsonl", f"{UNFINISHED}/*"):
        if any(path.is_dir() or path.stat().st_size for path in folder.glob(name)):
            return f"it has a {'log' if name == LOG else 'part of its result'}"
    return None


def _remove_unfinished(folder: Path) -> None:
    """Remove what an interrupted run left, and a finished run's training state; a finished run itself stays."""
    own = (PROGRESS, UNFINISHED, TRAINING_STATE)
    for name in own if (folder / MANIFEST).is_file() else (*own, LOG):
        _remove(folder / name)


def _remove(path: Path) -> None:
    """Remove a file or folder. Of a folder that is a link elsewhere, a larger disk say, the content goes and the link stays."""
    if path.is_symlink() and path.is_dir():
        for inner in path.iterdir():
            _remove(inner)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_empty(inner: Path, folder: Path) -> None:
    """Remove `inner`, and what is above it, as far as they are empty and below the folder."""
    while inner != folder and inner.is_dir() and not inner.is_symlink() and not any(inner.iterdir()):
        inner.rmdir()
        inner = inner.parent
