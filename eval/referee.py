"""Is one model better than another, on the same items? One answer, with what it rests on.

The difference d = mean(candidate) - mean(baseline) has up to three sources of noise, each estimated apart:

    items      another draw of items (or of their clusters) would give another d: the clustered variance of item differences
    seeds      another training seed would: variance of a model's seed means, less what items and sampling make of it
    sampling   the same model asked again would: variance of samples within an item; a part of the variance over items, not added to it

Items and seeds are crossed, every seed answers every item, so  Var(d) = V_items + sum over models of max(0, V_seed - V_seed x item), the
usual estimate of a two-way random-effects mean, with Satterthwaite's degrees of freedom. With one seed each the test is
`statistics.paired_difference`'s, and nothing is said about another training. Sources: Miller 2024, arXiv:2411.00640 (clusters, resampling,
power); Clark 1973 and Baayen et al. 2008 (items and subjects both random); Satterthwaite 1946.

Shapes: S seeds of a model, N paired items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from eval import statistics, words
from eval.item_scores import Model, Row, of_metric

MOST_TIMES = 10_000  # more items than this many times those there are is told as "no number"


@dataclass(frozen=True)
class Paired:
    """Two models on the same items, their samples averaged: score sums (S, N) and weights (N,)."""

    items: list[str]
    clusters: list[str] | None
    candidate_SN: np.ndarray
    baseline_SN: np.ndarray
    weights_N: np.ndarray
    sampling: float | None  # variance of d that samples within items make; None where each was asked once
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """What was found. Differences are candidate minus baseline, turned so that more is better."""

    candidate: str
    baseline: str
    metric: str
    verdict: str  # "better" | "within margin" | "worse" | "cannot tell"
    difference: float
    low: float  # of the interval at `level`
    high: float
    p: float
    level: float  # that p is held against
    margin: float | None
    n: int
    clusters: int | None
    seeds: tuple[int, int]  # of candidate and baseline
    scores: tuple[float, float]
    variance: dict[str, float | None]  # of the difference: items, seeds, sampling (None: not measured), total
    more_items: (
        int | None
    )  # about as many more for an answer, if the difference is what it seems; None: no number is enough
    more_seeds: int | None  # of each model
    warning: str
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 better or within the margin, 3 worse, 4 cannot tell."""
        return {"better": 0, "within margin": 0, "worse": 3}.get(self.verdict, 4)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"exit_code": self.exit_code, "sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        spread = (
            f"{words.signed(self.difference)} [{words.signed(self.low)}, {words.signed(self.high)}], "
            f"p {_p(self.p)} against a level of {_level(self.level)}"
        )
        what = f"{self.n} items" + (f" in {self.clusters} clusters" if self.clusters else "")
        what += f", {_seeds(self.seeds)}" + (f"; {self.warning}" if self.warning else "")
        name, other = self.candidate, self.baseline
        said = {
            "better": f"{name} is better than {other}",
            "worse": f"{name} is worse than {other}",
            "within margin": f"{name} is not worse than {other} by more than {words.number(self.margin)}"
            if self.margin is not None
            else "",
            "cannot tell": f"Cannot tell whether {name} is better or worse than {other}",
        }[self.verdict]
        tail = f" {self._what_would_tell()}" if self.verdict == "cannot tell" else ""
        return f"{said} on {self.metric} ({spread}; {what}).{tail}"

    def _what_would_tell(self) -> str:
        ways = []
        if self.more_items is not None:
            ways.append(f"about {words.count(self.more_items)} more items")
        if self.more_seeds is not None:
            ways.append(f"{self.more_seeds} more seeds of each model")
        if ways:
            return f"If the difference is what it seems, {' or '.join(ways)} would tell."
        return "No number of items would tell: the models are too close, or their seeds too far apart."


