"""Lessons, roll calls, lists and chains: texts in which what was said comes back, so that reading closely pays.

A small model learns from these to look up what a text has said before (who holds what, who is where), which stories alone teach slowly.
"""

from __future__ import annotations

import itertools

from recipes.tinytown import lexicon
from recipes.tinytown.shapes.registry import shape
from recipes.tinytown.telling import Scene
from recipes.tinytown.world import Thing


def _people(s: Scene, low: int, high: int) -> list[str]:
    """Cast so many people under "a", "b", ...; returns the keys."""
    keys = list("abcdefg"[: low + int(s.random() * (high - low + 1))])
    for key in keys:
        s.person(key)
    return keys


def _shuffled(s: Scene, keys: list[str]) -> list[str]:
    return s.sample(keys, len(keys))


def _say(s: Scene, template: str, **keys: str) -> None:
    """Tell a template whose slots are named by a letter: N for a person, T for a thing, F for food, P for a place."""
    for letter, key in keys.items():
        template = template.replace("{" + letter, "{" + key)
    s.say(template)


def _tell_all(s: Scene, people: list[str], letter: str, templates: tuple[str, ...]) -> None:
    """A sentence about each person, N, and what is cast for them under <letter in lower case><person>."""
    for key in people:
        _say(s, s.pick(templates), N=key, **{letter: letter.lower() + key})


def _ask_some(s: Scene, people: list[str], letter: str, pairs) -> None:
    """Two to four questions, each with its answer, on lines of their own; pairs(key) are the questions that a person leaves."""
    for key in _shuffled(s, people)[: 2 + int(s.random() * 3)]:
        s.paragraph()
        for template in s.pick(pairs(key)):
            _say(s, template, N=key, **{letter: letter.lower() + key})


@shape("lesson", weight=4)
def who_has_what(s: Scene) -> None:
    keys = _people(s, 3, 5)
    for key in keys:
        s.thing(f"t{key}")
        s.do("have", key, f"t{key}")
    s.maybe(0.4, "[A page|An exercise] from the school book:", "Read carefully.", "The teacher told the children this.")
    has = "{N.name} has {T.a}."
    _tell_all(s, keys, "T", (has, has, "The {T.full} is {N.names}.", "{T.a} belongs to {N.name}."))

    def questions(key: str):
        is_coloured = s.cast[f"t{key}"].quality in lexicon.COLOURS
        return (
            ("Who has the {T}?", "{N.name} has the {T}."),
            ("What does {N.name} have?", has),
            ("Whose is the {T}?", "The {T} is {N.names}."),
            ("What colour is the {T}?", "The {T} is {T.quality}.") if is_coloured else ("Who has the {T}?", "{N.name} does."),
        )  # fmt: skip

    _ask_some(s, keys, "T", questions)


@shape("lesson", weight=4)
def who_is_where(s: Scene) -> None:
    keys = _people(s, 3, 5)
    for key in keys:
        s.place(f"p{key}")
        s.do("go", key, f"p{key}")
    s.maybe(0.4, "Where is everybody?", "It is noon in Tinytown.", "Read this and answer.")
    is_there = "{N.name} is {P.at}."
    _tell_all(s, keys, "P", (is_there, is_there, "{P.at} sits {N.name}.", "{N.name} has gone to {P}."))
    questions = (
        ("Where is {N.name}?", is_there),
        ("Who is {P.at}?", is_there),
        ("Where did {N.name} go?", "{N.name} went to {P}."),
    )
    _ask_some(s, keys, "P", lambda key: questions)


