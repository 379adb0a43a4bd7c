"""Facts hold: the checker finds none wrong in the generator's texts, and does find those that were changed on purpose."""
# ruff: noqa: E501 - a case stays on its line

import json
import re
from random import Random

import pytest

from recipes.tinytown import english, lexicon
from recipes.tinytown.facts import check, resolve
from recipes.tinytown.writing import tell_document

DOCUMENTS = 1200


@pytest.fixture(scope="module")
def documents():
    rng = Random("facts")
    made = [tell_document(rng, is_domain=i % 5 == 0, is_held_out=i % 7 == 0) for i in range(DOCUMENTS)]
    return [(document.text, json.loads(json.dumps(document.state))) for document in made]


def test_no_stated_fact_is_wrong(documents):
    reports = [check(text, state) for text, state in documents]
    wrong = [(report.wrong, text) for report, (text, _) in zip(reports, documents, strict=True) if report.wrong]
    assert not wrong, wrong[:3]
    assert sum(len(report.claims) for report in reports) > 5 * DOCUMENTS


def swapped(text: str, old: str, options: list[str], rng: Random) -> str | None:
    """The text with one mention of `old` replaced by one of the options; None where it is not mentioned."""
    found = list(re.finditer(rf"\b{re.escape(old)}\b", text))
    if not found:
        return None
    place = rng.choice(found)
    return text[: place.start()] + rng.choice(options) + text[place.end() :]


@pytest.mark.parametrize(
    ("what", "least"),
    [("stranger", 0.99), ("thing", 0.85), ("quality", 0.8), ("place", 0.75), ("mood", 0.7), ("number", 0.85), ("person", 0.1)],
)  # fmt: skip
def test_a_fact_changed_on_purpose_is_noticed(documents, what, least):
    """`least` is the share of single changes that must be noticed; a swap of two people of the story is told by what they do alone."""
    rng, noticed, changed = Random(what), 0, 0
    for text, state in documents[:600]:
        people, things, places = list(state["people"].values()), list(state["things"]), state["places"]
        moods = [mood for mood in lexicon.MOODS if re.search(rf"\b{mood}\b", text)]
        numbers = [word for word in english.NUMBER_WORDS[3:] if re.search(rf"\b{word}\b", text)]
        old, options = {
            "stranger": (people and people[0], [name for name in lexicon.FEMALE_NAMES if name not in people]),
            "person": (people and people[0], people[1:2]),
            "thing": (things and things[0], [thing for thing in lexicon.THINGS if thing not in things]),
            "quality": (things and state["things"][things[0]], ["purple", "golden", "torn", "rusty"]),
            "place": (places and places[0], [place for place in lexicon.PLACES if place not in places]),
            "mood": (moods and moods[0], [mood for mood in lexicon.MOODS if mood not in moods]),
            "number": (numbers and numbers[0], [word for word in english.NUMBER_WORDS[3:] if word not in numbers]),
        }[what]
        options = [option for option in options if option != old]
        altered = swapped(text, old, options, rng) if old and options else None
        if altered:
            changed += 1
            noticed += bool(check(altered, state).wrong)
    assert changed > 100
    assert noticed / changed > least, f"{noticed} of {changed}"


def test_pronouns_are_read_as_the_last_man_or_woman_named():
    told = "Nora met Felix. He gave her the kite, and she took it to his house."
    assert resolve(told) == "Nora met Felix. Felix gave Nora the kite, and Nora took it to Felix's house."


def test_sums_are_worked_out_again():
    state = {"people": {"h": "Nora", "f": "Felix"}, "things": {}, "places": [], "words": {"price": "two", "count": "three", "total": "six"}, "events": []}  # fmt: skip
    right = '"They are two coins each," said Felix. "I need three plums. So that is six coins," said Nora.'
    assert not check(right, state).wrong
    assert "three at 2 make 7" in check(right.replace("six", "seven"), state).wrong


def test_a_dose_must_be_rate_times_weight():
    state = {"people": {"o": "Nora"}, "things": {}, "places": [], "words": {}, "events": [["case", "Moss", "dog", "Nora", "worms", "8"]]}  # fmt: skip
    right = "Pt: Moss, dog, 8 kg. O: Nora. Dx: worms. Rx: Vermitex 5 mg/kg = 40 mg PO SID 3 d."
    assert not check(right, state).wrong
    assert check(right.replace("40", "45"), state).wrong == ("45 mg for 8 kg",)