def pair(candidate: Model, baseline: Model, metric: str) -> Paired:
    """The items that both models have, in the baseline's order. Raises ValueError where they have none in common, or seeds lack items."""
    rows = [of_metric(model, metric) for model in (candidate, baseline)]
    found = [_by_item(model_rows) for model_rows in rows]
    items = [item for item in found[1] if item in found[0]]
    if not items:
        raise ValueError(f"{candidate.name} and {baseline.name} have no item of {metric} in common")
    notes = [
        f"{missing} items of {model.name} are not among {other.name}'s and were left out"
        for model, own, other in ((candidate, found[0], baseline), (baseline, found[1], candidate))
        if (missing := len(own) - len(items))
    ]
    matrices, sampling, weights = [], [], []
    for model, by_item in zip((candidate, baseline), found, strict=True):
        scores_SN, weights_SN, within = _matrix(model, by_item, items)
        matrices.append(scores_SN)
        weights.append(weights_SN[0])
        sampling.append(within)
        if not np.allclose(weights_SN, weights_SN[0]):
            raise ValueError(f"{model.name}: an item's weight is not the same under every seed")
    if not np.allclose(*weights):
        raise ValueError(f"{candidate.name} and {baseline.name} weigh the same items differently (their texts differ)")
    clusters = [next((row.cluster for row in found[1][item] + found[0][item] if row.cluster), item) for item in items]
    has_clusters = len(set(clusters)) < len(items)
    measured = [part for part in sampling if part is not None]
    return Paired(
        items, clusters if has_clusters else None, *matrices, weights[0], sum(measured) if measured else None, notes
    )


def judge(
    paired: Paired,
    candidate: str,
    baseline: str,
    metric: str,
    *,
    level: float = statistics.ALPHA,
    margin: float | None = None,
    lower_is_better: bool = False,
) -> Verdict:
    """The verdict at a two-sided `level`. margin: how much worse, in units of the metric, still counts as no worse."""
    if margin is not None and not margin > 0:
        raise ValueError(f"a margin is a positive number in units of the metric, got {margin}")
    sign = -1.0 if lower_is_better else 1.0
    total = paired.weights_N.sum()
    permutations = max(statistics.PERMUTATIONS, math.ceil(20 / level))  # so that a p below the level can be seen
    means_N = [sign * scores_SN.mean(axis=0) for scores_SN in (paired.candidate_SN, paired.baseline_SN)]
    is_weighted = not np.all(paired.weights_N == 1)
    found = statistics.paired_difference(
        *means_N,
        weights=paired.weights_N if is_weighted else None,
        clusters=paired.clusters,
        confidence=1 - level,
        permutations=min(permutations, 5_000_000),
    )
    seeds = (len(paired.candidate_SN), len(paired.baseline_SN))
    parts = [_seed_variance(scores_SN, paired.weights_N) for scores_SN in (paired.candidate_SN, paired.baseline_SN)]
    of_seeds = sum(part for part in parts if part is not None) if any(p is not None for p in parts) else None
    of_items = found.error**2
    variance = of_items + (of_seeds or 0.0)
    low, high, p = found.low, found.high, found.p
    if of_seeds:
        dof = variance**2 / (
            of_items**2 / max(1, found.units - 1)
            + sum(part**2 / (s - 1) for part, s in zip(parts, seeds, strict=True) if part)
        )
        half = statistics.student_t_quantile(1 - level / 2, dof) * math.sqrt(variance)
        low, high = min(low, found.mean - half), max(high, found.mean + half)
        p = max(p, 2 * float(statistics.special.stdtr(dof, -abs(found.mean) / math.sqrt(variance))))
    answer = _answer(found.mean, low, p, level, margin)
    more_items = more_seeds = None
    if answer == "cannot tell" and math.isfinite(variance):
        aim = abs(found.mean) if margin is None else max(found.mean + margin, 0.0)
        more_items, more_seeds = _needed(aim, of_items, of_seeds, len(paired.items), max(seeds), level)
    scores = tuple(
        float(scores_SN.mean(axis=0).sum() / total) if total else math.nan
        for scores_SN in (paired.candidate_SN, paired.baseline_SN)
    )
    notes = [*paired.notes]
    if min(seeds) == 1:
        notes.append("1 seed of a model: nothing is said about training it again")
    return Verdict(
        candidate, baseline, metric, answer, found.mean, low, high, p, level, margin, len(paired.items),
        len(set(paired.clusters)) if paired.clusters else None, seeds,
        scores,
        {"items": of_items, "seeds": of_seeds, "sampling": paired.sampling, "total": variance},
        more_items, more_seeds, found.warning, tuple(notes),
    )  # fmt: skip


