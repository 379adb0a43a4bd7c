"""What alignment changed, in words: for each aligned model the share of answers that show each behaviour, before and after, and the
kinds of prompt on which the verdict's judge sees it better or worse. From the comparison's own numbers; nothing is measured here."""

from __future__ import annotations

from eval.answers import told_models
from eval.compare import Change, Comparison


def behaviour_keys(comparison: Comparison) -> list[str]:
    """Metrics that say how often an answer does what it should not: judges for which lower is better, of the verdict's set."""
    if comparison.primary_key is None:
        return []
    of_set = comparison.primary_key.split("/", 1)[0] + "/"
    return [
        key
        for key in comparison.judge_keys
        if key.startswith(of_set) and comparison.entries[key]["higher_is_better"] is False
    ]


def in_words(comparison: Comparison) -> list[str]:
    """One sentence for each model that was made from the baseline; none where there is nothing to tell."""
    models = [m.name for m in told_models(comparison) if m.parent == comparison.baseline]
    pairs = [(name, comparison.baseline) for name in models]
    keys = behaviour_keys(comparison)
    shares = comparison.changes(pairs, keys) if keys else []
    kinds = [
        change
        for table in comparison.by_kind
        if table["key"] == comparison.primary_key
        for change in table["changes"]
        if (change.model, change.other) in pairs
    ]
    return [said for name in models if (said := _of_model(comparison, name, shares, kinds))]


def _of_model(comparison: Comparison, name: str, shares: list[Change], kinds: list[Change]) -> str:
    own = [change for change in shares if change.model == name]
    worlds = {_name(change.key).partition("_")[0] for change in own}
    prefix = f"{worlds.pop()}_" if len(worlds) == 1 else ""  # what all their names begin with says nothing
    parts = []
    for verdict, lead in (("better", "less often"), ("worse", "more often"), ("same", "no detectable difference:")):
        told = [_share(comparison, change, prefix) for change in own if change.verdict == verdict]
        if told:
            parts.append(f"{lead} {', '.join(told)}")
    for verdict in ("better", "worse"):
        seen = [change.kind for change in kinds if change.model == name and change.verdict == verdict]
        if seen:
            parts.append(f"{verdict} at {', '.join(seen)}")
        elif verdict == "worse" and any(change.model == name for change in kinds):
            parts.append("no kind of prompt is worse")
    return f"{name} against {comparison.baseline}: {'; '.join(parts)}." if parts else ""


def _share(comparison: Comparison, change: Change, prefix: str) -> str:
    before, after = (comparison.cell(name, change.key)["value"] for name in (change.other, change.model))
    shown = _name(change.key).removeprefix(prefix).replace("_", " ")
    return f"{shown} {100 * before:.1f} → {100 * after:.1f} %"


def _name(key: str) -> str:
    return key.split("/", 1)[1]
