"""Telling: templates, reference to people and things, and the Scene that a story shape writes into.

Template language: `[a|b|c]` is a free choice (may nest), `{key}` mentions what is cast under `key`, `{key.form}` in a given form.

    people   {h} name, or he/she where that is clear    {h.name}  {h.he} {h.him} {h.his} {h.self}   {h.poss} "Nora's" or "her"
             {h.obj} name or him/her                    {h.job} "baker"  {h.workplace}  {h.work} "bakes bread"  {h.street} {h.food} ...
    things   {t} "kite"   {t.a} "a red kite"   {t.full} "red kite"
    places   {p} "the market"   {p.at} "at the market"
    strings  {x} as it is
Two people cast as a pair have different genders, so that "he" and "she" always refer.
"""
# ruff: noqa: E501 - a sentence stays on its line

from __future__ import annotations

import re
from functools import cache
from random import Random

from recipes.tinytown import english, lexicon
from recipes.tinytown.breadth import FULL, Breadth
from recipes.tinytown.world import Person, Place, Thing, Town, World, is_reserved_pair

PRONOUNS = {
    "f": {"he": "she", "him": "her", "his": "her", "self": "herself", "hers": "hers"},
    "m": {"he": "he", "him": "him", "his": "his", "self": "himself", "hers": "his"},
}
PRONOUN_RATE = 0.7  # how often a clear subject is told as he/she instead of by name

_TOKEN = re.compile(r"\[|\]|\||\{(\w+)(?:\.(\w+))?\}|[^\[\]|{}]+")


@cache
def compile_template(template: str) -> tuple:
    """Parse a template into parts: str, ("slot", key, form) or ("choice", (parts, parts, ...)). Raises ValueError on unbalanced brackets."""
    stack: list[list[list]] = [[[]]]  # per open bracket: its options; the innermost option is the last
    position = 0
    for match in _TOKEN.finditer(template):
        if match.start() != position:
            raise ValueError(f"template {template!r}: stray character at {position}")
        position, token = match.end(), match[0]
        if token == "[":
            stack.append([[]])
        elif token == "]":
            if len(stack) == 1:
                raise ValueError(f"template {template!r}: ']' without '['")
            options = stack.pop()
            stack[-1][-1].append(("choice", tuple(tuple(option) for option in options)))
        elif token == "|":
            stack[-1].append([])
        elif match[1]:
            stack[-1][-1].append(("slot", match[1], match[2] or ""))
        else:
            stack[-1][-1].append(token)
    if len(stack) != 1 or position != len(template):
        raise ValueError(f"template {template!r}: brackets do not balance")
    options = stack[0]
    return tuple(options[0]) if len(options) == 1 else (("choice", tuple(tuple(option) for option in options)),)


