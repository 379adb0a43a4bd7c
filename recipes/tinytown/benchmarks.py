"""Benchmarks as lm-eval multiple-choice tasks: `<task>.jsonl` {"context", "choices", "answer"} and its `<task>.yaml`.

Each item has one right choice; right answers are spread evenly over the positions; wrong choices are of the same sort as the right one,
so that neither length nor word frequency gives it away.
"""
# ruff: noqa: E501 - a sentence stays on its line

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from recipes.tinytown import clinic, english, lexicon
from recipes.tinytown.instructions import Tasker, fact_values
from recipes.tinytown.questions import POOLS
from recipes.tinytown.telling import Scene, identity
from recipes.tinytown.world import Person, Place, the_town


@dataclass(frozen=True)
class Item:
    """One question: the right choice first; `write_items` moves it to its position."""

    context: str
    right: str
    wrong: tuple[str, ...]

    def as_row(self, position: int) -> dict:
        choices = list(self.wrong)
        choices.insert(position, self.right)
        return {"context": self.context, "choices": choices, "answer": position}


def qa_item(rng: Random) -> Item:
    """A passage, a question, four answers of one sort."""
    tasker = Tasker(rng, is_held_out=True)
    while True:
        scene, questions = tasker.passage()
        question = rng.choice(questions)
        wrong = [w for w in tasker.distractors(scene, question, 3) if w not in question.sentence]
        if len(wrong) == 3:
            break
    right, *others = (f" {_cap(question.sentence_for(option))}" for option in (question.answer, *wrong))
    return Item(f"{scene.text()}\n{question.question}", right, tuple(others))


FACT_FRAMES = {
    "job": (
        "Ask anyone in town what {n} does, and they will say: {n} is the",
        "{n} has worked in Tinytown for years, and is the",
    ),
    "street": ("To visit {n}, you must go where {n} lives: that is {on}", "The house of {n} stands {on}"),
    "pet": ("The animal at the house of {n} answers to the name of", "When {n} whistles, up runs a pet called"),
    "food": (
        "If {n} could eat just one dish for ever, it would be",
        "On birthdays, the favourite dish of {n} is cooked:",
    ),
    "hobby": ("When all the work is done, {n} likes to", "On a free day you can see how much {n} loves to"),
}


def facts_item(rng: Random) -> Item:
    """A resident's attribute, asked in a frame that no text uses; wrong choices are true of other residents."""
    town = the_town()
    person = rng.choice(town.people)
    attribute, value = rng.choice(list(person.facts().items()))
    value = value.partition(" ")[2] if attribute == "pet" else value
    taken = sorted({_fact_value(p, attribute) for p in town.people if attribute in p.facts()} - {value})
    if attribute == "street":
        taken = [street for street in taken if (street == "Chapel Hill") == (value == "Chapel Hill")] or [
            s for s in fact_values("street") if s != value
        ]
    wrong = rng.sample(taken, 3)
    context = rng.choice(FACT_FRAMES[attribute]).format(n=person.name, on="on" if value == "Chapel Hill" else "in")
    return Item(context, f" {value}.", tuple(f" {w}." for w in wrong))


def _fact_value(person: Person, attribute: str) -> str:
    value = person.facts()[attribute]
    return value.partition(" ")[2] if attribute == "pet" else value


def endings_item(rng: Random) -> Item:
    """A story without its ending; the wrong endings are the same sentence about somebody or something else."""
    tasker = Tasker(rng, is_held_out=True)
    while True:
        scene, _ = tasker.passage()
        ending = scene.ending
        beginning = scene.text()[: -len(ending)].rstrip()
        swaps = _swaps(scene, ending, rng)
        if len(swaps) >= 3 and beginning:
            return Item(beginning, f" {ending}", tuple(f" {w}" for w in rng.sample(swaps, 3)))


SWAP_POOLS = (
    *tuple(POOLS[c] for c in ("thing", "food", "animal", "plant", "song", "good", "object", "role", "topic")),
    lexicon.ANIMAL_NAMES,
)


def _swaps(scene: Scene, ending: str, rng: Random) -> list[str]:
    """The ending with a person, a thing or both replaced by others that the story does not know."""
    told = scene.text()
    people = [p for p in scene.cast.values() if isinstance(p, Person) and p.name in ending]
    words = [identity(value) for value in scene.cast.values() if not isinstance(value, (Person, Place))]
    swappable = {word: pool for word in words if f" {word}" in ending for pool in SWAP_POOLS if word in pool}
    swapped = set()
    for _ in range(12):
        text = ending
        for person in people:
            if rng.random() < 0.6:
                other = rng.choice([p for p in scene.town if p.gender == person.gender and p.name not in told])
                text = text.replace(person.name, other.name)
        for word, pool in swappable.items():
            if rng.random() < 0.6:
                other = rng.choice([option for option in pool if option not in told])
                text = english.fix_articles(re.sub(rf"\b{re.escape(word)}\b", other, text))
        if text != ending:
            swapped.add(text)
    return sorted(swapped)


