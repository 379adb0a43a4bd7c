"""Tales: stories of three or four sentences, such as an answer can hold. Each tells of somebody ("h") and a thing ("t")."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from recipes.tinytown import lexicon
from recipes.tinytown.shapes.beats import introduce
from recipes.tinytown.shapes.registry import shape
from recipes.tinytown.telling import Scene

TALES: list[Callable[[Scene], None]] = []
INTRODUCED = 0.6  # of the tales that are documents begin with something about one of the two


def _cast(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t")
    s.place("p")
    s.word("day", lexicon.DAYS)


def tale(tell: Callable[[Scene], None]) -> Callable[[Scene], None]:
    """Register a tale, for requests and as a shape of documents."""

    @shape("tale", weight=6)
    @wraps(tell)
    def document(s: Scene) -> None:
        _cast(s)
        if not s.is_brief and s.chance(INTRODUCED):
            introduce(s, s.pick(("h", "f")))
        tell(s)

    TALES.append(tell)
    return tell


@tale
def found(s: Scene) -> None:
    s.do("find", "h", "t", "p")
    s.say(
        "One {day}, {p.at}, {h.name} found {t.a}.",
        "{h.name} was walking home on {day} when {h.he} found {t.a} {p.at}.",
        "{p.at}, {h.name} found {t.a}.",
    )
    s.say(
        "It belonged to {f.name}, who had [looked everywhere|almost given up hope].",
        '"That is the {t} of {f.name}!" {h} thought.',
        "The name on it was that of {f.name}.",
    )
    s.do("return", "h", "f", "t")
    s.do("feel", "f", "=happy")
    s.end(
        "{h} took it back at once, and {f.name} was happy.",
        "So {h} gave the {t} back to {f.name}, and both were happy.",
        "When {h} brought the {t} back, {f.name} was so happy that {f.he} [danced|sang|laughed].",
    )


@tale
def lost(s: Scene) -> None:
    s.do("have", "h", "t")
    s.do("lose", "h", "t", "p")
    s.say(
        "{h.name} lost {h.his} {t.full} {p.at} on {day}.",
        "On {day}, {p.at}, {h.name} lost {t.a}.",
        "{h.name} had {t.a}, but one {day} {h.he} lost it {p.at}.",
    )
    s.do("feel", "h", "=sad")
    s.say("{h} was sad and looked [all day|everywhere|until dark].", "How sad {h} was!", "{h} was too sad to eat.")
    s.do("find", "f", "t")
    s.say(
        "Then {f.name} found the {t} [in the grass|under a bench|behind a wall] and brought it back.",
        "In the evening {f.name} came with the {t} under one arm.",
        "The next day {f.name} found the {t} and returned it.",
    )
    s.end(
        "{h} [thanked|hugged] {f.name} and never lost it again.",
        "Now {h} takes better care of the {t}.",
        '"Thank you!" said {h.name}, and held the {t} tight.',
    )


@tale
def gift(s: Scene) -> None:
    s.do("buy", "h", "t", "p")
    s.say(
        "{h.name} bought {t.a} {p.at} for {f.names} birthday.",
        "For the birthday of {f.name}, {h.name} bought {t.a} {p.at}.",
    )
    s.say(
        "{h} hid it [under the bed|in a cupboard] until {day}.",
        "It cost all {h.his} coins.",
        "{h} wrapped it in [blue|brown] paper.",
    )
    s.do("give", "h", "f", "t")
    s.say("On {day} {h} gave the {t} to {f.name}.", "When {day} came, {f.name} unwrapped the {t}.")
    s.do("feel", "f", "=surprised")
    s.end(
        "{f} was so surprised that {f.he} could not speak.",
        '"The best {t} in the world!" said {f.name}, surprised and glad.',
        "{f} was surprised and [laughed|clapped|jumped] for joy.",
    )


@tale
def mended(s: Scene) -> None:
    s.do("have", "h", "t")
    s.do("break", "h", "t")
    s.say(
        "{h.name} dropped {h.his} {t.full} {p.at}, and it broke.",
        "{p.at}, {h.name} fell and broke {h.his} {t.full}.",
        "On {day} {h.name} broke {t.a} that {h.he} loved.",
    )
    s.say(
        "{h} took it to {f.name}, who had clever hands.",
        '"Let me see," said {f.name}.',
        "Nobody could help but {f.name}.",
    )
    s.do("mend", "f", "t")
    s.say("With glue and patience {f.name} mended the {t}.", "{f} mended the {t} in [an hour|two days|one evening].")
    s.do("feel", "h", "=grateful")
    s.end(
        "{h.name} was grateful and baked a cake for {f.him}.",
        "{h.name} was grateful, and the {t} was as good as new.",
        "Since then {h.name} is grateful, and more careful.",
    )


@tale
def lent(s: Scene) -> None:
    s.do("have", "f", "t")
    s.do("lend", "f", "h", "t")
    s.say("{f.name} lent {h.name} {t.a} for one {day}.", "{h.name} needed a {t}, and {f.name} lent {h.him} {t.a}.")
    s.do("go", "h", "p")
    s.say(
        "{h.name} went to {p} with it and [worked hard|had a good time|took great care].",
        "With the {t}, {h.name} went to {p}.",
    )
    s.do("return", "h", "f", "t")
    s.say(
        "On {day} evening {h} brought the {t} back, [clean and dry|with a bag of plums].",
        "Then {h} returned it to {f.name} with a smile.",
    )
    s.end(
        '"Any time," said {f.name}.', "They have been friends ever since.", "{f.name} was pleased, and so was {h.name}."
    )


@tale
def made(s: Scene) -> None:
    s.say("{h.name} wanted to make a {t} all by {h.self}.", '"I am going to make a {t}," said {h.name} on {day}.')
    s.say(
        "The first one fell apart, and so did the second.",
        "It was hard, and it took until {day}.",
        "{f.name} lent {h.obj} some tools.",
    )
    s.do("make", "h", "t")
    s.say("At last {h} had made {t.a}.", "In the end there it was: {t.a}, made by {h.name}.")
    s.do("feel", "h", "=proud")
    s.end(
        "{h} was proud and showed it to everyone {p.at}.",
        "{f.name} said that it was the finest {t} in town, and {h.name} was proud.",
        "Proud and happy, {h.name} carried it home.",
    )


@tale
def shared(s: Scene) -> None:
    s.do("quarrel", "h", "f", "t")
    s.say("{h.name} and {f.name} both wanted the {t.full}.", "{p.at}, {h.name} and {f.name} quarrelled over {t.a}.")
    s.do("feel", "h", "=angry")
    s.say("{h} was angry and [went home|would not speak].", '"It is mine!" said {f.name}, and {h.name} was angry.')
    s.say("On {day} they both said sorry.", "But soon {f.name} came back and said sorry.")
    s.end(
        "Now they share the {t}, one day each.",
        "Since then {h.name} and {f.name} have used the {t} together.",
        "A {t} is more fun for two, they found.",
    )


@tale
def swapped(s: Scene) -> None:
    s.word("good", lexicon.GOODS)
    s.do("have", "h", "t")
    s.say("{h.name} had {t.a} and wished for something else.", "{h.name} was tired of {h.his} {t.full}.")
    s.say(
        "{p.at}, {f.name} offered a bag of {good.plural} for it.",
        '"I shall give you {good.plural} for that {t}," said {f.name} on {day}.',
    )
    s.do("give", "h", "f", "t")
    s.say(
        "They shook hands, and {f.name} took the {t} home.",
        "So the {t} went to {f.name}, and the {good.plural} to {h.name}.",
    )
    s.end(
        "Both of them were happy with the bargain.",
        "{h.name} ate the {good.plural} on the way, and was happy.",
        "{f.name} has the {t} to this day.",
    )


def tell_tale(s: Scene) -> None:
    """Tell one of the tales."""
    _cast(s)
    s.pick(TALES)(s)
