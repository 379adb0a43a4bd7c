"""Simulated annotators: Bradley-Terry choices on the gold total, with noise and a length bias of known size.

    P(a preferred to b) = sigmoid( (gold(a) - gold(b)) / noise + length_bias * (words(a) - words(b)) / 10 )

Where gold differs by less than `ties_below` they say that neither is better (0: they always choose).

A choice depends only on (seed, annotator, record, a, b): the same question gets the same answer, in any order of asking.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import lru_cache

from recipes.tinytown.rubric import score

WORDS_PER_UNIT = 10  # length_bias is per this many words


@dataclass(frozen=True)
class Annotators:
    """Annotators of one taste. The defaults agree with the better of two answers in about four cases of five."""

    noise: float = 0.15  # gold units per logit, > 0: at this difference in gold 73 % choose the better answer
    length_bias: float = 0.3  # logits per ten words more
    ties_below: float = 0.0  # gold difference under which they call it a tie
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.noise > 0:
            raise ValueError(f"noise is {self.noise}; it must be above 0 (0.001 makes annotators nearly exact)")

    def probability(self, record: dict | str, a: str, b: str) -> float:
        """Probability that `a` is preferred to `b`."""
        key = record if isinstance(record, str) else json.dumps(record, sort_keys=True)
        gold = (_gold(key, a) - _gold(key, b)) / self.noise
        return _sigmoid(gold + self.length_bias * (len(a.split()) - len(b.split())) / WORDS_PER_UNIT)

    def is_tie(self, record: dict | str, a: str, b: str) -> bool:
        """Whether they see no difference between `a` and `b`."""
        key = record if isinstance(record, str) else json.dumps(record, sort_keys=True)
        return abs(_gold(key, a) - _gold(key, b)) < self.ties_below

    def prefer(self, record: dict | str, a: str, b: str, *, annotator: int = 0) -> tuple[int, float]:
        """(0 if `a` is preferred, else 1; the probability that `a` is). Another `annotator` throws other dice."""
        key = record if isinstance(record, str) else json.dumps(record, sort_keys=True)
        first, second = sorted((a, b))  # asked the other way round, the same answer wins
        throw = _uniform(f"{self.seed}\0{annotator}\0{key}\0{first}\0{second}")
        probability = self.probability(key, first, second)
        winner = first if throw < probability else second
        return (0 if winner == a else 1), (probability if a == first else 1 - probability)


@lru_cache(maxsize=65536)
def _gold(record: str, response: str) -> float:
    return score(json.loads(record), response).total


def _uniform(key: str) -> float:
    """A number in [0, 1) that depends on `key` alone."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=6).digest(), "big") / 2**48


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
