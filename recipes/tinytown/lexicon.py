"""The words of Tinytown: people, jobs, places, things, food, animals, feelings. Data only; morphology is in english.py.

Every list is a tuple, in a fixed order, so that a seed gives the same text on every machine.
"""
# ruff: noqa: E501, SIM905 - word lists and sentences stay on their lines

from __future__ import annotations

# ----------------------------------------------------------------------------------------------------------- people
FEMALE_NAMES = tuple(
    "Mabel Rosa Ada Clara Hetty Nora Greta Pearl Edith Flora Maud Ruth Sally Vera Bess Elsie Hazel Isla Molly Tess".split()
)
MALE_NAMES = tuple(
    "Albert Barney Caleb Edgar Felix George Harvey Ivan Karl Leo Milo Ned Oscar Percy Rufus Simon Toby Victor Walter Hugo".split()
)
# In no training file: people who only the held-out sets know.
HELD_OUT_FEMALE_NAMES = ("Beatrix", "Philippa", "Orla", "Zelda")
HELD_OUT_MALE_NAMES = ("Leopold", "Barnaby", "Osric", "Thaddeus")

# job, workplace, what the person does all day (base form)
JOBS = (
    ("baker", "bakery", "bake bread and buns"),
    ("miller", "mill", "grind the flour"),
    ("carpenter", "workshop", "build tables and chairs"),
    ("cobbler", "shoe shop", "mend boots"),
    ("gardener", "park", "trim the hedges"),
    ("fisher", "harbour", "catch herring"),
    ("postman", "post office", "carry letters"),
    ("librarian", "library", "lend books"),
    ("teacher", "school", "teach the children"),
    ("doctor", "surgery", "look after sick people"),
    ("vet", "animal clinic", "treat sick animals"),
    ("nurse", "hospital", "change bandages"),
    ("farmer", "farm", "milk the cows"),
    ("shepherd", "hill", "watch the sheep"),
    ("beekeeper", "apiary", "gather honey"),
    ("potter", "pottery", "shape clay pots"),
    ("clockmaker", "clock shop", "repair clocks"),
    ("painter", "studio", "paint portraits"),
    ("grocer", "grocery", "weigh vegetables"),
    ("cook", "inn", "stir soups and stews"),
    ("conductor", "station", "punch tickets"),
    ("ferryman", "ferry landing", "row people across the river"),
    ("lighthouse keeper", "lighthouse", "light the great lamp"),
    ("mayor", "town hall", "sign papers"),
    ("firefighter", "fire station", "polish the fire engine"),
    ("dairymaid", "dairy", "churn butter"),
    ("toymaker", "toy shop", "carve toys"),
    ("musician", "music shop", "tune pianos"),
)
# street -> the landmark it is not far from
STREETS = {
    "Mill Lane": "windmill", "Bridge Street": "river", "Orchard Road": "orchard", "Chapel Hill": "chapel", "Ferry Road": "ferry landing",
    "Market Street": "market", "Harbour Row": "harbour", "Willow Lane": "pond", "Station Road": "station", "Castle Street": "castle",
    "Meadow Way": "meadow", "Foundry Yard": "fountain",
}  # fmt: skip
TRAITS = (
    "kind",
    "quiet",
    "cheerful",
    "careful",
    "busy",
    "curious",
    "patient",
    "clever",
    "gentle",
    "brave",
    "thrifty",
    "merry",
)
PET_NAMES = tuple(
    "Biscuit Pepper Button Clover Domino Nutmeg Patch Pickle Rusty Smudge Thistle Waffle Bramble Cinders Dumpling Freckle "
    "Ginger Hopper Inky Jigsaw Kipper Lentil Marmalade Noodle Otter Pebble Quill Radish Socks Toffee Velvet Whiskers "
    "Acorn Bobbin Crumpet Dusty Ember Fidget Gravy Honeybun".split()
)
# animals that are only passing through: patients, guests
ANIMAL_NAMES = tuple(
    "Bruin Caramel Daffodil Doodle Fluff Goblin Heather Jumper Kestrel Lupin Magpie Midge Moss Muffin Nibbles Oakley Parsley Poppet "
    "Puddle Rocket Rumpus Saffron Scamp Shadow Snowdrop Sorrel Sparky Speckle Squeak Sultan Tansy Teasel Tiger Truffle Tuppence Twig "
    "Violet Wagtail Wisp Zigzag".split()
)
PET_SPECIES = ("dog", "cat", "rabbit", "goat", "hen", "pony", "parrot", "tortoise", "hamster", "goose")
HOBBIES = (
    "play the flute", "play chess", "knit socks", "collect stamps", "paint boats", "read old maps", "sing in the choir", "fly kites",
    "bake cakes", "grow roses", "skip stones", "watch the stars", "carve spoons", "draw birds", "swim in the river", "write poems",
    "play the fiddle", "dance", "juggle", "ride a bicycle", "fold paper boats", "gather shells", "solve riddles", "climb trees",
)  # fmt: skip

