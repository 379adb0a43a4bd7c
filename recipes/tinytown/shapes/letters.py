"""Letters, notes and diaries."""
# ruff: noqa: E501 - a sentence stays on its line

from __future__ import annotations

from recipes.tinytown import lexicon
from recipes.tinytown.shapes.beats import set_time
from recipes.tinytown.shapes.registry import shape
from recipes.tinytown.telling import Scene

SALUTATIONS = ("Dear {f.name},", "My dear {f.name},", "Good {f.name},", "Dearest {f.name},", "Hello {f.name},")
FAREWELLS = (
    "With love,",
    "Your friend,",
    "Yours,",
    "Warm wishes,",
    "Yours truly,",
    "In haste,",
    "Until soon,",
    "Best wishes from {h.street},",
)


def _begin(s: Scene) -> None:
    s.people("h", "f")
    set_time(s)
    s.line(*SALUTATIONS)


def _chat(s: Scene) -> None:
    """A remark or two such as people make in letters."""
    s.maybe(
        0.6,
        "The weather here is {weather}, and {weather_line} as I write.",
        "Otherwise nothing much has happened {h.on_street}.",
        "I still {h.hobby} whenever there is time.",
        "{h.pet_name} sends a bark, or whatever it is that a {h.pet} sends."
        if s.cast["h"].pet
        else "I have been thinking of getting a dog.",
    )
    s.maybe(
        0.5,
        "Do come and see me soon; I shall make {h.food}.",
        "When you come, there will be {h.food}, my favourite dish.",
        "Do you still {f.hobby} so much?",
        "How is everyone in {f.street}?",
        "Are you still the busiest {f.job} in town?" if s.cast["f"].job else "What do you learn at school now?",
    )


def _end(s: Scene) -> None:
    s.line(*FAREWELLS)
    s.line("{h.name}")


@shape("letter")
def thank_you_letter(s: Scene) -> None:
    _begin(s)
    s.thing("t")
    s.place("p")
    s.do("receive", "h", "t", "f")
    s.line(
        "Thank you [so much |very much |]for the {t}.",
        "The {t} that you sent me came on {day}.",
        "What a surprise it was to unwrap the {t} on {day}!",
    )
    s.say(
        "I had always wanted a {t.full}.",
        "It is the finest {t} that I have ever had.",
        "Nobody [else|but you, {f.name},] would have thought of a {t.full}.",
    )
    s.do("go", "h", "p")
    s.say(
        "On {day} I took it with me to {p}, and everybody [stared|wanted to see it|asked where it came from].",
        "I have already shown [it|the {t}] to [all my friends|everybody] {p.at}.",
    )
    _chat(s)
    _end(s)


@shape("letter")
def invitation(s: Scene) -> None:
    _begin(s)
    s.place("p")
    s.word("food", lexicon.FOODS)
    s.word("hour", ("three", "four", "five", "six", "seven"))
    s.word(
        "occasion",
        (
            "my birthday",
            "the end of the harvest",
            "the new roof",
            "my parents' wedding day",
            "the first day of spring",
            "my prize",
            "a little concert",
        ),
    )
    s.do("invite", "h", "f", "p")
    s.line(
        "We are celebrating {occasion} on {day}, and you must come.",
        "On {day} there will be a party for {occasion}, and I hope that you can come.",
        "Will you come to a party for {occasion}? It is on {day}.",
    )
    s.say(
        "It begins at {hour} o'clock {p.at}.", "We meet {p.at} at {hour}.", "Come to {p} at {hour}, or a little before."
    )
    s.do("cook", "h", "food")
    s.say("There will be {food} for all.", "I am making {food}.", "If you like {food}, come hungry.")
    s.maybe(
        0.5,
        "Bring [a song|a chair|your dancing shoes], if you can.",
        "[Nobody has to|Please do not] bring a present[, {f.name}|].",
        "{weather.cap} or not, we shall [sing|dance|eat] outside.",
    )
    _chat(s)
    s.say("Please let me know [soon|by Thursday|in time].", "Say yes!", "Do write back.")
    _end(s)


@shape("letter")
def apology_letter(s: Scene) -> None:
    _begin(s)
    s.thing("t", "tool kitchen toy music paper")
    s.place("p")
    s.do("have", "f", "t")
    s.do("lend", "f", "h", "t")
    s.do("lose", "h", "t", "p")
    s.line(
        "I have [something to tell you|to tell you something|bad news], and I am [ashamed of it|sorry to write it].",
        "Please sit down before you read on.",
        "This is not an easy letter.",
    )
    s.say(
        "The {t.full} [that you lent me|of yours] is gone, {f.name}.", "You lent me your {t.full}, and I have lost it."
    )
    s.say(
        "I had the {t} with me {p.at}, [put it down for a minute|set it on a stone|looked away once], and [then it was not there|it was gone on {day}|somebody must have taken it].",
        "It must have happened {p.at}, [in the crowd|when it got dark|on {day}].",
    )
    s.say(
        "I have gone back to {p} [twice|many times|every {time}], but [no luck|there is no {t}|in vain].",
        "Nobody [has handed it in|knows anything|saw a {t} there].",
    )
    s.say(
        "I shall buy you another {t} [as soon as I have the money|when I am paid].",
        "On {day} I am going to look for another {t} just like it.",
        "I know that [another {t}|any other {t}] is not the same.",
    )
    s.maybe(0.5, "Can you forgive me?", "I hope that we are still friends.", "You have every right to be cross.")
    _end(s)


