"""Beats that many shapes share: openings, weather, small talk, feelings. Each picks among many wordings."""

from __future__ import annotations

from recipes.tinytown import lexicon
from recipes.tinytown.telling import Scene

WEATHER_LINES = {
    "sunny": (
        "the sun shone over the roofs",
        "there was not a cloud in the sky",
        "the whole street was bright with sun",
    ),
    "rainy": ("rain drummed on the roofs", "the gutters were full of rain", "it rained and rained"),
    "windy": ("the wind pulled at every hat", "the wind rattled the shutters", "leaves flew past the windows"),
    "foggy": (
        "fog hid the end of the street",
        "the fog was as thick as wool",
        "nobody could see past the gate for fog",
    ),
    "snowy": ("snow lay on every roof", "snow fell without a sound", "the steps were white with snow"),
    "cloudy": ("grey clouds hung over the chimneys", "clouds covered the sun", "the sky was the colour of slate"),
    "frosty": ("frost sparkled on the grass", "every puddle had turned to ice", "frost had painted the windows"),
    "stormy": ("thunder rolled over the hill", "a storm shook the doors", "lightning flashed above the river"),
    "misty": ("mist crept up from the river", "a soft mist lay on the fields", "mist curled round the lamp posts"),
    "warm": ("the air was warm and still", "it was warm enough to sit outside", "bees hummed in the warm air"),
}


def set_time(s: Scene) -> None:
    """Cast the day, the part of the day and the weather, and let them be part of the world."""
    s.word("day", lexicon.DAYS)
    s.word("time", lexicon.TIMES)
    s.word("weather", lexicon.WEATHERS)
    s.cast["weather_line"] = s.pick(WEATHER_LINES[s.cast["weather"]])


def introduce(s: Scene, key: str = "h") -> None:
    """One sentence about a resident: something that is always true of them, or, for people from out of sight, just who they are."""
    person = s.cast[key]
    says = [
        f"{{{key}.name}} lived {{{key}.on_street}}[|, not far from the {s.pick(('river', 'square', 'chapel', 'station'))}].",
        f"In {{{key}.street}} lived a {s.pick(('kind', 'quiet', 'cheerful', 'careful', 'busy', 'curious', 'patient'))} {{{key}.child}} called {{{key}.name}}.",
        f"{{{key}.name}}, who [loved|liked] to {{{key}.hobby}}, lived {{{key}.on_street}}.",
        f"Of all things to eat, {{{key}.name}} liked {{{key}.food}} best.",
        f"[When there was nothing else to do|In {{{key}.his}} free time|On quiet evenings], {{{key}.name}} liked to {{{key}.hobby}}.",
    ]
    if person.job:
        says += [
            f"{{{key}.name}} was the {{{key}.job}} of Tinytown.",
            f"Every [day|morning], {{{key}.name}} the {{{key}.job}} {{{key}.work_past}}.",
            f"{{{key}.name}} worked as the {{{key}.job}} {{{key}.at_work}}.",
            f"The town's {{{key}.job}} was a [good|kind|clever|patient|merry] {{{key}.child}} called {{{key}.name}}.",
        ]
    if person.pet:
        says += [
            f"{{{key}.name}} had a {{{key}.pet}} called {{{key}.pet_name}}.",
            f"{{{key}.name}} lived {{{key}.on_street}} with {{{key}.his}} {{{key}.pet}}, {{{key}.pet_name}}.",
        ]
    s.say(s.pick(says))


def open_story(s: Scene, key: str = "h") -> None:
    """An opening: who, and perhaps when and in what weather. Casts day, time and weather."""
    set_time(s)
    introduce(s, key)
    if s.is_brief:
        return
    s.maybe(
        0.55,
        "It was a {weather} {day} {time}.",
        "It was {day} {time}, and {weather_line}.",
        "That {day}, {weather_line}.",
        "On {day} {time} {weather_line}.",
        "One {weather} {time}, {weather_line}.",
        "The {time} was {weather}, and [the street was quiet|the town was busy|the bells had just rung].",
    )


MOOD_SIGNS = {
    "happy": ("smiled from ear to ear", "hummed all the way home", "clapped and laughed"),
    "sad": ("wiped away a tear", "sat with a heavy heart", "did not want to eat"),
    "proud": ("stood up very straight", "told everyone in the street about it", "could not stop smiling"),
    "angry": ("stamped on the floor", "slammed the door", "would not say a word"),
    "worried": ("paced up and down", "bit {0} lip", "could not sit still"),
    "excited": ("hopped from one foot to the other", "could hardly wait", "talked very fast"),
    "lonely": ("sat alone by the window", "wished for company", "listened to the empty house"),
    "grateful": ("said thank you three times", "shook everyone by the hand", "could not thank them enough"),
    "afraid": ("held on to the railing", "hid behind the door", "shivered from head to toe"),
    "surprised": ("opened {0} eyes wide", "nearly dropped {0} cup", "could not believe it"),
    "ashamed": ("looked at the ground", "went red in the face", "wished to be somewhere else"),
    "bored": ("yawned again and again", "counted the tiles on the floor", "looked out of the window for an hour"),
}


def feel(s: Scene, key: str, mood: str, *, sign_rate: float = 0.4) -> None:
    """The person feels something, and perhaps shows it."""
    s.do("feel", key, f"={mood}")
    s.say(f"{{{key}}} [felt|was] [very |so |quite ||]{mood}.", f"This made {{{key}.obj}} [very |]{mood}.")
    if not s.is_brief and s.chance(sign_rate):
        show(s, key, mood)


def show(s: Scene, key: str, mood: str) -> None:
    """The person shows a feeling without a word for it."""
    s.say(f"{{{key}}} {s.pick(MOOD_SIGNS[mood]).replace('{0}', f'{{{key}.his}}')}.")
