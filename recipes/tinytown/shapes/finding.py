"""Stories of losing, seeking and finding."""
# ruff: noqa: E501 - a sentence stays on its line

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
        "{h} owned {t.a}, a [birthday present|gift from an aunt|prize from a fair], and took good care of it.",
    )
    s.do("go", "h", "q")
    s.say(
        "{h} went to {q} [to meet a neighbour|to look around|on an errand|for some air].",
        "[Before lunch|After breakfast|As usual], {h} walked to {q}.",
        "There was something to do {q.at}, and so {h} went there.",
    )
    s.do("lose", "h", "t", "p")
    s.say(
        "On the way home, {p.at}, the {t} [slipped out of|fell from] {h.his} bag, and {h.he} did not notice.",
        "But [somewhere along the way|when nobody was looking] the {t} was lost: it had dropped to the ground {p.at}.",
        "Coming back, {h} lost the {t} {p.at}.",
        "{h} stopped {p.at} [for a moment|to rest], and there {h.he} lost the {t}.",
    )
    feel(s, "h", s.pick(("sad", "worried")))
    s.maybe(
        0.5,
        '"I have looked everywhere," {h} said to {f.name}.',
        '"Have you seen my {t}?" {h} asked {f.name}.',
        "{h} asked everyone in {h.street}.",
        "{h} turned out {h.his} pockets twice.",
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
        "{h.name} was [at the door|about to give up] when {f.name} brought it back.",
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
    s.cast["animal"] = s.pick((*lexicon.PET_SPECIES[:6], "goose"))
    s.word("pet_name", lexicon.ANIMAL_NAMES)
    s.place("p")
    s.place("q", is_outdoors=True)
    s.cast["food"] = s.pick(("carrots", "cheese", "bread crusts", "apples", "oats", "lettuce", "a bit of ham"))
    open_story(s)
    s.say(
        "[This week|For a few days] {h} was looking after a {animal} called {pet_name}.",
        "A {animal} called {pet_name} was staying with {h.obj} [for a while|that week].",
        "An uncle had left his {animal}, {pet_name}, with {h.name} [for a week|until Sunday].",
    )
    s.do("have", "h", "pet_name")
    s.do("lose", "h", "pet_name", "q")
    s.say(
        "But {q.at}, [while nobody was looking|as a cart went by|when a door banged], {pet_name} ran off.",
        "They were {q.at} when {pet_name} slipped the lead and was gone.",
        "{h} had stopped {q.at} to [tie a lace|talk to a friend], and there {pet_name} ran away.",
    )
    feel(s, "h", s.pick(("worried", "sad", "afraid")))
    s.maybe(
        0.6,
        "[A neighbour|An old man|A child] had seen [paw prints|tracks] in the mud.",
        "{h} called {pet_name} until {h.his} voice was gone.",
        'On every post hung a note: "{animal.cap} lost, answers to {pet_name}."',
    )
    s.do("find_one", "f", "pet_name", "p")
    s.say(
        "In the end {f.name} found {pet_name} {p.at}, [fast asleep|wet and hungry|eating {food}].",
        "It was {f.name} who found {pet_name} {p.at}[, safe and sound|, covered in mud|].",
        "Late that night {f.name} found {pet_name} {p.at}, [as pleased as could be|tired but well].",
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
    s.word("number", ("four", "five", "six", "seven", "eight", "nine", "ten", "twelve"))
    open_story(s)
    s.do("find", "h", "=purse", "p")
    s.do("count", "number", "=coins")
    s.say(
        "{p.at}, {h} found a purse with {number} coins in it.",
        "{h} was [walking home|out for some air|late for work] when {h.he} found a purse {p.at}; inside were {number} coins.",
        "Something lay on the ground {p.at}, and {h} bent down: {h.he} had found a purse, and {number} coins in it.",
    )
    s.maybe(
        0.6,
        "With so much money {h} could have bought [a new bed|sweets for a month|a whole cheese].",
        "Nobody[, not even the sparrows,|] had seen {h.name} pick it up.",
    )
    s.say(
        "But [the purse|it] was not {h.his} own, and {h.name} knew it.",
        '"Somebody must be missing [this|{number} coins]," [{h} thought|thought {h.name}].',
        "{h.name} knew [at once|very well] that [it|the purse] had to go back.",
    )
    s.say(
        "A [card|slip of paper|name] [in the purse|on the inside] showed [that it belonged to {f.name}|whose it was: {f.name}].",
        "The letters [sewn on it|on the clasp] were those of {f.name}.",
    )
    s.do("return", "h", "f", "=purse")
    s.say(
        "So {h} took the purse to {f.name}, who lived {f.on_street}.",
        "{h} knocked on the door of {f.name} and handed over the purse.",
    )
    s.do("feel", "f", "=surprised")
    s.say(
        "{f.name} [counted the {number} coins|looked inside] and was surprised to find [them all|all {number}] there.",
        "{f.name} was surprised: not [one of the {number} coins|a single coin] was missing.",
    )
    s.do("feel", "h", "=proud")
    s.end(
        "{f.name} gave {h.name} [a warm handshake|a bag of plums|one shiny coin] for being so honest, and {h.name} went home proud.",
        "{h.name} felt proud all the way home, and {f.name} told the whole street about {h.him}.",
        "[It is good|How good it is] to be honest, thought {h.name}, proud and light of heart, while {f.name} waved from the door.",
    )


@shape("story")
def night_noise(s: Scene) -> None:
    s.people("h", "f")
    s.word("noise", lexicon.NOISES)
    s.word("animal", lexicon.WILD_ANIMALS)
    s.word("room", lexicon.ROOMS)
    introduce(s, "h")
    s.do("hear", "h", "noise", "room")
    s.say(
        "One night {h} woke up because of {noise} in the {room}.",
        "[Late one|One] night {h} heard {noise}, and it came from the {room}.",
        "{h} was [half asleep|reading in bed|putting out the lamp] when there was {noise} in the {room}.",
    )
    feel(s, "h", "afraid")
    s.maybe(
        0.5,
        "The wind? [No, the night was still.|No, it was too close for that.]",
        "{h.name} pulled the sheet [up to {h.his} chin|over {h.his} head].",
    )
    s.say(
        "{h} fetched {f.name} from [next door|across the road|{f.street}], and together they went to look[ into the {room}|].",
        "So {h} knocked at the house of {f.name}, and they went [in together with a lamp|to the {room} on tiptoe].",
        "{f.name} came over [in slippers|with a poker|half dressed], and [the two of them|{h.name} and {f.he}] went to see.",
    )
    s.do("see", "h", "animal", "room")
    s.say(
        "[Behind a sack of flour|On the lowest shelf|In the corner|Between two boxes] sat a {animal}, blinking at the light.",
        "There it was: a [small|young|frightened|very hungry] {animal}, [caught in a sack|looking for crumbs|stuck in a jug].",
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


@shape("story")
def treasure_map(s: Scene) -> None:
    s.people("h", "f")
    s.place("p", is_outdoors=True)
    s.place("q")
    s.thing("t", "keepsake music toy kitchen")
    s.word("number", ("ten", "twelve", "fifteen", "twenty", "six", "nine"))
    open_story(s, is_fair=True)
    s.do("find", "h", "=map", "q")
    s.say(
        "{q.at}, {h} found a [faded|strange|folded] map with [a red cross|a cross in ink|a big cross] on it[, and some signs|, drawn by hand|].",
        "It was {q.at}, [inside a bottle|under a loose board|in an old book], that {h} found a map.",
    )
    s.say(
        '"It is a treasure map!" [said|cried|whispered] {f.name}[, and looked round|].',
        "{f.name} [held it up to the light|looked at both sides] and [whistled|nodded]: a [real|true] treasure map.",
    )
    s.do("go", "h", "p")
    s.say(
        "[The cross|It] marked a spot {p.at}, so {h.name} and {f.name} went there [with a shovel|after dark|at dawn].",
        "{h} read [the signs|the words] aloud, and they led to {p}, where {h.name} and {f.name} went [at once|the next day].",
    )
    s.say(
        "They took {number} steps [to the north|towards the sun|from the corner] and began to dig.",
        "{number.cap} steps from the gate, {f} began to dig.",
    )
    s.maybe(
        0.5,
        "[Down they went|{f.name} dug deeper], past [roots and stones|an old shoe|a layer of clay].",
        "There was nothing but [worms|stones|sand] [for a long while|at first], said {f.name}.",
        "Soon {f.his} hands were black with earth.",
    )
    s.do("find", "f", "t", "p")
    s.say(
        "{f.name} was the one who found it: {t.a} in [a tin box|a jug|an oilcloth].",
        "[Then there was a clang|Then something rang], and in a [tin|wooden|tiny] box {f.name} found {t.a}.",
    )
    s.do("feel", "h", "=excited")
    s.end(
        "{h.name} was so excited about the {t} that {h.he} and {f.name} ran home [through the puddles|without the shovel].",
        "No gold, just {t.a}; yet {h.name} and {f.name} were as excited as [kings|children at a fair|never before].",
        "{h.name} hung the map on the wall, and {f.name} kept the {t}, both of them still excited.",
    )


@shape("story")
def mixed_up_bags(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", "clothing kitchen music paper")
    s.thing("u", "tool toy keepsake")
    s.place("p")
    open_story(s)
    s.do("have", "h", "t")
    s.do("have", "f", "u")
    s.say(
        "{h} came to {p} with {t.a} in a bag, and {f.name} with {u.a} in [a bag just like it|the same kind of bag].",
        "[Two brown bags|Two bags of the same make] stood [side by side|together] {p.at}: in one was the {t.full} of {h.name}, in the other the {u.full} of {f.name}.",
    )
    s.maybe(
        0.5,
        "It was crowded {p.at}, and [everybody|{f.name}] was in a hurry.",
        "[A gust of wind blew the labels away.|There was no label on either.]",
        "{h.name} and {f.name} talked [about the weather|about old times] and did not look.",
    )
    s.do("take", "h", "u", "p")
    s.say(
        "When they left, {h} took the wrong bag.",
        "{h} picked up the wrong bag [and went|on the way out].",
        "And so it came that {h.name} walked off with the bag of {f.name}.",
    )
    s.say(
        "At home {h} opened it and found [the {u}|a {u}] instead of the {t}.",
        "{h} looked into it [that evening|at home|on the way]: where was the {t}, and whose was this {u}?",
    )
    feel(s, "h", s.pick(("surprised", "worried", "ashamed")))
    s.say(
        "There was a knock: {f.name} stood outside, holding the {t}.",
        "Just then {f.name} came up the path with the {t} under one arm.",
    )
    s.end(
        "They changed bags, and {h.name} had the {t} again and {f.name} the {u}.",
        '"Next time [we shall|let us] tie [a knot in|something to] one of them," said {f.name}, and {h.name}, with the {t} back in {h.his} hands, agreed.',
        "How they laughed about it! {h.name} sewed {h.his} name on the bag with the {t}, and {f.name} did the same.",
    )


@shape("story")
def bottle_post(s: Scene) -> None:
    s.people("h", "f")
    s.word("food", lexicon.FOODS)
    s.place("p", is_outdoors=True)
    s.place("q", is_outdoors=True)
    open_story(s, is_fair=True)
    s.do("find", "h", "=bottle", "p")
    s.say(
        "{p.at}, [half buried|between two stones|among dead leaves], {h} found a [green|brown|dusty|small] bottle with [a letter|a note|a rolled-up page] in it. {h.name} pulled out the cork.",
        "Something glittered {p.at}. {h.name} had found a bottle, and in it, [dry as dust|rolled up tight|barely legible], was [a letter|a sheet of paper|a message].",
    )
    s.say(
        '"Whoever finds this," [it said|somebody had written], "may come to {q} on {day} [and eat {food} with me|for {food}]."',
        '[In neat letters|In blue ink|In capital letters] it said: "I am making {food} on {day}. Meet me {q.at}, [whoever you are|please|dear stranger]."',
    )
    feel(s, "h", s.pick(("excited", "surprised")))
    s.do("go", "h", "q")
    s.say(
        "On {day} {h} put on a clean shirt and went to {q}.",
        "So {h} went to {q} on {day}, [much too early|not knowing what to expect].",
    )
    s.do("meet", "h", "f", "q")
    s.say(
        "There {f.name} was waiting with [a covered dish|the {food}|a tablecloth and two chairs].",
        "And who sat there with [two plates|the {food}]? [It was {f.name}.|{f.name}!]",
    )
    s.maybe(
        0.5,
        '"I threw that bottle [into the water|over the wall|off a boat] [a year|two years|months] ago!" {f.name} said.',
        "{f.name} had almost [stopped hoping|given up hope] that [anyone|{h.name} or anybody] would come.",
    )
    s.end(
        "{h.name} and {f.name} ate the {food} to the last crumb and became good friends.",
        "Since that day {h.name} and {f.name} meet every month, and every time they share {food}.",
        "Nothing was left of the {food}, but {h.name} and {f.name} sat and talked until dark.",
    )


@shape("story")
def hide_and_seek(s: Scene) -> None:
    s.people("h", "f")
    s.person("x")
    s.place("p", is_outdoors=True)
    s.word("spot", lexicon.HIDING_SPOTS)
    s.word("spot2", lexicon.HIDING_SPOTS)
    s.word("number", ("twenty", "thirty", "fifty", "a hundred"))
    open_story(s, is_fair=True)
    s.do("go", "h", "p")
    s.say(
        "{h.name}, {f.name} and {x.name} went to {p} to play hide and seek.",
        '"Hide and seek!" cried {x.name}, and they all went to {p}, {h.name} and {f.name} too.',
    )
    s.say(
        "It was {h.names} turn to seek, and {h.he} counted to {number}.",
        "{h.name} closed {h.his} eyes and counted to {number}.",
    )
    s.do("hide_self", "f", "spot")
    s.say("{f.name} hid {spot}, as quiet as a mouse.", "Quickly {f.name} hid {spot}.")
    s.do("hide_self", "x", "spot2")
    s.say("{x.name} chose to hide {spot2}.", "{x.name} ran this way and that and at last hid {spot2}.")
    s.maybe(
        0.5,
        "A sneeze gave one of them away.",
        "For a while there was no sound but the birds.",
        "[Leaves rustled|A twig cracked].",
    )
    s.do("find_one", "h", "x", "p")
    s.say("Soon {h.name} found {x.name} {spot2}.", '"I see you, {x.name}!" called {h.name}, and looked {spot2}.')
    feel(s, "f", s.pick(("proud", "happy", "excited")), sign_rate=0.2)
    s.end(
        "Nobody found {f.name}, who stayed {spot} until {h.name} gave up and {x.name} called that it was time to eat.",
        "But {f.name}, {spot}, was never found, and so {f.name} won the game against {h.name} and {x.name}.",
        "It took {h.name} and {x.name} until sunset to find {f.name}, {spot}, fast asleep.",
    )
