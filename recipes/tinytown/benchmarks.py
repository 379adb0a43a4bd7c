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
from recipes.tinytown.breadth import FULL, Breadth
from recipes.tinytown.instructions import Tasker, story_shapes
from recipes.tinytown.telling import Scene
from recipes.tinytown.world import Person


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


def qa_item(rng: Random, breadth: Breadth) -> Item:
    """A passage, a question, four answers of one sort, at least two of them from the passage."""
    tasker = Tasker(rng, is_held_out=True, breadth=breadth)
    while True:
        scene, questions = tasker.passage()
        question = rng.choice(questions)
        rivals = [w for w in tasker.distractors(scene, question, 3) if w not in question.sentence]
        told = scene.text()
        if len(rivals) == 3 and any(re.search(rf"\b{re.escape(rival)}\b", told) for rival in rivals):
            break
    right, *others = (f" {_cap(question.sentence_for(option))}" for option in (question.answer, *rivals))
    return Item(f"{told}\n{question.question}", right, tuple(others))


FACT_FRAMES = {
    "job": (
        "Ask anyone in town what {n} does, and they will say: {n} is the",
        "{n} has worked in Tinytown for years, and is the",
    ),
    "street": ("To visit {n}, you must go where {n} lives: that is", "The house of {n} stands"),
    "pet": ("The animal at the house of {n} answers to the name of", "When {n} whistles, up runs a pet called"),
    "food": (
        "If {n} could eat just one dish for ever, it would be",
        "On birthdays, the favourite dish of {n} is cooked:",
    ),
    "hobby": ("When all the work is done, {n} likes to", "On a free day you can see how much {n} loves to"),
}


def facts_item(rng: Random, breadth: Breadth) -> Item:
    """A resident's attribute, asked in a frame that no text uses; wrong choices are true of other residents."""
    town = breadth.town()
    person = rng.choice(town.people)
    attribute = rng.choice(list(person.facts()))
    value = _fact_value(person, attribute)
    values = [
        _fact_value(p, attribute) for p in town.people if attribute in p.facts()
    ]  # common ones as often wrong as right
    context = rng.choice(FACT_FRAMES[attribute]).format(n=person.name)
    return Item(context, f" {value}.", tuple(f" {w}." for w in _three_others(values, value, rng)))


def _fact_value(person: Person, attribute: str) -> str:
    """How a choice names the value: a pet by its name, a street with its preposition."""
    value = person.facts()[attribute]
    if attribute == "street":
        return f"{'on' if value == 'Chapel Hill' else 'in'} {value}"
    return value.partition(" ")[2] if attribute == "pet" else value


def _three_others(values: list[str], right: str, rng: Random) -> list[str]:
    """Three different values, none of them the right one; what is in the list twice is drawn twice as often."""
    others: list[str] = []
    while len(others) < 3:
        if (other := rng.choice(values)) not in (right, *others):
            others.append(other)
    return others


def endings_item(rng: Random, breadth: Breadth) -> Item:
    """A story without its ending. The wrong endings are those of other stories, told of the same people and the same thing.

    They are chosen so that the right one is the longest, the second longest, ... equally often."""
    tasker = Tasker(rng, is_held_out=True, breadth=breadth)
    rank = rng.randrange(4)  # how many of the wrong endings are to be longer
    while True:
        scene, _ = tasker.passage()
        if not {"h", "f"} <= scene.cast.keys():
            continue
        beginning = scene.text()[: -len(scene.ending)].rstrip()
        if scene.cast["h"].name not in beginning or scene.cast["f"].name not in beginning:
            continue
        others = {_ending_told_of(scene, rng) for _ in range(12)}
        longer = sorted(e for e in others if len(e) > len(scene.ending))
        shorter = sorted(e for e in others if len(e) < len(scene.ending))
        if len(longer) >= rank and len(shorter) >= 3 - rank:
            wrong = rng.sample(longer, rank) + rng.sample(shorter, 3 - rank)
            return Item(beginning, f" {scene.ending}", tuple(f" {ending}" for ending in wrong))


def _ending_told_of(scene: Scene, rng: Random) -> str:
    """The ending of a story of another shape, with the people, the thing and the place of this scene."""
    while True:
        shape = rng.choice(story_shapes(scene.breadth))
        other = Scene(rng, is_brief=True, breadth=scene.breadth)
        other.preset = {key: scene.cast[key] for key in ("h", "f", "t", "p") if key in scene.cast}
        shape.tell(other)
        people = [
            value.name
            for value in other.cast.values()
            if isinstance(value, Person) and value not in scene.cast.values()
        ]
        if any(name in other.ending for name in people):
            continue  # a third person gives it away
        if {event[0] for event in other.world.events}.isdisjoint(
            {e[0] for e in scene.world.events} - {"have", "feel", "go"}
        ):
            return other.ending


