"""Beats that many shapes share: openings, weather, feelings. Each picks among many wordings."""

from __future__ import annotations

from recipes.tinytown import lexicon
from recipes.tinytown.telling import Scene

WEATHER_LINES = {
    "sunny": ("the sun shone over the roofs", "there was not a cloud in the sky", "the whole street was bright with sun"),
    "rainy": ("rain drummed on the roofs", "the gutters were full of rain", "it rained and rained"),
    "windy": ("the wind pulled at every sleeve", "the wind rattled the shutters", "leaves flew past the windows"),
    "foggy": ("fog hid the end of the street", "the fog was as thick as wool", "nobody could see past the gate for fog"),
    "snowy": ("snow lay on every roof", "snow fell without a sound", "the steps were white with snow"),
    "cloudy": ("grey clouds hung over the chimneys", "clouds covered the sun", "the sky was the colour of slate"),
    "frosty": ("frost sparkled on the grass", "every puddle had turned to ice", "frost had painted the windows"),
    "stormy": ("thunder rolled over the roofs", "a storm shook the doors", "lightning flashed above the chimneys"),
    "misty": ("mist crept along the gutters", "a soft mist lay on the fields", "mist curled round the lamp posts"),
    "warm": ("the air was warm and still", "it was warm enough to sit outside", "bees hummed in the warm air"),
}  # fmt: skip


def set_time(s: Scene, *, is_fair: bool = False) -> None:
    """Cast the day, the part of the day and the weather (is_fair: such that one can be outside)."""
    s.word("day", lexicon.DAYS)
    s.word("time", lexicon.TIMES)
    s.word("weather", lexicon.FAIR_WEATHERS if is_fair else lexicon.WEATHERS)
    s.cast["weather_line"] = s.pick(WEATHER_LINES[s.cast["weather"]])


ABOUT_ANYONE = (
    "{h.name} lived {h.on_street}[|, not far from the {h.landmark}].",
    "In {h.street} lived a {h.trait} {h.child} called {h.name}.",
    "{h.name}, who [loved|liked] to {h.hobby}, lived {h.on_street}.",
    "Of all [things to eat|dishes], {h.name} liked {h.food} best.",
    "[When there was nothing else to do|In {h.his} free time|On quiet evenings], {h.name} liked to {h.hobby}.",
    "{h.name} was [known to be|said to be] a {h.trait} {h.child}.",
    "Nobody liked to {h.hobby} [more|better] than {h.name} did.",
    "[For|At] supper, {h.name} always wished for {h.food}.",
    "The house of {h.name} stood {h.on_street}.",
    "Near the {h.landmark}, {h.on_street}, lived {h.name}.",
)
ABOUT_WORKERS = (
    "{h.name} was the {h.job} of Tinytown.",
    "Every [day|morning], {h.name} the {h.job} {h.work_past}.",
    "{h.name} worked as the {h.job} {h.at_work}.",
    "The town's {h.job} was a {h.trait} {h.child} called {h.name}.",
    "Whoever needed the {h.job} asked for {h.name}.",
    "{h.name}, the {h.job}, lived {h.on_street}.",
    "You could find {h.name} {h.at_work} on most days, for {h.he} was the {h.job}.",
    "It was the work of {h.name}, the {h.job}, to {h.work_base}.",
)
ABOUT_OWNERS = (
    "{h.name} had a {h.pet} called {h.pet_name}.",
    "{h.name} lived {h.on_street} with {h.his} {h.pet}, {h.pet_name}.",
    "{h.name} and {h.his} {h.pet} {h.pet_name} were [always|often] seen {h.on_street}.",
    "At home, {h.pet_name} the {h.pet} kept {h.name} company.",
)


def introduce(s: Scene, key: str = "h") -> None:
    """One sentence about a resident: something that is always true of them."""
    person = s.cast[key]
    lines = ABOUT_ANYONE + (ABOUT_WORKERS if person.job else ()) + (ABOUT_OWNERS if person.pet else ())
    line = s.pick(lines)
    s.say(line if key == "h" else line.replace("{h", "{" + key))


SCENERY = (
    "It was a {weather} {day} {time}.",
    "It was {day} {time}, and {weather_line}.",
    "That {day}, {weather_line}.",
    "On {day} {time} {weather_line}.",
    "One {time} in the middle of the week, {weather_line}.",
    "The {time} was {weather}, and [the street was quiet|the town was busy|the bells had just rung].",
    "[All {time}|Since sunrise|For hours] {weather_line}.",
    "It happened on a {weather} {day}.",
    "{day} began [with nothing special|as {weather} as the day before|late for everybody].",
)


def open_story(s: Scene, key: str = "h", *, is_fair: bool = False) -> None:
    """An opening: who, and perhaps when and in what weather, in either order. Casts day, time and weather."""
    set_time(s, is_fair=is_fair)
    if s.is_brief or s.chance(0.45):
        introduce(s, key)
    elif s.chance(0.5):
        introduce(s, key)
        s.say(*SCENERY)
    else:
        s.say(*SCENERY)
        introduce(s, key)


# What people do when they feel so, wherever they are; {0} is the person's his or her.
MOOD_SIGNS = {
    "happy": ("smiled from ear to ear", "clapped and laughed", "sang out loud", "danced on the spot", "whistled a tune"),
    "sad": ("wiped away a tear", "sighed again and again", "cried a little", "hung {0} head", "did not want to eat"),
    "proud": ("stood up very straight", "told everyone about it", "walked with {0} chin up", "could have told the whole world"),
    "angry": ("stamped on the ground", "would not say a word", "clenched {0} fists", "shouted at the top of {0} voice", "turned red"),
    "worried": ("paced up and down", "bit {0} lip", "could not sit still", "wrung {0} hands", "could think of nothing else"),
    "excited": ("hopped from one foot to the other", "could hardly wait", "talked very fast", "could not keep still for joy"),
    "lonely": ("wished for company", "had nobody to talk to", "talked to the birds", "longed for a friendly voice"),
    "grateful": ("said thank you again and again", "searched for words of thanks", "pressed every hand", "bowed very low"),
    "afraid": ("shivered from head to toe", "did not dare to move", "went pale", "held {0} breath", "wanted to run away"),
    "surprised": ("opened {0} eyes wide", "could not believe it", "forgot to close {0} mouth", "rubbed {0} eyes"),
    "ashamed": ("looked at the ground", "went red in the face", "wished to be somewhere else", "could not look up"),
    "bored": ("yawned again and again", "counted the clouds", "drummed with {0} fingers", "did not know what to do with {0} hands"),
}  # fmt: skip


def feel(s: Scene, key: str, mood: str, *, sign_rate: float = 0.4) -> None:
    """The person feels something, and perhaps shows it."""
    s.do("feel", key, f"={mood}")
    if not s.is_brief and s.chance(sign_rate):
        sign = s.pick(MOOD_SIGNS[mood]).replace("{0}", f"{{{key}.his}}")
        s.say(
            f"{{{key}}} was so {mood} that {{{key}.he}} {sign}.",
            f"{{{key}}} {sign}, for {{{key}.he}} was [very |]{mood}.",
            f"{{{key}}} felt {mood}[ about it|] and {sign}.",
        )
    else:
        s.say(
            f"{{{key}}} [felt|was] [very |so |quite ||]{mood}.",
            f"{{{key}}} was [very |]{mood}[ at that|].",
            f"[This|That] made {{{key}.obj}} [very |]{mood}.",
            f"How {mood} {{{key}.he}} was!" if s.knows(key) else f"{{{key}.name}} was [very |]{mood}.",
        )
