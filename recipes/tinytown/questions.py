"""Questions about told events: for each kind of event, what can be asked about each of its arguments, and the answer in a sentence.

An event is (verb, argument, ...); ROLES names the arguments. A question is asked only if the events of the text allow one answer.
"""
# ruff: noqa: E501 - a sentence stays on its line

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from recipes.tinytown import english, lexicon
from recipes.tinytown.breadth import FULL, Breadth

ROLES = {
    "act": ("agent", "role", "place"), "bake": ("agent", "number", "place"), "borrow": ("agent", "book", "topic"), "break": ("agent", "thing"),
    "bring": ("agent", "other", "food"), "bring_along": ("agent", "food"), "buy": ("agent", "thing", "place"), "buy_count": ("agent", "count", "good", "total"),
    "catch": ("agent", "number", "fish"), "cook": ("agent", "food"), "do_deed": ("agent", "deed"), "enter": ("agent", "contest", "place"),
    "fear": ("agent", "fear"), "feel": ("agent", "mood"), "fetch": ("agent", "thing", "tool"), "find": ("agent", "thing", "place"),
    "find_one": ("agent", "pet", "place"), "find_cause": ("agent", "cause", "room"), "give": ("agent", "other", "thing"), "go": ("agent", "place"),
    "harvest": ("agent", "number", "plant"), "have": ("agent", "thing"), "have_coins": ("agent", "number"), "hear": ("agent", "noise", "room"),
    "help": ("agent", "other"), "hide_self": ("agent", "spot"), "ill": ("agent", "illness"), "invite": ("agent", "number", "place"),
    "keep_coins": ("agent", "number"), "late": ("hours", "reason"), "learn": ("agent", "skill", "weeks"), "lend": ("agent", "other", "thing"),
    "lose": ("agent", "thing", "place"), "make": ("agent", "thing"), "meet": ("agent", "other", "place"), "mend": ("agent", "thing"),
    "move": ("agent", "street"), "paint": ("agent", "object", "colour"), "pass_time": ("agent", "pastime"), "pick": ("agent", "number", "berry"),
    "plant": ("agent", "plant", "place"), "play": ("agent", "song", "thing"), "promise": ("agent", "other", "deed"), "quarrel": ("agent", "other", "thing"),
    "receive": ("agent", "thing", "other"), "receive_prize": ("agent", "prize"), "rescue": ("agent", "animal", "place"), "return": ("agent", "other", "thing"),
    "see": ("agent", "animal", "room"), "steal": ("thief", "food"), "swap": ("agent", "other", "thing", "thing2"), "teach": ("agent", "other", "skill"),
    "together": ("total", "fish"), "visit": ("agent", "relation", "origin"), "win": ("agent", "contest"),
}  # fmt: skip
# (verb, role asked) -> (question, answer sentence)
QUESTIONS = {
    ("act", "role"): ("What part did {agent} play?", "{agent} played {role}."),
    ("borrow", "topic"): ("What was the book of {agent} about?", "The book was about {topic}."),
    ("break", "thing"): ("What did {agent} break?", "{agent} broke the {thing}."),
    ("break", "agent"): ("Who broke the {thing}?", "{agent} broke the {thing}."),
    ("bring", "other"): ("To whom did {agent} bring the {food}?", "{agent} brought the {food} to {other}."),
    ("bring_along", "food"): ("What did {agent} bring to eat?", "{agent} brought {food}."),
    ("buy", "thing"): ("What did {agent} buy?", "{agent} bought the {thing}."),
    ("buy", "place"): ("Where did {agent} buy the {thing}?", "{agent} bought the {thing} {at_place}."),
    ("buy_count", "total"): ("How many coins did {agent} pay?", "{agent} paid {total} coins."),
    ("buy_count", "good"): ("What did {agent} buy at the stall?", "{agent} bought some {goods}."),
    ("catch", "number"): ("How many {fish} did {agent} catch?", "{agent} caught {number} {fish}."),
    ("cook", "food"): ("What did {agent} cook?", "{agent} cooked {food}."),
    ("cook", "agent"): ("Who cooked the {food}?", "{agent} cooked the {food}."),
    ("fear", "fear"): ("What was {agent} afraid of?", "{agent} was afraid of {fear}."),
    ("feel", "mood"): ("How did {agent} feel?", "{agent} felt {mood}."),
    ("fetch", "agent"): ("Who got the {thing} down?", "{agent} got the {thing} down."),
    ("find", "agent"): ("Who found the {thing}?", "{agent} found the {thing}."),
    ("find", "place"): ("Where did {agent} find the {thing}?", "{agent} found the {thing} {at_place}."),
    ("find_one", "agent"): ("Who found {pet}?", "{agent} found {pet}."),
    ("find_one", "place"): ("Where did {agent} find {pet}?", "{agent} found {pet} {at_place}."),
    ("find_cause", "cause"): ("What was the cause of the water in the {room}?", "The cause was {cause}."),
    ("find_cause", "agent"): ("Who found the cause of the water?", "{agent} found the cause."),
    ("give", "agent"): ("Who gave {other} the {thing}?", "{agent} gave {other} the {thing}."),
    ("give", "thing"): ("What did {agent} give to {other}?", "{agent} gave {other} the {thing}."),
    ("give", "other"): ("Who was given the {thing}?", "{other} was given the {thing}."),
    ("go", "place"): ("Where did {agent} go?", "{agent} went to the {place}."),
    ("harvest", "plant"): ("What did {agent} harvest?", "{agent} harvested {plant}."),
    ("have_coins", "number"): ("How many coins did {agent} have at first?", "{agent} had {number} coins at first."),
    ("hear", "room"): ("Where did {agent} hear a noise?", "{agent} heard a noise in the {room}."),
    ("help", "agent"): ("Who helped {other}?", "{agent} helped {other}."),
    ("ill", "illness"): ("What was wrong with {agent}?", "{agent} had {illness}."),
    ("keep_coins", "number"): ("How many coins were left?", "There were {number} left."),
    ("late", "reason"): ("Why was the coach late?", "It was late because of {reason}."),
    ("lend", "agent"): ("Who lent {other} the {thing}?", "{agent} lent {other} the {thing}."),
    ("lend", "thing"): ("What did {agent} lend to {other}?", "{agent} lent {other} the {thing}."),
    ("lose", "agent"): ("Who lost the {thing}?", "{agent} lost the {thing}."),
    ("lose", "thing"): ("What did {agent} lose?", "{agent} lost the {thing}."),
    ("lose", "place"): ("Where did {agent} lose the {thing}?", "{agent} lost the {thing} {at_place}."),
    ("make", "thing"): ("What did {agent} make?", "{agent} made a {thing}."),
    ("meet", "other"): ("Whom did {agent} meet?", "{agent} met {other}."),
    ("meet", "place"): ("Where did {agent} meet {other}?", "{agent} met {other} {at_place}."),
    ("mend", "agent"): ("Who mended the {thing}?", "{agent} mended the {thing}."),
    ("paint", "colour"): ("What colour did {agent} paint the {object}?", "{agent} painted the {object} {colour}."),
    ("paint", "object"): ("What did {agent} paint?", "{agent} painted the {object}."),
    ("pass_time", "agent"): ("Whose idea was it to {pastime}?", "It was the idea of {agent}."),
    ("pick", "number"): ("How many pails did {agent} pick?", "{agent} picked {number} pails."),
    ("plant", "plant"): ("What did {agent} plant?", "{agent} planted {plant}."),
    ("plant", "place"): ("Where did {agent} plant the {plant}?", "{agent} planted the {plant} {at_place}."),
    ("play", "song"): ("What did {agent} play on the {thing}?", "{agent} played {song}."),
    ("promise", "deed"): ("What did {agent} promise to do?", "{agent} promised to {deed}."),
    ("quarrel", "thing"): ("What did {agent} and {other} quarrel about?", "{agent} and {other} quarrelled about the {thing}."),
    ("receive", "thing"): ("What did {agent} get as a present?", "{agent} got a {thing}."),
    ("receive_prize", "prize"): ("What was the prize?", "The prize was {prize}."),
    ("rescue", "agent"): ("Who rescued the {animal}?", "{agent} rescued the {animal}."),
    ("rescue", "animal"): ("What animal did {agent} rescue?", "{agent} rescued the {animal}."),
    ("see", "animal"): ("What animal was in the {room}?", "There was a {animal} in the {room}."),
    ("steal", "thief"): ("Who stole the {food}?", "It was {thief} that stole the {food}."),
    ("swap", "thing"): ("What did {agent} give away in the swap?", "{agent} gave away the {thing}."),
    ("swap", "thing2"): ("What did {agent} get in the swap?", "{agent} got the {thing2}."),
    ("teach", "skill"): ("What did {agent} teach {other}?", "{agent} taught {other} to {skill}."),
    ("teach", "agent"): ("Who taught {other} to {skill}?", "{agent} taught {other} to {skill}."),
    ("visit", "relation"): ("Who came to visit {agent}?", "The {relation} of {agent} came to visit."),
    ("win", "agent"): ("Who won the {contest}?", "{agent} won the {contest}."),
}  # fmt: skip
POOLS = {  # category -> everything of that sort
    "person": lexicon.FEMALE_NAMES + lexicon.MALE_NAMES, "thing": tuple(lexicon.THINGS), "place": tuple(lexicon.PLACES), "food": lexicon.FOODS,
    "animal": (*lexicon.WILD_ANIMALS, "goat kid", "fox cub"), "room": lexicon.ROOMS, "mood": lexicon.MOODS, "good": lexicon.GOODS, "colour": lexicon.COLOURS,
    "number": tuple(english.number_word(n) for n in range(2, 21)), "cause": lexicon.LEAK_CAUSES, "contest": lexicon.CONTESTS, "deed": lexicon.DEEDS,
    "fear": lexicon.FEARS, "illness": lexicon.ILLNESSES, "object": lexicon.PAINTABLES, "plant": lexicon.PLANTS, "prize": lexicon.PRIZES,
    "reason": lexicon.DELAYS, "relation": lexicon.RELATIONS, "role": lexicon.ROLES_IN_PLAYS, "skill": lexicon.SKILLS, "song": lexicon.SONGS,
    "thief": lexicon.THIEVES, "topic": lexicon.TOPICS,
}  # fmt: skip
CATEGORY_OF_ROLE = {
    "agent": "person",
    "other": "person",
    "thing2": "thing",
    "total": "number",
}  # the others are called like their role


