"""Intervals and paired tests over per-item scores: what a difference between two models is worth.

Every metric here is a function f of statistics summed over items: a mean is sum/n, bits per byte sum/sum, corpus BLEU a
function of summed n-gram counts. So one jackknife (leave an item out, apply f) and one permutation test (swap the two
models' items, sum, apply f) serve all of them. Items that come in groups (questions on one passage) are left out and
swapped as whole groups ("clusters").

Intervals are in closed form: the same digits each time. For scores in [0, 1] they are Wilson's at the effective number of
items; for other scores, the wider on each side of Student's and of Hall's, which corrects it for skewness. The p-value of a
difference is the permutation test's, which assumes symmetry; where differences are skewed, it is at least Hall's. What can't be
trusted (few clusters, few items that differ, scores too skewed for their number) is said in `warning`; coverage and false
positives stand in recipes/results/statistics.md. A value that is not finite has no interval, no p-value and no order.

Shapes: N items, U clusters (U = N without clusters), K statistics an item, R permutations.
All results are deterministic: permutations are drawn from a generator seeded with `seed`.
Sources: Wilson 1927; Hall 1992, "On the removal of skewness by transformation" (JRSS B 54); Efron & Stein 1981 (jackknife); Korn &
Graubard 1998 (proportions at the effective number of items); Bonett & Price 2012 (paired proportions); Phipson & Smyth 2010
(permutation p-values are never 0); Riezler & Maxwell 2005 (approximate randomisation); Holm 1979; Miller 2024, arXiv:2411.00640
(clustered standard errors and power for evaluations).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy import special

ALPHA = 0.05  # level of a table's tests together
POWER = 0.8
PERMUTATIONS = (
    50_000  # random swaps, where there are too many to enumerate: Holm over 500 tests can still find p < 0.01
)
ENOUGH_HITS = 1000  # swaps as extreme as what was seen, after which p is known well enough
EXACT_UNITS = 14  # up to 2**14 sign patterns are enumerated
RELATIVE_TIE = 1e-6  # two permutation statistics closer than this count as equal (float32 sums, in another order)
LEAST_ITEMS = 12
LEAST_UNITS = 6  # clusters, or items that differ: with 5, no sign-flip test can reject at 0.05
MOST_SKEW = 0.2  # |skewness| / sqrt(units), to which 1.5 / units is added for its own noise
ENOUGH_SHARES = 30  # scores in [0, 1], from which skewness does no harm

Statistic = Callable[[np.ndarray], np.ndarray]  # (R, K) summed statistics -> (R,) metric values


@dataclass(frozen=True)
class Estimate:
    """A value with its interval (low, high) over n items. The bounds are NaN where the items give no interval."""

    value: float
    low: float
    high: float
    n: int
    warning: str = ""  # why the interval is missing or can't be trusted

    def as_dict(self) -> dict:
        return _without_empty_warning(asdict(self))


@dataclass(frozen=True)
class Difference:
    """Model A minus model B on the same n items. `wins` counts items where A's number is larger (not "better").

    A difference that is not finite has no interval and no p (all NaN).
    """

    mean: float
    low: float
    high: float
    p: float
    n: int
    wins: int
    losses: int
    ties: int
    error: float  # standard error
    units: int  # clusters, or items without clusters
    test: str  # "mcnemar_exact" | "sign_flip" | "approximate_randomisation"; the latter two at least Hall's p where skewed
    warning: str = ""  # why there is no interval or test, or why they can't be trusted

    @property
    def smallest_detectable(self) -> float:
        """At level ALPHA, as if this were the only test."""
        return self.detectable_at(ALPHA)

    def detectable_at(self, alpha: float, power: float = POWER) -> float:
        """Smallest true absolute difference that this test finds with `power` at two-sided level `alpha`, on as many items that
        vary as these do. NaN where none is found, however large."""
        if self.test == "mcnemar_exact":
            return _mcnemar_detectable(self.wins, self.losses, self.n, alpha, power)
        if self.units <= EXACT_UNITS and 2.0 ** (1 - self.units) > alpha:
            return math.nan  # even if all units agree
        return smallest_detectable(self.error, alpha=alpha, power=power, dof=self.units - 1)

    def as_dict(self) -> dict:
        return _without_empty_warning(asdict(self)) | {"smallest_detectable": self.smallest_detectable}


def _without_empty_warning(values: dict) -> dict:
    return {name: value for name, value in values.items() if name != "warning" or value}


# --- one model -------------------------------------------------------------------------------------------------------


def wilson(successes: float, n: int, *, confidence: float = 0.95) -> Estimate:
    """Wilson score interval of a proportion. `successes` may be fractional (a k-way tie counts 1/k).

    centre = (p + z^2/2n) / (1 + z^2/n), half = z sqrt(p(1-p)/n + z^2/4n^2) / (1 + z^2/n).
    Raises ValueError unless 0 <= successes <= n and n >= 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"wilson needs 0 <= successes <= n and n >= 1, got successes={successes}, n={n}")
    share = successes / n
    return Estimate(share, *_wilson_bounds(share, n, _z(confidence)), n)


