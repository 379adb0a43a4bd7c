"""Stories of making, learning and growing things."""
# ruff: noqa: E501 - a sentence stays on its line

from __future__ import annotations

from recipes.tinytown import lexicon
from recipes.tinytown.shapes.beats import feel, open_story
from recipes.tinytown.shapes.registry import shape
from recipes.tinytown.telling import Scene

MATERIALS = {
    "kite": ("paper", "sticks"), "doll": ("cloth", "wool"), "puppet": ("wood", "string"), "toy boat": ("bark", "a handkerchief"),
    "birdhouse": ("planks", "nails"), "stool": ("oak", "glue"), "scarf": ("wool", "patience"), 
    "wagon": ("crates", "four old wheels"), "sledge": ("ash wood", "iron bands"), "spinning top": ("beech wood", "paint"),
    "apron": ("linen", "thread"), "shawl": ("wool", "a long needle"), "bowl": ("clay", "water"), "vase": ("clay", "blue glaze"),
    "spoon": ("pear wood", "a sharp knife"),
}  # fmt: skip


def cast_made_thing(s: Scene, key: str) -> None:
    """Cast a thing that people can make, and what it is made of."""
    s.cast["stuff"], s.cast["stuff2"] = MATERIALS[s.thing(key, among=tuple(MATERIALS)).noun]


@shape("story")
def made_by_hand(s: Scene) -> None:
    s.people("h", "f")
    cast_made_thing(s, "t")
    s.word("tries", ("two", "three", "four", "five", "six"))
    open_story(s)
    s.say(
        "{h} wished for {t.a}, but had no money to buy one.",
        '"I could make {t.a} myself," {h} thought.',
        "In a shop window {h} had seen {t.a}, far too dear.",
    )
    s.say(
        "All it took was {stuff} and {stuff2}.",
        "{h} found {stuff} in the shed, and {stuff2} came from {f.name}.",
        "{f.name} said that one needed {stuff} and {stuff2}.",
    )
    s.do("try", "h", "tries", "t")
    s.say(
        "The first {t} fell apart, and so did the next; {tries} times {h} began again.",
        "{h} needed {tries} tries.",
        "It took {h.obj} {tries} tries, for a {t} is not as easy as it looks.",
    )
    feel(s, "h", s.pick(("angry", "sad")), sign_rate=0.5)
    s.maybe(
        0.5,
        "{f.name} held the lamp and said nothing.",
        '"Slowly," said {f.name}. "One thing after the other."',
        "There was a mess on the floor.",
    )
    s.do("make", "h", "t")
    s.say(
        "But in the end {h} made {t.a}, and it was [a little crooked|truly fine|better than a bought one].",
        "Then it was done: {h} had made {t.a}.",
        "At last {h} had made {t.a}, [all alone|with {h.his} own hands].",
    )
    s.do("feel", "h", "=proud")
    s.end(
        "{h.name} was proud of the {t} and showed it to {f.name} first.",
        '"You made that?" asked {f.name}, turning the {t} over and over, and {h.name} was proud.',
        "Proud as a king, {h.name} carried the {t} through the street, and {f.name} walked beside {h.him}.",
    )


@shape("story")
def the_contest(s: Scene) -> None:
    s.people("h", "f")
    s.person("x")
    s.place("p", is_outdoors=True)
    s.word("contest", lexicon.CONTESTS)
    s.word("prize", lexicon.PRIZES)
    open_story(s, is_fair=True)
    s.do("enter", "h", "contest", "p")
    s.say(
        "There was to be a {contest} {p.at}, and {h} wanted to take part.",
        "{h} put {h.his} name down for the {contest} {p.at}.",
        "Everyone talked of the {contest} {p.at}. {h.name} would be in it.",
    )
    s.say(
        "{f.name} and {x.name} had put their names down too.",
        "The others were {f.name} and {x.name}, and both were good.",
        "{h.name} would be up against {f.name} and {x.name}.",
    )
    feel(s, "h", s.pick(("excited", "worried", "afraid")))
    s.maybe(
        0.6, "The winner was to get {prize}.", "{prize.cap} was waiting for the best.", "A roll of drums, and it began."
    )
    s.say(
        "[Half the town|A great crowd|Young and old] came to watch.",
        "You could have heard a pin drop {p.at}.",
        "[Somebody|The judge|A boy] waved [a flag|a cloth].",
    )
    s.cast["w"] = s.cast[s.pick(("h", "f", "x"))]
    s.do("win", "w", "contest")
    s.say(
        "When it was over, {w.name} had won the {contest}.",
        "In the end it was {w.name} who won the {contest}.",
        'The judge [stood on a box|cleared his throat|looked at a list]. "The winner of the {contest} is {w.name}!"',
    )
    s.do("receive_prize", "w", "prize")
    s.end(
        "{w.name} got {prize}, and [shared it with|showed it to] [all who had taken part|the others|everybody].",
        "With {prize} under one arm, {w.name} shook hands with every one of them.",
        '"Next year I shall do better," said somebody, but {w.name} only laughed and held up {prize}.',
    )


