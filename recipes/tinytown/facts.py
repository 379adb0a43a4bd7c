"""The facts checker: reads what a text states and holds it against the world that the text was told from.

It shares nothing with the generator but the town: no templates, no scenes. It reads English with patterns, resolves pronouns by the rule
that readers use (he or she is the last man or woman named), replays the events of the state (states.jsonl) by its own rules, and works out
sums and doses again. A text states far more than is read here; what is read must be true.
"""
# ruff: noqa: E501, SIM905 - patterns and word lists stay on their lines

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from recipes.tinytown import clinic, english, lexicon
from recipes.tinytown.claims import claims as resident_claims
from recipes.tinytown.claims import contradicted_claims
from recipes.tinytown.world import the_town


@dataclass(frozen=True)
class Report:
    """What was read in a text: `claims` in words, and which of them are `wrong`."""

    claims: tuple[str, ...]
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Claim:
    """A statement read in a text and whether the world bears it out."""

    words: str
    is_true: bool


def check(text: str, state: dict) -> Report:
    """Read the claims of a text and test each against the state it was told from (a row of states.jsonl)."""
    told = state | {"possessions": possessions(state["events"])}
    read = [*_mentions(text, told), *_relations(text, told), *_sums(text, told), *_clinic(text, told)]
    resolved = resolve(text)
    wrong = contradicted_claims(resolved)
    read += [Claim(" ".join(claim), claim not in wrong) for claim in resident_claims(resolved)]
    return Report(tuple(claim.words for claim in read), tuple(claim.words for claim in read if not claim.is_true))


def possessions(events: list[list[str]]) -> set[tuple[str, str]]:
    """(person, thing) for whoever held something at some time, by replaying the events."""
    held: set[tuple[str, str]] = set()
    for verb, *args in events:
        if verb in (
            "have",
            "buy",
            "make",
            "find",
            "save",
            "receive",
            "take",
            "cook",
            "bring_along",
            "fetch",
            "receive_prize",
        ):
            held.add((args[0], args[1]))
        if verb in ("give", "lend", "return", "bring"):
            held |= {(args[0], args[2]), (args[1], args[2])}
        if verb == "swap":
            held |= {(args[0], args[2]), (args[0], args[3]), (args[1], args[2]), (args[1], args[3])}
        if verb in ("play", "quarrel"):
            held.add((args[0], args[-1]))
    return held


# ------------------------------------------------------------------------------------------------------- pronouns
@cache
def _genders() -> dict[str, str]:
    return {person.name: person.gender for person in the_town()}


@cache
def _reference() -> re.Pattern:
    names = "|".join(sorted(_genders(), key=len, reverse=True))
    return re.compile(
        rf"\b(?P<name>{names})\b|\b(?P<pronoun>[Hh]e|[Ss]he|[Hh]im|[Hh]is|[Hh]er|[Hh]imself|[Hh]erself)\b(?P<next> ?[\w']*)"
    )


_NOT_POSSESSED = frozenset(
    "a an the and to in with at on by for from back up down so but when while as until again all everything that two three very so quite".split()
) | frozenset(lexicon.MOODS)


def resolve(text: str) -> str:
    """The text with he, she, him, her and his replaced by the name they stand for: the last man or woman named before."""
    last: dict[str, str] = {}

    def replace(match: re.Match) -> str:
        if match["name"]:
            last[_genders()[match["name"]]] = match["name"]
            return match["name"]
        word = match["pronoun"].lower()
        person = last.get("f" if word in ("she", "her", "herself") else "m")
        if person is None:
            return match[0]
        follower = match["next"].strip()
        is_possessive = word == "his" or (word == "her" and follower.isalpha() and follower not in _NOT_POSSESSED)
        return person + ("'s" if is_possessive else "") + match["next"]

    return _reference().sub(replace, text)


