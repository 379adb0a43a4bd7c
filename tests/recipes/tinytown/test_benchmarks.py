"""Benchmarks: one right choice each, positions balanced, nothing given away, and lm-eval reads the files."""

import json
import math
import re
from collections import Counter
from random import Random

import pytest

from recipes.tinytown import benchmarks, clinic, lexicon
from recipes.tinytown.english import fix_articles
from recipes.tinytown.form import faults
from recipes.tinytown.instructions import Tasker
from recipes.tinytown.questions import QUESTIONS, ROLES, questions_about
from recipes.tinytown.world import the_town
from recipes.tinytown.writing import tell_document


@pytest.fixture(scope="module")
def tasks():
    return {name: benchmarks.make_task(name, seed=1) for name in benchmarks.TASKS}


@pytest.fixture(scope="module")
def frequency():
    """Words of 3,000 training documents."""
    rng, counts = Random("frequency"), Counter()
    for index in range(3000):
        counts.update(re.findall(r"\w+", tell_document(rng, is_domain=index % 5 == 0, is_held_out=False).text.lower()))
    return counts


def accuracy(rows, value):
    """Share of rows in which the choice of highest value is right; a tie counts as its share."""
    hits = 0.0
    for row in rows:
        values = [value(choice) for choice in row["choices"]]
        best = [i for i, v in enumerate(values) if v == max(values)]
        hits += (row["answer"] in best) / len(best)
    return hits / len(rows)


@pytest.mark.parametrize("name", list(benchmarks.TASKS))
def test_right_answers_stand_equally_often_at_every_position(tasks, name):
    places = Counter(row["answer"] for row in tasks[name])
    assert len(places) == len(tasks[name][0]["choices"]) and max(places.values()) == min(places.values())


@pytest.mark.parametrize("name", list(benchmarks.TASKS))
def test_choices_differ_and_items_too(tasks, name):
    assert all(len(set(row["choices"])) == len(row["choices"]) for row in tasks[name])
    items = {(row["context"], row["choices"][row["answer"]]) for row in tasks[name]}
    assert len(items) == len(tasks[name]) == benchmarks.ITEMS_PER_TASK


@pytest.mark.parametrize("name", list(benchmarks.TASKS))
def test_length_and_word_frequency_are_no_better_than_guessing(tasks, frequency, name):
    """Tolerance: 3 standard errors of guessing at 240 items (ten baselines on one draw reach 2.6 by chance)."""
    rows = tasks[name]
    chance = 1 / len(rows[0]["choices"])
    margin = 3 * math.sqrt(chance * (1 - chance) / len(rows))

    def words(text):
        return re.findall(r"\w+", text.lower())

    baselines = {
        "longest": len,
        "shortest": lambda choice: -len(choice),
        "most frequent words": lambda choice: sum(frequency[word] for word in words(choice)) / len(words(choice)),
        "rarest words": lambda choice: -sum(frequency[word] for word in words(choice)) / len(words(choice)),
    }
    for what, value in baselines.items():
        assert abs(accuracy(rows, value) - chance) < margin, (what, accuracy(rows, value))


def test_each_question_has_one_answer_among_everything_of_its_sort():
    """By brute force: of all sentences that the question's sort allows, one is what an event of the story says."""
    tasker, asked = Tasker(Random("one answer"), is_held_out=False), 0
    for _ in range(150):
        scene, _ = tasker.passage()
        for question in questions_about(scene.world.events):
            said = set()
            for verb, *args in scene.world.events:
                if verb != question.verb:
                    continue
                words = dict(zip(ROLES[verb], args, strict=False))
                template = QUESTIONS[verb, question.role][0]
                if fix_articles(template.format(**words)) == question.question:
                    said.add(words[question.role])
            assert said == {question.answer}, (question, scene.world.events)
            asked += 1
    assert asked > 400


def test_the_right_answer_of_a_passage_is_told_in_it_and_the_wrong_ones_answer_otherwise(tasks):
    for row in tasks["tinytown_qa"]:
        right = row["choices"][row["answer"]]
        common = set.intersection(*(set(re.findall(r"\w+", choice.lower())) for choice in row["choices"]))
        own = [word for word in re.findall(r"\w+", right.lower()) if word not in common]
        told = row["context"].lower()
        assert any(word in told or word.rstrip("s") in told for word in own), row


def test_facts_are_those_of_the_town_and_the_wrong_ones_are_not(tasks):
    by_name = {person.name: person for person in the_town()}
    for row in tasks["tinytown_facts"]:
        (name,) = [word for word in re.findall(r"[A-Z]\w+", row["context"]) if word in by_name][:1]
        values = " / ".join(by_name[name].facts().values())
        stripped = [re.sub(r"^(?:in|on) ", "", choice.strip(" .")) for choice in row["choices"]]
        assert [value in values for value in stripped] == [i == row["answer"] for i in range(4)], (row, values)


def test_clinic_answers_follow_the_rules(tasks):
    for row in tasks["clinic_qa"]:
        right = row["choices"][row["answer"]].strip(" .")
        rules = [c for c in clinic.CONDITIONS if right in (c.drug, c.name, c.finding)]
        if "mg/kg =" in row["context"]:
            rate, weight = re.search(r"(\d+) mg/kg", row["context"])[1], re.search(r"(\d+) kg", row["context"])[1]
            assert right == f"{int(rate) * int(weight)} mg"
        else:
            (rule,) = rules
            assert sum(any(text in row["context"] for text in (c.drug, c.name, c.finding)) for c in [rule]) == 1
            species = next(s for s in rule.species if re.search(rf"\b{s}\b", row["context"]))
            assert clinic.is_held_out_case(species, rule.name)


def test_right_sentences_of_minimal_pairs_have_no_fault_that_the_parser_sees(tasks):
    assert all(not faults(row["choices"][row["answer"]]) for row in tasks["tinytown_grammar"])


def test_endings_are_of_the_same_people(tasks):
    names = {person.name for person in the_town()}
    for row in tasks["tinytown_endings"]:
        told = names & set(re.findall(r"\w+", row["context"]))
        assert all(names & set(re.findall(r"\w+", choice)) <= told for choice in row["choices"]), row


def test_held_out_names_or_pairs_are_what_passages_are_about(tasks):
    strangers = set(lexicon.HELD_OUT_FEMALE_NAMES + lexicon.HELD_OUT_MALE_NAMES)
    about = sum(bool(strangers & set(re.findall(r"\w+", row["context"]))) for row in tasks["tinytown_qa"])
    assert 0.3 < about / len(tasks["tinytown_qa"]) <= 1


def test_lm_eval_loads_every_task_and_finds_the_right_choice(tasks, tmp_path, monkeypatch):
    from lm_eval.tasks import TaskManager

    for name, rows in tasks.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:5]), encoding="utf-8")
        (tmp_path / f"{name}.yaml").write_text(benchmarks.task_yaml(name), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    loaded = manager.load(list(tasks))["tasks"]
    for name, task in loaded.items():
        document, row = task.eval_docs[0], tasks[name][0]
        assert (task.doc_to_text(document), task.doc_to_choice(document), task.doc_to_target(document)) == (
            row["context"],
            row["choices"],
            row["answer"],
        )