def mean_interval(values: Sequence[float], *, clusters: Sequence | None = None, confidence: float = 0.95) -> Estimate:
    """Mean over items. Scores that all lie in [0, 1] are taken to be bounded there: Wilson's interval (see `share_interval`)."""
    values_N = _finite(values, "values")
    if is_share(values_N):
        return share_interval(values_N, clusters=clusters, confidence=confidence)
    return ratio_interval(values_N, np.ones(len(values_N)), clusters=clusters, confidence=confidence)


def is_share(values_N: np.ndarray) -> bool:
    """Whether all values lie in [0, 1]."""
    return bool(((values_N >= 0) & (values_N <= 1)).all())


def share_interval(values: Sequence[float], *, clusters: Sequence | None = None, confidence: float = 0.95) -> Estimate:
    """Mean of scores in [0, 1] with Wilson's interval at the effective number of items, p (1 - p) / error^2.

    That is n for 0/1 scores of independent items (exactly Wilson's interval), fewer where clusters agree within, more where scores
    spread less than 0/1 ones. Scores that all agree count as many items as there are clusters: 6 of 6 is [0.61, 1]. Student's quantile
    stands for the normal one where the error is estimated, that is but for independent 0/1 scores.
    """
    values_N = _finite(values, "values")
    n, share = len(values_N), float(values_N.mean())
    is_binary = bool(np.isin(values_N, (0, 1)).all())
    if clusters is None and is_binary:
        rarer = int(min(values_N.sum(), n - values_N.sum()))
        is_rare = 0 < rarer < LEAST_UNITS  # none at all is no trouble: the bound is then the rule of three's
        warning = _few(n, None) or (_differing(rarer, None) if is_rare else "")
        return replace(wilson(values_N.sum(), n, confidence=confidence), warning=warning)
    residual_U = _cluster_sums((values_N - share)[:, None], clusters)[:, 0]
    units = len(residual_U)
    if units < 2:
        return Estimate(share, math.nan, math.nan, n)
    is_skewed = not is_binary and units < ENOUGH_SHARES and abs(_skewness(residual_U)) > MOST_SKEW + 1.5 / units
    warning = _few(units, clusters) or (_too_skewed(units, clusters) if is_skewed else "")
    variance = float((residual_U**2).sum()) / n**2
    most = n if is_binary else math.inf  # fewer by chance than independent items would vary is no gain
    effective = min(share * (1 - share) / variance, most) if variance > 1e-15 and 0 < share < 1 else units
    bounds = _wilson_bounds(share, effective, _t(confidence, units - 1))
    return Estimate(share, *bounds, n, warning)


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], *, clusters: Sequence | None = None, **options
) -> Estimate:
    """sum(numerators) / sum(denominators) over items that vary in both (bits per byte: bits and bytes of a document)."""
    stats_NK = np.stack([_finite(numerators, "numerators"), _finite(denominators, "denominators")], axis=1)
    return interval(stats_NK, ratio, clusters=clusters, **options)


def interval(
    stats_NK: np.ndarray, function: Statistic, *, clusters: Sequence | None = None, confidence: float = 0.95
) -> Estimate:
    """f(sum of item statistics) with a jackknife interval, corrected for skewness.

    Raises ValueError on no items or non-finite statistics; f itself may be infinite or NaN: then there is no interval.
    """
    stats_NK = _finite(stats_NK, "statistics")
    value, influence_U = _jackknife(_cluster_sums(stats_NK, clusters), function)
    low, high = _skew_bounds(value, influence_U, confidence)
    return Estimate(value, low, high, len(stats_NK), _warning(value, influence_U, clusters))


# The names that these had while they resampled.
bootstrap_mean, ratio_bootstrap, bootstrap = mean_interval, ratio_interval, interval


