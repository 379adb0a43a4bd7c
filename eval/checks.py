"""What an evaluation says about the model's soundness, apart from any score: a list of {name, passed, detail}."""

from __future__ import annotations

from eval.results import Evaluation
from eval.statistics import ALPHA

LEAST_STOPPING = 0.5  # share of outputs that end themselves
MOST_EMPTY = 0.05  # share of outputs without a word
LEAST_UNIQUE = 0.1  # different outputs over outputs
MOST_ONE_CHOICE = 0.95  # share of items on which one position is picked, where the right ones are spread
LEAST_ITEMS = 20  # below this a share says nothing


def checks_of(evaluation: Evaluation) -> list[dict]:
    """Checks in a fixed order; a failed one names what the model is."""
    if evaluation.failure:
        return [_check("finite", False, evaluation.failure)]
    checks = [_check("finite", True, f"all scores of {len(evaluation.items)} items are finite")]
    for name, items in evaluation.items_of_set.items():
        kind, notes = items[0]["kind"], evaluation.notes.get(name, {})
        if kind == "generation":
            checks += _generation_checks(name, items, notes)
        elif kind == "likelihood":
            checks += _unknown_check(name, items)
        elif "picked_share" in notes and len(items) >= LEAST_ITEMS:
            checks.append(_choice_check(name, notes, len(items)))
            if "question_removed" in notes:
                checks.append(_question_check(name, notes["question_removed"], items))
    return checks


def _generation_checks(name: str, items: list[dict], notes: dict) -> list[dict]:
    n = len(items)
    stopping = sum(item["scores"]["stop_rate"] for item in items) / n
    empty = sum(item["scores"]["empty_rate"] for item in items) / n
    unique = len({item["output"] for item in items}) / n
    stop_words = "never stops" if stopping == 0 else f"{stopping:.0%} of outputs end themselves"
    empty_words = "says nothing" if empty == 1 else f"{empty:.0%} of outputs are without a word"
    checks = [
        _check(f"stops ({name})", stopping >= LEAST_STOPPING, f"{stop_words} (n = {n})"),
        _check(f"says something ({name})", empty <= MOST_EMPTY, f"{empty_words} (n = {n})"),
    ]
    if n >= LEAST_ITEMS:
        told = f"{len({item['output'] for item in items})} different outputs to {n} prompts"
        checks.append(_check(f"no collapse ({name})", unique >= LEAST_UNIQUE, told))
    if cut := notes.get("prompts_cut"):
        checks.append(_check(f"prompts fit ({name})", False, f"{cut} of {n} prompts lost their beginning"))
    if special := notes.get("special_tokens"):
        checks.append(_check(f"no stray control tokens ({name})", False, f"in {special} of {n} outputs"))
    return checks


def _unknown_check(name: str, items: list[dict]) -> list[dict]:
    lost = sum(item["scores"].get("unknown_characters", 0) for item in items)
    told = f"the tokenizer has no token for {lost} characters; their bits count, their bytes do not"
    return [_check(f"every character is known ({name})", False, told)] if lost else []


def _choice_check(name: str, notes: dict, n: int) -> dict:
    picked, right = notes["picked_share"], notes["right_share"]
    place = max(range(len(picked)), key=picked.__getitem__)
    is_stuck = picked[place] >= MOST_ONE_CHOICE and right[place] < MOST_ONE_CHOICE
    how = "always" if picked[place] == 1 else f"in {picked[place]:.0%} of items"
    told = f"{how} picks choice {place + 1}, which is right in {right[place]:.0%}" if is_stuck else "choices are spread"
    if notes["items_with_ties"]:
        told += f"; {notes['items_with_ties']} items with tied choices"
    ties_few = notes["items_with_ties"] < n / 2
    return _check(f"reads the choices ({name})", not is_stuck and ties_few, told)


def _question_check(name: str, alone: dict, items: list[dict]) -> dict:
    """Fails where the choices alone give the answer away: right more often than by chance, and no less often than with the question."""
    chance = sum(len(item["right"]) / len(item["choices"]) for item in items) / len(items)
    added, told = alone["added"], f"{alone['metric']} {alone['value']:.3f} with the question removed"
    is_given_away = alone["low"] > chance and not (added["mean"] > 0 and added["p"] < ALPHA)
    told += f", {chance:.3f} by chance; the question adds {added['mean']:+.3f} (p = {added['p']:.3f})"
    return _check(f"needs the question ({name})", not is_given_away, told)


def _check(name: str, passed: bool, detail: str) -> dict:
    return {"name": name, "passed": bool(passed), "detail": detail}
