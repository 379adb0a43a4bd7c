"""Stories of outings, visits, work and weather."""
# ruff: noqa: E501 - a sentence stays on its line

from __future__ import annotations

from recipes.tinytown import lexicon
from recipes.tinytown.english import number_word
from recipes.tinytown.shapes.beats import feel, introduce, open_story, set_time
from recipes.tinytown.shapes.registry import shape
from recipes.tinytown.telling import Scene


@shape("story")
def the_picnic(s: Scene) -> None:
    s.people("h", "f")
    s.word("food", lexicon.FOODS)
    s.place("p", is_outdoors=True)
    s.word("thief", lexicon.THIEVES)
    open_story(s, is_fair=True)
    s.do("go", "h", "p")
    s.say(
        "{h} and {f.name} went to {p} for a picnic.",
        "It was a good day for a picnic, so {h} and {f.name} went to {p}.",
        '"Let us eat outside," said {f.name}, and {h.name} went to {p} with {f.him}.',
    )
    s.do("bring_along", "h", "food")
    s.say(
        "In the hamper {h.name} had {food}.",
        "{h.name} had brought {food} along, wrapped in a napkin.",
        "There was lemonade, and {h.name} had brought {food}.",
    )
    s.maybe(
        0.5,
        "{h.name} spread a rug and [took off {h.his} shoes|lay down|looked for shapes in the clouds].",
        "For a while {h.name} only listened to [the birds|the wind|the bees].",
    )
    s.do("steal", "thief", "food")
    s.say(
        "But when they turned round, {thief} had stolen the {food}.",
        "Then came {thief}, and stole the {food}.",
        "While they were looking the other way, {thief} stole the {food}.",
    )
    feel(s, "h", s.pick(("surprised", "angry", "sad")))
    s.say(
        "{f.name} laughed so much that {f.he} fell over.",
        '"At least somebody liked it," said {f.name}.',
        "{f.name} still had two apples and a bun.",
    )
    s.end(
        "{h.name} and {f.name} walked home hungry from {p}, and {thief.the} followed them all the way.",
        "Now, when {h.name} and {f.name} have a picnic, one of them always looks out for {thief}.",
        "{h.name} and {f.name} had supper at home instead, and told everyone about {thief.the}.",
    )


@shape("story")
def gone_fishing(s: Scene) -> None:
    s.people("h", "f")
    number = 1 + int(s.random() * 6)
    other = 1 + int(s.random() * 6)
    s.cast["n"], s.cast["m"] = number_word(number), number_word(other)
    s.cast["sum"] = number_word(number + other)
    s.cast["fish"] = s.pick(("trout", "perch", "carp", "pike"))
    open_story(s, is_fair=True)
    s.say(
        "{h} and {f.name} got up [before the sun|at dawn] to go fishing[ for {fish}|].",
        "Early in the morning {h} called for {f.name}, and they went fishing.",
        "One can learn a lot about a friend by fishing, as {h.name} and {f.name} did.",
    )
    s.say(
        "They sat on a log and hardly spoke.",
        "The water was like [glass|silk|oil].",
        "{f.name} had brought worms in a tin.",
        "[Hour after hour|In silence] {h.name} watched [the floats|the water|a cork].",
    )
    s.do("catch", "h", "n", "fish")
    s.say("{h.name} caught {n} {fish}.", "First {h.name} was lucky and caught {n} {fish}.")
    s.do("catch", "f", "m", "fish")
    s.say("{f.name} caught {m}.", "Then it was {f.name} who caught {m}.", "As for {f.name}, {f.he} caught {m}.")
    s.maybe(
        0.5, "One of them was as long as an arm.", "The biggest got away, of course.", "An old boot was pulled out too."
    )
    s.do("together", "sum", "fish")
    s.say(
        "That made {sum} {fish} together.",
        "Together they had {sum} {fish} in the pail.",
        "{sum.cap} {fish} they counted when they packed up.",
    )
    feel(s, "h", s.pick(("happy", "proud")))
    s.end(
        "There was {fish} for supper at {h.names} and at {f.names}, and the cats of the street had some as well.",
        "{h.name} fried the {fish}, {f.name} set the table, and they ate [until nothing was left of|all] the {sum}.",
        "They gave the {sum} {fish} to the neighbours, and {h.name} and {f.name} had bread and cheese.",
    )


