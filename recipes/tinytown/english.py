"""English morphology for the town's words: articles, plurals, verb forms, joined lists, sentence case.

Pure functions on strings. Irregular forms are listed; the rest follows the spelling rules that the town's lexicon needs.
"""
# ruff: noqa: E501, SIM905 - word lists and sentences stay on their lines

from __future__ import annotations

import re

VOWEL_SOUND_EXCEPTIONS = ("hour", "honest", "heir")  # written with a consonant, spoken with a vowel: "an hour"
CONSONANT_SOUND_EXCEPTIONS = ("use", "uni", "one", "once", "eu", "ukulele")  # the other way round: "a useful rope"

IRREGULAR_PAST = {
    "be": "was", "bend": "bent", "blow": "blew", "break": "broke", "bring": "brought", "build": "built", "buy": "bought", "catch": "caught",
    "come": "came", "cut": "cut", "dig": "dug", "do": "did", "draw": "drew", "drink": "drank", "drive": "drove", "eat": "ate",
    "fall": "fell", "feed": "fed", "feel": "felt", "find": "found", "fly": "flew", "forget": "forgot", "get": "got", "give": "gave",
    "go": "went", "grow": "grew", "hang": "hung", "have": "had", "hear": "heard", "hide": "hid", "hold": "held", "keep": "kept",
    "know": "knew", "lead": "led", "leave": "left", "lend": "lent", "lose": "lost", "make": "made", "meet": "met", "pay": "paid",
    "put": "put", "read": "read", "ride": "rode", "ring": "rang", "run": "ran", "say": "said", "see": "saw", "sell": "sold",
    "send": "sent", "set": "set", "sew": "sewed", "shine": "shone", "shoe": "shod", "show": "showed", "sing": "sang", "sit": "sat",
    "sleep": "slept", "speak": "spoke", "spin": "spun", "stand": "stood", "steal": "stole", "sweep": "swept", "swim": "swam",
    "take": "took", "teach": "taught", "tell": "told", "think": "thought", "throw": "threw", "wear": "wore", "win": "won",
    "wind": "wound", "write": "wrote",
}  # fmt: skip
DOUBLED = frozenset(
    "chat clap drop grab hop hug jog knit mop nap nod pat plan rub scrub shop skip slip spot stir stop tap tip trim trot wag wrap".split()
)
IRREGULAR_PLURAL = {
    "child": "children", "goose": "geese", "mouse": "mice", "sheep": "sheep", "fish": "fish", "loaf": "loaves", "leaf": "leaves",
    "knife": "knives", "shelf": "shelves", "foot": "feet", "tooth": "teeth", "man": "men", "woman": "women", "calf": "calves",
    "potato": "potatoes", "tomato": "tomatoes", "scarf": "scarves", "wolf": "wolves",
}  # fmt: skip
NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty".split()


def has_vowel_sound(word: str) -> bool:
    """Whether `word` starts with a vowel sound, which is what chooses between "a" and "an"."""
    lowered = word.lower()
    if lowered.startswith(VOWEL_SOUND_EXCEPTIONS) or re.match(r"8|1[18]\b", lowered):  # an 8 kg dog, an 11 kg one
        return True
    return lowered[:1] in "aeiou" and not lowered.startswith(CONSONANT_SOUND_EXCEPTIONS)


def with_article(phrase: str) -> str:
    """ "apple" -> "an apple"."""
    return f"{'an' if has_vowel_sound(phrase) else 'a'} {phrase}"


_ARTICLE_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeiouAEIOUh18])(\w+)")


def fix_articles(text: str) -> str:
    """Turn each "a" before a vowel sound into "an"; templates always write "a"."""
    return _ARTICLE_BEFORE_VOWEL.sub(
        lambda m: f"{m[1]}n {m[2]}" if has_vowel_sound(m[2]) else m[0],
        text,
    )


LONG_ADJECTIVES = frozenset("cheerful careful curious patient".split())


def compared(adjective: str, ending: str) -> str:
    """The comparative ("er") or superlative ("est"): kind -> kinder, brave -> braver, busy -> busier, careful -> more careful."""
    if adjective in LONG_ADJECTIVES:
        return f"{'more' if ending == 'er' else 'most'} {adjective}"
    if adjective.endswith("y"):
        return adjective[:-1] + "i" + ending
    return adjective.removesuffix("e") + ending


def past(verb: str) -> str:
    """Past tense of a base form; only the first word of a phrase changes: "sweep the yard" -> "swept the yard"."""
    head, _, rest = verb.partition(" ")
    if head in IRREGULAR_PAST:
        form = IRREGULAR_PAST[head]
    elif head.endswith("e"):
        form = head + "d"
    elif head.endswith("y") and head[-2] not in "aeiou":
        form = head[:-1] + "ied"
    elif head in DOUBLED:
        form = head + head[-1] + "ed"
    else:
        form = head + "ed"
    return f"{form} {rest}" if rest else form


def third(verb: str) -> str:
    """Third person singular of a base form: "mix paint" -> "mixes paint"."""
    head, _, rest = verb.partition(" ")
    if head in {"be": 1, "have": 1}:
        form = {"be": "is", "have": "has"}[head]
    elif head.endswith(("s", "x", "z", "ch", "sh", "o")):
        form = head + "es"
    elif head.endswith("y") and head[-2] not in "aeiou":
        form = head[:-1] + "ies"
    else:
        form = head + "s"
    return f"{form} {rest}" if rest else form


def gerund(verb: str) -> str:
    """The -ing form of a base form: "bake bread" -> "baking bread"."""
    head, _, rest = verb.partition(" ")
    if head.endswith("ie"):
        form = head[:-2] + "ying"
    elif head.endswith("e") and not head.endswith(("ee", "oe")) and head != "be":
        form = head[:-1] + "ing"
    elif head in DOUBLED or head in {"cut", "dig", "forget", "get", "put", "run", "set", "sit", "spin", "swim", "win"}:
        form = head + head[-1] + "ing"
    else:
        form = head + "ing"
    return f"{form} {rest}" if rest else form


def plural(noun: str) -> str:
    """Plural of a noun; only the last word changes: "toy boat" -> "toy boats"."""
    first, space, head = noun.rpartition(" ")
    if head in IRREGULAR_PLURAL:
        form = IRREGULAR_PLURAL[head]
    elif head.endswith(("s", "x", "z", "ch", "sh")):
        form = head + "es"
    elif head.endswith("y") and head[-2] not in "aeiou":
        form = head[:-1] + "ies"
    else:
        form = head + "s"
    return f"{first}{space}{form}"


def join_list(items: list[str], conjunction: str = "and") -> str:
    """["a", "b", "c"] -> "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {conjunction} {items[-1]}"


def number_word(number: int) -> str:
    """Words up to twenty, digits beyond."""
    return NUMBER_WORDS[number] if 0 <= number < len(NUMBER_WORDS) else str(number)


_SENTENCE_START = re.compile(r"(^|[.!?] |\n)(\"?)([a-z])")


def sentence_case(text: str) -> str:
    """Upper-case the first letter of each sentence (after ". ", not after a closing quote, where speech goes on: `?" said`)."""
    return _SENTENCE_START.sub(lambda m: m[1] + m[2] + m[3].upper(), text)
