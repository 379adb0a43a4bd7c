"""What a text claims about the town's residents, read by patterns, and whether the town agrees.

Independent of the generator: it knows the town's table of residents and a handful of English patterns, no templates.
"""

from __future__ import annotations

import re
from functools import cache

from recipes.tinytown import lexicon
from recipes.tinytown.world import Person, the_town


@cache
def _people() -> dict[str, Person]:
    return {person.name: person for person in the_town()}


@cache
def _patterns() -> tuple[tuple[str, re.Pattern], ...]:
    name = "(?P<name>" + "|".join(sorted(_people(), key=len, reverse=True)) + ")"
    job = "(?P<value>" + "|".join(sorted((job for job, _, _ in lexicon.JOBS), key=len, reverse=True)) + ")"
    street = "(?P<value>" + "|".join(lexicon.STREETS) + ")"
    species = "(?P<species>" + "|".join(lexicon.PET_SPECIES) + ")"
    pet = "(?P<value>" + "|".join(lexicon.PET_NAMES) + ")"
    food = "(?P<value>" + "|".join(lexicon.FOODS) + ")"
    return tuple(
        (attribute, re.compile(pattern))
        for attribute, pattern in (
            ("job", rf"\b{name}(?:, | is | was |, who (?:is|was) )(?:the |our |the town's |Tinytown's ){job}\b"),
            ("job", rf"\b{name} the {job}\b"),
            ("job", rf"\b{name} (?:works|worked) as (?:the|a|an) {job}\b"),
            ("job", rf"\bthe {job},? (?:is|was|is called|was called|called|named) {name}\b"),
            ("job", rf"\btown's {job} (?:is|was) (?:a \w+ \w+ called )?{name}\b"),
            ("street", rf"\b{name},?(?: who [^.,]*,)? (?:lives|lived) (?:in|on) {street}\b"),
            ("street", rf"\b[Ii]n {street} (?:lives|lived) (?:a \w+ \w+ called )?{name}\b"),
            (
                "pet",
                rf"\b{name}(?:'s| has a| had a| has an| had an|') {species},? (?:is |was )?(?:called |named )?{pet}\b",
            ),
            ("food", rf"\b{name} (?:likes|liked) {food} best\b"),
            ("food", rf"\b{name}'s favourite (?:food|dish) (?:is|was) {food}\b"),
        )
    )


def claims(text: str) -> list[tuple[str, str, str]]:
    """(name, attribute, value) of each claim about a resident that the text makes."""
    found = []
    for attribute, pattern in _patterns():
        for match in pattern.finditer(text):
            value = f"{match['species']} {match['value']}" if attribute == "pet" else match["value"]
            found.append((match["name"], attribute, value))
    return found


def contradicted_claims(text: str) -> list[tuple[str, str, str]]:
    """The claims that the town does not bear out."""
    return [
        (name, attribute, value)
        for name, attribute, value in claims(text)
        if _people()[name].facts().get(attribute) != value
    ]
