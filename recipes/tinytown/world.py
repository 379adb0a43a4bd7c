"""The town and what happens in it: residents with fixed attributes, things, places, and a state that events change.

The town itself is the same under every seed (it is what a model can know); what happens in a text is drawn for that text.
`World.apply` refuses an event that the state does not allow (nobody gives away what they do not hold), so a text told from the
events cannot contradict itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from random import Random

from recipes.tinytown import lexicon

TOWN_SEED = "tinytown: the town is the same under every seed"
RESERVED_PAIR_RATE = 25  # one (person, thing) pair in this many is kept for the held-out sets


@dataclass(frozen=True, eq=False)
class Person:
    """A resident. `job` is empty for a child; `pet` is (species, name) or None; `is_held_out` people live in held-out files only."""

    name: str
    gender: str  # "f" or "m"
    is_child: bool
    is_held_out: bool
    job: str
    workplace: str
    work: str  # base-form verb phrase, "" for a child
    street: str
    pet: tuple[str, str] | None
    food: str
    hobby: str
    trait: str

    def facts(self) -> dict[str, str]:
        """The attributes that the town's texts state about this person, by name."""
        facts = {"street": self.street, "food": self.food, "hobby": self.hobby}
        if self.job:
            facts["job"] = self.job
        if self.pet:
            facts["pet"] = f"{self.pet[0]} {self.pet[1]}"
        return facts


@dataclass(frozen=True, eq=False)
class Thing:
    noun: str
    quality: str  # one adjective: colour or another
    category: str


@dataclass(frozen=True, eq=False)
class Place:
    noun: str
    preposition: str


@dataclass(frozen=True, eq=False)
class Town:
    people: tuple[Person, ...]
    held_out_people: tuple[Person, ...]

    @property
    def everyone(self) -> tuple[Person, ...]:
        return self.people + self.held_out_people

    def __iter__(self) -> Iterator[Person]:
        return iter(self.everyone)


@cache
def the_town() -> Town:
    """Build the one town. Each job has exactly one holder, each pet name one owner; children (a third of the people) go to school."""
    rng = Random(TOWN_SEED)
    named = [(name, "f") for name in lexicon.FEMALE_NAMES] + [(name, "m") for name in lexicon.MALE_NAMES]
    rng.shuffle(named)
    held_out = [(name, "f") for name in lexicon.HELD_OUT_FEMALE_NAMES] + [
        (name, "m") for name in lexicon.HELD_OUT_MALE_NAMES
    ]
    jobs, pets = list(lexicon.JOBS), list(lexicon.PET_NAMES)
    rng.shuffle(pets)

    def make(name: str, gender: str, job: tuple[str, str, str] | None, is_held_out: bool) -> Person:
        has_pet = bool(pets) and rng.random() < 0.7
        return Person(
            name=name,
            gender=gender,
            is_child=job is None,
            is_held_out=is_held_out,
            job=job[0] if job else "",
            workplace=job[1] if job else "school",
            work=job[2] if job else "",
            street=rng.choice(list(lexicon.STREETS)),
            pet=(rng.choice(lexicon.PET_SPECIES), pets.pop()) if has_pet else None,
            food=rng.choice(lexicon.FOODS),
            hobby=rng.choice(lexicon.HOBBIES),
            trait=rng.choice(lexicon.TRAITS),
        )

    gendered = {"postman": "m", "ferryman": "m", "dairymaid": "f"}
    people = []
    for job in jobs:
        index = next(i for i, (_, gender) in enumerate(named) if gendered.get(job[0], gender) == gender)
        people.append(make(*named.pop(index), job, False))
    people += [make(name, gender, None, False) for name, gender in named]
    return Town(tuple(people), tuple(make(name, gender, None, True) for name, gender in held_out))


def is_reserved_pair(name: str, thing: str) -> bool:
    """Whether this (person, thing) pair is kept for the held-out sets. A fixed rule: no training text brings the two together."""
    value = 2166136261
    for byte in f"{name}/{thing}".encode():  # FNV-1a: the same on every machine, unlike hash()
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return (value >> 8) % RESERVED_PAIR_RATE == 0


@dataclass
class World:
    """State of one text: who holds which thing, where it lies, who is where, how they feel; and the events that led there."""

    holder: dict[str, str] = field(default_factory=dict)  # thing -> person
    lies_at: dict[str, str] = field(default_factory=dict)  # thing -> place, when nobody holds it
    is_broken: dict[str, bool] = field(default_factory=dict)
    place_of: dict[str, str] = field(default_factory=dict)  # person -> place
    mood_of: dict[str, str] = field(default_factory=dict)
    events: list[tuple[str, ...]] = field(default_factory=list)  # (verb, argument, ...), in order

    def apply(self, verb: str, *args: str) -> None:
        """Change the state by one event and remember it. Raises AssertionError when the state forbids it (a bug in a story shape)."""
        match verb, args:
            case ("have" | "make" | "buy" | "receive", (agent, thing, *_)):
                assert thing not in self.holder, f"{agent} cannot {verb} the {thing}: {self.holder.get(thing)} holds it"
                self.holder[thing] = agent
            case "lose", (agent, thing, place):
                self._take(agent, thing)
                self.lies_at[thing] = place
            case "hide", (agent, thing, place):
                self._take(agent, thing)
                self.lies_at[thing] = place
            case "save", (agent, thing):
                self.holder[thing] = agent
            case "take", (agent, thing, _):
                self.holder[thing] = agent
            case "find", (agent, thing, *place):  # the place may be left open
                assert not place or self.lies_at.get(thing, *place) == place[0], (
                    f"the {thing} lies at {self.lies_at[thing]}, not at {place[0]}"
                )
                self.lies_at.pop(thing, None)
                self.holder[thing] = agent
            case ("give" | "lend" | "return", (agent, other, thing)):
                self._take(agent, thing)
                self.holder[thing] = other
            case "swap", (agent, other, thing, other_thing):
                self._take(agent, thing)
                self._take(other, other_thing)
                self.holder[thing], self.holder[other_thing] = other, agent
            case "break", (_, thing):
                assert not self.is_broken.get(thing), f"the {thing} is broken already"
                self.is_broken[thing] = True
            case "mend", (_, thing):
                assert self.is_broken.get(thing), f"the {thing} is not broken"
                self.is_broken[thing] = False
            case "go", (agent, place):
                self.place_of[agent] = place
            case "feel", (agent, mood):
                self.mood_of[agent] = mood
        self.events.append((verb, *args))

    def _take(self, agent: str, thing: str) -> None:
        assert self.holder.get(thing) == agent, f"{agent} does not hold the {thing}: {self.holder.get(thing)} does"
        del self.holder[thing]