# ------------------------------------------------------------------------------------------------------------ places
# noun -> preposition of rest; motion is "to" for all. Read as "at the market".
PLACES = {
    "market": "at", "park": "in", "bridge": "on", "harbour": "at", "square": "in", "library": "in", "school": "at", "orchard": "in",
    "meadow": "in", "hill": "on", "station": "at", "well": "by", "pond": "by", "mill": "at", "town hall": "in", "bandstand": "by",
    "lighthouse": "at", "beach": "on", "wood": "in", "farm": "on", "fountain": "by", "playground": "in", "boathouse": "in",
    "museum": "in", "clock tower": "by", "barn": "in", "greenhouse": "in", "river": "by", "chapel": "in", "inn": "at",
    "windmill": "by", "stable": "in", "jetty": "on", "cave": "in", "castle": "at", "waterfall": "by", "old oak": "under",
    "post office": "in", "bakery": "in", "dairy": "in",
}  # fmt: skip
INDOORS = frozenset(
    "library,school,station,mill,town hall,boathouse,museum,barn,greenhouse,chapel,inn,stable,post office,bakery,dairy,cave,castle,lighthouse".split(
        ","
    )
)
WORKPLACE_PREPOSITIONS = {
    "forge": "at", "workshop": "in", "park": "in", "hill": "on", "harbour": "at", "station": "at", "ferry landing": "at", "farm": "on",
    "market": "at", "studio": "in", "glassworks": "at", "boatyard": "in", "coal yard": "in", "weaving shed": "in", "apiary": "at",
    "lighthouse": "at", "mill": "at", "school": "at", "hospital": "at", "inn": "at",
}  # fmt: skip
HIDING_SPOTS = (
    "under a bench", "behind a barrel", "beneath the stairs", "inside a hollow log", "under a heap of leaves", "behind the curtain",
    "between two flowerpots", "on top of a wall", "in a bush", "behind a stack of crates", "under an upturned boat", "beside a milk churn",
    "in the long grass", "under a wheelbarrow", "behind the rain barrel", "in an empty basket", "next to a stone trough", "on a low branch",
)  # fmt: skip