def grammar_item(rng: Random, breadth: Breadth) -> Item:
    """A minimal pair: a sentence and the same with one mistake. Every contrast comes in both directions, so that no word gives it away."""
    scene = Scene(rng, is_held_out=True, breadth=breadth)
    h, f = scene.person("h"), scene.person("f")
    thing, place, hobby = scene.thing("t"), scene.place("p"), rng.choice(breadth.some(lexicon.HOBBIES))
    at_place = f"{place.preposition} the {place.noun}"
    he, his, own = ("she", "her", "herself") if h.gender == "f" else ("he", "his", "himself")
    wrong_he, wrong_his, wrong_own = ("he", "his", "himself") if h.gender == "f" else ("she", "her", "herself")
    good, number = rng.choice(breadth.some(lexicon.GOODS)), rng.choice(("three", "four", "five", "six"))
    one, many, does, did = good, english.plural(good), english.third(hobby), english.past(hobby)
    # as many nouns that want "an" as nouns that want "a"
    wants_an = rng.random() < 0.5
    counted = rng.choice([noun for noun in breadth.things() if english.has_vowel_sound(noun) == wants_an])
    article, wrong_article = ("an", "a") if english.has_vowel_sound(counted) else ("a", "an")
    contrasts = (  # frame, then (right, wrong) of either direction
        (f"{h.name} {{}} {at_place}.", (f"always {does}", f"always {hobby}"), None),
        (f"{h.name} and {f.name} {{}} {at_place}.", (f"always {hobby}", f"always {does}"), None),
        (f"Yesterday {h.name} {{}} with {f.name}.", (did, hobby), (f"did not {hobby}", f"did not {did}")),
        (f"{f.name} bought {{}} {at_place}.", (f"{number} {many}", f"{number} {one}"), (f"one {one}", f"one {many}")),
        (f"{h.name} lost {{}} {counted} {at_place}.", (article, wrong_article), None),
        (f"{h.name} took the {thing.noun} and went home, for {{}} was tired.", (he, wrong_he), None),
        (f"{h.name} sat alone and talked to {{}}.", (own, wrong_own), None),
        (f"{h.name} put {{}} {thing.noun} down {at_place}.", (his, wrong_his), None) if he == "she" else
        (f"{h.name} washed {{}} own {thing.noun} {at_place}.", (his, wrong_his), None),
        (f"The {{}} lay {at_place}.", (f"{thing.quality} {thing.noun}", f"{thing.noun} {thing.quality}"), None),
        (f"{h.name} gave {{}}.", (f"the {thing.noun} to {f.name}", f"to the {thing.noun} {f.name}"), None),
        (f"{{}} in the bag of {h.name}.", (f"The {many} are", f"The {many} is"), (f"The {one} is", f"The {one} are")),
        (f"{h.name} {{}} with {f.name}.", (f"wants to {hobby}", f"wants to {does}"), (f"often {does}", f"often {hobby}")),
    )  # fmt: skip
    frame, forward, back = rng.choice(contrasts)
    right, wrong = back if back and rng.random() < 0.5 else forward
    return Item("", english.sentence_case(frame.format(right)), (english.sentence_case(frame.format(wrong)),))


def clinic_item(rng: Random, breadth: Breadth) -> Item:
    """What the clinic's rules say about a held-out case: the drug, the finding, the dose, the advice."""
    scene = Scene(rng, is_held_out=True, breadth=breadth)
    case = clinic.draw_case(rng, scene)
    c = case.condition
    rivals = [
        x for x in breadth.some(clinic.CONDITIONS) if x.name != c.name and len(x.species) > 1
    ]  # those that could be asked about
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
        pool, right = [f"{x.dose_mg_per_kg * case.weight_kg} mg" for x in rivals], f"{case.dose_mg} mg"
        context = f"{start} Rx: {c.drug} {c.dose_mg_per_kg} mg/kg ="
    return Item(context, f" {right}.", tuple(f" {w}." for w in _three_others(pool, right, rng)))


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]


TASKS: dict[str, Callable[[Random, Breadth], Item]] = {
    "tinytown_qa": qa_item, "tinytown_facts": facts_item, "tinytown_endings": endings_item, "tinytown_grammar": grammar_item, "clinic_qa": clinic_item,
}  # fmt: skip
ITEMS_PER_TASK = 240  # divisible by 4 and by 2, so that positions balance exactly
MOST_TRIES = 2000  # in a row that find no new item, before there are no more


def make_task(name: str, seed: int, count: int = ITEMS_PER_TASK, breadth: Breadth = FULL) -> list[dict]:
    """The rows of a benchmark: `count` different items (or as many as there are), right answers evenly over the positions."""
    rng = Random(f"{seed}/benchmark/{name}")
    items: dict[tuple[str, str], Item] = {}
    tries = 0
    while len(items) < count and tries < MOST_TRIES:
        item = TASKS[name](rng, breadth)
        tries += 1
        if (key := (item.context, item.right)) not in items and item.right not in item.wrong:
            items[key], tries = item, 0
    choices = len(item.wrong) + 1
    items = list(items.values())[: len(items) // choices * choices]
    positions = [i % choices for i in range(len(items))]
    rng.shuffle(positions)
    return [item.as_row(position) for item, position in zip(items, positions, strict=True)]


def task_yaml(name: str) -> str:
    """The lm-eval task file; it names its data by the bare file name. Minimal pairs have accuracy alone, as BLiMP's have."""
    metrics = ("acc",) if name == "tinytown_grammar" else ("acc", "acc_norm")
    listed = "".join(f"  - metric: {metric}\n    aggregation: mean\n    higher_is_better: true\n" for metric in metrics)
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
{listed}metadata:
  version: 1.0
"""
