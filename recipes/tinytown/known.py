"""What a text speaks of, as far as it is one of a closed class: names, things, places, dishes, animals, drugs, illnesses, numbers.

An answer about a passage or a fact has no use for such a word that neither the prompt nor a right answer has: it is made up.
"""

from __future__ import annotations

import re
from functools import cache

from recipes.tinytown import clinic, english, lexicon
from recipes.tinytown.world import the_town

_DETERMINED = frozenset(
    {"watch", "ring", "well", "park", "square", "pan", "bell", "hill", "mill", "cave", "wood"}
)  # other words, too
_BETWEEN_TWO = re.compile(
    r"\b(?:belonged|gave|brought|returned|lent|birthday|hugged|thanked|went to|that of|back|the \w+ of)\b"
)
_SPLITS_CLAUSE = re.compile(
    r"[.!?;,:\"\n]|\b(?:and|but|when|while|who|that|because|so|then|for|until|as|if|where|or|than)\b"
)


def _any_of(words) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


@cache
def _patterns() -> tuple[re.Pattern, ...]:
    names = {person.name for person in the_town()} | {
        *lexicon.PET_NAMES,
        *lexicon.ANIMAL_NAMES,
        *lexicon.STREETS,
        *lexicon.DAYS,
    }
    names |= {condition.drug for condition in clinic.CONDITIONS}
    nouns = {*lexicon.THINGS, *lexicon.PLACES}
    plain = {*(nouns - _DETERMINED), *lexicon.FOODS, *(condition.name for condition in clinic.CONDITIONS)}
    plain |= {*lexicon.WILD_ANIMALS, *lexicon.PET_SPECIES, *english.NUMBER_WORDS[2:]}
    return (
        re.compile(rf"\b({_any_of(names)})\b"),
        re.compile(rf"\b({_any_of(plain)})s?\b", re.IGNORECASE),
        re.compile(rf"\b(?:the|an?|his|her|my|your) (?:\w+ )?({_any_of(nouns & _DETERMINED)})\b", re.IGNORECASE),
    )


def known_words(text: str) -> set[str]:
    """The words of the closed classes in a text; numbers up to twenty as words."""
    found = {
        match[1] if index == 0 else match[1].lower()
        for index, p in enumerate(_patterns())
        for match in p.finditer(text)
    }
    return found | {
        english.number_word(int(digits))
        for digits in re.findall(r"(?<![\d.])\d{1,5}(?![\d.]*\d)", text)
        if digits != "1"
    }


def numbers_in(text: str) -> set[str]:
    return {word for word in known_words(text) if word.isdigit() or word in english.NUMBER_WORDS}


@cache
def _people() -> dict[str, str]:
    return {person.name: person.gender for person in the_town()}


@cache
def _name() -> re.Pattern:
    return re.compile(rf"\b({_any_of(_people())})\b")


def people_in(text: str) -> list[str]:
    """Residents named, in order, as often as they are."""
    return _name().findall(text)


@cache
def _described() -> re.Pattern:
    adjectives = {*lexicon.COLOURS, *(quality for qualities in lexicon.QUALITIES.values() for quality in qualities)}
    return re.compile(rf"\b({_any_of(adjectives)}) ({_any_of(lexicon.THINGS)})\b")


def qualities_in(text: str) -> dict[str, set[str]]:
    """{thing: the colours and other qualities that it is given}."""
    found: dict[str, set[str]] = {}
    for quality, thing in _described().findall(text):
        found.setdefault(thing, set()).add(quality)
    return found


@cache
def _noun() -> re.Pattern:
    return re.compile(rf"\b({_any_of((lexicon.THINGS.keys() | lexicon.PLACES.keys()) - _DETERMINED)})\b")


def things_in(text: str) -> set[str]:
    """The things named, one of a sort: candles are goods, and the clock tower is a place."""
    return set(_noun().findall(text)) & lexicon.THINGS.keys()


def with_themselves(text: str) -> list[str]:
    """Who does something with, to or beside themselves: named twice in one clause ("Milo met Milo"), or joined to themselves."""
    joined = rf"\b({_any_of(_people())})\b(?: (?:and|or)|[^.!?]*,? and so (?:was|did)) \1\b"
    found = [match[1] for match in re.finditer(joined, text)]
    for clause in _SPLITS_CLAUSE.split(text):
        named = re.findall(rf"\b({_any_of(_people())})\b(?!')", clause)
        found += [name for name in set(named) if named.count(name) > 1]
    return found


def is_alone(text: str) -> bool:
    """Whether a text tells of giving, lending or thanking, and names one person alone, again and again."""
    named = people_in(text)
    return len(named) > 2 and len(set(named)) == 1 and bool(_BETWEEN_TWO.search(text))


def content_words(text: str) -> set[str]:
    """Longer words but names, in lower case: what is said, not of whom."""
    words = re.findall(r"\b[a-z]{4,}\b", _name().sub("", text).lower())
    return set(words) - {"that", "this", "they", "them", "their", "with", "have", "been", "were", "what", "whom"}


def unknown_pronouns(text: str, named: set[str]) -> set[str]:
    """The genders of he or she in a text where nobody of that gender is named, outside of what people say."""
    told = re.sub(r'"[^"]*"', "", text)
    genders = {_people()[name] for name in named if name in _people()}
    words = {"m": "he|him|his|himself", "f": "she|her|hers|herself"}
    return {g for g in words if g not in genders and re.search(rf"\b(?:{words[g]})\b", told, re.IGNORECASE)}