class Scene:
    """One text in the making: its cast, its world state, and the sentences told so far.

    `is_held_out` scenes cast held-out people or reserved (person, thing) pairs; all others never do. `is_brief` leaves out the optional
    sentences. `breadth` says how many people, things, places and words there are to cast.
    """

    def __init__(self, rng: Random, *, is_held_out: bool = False, is_brief: bool = False, breadth: Breadth = FULL):
        self.rng = rng
        self.random = rng.random
        self.is_held_out = is_held_out
        self.is_brief = is_brief
        self.breadth = breadth
        self.town: Town = breadth.town()
        self.world = World()
        self.cast: dict[str, object] = {}
        self.preset: dict[str, object] = {}  # what to cast under a key instead of drawing it
        self.has_held_out = False
        self.paragraphs: list[list[str]] = [[]]
        self.ending = ""
        self._forget_mentions()

    # -------------------------------------------------------------------------------------------------- casting
    def pick(self, options):
        return options[int(self.random() * len(options))]

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def sample(self, options, count: int) -> list:
        return self.rng.sample(options, count)

    def people(self, *keys: str, is_child: bool | None = None, job: bool | None = None) -> None:
        """Cast residents under `keys`; the first two differ in gender. is_child / job: True, False or None for either."""
        for key in keys:
            self.person(key, is_child=is_child, job=job)

    def person(
        self, key: str, *, gender: str | None = None, is_child: bool | None = None, job: bool | None = None
    ) -> Person:
        if key in self.preset:
            self.cast[key] = self.preset[key]
            return self.cast[key]
        present = [p for p in self.cast.values() if isinstance(p, Person)]
        things = [t.noun for t in self.cast.values() if isinstance(t, Thing)]
        if gender is None and len(present) == 1:
            gender = "m" if present[0].gender == "f" else "f"
        wants_stranger = self.is_held_out and not self.has_held_out and not job and self.chance(0.2)
        pool = self.town.held_out_people if wants_stranger else self.town.people
        for _ in range(1000):
            person = self.pick(pool)
            if person in present or (gender and person.gender != gender):
                continue
            if not person.is_held_out and is_child is not None and person.is_child != is_child:
                continue
            if (job is not None and bool(person.job) != job) or (
                not self.is_held_out and any(is_reserved_pair(person.name, t) for t in things)
            ):
                continue
            break
        else:
            raise AssertionError(f"nobody fits: gender={gender} is_child={is_child} job={job} things={things}")
        self.has_held_out |= person.is_held_out
        self.cast[key] = person
        return person

    def thing(self, key: str, categories: str = "", *, among: tuple[str, ...] = ()) -> Thing:
        """Cast a thing under `key`: one of `among`, or of the space-separated categories (any when empty), with one quality."""
        suitable = _things_in(categories, self.breadth)
        if among:
            suitable = tuple(n for n in among if n in self.breadth.things()) or among
        wanted = self.preset.get(key)
        if isinstance(wanted, Thing) and wanted.noun in suitable:
            self.cast[key] = wanted
            return wanted
        present = {t.noun for t in self.cast.values() if isinstance(t, Thing)}
        people = [p.name for p in self.cast.values() if isinstance(p, Person)]
        pool = [n for n in suitable if n not in present]
        if not self.is_held_out:
            pool = [n for n in pool if not any(is_reserved_pair(person, n) for person in people)]
        elif not self.has_held_out and people:
            pool = [n for n in pool if is_reserved_pair(people[0], n)] or pool
        noun = self.pick(pool)
        self.has_held_out |= any(is_reserved_pair(person, noun) for person in people)
        is_coloured = noun not in lexicon.COLOURLESS and self.chance(0.7)
        quality = self.pick(
            self.breadth.some(lexicon.COLOURS) if is_coloured else lexicon.QUALITIES[lexicon.THINGS[noun]]
        )
        thing = Thing(noun, quality, lexicon.THINGS[noun])
        self.cast[key] = thing
        return thing

    def place(self, key: str, *, is_outdoors: bool = False) -> Place:
        """Cast a place under `key`, different from the places cast so far; is_outdoors: only places under the open sky."""
        wanted = self.preset.get(key)
        if isinstance(wanted, Place):
            self.cast[key] = wanted
            return wanted
        present = {p.noun for p in self.cast.values() if isinstance(p, Place)}
        nouns = self.breadth.places()
        while (noun := self.pick(nouns)) in present or (is_outdoors and noun in lexicon.INDOORS):
            pass
        self.cast[key] = Place(noun, lexicon.PLACES[noun])
        return self.cast[key]

    def word(self, key: str, options) -> str:
        """Cast one of `options`, different from the strings cast so far."""
        taken, options = set(map(str, self.cast.values())), self.breadth.some(options)
        while (word := self.pick(options)) in taken:
            pass
        self.cast[key] = word
        return word

    # -------------------------------------------------------------------------------------------------- telling
    def do(self, verb: str, *keys: str) -> None:
        """Let an event happen, its arguments named by cast key (or given literally after "=")."""
        self.world.apply(verb, *(key[1:] if key.startswith("=") else identity(self.cast[key]) for key in keys))

    def say(self, *templates: str) -> None:
        """Tell one of the templates as the next sentence(s)."""
        self.paragraphs[-1].append(self.render(self.pick(templates)))

    def maybe(self, probability: float, *templates: str) -> None:
        """Tell one of the templates with this probability; never in a brief text."""
        if not self.is_brief and self.chance(probability):
            self.say(*templates)

    def end(self, *templates: str) -> None:
        """Tell the ending: what the endings benchmark asks for."""
        self.say(*templates)
        self.ending = self.paragraphs[-1][-1]

    def paragraph(self) -> None:
        """Start a new paragraph: people are named again."""
        if self.paragraphs[-1]:
            self.paragraphs.append([])
            self._forget_mentions()

    def line(self, *templates: str) -> None:
        """Tell one of the templates on a line of its own (speech, salutations, steps)."""
        self.paragraph()
        self.say(*templates)

    def text(self) -> str:
        return "\n".join(" ".join(sentences) for sentences in self.paragraphs if sentences)

    def state(self) -> dict:
        """What is true in this text, for the checker: who and what is in it, and what happened. JSON values."""
        cast = self.cast.items()
        return {
            "people": {key: value.name for key, value in cast if isinstance(value, Person)},
            "things": {value.noun: value.quality for _, value in cast if isinstance(value, Thing)},
            "places": [value.noun for _, value in cast if isinstance(value, Place)],
            "words": {key: value for key, value in cast if isinstance(value, (str, int, float))},
            "events": self.world.events,
        }

    def render(self, template: str) -> str:
        """Fill a template, choose its articles, capitalise its sentences."""
        self._current: list[Person] = []
        out: list[str] = []
        self._render(compile_template(template), out)
        self._previous = self._current
        return english.sentence_case(english.fix_articles("".join(out)))

    def _render(self, parts: tuple, out: list[str]) -> None:
        for part in parts:
            if type(part) is str:
                out.append(part)
            elif part[0] == "slot":
                out.append(self._mention(part[1], part[2]))
            else:
                options = part[1]
                self._render(options[int(self.random() * len(options))], out)

    def _forget_mentions(self) -> None:
        self._previous: list[Person] = []
        self._current: list[Person] = []
        self._last: dict[str, Person] = {}

    def _is_clear(self, person: Person) -> bool:
        """Whether he/she would be understood as `person`: mentioned just now, and the last of that gender to be mentioned."""
        return self._last.get(person.gender) is person and (person in self._previous or person in self._current)

    def knows(self, key: str) -> bool:
        """Whether he/she would be understood as this person in the next sentence."""
        person = self.cast[key]
        return self._last.get(person.gender) is person and person in self._previous

    def _mention(self, key: str, form: str) -> str:
        value = self.cast[key]
        if isinstance(value, Person):
            return self._mention_person(value, form)
        if isinstance(value, Thing):
            return {
                "": value.noun,
                "a": f"a {value.quality} {value.noun}",
                "full": f"{value.quality} {value.noun}",
                "quality": value.quality,
            }[form]
        if isinstance(value, Place):
            return (
                f"{value.preposition} the {value.noun}"
                if form == "at"
                else f"the {value.noun}"
                if not form
                else value.noun
            )
        text = str(value)
        return text if not form else _STRING_FORMS[form](text)

    def _mention_person(self, person: Person, form: str) -> str:
        pronouns = PRONOUNS[person.gender]
        if form in pronouns:
            result = pronouns[form]
        elif form in ("", "obj", "poss", "name", "names"):
            is_pronoun = form in ("", "obj", "poss") and self._is_clear(person) and self.random() < PRONOUN_RATE
            if is_pronoun:
                result = pronouns[{"": "he", "obj": "him", "poss": "his"}[form]]
            else:
                result = person.name + (
                    "'s"
                    if form in ("poss", "names") and not person.name.endswith("s")
                    else "'"
                    if form in ("poss", "names")
                    else ""
                )
        else:
            return _PERSON_FORMS[form](person)
        self._current.append(person)
        self._last[person.gender] = person
        return result