def _answer(difference: float, low: float, p: float, level: float, margin: float | None) -> str:
    if p < level and difference > 0:
        return "better"
    if margin is not None and low > -margin:
        return "within margin"
    return "worse" if p < level and difference < 0 else "cannot tell"


def _needed(
    aim: float, of_items: float, of_seeds: float | None, n: int, seeds: int, level: float
) -> tuple[int | None, int | None]:
    """(more items, more seeds) that let a test at `level` find `aim` with 80 % power; None where no number of that kind does."""
    target = (aim / statistics.smallest_detectable(1.0, alpha=level)) ** 2  # the variance that would do
    room = target - (of_seeds or 0.0)
    items = math.ceil(n * of_items / room) - n if room > 0 and of_items < MOST_TIMES * room else None
    if not of_seeds or target <= of_items:
        return items, None
    return items, max(1, math.ceil(seeds * of_seeds / (target - of_items)) - seeds)


def _seed_variance(scores_SN: np.ndarray, weights_N: np.ndarray) -> float | None:
    """Variance of a model's mean over its seeds, less what item noise within seeds makes of it; None for one seed."""
    seeds, n = scores_SN.shape
    if seeds < 2:
        return None
    total = weights_N.sum()
    of_means = float((scores_SN.sum(axis=1) / total).var(ddof=1)) / seeds
    rest_SN = scores_SN - scores_SN.mean(axis=0)
    rest_SN = rest_SN - weights_N * rest_SN.sum(axis=1, keepdims=True) / total
    interaction = float((rest_SN**2).sum()) / (seeds - 1) * (n / max(1, n - 1)) / total**2 / seeds
    return max(0.0, of_means - interaction)


def _by_item(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.item, []).append(row)
    return found


def _matrix(
    model: Model, by_item: dict[str, list[Row]], items: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, float | None]:
    """Scores and weights (S, N), samples averaged, and the variance that samples within items make of the mean (None: one sample)."""
    seeds = list(dict.fromkeys(row.seed for item in items for row in by_item[item]))
    scores_SN, weights_SN, within, repeated = (
        np.empty((len(seeds), len(items))),
        np.empty((len(seeds), len(items))),
        0.0,
        False,
    )
    for column, item in enumerate(items):
        for line, seed in enumerate(seeds):
            samples = [row for row in by_item[item] if row.seed == seed]
            if not samples:
                raise ValueError(
                    f"{model.name}: seed {seed!r} has no score of item {item!r}, which its other seeds have"
                )
            scores_SN[line, column] = np.mean([row.score for row in samples])
            weights_SN[line, column] = samples[0].weight
            if len(samples) > 1:
                repeated = True
                within += np.var([row.score for row in samples], ddof=1) / len(samples)
    total = weights_SN[0].sum()
    return scores_SN, weights_SN, float(within) / total**2 / len(seeds) ** 2 if repeated else None


def _p(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{'< ' if value < 1e-6 else '= '}{max(value, 1e-6):.2g}"


def _level(value: float) -> str:
    return f"{value:.2g}"


def _seeds(seeds: tuple[int, int]) -> str:
    return f"{seeds[0]} and {seeds[1]} seeds" if max(seeds) > 1 else "1 seed each"


def without(paired: Paired, is_kept: Sequence[bool]) -> Paired:
    """The same on the items that are kept."""
    kept_N = np.asarray(is_kept, bool)
    if not kept_N.any():
        raise ValueError("no item is left")
    clusters = None if paired.clusters is None else [c for c, k in zip(paired.clusters, kept_N, strict=True) if k]
    return replace(
        paired,
        items=[item for item, k in zip(paired.items, kept_N, strict=True) if k],
        clusters=clusters,
        candidate_SN=paired.candidate_SN[:, kept_N],
        baseline_SN=paired.baseline_SN[:, kept_N],
        weights_N=paired.weights_N[kept_N],
    )