@dataclass(frozen=True)
class Question:
    """A question with its only answer. `category` says what other answers are of the same sort."""

    verb: str
    role: str
    question: str
    sentence: str  # the answer as a sentence
    answer: str  # the bare answer: a name, a noun, ...
    category: str  # a key of POOLS
    pattern: str  # the sentence with "{answer}" in the answer's place

    def sentence_for(self, answer: str) -> str:
        """The sentence with another answer in it."""
        at_place = f"{lexicon.PLACES.get(answer, 'at')} the {answer}"
        return english.fix_articles(
            self.pattern.format(answer=english.plural(answer) if self.category == "good" else answer, at_place=at_place)
        )


def questions_about(events: list[tuple[str, ...]]) -> Iterator[Question]:
    """All questions about these events that have exactly one answer."""
    for event in events:
        verb, args = event[0], event[1:]
        roles = ROLES.get(verb, ())
        words = dict(zip(roles, args, strict=False))
        for role, answer in words.items():
            category = CATEGORY_OF_ROLE.get(role, role)
            if (verb, role) not in QUESTIONS or answer not in _pool(category):
                continue
            question, sentence = QUESTIONS[verb, role]
            given = [r for r in words if f"{{{r}}}" in question]
            same = [e for e in events if e[0] == verb and all(e[1 + roles.index(r)] == words[r] for r in given)]
            if len({e[1 + roles.index(role)] for e in same}) != 1:
                continue
            if (verb, role) == ("go", "place") and _other_places(events, answer):
                continue  # whoever lost a thing at the well has been there, too
            blanked = words | {role: "{answer}", "goods": "{answer}"}
            if role == "place":
                blanked["at_place"] = "{at_place}"
            elif "place" in words:
                blanked["at_place"] = (
                    f"{lexicon.PLACES[words['place']]} the {words['place']}" if words["place"] in lexicon.PLACES else ""
                )
            item = Question(
                verb,
                role,
                english.fix_articles(question.format(**words)),
                "",
                answer,
                category,
                sentence.format(**blanked),
            )
            yield Question(verb, role, item.question, item.sentence_for(answer), answer, category, item.pattern)


def _other_places(events: list[tuple[str, ...]], place: str) -> bool:
    """Whether something happened at another place."""
    return any(arg in lexicon.PLACES and arg != place for event in events for arg in event[1:])


@cache
def _pool(category: str) -> frozenset[str]:
    held_out = lexicon.HELD_OUT_FEMALE_NAMES + lexicon.HELD_OUT_MALE_NAMES if category == "person" else ()
    return frozenset(POOLS[category] + held_out)


def rivals_in_category(category: str, answer: str, breadth: Breadth = FULL) -> tuple[str, ...]:
    """Everything else of the same sort that texts of this breadth tell of."""
    return tuple(item for item in _told_of(category, breadth) if item != answer)


@cache
def _told_of(category: str, breadth: Breadth) -> tuple[str, ...]:
    """The category's pool as far as texts of this breadth draw from it, in its order."""
    match category:
        case "person":
            names = {person.name for person in breadth.town().people}
            return tuple(name for name in POOLS[category] if name in names)
        case "thing":
            return breadth.things()
        case "number" | "mood":  # drawn from all
            return POOLS[category]
    return breadth.some(POOLS[category])
