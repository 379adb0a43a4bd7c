"""Stories of gifts, loans, swaps and help."""

from __future__ import annotations

from recipes.tinytown import lexicon
from recipes.tinytown.shapes.beats import feel, open_story
from recipes.tinytown.shapes.registry import shape
from recipes.tinytown.telling import Scene


@shape("story")
def birthday_gift(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t")
    s.place("p")
    open_story(s)
    s.say(
        "{f.names} birthday was [only two days away|coming soon|the next day], and {h} had no present yet.",
        "{h} wanted to give {f.name} something [special|nice] for {f.his} birthday.",
    )
    s.maybe(
        0.5,
        "{h} counted {h.his} coins twice.",
        "What do you give someone who has everything?",
        "{h} asked around, but nobody had an idea.",
    )
    s.do("buy", "h", "t", "p")
    s.say(
        "Then, {p.at}, a pedlar was selling all sorts of things, and {h} bought {t.a}.",
        "{h} went from stall to stall {p.at} and bought {t.a}[ at last|].",
        "{p.at}, {h} saw {t.a} and bought it [on the spot|at once|after some thought].",
    )
    s.maybe(
        0.6,
        "{h} wrapped it in [brown paper|an old newspaper|a clean cloth].",
        "All night long it lay hidden under {h.his} bed.",
    )
    s.do("give", "h", "f", "t")
    s.say(
        "On the day itself, {h} gave the {t} to {f.name}.",
        "{h} gave {f.name} the {t} [with both hands|at the party|before breakfast].",
    )
    feel(s, "f", s.pick(("happy", "surprised", "excited")))
    s.end(
        '"How did you know that I wanted a {t}?" said {f.name}, and {h.name} only smiled.',
        "{f.name} [showed the {t} to everyone|carried the {t} about all day|put the {t} on the best shelf], and {h.name} was glad.",
        "{f.name} thanked {h.name} and said that it was the best {t} in town.",
    )


@shape("story")
def borrowed_thing(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", "tool kitchen toy music paper")
    s.place("p")
    s.cast["days"] = s.pick(("two", "three", "four", "five", "six"))
    open_story(s)
    s.do("have", "f", "t")
    s.say(
        "{h} needed a {t}, but only {f.name} had one.",
        "There was just one {t} in the street, and it belonged to {f.name}.",
    )
    s.do("lend", "f", "h", "t")
    s.say(
        "{f.name} lent {h.obj} the {t} for {days} days.",
        '"You may have it for {days} days," said {f.name}, and lent {h.obj} the {t}.',
    )
    s.do("go", "h", "p")
    s.say(
        "{h} took it to {p} and [used it all afternoon|put it to good use|was very careful with it].",
        "With the {t} under {h.his} arm, {h} went to {p}.",
    )
    s.maybe(
        0.5,
        "When it began to rain, {h} kept the {t} dry under {h.his} coat.",
        "Twice somebody asked to have a go with it, and twice {h} said no.",
    )
    s.do("return", "h", "f", "t")
    s.say(
        "After {days} days {h} brought the {t} back to {f.name}, [clean and shining|as good as new|with a note of thanks].",
        "On the last day {h} returned the {t} to {f.name}.",
    )
    feel(s, "f", s.pick(("happy", "grateful")), sign_rate=0.2)
    s.end(
        '"You can borrow my {t} any time," {f.name} told {h.name}.',
        "{h.name} knew that a borrowed {t} is a promise, and {f.name} knew it too.",
        "Since then {f.name} and {h.name} have shared the {t} [like old friends|without a single quarrel].",
    )


@shape("story")
def the_swap(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", "toy music paper keepsake clothing")
    s.thing("u", "toy music paper keepsake clothing")
    s.place("p")
    open_story(s)
    s.do("have", "h", "t")
    s.say("{h} had {t.a} and was tired of it.", "For years {h} had owned {t.a}, but {h.he} hardly looked at it now.")
    s.do("have", "f", "u")
    s.say(
        "{f.name} had {u.a}.",
        "{f.name}, on the other hand, owned {u.a}.",
        "At the same time {f.name} had {u.a} that nobody used.",
    )
    s.do("swap", "h", "f", "t", "u")
    s.say(
        "They met {p.at} and swapped: the {t} for the {u}.",
        "One day, {p.at}, {h} swapped the {t} for the {u} that belonged to {f.name}.",
        '"Shall we swap?" asked {f.name} when they met {p.at}. So {h.name} handed over the {t} and took the {u}.',
    )
    feel(s, "h", s.pick(("happy", "excited")))
    s.maybe(
        0.5,
        "Old things are new to somebody else.",
        "It was a fair bargain, and they shook hands on it.",
        "Each thought that the other had been too kind.",
    )
    s.end(
        "{h.name} took the {u} home, {f.name} took the {t}, and both of them were pleased.",
        "That evening {h.name} fell asleep beside the {u}, and {f.name} beside the {t}.",
        "Neither {h.name} nor {f.name} ever asked for the other thing back, for the {u} suited one and the {t} the other.",
    )


@shape("story")
def soup_for_the_sick(s: Scene) -> None:
    s.people("h", "f")
    s.word("food", lexicon.FOODS)
    open_story(s)
    s.cast["illness"] = s.pick(("a bad cold", "a fever", "a sore throat", "a cough", "a headache"))
    s.say("{f.name} was in bed with {illness}.", "[On that day|That week] {f.name} had {illness} and could not get up.")
    s.do("cook", "h", "food")
    s.say(
        "When {h} heard of it, {h.he} cooked {food}[ from an old recipe|].",
        "So {h} stood in the kitchen and cooked {food}.",
    )
    s.maybe(
        0.5,
        "The smell of it filled {h.street}.",
        "It took three pots and most of the morning.",
        "{h} tasted it twice and added a pinch of salt.",
    )
    s.do("bring", "h", "f", "food")
    s.say(
        "{h} brought the {food} to {f.name}, [still warm|wrapped in a towel|in a covered dish].",
        "Then {h} carried the {food} to {f.name} through the [wind|wet streets|back gate].",
    )
    s.say("{f.name} ate [every bite|two helpings|slowly and with closed eyes].", "{f} sat up and ate all of it.")
    feel(s, "f", s.pick(("grateful", "happy")))
    s.end(
        "A few days later {f.name} was well again, and said that the {food} from {h.name} had done it.",
        '"Your {food} is better than any medicine," {f.name} told {h.name}.',
    )