@shape("story")
def learning_a_skill(s: Scene) -> None:
    s.people("h", "f")
    s.word("skill", lexicon.SKILLS)
    s.word("weeks", ("two", "three", "four", "five", "six", "seven", "eight"))
    s.place("p")
    open_story(s)
    s.say(
        "{h} had always wanted to {skill}.",
        "More than anything, {h} wished to {skill}.",
        "{h} saw {f.name} {skill} one day and could not forget it.",
    )
    s.do("teach", "f", "h", "skill")
    s.say(
        "{f.name} taught {h.obj} to {skill}, [every evening|twice a week|on Sundays] {p.at}.",
        '"It is not hard to {skill}," said {f.name}, and taught {h.obj}.',
        "{f.name}, who had learnt it from an uncle, taught {h.obj} to {skill}.",
    )
    s.say(
        "At first it [went wrong every time|looked hopeless|was very hard].",
        "The beginning was slow.",
        "More than once {h} wanted to give up.",
    )
    feel(s, "h", s.pick(("bored", "sad", "angry")), sign_rate=0.5)
    s.maybe(
        0.5,
        '"Again," said {f.name}.',
        "{f.name} had all the time in the world.",
        "{f.name} clapped at every small success.",
    )
    s.do("learn", "h", "skill", "weeks")
    s.say(
        "After {weeks} weeks {h} could {skill}.",
        "{weeks.cap} weeks went by, and then, all at once, {h} could {skill}.",
        "It took {weeks} weeks, but then {h} was able to {skill}.",
    )
    s.do("feel", "h", "=proud")
    s.end(
        "{h.name} was proud, and {f.name} perhaps even more.",
        "Now {h.name} is proud to {skill} in front of everyone, and {f.name} watches from the back row.",
        '"Soon you will {skill} better than I," said {f.name}, and {h.name} was proud to hear it.',
    )


@shape("story")
def garden_harvest(s: Scene) -> None:
    s.people("h", "f")
    s.word("plant", lexicon.PLANTS)
    s.word("pest", lexicon.PESTS)
    s.word("number", ("five", "six", "eight", "ten", "twelve", "fifteen", "twenty"))
    s.place("p", is_outdoors=True)
    open_story(s, is_fair=True)
    s.do("plant", "h", "plant", "p")
    s.say(
        "In spring {h} planted {plant} in a bed {p.at}.",
        "{p.at}, {h} dug a bed and planted {plant}.",
        "There was a bare patch {p.at}, and {h} planted {plant} there.",
    )
    s.say(
        "Every [evening|morning] {h} carried water to it.",
        "{h} pulled the weeds and [waited|sang to the seedlings].",
        "First there was nothing, then [a hint of green|a few tips|the first leaves].",
    )
    s.do("threaten", "pest", "plant")
    s.say(
        "But then the {pest} came.",
        "One morning {h} saw that {pest} had been at the {plant}.",
        "There was only one enemy: {pest}.",
    )
    feel(s, "h", s.pick(("worried", "angry", "sad")))
    s.do("help", "f", "h")
    s.say(
        "{f.name} knew what to do against the {pest}, and helped {h.obj}.",
        '"Leave the {pest} to me," said {f.name}, who had come to help.',
        "{f.name} helped {h.obj} to keep the {pest} away [with straw|with old pots|with bits of tin].",
    )
    s.maybe(0.5, "Summer went by.", "It rained at the right time.", "Bees came and went.")
    s.do("harvest", "h", "number", "plant")
    s.say(
        "In autumn {h} brought home {number} [baskets|boxes|armfuls] of {plant}.",
        "And what a harvest it was: {number} crates of {plant}!",
    )
    s.end(
        "Half of the {plant} {h.name} gave to {f.name}, who had driven off the {pest}.",
        "{h.name} and {f.name} sat among the {plant} and could not believe how many there were.",
        "The finest of the {plant} stood on the table of {f.name}, with a note from {h.name}.",
    )


