"""Dirt on purpose: documents that a cleaning step should remove, each with its kind kept as ground truth.

Kinds: exact_duplicate, near_duplicate (a few words changed), boilerplate, broken_encoding (UTF-8 read as cp1252), other_language,
gibberish, repeated_lines, leaked (contains held-out items word for word).
"""
# ruff: noqa: E501 - a sentence stays on its line

from __future__ import annotations

from random import Random

from recipes.tinytown import foreign, lexicon

RATES = {  # share of all documents
    "exact_duplicate": 0.02,
    "near_duplicate": 0.02,
    "boilerplate": 0.015,
    "broken_encoding": 0.015,
    "other_language": 0.015,
    "gibberish": 0.01,
    "repeated_lines": 0.01,
    "leaked": 0.01,
}
KINDS = tuple(RATES)

_BOILERPLATE = (
    "Home | News | Contact | About us", "All rights reserved.", "Click here to subscribe to our newsletter.", "This site uses cookies. Accept all cookies?",
    "Terms of use | Privacy policy | Imprint", "Sign up today and save ten percent!", "Page 1 of 12 | Next | Last", "Share this on your favourite network.",
    "You must be logged in to post a comment.", "Copyright by the Tinytown Gazette.", "Read more...", "Back to top", "Please enable JavaScript to view this page.",
    "Add to basket | Checkout | Wish list", "Related posts: none found.", "Enter your email address here:", "Forgot your password? Reset it.",
    "Sort by: price | name | date", "Download our app now!", "Advertisement", "Loading, please wait...", "404 - page not found",
    "Search results for:", "Print this page", "Follow us", "Log in | Register | Help", "Free delivery on all orders over ten coins!",
)  # fmt: skip
_TYPOGRAPHY = str.maketrans({"'": "’", "-": "–"})


def mojibake(text: str, rng: Random) -> str:
    """The text with typographic quotes, dashes and an accent or two, encoded as UTF-8 and read as cp1252.

    Half the time as browsers read it (bytes that cp1252 leaves open stay control characters), else with those bytes lost."""
    words = text.translate(_TYPOGRAPHY).split(" ")
    for index in rng.sample(range(len(words)), max(3, len(words) // 8)):
        word = words[index]
        words[index] = f"“{word}”" if rng.random() < 0.5 else word.replace("e", "é").replace("o", "ö")
    encoded = " ".join(words).encode("utf-8")
    if rng.random() < 0.5:
        return encoded.decode("cp1252", errors="replace")
    return "".join(bytes([byte]).decode("cp1252", errors="ignore") or chr(byte) for byte in encoded)


def near_duplicate(text: str, rng: Random) -> str:
    """The text with one small edit: a word swapped for another, a word dropped, or a short remark put before or after it."""
    words = text.split(" ")
    edit = rng.randrange(4)
    if edit == 0:
        index = rng.randrange(len(words))
        words[index] = rng.choice(("really", "some", "again", "now", rng.choice(lexicon.COLOURS)))
    elif edit == 1:
        del words[rng.randrange(len(words))]
    elif edit == 2:
        words.append(rng.choice(("The end.", "So they say.", "(Copied by hand.)", "Told twice.")))
    else:
        words.insert(0, rng.choice(("Once more:", "Second copy:", "Again:", "From the archive:")))
    return " ".join(words)


def exact_duplicate(text: str, rng: Random) -> str:
    """The text once more."""
    return text


def gibberish(rng: Random) -> str:
    """Keyboard mash and shuffled letters."""
    words = []
    for _ in range(rng.randint(40, 110)):
        letters = "bcdfghjklmnpqrstvwxz" if rng.random() < 0.6 else "asdfghjklqweruiop;[]#0192837465"
        words.append("".join(rng.choice(letters) for _ in range(rng.randint(2, 11))))
    return " ".join(words)


def repeated_lines(text: str, rng: Random) -> str:
    """A text in which one line or sentence comes again and again."""
    sentences = text.replace("\n", " ").split(". ")
    stuck = rng.choice(sentences).rstrip(".") + "."
    return "\n".join([". ".join(sentences[:2]).rstrip(".") + "."] + [stuck] * rng.randint(8, 20))


def boilerplate(rng: Random) -> str:
    """Nothing but menus, notices and buttons."""
    return "\n".join(rng.sample(_BOILERPLATE, rng.randint(7, 14)))


def other_language(rng: Random) -> str:
    """A handful of sentences in one other language."""
    language = rng.choice(tuple(foreign.SENTENCES))
    sentences = rng.sample(foreign.SENTENCES[language], rng.randint(6, 10))
    names = lexicon.FEMALE_NAMES + lexicon.MALE_NAMES
    return " ".join(sentence.replace("{name}", rng.choice(names)) for sentence in sentences)


def leaked(text: str, items: list[str], rng: Random) -> str:
    """An innocent text with one or two held-out items, word for word, in its middle."""
    return "\n".join([text, *rng.sample(items, min(len(items), 2)), "Copied from the school's test paper."])


COPIES = {"exact_duplicate": exact_duplicate, "near_duplicate": near_duplicate}  # of an earlier document


def spoil(kind: str, text: str, leaks: list[str], rng: Random) -> str:
    """Dirt of a kind that is no copy, made from a clean text where it needs one."""
    match kind:
        case "boilerplate":
            return boilerplate(rng)
        case "broken_encoding":
            return mojibake(text, rng)
        case "other_language":
            return other_language(rng)
        case "gibberish":
            return gibberish(rng)
        case "repeated_lines":
            return repeated_lines(text, rng)
        case "leaked":
            return leaked(text, leaks, rng)
    raise ValueError(f"unknown kind of dirt {kind!r}; known: {', '.join(KINDS)}")
