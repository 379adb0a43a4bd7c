"""Letters, dialogues, descriptions and how-tos."""

from __future__ import annotations

from recipes.tinytown import lexicon
from recipes.tinytown.shapes.beats import set_time
from recipes.tinytown.shapes.registry import shape
from recipes.tinytown.telling import Scene


@shape("letter")
def thank_you_letter(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t")
    s.place("p")
    set_time(s)
    s.do("receive", "h", "t", "f")
    s.line("Dear {f.name},", "My dear {f.name},")
    s.line(
        "thank you [so much |very much |]for the {t}.",
        "the {t} that you sent me came on {day}.",
        "what a surprise it was to unwrap the {t} on {day}!",
    )
    s.say(
        "I had always wanted a {t.full}.",
        "It is the finest {t} that I have ever had.",
        "Nobody else would have thought of a {t.full}.",
    )
    s.do("go", "h", "p")
    s.say(
        "On {day} I took it with me to {p}, and everybody [stared|wanted to see it|asked where it came from].",
        "I have already shown it to all my friends {p.at}.",
    )
    s.maybe(
        0.7,
        "The weather here is {weather}, and {weather_line} as I write.",
        "Nothing much has happened here otherwise.",
        "Are you well, and is the {h.job} garden in flower?" if False else "Are you well?",
    )
    s.maybe(
        0.6,
        "Do come and see me soon; I shall make {h.food}.",
        "When you come, there will be {h.food}, my favourite dish.",
    )
    s.line("With love,", "Your friend,", "Yours,", "Warm wishes,")
    s.line("{h.name}")


@shape("dialogue")
def at_the_stall(s: Scene) -> None:
    s.person("h", job=True)
    s.person("f")
    s.word("good", lexicon.GOODS)
    number = int(2 + s.random() * 7)
    price = int(1 + s.random() * 4)
    s.cast["count"] = lexicon_number(number)
    s.cast["price"] = f"{lexicon_number(price)} coin{'s' if price > 1 else ''}"
    s.cast["total"] = lexicon_number(number * price)
    set_time(s)
    s.line(
        '"Good {time}, {f.name}," said {h.name}. "What can I get you?"',
        '"Hello, {f.name}," said {h.name}. "What will it be on such a {weather} day?"',
    )
    s.line(
        '"I would like {count} {good.plural}, please," said {f.name}. "How much are they?"',
        '"What do the {good.plural} cost?" asked {f.name}. "I need {count}."',
    )
    s.line('"One {good} is {price}," said {h.name}.', '"They are {price} each," {h.name} answered.')
    s.do("buy_count", "f", "count", "good", "total")
    s.line(
        '"Then {count} {good.plural} make {total} coins," said {f.name}, and counted them out.',
        '"So that is {total} coins," said {f.name}, and paid.',
    )
    s.line(
        '"Thank you," said {h.name}. "Mind the step."', '"Thank you kindly," said {h.name}. "And a good {day} to you!"'
    )


def lexicon_number(number: int) -> str:
    from recipes.tinytown.english import number_word

    return number_word(number)


@shape("description")
def a_resident(s: Scene) -> None:
    h = s.person("h")
    s.say(
        "{h.name} lives {h.on_street}.",
        "If you walk down {h.street}, you will meet {h.name}.",
        "Everyone in {h.street} knows {h.name}.",
    )
    if h.job:
        s.say(
            "{h} is the {h.job} of Tinytown and {h.work} [all day|from morning to night|six days a week].",
            "{h.his} work is that of the {h.job}: {h} {h.work} {h.at_work}.",
        )
    else:
        s.say("{h} is a {h.child} who goes to the school.", "{h} is still a {h.child} and goes to school every day.")
    if h.pet:
        s.say(
            "At home a {h.pet} called {h.pet_name} is waiting for {h.obj}.",
            "{h.his} {h.pet} is called {h.pet_name}.",
            "{h} has a {h.pet} by the name of {h.pet_name}.",
        )
    s.say(
        "The dish that {h} likes best is {h.food}.",
        "For {h.food}, {h} would walk a mile.",
        "{h.his} favourite dish is {h.food}.",
    )
    s.say("In {h.his} free time {h} likes to {h.hobby}.", "What {h} likes to do on a free day is {h.hobby_ing}.")
    s.maybe(
        0.5,
        "There is hardly a kinder neighbour in town.",
        "Knock at the door, and you will be asked in.",
        "Ask {h.obj} the time, and you will get a story as well.",
    )


@shape("howto")
def how_to_plant(s: Scene) -> None:
    s.word("plant", lexicon.PLANTS)
    s.word("season", ("spring", "summer", "autumn"))
    s.cast["depth"] = s.pick(("two", "three", "four", "five"))
    s.cast["gap"] = s.pick(("a hand", "a foot", "two hands", "a long step"))
    s.line("How to plant {plant}", "Planting {plant}: what you need to know", "A row of {plant} in your garden")
    s.line("[Start|Begin] in {season}, when the ground is [soft|warm|not too wet].", "The right time is {season}.")
    s.line("First, [dig over the bed|loosen the soil|clear away the weeds] [with a spade|with a fork|by hand].")
    s.line(
        "Then make holes {depth} fingers deep and {gap} apart.",
        "Next, draw a line and press holes {depth} fingers deep, {gap} apart.",
    )
    s.line("Put [one seed|two seeds|three seeds] in each hole and [cover them with soil|pat the earth down gently].")
    s.line("Water them [in the evening|every other day|whenever the soil is dry], but not too much.")
    s.maybe(0.6, "Keep the snails away with [sand|ashes|crushed shells].", "A net will keep the birds off.")
    s.line("With [a little luck|some sun|patience], you will have {plant} before the year is out.")
