"""What the models say: a few prompts, chosen by a rule, with the answers of the models that a reader compares beside each other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from eval.compare import Comparison, Model

GAINED = LOST = 2  # prompts whose answers gained most, and lost most
DRAWN = 4  # by lot
RULE = (
    "Chosen by rule, not by eye: {drawn} prompts drawn by lot (the smallest hashes), the {gained} on which the answers of {aligned} gained "
    "most against {baseline} by {judge}, and the {lost} on which they lost most; no two of one kind while there are others."
)


def told_models(comparison: Comparison) -> list[Model]:
    """The chain that a reader follows: the first ancestor of the baseline, the baseline, and the aligned models made from it."""
    by_name, baseline = comparison.by_name, comparison.by_name[comparison.baseline]
    root = baseline
    while root.parent:
        root = by_name[root.parent]
    names = comparison.aligned or [m.name for m in comparison.models]
    children = [by_name[name] for name in names if by_name[name].parent == baseline.name]
    return list({m.name: m for m in (root, baseline, *children)}.values())


def answers(comparison: Comparison, as_text: Callable[[Any], str]) -> dict[str, Any] | None:
    """{rule, judge, models, rows: {why, kind, prompt, answers: [{model, text, score}]}} over the set of the verdict's judge, or None
    where no judge scored, or where nothing was made from the baseline. as_text: a prompt, text or messages, as text."""
    key = comparison.primary_key
    models = [m for m in told_models(comparison) if key in comparison.judge_keys and comparison.cell(m.name, key)]
    if len(models) < 2 or models[-1].parent != comparison.baseline:
        return None
    set_name, judge = key.split("/", 1)
    items = {
        m.name: {i["item"]: i for i in m.evaluation.items_of_set[set_name] if judge in i["scores"]} for m in models
    }
    shared = set.intersection(*(set(found) for found in items.values()))
    aligned = [m.name for m in models if m.parent == comparison.baseline]
    sign = -1 if comparison.entries[key]["higher_is_better"] is False else 1

    def score(name: str, item: str) -> float:
        return items[name][item]["scores"][judge]

    def gain(item: str) -> float:
        return sign * sum(score(name, item) - score(comparison.baseline, item) for name in aligned) / len(aligned)

    by_lot = sorted(shared, key=lambda item: hashlib.sha256(item.encode()).hexdigest())
    kind_of = {item: items[comparison.baseline][item].get("label", "") for item in shared}
    chosen: dict[str, str] = {}
    for why, order, count in (
        ("gained most", sorted(filter(lambda item: gain(item) > 0, by_lot), key=gain, reverse=True), GAINED),
        ("lost most", sorted(filter(lambda item: gain(item) < 0, by_lot), key=gain), LOST),
        ("drawn by lot", by_lot, DRAWN),
    ):
        chosen |= dict.fromkeys(_of_different_kinds(order, kind_of, chosen, count), why)
    rows = [
        {
            "why": why,
            "kind": kind_of[item],
            "prompt": as_text(items[comparison.baseline][item]["prompt"]),
            "answers": [
                {"model": m.name, "text": items[m.name][item]["output"], "score": score(m.name, item)} for m in models
            ],
        }
        for item, why in chosen.items()
    ]
    rule = RULE.format(
        drawn=DRAWN, gained=GAINED, lost=LOST, aligned=" and ".join(aligned), baseline=comparison.baseline, judge=key
    )
    return {"rule": rule, "judge": key, "models": [m.name for m in models], "rows": rows}


def _of_different_kinds(order: Iterable[str], kind_of: dict[str, str], taken: Iterable[str], count: int) -> list[str]:
    """The first `count` of an order that are not taken, those of kinds that nobody took before the rest."""
    order = [item for item in order if item not in taken]
    kinds = {kind_of[item] for item in taken}
    first = []
    for item in order:
        if kind_of[item] not in kinds:
            kinds.add(kind_of[item])
            first.append(item)
    return [*first, *(item for item in order if item not in first)][:count]