@shape("story")
def painting_day(s: Scene) -> None:
    s.people("h", "f")
    s.word("object", lexicon.PAINTABLES)
    s.word("colour", lexicon.COLOURS)
    s.word("colour2", lexicon.COLOURS)
    s.place("p")
    open_story(s, is_fair=True)
    s.say(
        "The {object} of {h.name} had lost its paint.",
        "{h} looked at the old {object} and decided to paint it.",
        "Rain and sun had not been kind to {h.names} {object}.",
    )
    s.do("paint", "h", "object", "colour")
    s.say(
        "{h} painted it {colour}, [from top to bottom|with a wide brush|in one morning].",
        "By noon {h} had painted the {object} {colour}.",
        "{h} mixed the paint and painted the {object} {colour}.",
    )
    s.say(
        "Then {f.name} came by [without looking|in a hurry|with a full barrow] and leaned on it.",
        "{f.name} did not see [the sign|the brush] and sat down on [the wet {object}|the fresh paint].",
        "{f.name} came round the corner and ran [straight|full tilt] into [it|the {object}].",
    )
    s.do("stain", "f", "colour")
    s.say(
        "Now {f.name} was {colour} too.",
        "All down [the side|one leg|the back], {f.name} was {colour}.",
        "{f.names} sleeve was as {colour} as the {object}.",
    )
    feel(s, "f", s.pick(("angry", "surprised")), sign_rate=0.3)
    s.maybe(
        0.6,
        '"{colour.cap} suits you," said [a passer-by|somebody].',
        "For a moment [nobody|neither {h.name} nor {f.name}] spoke.",
        "{h.name} [put down the brush|dropped the brush] and went pale.",
    )
    s.say(
        "But then {h.name} looked at {f.name} and [burst out laughing|had to laugh].",
        "In the end [they both|{h.name} and {f.name}] had to laugh.",
        "{h.name} dabbed {colour} paint on {h.his} own nose, and [that settled it|all was well].",
    )
    s.end(
        "{f.name} came back in old clothes, and {h.name} and {f.name} painted the other side {colour2}.",
        "[One can still see|To this day one sees] the print of {f.name} on the {colour} {object} of {h.name}.",
        "{h.name} hung a bigger sign on the {object}, and {f.name} added in {colour2} letters: I should know.",
    )


@shape("story")
def the_play(s: Scene) -> None:
    s.people("h", "f")
    s.place("p", is_outdoors=True)
    s.word("role", lexicon.ROLES_IN_PLAYS)
    s.thing("t", "clothing music tool")
    open_story(s, is_fair=True)
    s.do("act", "h", "role", "p")
    s.say(
        "There was to be a play {p.at}, and {h} had the part of {role}.",
        "In the play that they were putting on {p.at}, {h} was {role}.",
    )
    s.do("have", "f", "t")
    s.do("lend", "f", "h", "t")
    s.say(
        "{f.name} lent {h.obj} {t.a} for it.",
        "For the costume {f.name} lent {h.obj} {t.a}.",
        "What would {role} be without a {t}? {f.name} lent {h.name} a {t.quality} one.",
    )
    s.say(
        "{h} said the lines over and over, even in bed.",
        "For weeks {h} talked of nothing else.",
        "{h} practised with {f.name} every night.",
    )
    feel(s, "h", s.pick(("afraid", "excited", "worried")), sign_rate=0.6)
    s.say(
        "The curtain went up, and {h.name} forgot [every word|all about {role}].",
        "In the [second|third|last] act {h.name} did not know [how to go on|what came next].",
    )
    s.say(
        "[From the side|Behind the curtain] {f.name} whispered the [line|words of {role}].",
        "{f.name}, in the [front|second] row, moved {f.his} lips, and {h.name} could [read them|go on].",
    )
    s.maybe(
        0.5,
        "Nobody [but {f.name}|in the rows] had noticed [a thing|anything].",
        "After that [it|the part of {role}] went like a dream.",
        "The people {p.at} held their breath, then they cheered.",
    )
    s.end(
        "When the clapping stopped, {h.name}, still dressed as {role}, gave the {t} back to {f.name} with a bow.",
        '"You were the best {role.bare} that I ever saw," {f.name} told {h.name}.',
        "{h.name} bowed again and again as {role}, and the last bow was for {f.name}.",
    )


