"""Any number of models on the same items, from their files alone: paired changes, win rates, a verdict.

    comparison = compare(["runs/tiny/base", "runs/tiny/lora_sft", "runs/tiny/dpo"])

A difference is a claim only when its p-value survives Holm's correction over its table; otherwise it reads "no detectable
difference" with the smallest one that this many items would have shown, at the level that Holm's correction left. What is not a
finite number has no verdict, and the reason beside it. Intervals are over items: with one training seed they
say nothing about what another seed would give, and the tables say so.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from eval import preference, statistics, words
from eval.results import Evaluation, as_metric, difference, estimate, finite, scored

MOST_TOLD = 3  # changes told one by one in the verdict
LEAST_OF_A_KIND = 10  # items of a kind of prompt that is looked at by itself


@dataclass(frozen=True)
class Change:
    """One model against another on one metric."""

    model: str
    other: str
    key: str  # "set/metric"
    mean: float  # model minus other
    low: float
    high: float
    p: float
    p_holm: float  # corrected over the table that it stands in
    n: int
    wins: int  # items on which `model` is better
    losses: int
    ties: int
    smallest_detectable: float  # with 80 % power after Holm's correction; NaN where nothing is
    test: str
    verdict: str  # "better" | "worse" | "more" | "less" | "same" | "undefined"
    warning: str = ""  # why there is no verdict, or why it can't be trusted
    kind: str = ""  # of prompt, where it is over the items of one alone

    @property
    def is_detected(self) -> bool:
        return self.verdict not in ("same", "undefined")


@dataclass(frozen=True)
class WinRate:
    """How often `model`'s answer is preferred to `other`'s by a judge; a tie counts a half."""

    model: str
    other: str
    key: str
    rate: float
    low: float
    high: float
    controlled: float  # the same at equal length
    controlled_low: float
    controlled_high: float
    wins: int
    losses: int
    ties: int
    p: float
    p_holm: float


@dataclass
class Model:
    """One folder: its evaluation (None for a stage that is no causal model) and its record (empty for a foreign checkpoint)."""

    name: str
    folder: Path
    evaluation: Evaluation | None
    manifest: dict[str, Any]
    parent: str | None = None  # the first parent among the compared models

    @property
    def stage(self) -> str:
        return self.manifest.get("stage", "external")


@dataclass
class Comparison:
    """What `compare` found. `models` are the evaluated ones; `records` all folders, in the order given."""

    models: list[Model]
    records: list[Model]
    baseline: str
    keys: list[str]  # every metric, in the suite's order
    aligned: list[str] = field(
        default_factory=list
    )  # models of the pairwise matrix; all that judges scored, where empty
    problems: list[str] = field(default_factory=list)  # what could not be compared, and why

    @cached_property
    def by_name(self) -> dict[str, Model]:
        return {model.name: model for model in self.models}

    def cell(self, name: str, key: str) -> dict[str, Any] | None:
        """A model's entry of a metric, None where it has none."""
        try:
            return self.by_name[name].evaluation.metric(key)
        except KeyError:
            return None

    @cached_property
    def entries(self) -> dict[str, dict[str, Any]]:
        """{metric key: the first model's entry}: its unit, direction, chance."""
        return {key: next(c for m in self.models if (c := self.cell(m.name, key))) for key in self.keys}

    @cached_property
    def headline_keys(self) -> list[str]:
        return [key for key, entry in self.entries.items() if entry["is_headline"]]

    def unpaired_detectable(self, key: str) -> float | None:
        """The smallest difference that any two of the models would show if their items were not paired, from the two widest intervals
        (one, counted twice, where there is one model); at the level of the headline changes. None where none has an interval."""
        cells = [cell for m in self.models if (cell := self.cell(m.name, key)) and cell["low"] is not None]
        if not cells:
            return None
        errors = sorted(
            (cell["high"] - cell["low"]) / 2 / statistics.student_t_quantile(0.975, math.inf) for cell in cells
        )
        changes = self.to_parent or self.to_baseline
        level = statistics.level_of_the_rest([c.p_holm for c in changes.values() if c.key in self.headline_keys])
        return statistics.smallest_detectable(math.hypot(errors[-1], errors[-2:][0]), alpha=level)

    @cached_property
    def judge_keys(self) -> list[str]:
        """Metrics that judges gave, the optimised ones among them."""
        return [key for key, entry in self.entries.items() if entry["signature"].startswith("judge")]

    @cached_property
    def to_parent(self) -> dict[tuple[str, str], Change]:
        """{(model, metric): change to its parent}, Holm-corrected over the headline metrics, and over the others apart."""
        return self._changes([(m.name, m.parent) for m in self.models if m.parent])

    @cached_property
    def to_baseline(self) -> dict[tuple[str, str], Change]:
        return self._changes([(m.name, self.baseline) for m in self.models if m.name != self.baseline])

    def _changes(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Change]:
        headline = set(self.headline_keys)
        families = [self.headline_keys, [key for key in self.keys if key not in headline]]
        return {(change.model, change.key): change for keys in families for change in self.changes(pairs, keys)}

    def changes(
        self, pairs: Sequence[tuple[str, str]], keys: Sequence[str], kinds: Sequence[str] = ("",)
    ) -> list[Change]:
        """Paired changes of each pair on each metric both have, over all items or those of each kind, corrected together."""
        found = [
            (a, b, key, kind, made)
            for a, b in pairs
            for key in keys
            for kind in kinds
            if (made := self._difference(a, b, key, kind)) is not None
        ]
        adjusted = statistics.holm([made.p for *_, made in found])
        level = statistics.level_of_the_rest(adjusted)
        return [
            _change(a, b, key, kind, made, p_holm, level, self.entries[key]["higher_is_better"])
            for (a, b, key, kind, made), p_holm in zip(found, adjusted, strict=True)
        ]

    def _difference(self, a: str, b: str, key: str, kind: str) -> statistics.Difference | None:
        entry_a, entry_b = self.cell(a, key), self.cell(b, key)
        if entry_a is None or entry_b is None or entry_a["aggregate"] == "given":
            return None
        items_a, items_b = self._items(a, key, kind), self._items(b, key, kind)
        if kind and not (items_a and items_b):
            return None
        try:
            return difference(as_metric(entry_a), items_a, items_b)
        except ValueError as error:
            problem = f"{a} and {b}: {error}"
            if problem not in self.problems:
                self.problems.append(problem)
            return None

    def _items(self, name: str, key: str, kind: str = "") -> list[dict[str, Any]]:
        """A model's items that a metric was measured on: all, or those whose prompts are of a kind."""
        items = scored(
            as_metric(self.entries[key]), self.by_name[name].evaluation.items_of_set[self.entries[key]["set"]]
        )
        return [item for item in items if item.get("label") == kind] if kind else items

    @cached_property
    def by_kind(self) -> list[dict[str, Any]]:
        """Each judge's scores by kind of prompt, as a mean over all may rise where one kind falls (a model that learns to decline
        declines stories, too): {key, models, kinds: {kind: n}, cells: {kind: {model: value, low, high, n}}, changes: to the parents,
        corrected over the table}. Left out: judges that a
        stage optimised or that tell of a fault, kinds of fewer than LEAST_OF_A_KIND items, a lone kind."""
        tables = []
        for key in self.judge_keys:
            names = [m.name for m in self.models if self.cell(m.name, key)]
            counts = Counter(item.get("label") for item in self._items(names[0], key))
            kinds = {kind: n for kind, n in sorted(counts.items(), key=str) if kind and n >= LEAST_OF_A_KIND}
            if len(kinds) < 2 or self.is_optimised(key) or self.entries[key]["higher_is_better"] is False:
                continue
            pairs = [(m.name, m.parent) for m in self.models if m.parent]
            cells = {
                kind: {
                    name: as_json(estimate(as_metric(self.cell(name, key)), items))
                    for name in names
                    if (items := self._items(name, key, kind))  # none where it was measured on other prompts
                }
                for kind in kinds
            }
            changes = self.changes(pairs, [key], [*kinds])
            tables.append({"key": key, "models": names, "kinds": kinds, "cells": cells, "changes": changes})
        return tables

    def win_rates(self, key: str, names: Sequence[str] | None = None) -> dict[tuple[str, str], WinRate]:
        """{(model, other): win rate} for both orders of every pair that has the judge's scores; p Holm-corrected over pairs."""
        names = [n for n in (names or self.aligned or list(self.by_name)) if self.cell(n, key)]
        set_name, score = key.split("/", 1)
        scores = {name: self._judged(name, set_name, score) for name in names}
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if scores[a].keys() == scores[b].keys()]
        made = {(a, b): _win_rate(a, b, key, scores[a], scores[b]) for a, b in pairs}
        adjusted = statistics.holm([rate.p for rate in made.values()])
        rates = {
            pair: dataclasses.replace(rate, p_holm=p) for (pair, rate), p in zip(made.items(), adjusted, strict=True)
        }
        return rates | {(b, a): _turned(rate) for (a, b), rate in rates.items()}

    def _judged(self, name: str, set_name: str, score: str) -> dict[str, tuple[float, float]]:
        items = self.by_name[name].evaluation.items_of_set[set_name]
        judged = [item for item in items if score in item["scores"]]
        return {item["item"]: (item["scores"][score], item["scores"]["response_tokens"]) for item in judged}

    @cached_property
    def checks(self) -> list[dict[str, Any]]:
        """All checks: the records', the evaluations', and of the comparison itself. {model, name, passed, detail}."""
        found = []
        for record in self.records:
            found += [{"model": record.name, **check} for check in record.manifest.get("checks", [])]
            if record.evaluation:
                found += [{"model": record.name, **check} for check in record.evaluation.checks]
        _ = self.to_parent, self.to_baseline  # these notice items that differ
        suites = {m.evaluation.suite["sha256"] for m in self.models}
        templates = {m.manifest.get("template_sha256") for m in self.models} - {None}
        tokenizers = {m.manifest.get("tokenizer_sha256") for m in self.models} - {None}
        found.append(
            _check("same suite", len(suites) <= 1, f"{len(suites)} suite hash among {len(self.models)} models")
        )
        told = "; ".join(self.problems) or "every paired difference is over the same item hashes"
        found.append(_check("same items", not self.problems, told))
        found.append(
            _check("one chat template", len(templates) <= 1, f"{len(templates)} distinct among those that have one")
        )
        found.append(_check("one tokenizer", len(tokenizers) <= 1, f"{len(tokenizers)} distinct"))
        return found

    @cached_property
    def seed_groups(self) -> list[dict[str, Any]]:
        """Models that differ in their seed alone, with mean, spread and Student interval over seeds for each metric."""
        groups: dict[str, list[Model]] = {}
        for model in self.models:
            if model.manifest:
                same = {k: v for k, v in model.manifest.get("config", {}).items() if k not in ("seed", "run_name")}
                groups.setdefault(json.dumps([model.stage, _without_paths(same)], sort_keys=True), []).append(model)
        found = []
        for members in groups.values():
            if len({m.manifest.get("seed") for m in members}) > 1:
                found.append({"models": [m.name for m in members], "metrics": self._over_seeds(members)})
        return found

    def _over_seeds(self, members: list[Model]) -> dict[str, dict[str, float]]:
        found = {}
        for key in self.keys:
            cells = [self.cell(m.name, key) for m in members]
            if all(cell and cell["value"] is not None for cell in cells):
                values = np.array([cell["value"] for cell in cells], float)
                sd = float(values.std(ddof=1))
                half = statistics.student_t_quantile(0.975, len(values) - 1) * sd / math.sqrt(len(values))
                mean = float(values.mean())
                found[key] = {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half, "seeds": len(values)}
        return found

    @cached_property
    def primary_key(self) -> str | None:
        """The metric of the verdict: the first judge that no stage optimised, else the first headline metric."""
        free = [key for key in self.judge_keys if not self.is_optimised(key)]
        return next(iter([*free, *self.headline_keys]), None)

    def is_optimised(self, key: str) -> bool:
        """Whether a stage among the models maximised this very number in training."""
        return any((cell := self.cell(m.name, key)) and cell["is_optimised"] for m in self.models)

    @cached_property
    def verdict(self) -> str:
        """One sentence: what each last stage did to the primary metric, and how many checks failed."""
        failed = sum(not check["passed"] for check in self.checks)
        tail = f"{failed} of {len(self.checks)} checks failed." if failed else f"All {len(self.checks)} checks passed."
        if self.primary_key is None:
            return f"Nothing was measured. {tail}"
        parents = {m.parent for m in self.models}
        leaves = [m for m in self.models if m.name not in parents and m.name != self.baseline]
        pairs = [(m.name, m.parent or self.baseline) for m in leaves]
        changes = self.changes(pairs, [self.primary_key])
        if not changes:
            return f"One model, nothing to compare it with. {tail}"
        set_name, metric = self.primary_key.split("/", 1)
        said = "; ".join(tell(change) for change in changes)
        if len(changes) > MOST_TOLD:
            counts = [f"{sum(c.verdict == v for c in changes)} {words.reading(v)}" for v in ("better", "worse", "same")]
            largest = max(changes, key=lambda change: -1 if change.verdict == "undefined" else abs(change.mean))
            said = f"of {len(changes)} models against what they came from {', '.join(counts)}; the largest change: {tell(largest)}"
        return f"On {metric} ({set_name}, n = {changes[0].n}), {said}. {tail}"