# --------------------------------------------------------------------------------------------- people, things, places
def _mentions(text: str, state: dict) -> Iterator[Claim]:
    """Whoever is named is in the story; a thing has the quality that the state says."""
    cast = set(state["people"].values()) | {value for value in state["words"].values() if isinstance(value, str)}
    for name in sorted(set(re.findall(r"\b[A-Z][a-z]+\b", text)) & _genders().keys()):
        yield Claim(f"{name} is in it", name in cast)
    for quality, noun in _thing_mentions().findall(text):
        if noun in state["things"]:
            is_right = quality not in _qualities() or quality in (state["things"][noun], state["words"].get("colour"))
            yield Claim(f"the {quality} {noun}", is_right)
        elif not any(noun in value for value in _values(state)):
            yield Claim(f"a {noun} is in it", False)
    for noun in _place_mentions().findall(text):
        yield Claim(f"the {noun}", noun in state["places"] or noun in _known_places(state))
    for number in re.findall(r"\b[a-z]+\b", text.lower()):
        if number in english.NUMBER_WORDS[3:]:
            yield Claim(number, number in _words(state))


@cache
def _qualities() -> frozenset[str]:
    return frozenset(lexicon.COLOURS).union(*lexicon.QUALITIES.values())


@cache
def _thing_mentions() -> re.Pattern:
    nouns = "|".join(sorted(lexicon.THINGS, key=len, reverse=True))
    return re.compile(
        rf"\b(?:[Aa]n?|[Tt]he|[Hh]er|[Hh]is|[Yy]our|[Mm]y|[A-Z][a-z]+'s?) (?:(\w+) )?({nouns})\b(?! (?:tower|shop))"
    )


@cache
def _place_mentions() -> re.Pattern:
    return re.compile(rf"(?<!chop )\b[Tt]he ({'|'.join(sorted(lexicon.PLACES, key=len, reverse=True))})\b")


PASSING_PLACES = frozenset(
    {"river", "school", "library", "post office", "market", "inn"}
)  # named now and then where nothing happens


def _known_places(state: dict) -> set[str]:
    """Places that texts may name without anything happening there: where the people of the story work, and what their streets are near."""
    people = [person for person in the_town() if person.name in state["people"].values()]
    streets = {person.street for person in people} | {
        value for value in state["words"].values() if value in lexicon.STREETS
    }
    return {person.workplace for person in people} | {lexicon.STREETS[street] for street in streets} | PASSING_PLACES


# ------------------------------------------------------------------------------------------------------------ events
def _has(state: dict, verbs: str, *wanted: str | None) -> bool:
    """Whether an event of one of the verbs has these arguments (None: any)."""
    for verb, *args in state["events"]:
        if (
            verb in verbs.split()
            and len(args) >= len(wanted)
            and all(w is None or w == a for w, a in zip(wanted, args, strict=False))
        ):
            return True
    return False


def _event(verbs: str, *roles: str) -> Callable[[dict, re.Match], bool]:
    """A test that an event of one of the verbs has the groups named by `roles` as arguments ("" for any)."""
    return lambda state, match: _has(state, verbs, *(match[role] if role else None for role in roles))


def _holds(state: dict, match: re.Match) -> bool:
    return (match["a"], match["t"]) in state["possessions"]


def _at(verbs: str, place_index: int) -> Callable[[dict, re.Match], bool]:
    """A test that some event of the verbs, by this agent about this thing, happened at the place named."""

    def test(state: dict, match: re.Match) -> bool:
        return any(
            verb in verbs.split() and args[0] == match["a"] and match["t"] in args and args[place_index] == match["p"]
            for verb, *args in state["events"]
        )

    return test


