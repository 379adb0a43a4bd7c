"""Questions about told events: for each kind of event, what can be asked about each of its arguments, and the answer in a sentence.

An event is (verb, argument, ...); ROLES names the arguments. A question is asked only if the events of the text allow one answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from recipes.tinytown import lexicon

ROLES = {
    "have": ("agent", "thing"), "lose": ("agent", "thing", "place"), "find": ("agent", "thing", "place"), "give": ("agent", "other", "thing"),
    "lend": ("agent", "other", "thing"), "return": ("agent", "other", "thing"), "buy": ("agent", "thing", "place"), "go": ("agent", "place"),
    "swap": ("agent", "other", "thing", "thing2"), "break": ("agent", "thing"), "mend": ("agent", "thing"), "feel": ("agent", "mood"),
    "cook": ("agent", "food"), "bring": ("agent", "other", "food"), "see": ("agent", "animal", "room"), "hear": ("agent", "noise", "room"),
    "quarrel": ("agent", "other", "thing"), "receive": ("agent", "thing", "other"), "buy_count": ("agent", "count", "good", "total"),
}  # fmt: skip
# (verb, role asked) -> (question, answer sentence)
QUESTIONS = {
    ("lose", "agent"): ("Who lost the {thing}?", "{agent} lost the {thing}."),
    ("lose", "thing"): ("What did {agent} lose?", "{agent} lost the {thing}."),
    ("lose", "place"): ("Where did {agent} lose the {thing}?", "{agent} lost the {thing} {at_place}."),
    ("find", "agent"): ("Who found the {thing}?", "{agent} found the {thing}."),
    ("find", "place"): ("Where did {agent} find the {thing}?", "{agent} found the {thing} {at_place}."),
    ("give", "agent"): ("Who gave {other} the {thing}?", "{agent} gave {other} the {thing}."),
    ("give", "thing"): ("What did {agent} give to {other}?", "{agent} gave {other} the {thing}."),
    ("give", "other"): ("Who was given the {thing}?", "{other} was given the {thing}."),
    ("lend", "agent"): ("Who lent {other} the {thing}?", "{agent} lent {other} the {thing}."),
    ("lend", "thing"): ("What did {agent} lend to {other}?", "{agent} lent {other} the {thing}."),
    ("buy", "thing"): ("What did {agent} buy?", "{agent} bought the {thing}."),
    ("buy", "place"): ("Where did {agent} buy the {thing}?", "{agent} bought the {thing} {at_place}."),
    ("go", "place"): ("Where did {agent} go?", "{agent} went to the {place}."),
    ("swap", "thing"): ("What did {agent} give away in the swap?", "{agent} gave away the {thing}."),
    ("swap", "thing2"): ("What did {agent} get in the swap?", "{agent} got the {thing2}."),
    ("break", "thing"): ("What did {agent} break?", "{agent} broke the {thing}."),
    ("break", "agent"): ("Who broke the {thing}?", "{agent} broke the {thing}."),
    ("mend", "agent"): ("Who mended the {thing}?", "{agent} mended the {thing}."),
    ("cook", "food"): ("What did {agent} cook?", "{agent} cooked {food}."),
    ("cook", "agent"): ("Who cooked the {food}?", "{agent} cooked the {food}."),
    ("bring", "other"): ("To whom did {agent} bring the {food}?", "{agent} brought the {food} to {other}."),
    ("see", "animal"): ("What animal was in the {room}?", "There was a {animal} in the {room}."),
    ("hear", "room"): ("Where did {agent} hear a noise?", "{agent} heard a noise in the {room}."),
    ("quarrel", "thing"): ("What did {agent} and {other} quarrel about?", "{agent} and {other} quarrelled about the {thing}."),
    ("receive", "thing"): ("What did {other} send to {agent}?", "{other} sent {agent} a {thing}."),
    ("receive", "other"): ("Who sent the {thing}?", "{other} sent the {thing}."),
    ("buy_count", "total"): ("How many coins did {agent} pay?", "{agent} paid {total} coins."),
    ("buy_count", "good"): ("What did {agent} buy at the stall?", "{agent} bought {good}."),
    ("feel", "mood"): ("How did {agent} feel?", "{agent} felt {mood}."),
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A question with its only answer. `category` says what other answers are of the same sort."""

    verb: str
    role: str
    question: str
    sentence: str  # the answer as a sentence
    answer: str  # the bare answer: a name, a noun, ...
    category: str  # person, thing, place, food, animal, room, number, mood


CATEGORY_OF_ROLE = {
    "agent": "person", "other": "person", "thing": "thing", "thing2": "thing", "place": "place", "food": "food", "animal": "animal",
    "room": "room", "mood": "mood", "total": "number", "count": "number", "good": "good", "noise": "noise",
}  # fmt: skip


def questions_about(events: list[tuple[str, ...]]) -> Iterator[Question]:
    """All questions about these events that have exactly one answer."""
    for event in events:
        verb, args = event[0], event[1:]
        roles = ROLES.get(verb, ())
        for role, answer in zip(roles, args, strict=False):
            if (verb, role) not in QUESTIONS:
                continue
            question, sentence = QUESTIONS[verb, role]
            given = {r: a for r, a in zip(roles, args, strict=False) if f"{{{r}}}" in question}
            rivals = {
                e[1 + roles.index(role)]
                for e in events
                if e[0] == verb and all(e[1 + roles.index(r)] == a for r, a in given.items())
            }
            if len(rivals) != 1:
                continue
            words = dict(zip(roles, args, strict=False))
            if "place" in words:
                words["at_place"] = f"{lexicon.PLACES[words['place']]} the {words['place']}"
            yield Question(
                verb, role, question.format(**words), sentence.format(**words), answer, CATEGORY_OF_ROLE[role]
            )


def rivals_in_category(category: str, answer: str) -> tuple[str, ...]:
    """Everything else of the same sort in the town's lexicon."""
    pools = {
        "person": lexicon.FEMALE_NAMES + lexicon.MALE_NAMES,
        "thing": tuple(lexicon.THINGS),
        "place": tuple(lexicon.PLACES),
        "food": lexicon.FOODS,
        "animal": lexicon.WILD_ANIMALS,
        "room": ("kitchen", "attic", "cellar", "shed", "hall", "pantry"),
        "mood": lexicon.MOODS,
        "number": tuple(lexicon_numbers()),
        "good": lexicon.GOODS,
    }
    return tuple(item for item in pools[category] if item != answer)


def lexicon_numbers() -> list[str]:
    from recipes.tinytown.english import number_word

    return [number_word(n) for n in range(2, 33)]