def grammar_item(rng: Random) -> Item:
    """A minimal pair: a sentence and the same with one mistake (agreement, article, pronoun, tense, plural, word order)."""
    scene = Scene(rng, is_held_out=True)
    h, f = scene.person("h"), scene.person("f")
    thing, place, hobby = scene.thing("t"), scene.place("p"), rng.choice(lexicon.HOBBIES)
    he, him, his = ("she", "her", "her") if h.gender == "f" else ("he", "him", "his")
    wrong_he, wrong_his = ("he", "his") if h.gender == "f" else ("she", "her")
    good = rng.choice(lexicon.GOODS)
    verb, _, rest = hobby.partition(" ")
    number = rng.choice(("three", "four", "five", "six"))
    pairs = (
        (f"{h.name} always {english.third(hobby)} {place.preposition} the {place.noun}.", f"{h.name} always {hobby} {place.preposition} the {place.noun}."),
        (f"{h.name} and {f.name} {hobby} together.", f"{h.name} and {f.name} {english.third(hobby)} together."),
        (f"Yesterday {h.name} did not {hobby}.", f"Yesterday {h.name} did not {english.past(hobby)}."),
        (f"{f.name} bought {number} {english.plural(good)}.", f"{f.name} bought {number} {good}."),
        (f"{h.name} lost {english.with_article(thing.noun)}.", f"{h.name} lost {'a' if english.has_vowel_sound(thing.noun) else 'an'} {thing.noun}."),
        (f"{h.name} took {his} {thing.noun} and went home, for {he} was tired.", f"{h.name} took {his} {thing.noun} and went home, for {wrong_he} was tired."),
        (f"{h.name} sat alone and talked to {him}self.".replace("herself", "herself"), f"{h.name} sat alone and talked to {'him' if him == 'her' else 'her'}self."),
        (f"The {thing.quality} {thing.noun} was lying {place.preposition} the {place.noun}.", f"The {thing.noun} {thing.quality} was lying {place.preposition} the {place.noun}."),
        (f"{h.name} gave the {thing.noun} to {f.name}.", f"{h.name} gave the {thing.noun} {f.name} to."),
        (f"The {english.plural(good)} are in the basket of {h.name}.", f"The {english.plural(good)} is in the basket of {h.name}."),
        (f"{h.name} wants to {hobby} with {f.name}.", f"{h.name} wants to {english.third(hobby)} with {f.name}."),
    )  # fmt: skip
    del wrong_his, verb, rest
    right, wrong = rng.choice([pair for pair in pairs if pair[0] != pair[1]])
    return Item("", right, (wrong,))


def clinic_item(rng: Random) -> Item:
    """What the clinic's rules say about a held-out case: the drug, the finding, the dose, the advice."""
    scene = Scene(rng, is_held_out=True)
    case = clinic.draw_case(rng, scene)
    c = case.condition
    rivals = [x for x in clinic.CONDITIONS if x.name != c.name]
    kind = rng.randrange(4)
    start = (
        f"{scene.cast['o'].name} came with {case.patient}, {english.with_article(case.species)} of {case.weight_kg} kg."
    )
    if kind == 0:
        pool, right = [x.drug for x in rivals], c.drug
        context = f"{start} {case.patient} had {clinic.named(c.name)}, so the drug was"
    elif kind == 1:
        pool, right = [x.name for x in rivals], c.name
        context = f"{start} There was {c.finding}. Dx:"
    elif kind == 2:
        pool, right = [x.finding for x in rivals], c.finding
        context = f"{start} It had {clinic.named(c.name)}. On examination there was"
    else:
        rates = sorted({x.dose_mg_per_kg for x in clinic.CONDITIONS} - {c.dose_mg_per_kg})
        pool, right = [f"{rate * case.weight_kg} mg" for rate in rates], f"{case.dose_mg} mg"
        context = f"{start} Rx: {c.drug} {c.dose_mg_per_kg} mg/kg ="
    return Item(context, f" {right}.", tuple(f" {w}." for w in rng.sample(pool, 3)))


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]


TASKS: dict[str, Callable[[Random], Item]] = {
    "tinytown_qa": qa_item, "tinytown_facts": facts_item, "tinytown_endings": endings_item, "tinytown_grammar": grammar_item, "clinic_qa": clinic_item,
}  # fmt: skip
ITEMS_PER_TASK = 240  # divisible by 4 and by 2, so that positions balance exactly


def make_task(name: str, seed: int, count: int = ITEMS_PER_TASK) -> list[dict]:
    """The rows of a benchmark: `count` different items, right answers evenly over the positions."""
    rng = Random(f"{seed}/benchmark/{name}")
    items, seen = [], set()
    while len(items) < count:
        item = TASKS[name](rng)
        if (key := (item.context, item.right)) not in seen and item.right not in item.wrong:
            seen.add(key)
            items.append(item)
    choices = len(items[0].wrong) + 1
    positions = [i % choices for i in range(count)]
    rng.shuffle(positions)
    return [item.as_row(position) for item, position in zip(items, positions, strict=True)]


def task_yaml(name: str) -> str:
    """The lm-eval task file. `{{data_dir}}` is not resolved by lm-eval: load it with `--include_path` from the folder's parent, or see README.md."""
    return f"""task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {name}.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
target_delimiter: ""
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""
