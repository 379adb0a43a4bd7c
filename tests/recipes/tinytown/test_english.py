"""English morphology: every expected form is written by hand."""
# ruff: noqa: E501 - a case stays on its line

import pytest

from recipes.tinytown import english


@pytest.mark.parametrize(
    ("word", "phrase"),
    [("apple", "an apple"), ("kite", "a kite"), ("hour", "an hour"), ("useful rope", "a useful rope"), ("one", "a one"), ("old oak", "an old oak"), ("8 kg", "an 8 kg"), ("11 kg", "an 11 kg"), ("110 kg", "a 110 kg"), ("1 kg", "a 1 kg")],
)  # fmt: skip
def test_the_article_follows_the_sound(word, phrase):
    assert english.with_article(word) == phrase
    assert english.fix_articles(f"It was a {word}.") == f"It was {phrase}."


@pytest.mark.parametrize(
    ("base", "past", "third", "gerund"),
    [
        ("bake bread", "baked bread", "bakes bread", "baking bread"),
        ("carry letters", "carried letters", "carries letters", "carrying letters"),
        ("play chess", "played chess", "plays chess", "playing chess"),
        ("go", "went", "goes", "going"),
        ("teach", "taught", "teaches", "teaching"),
        ("trim the hedges", "trimmed the hedges", "trims the hedges", "trimming the hedges"),
        ("swim", "swam", "swims", "swimming"),
        ("have", "had", "has", "having"),
        ("tie", "tied", "ties", "tying"),
    ],
)
def test_verbs_take_their_forms(base, past, third, gerund):
    assert (english.past(base), english.third(base), english.gerund(base)) == (past, third, gerund)


@pytest.mark.parametrize(
    ("one", "many"),
    [("bun", "buns"), ("loaf", "loaves"), ("cherry", "cherries"), ("peach", "peaches"), ("potato", "potatoes"), ("toy boat", "toy boats")],
)  # fmt: skip
def test_nouns_take_their_plural(one, many):
    assert english.plural(one) == many


def test_sentences_begin_with_a_capital_and_speech_goes_on_without():
    assert english.sentence_case('by the well sat a fox. "go!" she said. it went.') == (
        'By the well sat a fox. "Go!" she said. It went.'
    )


def test_lists_are_joined_with_commas_and_a_last_word():
    assert english.join_list(["a"]) == "a"
    assert english.join_list(["a", "b"]) == "a and b"
    assert english.join_list(["a", "b", "c"], "or") == "a, b or c"


@pytest.mark.parametrize(
    ("adjective", "more", "most"),
    [("kind", "kinder", "kindest"), ("brave", "braver", "bravest"), ("busy", "busier", "busiest"), ("careful", "more careful", "most careful")],
)  # fmt: skip
def test_adjectives_are_compared(adjective, more, most):
    assert (english.compared(adjective, "er"), english.compared(adjective, "est")) == (more, most)
