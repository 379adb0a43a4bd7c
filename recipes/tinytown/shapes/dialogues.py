"""Dialogues: at a stall, asking the way, making plans, gossip, riddles."""
# ruff: noqa: E501 - a sentence stays on its line

from __future__ import annotations

from recipes.tinytown import lexicon
from recipes.tinytown.english import number_word
from recipes.tinytown.shapes.beats import set_time
from recipes.tinytown.shapes.registry import shape
from recipes.tinytown.telling import Scene


@shape("dialogue")
def at_the_stall(s: Scene) -> None:
    s.person("h")
    s.person("f")
    s.word("good", lexicon.GOODS)
    count, price = int(2 + s.random() * 7), int(1 + s.random() * 4)
    s.cast |= {"count": number_word(count), "total": number_word(count * price)}
    s.cast["price"] = f"{number_word(price)} coin{'s' if price > 1 else ''}"
    set_time(s)
    s.line(
        '"Good {time}, {f.name}," said {h.name}. "What can I get you?"',
        '"Hello, {f.name}," said {h.name}. "What will it be on such a {weather} day?"',
        '"Who is next?" asked {h.name}. "Ah, {f.name}!"',
    )
    s.line(
        '"I would like {count} {good.plural}, please," said {f.name}. "How much are they?"',
        '"What do the {good.plural} cost?" asked {f.name}. "I need {count}."',
        '"Are these {good.plural} fresh?" asked {f.name}. "Then I will take {count}."',
    )
    s.line(
        '"One {good} is {price}," said {h.name}.',
        '"They are {price} each," {h.name} answered.',
        '"For you, {price} apiece," said {h.name}.',
    )
    s.do("buy_count", "f", "count", "good", "total")
    s.line(
        '"Then {count} {good.plural} make {total} coins," said {f.name}, and counted them out.',
        '"So that is {total} coins," said {f.name}, and paid.',
        '"{total.cap} coins, then," said {f.name}. "Here you are."',
    )
    if s.chance(0.6):
        ask, *answers = s.pick(
            (
                ("Will you {f.hobby} later?", '"If there is time," said {f.name}.', '"Perhaps," said {f.name}. "We shall see."'),
                ("Are you making {f.food} again?", '"As always," said {f.name}.', '"Perhaps," said {f.name}. "We shall see."'),
                ("How is life {f.on_street}?", '"As always," said {f.name}.', '"I cannot complain," said {f.name}.'),
            )
        )  # fmt: skip
        s.line(f'"{ask}" asked {{h.name}}.')
        s.line(*answers)
    s.line(
        '"Thank you," said {h.name}. "Mind the step."',
        '"Thank you kindly," said {h.name}. "And a good {day} to you!"',
        '"Until next {day}," said {h.name}.',
    )


@shape("dialogue")
def asking_the_way(s: Scene) -> None:
    s.person("h")
    s.person("f")
    s.place("p")
    s.place("q")
    s.word("turn", ("left", "right"))
    s.word("number", ("two", "three", "four", "five", "ten"))
    s.do("go", "h", "p")
    s.line(
        '"Excuse me," said {h.name}, "how do I get to {p}?"',
        '"Is this the way to {p}?" {h.name} asked.',
        '"I am looking for {p}," said {h.name}.',
    )
    s.line(
        '"That is easy," said {f.name}. "Go down {f.street} and turn {turn} at the corner."',
        '"From here?" said {f.name}. "Walk along {f.street}, then turn {turn}."',
        '{f.name} pointed with a thumb. "Down {f.street}, and then {turn}."',
    )
    s.line('"And after that?"', '"Is it far?" asked {h.name}.', '"And then?" {h.name} wanted to know.')
    s.line(
        '"You go past {q}, and in {number} minutes you are there," said {f.name}.',
        '"It is {number} minutes on foot," said {f.name}, "and you will see {q} on the way."',
    )
    s.line(
        '"Past {q}, {number} minutes. Thank you!" said {h.name}.',
        '"So {turn} and past {q}," said {h.name}. "I am much obliged."',
    )
    s.line(
        '"If you see the {f.job}, that is me on other days," said {f.name}.'
        if s.cast["f"].job
        else '"You can walk with me," said {f.name}. "I live {f.on_street}."',
        '"Mind the puddles," said {f.name}.',
    )


@shape("dialogue")
def making_plans(s: Scene) -> None:
    s.person("h")
    s.person("f")
    set_time(s)
    s.place("p")
    s.thing("t", "tool toy music kitchen")
    s.word("hour", ("eight", "nine", "ten", "two", "three", "four"))
    s.line(
        '"What shall we do on {day}?" asked {h.name}.',
        '"Are you free on {day}?" asked {h.name}.',
        '"It is going to be {weather} on {day}," said {h.name}. "Any ideas?"',
    )
    s.line(
        '"I would like to {f.hobby}," said {f.name}.',
        '"We could {f.hobby}, as always," said {f.name}.',
        '"Let us {f.hobby}!" said {f.name}.',
    )
    s.line(
        '"Again?" said {h.name}. "I would rather {h.hobby}."',
        '"Or we could {h.hobby}," said {h.name}.',
        '"You know that I like to {h.hobby}," said {h.name}.',
    )
    s.do("plan", "h", "f", "p")
    s.line(
        '"Then let us meet {p.at} at {hour} and do both," said {f.name}.',
        '"First the one, then the other," said {f.name}. "{hour.cap} o\'clock, {p.at}?"',
    )
    s.line('"Good. I shall bring my {t.full}," said {h.name}.', '"I have a {t.full} that we can use," said {h.name}.')
    s.line('"And I shall bring {f.food}," said {f.name}.', '"Bring {h.food} too," said {f.name}, "and I am happy."')


