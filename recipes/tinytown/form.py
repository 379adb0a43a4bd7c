"""The world's own parser of form: is this well-made English of the town, does it end, is it of the right length?

`faults(text)` names what is wrong; the rubric turns it into a score. It knows the town's vocabulary (every word in the generator's own
strings), articles, agreement of simple subjects, sentence case and ends, doubled words and repeated phrases.
"""
# ruff: noqa: E501 - a sentence stays on its line

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

from recipes.tinytown import english

VOCABULARY_MODULES = (
    "lexicon.py",
    "telling.py",
    "clinic.py",
    "instructions.py",
    "demonstrators.py",
    "questions.py",
    "shapes/*.py",
    "english.py",
    "rubric.py",
)
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[.!?]\")\s+(?![a-z])|\n+")
_BAD_ARTICLE = re.compile(r"\b(a|an) (?!a\b|an\b)([a-z]\w*)", re.IGNORECASE)
_DOUBLED = re.compile(r"\b(\w+) \1\b", re.IGNORECASE)
_DISAGREEMENT = re.compile(
    r"\b(?:he|she|it) (?:have|are|were|do|go|am|say|give|take|make|want|like|live|work|find)\b|\b(?:they|we|you) (?:was|is|has|does|am)\b"
    r"|\bI (?:is|are|has|were|does)\b|\b(?:a|an|one) (?:people|children|geese|mice|men|women)\b|\bthese (?:is|was)\b|\b(?:this|that) (?:are|were)\b"
    r"|\b(?:did not|didn't) (?:went|gave|took|found|lost|made|saw|was|had|bought|said|came)\b|\bto (?:went|gave|took|found|made|saw|bought|came)\b",
    re.IGNORECASE,
)
_DOUBLED_ALLOWED = frozenset({"had", "that", "on", "in", "very", "so", "well", "now", "no", "rained", "again"})


@cache
def vocabulary() -> frozenset[str]:
    """Lower-cased words of all strings in the generator's modules, with plurals, pasts, thirds and gerunds of them."""
    words: set[str] = set()
    root = Path(__file__).parent
    for pattern in VOCABULARY_MODULES:
        for path in sorted(root.glob(pattern)):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    words.update(word.lower() for word in _WORD.findall(re.sub(r"\{[^}]*\}", " ", node.value)))
    forms = {
        form(word)
        for word in words
        if len(word) > 1
        for form in (english.plural, english.past, english.third, english.gerund)
    }
    return frozenset(words | forms)


def sentences(text: str) -> list[str]:
    """The sentences (and lines) of a text."""
    return [part for part in (piece.strip() for piece in _SENTENCE_END.split(text)) if part]


def is_word(word: str) -> bool:
    """Whether a word (any case) is one of the town's, possessive 's allowed."""
    lowered = word.lower()
    return lowered in vocabulary() or (lowered.endswith("'s") and lowered[:-2] in vocabulary())


def faults(text: str) -> list[str]:
    """What is wrong with the form of a text, one entry a fault: unknown words, articles, agreement, case, ends, doubling, repetition."""
    found = [f"unknown word {word!r}" for word in _WORD.findall(text) if not is_word(word)]
    found += [
        f"article {match[0]!r}"
        for match in _BAD_ARTICLE.finditer(text)
        if english.has_vowel_sound(match[2]) != (match[1].lower() == "an")
    ]
    found += [f"agreement {match[0]!r}" for match in _DISAGREEMENT.finditer(text)]
    found += [f"doubled {match[0]!r}" for match in _DOUBLED.finditer(text) if match[1].lower() not in _DOUBLED_ALLOWED]
    parts = sentences(text)
    for part in parts:
        start = part.lstrip("\"'(-*")
        if start[:1].islower():
            found.append(f"lower case at {part[:20]!r}")
    found += [f"repeated {part[:30]!r}" for part, count in Counter(parts).items() for _ in range(count - 1)]
    words = [word.lower() for word in _WORD.findall(text)]
    phrases = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    found += [f"repeated phrase {' '.join(phrase)!r}" for phrase, count in phrases.items() if count > 2]
    if text.count('"') % 2:
        found.append("quotation mark without its pair")
    return found


def is_ended(text: str) -> bool:
    """Whether the text comes to an end: a full stop, question or exclamation mark, perhaps inside quotes."""
    return text.rstrip().rstrip("\"')").endswith((".", "!", "?"))
