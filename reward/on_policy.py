"""Preference pairs from a policy's own answers: sample k to a prompt, pair them, have each pair judged.

A comparer is what judges: a function from questions to verdicts. `by_score` makes one of any judge of the suite's form,
judge(prompts, completions, **columns) -> list[float]; people and simulated annotators are others (recipes/preferences.py).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reward.preferences import KEPT_COLUMNS, Preference, Prompt, prompt_key


@dataclass(frozen=True)
class Question:
    """Which of two answers is better? `columns` are the prompt's other fields (kind, record)."""

    prompt: Prompt
    a: str
    b: str
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """winner: 0 for a, 1 for b, None for a tie. margin: by how much, in the judge's unit. probability: of the winner, where known."""

    winner: int | None
    margin: float | None = None
    probability: float | None = None


Comparer = Callable[[Sequence[Question]], list[Verdict]]


def sample_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    count: int,
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
) -> list[list[dict[str, Any]]]:
    """`count` sampled answers to each prompt, as {"text", "stopped"} (stopped: it ended itself). Same seed, same answers."""
    from eval.generation import Decoding, respond

    repeated = [prompt for prompt in prompts for _ in range(count)]
    outputs, _ = respond(model, tokenizer, repeated, Decoding(max_new_tokens, temperature, top_p, seed))
    made = [{"text": output.text, "stopped": output.has_stopped} for output in outputs]
    return [made[i : i + count] for i in range(0, len(made), count)]


def ask_about(row: Mapping[str, Any], answers: Sequence[str], pairs: int, seed: int) -> list[Question]:
    """At most `pairs` questions on two different, non-empty answers to a prompt; which, and on which side, is drawn by (seed, prompt)."""
    draw = random.Random(f"{seed}\n{prompt_key(row['prompt'])}")
    distinct = [answer for answer in dict.fromkeys(answers) if answer]
    possible = list(itertools.combinations(distinct, 2))
    columns = {name: row[name] for name in KEPT_COLUMNS if name in row}
    questions = []
    for a, b in draw.sample(possible, min(pairs, len(possible))):
        if draw.random() < 0.5:
            a, b = b, a
        questions.append(Question(row["prompt"], a, b, columns))
    return questions


def ask_about_fit(pairs: Sequence[Preference], per_prompt: int, seed: int) -> list[Question]:
    """At most `per_prompt` questions a prompt: an answer that was chosen there beside one that was chosen for another prompt.

    From answers to the prompt itself a reward model learns what is liked, and pays for it anywhere (a polite refusal in answer to
    a sum); from these, that an answer has to fit. Source: Liu et al. 2024, arXiv:2409.13156, whose answers from elsewhere lose
    unasked; here they are judged as all are, since now and then one fits."""
    chosen: dict[str, dict[str, Preference]] = {}  # prompt -> answer -> a pair that it won
    for pair in pairs:
        chosen.setdefault(prompt_key(pair["prompt"]), {})[pair["chosen"]] = pair
    questions = []
    for key, own in chosen.items():
        draw = random.Random(f"{seed}\nfit\n{key}")
        for a in draw.sample(list(own), min(per_prompt, len(own))):
            pair, stranger = own[a], draw.choice(pairs)
            if prompt_key(stranger["prompt"]) == key or stranger["chosen"] in own:
                continue
            columns = {name: pair[name] for name in KEPT_COLUMNS if name in pair}
            sides = (a, stranger["chosen"])
            questions.append(Question(pair["prompt"], *(sides if draw.random() < 0.5 else sides[::-1]), columns))
    return questions


def by_score(judge: Callable[..., list[float]]) -> Comparer:
    """The answer with the higher score wins, by the difference as margin; equal scores are a tie. Each answer is scored once."""

    def compare(questions: Sequence[Question]) -> list[Verdict]:
        asked: dict[tuple[str, str], tuple[Question, str]] = {}
        for question in questions:
            for answer in (question.a, question.b):
                asked.setdefault((prompt_key(question.prompt), answer), (question, answer))
        names = {name for question in questions for name in question.columns}
        columns = {name: [question.columns.get(name) for question, _ in asked.values()] for name in names}
        values = judge(
            [question.prompt for question, _ in asked.values()], [answer for _, answer in asked.values()], **columns
        )
        score = dict(zip(asked, values, strict=True))
        verdicts = []
        for question in questions:
            key = prompt_key(question.prompt)
            margin = score[key, question.a] - score[key, question.b]
            verdicts.append(Verdict(None if margin == 0 else int(margin < 0), abs(margin)))
        return verdicts

    return compare


def to_preference(question: Question, verdict: Verdict) -> Preference | None:
    """The pair that a verdict makes of a question; None for a tie."""
    if verdict.winner is None:
        return None
    chosen, rejected = (question.a, question.b) if verdict.winner == 0 else (question.b, question.a)
    pair = {"prompt": question.prompt, "chosen": chosen, "rejected": rejected, **question.columns}
    return pair if verdict.margin is None else {**pair, "margin": verdict.margin}


def judge_policy(
    reward: Any,
    gold: Callable[..., list[float]],
    rows: Sequence[Mapping[str, Any]],
    answers: Sequence[Sequence[str]],
) -> dict[str, Any]:
    """`reward.quality.on_policy_report` of a RewardModel against the judge `gold` on a policy's answers to the rows' prompts.

    Each prompt has the same number of answers; the rows' other fields are the columns that gold sees."""
    from reward.quality import on_policy_report

    width = len(answers[0])
    flat = [(row, answer) for row, of_prompt in zip(rows, answers, strict=True) for answer in of_prompt]
    names = {name for row in rows for name in row} - {"prompt"}
    columns = {name: [row.get(name) for row, _ in flat] for name in names}

    def by_prompt(judge: Callable[..., list[float]]) -> list[list[float]]:
        scores = judge([row["prompt"] for row, _ in flat], [answer for _, answer in flat], **columns)
        return [scores[i : i + width] for i in range(0, len(scores), width)]

    return on_policy_report(by_prompt(reward.score), by_prompt(gold), answers, raw_std=reward.std)