# ------------------------------------------------------------------------------------------------------------ things
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "white", "brown", "silver", "pink", "grey", "golden")
# thing -> category
THINGS = {
    "kite": "toy", "ball": "toy", "drum": "music", "doll": "toy", "hat": "clothing", "scarf": "clothing", "umbrella": "tool",
    "lantern": "tool", "basket": "tool", "notebook": "paper", "map": "paper", "key": "keepsake", "ring": "keepsake", "watch": "keepsake",
    "whistle": "music", "flute": "music", "fiddle": "music", "bucket": "tool", "spade": "tool", "rope": "tool", "ladder": "tool",
    "kettle": "kitchen", "teapot": "kitchen", "cup": "kitchen", "jar": "kitchen", "blanket": "clothing",
    "mirror": "keepsake", "candle": "tool", "clock": "keepsake", "compass": "tool", "telescope": "tool", "oar": "tool", "album": "paper", "atlas": "paper", "ornament": "keepsake",
    "coat": "clothing", "apron": "clothing", "purse": "keepsake", "locket": "keepsake", "brooch": "keepsake", "ribbon": "clothing",
    "spinning top": "toy", "puppet": "toy", "toy boat": "toy", "wagon": "toy", "sledge": "toy", "bicycle": "toy", "bell": "music",
    "trumpet": "music", "harp": "music", "accordion": "music", "vase": "kitchen", "bowl": "kitchen", "spoon": "kitchen",
    "pan": "kitchen", "glove": "clothing", "cap": "clothing", "shawl": "clothing", "wheelbarrow": "tool", "fishing rod": "tool", "storybook": "paper",
    "rocking horse": "toy", "music box": "music", "birdhouse": "tool", "stool": "tool", "rucksack": "clothing",
}  # fmt: skip
COLOURLESS = frozenset(
    {"photograph", "map", "telescope", "mirror", "fiddle", "saw", "chessboard", "ladder", "calendar", "postcard"}
)
QUALITIES = {  # besides colours, by category
    "toy": ("little", "old", "new", "painted", "wooden"), "music": ("old", "fine", "polished", "little"), "clothing": ("striped", "woollen", "warm", "spotted", "new"),
    "paper": ("old", "torn", "new", "crumpled"), "keepsake": ("tiny", "old", "pretty", "polished"), "tool": ("sturdy", "rusty", "old", "new"),
    "kitchen": ("old", "painted", "plain", "pretty"),
}  # fmt: skip

FOODS = (
    "apple pie", "barley soup", "cheese toast", "ginger cake", "honey bread", "jam tart", "leek soup", "mushroom stew", "oat biscuits",
    "pancakes", "plum crumble", "potato pie", "pumpkin soup", "rice pudding", "roast carrots", "tomato salad", "walnut bread",
    "bean stew", "buttered corn", "cherry cake", "cream buns", "fish pie", "lentil soup", "pear tart",
)  # fmt: skip
# counted goods at the market
GOODS = (
    "apple", "pear", "plum", "egg", "bun", "carrot", "onion", "cabbage", "turnip", "lemon", "potato", "tomato", "loaf", "candle", "peach",
    "radish", "leek", "pie", "herring", "muffin", "melon", "marrow", "parsnip", "biscuit",
)  # fmt: skip
PLANTS = (
    "beans", "roses", "sunflowers", "tulips", "pumpkins", "peas", "strawberries", "daisies", "carrots", "lavender", "tomatoes", "marigolds",
    "poppies", "cabbages", "raspberries", "sweetcorn",
)  # fmt: skip
WILD_ANIMALS = (
    "owl", "hedgehog", "fox", "squirrel", "frog", "badger", "duckling", "swan", "heron", "otter", "mole", "robin", "blackbird", "hare",
    "bat", "toad", "magpie", "deer", "kitten", "lamb",
)  # fmt: skip
SKILLS = (
    "juggle", "whittle", "tie a sailor's knot", "skate", "swim", "whistle a tune", "knit", "row a boat", "ride a pony", "bake bread",
    "play the drum", "paint a portrait", "milk a goat", "shape clay", "read music", "dance the polka", "throw a lasso", "catch a trout",
    "fold a paper crane", "build a fire", "plait straw", "ring the bells", "sharpen a knife", "stand on one hand",
)  # fmt: skip