@cache
def _patterns() -> tuple[tuple[re.Pattern, Callable[[dict, re.Match], bool]], ...]:
    def alternatives(words) -> str:
        return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))

    names, things = alternatives(_genders()), alternatives([*lexicon.THINGS, "purse", "map", "bottle"])
    a, b = f"(?P<a>{names})", f"(?P<b>{names})"
    det = rf"(?:the|an?|(?:{names})'s|one|your|my)(?: \w+)?? "
    thing = f"{det}(?P<t>{things})"
    place = f"(?:in|at|on|by|under) the (?P<p>{alternatives(lexicon.PLACES)})"
    moods = f"(?P<m>{alternatives(lexicon.MOODS)})"
    food = f"(?:the )?(?P<t>{alternatives(lexicon.FOODS)})"
    skill = f"(?P<t>{alternatives(lexicon.SKILLS)})"
    number = f"(?P<n>{alternatives(english.NUMBER_WORDS)})"
    rules = (
        (rf"{a} (?:has |have |had )?lost {thing}", _event("lose", "a", "t")),
        (rf"{a} (?:has |have |had )?lost {thing} {place}", _at("lose", 2)),
        (rf"{place}, {a} (?:had )?found {thing}", _at("find", 2)),
        (rf"{a} (?:has |had |who )?found {thing}", _event("find", "a", "t")),
        (rf"{a} (?:had )?found {thing} {place}", _at("find", 2)),
        (rf"{a} who found {thing} {place}", _at("find", 2)),
        (rf"{a} (?:bought|has bought|had bought) {thing}", _event("buy", "a", "t")),
        (rf"{a} (?:bought|has bought|had bought) {thing} {place}", _at("buy", 2)),
        (rf"{place}, {a} (?:bought|has bought) {thing}", _at("buy", 2)),
        (rf"{a} gave {thing} back to {b}", _event("return", "a", "b", "t")),
        (
            rf"{a} (?:gave|handed) {thing} to {b}",
            lambda s, m: _has(s, "give return", m["a"], m["b"], m["t"]) or _lent(s, m),
        ),
        (rf"{a} gave {b} {thing}", _event("give return", "a", "b", "t")),
        (rf"{a} (?:also )?lent {b} {thing}", _event("lend", "a", "b", "t")),
        (rf"{a} (?:also )?lent {thing} to {b}", _event("lend", "a", "b", "t")),
        (rf"{a} (?:returned|brought) {thing} (?:back )?to {b}", _event("return bring", "a", "b", "t")),
        (rf"{a} brought {b} {food}", _event("bring", "a", "b", "t")),
        (rf"{a} brought {food} to {b}", _event("bring", "a", "b", "t")),
        (rf"{a} (?:cooked|made) {food}", _event("cook", "a", "t")),
        (rf"{a} (?:had|owned|kept|carried|took) {thing}", _holds),
        (rf"{a} (?:had )?broke(?:n)? {thing}", _event("break", "a", "t")),
        (rf"{a} (?:had )?mended {thing}", _event("mend", "a", "t")),
        (rf"{a} had made {thing}", _event("make", "a", "t")),
        (rf"{a} made {thing}", _event("make", "a", "t")),
        (rf"{a} quarrelled with {b} over {thing}", _event("quarrel", "a", "b", "t")),
        (rf"{a} swapped {thing} for {det}(?P<u>{things})", lambda s, m: _has(s, "swap", m["a"], None, m["t"], m["u"])),
        (rf"{a} taught {b} to {skill}", _event("teach", "a", "b", "t")),
        (rf"{a} (?:could|was able to) {skill}", _event("learn", "a", "t")),
        (rf"{a} (?:had )?planted (?P<t>{alternatives(lexicon.PLANTS)})", _event("plant", "a", "t")),
        (rf"{a} (?:who |had )?won the (?P<t>{alternatives(lexicon.CONTESTS)})", _event("win", "a", "t")),
        (rf"winner of the (?P<t>{alternatives(lexicon.CONTESTS)}) is {a}", _event("win", "a", "t")),
        (
            rf"{a} (?:had )?painted the (?P<t>{alternatives(lexicon.PAINTABLES)}) (?P<u>{alternatives(lexicon.COLOURS)})",
            _event("paint", "a", "t", "u"),
        ),
        (rf"{a} (?:had )?promised {b} to (?P<t>{alternatives(lexicon.DEEDS)})", _event("promise", "a", "b", "t")),
        (
            rf"{a} (?:went|walked|ran|had gone|goes) (?:with (?:{names}) )?to the (?P<p>{alternatives(lexicon.PLACES)})",
            _went,
        ),
        (
            rf"{a} (?:had )?met {b}(?: {place})?",
            lambda s, m: _has(s, "meet go", m["a"]) and (not m["p"] or m["p"] in s["places"]),
        ),
        (rf"{a} caught {number}", lambda s, m: _has(s, "catch", m["a"], m["n"])),
        (rf"{a} picked {number} pails", lambda s, m: _has(s, "pick", m["a"], m["n"])),
        (rf"{a} (?:came |had come )?(?:to )?help(?:ed)? {b}", _event("help", "a", "b")),
        (
            rf"{a} (?:reached in and |who )?rescued the (?P<t>[a-z]+(?: kid| cub)?)",
            lambda s, m: _has(s, "rescue", m["a"], m["t"]),
        ),
        (rf"{a} (?:had been|was) afraid of (?P<t>{alternatives(lexicon.FEARS)})", _event("fear", "a", "t")),
        (rf"{a} played (?P<t>{alternatives(lexicon.SONGS)})", _event("play", "a", "t")),
        (
            rf"(?P<t>{alternatives(lexicon.THIEVES)}) (?:had stolen|stole) the (?P<u>{alternatives(lexicon.FOODS)})",
            _event("steal", "t", "u"),
        ),
        (rf"{a} (?:felt|feels|was|is)(?: very| so| quite)? {moods}\b", _event("feel", "a", "m")),
        (rf"This made {a}(?: very)? {moods}\b", _event("feel", "a", "m")),
        (rf"How {moods} {a} was\b", _event("feel", "a", "m")),
        (rf"{number} (?:coins|shooting stars|guests|layers|weeks|hours late|steps)", lambda s, m: m["n"] in _words(s)),
    )
    return tuple(
        (re.compile(rf"\b{pattern}\b", re.IGNORECASE if pattern.startswith("(?P<n>") else 0), test)
        for pattern, test in rules
    )