@shape("dialogue", weight=4)
def roll_call(s: Scene) -> None:
    s.person("h")
    keys = _people(s, 4, 6)
    s.place("p")
    s.say(
        "{h.name} stood {p.at} with a list and called the names.",
        "They met {p.at}, and {h.name} read out who was to come.",
    )
    answers = [
        '"Here," said {N.name}.',
        '"{N.name} is here," said {N.name}.',
        "{N.name} held up a hand.",
        '"Yes," said {N.name}.',
        "{N.name} nodded.",
        '"Present," called {N.name}.',
    ]
    for key in keys:
        s.paragraph()
        _say(s, '"{N.name}?" ' + s.pick(answers), N=key)
    absent = s.person("z")
    s.line(f'"{absent.name}?" Nobody answered. {absent.name} was [ill|late|asleep|not there].')
    s.line("So {h.name} counted [again|them] and put the list away.", "Then {h.name} nodded, and they set off.")


@shape("dialogue", weight=4)
def packing_list(s: Scene) -> None:
    s.people("h", "f")
    s.place("p")
    keys = [f"t{i}" for i in range(4 + int(s.random() * 3))]
    for key in keys:
        s.thing(key)
    nouns = [s.cast[key] for key in keys if isinstance(s.cast[key], Thing)]
    s.cast["list"] = ", ".join(f"a {thing.noun}" for thing in nouns[:-1]) + f" and a {nouns[-1].noun}"
    s.do("go", "h", "p")
    s.say("For the trip to {p}, {h.name} had packed {list}.", "{h.name} was going to {p} with {list}.")
    for key in _shuffled(s, keys)[:4]:
        s.paragraph()
        _say(
            s,
            s.pick(
                (
                    '"The {T}?" asked {f.name}. "The {T} is in the bag," said {h.name}.',
                    '"Have you got the {T}?" "Yes, I have the {T}," said {h.name}.',
                    '"And the {T}?" "Here is the {T}."',
                )
            ),
            T=key,
        )
    s.line(
        '"Then we have everything," said {f.name}.',
        "And off they went to {p}.",
        '"Good," said {f.name}, "to {p} it is."',
    )


@shape("lesson", weight=4)
def chain_tale(s: Scene) -> None:
    animals = s.sample((*s.breadth.some(lexicon.WILD_ANIMALS), "cat", "dog", "hen", "goat"), 4 + int(s.random() * 2))
    s.person("h")
    s.place("p")
    verb = s.pick(("ran after", "chased", "followed", "hid from", "laughed at", "walked behind"))
    s.say("{h.name} saw a funny thing {p.at}.", "What a sight {p.at}!", "One day, {p.at}, there was a great to-do.")
    for one, other in itertools.pairwise(animals):
        s.say(f"The {one} {verb} the {other}.")
    s.say(f"And the {animals[-1]}? The {animals[-1]} [sat down|fell asleep|turned round and went home].")
    back = list(reversed(animals))
    for one, other in list(itertools.pairwise(back))[:3]:
        s.say(f"[When|As] the {one} stopped, the {other} stopped[ too|].")
    s.say("{h.name} told it to everyone.", "At last {p} was quiet again.", "{h.name} laughed about it for a week.")


@shape("dialogue", weight=4)
def orders_at_the_inn(s: Scene) -> None:
    s.person("h")
    keys = _people(s, 3, 4)
    for key in keys:
        s.word(f"f{key}", lexicon.FOODS)
        s.do("order", key, f"f{key}")
        s.do("bring", "h", key, f"f{key}")
    s.say(
        "{h.name} was serving at the inn.",
        "At the inn, {h.name} took the orders.",
        "It was full at the inn, and {h.name} had much to do.",
    )
    for key in keys:
        _say(
            s,
            s.pick(("{N.name} wanted {F}.", '"{F.cap}, please," said {N.name}.', "{N.name} asked for {F}.")),
            N=key,
            F=f"f{key}",
        )
    s.paragraph()
    for key in _shuffled(s, keys):
        _say(
            s,
            s.pick(
                (
                    "The {F} went to {N.name}.",
                    '"{F.cap}?" asked {h.name}. "For me," said {N.name}.',
                    "{h.name} brought {N.name} the {F}.",
                )
            ),
            N=key,
            F=f"f{key}",
        )
    s.say("Nobody went home hungry.", "Then they all ate.", "Not one order was wrong.")