# ------------------------------------------------------------------------------------------- what happens in stories
ROOMS = ("kitchen", "attic", "cellar", "shed", "hall", "pantry")
CONTESTS = (
    "pie contest",
    "sack race",
    "singing contest",
    "kite contest",
    "boat race",
    "spelling contest",
    "pumpkin contest",
    "chess contest",
    "running race",
    "egg race",
)
PAINTABLES = ("gate", "fence", "shed", "front door", "boat", "bench", "henhouse", "wall", "letter box")
TOPICS = (
    "whales",
    "volcanoes",
    "knights",
    "trains",
    "mushrooms",
    "the moon",
    "pirates",
    "clouds",
    "beetles",
    "old castles",
)
DEEDS = (
    "water the plants",
    "feed the hens",
    "paint the gate",
    "read a story to the children",
    "sweep the yard",
    "walk the dog",
    "chop the wood",
    "mend the fence",
)
THIEVES = ("a goat", "a crow", "a squirrel", "a dog", "a swan", "a fox", "a pony", "a goose")
RELATIONS = ("uncle", "aunt", "cousin", "grandmother", "godfather", "old schoolmate")
SONGS = ("a march", "a waltz", "a lullaby", "a sea song", "an old hymn", "a polka", "a hunting song", "a slow air")
FEARS = ("the dark", "thunder", "deep water", "high ladders", "big dogs", "spiders", "geese", "loud bells")
ILLNESSES = ("a bad cold", "a fever", "a sore throat", "a cough", "a headache")
DELAYS = ("a broken wheel", "a fallen tree", "a flock of sheep", "a lame horse", "a flooded road", "thick mud")
PRIZES = (
    "a ham",
    "a cheese",
    "a crown of flowers",
    "a purse of coins",
    "a cup of tin",
    "a barrel of apples",
    "a book of songs",
    "a bag of nuts",
)
PESTS = ("snails", "crows", "rabbits", "caterpillars", "moles", "mice")
ROLES_IN_PLAYS = (
    "the king",
    "the wolf",
    "the moon",
    "the queen",
    "the dragon",
    "the giant",
    "the ghost",
    "the clown",
    "the talking tree",
    "the pirate",
)
STUCK_ANIMALS = ("kitten", "owl", "duckling", "lamb", "hedgehog", "squirrel", "fox cub", "goat kid")
BERRIES = ("blackberries", "raspberries", "blueberries", "elderberries", "strawberries", "gooseberries")
NOISES = (
    "a scratching",
    "a tapping",
    "a rustling",
    "a soft howling",
    "a squeaking",
    "a rattling",
    "a bumping",
    "a humming",
)
HOUSE_PARTS = ("roof", "fence", "chimney", "shed door", "gate", "window", "porch")
DISHES_OF_BERRIES = ("jam", "a tart", "juice", "jelly", "a pudding", "a cake")
LEAK_CAUSES = ("a cracked pipe", "a loose tile", "a blocked gutter", "a hole in the wall", "an open tap")
PASTIMES = ("play cards", "sing rounds", "tell ghost stories", "guess riddles", "share a loaf", "dance to keep warm")
ORIGINS = ("the city", "the islands", "the mountains", "the south", "a village by the sea", "the far north")

# ---------------------------------------------------------------------------------------------------- time, weather
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SEASONS = ("spring", "summer", "autumn", "winter")
FAIR_WEATHERS = ("sunny", "cloudy", "warm", "windy")
WEATHERS = ("sunny", "rainy", "windy", "foggy", "snowy", "cloudy", "frosty", "stormy", "misty", "warm")
TIMES = ("morning", "afternoon", "evening")

# ---------------------------------------------------------------------------------------------------------- feelings
MOODS = (
    "happy",
    "sad",
    "proud",
    "angry",
    "worried",
    "excited",
    "lonely",
    "grateful",
    "afraid",
    "surprised",
    "ashamed",
    "bored",
)
RUDE_WORDS = (
    "stupid",
    "idiot",
    "dumb",
    "fool",
    "shut up",
    "moron",
    "ugly",
    "loser",
    "hate you",
    "silly goose",
    "nitwit",
    "blockhead",
)
