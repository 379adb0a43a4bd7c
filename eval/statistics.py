"""Intervals and paired tests over per-item scores: what a difference between two models is worth.

Every metric here is a function f of statistics summed over items: a mean is sum/n, bits per byte sum/sum, corpus BLEU a
function of summed n-gram counts. So one bootstrap (resample items, sum, apply f) and one permutation test (swap the two
models' items, sum, apply f) serve all of them. Items that come in groups (questions on one passage) are resampled and
swapped as whole groups ("clusters").

Shapes: N items, U clusters (U = N without clusters), K statistics an item, R resamples.
All results are deterministic: resampling draws from a generator seeded with `seed`.
Sources: Wilson 1927; Hesterberg 2015 (expanded percentile interval); Bonett & Price 2012 (paired proportions);
Phipson & Smyth 2010 (permutation p-values are never 0); Riezler & Maxwell 2005 (approximate randomisation); Holm 1979;
Miller 2024, arXiv:2411.00640 (clustered standard errors and power for evaluations).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

RESAMPLES = 2000  # bootstrap draws
BLOCK = 1_000_000  # of their counts that are drawn and multiplied at once
CACHED = 8_000_000  # counts that are kept at most, a byte each, for the next metric of the same items
PERMUTATIONS = (
    50_000  # random swaps, where there are too many to enumerate: Holm over 500 tests can still find p < 0.01
)
ENOUGH_HITS = 1000  # swaps as extreme as what was seen, after which p is known well enough
EXACT_UNITS = 14  # up to 2**14 sign patterns are enumerated
RELATIVE_TIE = 1e-6  # two permutation statistics closer than this count as equal (float32 sums, in another order)

Statistic = Callable[[np.ndarray], np.ndarray]  # (R, K) summed statistics -> (R,) metric values


@dataclass(frozen=True)
class Estimate:
    """A value with its interval (low, high) over n items. The bounds are NaN where one item gives no interval."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """Model A minus model B on the same n items. `wins` counts items where A's number is larger (not "better")."""

    mean: float
    low: float
    high: float
    p: float
    n: int
    wins: int
    losses: int
    ties: int
    smallest_detectable: float  # absolute difference found with 80 % power at this n and spread
    test: str  # "mcnemar_exact" | "sign_flip" | "approximate_randomisation"

    def as_dict(self) -> dict:
        return asdict(self)


# --- one model -------------------------------------------------------------------------------------------------------


def wilson(successes: float, n: int, *, confidence: float = 0.95) -> Estimate:
    """Wilson score interval of a proportion. `successes` may be fractional (a k-way tie counts 1/k).

    centre = (p + z^2/2n) / (1 + z^2/n), half = z sqrt(p(1-p)/n + z^2/4n^2) / (1 + z^2/n).
    Raises ValueError unless 0 <= successes <= n and n >= 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"wilson needs 0 <= successes <= n and n >= 1, got successes={successes}, n={n}")
    z, share = _z(confidence), successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half), n)


def bootstrap_mean(values: Sequence[float], *, clusters: Sequence | None = None, **options) -> Estimate:
    """Mean over items with a bootstrap interval; options as in `bootstrap`."""
    return ratio_bootstrap(values, np.ones(len(values)), clusters=clusters, **options)


def ratio_bootstrap(
    numerators: Sequence[float], denominators: Sequence[float], *, clusters: Sequence | None = None, **options
) -> Estimate:
    """sum(numerators) / sum(denominators), items resampled as pairs (bits per byte: bits and bytes of a document)."""
    stats_NK = np.stack([_finite(numerators, "numerators"), _finite(denominators, "denominators")], axis=1)
    return bootstrap(stats_NK, ratio, clusters=clusters, **options)


def bootstrap(
    stats_NK: np.ndarray,
    function: Statistic,
    *,
    clusters: Sequence | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """f(sum of item statistics) with an expanded percentile interval.

    The percentile interval is too short by sqrt((U-1)/U) and by the normal quantile in place of Student's; the tails are
    moved out to Phi(-sqrt(U/(U-1)) t_{U-1}) to make up for both. Raises ValueError on no items or non-finite statistics.
    """
    stats_NK = _finite(stats_NK, "statistics")
    stats_UK = _cluster_sums(stats_NK, clusters)
    value = float(function(stats_UK.sum(axis=0, keepdims=True))[0])
    draws_R = function(_resampled_sums(stats_UK, resamples, seed))
    low, high = _expanded_percentiles(draws_R, len(stats_UK), confidence)
    return Estimate(value, low, high, len(stats_NK))


def ratio(sums_RK: np.ndarray) -> np.ndarray:
    """First summed statistic over the second; NaN where a resample has nothing below the line."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums_RK[:, 0] / sums_RK[:, 1]


