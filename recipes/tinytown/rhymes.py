"""Counting rhymes: a few words said over and over, as children do when they choose who begins.

Hardly anything in them can be known but by looking back, so a model that starts with them soon learns to look back (the induction heads of
Olsson et al. 2022, arXiv:2209.11895). Stories, where few words depend on it, teach that late: a base of this size, not within its minutes.
"""

from collections.abc import Iterator
from itertools import chain
from random import Random

from recipes.tinytown import lexicon
from recipes.tinytown.breadth import FULL, Breadth
from recipes.tinytown.world import is_reserved_pair


def rhymes(seed: int, count: int, breadth: Breadth = FULL) -> Iterator[str]:
    """`count` rhymes: 3 to 6 different words, in turn, until 12 to 20 are said. No (resident, thing) pair that is held out is in one."""
    rng = Random(f"{seed}/rhymes")
    told_of = {person.name for person in breadth.town().people}
    names = [name for name in lexicon.FEMALE_NAMES + lexicon.MALE_NAMES if name in told_of]
    lists = (lexicon.WILD_ANIMALS, tuple(lexicon.PLACES), lexicon.COLOURS)
    all_words = [*names, *breadth.things(), *chain.from_iterable(map(breadth.some, lists)), *lexicon.MOODS]
    while count:
        words = rng.sample(all_words, rng.randint(3, 6))
        if any(is_reserved_pair(name, thing) for name in words if name in names for thing in words):
            continue
        length = rng.randint(12, 20)
        text = " ".join((words * length)[:length])
        yield text[0].upper() + text[1:]
        count -= 1
