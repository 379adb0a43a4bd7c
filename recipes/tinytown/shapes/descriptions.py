"""Descriptions: residents, streets, places, animals, weather; and notices."""
# ruff: noqa: E501 - a sentence stays on its line

from __future__ import annotations

from recipes.tinytown import lexicon
from recipes.tinytown.shapes.beats import set_time
from recipes.tinytown.shapes.registry import shape
from recipes.tinytown.telling import Scene


@shape("description", weight=10)
def a_resident(s: Scene) -> None:
    h = s.person("h")
    s.say(
        "{h.name} lives {h.on_street}.",
        "If you walk down {h.street}, you will meet {h.name}.",
        "Everyone in {h.street} knows {h.name}.",
        "{h.name} has a house {h.on_street}, not far from the {h.landmark}.",
    )
    if h.job:
        s.say(
            "{h} is the {h.job} of Tinytown and {h.work} [all day|from morning to night|on every day but Sunday].",
            "{h} is the town's {h.job}: {h.he} {h.work} {h.at_work}.",
            "By trade {h} is the {h.job}, and you will find {h.him} {h.at_work}.",
        )
    else:
        s.say(
            "{h} is a {h.child} who goes to the school.",
            "{h.name} is still a {h.child} and goes to school [every day|in the morning].",
        )
    if h.pet:
        s.say(
            "At home a {h.pet} called {h.pet_name} is waiting for {h.obj}.",
            "The {h.pet} at {h.his} side is called {h.pet_name}.",
            "{h} has a {h.pet} by the name of {h.pet_name}.",
        )
    s.say(
        "The dish that {h} likes best is {h.food}.",
        "For {h.food}, {h.name} would [walk a mile|get up at night|give {h.his} shoes].",
        "On feast days {h.name} wants {h.food} [and nothing else|above all].",
    )
    s.say(
        "In {h.his} free time {h} likes to {h.hobby}.",
        "What {h.name} likes to do [on a free day|on Sundays] is to {h.hobby}.",
        "Ask {h.name} to {h.hobby}, and {h.he} will [not say no|be ready at once].",
    )
    s.say(
        "There is hardly a {h.more_trait} {h.child} in town.",
        "{h} is a {h.trait} {h.child}, so people say.",
        "Of all the neighbours {h.on_street}, {h} may well be the {h.most_trait}.",
    )
    s.maybe(
        0.5, "Knock at the door, and you will be asked in.", "Ask {h.obj} the time, and you will get a story as well."
    )


@shape("description", weight=3)
def a_street(s: Scene) -> None:
    s.cast["street"] = s.pick([street for street in lexicon.STREETS if any(p.street == street for p in s.town.people)])
    s.cast["landmark"] = lexicon.STREETS[s.cast["street"]]
    neighbours = [p for p in s.town.people if p.street == s.cast["street"]]
    s.say(
        "{street} is not far from the {landmark}.",
        "You reach {street} from the {landmark}.",
        "Near the {landmark} begins {street}.",
    )
    s.say(
        "The houses are [low|narrow|crooked|tall] and the doors are [blue|green|brown].",
        "There are [old lamps|lime trees|stone steps] on both sides.",
        "It is [paved with round stones|narrow at one end|quiet after dark|as steep as a roof].",
    )
    s.maybe(
        0.6,
        "A cart can hardly pass.",
        "Ivy climbs up the walls.",
        "There is a pump in the middle.",
        "Washing hangs from one side to the other.",
    )
    lines = [
        "{x.name} lives there, a {x.trait} {x.child}.",
        "One of the houses belongs to {x.name}, who likes to {x.hobby}.",
        "The smell of {x.food} means that {x.name} is at home.",
        "[Next|First] there is {x.name}, whose favourite dish is {x.food}.",
    ]
    for key, person in zip("abcd", s.sample(neighbours, min(len(neighbours), s.pick((2, 3, 3, 4)))), strict=False):
        s.cast[key] = person
        jobs = (
            ["{x.name} the {x.job} lives there.", "You will also find the house of {x.name}, the {x.job}."]
            if person.job
            else []
        )
        pets = (
            [
                "{x.name} lives there with a {x.pet} called {x.pet_name}.",
                "{x.pet_name} is the {x.pet} of {x.name}, at the green gate.",
            ]
            if person.pet
            else []
        )
        line = s.pick(lines + jobs + pets)
        if line in lines:
            lines.remove(line)
        s.say(line.replace("{x.", f"{{{key}."))
    s.say(
        "On Sundays one can smell [bread|coffee|soup] through the windows.",
        "In the evening somebody always [plays the piano|calls the children in|walks by with a lamp].",
        "Children draw on the stones with chalk.",
        "At night the only sound is the tick of a cooling stove.",
    )


