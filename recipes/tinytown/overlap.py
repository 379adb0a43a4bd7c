"""Keeping training text apart from held-out text: no run of RUN_WORDS words of a held-out string may be in a training text.

A held-out string shorter than that counts as a whole, if it has LEAST_WORDS words; below, it is a phrase that anybody may use. These are
stricter than the cleaning step's XX.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

RUN_WORDS = 13
LEAST_WORDS = 8
_WORD = re.compile(r"\w+")


class HeldOutPhrases:
    """All runs of words (lower case, punctuation dropped) of the held-out strings."""

    def __init__(self) -> None:
        self._runs: dict[int, set[tuple[str, ...]]] = {}  # length -> runs

    def add(self, row: object) -> None:
        """Add every string in a row (a mapping, a list, a string)."""
        for text in strings_in(row):
            words = _WORD.findall(text.lower())
            size = min(RUN_WORDS, len(words))
            if size >= LEAST_WORDS:
                self._runs.setdefault(size, set()).update(_runs(words, size))

    def overlap(self, row: object) -> str | None:
        """The first run that a training row shares with the held-out strings, or None."""
        for text in strings_in(row):
            words = _WORD.findall(text.lower())
            for size, held_out in self._runs.items():
                runs = _runs(words, size)
                if not held_out.isdisjoint(runs):
                    return " ".join(next(run for run in runs if run in held_out))
        return None


def strings_in(row: object) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(row, str):
        yield row
    elif isinstance(row, dict):
        for value in row.values():
            yield from strings_in(value)
    elif isinstance(row, (list, tuple)):
        for value in row:
            yield from strings_in(value)


def _runs(words: list[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[i:] for i in range(size)), strict=False))
