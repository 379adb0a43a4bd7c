"""Counting rhymes and memory games: a few words said over and over, and a few facts told and then asked for, as children play.

Hardly anything in them can be known but by looking back, so a model that starts with them soon learns to look back: rhymes teach to go on
as before (the induction heads of Olsson et al. 2022, arXiv:2209.11895), games to find what belongs to what (associative recall, Arora et
al. 2023, arXiv:2312.04927). Stories, where few words depend on it, teach that late: a base of this size, not within its minutes.
"""

from collections.abc import Iterator
from itertools import chain
from random import Random

from recipes.tinytown import english, lexicon
from recipes.tinytown.breadth import FULL, Breadth
from recipes.tinytown.world import is_reserved_pair


def rhymes(seed: int, count: int, breadth: Breadth = FULL) -> Iterator[str]:
    """`count` rhymes: 3 to 6 different words, in turn, until 12 to 20 are said. No (resident, thing) pair that is held out is in one."""
    rng = Random(f"{seed}/rhymes")
    names = _names(breadth)
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


def memory_games(seed: int, count: int, breadth: Breadth = FULL) -> Iterator[str]:
    """`count` games: 2 to 4 people who each have a thing, or are somewhere; then all are asked for, in another order, from either side.

    No (resident, thing) pair that is held out is in one."""
    rng = Random(f"{seed}/memory games")
    names, things = _names(breadth), breadth.things()
    colours = breadth.some(lexicon.COLOURS)
    places = [f"{lexicon.PLACES[noun]} the {noun}" for noun in breadth.places()]
    while count:
        size = rng.randint(2, 4)
        people = rng.sample(names, size)
        if rng.random() < 0.5:
            rounds = [
                (f"{name} is {where}.", f"Where is {name}?", f"Who is {where}?")
                for name, where in zip(people, rng.sample(places, size), strict=True)
            ]
        else:
            owned = rng.sample(things, size)
            if any(map(is_reserved_pair, people, owned)):
                continue
            rounds = [
                (
                    f"{name} has {english.with_article(f'{rng.choice(colours)} {noun}')}.",
                    f"What does {name} have?",
                    f"Who has the {noun}?",
                )
                for name, noun in zip(people, owned, strict=True)
            ]
        told = [fact for fact, *_ in rounds]
        rng.shuffle(rounds)
        yield " ".join([*told, *(part for fact, *questions in rounds for part in (rng.choice(questions), fact))])
        count -= 1


def _names(breadth: Breadth) -> list[str]:
    """Of those whom texts are about, and of those whom only held-out texts know: their names are words, and say nothing about them."""
    town = breadth.town()
    told_of = {person.name for person in (*town.people, *town.held_out_people)}
    return [name for name in lexicon.FEMALE_NAMES + lexicon.MALE_NAMES if name in told_of]