@shape("description")
def a_place(s: Scene) -> None:
    s.place("p")
    set_time(s)
    s.person("h")
    s.person("f")
    s.word("animal", lexicon.WILD_ANIMALS)
    s.word(
        "smell", ("tar", "hay", "wet stone", "smoke", "fresh bread", "apples", "salt", "lavender", "old wood", "rain")
    )
    s.say(
        "Have you ever been {p.at} on a {weather} {time}?",
        "On {day} {time} it is quiet {p.at}.",
        "There are few better spots in Tinytown than {p}.",
    )
    s.say(
        "It smells of {smell}.",
        "[The first thing you notice is|You notice at once] the smell of {smell}.",
        "A smell of {smell} hangs in the air.",
    )
    s.do("see", "h", "animal", "p")
    s.say(
        "{h.name} once saw a {animal} there.",
        "A {animal} comes by at dusk, says {h.name}.",
        "If you are patient, like {h.name}, you may see a {animal}.",
    )
    s.do("go", "f", "p")
    s.say(
        "{f.name} goes there [every week|when it is {weather}|to think].",
        "On most days you can meet {f.name}, who likes to {f.hobby}.",
        "{f.name} likes to sit there and eat {f.food}.",
    )
    s.say(
        "The ground is [soft with moss|worn smooth|covered with leaves|full of pebbles].",
        "The light is [green|golden|best in the evening].",
        "There is always a [breeze|bit of shade|humming in the air].",
    )
    s.maybe(
        0.6,
        "[On the wall|On a tree|Into a post] somebody has cut [two letters|a heart|the word {f.name}].",
        "[A bench|A chair|A stone] stands where the view is best.",
        "In winter it is [empty|quiet], in summer full of [children|song|visitors].",
    )
    s.say(
        "Nobody knows how old {p} is.",
        "One could draw {p} from memory.",
        "It is hard to leave.",
        "Most people would miss it.",
    )


@shape("description")
def lost_notice(s: Scene) -> None:
    s.person("h")
    s.person("f")
    s.thing("t")
    s.place("p")
    set_time(s)
    s.word(
        "mark",
        (
            "a scratch on one side",
            "a small dent",
            "the letter B on it",
            "a knot in the middle",
            "a worn corner",
            "a tiny star",
        ),
    )
    s.word(
        "reward",
        ("five coins", "a jar of honey", "a big cake", "my best thanks", "a free haircut", "two tickets for the play"),
    )
    s.do("have", "h", "t")
    s.do("lose", "h", "t", "p")
    s.line("LOST", "Lost on {day}", "Have you seen it?")
    s.line(
        "{t.a}, lost {p.at} on {day} {time}.",
        "On {day}, {p.at}, I lost {t.a}.",
        "One {t}, {t.quality}, last seen {p.at} on {day}.",
    )
    s.say("You will know it by {mark}.", "It has {mark}.")
    s.say(
        "[It|The {t}] is not worth much, but it is dear [to me|to {h.name}].",
        "I have had [it|the {t}] since I was [small|little|at school].",
        "I cannot do without [it|my {t}].",
    )
    s.maybe(
        0.7,
        "I have asked {f.name} and all of {f.street}.",
        "{f.name} thinks that [a child|a crow|somebody] may have picked it up.",
        "On that day I had been to see {f.name}, {f.on_street}.",
    )
    s.line("Reward: {reward}.", "Whoever brings [it|the {t}] back gets {reward}.")
    s.line("{h.name}, {h.street}", "Ask for {h.name} in {h.street}.")


@shape("description")
def weather_report(s: Scene) -> None:
    set_time(s)
    s.person("h")
    s.person("f")
    s.place("p")
    s.word("weather2", lexicon.WEATHERS)
    s.word("weather3", lexicon.WEATHERS)
    s.word("day2", lexicon.DAYS)
    s.do("weather", "day", "weather")
    s.say(
        "{day} will be {weather}.",
        "For {day} we expect {weather} weather.",
        "The {time} of {day} is going to be {weather}.",
    )
    s.say(
        "{p.at}, it may turn {weather2} [before noon|towards evening|for an hour or two].",
        "Later it becomes {weather2}, first of all {p.at}.",
    )
    s.say(
        "{h.name}, who lives near the {h.landmark}, should [close the shutters|take the washing in|oil the hinges].",
        "{h.name} says that {h.his} left knee has known it for days.",
        "This will please {h.name}, who wants to {h.hobby}.",
    )
    s.say(
        "By {day2} it will be {weather3} again.",
        "{day2} looks {weather3}.",
        "Nobody can say much about {day2}, but it might be {weather3}.",
    )
    s.say(
        "The wind comes from the [north|south|east|west].",
        "There will be [hardly any|a little|a good deal of] wind.",
        "The river is [rising|falling|high for the season].",
    )
    s.maybe(
        0.8,
        "{h.on_street}, they are [gathering wood|closing the attic windows].",
        "{f.name} has taken the flowerpots in.",
        "The hens of {f.name} are restless.",
    )
    s.maybe(
        0.6,
        "Ships should stay in port.",
        "Warm socks will do no harm.",
        "The roads may be slippery.",
        "It is a good week to {f.hobby}, {f.name}!",
    )


