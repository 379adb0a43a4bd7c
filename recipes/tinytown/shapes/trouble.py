"""Stories of trouble: storms, quarrels, mistakes, fears, and how they end."""

from __future__ import annotations

from recipes.tinytown import lexicon
from recipes.tinytown.shapes.beats import feel, introduce, open_story
from recipes.tinytown.shapes.registry import shape
from recipes.tinytown.telling import Scene


@shape("story")
def broken_and_mended(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", "toy music kitchen tool")
    s.place("p")
    open_story(s)
    s.do("have", "h", "t")
    s.say(
        "{h} had {t.a} that [had been a present|{h.he} was very fond of|was older than the house].",
        "On a shelf at home, {h} kept {t.a}.",
        "Nothing was dearer to {h.name} than {h.his} {t.full}.",
    )
    s.do("break", "h", "t")
    s.say(
        "One careless step, and {h} broke the {t}.",
        "{h} [tripped|slipped] {p.at}, fell on the {t} and broke it.",
        "Then {h} dropped the {t}, and it broke.",
    )
    feel(s, "h", s.pick(("sad", "ashamed", "angry")))
    s.maybe(
        0.5,
        '"It is only a crack," said [somebody|a neighbour|an aunt], but it was [more than that|worse].',
        "{h} gathered every last piece.",
        "Could anybody [put it right|mend such a thing]?",
    )
    s.do("mend", "f", "t")
    s.say(
        "{f.name} asked to see [it|the pieces], and with [glue and string|a few small nails|wire and patience] {f.he} mended the {t}.",
        "It took {f.name} [a whole evening|two days|an hour], but {f.he} mended the {t}.",
        "{f.name} had clever hands and mended the {t} [by lamplight|with a drop of glue|before supper].",
    )
    s.do("feel", "h", "=grateful")
    s.end(
        "{h.name} was grateful, and the mended {t} was dearer to {h.him} than before, because {f.name} had mended it.",
        '"A mended {t} has a story to tell," said {f.name}, and {h.name} was grateful.',
        "Now the {t} stands on the windowsill, and {h.name} thinks of {f.name} when the light falls on it, and is grateful.",
    )


@shape("story")
def the_quarrel(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", "toy music paper tool")
    s.place("p")
    open_story(s)
    s.do("quarrel", "h", "f", "t")
    s.say(
        "{h.name} and {f.name} both wanted {t.a} that they had seen {p.at}, and quarrelled over it.",
        "{p.at}, {h.name} quarrelled with {f.name} over {t.a}.",
        "There was only one {t} {p.at}, a {t.quality} one, and {h.name} quarrelled with {f.name} over it.",
    )
    s.say(
        '"I saw it first!" cried {f.name}.',
        '"You always get everything," {h} complained.',
        "Neither would let go of the {t}.",
    )
    feel(s, "h", "angry")
    s.maybe(
        0.5,
        "For [a whole day|two days|an hour] they did not speak.",
        "They walked home on different sides of the street.",
    )
    s.do("feel", "f", "=ashamed")
    s.say(
        "But {f.name} felt ashamed of the harsh words.",
        "At home, {f.name} thought about it and was ashamed.",
        "That night {f.name} lay awake and was ashamed.",
    )
    s.say(
        '"I am sorry," said {f.name} the next [day|morning].',
        "So {f} went to {h.name} and said sorry.",
        '{f.name} knocked [on the door|at the window]. "I was wrong[, {h.name}|]," {f.he} said.',
    )
    s.end(
        "{h.name} and {f.name} agreed to share the {t}, [one day each|turn by turn|week by week].",
        "They made up, and {h.name} and {f.name} found out that the {t} was more fun for two.",
        '"What is a {t} against a friend?" said {h.name}, and {f.name} nodded.',
    )


@shape("story")
def the_storm(s: Scene) -> None:
    s.people("h", "f")
    s.place("p", is_outdoors=True)
    s.word("part", lexicon.HOUSE_PARTS)
    s.word("number", ("three", "four", "five", "six", "eight"))
    introduce(s)
    s.say(
        "In the night a storm came up [from the sea|from the west|over the hills] and shook {h.street}.",
        "All evening the sky over {h.street} had been [as dark as ink|strangely yellow].",
        "The storm began with [a single gust|a low hum|one slammed shutter].",
    )
    s.do("damage", "part", "h")
    s.say(
        "It tore the {part} off the house of {h.name}.",
        "By morning {h.names} {part} was in pieces.",
        "When it was over, {h.names} {part} lay {p.at}.",
    )
    feel(s, "h", s.pick(("sad", "worried")))
    s.do("help", "f", "h")
    s.say(
        "{f.name} came with [tools|a box of nails|a cart of boards] to help {h.obj}.",
        "{f.name} was the first to come and help.",
    )
    s.say(
        "For {number} hours {h.name} and {f.name} sawed and hammered.",
        "{number.cap} neighbours joined in, each with [a different idea|a box of nails].",
        "They needed {number} [planks|beams|ropes] and all [their strength|the strength of {f.name}].",
    )
    s.maybe(
        0.5,
        "[Somebody|A child|The baker's boy] brought [hot tea|hot soup|cold milk] in a can.",
        "Twice it began to rain again.",
        "{f.name} hit {f.his} thumb [and yelled|but said nothing].",
    )
    s.say(
        "Before dark the {part} was as good as new.",
        "The new {part} was [stronger|better|prettier] than the old one.",
        "When the sun went down, {h.name} had a {part} again.",
    )
    s.end(
        '"Let it blow," said {h.name} to {f.name}, and knocked on the {part}.',
        "{h.name} thanked {f.name}, and the next storm left the {part} alone.",
        "Whenever the wind rises, {h.name} looks at the {part} and thinks of {f.name}.",
    )


@shape("story")
def stuck_animal(s: Scene) -> None:
    s.people("h", "f")
    s.word("animal", lexicon.STUCK_ANIMALS)
    s.word(
        "trap",
        (
            "in a drainpipe",
            "on a ledge",
            "in a thorn bush",
            "down a pit",
            "between two rocks",
            "in a fishing line",
            "behind a grating",
            "on a chimney",
        ),
    )
    s.place("p", is_outdoors=True)
    open_story(s)
    s.do("hear", "h", "=cry", "p")
    s.say(
        "{p.at}, {h} heard a [thin|small|weak] cry.",
        "A strange cry came from somewhere {p.at}, and {h} [stopped|listened].",
    )
    s.do("see", "h", "animal", "p")
    s.say(
        "A {animal} was stuck {trap}.",
        "{h} looked [up and down|all round] and saw a {animal} stuck {trap}.",
        "There, {trap}, sat a {animal} that could not get out.",
    )
    feel(s, "h", s.pick(("worried", "sad")), sign_rate=0.2)
    s.say("{h} called {f.name}, who lived close by.", "Luckily {f.name} came along [with a long pole|on a cart].")
    s.do("rescue", "f", "animal", "p")
    s.say(
        "While {h.name} held on tight, {f.name} reached in and rescued the {animal}.",
        "Inch by inch {f.name} crept closer, and rescued the {animal}.",
        "{f.name} lay [flat on the ground|on {f.his} belly], stretched out one arm, and rescued [it|the {animal}].",
    )
    s.maybe(
        0.6,
        "Its heart was beating fast.",
        "It did not even bite.",
        "{h} gave it [milk|water|a crumb] from {h.his} hand.",
    )
    s.end(
        "The {animal} looked back once at {h.name} and {f.name} and was gone.",
        "{h.name} took the {animal} home for a night, and {f.name} came to see it in the morning.",
        "Ever since, a {animal} sits {p.at} now and then when {h.name} and {f.name} go by.",
    )


@shape("story")
def salt_for_sugar(s: Scene) -> None:
    s.people("h", "f")
    s.word(
        "food",
        (
            "apple pie",
            "ginger cake",
            "jam tart",
            "plum crumble",
            "rice pudding",
            "cherry cake",
            "pear tart",
            "pancakes",
            "cream buns",
        ),
    )
    s.word("wrong", ("salt", "flour", "chalk", "soap powder", "mustard"))
    s.place("p")
    open_story(s, is_fair=True)
    s.say(
        "{h} wanted to bring {food} to the [feast|fair|summer party] {p.at}.",
        "For the [feast|fair|summer party] {p.at}, everyone was to bring something, and {h} chose {food}.",
    )
    s.do("cook", "h", "food")
    s.say(
        "{h} cooked the {food} in a great hurry, and took the {wrong} for sugar.",
        "{h} cooked the {food} [by candlelight|in the dark|half asleep], and what {h.he} took for sugar was {wrong}.",
    )
    s.do("taste", "f", "food")
    s.say(
        "{f.name} took [the first bite|a bite|a spoonful] and [made a face|coughed|went pale].",
        "The first to taste it was {f.name}, who [turned green|reached for the water].",
    )
    s.say(
        '"Is there {wrong} in [it|the {food}]?" {f.name} asked.',
        '"What an interesting taste of {wrong}," {f.name} said.',
    )
    feel(s, "h", "ashamed")
    s.maybe(
        0.5,
        "Somebody giggled.",
        "[A dog|A hen|A baby] was the only one to ask for more {food}.",
        "{h.name} wished the [floor|ground|earth] would open.",
    )
    s.say(
        "But {f.name} began to laugh, and [soon they all did|{h.name} with {f.him}].",
        '"It happens to [the best of us|everybody|me too]," said {f.name}.',
    )
    s.end(
        "The next {food} that {h.name} made was sweet, and {f.name} asked for more.",
        "Since then {h.name} has a label on every tin, and {f.name} still talks about the {food} with {wrong}.",
        "{h.name} made the {food} again on the same day, and {f.name} was there to hand over the sugar.",
    )


@shape("story")
def afraid_of_the_dark(s: Scene) -> None:
    s.people("h", "f")
    s.word("fear", lexicon.FEARS)
    s.thing("t", "tool toy keepsake music")
    s.place("p")
    introduce(s)
    s.do("fear", "h", "fear")
    s.say(
        "There was one thing that frightened {h.obj}: {fear}.",
        "{h} was afraid of {fear}, and told nobody.",
        "Ever since {h.he} was small, {h} had been afraid of {fear}.",
    )
    s.say(
        "One evening {h} had to go to {p} all the same.",
        "But {p.at} there was something to fetch, and no way round {fear}.",
    )
    feel(s, "h", "afraid", sign_rate=0.7)
    s.say(
        '"Everybody is afraid of something," said {f.name}. "I used to be afraid of {fear} too."',
        "{f.name} did not laugh at {h.obj}. {f.name} took {h.his} hand instead.",
    )
    s.do("have", "f", "t")
    s.do("give", "f", "h", "t")
    s.say("{f} gave {h.obj} {t.a} to hold.", '"Hold this {t} and think of me," {f} said, and gave it to {h.obj}.')
    s.do("go", "h", "p")
    s.say(
        "So, step by step, {h} went to {p}, the {t} in {h.his} hand.",
        "{h} took a deep breath and went to {p} with the {t}.",
    )
    s.do("feel", "h", "=proud")
    s.end(
        "{h.name} came back proud, put the {t} on the table, and told {f.name} that {fear} had been no trouble at all.",
        "{h.name} still has the {t} from {f.name}, and is proud of having faced {fear}.",
        "{f.name} was waiting with a lamp, and {h.name} was so proud that {h.he} forgot about {fear} and dropped the {t}.",
    )


@shape("story")
def lost_in_the_fog(s: Scene) -> None:
    s.people("h", "f")
    s.place("p")
    s.place("q")
    s.word("sound", ("a bell", "a trumpet", "a dog that barked", "a song", "a whistle", "somebody who hammered"))
    introduce(s)
    s.say(
        "The fog came so fast that [nobody|not even {f.name}] had time to go home.",
        "One day the fog {h.on_street} was so thick that the lamps were lit [at noon|all day].",
        "Nobody could remember a fog like this.",
    )
    s.do("go", "h", "p")
    s.say(
        "{h} was on the way to {p} and could not see [{h.his} own feet|the path|{h.his} hand].",
        "{h} had gone to {p}, and now {h.he} could not find [the way back|{h.street}|the road home].",
    )
    s.say(
        "Was this the path[ to {h.street}|]? Or that one?",
        "{h.name} walked in a circle and came to the same [post|tree|gate|wall] [again|twice].",
        "Every [tree|bush|post] looked like [a giant|a bear|{f.name}].",
    )
    feel(s, "h", s.pick(("afraid", "worried", "lonely")))
    s.do("hear", "h", "sound", "p")
    s.say("Then {h} heard {sound}.", "From somewhere in the grey came {sound}.")
    s.do("meet", "h", "f", "q")
    s.say(
        "{h} followed it, and it led to {q}, where {h.he} met {f.name}.",
        "It was {f.name}, {q.at}, who had thought of [{h.name}|all those outside|the others].",
    )
    s.maybe(
        0.5,
        '"I knew that somebody would [need it|come]," said {f.name}.',
        "[Two|A few|Several] others had [already come|found {f.name}] the same way.",
    )
    s.end(
        "{h.name} sat by the fire of {f.name} until the fog had lifted from {q}.",
        "Side by side {h.name} and {f.name} waited {q.at}, and more and more people came out of the fog.",
        "When the sun broke through, {h.name} saw that {f.name} had been only a few steps away, {q.at}.",
    )


@shape("story")
def the_leak(s: Scene) -> None:
    s.people("h", "f")
    s.word("room", lexicon.ROOMS)
    s.word("cause", lexicon.LEAK_CAUSES)
    s.thing("t", "kitchen")
    open_story(s)
    s.do("see", "h", "=water", "room")
    s.say(
        "{h} came down [in the morning|at dawn|for breakfast] and [stood in water|got wet feet]: the {room} was flooded.",
        "Drip, drip, drip: there was water in {h.names} {room}.",
        "There was a puddle in the {room} when {h} [got up|came home].",
    )
    s.do("have", "h", "t")
    s.say("{h} put a {t.full} under the drip.", "The only thing at hand was a {t.full}, and {h} put it under the drip.")
    feel(s, "h", s.pick(("worried", "angry")))
    s.say("The {t} was full in no time.", "{h} emptied the {t} again and again.", "Drop after drop fell into the {t}.")
    s.do("find_cause", "f", "cause", "room")
    s.say(
        "{f.name} came, looked about in the {room}, and found {cause}.",
        "It was {f.name} who found out what it was: {cause}.",
    )
    s.maybe(
        0.5,
        "With [tar and a rag|a wrench|two nails] it was soon done.",
        '"Nothing that I have not seen before," said {f.name}.',
    )
    s.do("feel", "h", "=grateful")
    s.end(
        "The {room} dried out, and {h.name}, grateful for the help, sent {f.name} the {t} full of plums.",
        "{h.name} was grateful, hung up the {t}, and asked {f.name} to stay for dinner.",
        "It has been dry in the {room} since {f.name} was there, and {h.name} is grateful for it to this day.",
    )


@shape("story", is_held_out=True)
def the_flood(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", "keepsake paper music clothing")
    s.place("p")
    open_story(s)
    s.do("have", "h", "t")
    s.say(
        "After days of rain the river rose, and water ran into the house where {h} kept {h.his} {t.full}.",
        "The dam upstream gave way, and {h} had no time to save {h.his} {t.full}.",
    )
    s.do("go", "h", "p")
    s.say(
        "{h} had to leave, and went to {p} with all the neighbours.",
        "Wet to the knees, {h} went to {p}, the highest ground there was.",
    )
    feel(s, "h", "worried")
    s.do("save", "f", "t")
    s.do("return", "f", "h", "t")
    s.say(
        "Then {f.name} came in a rowing boat and brought {h.obj} the {t}, dry and safe.",
        "Out of the dusk {f.name} came rowing, and brought {h.obj} the {t} in an oilskin.",
    )
    s.end(
        "When the water had gone, {h.name} hung the {t} by the door, and {f.name} was the first guest.",
        "Mud was everywhere, but {h.name} had the {t} and a friend called {f.name}.",
    )