def ratio(sums_RK: np.ndarray) -> np.ndarray:
    """First summed statistic over the second; NaN where there is nothing below the line."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums_RK[:, 1] == 0, np.nan, sums_RK[:, 0] / sums_RK[:, 1])


# --- two models on the same items -------------------------------------------------------------------------------------


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    clusters: Sequence | None = None,
    confidence: float = 0.95,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Difference:
    """Mean of a - b over paired items (with `weights`: sum(a - b) / sum(weights), e.g. bits over bytes).

    All scores 0 or 1, neither weights nor clusters: exact McNemar p and the Bonett-Price interval, which does not collapse
    to a point when the two models agree everywhere. Otherwise as `paired_statistic`, of a mean or a ratio.
    Raises ValueError where lengths differ or a score is not finite.
    """
    a_N, b_N = _finite(a, "a"), _finite(b, "b")
    if a_N.shape != b_N.shape or a_N.ndim != 1:
        raise ValueError(f"paired scores must be two equally long lists, got shapes {a_N.shape} and {b_N.shape}")
    weights_N = np.ones(len(a_N)) if weights is None else _finite(weights, "weights")
    if weights_N.shape != a_N.shape:
        raise ValueError(f"weights must be one a pair, got {weights_N.shape} for {a_N.shape}")
    difference_N, scores_2N = a_N - b_N, np.concatenate([a_N, b_N])
    wins, losses, ties = win_loss_tie(a_N, b_N)
    if weights is None and clusters is None and bool(np.isin(scores_2N, (0, 1)).all()):
        mean, low, high, error = _bonett_price(wins, losses, len(a_N), confidence)
        p = mcnemar_exact(wins, losses)
        return Difference(
            mean, low, high, p, len(a_N), wins, losses, ties, error, len(a_N), "mcnemar_exact", _few(len(a_N), None)
        )  # fmt: skip
    stats_UK = _cluster_sums(np.stack([difference_N, weights_N], axis=1), clusters)
    value, influence_U = _jackknife(stats_UK, ratio)
    low, high = _skew_bounds(value, influence_U, confidence)
    warning, error = _warning(value, influence_U, clusters), _error(influence_U)
    if error == 0 and weights is None and is_share(scores_2N):
        # All differ alike, which is no sign that others would: one pseudo-item each way, as Bonett and Price.
        padded_U = np.array([*[value] * len(influence_U), 1.0, -1.0])
        error = _error(padded_U)
        half = _t(confidence, len(influence_U) - 1) * error
        low, high = max(-1.0, padded_U.mean() - half), min(1.0, padded_U.mean() + half)
    p = math.nan
    if math.isfinite(value):
        p = max(
            sign_flip(difference_N, clusters=clusters, permutations=permutations, seed=seed),
            _skew_p(value, influence_U),
        )
    return Difference(
        value, low, high, p, len(a_N), wins, losses, ties, error, len(influence_U), "sign_flip", warning
    )  # fmt: skip


def paired_statistic(
    stats_a_NK: np.ndarray,
    stats_b_NK: np.ndarray,
    function: Statistic,
    *,
    clusters: Sequence | None = None,
    confidence: float = 0.95,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Difference:
    """f(A) - f(B) for a corpus metric that is no mean of items (BLEU, chrF): approximate randomisation, swapping clusters.

    Wins, losses and ties count items by f of the item alone; one where f is not finite is a tie.
    """
    a_NK, b_NK = _finite(stats_a_NK, "a"), _finite(stats_b_NK, "b")
    if a_NK.shape != b_NK.shape or a_NK.ndim != 2:
        raise ValueError(f"paired statistics must have equal (N, K) shapes, got {a_NK.shape} and {b_NK.shape}")
    a_UK, b_UK = _cluster_sums(a_NK, clusters), _cluster_sums(b_NK, clusters)
    total_a, total_b = a_UK.sum(axis=0), b_UK.sum(axis=0)
    (value_a, influence_a_U), (value_b, influence_b_U) = _jackknife(a_UK, function), _jackknife(b_UK, function)
    observed, influence_U = value_a - value_b, influence_a_U - influence_b_U
    low, high = _skew_bounds(observed, influence_U, confidence)

    difference_UK = (b_UK - a_UK).astype(np.float32)

    def swapped(is_swapped_RU: np.ndarray) -> np.ndarray:
        moved_RK = is_swapped_RU @ difference_UK
        return function(total_a + moved_RK) - function(total_b - moved_RK)

    p = math.nan
    if math.isfinite(observed):
        p = max(_permutation_p(observed, swapped, len(a_UK), permutations, seed), _skew_p(observed, influence_U))
    wins, losses, ties = win_loss_tie(function(a_NK), function(b_NK))
    return Difference(
        observed, low, high, p, len(a_NK), wins, losses, ties, _error(influence_U), len(influence_U),
        "approximate_randomisation", _warning(observed, influence_U, clusters),
    )  # fmt: skip


def sign_flip(
    differences: Sequence[float],
    *,
    clusters: Sequence | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> float:
    """Two-sided p of sum(differences) under random signs for each cluster; exact for up to 14 non-zero clusters,
    else (1 + hits) / (1 + draws), where draws end early once 1,000 hits are seen."""
    sums_U = _cluster_sums(_finite(differences, "differences")[:, None], clusters)[:, 0]
    sums_U = sums_U[sums_U != 0]  # a zero keeps its value under either sign
    if not len(sums_U):
        return 1.0
    total, doubled_U = float(sums_U.sum()), 2 * sums_U.astype(np.float32)
    return _permutation_p(
        total,
        lambda is_flipped_RU: total - is_flipped_RU @ doubled_U,
        len(sums_U),
        permutations,
        seed,
    )


def mcnemar_exact(wins: int, losses: int) -> float:
    """Two-sided exact binomial p that `wins` and `losses` come from a fair coin: 2 P(X <= min), at most 1."""
    return min(1.0, 2 * float(special.bdtr(min(wins, losses), wins + losses, 0.5)))


def win_loss_tie(a: Sequence[float], b: Sequence[float]) -> tuple[int, int, int]:
    """Items where a > b, a < b, a == b. What is not finite has no order: a tie."""
    a_N, b_N = np.asarray(a, float), np.asarray(b, float)
    is_finite_N = np.isfinite(a_N) & np.isfinite(b_N)
    wins, losses = int((is_finite_N & (a_N > b_N)).sum()), int((is_finite_N & (a_N < b_N)).sum())
    return wins, losses, len(a_N) - wins - losses


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given: p_(i) -> max_{j<=i} min(1, (m - j + 1) p_(j)).

    A NaN is no test: it stays NaN and is not counted in m.
    """
    tested = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for rank, index in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def level_of_the_rest(adjusted: Sequence[float], alpha: float = ALPHA) -> float:
    """The level that p-values which Holm did not reject stood against: alpha over their number. adjusted: what `holm` gave."""
    return alpha / max(1, sum(p >= alpha for p in adjusted))