@shape("description")
def about_an_animal(s: Scene) -> None:
    s.word("animal", tuple(HABITS))
    s.cast["eats"], s.cast["lives"], s.cast["does"] = HABITS[s.cast["animal"]]
    s.person("h")
    s.person("f")
    s.place("p")
    s.say(
        "The {animal} lives {lives}.",
        "If you want to see a {animal}, look {lives}.",
        "{lives.cap} is where a {animal} feels at home.",
    )
    s.say("It eats {eats}.", "Its food is {eats}.", "For {eats}, it will come out of hiding.")
    s.say("A {animal} {does}.", "What few people know: a {animal} {does}.")
    s.do("see", "h", "animal", "p")
    s.say(
        "{h.name} once saw one {p.at}.",
        "One of them can be seen {p.at}, and {h.name} has given it a name.",
        "When {h.name} was {p.at}, a {animal} came quite close.",
    )
    s.say(
        "Its [tracks|footprints] look like [small hands|commas|stars|leaves].",
        "It is active [at night|at dawn|all day long].",
        "In a hard winter it [comes close to the houses|sleeps more than usual|grows thin].",
    )
    s.maybe(
        0.7,
        "{f.name} has drawn one for the school.",
        "{f.name} the {f.job} once carried one home in a sleeve."
        if s.cast["f"].job
        else "{f.name} would like to keep one.",
    )
    s.maybe(0.6, "Do not try to catch one.", "It is best to watch from far away.", "They are shy, so keep still.")


HABITS = {
    "hedgehog": ("worms and beetles", "under hedges", "rolls up into a ball when it is frightened"), "owl": ("mice", "in hollow trees", "can turn its head almost all the way round"),
    "fox": ("mice and berries", "in a den under the ground", "is seen most often at dusk"), "squirrel": ("nuts and seeds", "in a nest of twigs", "forgets where it has buried half of its nuts"),
    "frog": ("flies", "near still water", "can breathe through its skin"), "badger": ("roots and worms", "in a large burrow", "carries its bedding out to air it"),
    "swan": ("water plants", "on slow rivers", "stays with one mate for years"), "heron": ("fish and frogs", "in reeds", "can stand on one leg for an hour"),
    "otter": ("fish", "on river banks", "slides down mud for fun"), "mole": ("worms", "in tunnels under lawns", "can dig all night"),
    "robin": ("insects and crumbs", "in gardens", "sings even in winter"), "hare": ("grass and bark", "in a hollow in the field", "sleeps with its eyes open"),
    "bat": ("moths", "in attics and caves", "finds its way by sound"), "toad": ("slugs", "under stones", "comes back to the same pond every spring"),
    "magpie": ("almost anything", "in tall trees", "builds a roof over its nest"), "deer": ("leaves and buds", "at the edge of the forest", "can jump over a high fence"),
    "tortoise": ("lettuce and clover", "in warm, dry places", "sleeps all winter"), "goose": ("grass", "on farms and lakes", "will guard a yard like a dog"),
    "goat": ("twigs and hay", "on stony slopes", "can climb almost anywhere"), "parrot": ("seeds and fruit", "in a roomy cage", "can copy voices"),
}  # fmt: skip


@shape("description", is_held_out=True)
def a_day_in_the_life(s: Scene) -> None:
    s.person("h")
    s.person("f")
    s.place("p")
    s.thing("t")
    s.do("have", "h", "t")
    s.say(
        "At dawn, {h.name} gets up and looks for {h.his} {t.full}.",
        "A day of {h.name} begins with a {t}, a {t.quality} one.",
    )
    s.do("go", "h", "p")
    s.say(
        "In the morning {h} is {p.at}, and before noon {f.name} joins {h.him}.",
        "Then it is off to {p}, where {f.name} is waiting.",
    )
    s.say("After lunch {h} likes to {h.hobby}.", "In the afternoon there is time to {h.hobby}.")
    s.say("Supper is {h.food}, if {h} can have it.", "If it is {h.food} for supper, all is well.")
