"""What a text claims about the town's residents, read by patterns, and whether the town agrees.

Independent of the generator: it knows the town's table of residents and a handful of English patterns, no templates.
"""
# ruff: noqa: E501 - a pattern stays on its line

from __future__ import annotations

import re
from functools import cache

from recipes.tinytown import english, lexicon
from recipes.tinytown.world import Person, the_town


@cache
def _people() -> dict[str, Person]:
    return {person.name: person for person in the_town()}


def _alternatives(words) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


@cache
def _patterns() -> tuple[tuple[str, re.Pattern], ...]:
    name = f"(?P<name>{_alternatives(_people())})"
    job = f"(?P<value>{_alternatives(job for job, _, _ in lexicon.JOBS)})"
    street = f"(?P<value>{_alternatives(lexicon.STREETS)})"
    species = f"(?P<species>{_alternatives(lexicon.PET_SPECIES)})"
    pet = f"(?P<value>{_alternatives(lexicon.PET_NAMES)})"
    food = f"(?P<value>{_alternatives(lexicon.FOODS)})"
    hobby = f"(?P<value>{_alternatives(lexicon.HOBBIES)})"
    hobbies = f"(?P<doing>{_alternatives(map(english.third, lexicon.HOBBIES))})"
    trait = f"(?P<value>{_alternatives(lexicon.TRAITS)})"
    kind = "(?:man|woman|boy|girl)"
    return tuple(
        (attribute, re.compile(rf"\b{pattern}\b"))
        for attribute, pattern in (
            ("job", rf"{name}(?:,| is| was|, who (?:is|was)) (?:the |our |the town's |Tinytown's ){job}"),
            ("job", rf"{name} the {job}"),
            ("job", rf"{name} (?:works|worked) as (?:the|a|an) {job}"),
            ("job", rf"[Tt]he {job},? (?:is|was|is called|was called|called|named) {name}"),
            ("job", rf"town's {job} (?:is|was) (?:a \w+ {kind} called )?{name}"),
            ("job", rf"needed the {job} asked for {name}"),
            ("job", rf"By trade {name} is the {job}"),
            ("street", rf"{name},?(?: who [^.,]*,)? (?:lives|lived|has a house) (?:in|on) {street}"),
            ("street", rf"[Ii]n {street} (?:lives|lived) (?:a \w+ {kind} called )?{name}"),
            ("street", rf"house of {name} (?:stood|stands|is) (?:in|on) {street}"),
            ("street", rf"(?:in|on|On|In) {street},? lived {name}"),
            ("street", rf"walk down {street}, you will meet {name}"),
            ("street", rf"Everyone in {street} knows {name}"),
            ("pet", rf"{name}(?:'s| has a| had a| has an| had an|') {species},? (?:is |was )?(?:called |named )?{pet}"),
            ("pet", rf"{species} called {pet} is waiting for {name}"),
            ("pet", rf"{name} has a {species} by the name of {pet}"),
            ("pet", rf"{name} (?:lived|lives) (?:in|on|there)[\w ]* with (?:a |{name.replace('?P<name>', '?:')}'s ){species}(?:,| called) {pet}"),
            ("food", rf"{name} (?:likes|liked) {food} best"),
            ("food", rf"[Tt]he dish that {name} likes best is {food}"),
            ("food", rf"{name} (?:always wished for|wants) {food}"),
            ("food", rf"For {food}, {name} would"),
            ("food", rf"{name}(?:'s|, whose) favourite (?:food|dish) (?:is|was) {food}"),
            ("hobby", rf"{name}(?:, who)? (?:likes|liked|loves|loved) to {hobby}"),
            ("hobby", rf"{name} {hobbies}"),
            ("hobby", rf"Ask {name} to {hobby}"),
            ("trait", rf"a {trait} {kind} called {name}"),
            ("trait", rf"{name} (?:is|was)(?: known to be| said to be)? an? {trait} {kind}"),
        )
    )  # fmt: skip


@cache
def _base_of_third() -> dict[str, str]:
    return {english.third(hobby): hobby for hobby in lexicon.HOBBIES}


def claims(text: str) -> list[tuple[str, str, str]]:
    """(name, attribute, value) of each claim about a resident that the text makes."""
    found = []
    for attribute, pattern in _patterns():
        for match in pattern.finditer(text):
            groups = match.groupdict()
            value = _base_of_third()[groups["doing"]] if groups.get("doing") else groups["value"]
            found.append((groups["name"], attribute, f"{groups['species']} {value}" if attribute == "pet" else value))
    return found


def contradicted_claims(text: str) -> list[tuple[str, str, str]]:
    """The claims that the town does not bear out. A hobby that is not the resident's own is no contradiction: people do other things too."""
    return [
        (name, attribute, value)
        for name, attribute, value in claims(text)
        if attribute != "hobby"
        and getattr(_people()[name], attribute) != value
        and _people()[name].facts().get(attribute) != value
    ]
