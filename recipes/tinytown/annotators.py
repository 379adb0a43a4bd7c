"""Simulated annotators: Bradley-Terry choices on the gold total, with noise and a length bias of known size.

    P(a preferred to b) = sigmoid( (gold(a) - gold(b)) / noise + length_bias * (words(a) - words(b)) / 10 )

A choice depends only on (seed, annotator, record, a, b): the same question gets the same answer, in any order of asking.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass

from recipes.tinytown.rubric import score

WORDS_PER_UNIT = 10  # length_bias is per this many words


@dataclass(frozen=True)
class Annotators:
    """Annotators with the same taste. `noise`: gold difference that makes 73 % agree; `length_bias`: log-odds per ten words more."""

    noise: float = 0.15  # gold units per logit, > 0
    length_bias: float = 0.3  # logits per 10 words
    seed: int = 0

    def __post_init__(self):
        if not self.noise > 0:
            raise ValueError(
                f"noise is {self.noise}; it must be above 0 (a small one, such as 0.001, makes annotators nearly exact)"
            )

    def probability(self, record: dict | str, a: str, b: str) -> float:
        """Probability that `a` is preferred."""
        record = json.loads(record) if isinstance(record, str) else record
        gold = (score(record, a).total - score(record, b).total) / self.noise
        length = self.length_bias * (len(a.split()) - len(b.split())) / WORDS_PER_UNIT
        return _sigmoid(gold + length)

    def prefer(self, record: dict | str, a: str, b: str, *, annotator: int = 0) -> tuple[int, float]:
        """(0 if `a` is preferred else 1, probability of that `a` is preferred)."""
        probability = self.probability(record, a, b)
        key = json.dumps([self.seed, annotator, record, *sorted((a, b))], sort_keys=True).encode()
        draw = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big") / 2**56
        # drawn for the pair in sorted order, so that asking about (b, a) gives the same winner
        is_first = draw < (probability if a <= b else 1 - probability)
        return (0 if is_first == (a <= b) else 1), probability


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
