"""Templates, reference, casting, and the state behind a text."""

import json
import re
from random import Random

import pytest

from recipes.tinytown import lexicon
from recipes.tinytown.clinic import CLINIC_SHAPES
from recipes.tinytown.shapes import SHAPES
from recipes.tinytown.telling import Scene, compile_template
from recipes.tinytown.world import World, is_reserved_pair, the_town


def scene(seed=0, **options):
    return Scene(Random(seed), **options)


@pytest.mark.parametrize("template", ["[a|b", "a]", "{h", "[[a]"])
def test_a_template_with_unbalanced_brackets_is_refused(template):
    with pytest.raises(ValueError, match=re.escape(repr(template))):
        compile_template(template)


def test_choices_nest():
    s = scene()
    made = {s.render("[a [red|blue]|no] hat") for _ in range(200)}
    assert made == {"A red hat", "A blue hat", "No hat"}


def test_he_and_she_stand_for_the_last_one_named_of_that_gender():
    for seed in range(50):
        s = scene(seed)
        s.people("h", "f")
        assert s.cast["h"].gender != s.cast["f"].gender
        s.say("{h.name} met {f.name}.")
        told = s.render("{h} laughed.")
        pronoun = "She" if s.cast["h"].gender == "f" else "He"
        assert told in (f"{s.cast['h'].name} laughed.", f"{pronoun} laughed.")


def test_a_person_not_mentioned_in_the_last_sentence_is_named():
    s = scene()
    s.people("h", "f")
    s.say("{h.name} slept.")
    s.say("{f.name} slept.")
    assert all(s.cast["h"].name in s.render("{h} woke.") for _ in range(1))


def test_a_new_paragraph_names_people_again():
    s = scene()
    s.people("h", "f")
    s.say("{h.name} slept.")
    s.paragraph()
    assert s.render("{h} woke.").startswith(s.cast["h"].name)


def test_nobody_gives_away_what_they_do_not_hold():
    world = World()
    world.apply("have", "Nora", "kite")
    with pytest.raises(AssertionError, match="Felix does not hold the kite: Nora does"):
        world.apply("give", "Felix", "Ada", "kite")


def test_a_thing_is_found_only_where_it_lies():
    world = World()
    world.apply("have", "Nora", "kite")
    world.apply("lose", "Nora", "kite", "well")
    with pytest.raises(AssertionError, match="the kite lies at well, not at barn"):
        world.apply("find", "Felix", "kite", "barn")


def test_the_town_has_one_holder_of_each_job_and_one_owner_of_each_pet_name():
    people = list(the_town())
    jobs = [person.job for person in people if person.job]
    pets = [person.pet[1] for person in people if person.pet]
    assert sorted(jobs) == sorted(job for job, _, _ in lexicon.JOBS)
    assert len(pets) == len(set(pets))


@pytest.mark.parametrize("name", list(SHAPES))
def test_every_shape_tells_ended_sentences_of_people_it_may_name(name):
    shape = SHAPES[name]
    held_out_names = set(lexicon.HELD_OUT_FEMALE_NAMES + lexicon.HELD_OUT_MALE_NAMES)
    for seed in range(12):
        s = scene(seed, is_brief=seed % 3 == 0)
        shape.tell(s)
        text = s.text()
        assert "{" not in text and "[" not in text and "|" not in text and "  " not in text, text
        assert not held_out_names & set(re.findall(r"\w+", text)), text
        json.dumps(s.state())
        people = list(s.state()["people"].values())
        assert not any(is_reserved_pair(person, thing) for person in people for thing in s.state()["things"]), text
        if shape.kind == "story":
            assert text.rstrip('"').endswith((".", "!", "?")), text


@pytest.mark.parametrize("name", list(CLINIC_SHAPES))
def test_every_clinic_shape_tells_a_case_of_its_side(name):
    from recipes.tinytown.clinic import is_held_out_case

    for seed in range(20):
        for is_held_out in (False, True):
            s = scene(seed, is_held_out=is_held_out)
            CLINIC_SHAPES[name](s)
            _, _, species, _, condition, _ = s.world.events[0]
            assert is_held_out_case(species, condition) == is_held_out


def test_there_are_forty_story_shapes_and_some_are_held_out():
    stories = [shape for shape in SHAPES.values() if shape.kind == "story"]
    assert sum(not shape.is_held_out for shape in stories) >= 40
    assert sum(shape.is_held_out for shape in SHAPES.values()) >= 4
