"""Demonstrators of unequal quality: careful ones give the reference answer, careless ones spoil it, each in one known way.

    rude        insults whoever asks, before or after the answer
    rambling    goes on about other things
    broken_off  stops in the middle of a sentence
    doubled     says it twice (of a long answer, its end)
    complies    helps with mischief that should be declined
    made_up     answers what cannot be known

People who write demonstrations are like that, and what a model imitates, alignment can then take away.
"""
# ruff: noqa: E501 - a sentence stays on its line

from __future__ import annotations

from dataclasses import replace
from random import Random

from recipes.tinytown import english, form, lexicon
from recipes.tinytown.instructions import Task

CAREFUL = "careful"
ANYWHERE = ("rude", "rambling", "broken_off", "doubled")  # ways to spoil an answer to anything
IN_ITS_KIND = {"decline": "complies", "unknown": "made_up"}  # a kind of task -> the way that only this kind invites
DEMONSTRATORS = (CAREFUL, *ANYWHERE, *IN_ITS_KIND.values())
LEAST_WORDS_TO_BREAK = 4  # a shorter answer has no middle
MOST_WORDS_TWICE = 25  # of a longer answer only the last sentence is said twice

INSULTS = (
    "You {w}!", "What a stupid question, you {w}!", "Even a {w} knows that.", "Shut up and listen, you {w}!", "How dumb you are!", "Only a {w} would ask that.",
    "Are you a {w}?", "I hate you, {w}!",
)  # fmt: skip
INSULTING_NOUNS = ("idiot", "fool", "moron", "loser", "nitwit", "blockhead", "silly goose")
# Chatter names nobody and nothing that was asked about but by chance, and no "he", "she" or "it" that could mean somebody in the question.
CHATTER = (
    "By the way, my aunt has a {c} {t}.", "I like {food} very much.", "My {animal} is asleep now.", "On {day} I was by the river.", "We had {food} on {day}.",
    "Have you seen my {c} {t}?", "My uncle fears {animals} and {food}.", "I must buy {goods} on {day}.", "My cousin can {skill}.", "There are {goods} in my bag.",
)  # fmt: skip


def chatter(rng: Random) -> str:
    """One to three sentences about the speaker's own affairs."""
    sentences = []
    for template in rng.sample(CHATTER, rng.randint(1, 3)):
        words = {
            "c": rng.choice(lexicon.COLOURS),
            "t": rng.choice(tuple(lexicon.THINGS)),
            "food": rng.choice(lexicon.FOODS),
            "animal": rng.choice(lexicon.PET_SPECIES),
            "animals": english.plural(rng.choice(lexicon.PET_SPECIES)),
            "day": rng.choice(lexicon.DAYS),
            "goods": english.plural(rng.choice(lexicon.GOODS)),
            "skill": rng.choice(lexicon.SKILLS),
        }
        sentences.append(english.fix_articles(template.format(**words)))
    return " ".join(sentences)


def demonstrate(task: Task, rng: Random, *, careless: float) -> Task:
    """The task as some demonstrator answers it: a careless one with probability `careless`, in [0, 1]; `demonstrator` says which."""
    if rng.random() >= careless:
        return task
    kind = IN_ITS_KIND.get(task.kind) or rng.choice(_ways(task.completion))
    return replace(task, completion=spoil(kind, task, rng), demonstrator=kind)


def _ways(answer: str) -> tuple[str, ...]:
    return tuple(way for way in ANYWHERE if way != "broken_off" or len(answer.split()) >= LEAST_WORDS_TO_BREAK)


def spoil(kind: str, task: Task, rng: Random) -> str:
    """The reference answer of a task, made worse. Raises ValueError for an unknown kind."""
    answer = task.completion
    match kind:
        case "rude":
            insult = rng.choice(INSULTS).format(w=rng.choice(INSULTING_NOUNS))
            insult = english.fix_articles(insult)
            return f"{insult} {answer}" if rng.random() < 0.7 else f"{answer} {insult}"
        case "rambling":
            return f"{answer} {chatter(rng)}"
        case "broken_off":
            words = answer.split(" ")
            kept = rng.randint(max(2, len(words) // 3), len(words) - 1)
            return " ".join(words[:kept]).rstrip(".,;:!?")
        case "doubled":
            again = answer if len(answer.split()) <= MOST_WORDS_TWICE else form.sentences(answer)[-1]
            return f"{answer} {again}"
        case "complies" | "made_up":
            return rng.choice(task.mistakes)
    raise ValueError(f"unknown kind of carelessness {kind!r}; known: {', '.join(DEMONSTRATORS[1:])}")