def standard_error(
    values: Sequence[float], *, weights: Sequence[float] | None = None, clusters: Sequence | None = None
) -> float:
    """Standard error of sum(values)/sum(weights), linearised, clusters as units; NaN for fewer than two units."""
    values_N = _finite(values, "values")
    weights_N = np.ones(len(values_N)) if weights is None else _finite(weights, "weights")
    residual_N = values_N - weights_N * values_N.sum() / weights_N.sum()
    residual_U = _cluster_sums(residual_N[:, None], clusters)[:, 0]
    return _error(residual_U * len(residual_U) / weights_N.sum())


def smallest_detectable(error: float, *, alpha: float = ALPHA, power: float = POWER, dof: float = math.inf) -> float:
    """Smallest true difference that a two-sided test finds with `power`: (t_{1-alpha/2} + t_power) * standard error.

    dof: of the standard error; infinite where it is known (the normal quantiles).
    """
    return (student_t_quantile(1 - alpha / 2, dof) + student_t_quantile(power, dof)) * error


# --- parts ------------------------------------------------------------------------------------------------------------


def _z(confidence: float) -> float:
    return float(special.ndtri(0.5 + confidence / 2))


def _t(confidence: float, dof: float) -> float:
    return student_t_quantile(0.5 + confidence / 2, dof)


def student_t_quantile(probability: float, dof: float) -> float:
    """Student's t quantile; the normal one for infinitely many degrees of freedom, NaN for none."""
    if dof == math.inf:
        return float(special.ndtri(probability))
    return float(special.stdtrit(dof, probability)) if dof > 0 else math.nan


