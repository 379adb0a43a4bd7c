"""How-tos: planting, cooking, making, caring, cleaning."""
# ruff: noqa: E501 - a sentence stays on its line

from __future__ import annotations

from recipes.tinytown import lexicon
from recipes.tinytown.shapes.registry import shape
from recipes.tinytown.telling import Scene


@shape("howto")
def how_to_plant(s: Scene) -> None:
    s.word("plant", lexicon.PLANTS)
    s.word("season", ("spring", "summer", "autumn"))
    s.word("depth", ("two", "three", "four", "five"))
    s.word("gap", ("a hand", "a foot", "two hands", "a long step"))
    s.person("h")
    s.line(
        "How to plant {plant}",
        "Planting {plant}: what you need to know",
        "A row of {plant} in your garden",
        "{plant.cap} for beginners",
    )
    s.line(
        "[Start|Begin] in {season}, when the ground is [soft|warm|not too wet].",
        "The right time is {season}.",
        "Wait for {season}.",
    )
    s.line(
        "First, [dig over the bed|loosen the soil|clear away the weeds] [with a fork|with a hoe|by hand].",
        "To begin with, [turn the earth|rake the bed|take out the stones].",
    )
    s.line(
        "Then make holes {depth} fingers deep and {gap} apart.",
        "[Next|Now], [draw a line and|along a string,] press holes {depth} fingers deep, {gap} apart.",
    )
    s.line(
        "Put [one seed|two seeds|a few seeds] in each hole and [cover the {plant} with soil|close it with your thumb|press down gently].",
        "Drop the seeds of the {plant} in, [not too many|two by two|one at a time], and [close the holes|fill up the holes].",
    )
    s.line(
        "Water the {plant} [in the evening|every other day|whenever the soil is dry].",
        "[A can|Half a can|A jug] of water [a day|now and then|in dry weeks] will do for {plant}.",
    )
    s.maybe(
        0.6,
        "Keep the snails away with [sand|ashes|crushed shells].",
        "Straw will keep the birds off.",
        "{h.name} swears by [coffee grounds|old tea leaves|a song].",
    )
    s.line(
        "With [a little luck|some sun|patience], you will have {plant} before the year is out.",
        "Then all you need is time.",
        "Ask {h.name} {h.on_street} if anything goes wrong.",
    )


INGREDIENTS = {
    "apple pie": ("apples", "butter", "flour"), "barley soup": ("barley", "carrots", "leeks"), "ginger cake": ("flour", "ginger", "syrup"),
    "honey bread": ("flour", "honey", "yeast"), "leek soup": ("leeks", "potatoes", "cream"), "mushroom stew": ("mushrooms", "onions", "barley"),
    "oat biscuits": ("oats", "butter", "sugar"), "pancakes": ("eggs", "milk", "flour"), "plum crumble": ("plums", "oats", "sugar"),
    "potato pie": ("potatoes", "cheese", "butter"), "pumpkin soup": ("pumpkin", "onions", "cream"), "rice pudding": ("rice", "milk", "sugar"),
    "tomato salad": ("tomatoes", "oil", "onions"), "walnut bread": ("flour", "walnuts", "yeast"), "cherry cake": ("cherries", "eggs", "flour"),
    "fish pie": ("herring", "potatoes", "milk"), "lentil soup": ("lentils", "carrots", "vinegar"), "pear tart": ("pears", "butter", "sugar"),
    "jam tart": ("plum jam", "flour", "butter"), "cheese toast": ("bread", "cheese", "mustard"),
}  # fmt: skip


@shape("howto")
def how_to_cook(s: Scene) -> None:
    s.word("food", tuple(INGREDIENTS))
    s.cast["a"], s.cast["b"], s.cast["c"] = s.sample(INGREDIENTS[s.cast["food"]], 3)
    s.word("number", ("two", "three", "four", "six"))
    s.word("minutes", ("ten", "fifteen", "twenty", "thirty", "forty"))
    s.person("h")
    s.do("needs", "food", "a", "b", "c")
    s.line("{food.cap}", "How to make {food}", "{food.cap}, as {h.name} makes it", "A recipe for {food}")
    s.line(
        "For {number} people you need {a}, {b} and {c}.",
        "You need {a}, {b} and {c}; this is enough for {number}.",
        "Take {a}, {b} and {c}.",
    )
    s.line("[Measure|Weigh|Prepare] the {a} first.", "Begin with the {a}.", "Have the {a} ready in a dish.")
    s.line(
        "Then [add|stir in|mix in] the {b}, [a little at a time|bit by bit|slowly].",
        "Next come the {b} and a pinch of salt."
        if s.cast["b"].endswith("s")
        else "Next comes the {b}, with a pinch of salt.",
    )
    s.line(
        "Last of all [add|put in] the {c} and leave it on the fire for {minutes} minutes.",
        "With the {c} on top, it needs {minutes} minutes of heat.",
        "Add the {c}, close the lid, and wait {minutes} minutes.",
    )
    s.maybe(
        0.6,
        "Do not open the lid too soon.",
        "Taste it before you serve it.",
        "If it is too dry, add water.",
        "It is even better on the next day.",
    )
    s.line(
        "[Serve it|Eat it] [warm|at once|with good friends].",
        "Enough for {number}, or for {h.name} alone.",
        "It goes well with [cold milk|a green salad|a good story].",
    )