COUNTED = frozenset({"bite wound", "sprain", "upset stomach"})  # illnesses that one has "a" of
_STRING_FORMS = {
    "past": english.past,
    "third": english.third,
    "ing": english.gerund,
    "plural": english.plural,
    "cap": lambda text: text[:1].upper() + text[1:],
    "low": lambda text: text[:1].lower() + text[1:],
    "is": lambda text: "are" if text.endswith("s") else "is",
    "the": lambda text: re.sub(r"^(?:a|an) ", "the ", text),
    "a": lambda text: f"a {text}" if text in COUNTED else text,
    "bare": lambda text: re.sub(r"^(?:the|a|an) ", "", text),
}
_PERSON_FORMS = {
    "job": lambda p: p.job,
    "workplace": lambda p: p.workplace,
    "at_work": lambda p: f"{lexicon.WORKPLACE_PREPOSITIONS.get(p.workplace, 'in')} the {p.workplace}",
    "work": lambda p: english.third(p.work),
    "work_past": lambda p: english.past(p.work),
    "work_base": lambda p: p.work,
    "working": lambda p: english.gerund(p.work),
    "street": lambda p: p.street,
    "on_street": lambda p: f"{'on' if p.street == 'Chapel Hill' else 'in'} {p.street}",
    "landmark": lambda p: lexicon.STREETS[p.street],
    "trait": lambda p: p.trait,
    "more_trait": lambda p: english.compared(p.trait, "er"),
    "most_trait": lambda p: english.compared(p.trait, "est"),
    "food": lambda p: p.food,
    "hobby": lambda p: p.hobby,
    "hobby_ing": lambda p: english.gerund(p.hobby),
    "pet": lambda p: p.pet[0],
    "pet_name": lambda p: p.pet[1],
    "child": lambda p: (
        ("girl" if p.gender == "f" else "boy") if p.is_child else ("woman" if p.gender == "f" else "man")
    ),
}


@cache
def _things_in(categories: str, breadth: Breadth) -> tuple[str, ...]:
    wanted = categories.split()
    return tuple(noun for noun in breadth.things() if not wanted or lexicon.THINGS[noun] in wanted)


def identity(value: object) -> str:
    """How an event names a cast member: people by name, things and places by noun, strings as they are."""
    if isinstance(value, Person):
        return value.name
    if isinstance(value, (Thing, Place)):
        return value.noun
    return str(value)
