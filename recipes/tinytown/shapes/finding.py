"""Stories of losing, seeking and finding."""

from __future__ import annotations

from recipes.tinytown import lexicon
from recipes.tinytown.shapes.beats import feel, introduce, open_story
from recipes.tinytown.shapes.registry import shape
from recipes.tinytown.telling import Scene

KEEPABLE = "toy music clothing keepsake paper tool"


@shape("story")
def lost_and_found(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", KEEPABLE)
    s.place("p")
    s.place("q")
    s.word("spot", lexicon.HIDING_SPOTS)
    open_story(s)
    s.do("have", "h", "t")
    s.say(
        "{h} had {t.a} and took it everywhere.",
        "[Of all {h.his} things|Of everything at home], {h} liked {h.his} {t.full} best.",
        "{h} never went out without {h.his} {t.full}.",
        "There was {t.a} that {h} had been given as a [birthday present|small child|parting gift], and {h.he} loved it.",
    )
    s.do("go", "h", "q")
    s.say(
        "{h} went to {q} [to meet a neighbour|to look around|on an errand|for a walk].",
        "[Before lunch|After breakfast|As usual], {h} walked to {q}.",
    )
    s.do("lose", "h", "t", "p")
    s.say(
        "On the way home, {p.at}, the {t} slipped out of {h.his} bag, and {h.he} did not notice.",
        "But somewhere along the way the {t} was lost: it had dropped to the ground {p.at}.",
        "Coming back, {h} lost the {t} {p.at}.",
        "{h} stopped {p.at} for a moment, and there {h.he} lost the {t}.",
    )
    feel(s, "h", s.pick(("sad", "worried")))
    s.maybe(
        0.5,
        '"I have looked everywhere," {h} said to {f.name}.',
        '"Have you seen my {t}?" {h} asked {f.name}.',
        "{h} asked everyone in {h.street}.",
    )
    s.do("find", "f", "t", "p")
    s.say(
        "It was {f.name} who found the {t} {p.at}, {spot}.",
        "[The next day|An hour later|Before dark], {f.name} looked {p.at} and found the {t} {spot}.",
        "{f.name} went to look, and {p.at}, {spot}, {f.he} found the {t}.",
    )
    s.do("return", "f", "h", "t")
    s.say(
        "{f} brought it [straight |]back to {h.name}.",
        "{f} gave the {t} back to {h.name} [at once|that same evening|with a smile].",
    )
    s.do("feel", "h", "=happy")
    s.end(
        "{h.name} was happy to hold the {t} again and [thanked {f.name} warmly|promised to take better care of it|hugged {f.name}].",
        "With the {t} safe at home, {h.name} was happy, and {f.name} stayed for [tea|supper|a slice of cake].",
        "From then on {h.name} [tied the {t} to {h.his} belt|kept the {t} close|looked after the {t}], happy that {f.name} had found it.",
    )


@shape("story")
def missing_animal(s: Scene) -> None:
    s.people("h", "f")
    s.cast["animal"] = s.pick(("dog", "cat", "goat", "pony", "goose", "rabbit", "hen"))
    s.word("pet_name", lexicon.PET_NAMES)
    s.place("p")
    s.place("q")
    s.cast["food"] = s.pick(("carrots", "cheese", "bread crusts", "apples", "oats", "lettuce", "a bit of ham"))
    open_story(s)
    s.say(
        "[This week|For a few days] {h} was looking after a {animal} called {pet_name}.",
        "A {animal} called {pet_name} was staying with {h.obj} [for a while|that week].",
    )
    s.say(
        "[But one|One] morning the gate stood open and {pet_name} was gone.",
        "Then, while nobody was looking, {pet_name} ran away.",
        "When {h} came with the food bowl, there was no {pet_name} to be seen.",
    )
    feel(s, "h", s.pick(("worried", "sad", "afraid")))
    s.do("go", "h", "q")
    s.say(
        "First {h} went to {q}, but there was no {animal} [there|to be seen].",
        "{h} ran to {q} and called, but no {animal} came.",
    )
    s.maybe(
        0.5,
        "[A neighbour|The postman|A child] had seen paw prints[ in the mud|].",
        "{h} called {pet_name} until {h.his} voice was gone.",
    )
    s.do("find", "f", "pet_name", "p")
    s.say(
        "In the end {f.name} found {pet_name} {p.at}, [fast asleep|wet and hungry|eating {food}].",
        "It was {f.name} who found {pet_name} {p.at}[, safe and sound|, covered in mud|].",
    )
    s.maybe(0.6, "{f} used {food} to lead the {animal} home.", "All it took to bring {pet_name} home was {food}.")
    s.do("feel", "h", "=grateful")
    s.end(
        "{h.name} was grateful to {f.name} and mended the gate [that very day|before supper], so that {pet_name} could not run off again.",
        "{pet_name} slept well that night, and {h.name}, grateful for the help, baked {f.name} a cake.",
        'Grateful and tired, {h.name} scratched {pet_name} behind the ear. "Stay here," {h.he} said to the {animal}.',
    )


@shape("story")
def found_purse(s: Scene) -> None:
    s.people("h", "f")
    s.place("p")
    s.cast["number"] = english_number = s.pick(("four", "five", "six", "seven", "eight", "nine", "ten", "twelve"))
    open_story(s)
    s.do("find", "h", "=purse", "p")
    s.say(
        "{p.at}, {h} found a purse with {number} coins in it.",
        "{h} was [walking home|out for some air] when {h.he} found a purse {p.at}; inside were {number} coins.",
    )
    s.maybe(
        0.6,
        "With that money {h} could have bought [a new hat|sweets for a month|a fine lantern].",
        "Nobody had seen {h.obj} pick it up.",
    )
    s.say(
        "But the purse was not {h.his} to keep.",
        '"Somebody must be missing this," {h} thought.',
        "{h} knew at once that it had to go back.",
    )
    s.say(
        "A [card|slip of paper|name] in the purse showed that it belonged to {f.name}.",
        "The letters sewn on it were those of {f.name}.",
    )
    s.do("return", "h", "f", "=purse")
    s.say(
        "So {h} took the purse to {f.name}[, who lived {f.on_street}|].",
        "{h} knocked on the door of {f.name} and handed over the purse.",
    )
    s.do("feel", "f", "=surprised")
    s.say(
        "{f} counted the {number} coins and was surprised to find them all there.",
        "{f.name} was surprised: not one of the {number} coins was missing.",
    )
    s.do("feel", "h", "=proud")
    s.end(
        "{f.name} gave {h.name} [a warm handshake|a basket of plums|one shiny coin] for being so honest, and {h.name} went home proud.",
        "{h.name} felt proud all the way home, and {f.name} told the whole street about {h.him}.",
    )
    assert english_number


@shape("story")
def night_noise(s: Scene) -> None:
    s.people("h", "f")
    s.word(
        "noise",
        (
            "a scratching",
            "a tapping",
            "a rustling",
            "a soft howling",
            "a squeaking",
            "a rattling",
            "a bumping",
            "a humming",
        ),
    )
    s.word("animal", lexicon.WILD_ANIMALS)
    s.word("room", ("kitchen", "attic", "cellar", "shed", "hall", "pantry"))
    introduce(s, "h")
    s.do("hear", "h", "noise", "room")
    s.say(
        "One night {h} woke up because of {noise} in the {room}.",
        "[Late one|One] night {h} heard {noise}, and it came from the {room}.",
        "{h} was [half asleep|reading in bed|blowing out the candle] when there was {noise} in the {room}.",
    )
    feel(s, "h", "afraid")
    s.maybe(
        0.5,
        "The wind? [No, the night was still.|No, it was too close for that.]",
        "{h} pulled the blanket up to {h.his} chin.",
    )
    s.say(
        "{h} fetched {f.name} from next door, and together they went to look.",
        "So {h} knocked at the house of {f.name}, and they went in together with a lamp.",
    )
    s.do("see", "h", "animal", "room")
    s.say(
        "[Behind a sack of flour|On the lowest shelf|In the corner|Between two boxes] sat a {animal}, blinking at the light.",
        "There it was: a [small|young|frightened|very hungry] {animal}, [caught in a net|looking for crumbs|stuck in a jug].",
    )
    s.say(
        '"So that is our ghost," said {f.name}.',
        "{f.name} laughed until {f.he} had to sit down.",
        "{f.name} opened the door wide, and the {animal} [ran|hurried] into the garden.",
    )
    s.end(
        "After that {h.name} was not afraid of noises in the {room} any more, and left [a saucer|some crumbs] out for the {animal}.",
        "{h.name} slept soundly until morning, and the {animal} never came back to the {room}.",
        "{h.name} and {f.name} drank cocoa and told each other stories about the {animal} in the {room}.",
    )