# --- two models on the same items -------------------------------------------------------------------------------------


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    clusters: Sequence | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Mean of a - b over paired items (with `weights`: sum(a - b) / sum(weights), e.g. bits over bytes).

    All scores 0 or 1, neither weights nor clusters: exact McNemar p and the Bonett-Price interval, which does not collapse
    to a point when the two models agree everywhere. Otherwise: sign-flip p and a bootstrap interval over clusters.
    Raises ValueError where lengths differ or a score is not finite.
    """
    a_N, b_N = _finite(a, "a"), _finite(b, "b")
    if a_N.shape != b_N.shape or a_N.ndim != 1:
        raise ValueError(f"paired scores must be two equally long lists, got shapes {a_N.shape} and {b_N.shape}")
    weights_N = np.ones(len(a_N)) if weights is None else _finite(weights, "weights")
    if weights_N.shape != a_N.shape:
        raise ValueError(f"weights must be one a pair, got {weights_N.shape} for {a_N.shape}")
    difference_N = a_N - b_N
    wins, losses, ties = win_loss_tie(a_N, b_N)
    is_binary = weights is None and clusters is None and bool(np.isin(np.concatenate([a_N, b_N]), (0, 1)).all())
    if is_binary:
        mean, low, high, error = _bonett_price(wins, losses, len(a_N), confidence)
        p, test = mcnemar_exact(wins, losses), "mcnemar_exact"
    else:
        stats_NK = np.stack([difference_N, weights_N], axis=1)
        estimate = bootstrap(stats_NK, ratio, clusters=clusters, confidence=confidence, seed=seed)
        mean, low, high = estimate.value, estimate.low, estimate.high
        error = standard_error(difference_N, weights=weights_N, clusters=clusters)
        p, test = sign_flip(difference_N, clusters=clusters, seed=seed), "sign_flip"
    detectable = smallest_detectable(error, confidence=confidence)
    return Difference(mean, low, high, p, len(a_N), wins, losses, ties, detectable, test)


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

    Wins, losses and ties count items by f of the item alone.
    """
    a_NK, b_NK = _finite(stats_a_NK, "a"), _finite(stats_b_NK, "b")
    if a_NK.shape != b_NK.shape or a_NK.ndim != 2:
        raise ValueError(f"paired statistics must have equal (N, K) shapes, got {a_NK.shape} and {b_NK.shape}")
    a_UK, b_UK = _cluster_sums(a_NK, clusters), _cluster_sums(b_NK, clusters)
    total_a, total_b = a_UK.sum(axis=0), b_UK.sum(axis=0)
    observed = float(function(total_a[None])[0] - function(total_b[None])[0])
    draws_R = function(_resampled_sums(a_UK, RESAMPLES, seed)) - function(_resampled_sums(b_UK, RESAMPLES, seed))
    low, high = _expanded_percentiles(draws_R, len(a_UK), confidence)

    difference_UK = (b_UK - a_UK).astype(np.float32)

    def swapped(is_swapped_RU: np.ndarray) -> np.ndarray:
        moved_RK = is_swapped_RU @ difference_UK
        return function(total_a + moved_RK) - function(total_b - moved_RK)

    p = _permutation_p(observed, swapped, len(a_UK), permutations, seed)
    wins, losses, ties = win_loss_tie(function(a_NK), function(b_NK))
    detectable = smallest_detectable(float(np.std(draws_R, ddof=1)), confidence=confidence)
    return Difference(observed, low, high, p, len(a_NK), wins, losses, ties, detectable, "approximate_randomisation")


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
    discordant = wins + losses
    tail = sum(math.comb(discordant, k) for k in range(min(wins, losses) + 1))
    return min(1.0, float(2 * tail / 2**discordant)) if discordant < 1000 else _binomial_tail_large(wins, losses)