@shape("letter")
def news_from_home(s: Scene) -> None:
    _begin(s)
    s.person("x", job=True)
    s.place("p")
    s.place("q")
    s.thing("t")
    s.line(
        "You asked for news, so here it is.",
        "A great deal has happened since you left.",
        "It is time that I wrote to you.",
    )
    s.do("have", "x", "t")
    s.do("lose", "x", "t", "p")
    s.say(
        "{x.name} the {x.job} has lost a {t.full} {p.at}, and everybody is looking for it.",
        "Do you remember the {t.full} of {x.name}, our {x.job}? It got lost {p.at}.",
    )
    s.do("build", "q")
    s.say(
        "A new [bench|lamp|sign|railing] has been put up near {q}.", "There was a [dance|fair|concert] by {q} on {day}."
    )
    s.say("It has been {weather} all week.", "We have had nothing but {weather} days.")
    s.maybe(0.5, "As for me, I {h.hobby} and wait for the spring.", "At home all is well {h.on_street}.")
    _chat(s)
    s.say("Now you know as much as I do.", "That is all for today.", "More the next time.")
    _end(s)


@shape("letter")
def a_request(s: Scene) -> None:
    _begin(s)
    s.thing("t", "tool kitchen music")
    s.word(
        "job",
        (
            "paint the shed",
            "pick the apples",
            "move the piano",
            "clear the attic",
            "dig a pond",
            "whitewash the kitchen",
            "catch a mouse",
            "hang the curtains",
        ),
    )
    s.word("hour", ("eight", "nine", "ten", "two", "three"))
    s.do("ask", "h", "f", "t")
    s.line(
        "I need your help.",
        "May I ask you for a favour?",
        "You are the only one [I can ask|in {f.street} whom I can ask].",
    )
    s.say("On {day} I want to {job}, and for that I need a {t}.", "I am going to {job} on {day}, but I have no {t}.")
    s.say(
        "Could you lend me your {t.full}, and perhaps a hand as well?",
        "Would you bring your {t.full} along?",
        "Your {t.full} would be just the thing.",
    )
    s.say("I would start at {hour}[, if that suits you|].", "{hour.cap} o'clock would be a good time.")
    _chat(s)
    s.say(
        "There is {h.food} in it for you.",
        "I shall do the same for you one day.",
        "Afterwards we can {h.hobby} together.",
    )
    _end(s)


@shape("letter")
def diary_page(s: Scene) -> None:
    s.person("h")
    s.person("f")
    set_time(s)
    s.place("p")
    s.thing("t")
    s.word("food", lexicon.FOODS)
    s.line("{day}, {weather}", "Diary of {h.name}, {day}", "{day} {time}")
    s.line("Got up late, for {weather_line}.", "Slept badly. At dawn {weather_line}.", "A {weather} start.")
    s.do("go", "h", "p")
    s.maybe(
        0.7,
        "Ate what was left of the {h.food}.",
        "The roof of the shed needs mending.",
        "A letter from my cousin at last.",
    )
    s.say(
        "Went to {p} and met {f.name}.",
        "{f.name} came by, and we went to {p}.",
        "Walked as far as {p}, where I met {f.name}.",
    )
    s.do("buy", "f", "t", "p")
    s.say(
        "{f.name} has bought {t.a} and cannot stop talking about it.",
        "{f.name} showed me {t.a}, bought that very morning.",
        "{f.he} had bought {t.a}. What for?",
    )
    s.do("cook", "h", "food")
    s.say(
        "Cooked {food} for dinner[, too much as always|].",
        "In the evening I made {food}.",
        "Supper: {food}, and it was good.",
    )
    s.maybe(
        0.6,
        "Tried to {h.hobby} for a while, without much luck.",
        "I wanted to {h.hobby}, but there was no time.",
        "Wrote two letters and posted one.",
    )
    s.say(
        "Tomorrow will be better.",
        "A good day, all in all.",
        "Must not forget: {t} for [my sister|the shop|Sunday].",
        "So to bed.",
    )


@shape("letter", is_held_out=True)
def letter_to_the_paper(s: Scene) -> None:
    s.people("h", "f")
    set_time(s)
    s.place("p")
    s.thing("t")
    s.line("To the printer of the town's newspaper:")
    s.do("see", "h", "t", "p")
    s.line(
        "On {day} I saw {t.a} lying {p.at}, and nobody was to be seen.", "For a week now {t.a} has been lying {p.at}."
    )
    s.say(
        "{f.name} says that somebody must have thrown it out of a coach.", "I asked {f.name}, but {f.he} knew nothing."
    )
    s.say(
        "A town that leaves a {t} in the rain ought to think about itself.",
        "Whoever owns the {t} may knock at my door {h.on_street}.",
    )
    s.line("{h.name}")
