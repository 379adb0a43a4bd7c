"""How much of the town texts tell of. The town and its facts are one; a narrow breadth draws from fewer people, things, places, words,
shapes and clinic cases, so that a small model meets each often enough to know it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from recipes.tinytown import lexicon
from recipes.tinytown.world import Person, Town, the_town


@dataclass(frozen=True)
class Breadth:
    share: float  # of a list of options, in (0, 1]
    least: int  # options that a list keeps, if it has as many
    stories: str  # the kind of shape that stories are: "story", or "tale", which is half as long
    longest_prompt: int  # characters of a task's prompt at most

    def count(self, options: int) -> int:
        return min(options, max(self.least, math.ceil(self.share * options)))

    def some(self, options: Sequence) -> tuple:
        """The first options of a list: as many as this breadth has."""
        return tuple(options[: self.count(len(options))])

    def spread(self, options: Sequence) -> tuple:
        """As many, from all over the list: where neighbours are alike."""
        count = self.count(len(options))
        return tuple(options[i * len(options) // count] for i in range(count))

    def town(self) -> Town:
        """The town with the residents whom texts are about, some of each gender and age; all that only held-out texts know."""
        return _town(self)

    def things(self) -> tuple[str, ...]:
        """The nouns of things, some of each category."""
        return _things(self)

    def places(self) -> tuple[str, ...]:
        return self.some(tuple(lexicon.PLACES))


# A prompt of 440 characters is at most 184 tokens of a vocabulary of 2,048, which leaves 72 of a context of 256 for the answer.
BREADTHS = {"full": Breadth(1.0, 1, "story", 440), "small": Breadth(0.3, 6, "tale", 340)}
FULL = BREADTHS["full"]


@cache
def _town(breadth: Breadth) -> Town:
    people = the_town().people
    groups: dict[tuple[bool, str], list[Person]] = {}
    for person in people:
        groups.setdefault((person.is_child, person.gender), []).append(person)
    chosen = _some_of_each(breadth, groups.values())
    return Town(tuple(person for person in people if person in chosen), the_town().held_out_people)


@cache
def _things(breadth: Breadth) -> tuple[str, ...]:
    categories: dict[str, list[str]] = {}
    for noun, category in lexicon.THINGS.items():
        categories.setdefault(category, []).append(noun)
    chosen = _some_of_each(breadth, categories.values())
    return tuple(noun for noun in lexicon.THINGS if noun in chosen)


def _some_of_each(breadth: Breadth, groups: Iterable[Sequence]) -> set:
    """Some of each group; half as many at the least, for a choice is among several groups."""
    half = Breadth(breadth.share, math.ceil(breadth.least / 2), breadth.stories, 0)
    return {option for group in groups for option in half.some(group)}