def win_loss_tie(a: Sequence[float], b: Sequence[float]) -> tuple[int, int, int]:
    """Items where a > b, a < b, a == b."""
    a_N, b_N = np.asarray(a, float), np.asarray(b, float)
    wins, losses = int((a_N > b_N).sum()), int((a_N < b_N).sum())
    return wins, losses, len(a_N) - wins - losses


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given: p_(i) -> max_{j<=i} min(1, (m - j + 1) p_(j))."""
    count, adjusted, highest = len(p_values), [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def standard_error(
    values: Sequence[float], *, weights: Sequence[float] | None = None, clusters: Sequence | None = None
) -> float:
    """Standard error of sum(values)/sum(weights), linearised, clusters as units; NaN for fewer than two units."""
    values_N = _finite(values, "values")
    weights_N = np.ones(len(values_N)) if weights is None else _finite(weights, "weights")
    residual_N = values_N - weights_N * values_N.sum() / weights_N.sum()
    residual_U = _cluster_sums(residual_N[:, None], clusters)[:, 0]
    units = len(residual_U)
    if units < 2:
        return math.nan
    return float(np.sqrt(units / (units - 1) * (residual_U**2).sum()) / weights_N.sum())


def smallest_detectable(error: float, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """Smallest true difference that a two-sided test finds with `power`: (z_{1-alpha/2} + z_power) * standard error."""
    return (_z(confidence) + NormalDist().inv_cdf(power)) * error


# --- parts ------------------------------------------------------------------------------------------------------------


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


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


@lru_cache(maxsize=8)
def resample_counts(units: int, resamples: int, seed: int) -> np.ndarray:
    """How often each unit appears in each resample, (R, U) uint8: resampling is then one matrix product."""
    counts_RU = np.concatenate(list(_count_blocks(units, resamples, seed)))
    counts_RU.setflags(write=False)
    return counts_RU


def _count_blocks(units: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """The rows of `resample_counts`, BLOCK counts at a time. (Beyond 255 units, one drawn 256 times has a chance of 1e-500.)"""
    generator = np.random.default_rng(seed)
    for rows in _row_blocks(units, resamples):
        n_rows = rows.stop - rows.start
        index_RU = generator.integers(units, size=(n_rows, units)) + units * np.arange(n_rows)[:, None]
        yield np.bincount(index_RU.ravel(), minlength=n_rows * units).reshape(n_rows, units).astype(np.uint8)


def _row_blocks(units: int, resamples: int) -> list[slice]:
    block = max(1, BLOCK // units)
    return [slice(start, min(start + block, resamples)) for start in range(0, resamples, block)]


def _resampled_sums(stats_UK: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(R, K) sums over resampled units, in memory that does not grow with them."""
    units = len(stats_UK)
    if resamples * units <= CACHED:
        counts_RU = resample_counts(units, resamples, seed)
        blocks = (counts_RU[rows] for rows in _row_blocks(units, resamples))
    else:
        blocks = _count_blocks(units, resamples, seed)
    return np.concatenate([block.astype(np.float64) @ stats_UK for block in blocks])


def _expanded_percentiles(draws_R: np.ndarray, units: int, confidence: float) -> tuple[float, float]:
    if units < 2:
        return math.nan, math.nan
    expanded = math.sqrt(units / (units - 1)) * student_t_quantile(0.5 + confidence / 2, units - 1)
    tail = NormalDist().cdf(-expanded)
    low, high = np.quantile(draws_R, [tail, 1 - tail])
    return float(low), float(high)


def student_t_quantile(probability: float, dof: int) -> float:
    """Student's t quantile: exact for 1 and 2 degrees of freedom, else Cornish-Fisher (within 1 % at 3, 1e-4 from 10)."""
    if dof == 1:
        return math.tan(math.pi * (probability - 0.5))
    if dof == 2:
        spread = 4 * probability * (1 - probability)
        return 2 * (probability - 0.5) * math.sqrt(2 / spread)
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / dof**power for power, term in enumerate(terms, start=1))


def _permutation_p(observed: float, permuted: Statistic, units: int, permutations: int, seed: int) -> float:
    """Two-sided p of |observed| among swaps of units; `permuted` maps (R, U) 0/1 patterns to (R,) statistics."""
    threshold = abs(observed) * (1 - RELATIVE_TIE) - 1e-15
    if units <= EXACT_UNITS:
        patterns_RU = (np.arange(2**units)[:, None] >> np.arange(units)) & 1
        return float((np.abs(permuted(patterns_RU.astype(float))) >= threshold).mean())
    generator = np.random.default_rng(seed)
    block = max(1, min(permutations, 10_000, 8_000_000 // units))
    hits = draws = 0
    while draws < permutations and hits < ENOUGH_HITS:
        bits = np.frombuffer(generator.bytes(block * (-(-units // 8))), np.uint8).reshape(block, -1)
        patterns_RU = np.unpackbits(bits, axis=1, count=units).astype(np.float32)
        hits += int((np.abs(permuted(patterns_RU)) >= threshold).sum())
        draws += block
    return (1 + hits) / (1 + draws)


def _bonett_price(wins: int, losses: int, n: int, confidence: float) -> tuple[float, float, float, float]:
    """(difference, low, high, standard error) of paired proportions; one pseudo-item is added to either discordant cell."""
    p_win, p_loss = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    error = math.sqrt((p_win + p_loss - (p_win - p_loss) ** 2) / (n + 2))
    half = _z(confidence) * error
    centre = p_win - p_loss
    return (wins - losses) / n, max(-1.0, centre - half), min(1.0, centre + half), error


def _binomial_tail_large(wins: int, losses: int) -> float:
    """`mcnemar_exact` by log-gamma, for counts whose powers of two leave float range."""
    n = wins + losses
    k = np.arange(min(wins, losses) + 1)
    log_n = math.lgamma(n + 1)
    log_terms = np.array([log_n - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in k]) - n * math.log(2)
    peak = log_terms.max()
    return min(1.0, 2 * math.exp(peak) * float(np.exp(log_terms - peak).sum()))
