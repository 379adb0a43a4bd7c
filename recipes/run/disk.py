"""A full disk, told in one line: the libraries that write checkpoints each say it in a way of their own."""

import errno
import os
from pathlib import Path

import psutil

FULL = (errno.ENOSPC, errno.EDQUOT)
SAID = (  # by Rust's writers (safetensors, tokenizers), Arrow, and torch.save, which names no cause
    "No space left on device",
    "Disk quota exceeded",
    "PytorchStreamWriter failed writing",
)
working_in: list[Path] = []  # folders of this process's open runs, the newest last


def full_disk(error: BaseException) -> str | None:
    """What to tell a person where the error, or what it came from, is a disk without room; None for any other."""
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    for one in chain:
        is_full = isinstance(one, OSError) and one.errno in FULL
        if is_full or any(words in str(one) for words in SAID):
            name = getattr(one, "filename", None)
            return _told(Path(os.fsdecode(name)) if name else None)
    return None


def _told(file: Path | None) -> str:
    folder = file.absolute().parent if file else (working_in[-1].absolute() if working_in else Path.cwd())
    while not folder.is_dir():
        folder = folder.parent
    mount = next(str(path) for path in (folder, *folder.parents) if os.path.ismount(path))
    device = next((part.device for part in psutil.disk_partitions(all=True) if part.mountpoint == mount), "?")
    free_mb = psutil.disk_usage(str(folder)).free / 1e6
    return (
        f"the disk {device} at {mount} is full ({free_mb:,.0f} MB free): {folder} could not be written; make room there, then "
        "the same command with --resume goes on from the last checkpoint"
    )