def _lent(state: dict, match: re.Match) -> bool:
    """What was lent goes back in the end, told or not."""
    return _has(state, "lend", match["b"], match["a"], match["t"])


def _went(state: dict, match: re.Match) -> bool:
    """Somebody goes somewhere; who comes along with the agent of the event goes there too."""
    return (
        _has(state, "go", None, match["p"])
        or _has(state, "meet", None, None, match["p"])
        or match["p"] in _known_places(state)
    )


def _values(state: dict) -> list[str]:
    """Whatever was cast or happened, and what the people of the story like to do, as strings."""
    hobbies = [person.hobby for person in the_town() if person.name in state["people"].values()]
    return [*map(str, state["words"].values()), *(arg for event in state["events"] for arg in event), *hobbies]


def _words(state: dict) -> set[str]:
    """Every word of these."""
    return {word for value in _values(state) for word in value.split()}


def _relations(text: str, state: dict) -> Iterator[Claim]:
    """Who did what to whom, sentence by sentence, pronouns resolved. What people say in quotes is left to them."""
    for sentence in re.split(r"(?<=[.!?])\s+|\n", resolve(text)):
        spoken_out = re.sub(r'"[^"]*"', '""', sentence)
        for pattern, test in _patterns():
            for match in pattern.finditer(spoken_out):
                words = match.groupdict() | {"n": (match.groupdict().get("n") or "").lower()}
                yield Claim(match[0], test(state, _Lowered(match, words)))


class _Lowered:
    """A match whose number is in lower case."""

    def __init__(self, match: re.Match, words: dict):
        self.words = words

    def __getitem__(self, name: str) -> str:
        return self.words[name]


# -------------------------------------------------------------------------------------------------------------- sums
def _value(word: str) -> int:
    return int(word) if word.isdigit() else english.NUMBER_WORDS.index(word.lower())