def compare(
    folders: Sequence[Path | str],
    *,
    baseline: Path | str | None = None,
    aligned: Sequence[Path | str] = (),
    names: Sequence[str] | None = None,
) -> Comparison:
    """Read every folder's eval.json and manifest.json. baseline: one of the folders or names; the first evaluated one by default.
    aligned: those of the folders that the pairwise matrix compares, together with the baseline.

    Raises FileNotFoundError for a folder with neither file, ValueError for an unknown baseline and when nothing was evaluated.
    """
    folders = [Path(folder) for folder in folders]
    labels = list(names) if names else short_names(folders)
    records = [_read(label, folder) for label, folder in zip(labels, folders, strict=True)]
    models = [record for record in records if record.evaluation is not None]
    if not models:
        raise ValueError(
            f"none of {', '.join(map(str, folders))} was evaluated; run python -m recipes.evaluation on them"
        )
    for model in models:
        model.parent = _parent(model, models)
    chosen = models[0].name
    if baseline is not None:
        match = [m.name for m in models if str(baseline) == m.name or Path(baseline) == m.folder]
        if not match:
            raise ValueError(
                f"the baseline {baseline} is none of the evaluated models: {', '.join(m.name for m in models)}"
            )
        chosen = match[0]
    keys: dict[str, None] = {}
    for model in models:
        keys.update(dict.fromkeys(f"{m['set']}/{m['name']}" for m in model.evaluation.metrics))
    problems = [f"{m.name}: {m.evaluation.failure}" for m in models if m.evaluation.failure]
    chosen_folders = {Path(folder) for folder in aligned}
    matrix = [m.name for m in models if m.folder in chosen_folders or (m.name == chosen and chosen_folders)]
    return Comparison(models, records, chosen, list(keys), matrix, problems)