CRAFTS = {
    "kite": ("two sticks", "thin paper", "a ball of string", "Tie the sticks into a cross.", "Paste the paper over it and let it dry.", "Fasten the string where the sticks meet."),
    "whistle": ("a twig of elder", "a sharp knife", "some water", "Soak the twig until the bark is loose.", "Slip the bark off in one piece.", "Cut a notch and push the bark back on."),
    "lantern": ("an old tin", "a nail", "a stub of candle", "Fill the tin with water and let it freeze.", "Punch a pattern of holes with the nail.", "Thaw it and set the candle inside."),
    "birdhouse": ("six thin boards", "some nails", "a drill", "Drill a round hole in the front board.", "Nail the sides to the floor.", "Fix the roof so that it can be lifted."),
    "doll": ("a white sock", "some wool", "two buttons", "Stuff the sock with the wool.", "Tie it in the middle for a neck.", "Sew on the buttons for eyes."),
    "drum": ("a round box", "a piece of leather", "a cord", "Wet the leather so that it stretches.", "Pull it over the open end of the box.", "Bind it with the cord and let it dry."),
    "candle": ("some wax", "a wick", "a tall jar", "Melt the wax over warm water.", "Dip the wick and let it cool.", "Dip it again until it is thick enough."),
    "basket": ("twelve willow rods", "a bucket of water", "a pair of cutters", "Soak the rods overnight.", "Lay them in a star for the floor.", "Weave round and round, and trim the ends."),
    "toy boat": ("a piece of bark", "a twig", "a scrap of cloth", "Shape the bark with a point in front.", "Press the twig into the middle.", "Fasten the cloth to it for a sail."),
    "puppet": ("a big spoon", "some paint", "a bit of cloth", "Paint a face on the bowl of the spoon.", "Wrap the cloth round the handle.", "Tie it tight and give it a voice."),
}  # fmt: skip


@shape("howto")
def how_to_make(s: Scene) -> None:
    s.word("craft", tuple(CRAFTS))
    a, b, c, s.cast["one"], s.cast["two"], s.cast["three"] = CRAFTS[s.cast["craft"]]
    s.cast["a"], s.cast["b"], s.cast["c"] = s.sample((a, b, c), 3)
    s.person("h")
    s.person("f")
    s.word("day", lexicon.DAYS)
    s.line(
        "How to make a {craft}",
        "Your own {craft}, by {h.name}",
        "A {craft} for {f.name}",
        "Something for a rainy {day}: a {craft}",
    )
    s.line("You need {a}, {b} and {c}.", "Get {a}, {b} and {c} together first.", "What it takes: {a}, {b} and {c}.")
    s.line("{one}", "First step: {one.low}")
    s.line("{two}", "Then comes the hard part. {two}", "After that: {two.low}")
    s.line("{three}", "And now: {three.low}", "To finish: {three.low}")
    s.maybe(
        0.7,
        "{h.name} made one like this in an hour.",
        "Do not hurry.",
        "If it goes wrong, begin again.",
        "{f.name} likes to add [red paint|a tassel|feathers].",
    )
    s.line(
        "A {craft} like that makes a good present.",
        "Now you have a {craft} of your own.",
        "Show your {craft} to {f.name} {f.on_street}.",
    )


CARE = {
    "dog": ("meat and a bone", "a long walk", "a basket by the stove"), "cat": ("fish", "a ball of wool", "a warm sill"), "rabbit": ("hay and dandelions", "room to hop", "a dry hutch"),
    "goat": ("hay and twigs", "something to climb", "a stall with straw"), "hen": ("corn", "a place to scratch", "a perch"), "pony": ("hay and a little oats", "a brush every day", "a field with a shelter"),
    "parrot": ("seeds and fruit", "someone to talk to", "a roomy cage"), "tortoise": ("lettuce and clover", "sun in the morning", "a box of leaves"),
    "hamster": ("grain and carrots", "a wheel", "a nest of shavings"), "goose": ("grass", "a pond", "a shed that can be locked"),
}  # fmt: skip