@shape("dialogue")
def over_the_fence(s: Scene) -> None:
    s.person("h")
    s.person("f")
    s.person("x")
    s.place("p")
    s.thing("t")
    set_time(s)
    s.line(
        '"Have you heard?" said {h.name} over the fence.',
        '"You will not believe this," {h.name} began.',
        '"Psst, {f.name}!" said {h.name}.',
    )
    s.line(
        '"No, what?" said {f.name}.',
        '"Tell me," said {f.name}, and put down a pail.',
        '"What is it now?" asked {f.name}.',
    )
    s.do("buy", "x", "t", "p")
    s.line(
        '"{x.name} has bought {t.a} {p.at}," said {h.name}.',
        '"On {day}, {p.at}, {x.name} bought {t.a}," said {h.name}.',
    )
    s.line(
        '"{x.name} from {x.street}?" asked {f.name}.',
        '"The {x.name} who likes to {x.hobby}?" asked {f.name}.',
        '"Our {x.job}?" asked {f.name}.' if s.cast["x"].job else '"Little {x.name}?" asked {f.name}.',
    )
    s.line(
        '"The very same," said {h.name}. "What does one do with a {t}?"',
        '"Who else?" said {h.name}. "And the {t} is {t.quality}!"',
    )
    s.line(
        '"I had one once," said {f.name}. "It was a good {t}."',
        '"It is none of our business," said {f.name}, "but I would like to see it."',
        '"Perhaps it is a present," said {f.name}.',
    )
    s.line(
        "Then {x.name} came round the corner, and they spoke of the {weather} {time}.",
        "And so they talked until {weather_line}.",
        "At that moment {x.name} came by and said good {time}.",
    )


RIDDLES = (
    ("I have teeth but cannot bite", "a comb"), ("I have hands but cannot clap", "a clock"), ("I have a neck but no head", "a bottle"),
    ("I have one eye but cannot see", "a needle"), ("I go up and down but never move", "the stairs"), ("the more I dry, the wetter I get", "a towel"),
    ("I am full of holes and still hold water", "a sponge"), ("I have leaves but am no tree", "a book"), ("I run all day and never get tired", "the river"),
    ("I have a tongue but cannot talk", "a shoe"), ("I follow you in the sun and leave you in the dark", "your shadow"), ("I have legs but cannot walk", "a table"),
    ("I have ears but cannot hear", "a field of corn"), ("I fall in winter and am never hurt", "the snow"),
)  # fmt: skip


@shape("dialogue")
def a_riddle(s: Scene) -> None:
    s.person("h")
    s.person("f")
    s.place("p")
    s.cast["riddle"], s.cast["answer"] = s.pick(RIDDLES)
    _, s.cast["guess"] = s.pick([r for r in RIDDLES if r[1] != s.cast["answer"]])
    _, s.cast["guess2"] = s.pick([r for r in RIDDLES if r[1] not in (s.cast["answer"], s.cast["guess"])])
    s.say(
        "{h.name} and {f.name} were sitting {p.at} with nothing to do.",
        "It was dull {p.at}, so {h.name} asked {f.name} a riddle.",
        "{h.name} met {f.name} {p.at}.",
    )
    s.do("meet", "h", "f", "p")
    s.do("riddle", "h", "f", "answer")
    s.line('"{riddle.cap}. What am I?" asked {h.name}.', '"Guess this," said {h.name}. "{riddle.cap}."')
    s.line(
        '"Are you {guess}?" said {f.name}.',
        '"That must be {guess}," said {f.name}.',
        '{f.name} thought for a while. "Is it {guess}?"',
    )
    s.line('"No, think again."', '"Wrong!" cried {h.name}.', '"Not even close," said {h.name}.')
    if s.chance(0.5):
        s.line('"Then it is {guess2}."', '"Perhaps {guess2}?" said {f.name}.')
        s.line('"No, no," said {h.name}, laughing.', '"Colder," said {h.name}.')
    s.line(
        '"I know!" said {f.name}. "It is {answer}."',
        '"Then I give up," said {f.name}. "Tell me." And {h.name} said: "It is {answer}."',
    )
    s.say(
        "Then it was {f.names} turn to ask.",
        "They went on until it was time for supper.",
        "{f.name} told the same riddle to [everyone|a few others] on the way home.",
    )


@shape("dialogue", weight=4)
def a_lesson_in_town(s: Scene) -> None:
    s.people("h", "f")
    h = s.person("x")
    s.say(
        "{h.name} was new in the street and asked {f.name} about the people.",
        "{f.name} told {h.name} who was who in town.",
        '"Who is that over there?" {h.name} asked {f.name}.',
    )
    s.line(
        '"That is {x.name}, who lives {x.on_street}," said {f.name}.',
        '"You mean {x.name}?" said {f.name}. "The house is {x.on_street}."',
    )
    if h.job:
        s.line(
            '"And what does {x.name} do?"\n"{x.name} is the {x.job}," said {f.name}.',
            '"Is {x.name} the {x.job}?"\n"Yes, {x.name} is our {x.job}," said {f.name}.',
        )
    if h.pet:
        s.line(
            '"Whose {x.pet} is that?"\n"That is {x.pet_name}, the {x.pet} of {x.name}," said {f.name}.',
            '"I saw {x.him} with a {x.pet}."\n"{x.pet_name}," said {f.name}. "It goes everywhere with {x.him}."',
        )
    s.line(
        '"What does {x.name} like to eat?"\n"Give {x.him} {x.food}," said {f.name}.',
        '"And in the evening?"\n"Then {x.name} likes to {x.hobby}," said {f.name}.',
    )
    s.line(
        "{h.name} thanked {f.name} and went to say hello.",
        '"I think I shall like it here," said {h.name}.',
        "{h.name} nodded and remembered all of it.",
    )