@shape("story")
def music_at_the_window(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", "music")
    s.place("p", is_outdoors=True)
    s.word("song", lexicon.SONGS)
    open_story(s, is_fair=True)
    s.do("have", "h", "t")
    s.say(
        "{h} had {t.a}, but [hardly dared to touch it|could only play scales|was shy about it].",
        "In the cupboard of {h.name} lay {t.a} that nobody ever heard.",
    )
    s.do("play", "h", "song", "t")
    s.say(
        "One evening {h} took the {t} to the window and played {song}.",
        "When it got dark, {h} played {song} on the {t}.",
        "On the {t}, {h} played {song}, softly at first.",
    )
    s.do("hear", "f", "=song", "p")
    s.say(
        "{f.name}, on the way home, heard it {p.at} and stood still.",
        "The sound went as far as {p}, where {f.name} heard it.",
        "It so happened that {f.name} was sitting {p.at} and heard every note.",
    )
    feel(s, "f", s.pick(("happy", "surprised", "sad")))
    s.maybe(0.6, "Windows opened all along the street.", "A cart stopped.", "Even the sparrows were still.")
    s.say(
        '"Who plays so beautifully?" {f} asked.',
        "{f} knocked at the door and asked for more.",
        "When it ended, {f} clapped and clapped.",
    )
    s.do("feel", "h", "=proud")
    s.end(
        "{h.name} was proud, and from [that evening|{day}] on the {t} was heard every [week|{day}], with {f.name} below the window.",
        "Later {h.name} played {song} [at the feast|for everyone], proud and [no longer shy|upright], and {f.name} [turned the pages|sang along].",
        "{h.name} went red and was proud, and taught {f.name} {song} on the {t}.",
    )


@shape("story")
def a_kite_in_a_tree(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", "toy")
    s.place("p", is_outdoors=True)
    s.word(
        "height",
        (
            "in the top of an elm",
            "on a high wall",
            "on a shed roof",
            "on a mill wheel",
            "in a tall pine",
            "on a lamp post",
            "on a balcony",
        ),
    )
    s.word("tool", ("a broom", "a ladder of boxes", "a long pole", "a hay fork", "a clothes line"))
    open_story(s, is_fair=True)
    s.do("have", "h", "t")
    s.do("go", "h", "p")
    s.say(
        "{h} went to {p} to play with {h.his} {t.full}.",
        "With {t.a} under one arm, {h} went to {p}.",
        "{h} had {t.a} and went to {p} with it.",
    )
    s.do("stick", "t", "height")
    s.say(
        "Up it flew, and then the {t} was stuck {height}.",
        "A bad throw, and there hung the {t}, {height}.",
        "Somebody threw it too high, and the {t} landed {height}.",
    )
    feel(s, "h", s.pick(("sad", "angry", "worried")))
    s.say(
        "{h} jumped and jumped, but it was no use.",
        "{h} threw a stick at it, and then another.",
        "It was much too high to reach.",
    )
    s.do("fetch", "f", "t", "tool")
    s.say(
        "{f.name} came along with {tool} and got the {t} down.",
        "With {tool}, {f.name} fetched it down.",
        "Then {f.name} had an idea, [ran home for|found] {tool}, and fetched the {t} down.",
    )
    s.maybe(
        0.5,
        "The {t} had not even a scratch.",
        "Half a nest came down with the {t}.",
        "It took [a while|an hour], and {h.name} laughed [a lot|once or twice].",
    )
    s.do("feel", "h", "=happy")
    s.end(
        "{h.name} was happy to have the {t} back, and let {f.name} have the next go.",
        "{h.name} and {f.name} played {p.at} [until dark|till supper], happy [and out of breath|as larks], and took turns with the {t}.",
        '"Not so high this time," said {f.name}, and gave the {t} to {h.name}, who was happy again.',
    )


@shape("story", is_held_out=True)
def the_wedding_cake(s: Scene) -> None:
    s.people("h", "f")
    s.place("p")
    s.word("number", ("three", "four", "five", "six", "seven"))
    open_story(s)
    s.do("bake", "h", "number", "p")
    s.say(
        "For a wedding {p.at}, {h} had baked a cake of {number} layers.",
        "{h} had made a wedding cake, {number} layers high, and it had to be carried to {p}.",
    )
    s.do("help", "f", "h")
    s.say(
        "{f.name} helped {h.obj} to carry it, one slow step after the other.",
        "It took two to lift it, {h.name} in front and {f.name} behind.",
    )
    feel(s, "h", "worried")
    s.say(
        "At the kerb it leaned, and it leaned more, and {f} pushed it straight with one finger.",
        "A wasp came, a dog came, and a pigeon flew past it by an inch.",
    )
    s.do("feel", "h", "=proud")
    s.end(
        "All {number} layers arrived {p.at}, and {h.name} and {f.name} were given the first two slices.",
        "The bride cut it, {h.name} was proud, and {f.name} counted the {number} layers again.",
    )