@shape("howto")
def how_to_care(s: Scene) -> None:
    s.word("animal", tuple(CARE))
    s.cast["food"], s.cast["wish"], s.cast["bed"] = CARE[s.cast["animal"]]
    s.word("times", ("once", "twice", "three times"))
    owners = [p for p in s.town.people if p.pet and p.pet[0] == s.cast["animal"]] if not s.is_held_out else []
    if owners:
        s.cast["h"] = s.pick(owners)
    else:
        s.person("h")
    s.line("How to look after a {animal}", "So you have a {animal}", "What a {animal} needs", "A {animal} in the house")
    s.line(
        "Give it {food} {times} a day.", "It likes {food}, {times} a day.", "{times.cap} a day it should have {food}."
    )
    s.line(
        "Fresh water [must always be there|every morning|is a must].",
        "Never let [the water run out|the {animal} go thirsty].",
        "Change the water [daily|often].",
    )
    s.line("A {animal} also wants {wish}.", "What makes [it|a {animal}] happy is {wish}.", "Do not forget {wish}.")
    s.line(
        "For the night it needs {bed}.",
        "Let it have {bed} for the night.",
        "At night, {bed} is all [it|a {animal}] asks for.",
    )
    s.line(
        "[Brush|Stroke|Watch] it now and then, and look at its [eyes|ears|feet].",
        "Once a week, clean the place where [it|the {animal}] sleeps.",
        "Be [patient|gentle|calm]: [it|a {animal}] has to get used to you.",
    )
    s.maybe(
        0.6,
        "Speak softly, for [its ears|the ears of a {animal}] are better than yours.",
        "If [it|the {animal}] does not eat, [take it to|ask at] the animal clinic.",
        "Do not wake [it|a {animal}] when it sleeps.",
    )
    if owners:
        s.line(
            "{h.name} knows all about it, because of {h.pet_name} the {h.pet}.",
            "Ask {h.name}, whose {h.pet} is called {h.pet_name}.",
        )
    else:
        s.line("Ask {h.name} if you are not sure.", "{h.name} will tell you the rest.")


MESSES = {
    "a wine stain": ("salt", "cold water"), "candle wax": ("brown paper", "a hot iron"), "mud": ("a dry brush", "some patience"), "rust": ("vinegar", "a rag"), "ink": ("milk", "a clean cloth"),
    "a tea stain": ("lemon juice", "warm water"), "soot": ("bread crumbs", "soap"), "grass stains": ("white vinegar", "a soft brush"), "grease": ("chalk dust", "hot water"), "jam": ("cold water", "a spoon"),
}  # fmt: skip


@shape("howto")
def how_to_clean(s: Scene) -> None:
    s.word("mess", tuple(MESSES))
    s.cast["one"], s.cast["two"] = MESSES[s.cast["mess"]]
    s.thing("t", "clothing kitchen")
    s.person("h")
    s.word("minutes", ("five", "ten", "fifteen", "twenty", "thirty"))
    s.line("How to get rid of {mess}", "{mess.cap} on your {t}? Do not worry.", "Against {mess}: advice from {h.name}")
    s.line(
        "Do not rub the {t}, [whatever you do|please].",
        "The sooner you begin with {mess}, the better.",
        "First of all, [keep calm|take a breath|take your time].",
    )
    s.say(
        "[Lay|Spread] the {t} on a table.",
        "[Most people|Many] make {mess} worse [with hot soap|by rubbing].",
        "It has happened to [all of us|{h.name} too|better people].",
    )
    s.line(
        "Put {one} on it and wait {minutes} minutes.",
        "Begin with {one}. After {minutes} minutes, go on.",
        "Cover the spot with {one} for {minutes} minutes.",
    )
    s.line(
        "Then use {two}.",
        "Now take {two} and work [from the outside in|in small circles|slowly].",
        "With {two}, it comes off.",
    )
    s.line(
        "Rinse the {t} [well|twice] and [hang it up|put it] [in the shade|by the stove|outside].",
        "Let the {t} dry [slowly|overnight|in the open air].",
    )
    s.maybe(
        0.6, "Try it on a hidden corner first.", "Repeat this if you can still see it.", "Open a window while you work."
    )
    s.line(
        "{h.name} once saved a {t.full} like that.",
        "Even the {t.full} of {h.name} came clean.",
        "If {mess} [will not go|is still there], tell people that your {t} was always {t.quality}.",
    )
