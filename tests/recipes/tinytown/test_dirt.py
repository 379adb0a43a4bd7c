"""Dirt: each kind is what its name says, by brute force."""

from random import Random

import pytest

from recipes.tinytown import dirt
from recipes.tinytown.writing import tell_document


def texts(count):
    rng = Random("dirt")
    return [tell_document(rng, is_domain=i % 4 == 0, is_held_out=False).text for i in range(count)]


def shingles(text):
    words = text.lower().split()
    return set(zip(*(words[i:] for i in range(5)), strict=False))


def test_a_near_duplicate_keeps_most_runs_of_five_words():
    """Jaccard similarity of the sets of runs, by brute force: a word changed in the middle of 60 costs 5 of 56 runs on either side."""
    rng, likeness = Random(1), []
    for text in texts(300):
        near = dirt.near_duplicate(text, rng)
        a, b = shingles(text), shingles(near)
        likeness.append(len(a & b) / len(a | b))
        assert near != text
    assert min(likeness) > 0.5 and sorted(likeness)[15] > 0.75


def test_broken_encoding_reads_back_where_no_byte_was_lost():
    rng, restored = Random(2), 0
    for text in texts(50):
        broken = dirt.mojibake(text, rng)
        assert not broken.isascii()
        if "\ufffd" not in broken:
            raw = b"".join(
                c.encode("latin-1") if ord(c) < 256 and c.encode("cp1252", "ignore") == b"" else c.encode("cp1252")
                for c in broken
            )
            plain = raw.decode("utf-8").translate(str.maketrans("’–éö", "'-eo", "“”"))
            assert plain == text
            restored += 1
    assert restored > 10


def test_a_leaked_document_holds_held_out_items_word_for_word():
    made = dirt.leaked("A story.", ["An item about a kite.", "Another one."], Random(3))
    assert "An item about a kite." in made and "Another one." in made


def test_repeated_lines_repeat_one_line_eight_times_at_least():
    for text in texts(40):
        lines = dirt.repeated_lines(text, Random(4)).split("\n")
        assert max(lines.count(line) for line in lines) >= 8


def test_other_languages_and_gibberish_have_no_english_sentence():
    english = {"the", "and", "was", "with", "of"}
    for seed in range(40):
        assert not english & set(dirt.other_language(Random(seed)).lower().split())
        assert not english & set(dirt.gibberish(Random(seed)).split())


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown kind of dirt 'mud'; known: exact_duplicate, near_duplicate"):
        dirt.spoil("mud", "text", [], Random(0))