def tell(change: Change) -> str:
    """A change in words, with what it rests on."""
    if change.verdict == "undefined":
        return f"{change.model} can't be compared with {change.other} ({change.warning})"
    spread = f"{words.signed(change.mean)} [{words.signed(change.low)}, {words.signed(change.high)}]"
    p = f"p {words.p_value(change.p_holm) if change.p_holm < 0.001 else '= ' + words.p_value(change.p_holm)}"
    warned = f"; {change.warning}" if change.warning else ""
    if change.verdict == "same":
        detectable = f"smallest detectable: {words.number(change.smallest_detectable)}"
        return (
            f"{change.model} shows no detectable difference from {change.other} ({spread}, {p}; {detectable}{warned})"
        )
    return f"{change.model} is {words.reading(change.verdict)} than {change.other} ({spread}, {p}{warned})"


def short_names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, with as many parts before it as make all different."""
    for depth in range(1, 8):
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"a folder was given twice: {', '.join(map(str, folders))}")


def _read(name: str, folder: Path) -> Model:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if (folder / "eval.json").is_file():
        return Model(name, folder, Evaluation.load(folder), manifest)
    if not manifest:
        raise FileNotFoundError(
            f"{folder} has neither eval.json nor manifest.json: it is no finished run; evaluate it first"
        )
    return Model(name, folder, None, manifest)


def _parent(model: Model, models: Sequence[Model]) -> str | None:
    for parent in model.manifest.get("parents", []):
        for other in models:
            is_same_path = Path(parent["path"]).resolve() == other.folder.resolve()
            is_same_weights = other.evaluation.weights_sha256 == parent["sha256"]
            if other is not model and (is_same_weights or is_same_path):
                return other.name
    return None


def _change(
    a: str,
    b: str,
    key: str,
    kind: str,
    made: statistics.Difference,
    p_holm: float,
    level: float,
    higher_is_better: bool | None,
) -> Change:
    verdict = "undefined" if math.isnan(made.p) else "same"
    if p_holm < statistics.ALPHA:
        readings = ("more", "less") if higher_is_better is None else ("better", "worse")
        verdict = readings[(made.mean > 0) == (higher_is_better is False)]
    wins, losses = (made.losses, made.wins) if higher_is_better is False else (made.wins, made.losses)
    return Change(
        a, b, key, made.mean, made.low, made.high, made.p, p_holm, made.n, wins, losses, made.ties,
        made.detectable_at(level), made.test, verdict, made.warning, kind,
    )  # fmt: skip


def _win_rate(a: str, b: str, key: str, ours: dict, theirs: dict) -> WinRate:
    pairs_N4 = np.array([[*ours[item], *theirs[item]] for item in ours])
    is_win_N = np.where(pairs_N4[:, 0] > pairs_N4[:, 2], 1.0, np.where(pairs_N4[:, 0] == pairs_N4[:, 2], 0.5, 0.0))
    raw = statistics.mean_interval(is_win_N)
    even = preference.length_controlled_win_rate(is_win_N, pairs_N4[:, 1] - pairs_N4[:, 3])
    wins, losses, ties = statistics.win_loss_tie(pairs_N4[:, 0], pairs_N4[:, 2])
    p = statistics.mcnemar_exact(wins, losses)
    return WinRate(
        a, b, key, raw.value, raw.low, raw.high, even.value, even.low, even.high, wins, losses, ties, p, p
    )  # fmt: skip


def _turned(rate: WinRate) -> WinRate:
    return dataclasses.replace(
        rate,
        model=rate.other,
        other=rate.model,
        rate=1 - rate.rate,
        low=1 - rate.high,
        high=1 - rate.low,
        controlled=1 - rate.controlled,
        controlled_low=1 - rate.controlled_high,
        controlled_high=1 - rate.controlled_low,
        wins=rate.losses,
        losses=rate.wins,
    )


def _without_paths(config: dict[str, Any]) -> dict[str, Any]:
    """Settings without those that name a place, which differ between seeds of one recipe."""
    return {k: v for k, v in config.items() if not (isinstance(v, str) and "/" in v)}


def _check(name: str, passed: bool, detail: str) -> dict[str, Any]:
    return {"model": "comparison", "name": name, "passed": bool(passed), "detail": detail}


def as_json(value: Any) -> Any:
    """Dataclasses as JSON values, NaN as null."""
    return finite(dataclasses.asdict(value))
