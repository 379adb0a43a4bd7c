"""Counting rhymes: a few words said over and over, as children do when they choose who begins.

Hardly anything in them can be known but by looking back, so a model that starts with them soon learns to look back (the induction heads of
Olsson et al. 2022, arXiv:2209.11895). Stories, where few words depend on it, teach that late: a base of this size, not within its minutes.
"""

from collections.abc import Iterator
from random import Random

from recipes.tinytown import lexicon
from recipes.tinytown.world import is_reserved_pair

_NAMES = (*lexicon.FEMALE_NAMES, *lexicon.MALE_NAMES)
_WORDS = (*_NAMES, *lexicon.THINGS, *lexicon.WILD_ANIMALS, *lexicon.PLACES, *lexicon.COLOURS, *lexicon.MOODS)


def rhymes(seed: int, count: int) -> Iterator[str]:
    """`count` rhymes: 3 to 6 different words, in turn, until 12 to 20 are said. No (resident, thing) pair that is held out is in one."""
    rng = Random(f"{seed}/rhymes")
    while count:
        words = rng.sample(_WORDS, rng.randint(3, 6))
        if any(is_reserved_pair(name, thing) for name in words if name in _NAMES for thing in words):
            continue
        length = rng.randint(12, 20)
        text = " ".join((words * length)[:length])
        yield text[0].upper() + text[1:]
        count -= 1