@shape("story")
def market_day(s: Scene) -> None:
    s.people("h", "f")
    s.word("good", lexicon.GOODS)
    price, count = 1 + int(s.random() * 4), 2 + int(s.random() * 5)
    purse = price * count + 1 + int(s.random() * 5)
    s.cast |= {"price": number_word(price), "count": number_word(count), "total": number_word(price * count)}
    s.cast |= {
        "purse": number_word(purse),
        "rest": number_word(purse - price * count),
        "coin": "coin" if price == 1 else "coins",
    }
    s.cast["left"] = "coin" if purse - price * count == 1 else "coins"
    open_story(s)
    s.do("have_coins", "h", "purse")
    s.say(
        "{h} went to market with {purse} coins in {h.his} pocket.",
        "With {purse} coins to spend, {h} set out for the market.",
        "{purse.cap} coins were all that {h} had on market day.",
    )
    s.say(
        "{f.name} had a stall with {good.plural}, {price} {coin} each.",
        "{f.name} was selling {good.plural} at {price} {coin} apiece.",
        '"Fresh {good.plural}, {price} {coin} each!" called {f.name}.',
    )
    s.do("buy_count", "h", "count", "good", "total")
    s.say(
        "{h} bought {count} {good.plural} and paid {total} coins.",
        "{h} took {count} {good.plural}; that came to {total} coins.",
        "{count.cap} {good.plural} went into {h.names} bag, and {total} coins into {f.names} tin.",
    )
    s.maybe(
        0.5,
        "Somebody was roasting chestnuts.",
        "The fish seller shouted louder than all the others.",
        "Hens cackled in their crates.",
    )
    s.do("keep_coins", "h", "rest")
    s.say(
        "So {rest} {left} [remained|stayed in the pocket].",
        "That left {h.obj} with {rest} {left}.",
        "{h} counted what was left: {rest} {left}.",
    )
    s.end(
        "On the way out {h.name} ate one of the {good.plural}, and waved to {f.name}.",
        '"Come again," said {f.name}, and {h.name} promised to, for the {good.plural} were good.',
        "{h.name} kept the {rest} {left} for the next market day, and told {f.name} so.",
    )


