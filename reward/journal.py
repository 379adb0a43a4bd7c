"""A file that only grows, one JSON value a line, each batch of lines on disk before the next is begun: work that a stop cannot undo."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Journal:
    """The entries of `path`, read back on opening. A line that a crash cut short, and what follows the last whole batch, is dropped.

    total: entries of a complete journal, appended `batch` at a time (the last batch may be smaller); so a resumed run begins at
    the same batch that a run that was never stopped would have begun. Raises ValueError for a damaged line, with its number."""

    def __init__(self, path: Path | str, *, total: int, batch: int = 1) -> None:
        self.path = Path(path)
        self.entries: list[Any] = []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = self.path.read_bytes() if self.path.exists() else b""
        lines = content.splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                self.entries.append(json.loads(line))
            except ValueError:
                raise ValueError(f"{self.path}:{number} is damaged; remove the file to begin anew") from None
        if len(self.entries) != total:
            del self.entries[len(self.entries) - len(self.entries) % batch :]
        kept = sum(len(line) for line in lines[: len(self.entries)])
        if kept < len(content):
            with open(self.path, "r+b") as file:
                file.truncate(kept)

    def append(self, entries: Sequence[Any]) -> None:
        """Write the entries as lines; they are on disk when this returns."""
        with open(self.path, "ab") as file:
            file.write("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries).encode())
            file.flush()
            os.fsync(file.fileno())
        self.entries.extend(entries)
