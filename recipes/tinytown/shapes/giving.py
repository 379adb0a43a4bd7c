"""Stories of gifts, loans, swaps and help."""

from __future__ import annotations

from recipes.tinytown import lexicon
from recipes.tinytown.shapes.beats import feel, introduce, open_story
from recipes.tinytown.shapes.registry import shape
from recipes.tinytown.telling import Scene


@shape("story")
def birthday_gift(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t")
    s.place("p")
    open_story(s)
    s.say(
        "The birthday of {f.name} was [only two days away|coming soon|the next day], and {h.name} had no present yet.",
        "{h} wanted to give {f.name} something [special|nice|useful] for {f.his} birthday.",
        "[On Sunday|In a few days|Before long] it would be {f.names} birthday, and {h.name} thought hard about a present.",
    )
    s.maybe(
        0.5,
        "{h} counted {h.his} coins twice.",
        "What do you give someone who has everything?",
        "{h} asked around, but nobody had an idea.",
    )
    s.do("buy", "h", "t", "p")
    s.say(
        "Then, {p.at}, a pedlar was selling [all sorts of things|odds and ends], and {h} bought {t.a}.",
        "{h} went from stall to stall {p.at} and bought {t.a}[ at last|].",
        "{p.at}, {h} saw {t.a} and bought it [on the spot|at once|after some thought].",
    )
    s.maybe(
        0.6,
        "{h} wrapped it in [brown paper|an old newspaper|a clean cloth].",
        "All night long it lay hidden under {h.his} bed.",
    )
    s.do("give", "h", "f", "t")
    s.say(
        "On the day itself, {h} gave the {t} to {f.name}.",
        "{h} gave {f.name} the {t} [with both hands|at the party|before breakfast].",
    )
    feel(s, "f", s.pick(("happy", "surprised", "excited")))
    s.end(
        '"How did you know that I wanted a {t}?" said {f.name}, and {h.name} only smiled.',
        "{f.name} [showed the {t} to everyone|carried the {t} about all day|put the {t} on the best shelf], and {h.name} was glad.",
        "{f.name} thanked {h.name} and said that it was the best {t} in town.",
    )


@shape("story")
def borrowed_thing(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", "tool kitchen toy music paper")
    s.place("p")
    s.word("days", ("two", "three", "four", "five", "six"))
    open_story(s)
    s.do("have", "f", "t")
    s.say(
        "{h} needed a {t}, but only {f.name} had one.",
        "There was just one {t} {h.on_street}, and it belonged to {f.name}.",
    )
    s.do("lend", "f", "h", "t")
    s.say(
        "{f.name} lent {h.obj} the {t} for {days} days.",
        '"You may have it for {days} days," said {f.name}, and lent {h.obj} the {t}.',
        "{f.name} did not mind, and lent the {t} to {h.name} for {days} days.",
    )
    s.do("go", "h", "p")
    s.say(
        "{h} took it to {p} and [used it all afternoon|put it to good use|was very careful with it].",
        "With the {t} under {h.his} arm, {h} went to {p}.",
        "{p.at} there was work to do, and {h} went there with the {t}.",
    )
    s.maybe(
        0.5,
        "When it began to rain, {h} kept the {t} dry under a sack.",
        "Twice somebody asked to have a go with it, and twice {h} said no.",
    )
    s.do("return", "h", "f", "t")
    s.say(
        "After {days} days {h} brought the {t} back to {f.name}, [clean and shining|as good as new|with a note of thanks].",
        "On the last day {h} returned the {t} to {f.name}.",
        "When the {days} days were over, {f.name} had the {t} back from {h.name}.",
    )
    feel(s, "f", s.pick(("happy", "grateful")), sign_rate=0.2)
    s.end(
        '"You can borrow my {t} any time," {f.name} told {h.name}.',
        "{h.name} knew that a borrowed {t} is a promise, and {f.name} knew it too.",
        "Since then {f.name} and {h.name} have shared the {t} [like old friends|without a single quarrel].",
    )


@shape("story")
def the_swap(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", "toy music paper keepsake clothing")
    s.thing("u", "toy music paper keepsake clothing")
    s.place("p")
    open_story(s)
    s.do("have", "h", "t")
    s.say(
        "{h} had {t.a} and was tired of it.",
        "For years {h} had owned {t.a}, but {h.he} hardly looked at it now.",
        "What use is {t.a} that nobody wants? {h.name} had one like that.",
    )
    s.do("have", "f", "u")
    s.say(
        "{f.name} had {u.a}.",
        "{f.name}, on the other hand, owned {u.a}.",
        "At the same time {f.name} had {u.a} that nobody used.",
    )
    s.do("swap", "h", "f", "t", "u")
    s.say(
        "They met {p.at} and swapped: the {t} for the {u}.",
        "One day, {p.at}, {h.name} swapped the {t} for the {u} that belonged to {f.name}.",
        '"Shall we swap?" asked {f.name} when they met {p.at}. So {h.name} handed over the {t} and took the {u}.',
    )
    feel(s, "h", s.pick(("happy", "excited")))
    s.maybe(
        0.5,
        "Old things are new to somebody else.",
        "It was a fair bargain, and they shook hands on it.",
        "Each thought that the other had been too kind.",
    )
    s.end(
        "{h.name} took the {u} home, {f.name} took the {t}, and both of them were pleased.",
        "That evening {h.name} fell asleep beside the {u}, and {f.name} beside the {t}.",
        "Neither {h.name} nor {f.name} ever asked for the other thing back, for the {u} suited one and the {t} the other.",
    )


@shape("story")
def soup_for_the_sick(s: Scene) -> None:
    s.people("h", "f")
    s.word("food", lexicon.FOODS)
    s.word("illness", lexicon.ILLNESSES)
    open_story(s)
    s.do("ill", "f", "illness")
    s.say(
        "{f.name} was in bed with {illness}.",
        "[On that day|That week] {f.name} had {illness} and could not get up.",
        "Poor {f.name} had {illness}.",
    )
    s.do("cook", "h", "food")
    s.say(
        "When {h} heard of it, {h.he} cooked {food}[ from an old recipe|].",
        "So {h} stood in the kitchen and cooked {food}.",
        "{h} tied up {h.his} sleeves and cooked {food} for {f.him}.",
    )
    s.maybe(
        0.5,
        "The smell of it filled {h.street}.",
        "It took [every pot|two pots] and most of the morning.",
        "{h} tasted it twice and added a pinch of salt.",
    )
    s.do("bring", "h", "f", "food")
    s.say(
        "{h} brought the {food} to {f.name}, [still warm|wrapped in a towel|in a covered dish].",
        "Then {h} brought {f.name} the {food} through the [wind|wet streets|back gate].",
    )
    s.say(
        "{f.name} ate [every bite|two helpings|slowly and with closed eyes].",
        "{f} sat up and ate all of it.",
        "The plate was empty when {f} [lay back|smiled at last].",
    )
    feel(s, "f", s.pick(("grateful", "happy")))
    s.end(
        "A few days later {f.name} was well again, and said that the {food} from {h.name} had done it.",
        '"Your {food} {food.is} better than any medicine," {f.name} told {h.name}.',
        "{h.name} washed the plate, and {f.name} fell asleep, warm from the {food}.",
    )


@shape("story")
def surprise_party(s: Scene) -> None:
    s.people("h", "f")
    s.person("x")
    s.word("food", lexicon.FOODS)
    s.place("p")
    s.word("number", ("eight", "nine", "ten", "eleven", "twelve", "fifteen"))
    open_story(s)
    s.say(
        "{h.name} and {x.name} were planning a party for {f.name}, and {f.name} was not to know.",
        '"Not a word to {f.name}," {h.name} told {x.name}, for it was to be [a surprise|a surprise party].',
    )
    s.do("invite", "h", "number", "p")
    s.say(
        "{h.name} asked {number} guests to come to {p}.",
        "{number.cap} guests were invited to {p}, and {h.name} wrote every card by hand.",
    )
    s.do("cook", "x", "food")
    s.say("{x.name} cooked {food} for all of them.", "For the table {x.name} cooked {food}.")
    s.maybe(
        0.6,
        "Paper [stars|moons|flowers] hung [from string to string|all over {p}].",
        "[Somebody|{x.name}] tuned a [piano|guitar|banjo].",
        "The lamps {p.at} were put out, and [everyone|{x.name}] held [their breath|a finger up].",
    )
    s.do("go", "f", "p")
    s.say(
        '"Come with me[, I have to show you something|, {f.name}]," {h.name} said, and so {f.name} went to {p}.',
        "On some excuse {h.name} got {f.obj} to go to {p}.",
    )
    s.say('"Surprise!" shouted {number} voices.', "All {number} guests jumped up at once.")
    feel(s, "f", s.pick(("surprised", "happy")))
    s.end(
        "They ate {food} until late, and {f.name} danced first with {h.name} and then with {x.name}.",
        "There was not a crumb of the {food} left when {f.name} thanked {h.name} and {x.name} at the door.",
        '"I never guessed a thing," {f.name} said to {h.name} and {x.name}, with a mouth full of {food}.',
    )


@shape("story")
def the_promise(s: Scene) -> None:
    s.people("h", "f")
    s.place("p", is_outdoors=True)
    s.word("deed", lexicon.DEEDS)
    open_story(s, is_fair=True)
    s.do("promise", "h", "f", "deed")
    s.say(
        "{h} had promised {f.name} to {deed} [before dark|on {day}].",
        '"I promise to {deed}," {h} had told {f.name}.',
        "{f.name} was going away, and {h.name} promised {f.obj} to {deed}.",
    )
    s.say(
        "But {p.at} [there was|on {day} there was] [a fair with a roundabout|a magic show|a band from the city].",
        "But on that very day [a circus|a troupe of clowns|a brass band] came to {p}.",
    )
    s.say(
        "All {h.names} friends [went there|were going].",
        '"Come along[, {h.name}|]!" the others called.',
        "From far off {h.name} could hear [the music|the laughter].",
    )
    feel(s, "h", s.pick(("sad", "excited", "bored")), sign_rate=0.3)
    s.say(
        "A promise is a promise, {h.name} told {h.self}.",
        "{h} shook {h.his} head. [First the work, then the fun.|A word is a word.]",
        "{h} thought of {f.name}, and stayed.",
    )
    s.do("do_deed", "h", "deed")
    s.say(
        "So {h} stayed [away|at home] and did what {h.he} had [said|promised {f.name}]: to {deed}.",
        "{h} began to {deed}, and [whistled all the while|did it well].",
    )
    s.end(
        "When {f.name} came home and saw it, {h.name} was taken to {p} for the last and best hour.",
        "{f.name} was so pleased that {h.name} got [a seat in the front row|a ticket for the next day] {p.at}.",
        '"I knew that I could trust you," {f.name} said to {h.name}, and they walked to {p} together.',
    )


@shape("story")
def new_neighbour(s: Scene) -> None:
    s.people("h", "f")
    s.word("food", lexicon.FOODS)
    s.thing("t", "tool kitchen")
    s.place("p")
    open_story(s)
    s.do("move", "f", "=" + s.cast["f"].street)
    s.say(
        "{f.name} had just moved to {f.street} and did not know anyone.",
        "A cart full of boxes stood {f.on_street}: {f.name} was moving in.",
    )
    feel(s, "f", "lonely", sign_rate=0.6)
    s.do("bring", "h", "f", "food")
    s.say(
        "{h.name} came by with {food} [in a dish|on a plate|under a cloth], to say welcome.",
        "On the first evening {h.name} brought {f.obj} {food}.",
    )
    s.do("have", "h", "t")
    s.do("lend", "h", "f", "t")
    s.say(
        "{h} also lent {f.obj} {t.a}, because {f.his} own was still in a box.",
        "And since {f.name} could not find anything yet, {h.name} lent {f.him} {t.a}.",
    )
    s.do("go", "h", "p")
    s.say(
        "The next day {h.name} went to {p} with {f.name} and showed {f.him} [the best bench|the short cut|everything].",
        "Then {h.name} went with {f.name} to {p}, and they met [half the town|a dozen people|all sorts of people].",
    )
    s.end(
        "By the end of the week {f.name} was not lonely any more, and cooked {food} for {h.name}.",
        '"I think I shall like it [here|{f.on_street}]," said {f.name}, and gave the {t} back to {h.name}.',
        "{f.name} unpacked the last box, and {h.name} helped to hang a picture {f.on_street}.",
    )


@shape("story")
def heavy_load(s: Scene) -> None:
    s.people("h", "f")
    s.word("good", lexicon.GOODS)
    s.place("p")
    s.place("q")
    open_story(s)
    s.do("carry", "f", "good", "p")
    s.say(
        "{f.name} was carrying a heavy sack of {good.plural} from {p} to {q}.",
        "From {p} came {f.name}, bent under a sack of {good.plural}, on the way to {q}.",
    )
    s.say(
        "The sack [tore|split] at the seam, and {good.plural} rolled over the road.",
        "On the corner the string broke, and the {good.plural} went everywhere.",
    )
    feel(s, "f", s.pick(("sad", "angry", "worried")))
    s.do("help", "h", "f")
    s.say(
        "{h} ran up to help {f.obj}.",
        "{h.name} saw it and helped {f.obj} to pick them up.",
        '"Wait, I shall help you," said {h.name}.',
    )
    s.maybe(
        0.6,
        "One by one they put them into {h.names} pockets.",
        "Even the ones in the gutter were saved.",
        "A child brought back the last of them.",
    )
    s.do("go", "h", "q")
    s.say(
        "Then {h} took one end of the sack and {f} the other, and so they went to {q}.",
        "{h} went along to {q}, with half of the load.",
    )
    s.do("feel", "f", "=grateful")
    s.end(
        "{f.name} was grateful and gave {h.name} a bag of {good.plural} to take home.",
        '"Without you, {h.name}, I would still be on my knees," said {f.name}, grateful for every one of the {good.plural}.',
        "At the door {f.name}, grateful and out of breath, made {h.name} take a dozen of the {good.plural}.",
    )


@shape("story")
def a_warm_coat(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", "clothing")
    s.place("p", is_outdoors=True)
    s.word("number", ("three", "four", "five", "six", "seven"))
    introduce(s, "h")
    s.say(
        "Winter came early that year.",
        "It was the coldest week [in years|of the winter].",
        "An icy wind blew from the north.",
    )
    s.do("meet", "h", "f", "p")
    s.say(
        "{p.at}, {h} met {f.name}, who was shivering.",
        "{h} met {f.name} {p.at}. How {f.he} shivered!",
        "Who stood {p.at}, blue with cold? It was {f.name}, and {h.name} met {f.him} there.",
    )
    s.do("have", "h", "t")
    s.say(
        "{h} had {t.a} on.",
        "Over {h.his} arm {h} carried {t.a}.",
        "It was lucky that {h} had {h.his} {t.full} with {h.him}.",
    )
    s.do("give", "h", "f", "t")
    s.say(
        '"Take this," said {h.name}, and gave {f.obj} the {t}.',
        "Without a word {h} gave the {t} to {f.name}.",
        "{h} gave {f.name} the {t}, cold as it was.",
    )
    s.maybe(
        0.5,
        "{number.cap} minutes later {f.his} teeth stopped chattering.",
        "For {number} days it froze, and {f} wore it day and night.",
    )
    s.do("feel", "f", "=grateful")
    s.say("{f} was grateful beyond words.", "{f.name} did not know how to say how grateful {f.he} was.")
    if s.chance(0.35):
        s.do("return", "f", "h", "t")
        s.end(
            "In spring {f.name} brought the {t} back to {h.name}, [washed and folded|with a bag of nuts in it].",
            "When it got warm, {f.name} returned the {t} to {h.name} and stayed for {h.food}.",
        )
    else:
        s.end(
            "That winter {h.name} had one {t} less, and one friend more: {f.name}.",
            "Whenever {f.name} sees a {t} like that, {f.he} thinks of {h.name}.",
        )