def _sums(text: str, state: dict) -> Iterator[Claim]:
    """Prices times counts, what is left of a purse, and catches put together."""
    number = "|".join([*english.NUMBER_WORDS, r"\d\d"])
    goods = "|".join(map(re.escape, map(english.plural, lexicon.GOODS)))
    price = re.search(
        rf"\b({number}) coins? (?:each|at|apiece)|at ({number}) coins? apiece|is ({number}) coins?", text, re.IGNORECASE
    )
    counts = re.findall(rf"\b({number}) (?:{goods})", text, re.IGNORECASE)
    total = re.search(
        rf"(?:make|that is|paid|came to|and) ({number}) coins|\"({number}) coins, then", text, re.IGNORECASE
    )
    count = counts[0] if counts else next(iter(re.findall(rf"(?:I need|I will take) ({number})\b", text)), None)
    if price and count and total:
        cost, paid = _value(next(filter(None, price.groups()))), _value(next(filter(None, total.groups())))
        yield Claim(f"{count} at {cost} make {paid}", _value(count) * cost == paid)
        purse, rest = (
            re.search(pattern, text, re.IGNORECASE)
            for pattern in (
                rf"(?:with )?({number}) coins (?:in|to spend|were all)",
                rf"(?:So|with|left:) ({number}) coins?(?: remained| stayed|\.)",
            )
        )
        if purse and rest:
            yield Claim(f"{purse[1]} less {paid} leave {rest[1]}", _value(purse[1]) - paid == _value(rest[1]))
    catches = re.findall(rf"caught ({number})\b", text)
    together = re.search(
        rf"(?:That made|Together they had) ({number})|({number}) \w+ they counted", text, re.IGNORECASE
    )
    if len(catches) == 2 and together:
        both = _value(next(filter(None, together.groups())))
        yield Claim(f"{' and '.join(catches)} are {both}", sum(map(_value, catches)) == both)


# ------------------------------------------------------------------------------------------------------------ clinic
def _clinic(text: str, state: dict) -> Iterator[Claim]:
    """A clinic text keeps the clinic's rules: drug, dose by weight, frequency and days are those of the condition."""
    case = next((event for event in state["events"] if event[0] == "case"), None)
    if case is None:
        return
    _, patient, species, owner, condition, weight = case
    rule = clinic.BY_NAME[condition]
    yield Claim(f"{patient} the {species} of {owner}", patient in text and owner in text)
    yield Claim(f"it is {condition}", condition in text.lower() and species in rule.species)
    for drug in sorted({other.drug for other in clinic.CONDITIONS}):
        if drug in text:
            yield Claim(f"the drug is {drug}", drug == rule.drug)
    for rate in re.findall(r"(\d+) mg(?:/kg| per kg)", text):
        yield Claim(f"{rate} mg per kg", int(rate) == rule.dose_mg_per_kg)
    for dose in re.findall(r"(\d+) mg\b(?!/kg| per kg)", text):
        yield Claim(f"{dose} mg for {weight} kg", int(dose) == rule.dose_mg_per_kg * int(weight))
    for kilograms in re.findall(r"(\d+) kg\b", text):
        yield Claim(f"weighs {kilograms} kg", kilograms == weight)
    words = {words: short for short, words in clinic.FREQUENCY_WORDS.items()}
    for frequency in re.findall(r"\b(SID|BID|TID|once a day|twice a day|three times a day)\b", text):
        yield Claim(f"given {frequency}", words.get(frequency, frequency) == rule.frequency)
    for route in re.findall(r"\b(PO|SC|TOP|by mouth|under the skin|on the skin)\b", text):
        is_known = route in clinic.ROUTE_WORDS or not re.search(re.escape(route), rule.finding)
        if is_known and not re.search(
            rf"{re.escape(rule.finding)}", text[max(0, text.find(route) - 40) : text.find(route) + 20]
        ):
            yield Claim(f"given {route}", route in (rule.route, clinic.ROUTE_WORDS[rule.route]))