def _finite(values: Sequence[float] | np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.size == 0:
        raise ValueError(f"no items: {name} is empty")
    if not np.isfinite(array).all():
        where = int(np.argwhere(~np.isfinite(array))[0][0])
        raise ValueError(f"{name} holds a non-finite score ({array[where]}) at item {where}; it can't be averaged away")
    return array


def _cluster_sums(stats_NK: np.ndarray, clusters: Sequence | None) -> np.ndarray:
    """Sums of item statistics within each cluster, (U, K), in order of first appearance; the items where None."""
    if clusters is None:
        return stats_NK
    if len(clusters) != len(stats_NK):
        raise ValueError(f"one cluster an item: got {len(clusters)} clusters for {len(stats_NK)} items")
    order: dict = {}
    index_N = np.array([order.setdefault(cluster, len(order)) for cluster in clusters])
    sums_UK = np.zeros((len(order), stats_NK.shape[1]))
    np.add.at(sums_UK, index_N, stats_NK)
    return sums_UK


def _wilson_bounds(share: float, n: float, z: float) -> tuple[float, float]:
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


def _jackknife(stats_UK: np.ndarray, function: Statistic) -> tuple[float, np.ndarray]:
    """f(sum of all units), and each unit's influence on it, (U - 1) (f - f without the unit); NaN influences for one unit."""
    total_K, units = stats_UK.sum(axis=0), len(stats_UK)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        value = float(function(total_K[None])[0])
        value = value if math.isfinite(value) else math.nan
        if units < 2:
            return value, np.full(units, math.nan)
        return value, (units - 1) * (value - function(total_K - stats_UK))


def _error(influence_U: np.ndarray) -> float:
    """Standard error from influences: sd / sqrt(U); exactly 0 where all agree but for rounding; NaN for fewer than two units."""
    units = len(influence_U)
    if units < 2 or not np.isfinite(influence_U).all():
        return math.nan
    spread = float(influence_U.std(ddof=1))
    return 0.0 if spread <= 1e-12 * max(1e-3, float(np.abs(influence_U).max())) else spread / math.sqrt(units)


def _skewness(influence_U: np.ndarray) -> float:
    """Sample skewness over sqrt(U): what the distribution of the mean keeps of it. 0 where all agree."""
    centred_U = influence_U - influence_U.mean()
    spread = float(np.sqrt((centred_U**2).mean()))
    return float((centred_U**3).mean()) / spread**3 / math.sqrt(len(influence_U)) if _error(influence_U) > 0 else 0.0


def _skew_bounds(value: float, influence_U: np.ndarray, confidence: float) -> tuple[float, float]:
    """The wider bound on each side of Student's interval and Hall's, which inverts g(t) = t + b t^2/3 + b^2 t^3/27 + b/6 with
    b = skewness / sqrt(U). NaN where the value or an influence is not finite, and where all units agree, which says nothing about
    how far others lie.
    """
    error = _error(influence_U)
    if not (math.isfinite(value) and error > 0):
        return math.nan, math.nan
    t, b = _t(confidence, len(influence_U) - 1), _skewness(influence_U)
    ends = [(-t, t)]
    if abs(b) > 1e-6:
        ends.append(tuple((np.cbrt(1 + b * (end - b / 6)) - 1) * 3 / b for end in (-t, t)))
    low, high = max(end[1] for end in ends), min(end[0] for end in ends)
    return float(value - low * error), float(value - high * error)


def _skew_p(value: float, influence_U: np.ndarray) -> float:
    """Hall's two-sided p that the true value is 0 (see `_skew_bounds`), where the skewness is more than its standard error; else 0:
    sign flips assume symmetry, and then need no second opinion."""
    error, units = _error(influence_U), len(influence_U)
    if not error > 0 or abs(b := _skewness(influence_U)) < math.sqrt(6) / units:
        return 0.0
    t = value / error
    hall = t + b * t**2 / 3 + b**2 * t**3 / 27 + b / 6
    return 2 * float(special.stdtr(units - 1, -min(abs(t), abs(hall))))


def _warning(value: float, influence_U: np.ndarray, clusters: Sequence | None) -> str:
    """Why there is no interval, or why it and the p-value can't be trusted; empty where they can."""
    units = len(influence_U)
    if not math.isfinite(value):
        return "not a finite number"
    if units < 2 or (few := _few(units, clusters)):
        return "" if units < 2 else few
    if not np.isfinite(influence_U).all():
        return "not a finite number without one of the items"
    if _error(influence_U) == 0:
        return "all items agree"
    commonest = Counter(influence_U.round(12).tolist()).most_common(1)[0][1]
    if commonest > 1 and (differing := units - commonest) < LEAST_UNITS:
        return _differing(differing, clusters)
    return _too_skewed(units, clusters) if abs(_skewness(influence_U)) > MOST_SKEW + 1.5 / units else ""


def _few(units: int, clusters: Sequence | None) -> str:
    """A warning where there are too few items or clusters, else an empty string. One gives no interval at all: that says it."""
    what, least = ("items", LEAST_ITEMS) if clusters is None else ("clusters", LEAST_UNITS)
    return f"too few {what} ({units})" if 2 <= units < least else ""


def _differing(units: int, clusters: Sequence | None) -> str:
    return f"only {units} {'items' if clusters is None else 'clusters'} differ from the rest"


def _too_skewed(units: int, clusters: Sequence | None) -> str:
    return f"too skewed for {units} {'items' if clusters is None else 'clusters'}"


def _permutation_p(observed: float, permuted: Statistic, units: int, permutations: int, seed: int) -> float:
    """Two-sided p of |observed| among swaps of units; `permuted` maps (R, U) 0/1 patterns to (R,) statistics."""
    threshold = abs(observed) * (1 - RELATIVE_TIE) - 1e-15
    if units <= EXACT_UNITS:
        patterns_RU = (np.arange(2**units)[:, None] >> np.arange(units)) & 1
        return float((~(np.abs(permuted(patterns_RU.astype(float))) < threshold)).mean())
    generator = np.random.default_rng(seed)
    block = max(1, min(permutations, 10_000, 8_000_000 // units))
    hits = draws = 0  # "not less extreme": a swap whose statistic is NaN counts as extreme
    while draws < permutations and hits < ENOUGH_HITS:
        bits = np.frombuffer(generator.bytes(block * (-(-units // 8))), np.uint8).reshape(block, -1)
        patterns_RU = np.unpackbits(bits, axis=1, count=units).astype(np.float32)
        hits += int((~(np.abs(permuted(patterns_RU)) < threshold)).sum())
        draws += block
    return (1 + hits) / (1 + draws)


def _bonett_price(wins: int, losses: int, n: int, confidence: float) -> tuple[float, float, float, float]:
    """(difference, low, high, standard error) of paired proportions; one pseudo-item is added to either discordant cell."""
    p_win, p_loss = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    error = math.sqrt((p_win + p_loss - (p_win - p_loss) ** 2) / (n + 2))
    half = _z(confidence) * error
    centre = p_win - p_loss
    return (wins - losses) / n, max(-1.0, centre - half), min(1.0, centre + half), error


def _mcnemar_detectable(wins: int, losses: int, n: int, alpha: float, power: float) -> float:
    """Smallest difference in share that the exact McNemar test finds with `power`, at the discordance seen (one pseudo-item each
    way), or at as much as the difference itself takes. By bisection over the test's exact power. NaN where even 1 is not found."""
    discordance = (wins + losses + 2) / (n + 2)
    if _mcnemar_power(1.0, 1.0, n, alpha) < power:
        return math.nan
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        is_found = _mcnemar_power(middle, max(discordance, middle), n, alpha) >= power
        low, high = (low, middle) if is_found else (middle, high)
    return high


def _mcnemar_power(difference: float, discordance: float, n: int, alpha: float) -> float:
    """P(exact McNemar p < alpha) for n items, of which a share `discordance` differ in expectation. Sums over the number that do."""
    spread = 8 * math.sqrt(n * discordance * (1 - discordance)) + 1
    least, most = max(1, int(n * discordance - spread)), min(n, math.ceil(n * discordance + spread))
    count_D = np.unique(np.linspace(least, most, 400).round().astype(int))  # all, or 400 evenly spread ones
    chance_D = special.bdtr(count_D, n, discordance) - special.bdtr(count_D - 1, n, discordance)
    # the most losses that are still significant; -1 where none are
    critical_D = np.floor(np.nan_to_num(special.bdtrik(alpha / 2, count_D, 0.5), nan=0.0)).clip(0)
    critical_D -= 2 * special.bdtr(critical_D, count_D, 0.5) >= alpha
    share = min(1.0, 0.5 + difference / discordance / 2)
    found_D = np.where(critical_D >= 0, special.bdtr(np.maximum(critical_D, 0), count_D, 1 - share), 0.0)
    return float((chance_D * found_D).sum() / chance_D.sum())
