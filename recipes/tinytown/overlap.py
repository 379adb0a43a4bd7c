"""Keeping training text apart from held-out text: a training text may share no run of N_WORDS words with any held-out file."""

from __future__ import annotations

import re

N_WORDS = 10
_WORD = re.compile(r"\w+")


class HeldOutPhrases:
    """All runs of N_WORDS words (lower case, punctuation dropped) of the held-out texts."""

    def __init__(self):
        self._phrases: set[int] = set()

    def add(self, *texts: str) -> None:
        for text in texts:
            self._phrases.update(_phrases(text))

    def overlaps(self, text: str) -> bool:
        """Whether `text` shares a run of N_WORDS words with what was added."""
        return not self._phrases.isdisjoint(_phrases(text))


def _phrases(text: str) -> list[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return list(zip(*(words[i:] for i in range(N_WORDS)), strict=False))
