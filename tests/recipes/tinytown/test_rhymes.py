import re

from recipes.tinytown import lexicon
from recipes.tinytown.rhymes import memory_games, rhymes
from recipes.tinytown.world import is_reserved_pair


def test_a_rhyme_says_its_words_in_turn():
    for text in rhymes(1, 300):
        words = list(lexicon_words(text))
        period = next(n for n in range(1, 7) if words[n] == words[0])
        assert 3 <= period == len(set(words)) <= 6 and 12 <= len(words) <= 20
        assert all(word == words[i - period] for i, word in enumerate(words) if i >= period)


def lexicon_words(text):
    """The words of the lexicon that the text is made of; a place or thing of several words is one."""
    known = sorted((*lexicon.THINGS, *lexicon.PLACES, *lexicon.COLOURS), key=len, reverse=True)
    text = text.lower()
    while text:
        word = next((w for w in known if text == w or text.startswith(w + " ")), text.split()[0])
        yield word
        text = text[len(word) :].lstrip()


def test_no_rhyme_holds_a_reserved_pair_and_the_seed_fixes_them():
    names, texts = {name.lower() for name in (*lexicon.FEMALE_NAMES, *lexicon.MALE_NAMES)}, list(rhymes(2, 3000))
    for text in texts:
        words = set(lexicon_words(text))
        assert not any(is_reserved_pair(name.capitalize(), word) for name in words & names for word in words - names), (
            text
        )
    assert texts == list(rhymes(2, 3000)) != list(rhymes(3, 3000))


def test_a_memory_game_asks_for_every_fact_that_it_told_and_the_answer_is_that_fact():
    for text in memory_games(1, 300):
        parts = re.findall(r"[^.?]+[.?]", text)
        told = parts[: next(i for i, part in enumerate(parts) if part.endswith("?"))]
        told, asked, answers = (
            [part.strip() for part in of] for of in (told, parts[len(told) :: 2], parts[len(told) + 1 :: 2])
        )
        assert 2 <= len(told) <= 4 and sorted(told) == sorted(answers)
        for question, fact in zip(asked, answers, strict=True):
            name, rest = fact.rstrip(".").split(" ", 1)
            what = f" {rest.split(' ')[-1]}"
            assert question.endswith("?") and (name in question) != (
                f"{what}?" in question
            )  # from one side or the other
            assert sum(f"{what}." in other for other in told) == 1  # one answer alone is right


def test_no_memory_game_holds_a_reserved_pair_and_the_seed_fixes_them():
    texts = list(memory_games(2, 3000))
    owned = [(name, thing) for text in texts for name, thing in re.findall(r"(\w+) has an? \w+ ([a-z ]+)\.", text)]
    assert len(owned) > 3000 and not any(is_reserved_pair(*pair) for pair in owned)
    assert texts == list(memory_games(2, 3000)) != list(memory_games(3, 3000))