@shape("story")
def snow_day(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t", "clothing tool kitchen")
    s.place("p", is_outdoors=True)
    s.word("nose", ("a carrot", "a pine cone", "a potato", "a radish", "a spool", "a cork"))
    introduce(s)
    s.say(
        "In the night it had snowed, and the school was closed.",
        "Snow! It lay knee-deep on every road.",
        "{h.name} looked out in the morning: [everything|all {h.street}] was white.",
    )
    s.do("go", "h", "p")
    s.say(
        "{h} went to {p}, where {f.name} was already rolling a huge snowball.",
        "{f.name} threw a snowball at [the window|the door], and {h.name} went with {f.him} to {p}.",
    )
    s.do("make", "h", "=snowman")
    s.say(
        "Together {h.name} and {f.name} made a snowman.", "{h.name} made a snowman, and {f.name} made it even bigger."
    )
    s.do("nose", "nose")
    s.say("Its nose was {nose}.", "They gave it {nose} for a nose.", "For the nose they used {nose}.")
    s.do("have", "f", "t")
    s.say(
        "{f.name} had {t.a} and put it on the snowman."
        if s.cast["t"].category == "clothing"
        else "{f.name} had {t.a} and put it into the snowman's hand."
    )
    feel(s, "h", s.pick(("happy", "excited")))
    s.maybe(
        0.5, "Their fingers were red with cold.", "A crow landed on its head.", "Everyone who passed by bowed to it."
    )
    s.end(
        "On the third day it melted, and the {t} and {nose} lay in a puddle when {h.name} and {f.name} came by.",
        "It stood {p.at} for a week, with {nose} in its face, and {h.name} and {f.name} said good morning to it.",
        "At dusk {h.name} and {f.name} went home from {p}, and the snowman kept the {t}.",
    )


@shape("story")
def star_watching(s: Scene) -> None:
    s.people("h", "f")
    s.place("p", is_outdoors=True)
    s.word("shape", ("a ladle", "a swan", "a crown", "a ship", "a hunter", "a fish", "a chair", "a plough"))
    s.word("number", ("three", "four", "five", "six", "seven"))
    introduce(s)
    s.do("go", "h", "p")
    s.say(
        "On a clear night {h} and {f.name} went to {p} to look at the stars.",
        "{f.name} could not sleep, and neither could {h.name}, so they went to {p} to see the stars.",
    )
    s.say(
        "There was no moon[, and {p} lay in the dark|, only the sky over {h.street}].",
        "{h.name} [lay down|lay on the ground|leaned back], and {f.name} [did the same|sat on a stump].",
        "At first {h} saw only [a few|one or two], then [hundreds|more and more].",
    )
    s.do("see", "f", "shape", "p")
    s.say(
        '"That one looks like {shape}," said {f.name}, pointing.',
        "{f.name} showed {h.obj} the stars that look like {shape}.",
    )
    s.do("see_count", "h", "number", "=shooting stars")
    s.say(
        "{h.name} saw {number} shooting stars.",
        "{number.cap} shooting stars fell, and {h.name} saw [every one of them|them all].",
    )
    s.maybe(
        0.5,
        "For each [of them|of the {number}] there was a wish.",
        "[An owl|A dog|A night bird] called, and another one answered.",
        "It grew cold, but {f.name} [did not want to leave|wanted to stay].",
    )
    feel(s, "h", s.pick(("happy", "surprised", "excited")), sign_rate=0.2)
    s.end(
        "What {h.name} wished for {h.he} told nobody, not even {f.name}.",
        "{f.name} fell asleep counting, and {h.name} looked at {shape} until it set behind the roofs.",
        "At breakfast {h.name} drew {shape} on a napkin, so that {f.name} would not forget it.",
    )


@shape("story")
def the_visitor(s: Scene) -> None:
    s.people("h")
    s.word("relation", lexicon.RELATIONS)
    s.word("origin", lexicon.ORIGINS)
    s.place("p")
    s.place("q")
    s.thing("t")
    s.word("days", ("two", "three", "four", "five", "six"))
    open_story(s)
    s.do("visit", "h", "relation", "origin")
    s.say(
        "{h.names} {relation} was coming from {origin} to stay for {days} days.",
        "A letter came: {h.names} {relation} would be visiting from {origin}, for {days} days.",
    )
    s.say(
        "{h.name} swept [every corner|the stairs] and put [flowers|plums|a cake] on the table.",
        "{h.name} was at the stop [an hour|long] before the coach[ from {origin}|].",
        "The spare bed was made up for the {relation}.",
    )
    feel(s, "h", s.pick(("excited", "happy", "worried")))
    s.do("go", "h", "p")
    s.say(
        "On [the first day|{day}] {h.name} went with [the visitor|the {relation}] to {p}.",
        "First of all {h} and the {relation} went to {p}.",
    )
    s.say(
        "The day after, they saw {q}.",
        "They also had a look at {q}.",
        "It was {q}, though, that the visitor liked most.",
    )
    s.do("receive", "h", "t", "relation")
    s.say(
        "As a present, the {relation} had brought {h.obj} {t.a}.",
        "Out of the suitcase came {t.a}: a present for {h.name}.",
    )
    s.maybe(
        0.5,
        "In the evenings {h.name} and the {relation} played [cards|chess|songs].",
        "There was so much to tell about {origin}.",
        "The {days} days were over too soon.",
    )
    s.end(
        "After {days} days the {relation} went back to {origin}, and {h.name} stood waving with the {t}.",
        '"[Next year|Some day] you must [come to|see] {origin}," said the {relation}, and {h.name}, holding the {t}, said yes.',
        "{h.name} looks at the {t} and thinks of {origin}, and of the {relation} who will come again.",
    )


@shape("story")
def wrong_address(s: Scene) -> None:
    s.people("h", "f")
    s.thing("t")
    s.word(
        "mark",
        ("a blue stamp", "a red seal", "a torn corner", "a drawing of a fish", "golden letters", "a smudge of ink"),
    )
    open_story(s)
    s.do("receive_parcel", "h", "mark")
    s.say(
        "A parcel with {mark} came to the house of {h.name}.", "On the doorstep of {h.name} lay a parcel with {mark}."
    )
    s.do("have", "f", "t")
    s.say(
        "But it was meant for {f.name}, {f.on_street}.",
        "The name on it, though, was that of {f.name}.",
        '"{f.name}, {f.street}," it said on the label, and not a word of {h.name}.',
    )
    s.maybe(
        0.6,
        "{h} shook it and listened.",
        "It was heavy, and something in it rattled.",
        "How much {h} would have liked to look inside!",
    )
    s.do("go_street", "h", "=" + s.cast["f"].street)
    s.say("So {h} carried it all the way to {f.street}.", "{h} tucked it under one arm and walked to {f.street}.")
    s.say(
        "{f.name} opened it at once: inside was {t.a}.",
        "In it, as {f.name} showed {h.obj}, lay {t.a}.",
        '"My {t} at last!" cried {f.name}, and took out {t.a}.',
    )
    feel(s, "f", s.pick(("happy", "excited", "grateful")))
    s.end(
        "They wrote to the post office about it, and {h.name} stayed to see how {f.name} used the {t}.",
        "Then {f.name} laughed, for that very morning something for {h.name} had come to {f.street}.",
        "{h.name} kept only the paper with {mark}, and {f.name} the {t}.",
    )


@shape("story")
def berry_picking(s: Scene) -> None:
    s.people("h", "f")
    s.place("p", is_outdoors=True)
    s.word("berry", lexicon.BERRIES)
    s.word("result", lexicon.DISHES_OF_BERRIES)
    s.word("number", ("two", "three", "four", "five", "six"))
    open_story(s, is_fair=True)
    s.do("go", "h", "p")
    s.say(
        "{h} and {f.name} went to {p} to pick {berry}.",
        "It was the time of {berry}, and {h} and {f.name} went to {p} with pails.",
    )
    s.do("pick", "h", "number", "berry")
    s.say(
        "{h.name} picked {number} pails of {berry}.",
        "By noon {h.name} had picked {number} pails.",
        "Quick fingers and no talking: so {h.name} picked {number} pails of {berry}.",
    )
    s.say(
        "{f.name} ate more than {f.he} picked.",
        "{f.names} pail was still empty, and {f.his} mouth was blue.",
        "There were more in {f.name} than in {f.his} pail.",
    )
    feel(s, "h", s.pick(("angry", "surprised", "happy")), sign_rate=0.3)
    s.maybe(0.5, "Thorns had scratched their arms.", "A wasp buzzed about them.", "On the way back they met nobody.")
    s.do("cook", "h", "result")
    s.say("At home {h} cooked {result} from them.", "In the evening {h} stood at the stove and cooked {result}.")
    s.end(
        '"May I try?" asked {f.name}, and {h.name} gave {f.him} the smallest spoonful of {result} that you ever saw.',
        "There was {result} for both of them, and {f.name} promised {h.name} to pick twice as much next time.",
        "{h.name} wrote on the label: {result.bare} of {day}, picked by one and a half, and {f.name} had to laugh.",
    )


@shape("story")
def the_late_coach(s: Scene) -> None:
    s.people("h", "f")
    s.place("p", is_outdoors=True)
    s.word("reason", lexicon.DELAYS)
    s.word("hours", ("two", "three", "four", "five"))
    s.word("pastime", lexicon.PASTIMES)
    open_story(s)
    s.say(
        "{h} was waiting for the coach {p.at}, and so was {f.name}.",
        "{p.at}, {h.name} and {f.name} stood with [their bags|two trunks|a heavy box] and waited for [the coach|the coach to {h.his} aunt].",
    )
    s.do("late", "hours", "reason")
    s.say(
        "It was {hours} hours late because of {reason}.",
        "But it did not come: {reason} [held it up for|kept it] {hours} hours.",
    )
    feel(s, "h", s.pick(("bored", "angry", "worried")), sign_rate=0.6)
    s.maybe(0.4, "The bench was hard, and time hardly moved.", "A cat came and looked at them.")
    s.do("pass_time", "f", "pastime")
    s.say(
        '"Let us {pastime}," said {f.name}.',
        "It was {f.name} who said that they could {pastime}.",
        "To pass the time, {f.name} asked {h.obj} to {pastime}.",
    )
    s.say(
        "[Others|Two more] joined them, and soon {h.name} [forgot the road|did not look at the road any more].",
        "The {hours} hours [went by like one|flew].",
        "{h.name} had not [had so much fun|laughed so much] for [a long time|weeks|years].",
    )
    s.end(
        "When the coach [came at last|was there], {h.name} and {f.name} were [almost sorry|in no hurry].",
        "The driver [told them about|complained of] {reason}, but {h.name} and {f.name} did not [even |]listen.",
        "Nobody remembers where {h.name} and {f.name} were going that day, only that they had to wait {p.at} because of {reason}.",
    )


@shape("story")
def ringing_the_bells(s: Scene) -> None:
    s.people("h", "f")
    s.word("hour", ("six", "seven", "eight", "nine", "ten", "eleven"))
    s.word(
        "danger",
        (
            "smoke over the stables",
            "a boat adrift",
            "a hole in the dyke",
            "sparks on a thatched roof",
            "a runaway cart",
        ),
    )
    introduce(s)
    s.do("see", "h", "danger", "=street")
    s.say("At {hour} in the evening {h} saw {danger}.", "It was {hour} o'clock when {h} looked up and saw {danger}.")
    feel(s, "h", s.pick(("afraid", "worried")), sign_rate=0.2)
    s.do("ring", "h", "=bells")
    s.say(
        "There was no time to lose: {h.name} [ran|rushed|flew] up the tower and rang [the bells|every bell].",
        "{h.name} ran as never before and rang the bells [with all {h.his} might|until {h.his} arms hurt|again and again].",
    )
    s.do("come_first", "f")
    s.say(
        "{f.name} was the first to come.",
        "The first to come running was {f.name}.",
        "[Doors flew open|People came running], and {f.name} was there [before all others|first of all].",
    )
    s.say(
        "With [pails|poles|hooks] and ropes [they all set to work|everybody went at it].",
        "Somebody gave orders, and everybody helped.",
        "Before [the next hour struck|anyone could be afraid|midnight], [it was over|the danger was past].",
    )
    s.maybe(
        0.6,
        "[No one|Nobody] had been hurt[, not even a hen|].",
        "{f.name} had lost a shoe, and that was all.",
        "{f.name} and all the others [smiled|cheered|sat down at last].",
    )
    s.do("feel", "h", "=proud")
    s.end(
        "The town thanked {h.name}, who was proud, and {f.name} said that those bells had never been rung so well.",
        "{h.name} and {f.name} sat [on the steps|there] until late, [tired and proud|proud and very tired], and talked of {danger}.",
        "[Ever since|Now], when there is {danger}, [they|people] look at {h.name}, who is proud of it, and at {f.name}.",
    )


@shape("story")
def library_day(s: Scene) -> None:
    s.people("h", "f")
    s.word("topic", lexicon.TOPICS)
    s.word("number", ("forty", "sixty", "eighty", "ninety", "two hundred", "three hundred"))
    s.place("p")
    open_story(s)
    s.do("borrow", "h", "=book", "topic")
    s.say(
        "{h} borrowed a book about {topic}.",
        "From the top shelf {h} took a book about {topic} and borrowed it.",
        "Of all the books in the library, {h} chose one about {topic}.",
    )
    s.say(
        "It had {number} pages and smelled of dust.",
        "{number.cap} pages it had, and pictures [on every one of them|of {topic}].",
    )
    s.do("read", "h", "topic", "p")
    s.say(
        "{h} read it {p.at}, and forgot the time.",
        "{p.at} it was quiet, and there {h.name} read it [from cover to cover|twice|to the end].",
    )
    s.say(
        "{f.name} came up and asked what was so interesting.",
        "A shadow fell on [the page|the book|{h.names} knees]. It was {f.name}.",
    )
    s.do("tell", "h", "f", "topic")
    s.say(
        "{h} told {f.obj} everything about {topic}.",
        'And so {h.name} told {f.name} about {topic} until {f.he} said: "I must read that too!"',
    )
    feel(s, "f", s.pick(("surprised", "excited", "bored")), sign_rate=0.4)
    s.maybe(
        0.4,
        "It began to drizzle, and {h.name} hardly noticed.",
        "[The last page|The first page|A picture] was missing.",
    )
    s.end(
        "The next reader of that book was {f.name}, and {h.name} has borrowed one about {topic} again.",
        "{h.name} and {f.name} are planning to see {topic} for themselves one day.",
        "If you want to know something about {topic}, ask {h.name}, or {f.name}.",
    )


@shape("story", is_held_out=True)
def the_balloon(s: Scene) -> None:
    s.people("h", "f")
    s.place("p", is_outdoors=True)
    s.word("colour", lexicon.COLOURS)
    set_time(s)
    introduce(s)
    s.do("see", "h", "=balloon", "p")
    s.say(
        "On {day}, a {colour} balloon came down {p.at}, and {h} saw it first.",
        "{h} looked up from {h.his} work, and there, {p.at}, hung a {colour} balloon.",
    )
    s.do("fly", "f", "=balloon")
    s.say(
        "In it sat {f.name}, waving with both arms.",
        "{f.name} leaned out of it and shouted something that nobody understood.",
    )
    feel(s, "h", "surprised")
    s.say("There was room for one more, and {h} climbed in.", '"Jump in!" said {f.name}, and {h} did.')
    s.end(
        "From above, {h.name} and {f.name} saw every roof in town, as small as buttons.",
        "They flew until the {colour} silk was dark, and {h.name} never forgot it, nor did {f.name}.",
    )
