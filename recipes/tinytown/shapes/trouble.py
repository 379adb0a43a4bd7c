"""Stories of trouble: storms, quarrels, mistakes, and how they end."""

from __future__ import annotations

from recipes.tinytown.shapes.beats import feel, open_story
from recipes.tinytown.shapes.registry import shape
from recipes.tinytown.telling import Scene


@shape("story")
def broken_and_mended(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", "toy music kitchen tool")
    s.place("p")
    open_story(s)
    s.do("have", "h", "t")
    s.say(
        "{h} had {t.a} that [had been a present|{h.he} was very fond of|was older than the house].",
        "On a shelf at home, {h} kept {t.a}.",
    )
    s.do("break", "h", "t")
    s.say(
        "One careless step, and {h} broke the {t}.",
        "{h} [tripped|slipped] {p.at}, fell on the {t} and broke it.",
        "Then {h} dropped the {t}, and it broke.",
    )
    feel(s, "h", s.pick(("sad", "ashamed", "angry")))
    s.maybe(0.5, '"It is only a crack," somebody said, but it was more than that.', "{h} gathered every last piece.")
    s.do("mend", "f", "t")
    s.say(
        "{f.name} asked to see it, and with [glue and string|a few small nails|wire and patience] {f.he} mended the {t}.",
        "It took {f.name} [a whole evening|two days|an hour], but {f.he} mended the {t}.",
    )
    s.do("feel", "h", "=grateful")
    s.end(
        "{h.name} was grateful, and the mended {t} was dearer to {h.him} than before, because {f.name} had mended it.",
        '"A mended {t} has a story to tell," said {f.name}, and {h.name} was grateful.',
        "Now the {t} stands on the windowsill, and {h.name} thinks gratefully of {f.name} when the light falls on it.",
    )


@shape("story")
def the_quarrel(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", "toy music paper tool")
    s.place("p")
    open_story(s)
    s.do("quarrel", "h", "f", "t")
    s.say(
        "{h} and {f.name} both wanted the same {t}, and so they quarrelled over it.",
        "{p.at}, {h.name} quarrelled with {f.name} over {t.a}.",
    )
    s.say(
        '"I saw it first!" cried {f.name}.',
        '"You always get everything," {h} complained.',
        "Neither would let go of the {t}.",
    )
    feel(s, "h", "angry")
    s.maybe(
        0.5,
        "For [a whole day|two days|an hour] they did not speak.",
        "They walked home on different sides of the street.",
    )
    s.do("feel", "f", "=ashamed")
    s.say("But {f.name} felt ashamed of the harsh words.", "At home, {f.name} thought about it and was ashamed.")
    s.do("give", "f", "h", "t") if s.world.holder.get(s.cast["t"].noun) else None
    s.say('"I am sorry," said {f.name} the next [day|morning].', "So {f} went to {h.name} and said sorry.")
    s.end(
        "{h.name} and {f.name} agreed to share the {t}, [one day each|turn by turn|week by week].",
        "They made up, and {h.name} and {f.name} found out that the {t} was more fun for two.",
    )


@shape("story", is_held_out=True)
def the_flood(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", "keepsake paper music clothing")
    s.place("p")
    open_story(s)
    s.do("have", "h", "t")
    s.say("After days of rain the river rose, and water ran into the house where {h} kept {h.his} {t.full}.")
    s.do("go", "h", "p")
    s.say("{h} had to leave, and went to {p} with all the neighbours.")
    feel(s, "h", "worried")
    s.do("bring", "f", "h", "t")
    s.say("Then {f.name} came in a rowing boat and brought {h.obj} the {t}, dry and safe.")
    s.end("When the water had gone, {h.name} hung the {t} by the door, and {f.name} was the first guest.")
