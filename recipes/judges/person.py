"""A person as the judge: two answers in the terminal, one key each. Stop whenever you like; --resume goes on."""

import re
import sys
from collections.abc import Sequence
from typing import TextIO

from reward.on_policy import Comparer, Question, Verdict

KEYS = {"1": 0, "2": 1, "=": None}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Text without control and direction characters: an answer may not move the cursor or rewrite what stands above it."""
    return _CONTROL.sub("\ufffd", text)


def by_person(total: int, answered: int = 0, *, source: TextIO | None = None, screen: TextIO | None = None) -> Comparer:
    """Asks one question at a time on `screen` and reads 1, 2 or = (as good), or q, from `source` (None: the terminal).

    On q, or at the end of the input, raises SystemExit with a line that says how to go on."""
    source, screen = source or sys.stdin, screen or sys.stdout
    done = answered

    def compare(questions: Sequence[Question]) -> list[Verdict]:
        nonlocal done
        verdicts = []
        for question in questions:
            verdicts.append(Verdict(_ask(question, done + 1, total, source, screen)))
            done += 1
        return verdicts

    return compare


def _ask(question: Question, number: int, total: int, source: TextIO, screen: TextIO) -> int | None:
    prompt = question.prompt
    if not isinstance(prompt, str):
        prompt = "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
    print(f"\n--- {number} of {total} ---\n{printable(prompt)}", file=screen)
    print(f"\n[1] {printable(question.a)}\n\n[2] {printable(question.b)}\n", file=screen)
    while True:
        print("better: 1, 2, = (as good), q (stop) > ", end="", file=screen, flush=True)
        line = source.readline()
        key = line.strip()
        if key in KEYS:
            return KEYS[key]
        if key == "q" or not line:
            raise SystemExit(f"stopped after {number - 1} of {total} questions; the same command with --resume goes on")
