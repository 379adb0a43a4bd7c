"""Is this reward model any good? Numbers from scores alone: no model is loaded here, and nothing is drawn at random.

Every function takes score differences d = score(chosen) - score(rejected), or scores with the prompts they belong to; the order a
model gives a pair is right when d > 0, and half right when d = 0. Pairs of one prompt are dependent: intervals treat a prompt's pairs as
one cluster. `measure` puts it all together as plain JSON; `reward/verdict.py` says in sentences what a reader should notice.

Shapes: N pairs, P prompts, K answers a prompt.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.statistics import Difference, Estimate, interval, mean_interval, paired_difference, wilson
from reward.best_of import expected_best
from reward.preferences import Preference, prompt_key

LENGTH_UNIT_WORDS = 10  # length effects are stated for an answer this much longer
CALIBRATION_BINS = 10
LEAST_PROMPTS = 10  # for a regression on length: fewer, and a resample may not vary at all
MARGIN_BINS = 4  # quarters of the pairs by their margin


def _plain(numbers: Estimate | Difference) -> dict[str, Any]:
    """As JSON has it: a bound that does not exist (one prompt gives no interval) is None, not NaN."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in numbers.as_dict().items()
    }


# --- is the order right? -----------------------------------------------------------------------------------------------------


def is_right(differences: Sequence[float]) -> np.ndarray:
    """1 where d > 0, 1/2 where d = 0, else 0, (N,). Raises ValueError for a difference that is not finite."""
    d_N = np.asarray(differences, float)
    if not np.isfinite(d_N).all():
        where = int(np.argwhere(~np.isfinite(d_N))[0][0])
        raise ValueError(
            f"the score difference of pair {where} is {d_N[where]}; a reward model must give finite scores"
        )
    return (np.sign(d_N) + 1) / 2


def accuracy(right: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """Share of pairs in the right order: Wilson's interval, its items counted in prompts where a prompt has several pairs."""
    if len(set(clusters)) == len(right):
        return wilson(float(np.sum(right)), len(right))
    return mean_interval(right, clusters=clusters)


def accuracy_by(right: np.ndarray, groups: Sequence[str | None], clusters: Sequence[str]) -> dict[str, dict]:
    """Accuracy within each group, by name; pairs whose group is None are in none."""
    names = sorted({group for group in groups if group is not None})
    rows = {name: [i for i, group in enumerate(groups) if group == name] for name in names}
    return {name: _plain(accuracy(right[i], [clusters[row] for row in i])) for name, i in rows.items()}


def margin_groups(margins: Sequence[float | None]) -> list[str | None]:
    """The name of each pair's margin bin, of (at most) MARGIN_BINS with about as many pairs each; None for a pair without a margin."""
    known = [m for m in margins if m is not None]
    if not known:
        return [None] * len(margins)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, MARGIN_BINS + 1)))
    names = [f"{i + 1}: {low:.3g} to {high:.3g}" for i, (low, high) in enumerate(itertools.pairwise(edges))] or [
        f"1: {edges[0]:.3g}"
    ]
    inner = edges[1:-1]
    return [None if m is None else names[int(np.searchsorted(inner, m, side="right"))] for m in margins]


# --- baselines ---------------------------------------------------------------------------------------------------------------


def bag_of_words_differences(train: Sequence[Preference], heldout: Sequence[Preference]) -> np.ndarray:
    """Logistic regression on word and word-pair counts of the two answers, fitted on `train`: its d for each held-out pair, (N,).

    log-odds(chosen) = w . (counts(chosen) - counts(rejected)), no intercept (the order of a pair carries nothing); it cannot read the
    prompt, so what it reaches is what vocabulary alone gives away."""
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    counter = CountVectorizer(ngram_range=(1, 2), min_df=2, token_pattern=r"(?u)\b\w+\b|[^\w\s]")
    counter.fit([pair[side] for pair in train for side in ("chosen", "rejected")])

    def features(pairs: Sequence[Preference]):
        good, bad = (counter.transform([pair[side] for pair in pairs]) for side in ("chosen", "rejected"))
        return (good - bad).astype(float)

    known = features(train)
    model = LogisticRegression(C=0.1, fit_intercept=False, max_iter=1000)
    model.fit(vstack([known, -known]), np.repeat([1, 0], len(train)))
    return model.decision_function(features(heldout))


def against(right: np.ndarray, baseline: np.ndarray, clusters: Sequence[str]) -> dict[str, Any]:
    """The baseline's accuracy, and the model's minus it on the same pairs."""
    difference = paired_difference(right, baseline, clusters=clusters)
    return {"accuracy": _plain(accuracy(baseline, clusters)), "model_minus_baseline": _plain(difference)}


# --- calibration -------------------------------------------------------------------------------------------------------------


def nll_nats(differences: np.ndarray, temperature: float = 1.0) -> float:
    """Mean -log sigmoid(d / T) in nats: how surprised the model is by the labels; log 2 = 0.693 knows nothing."""
    return float(np.logaddexp(0, -np.asarray(differences, float) / temperature).mean())


def fit_temperature(differences: np.ndarray) -> float:
    """The T > 0 with the least `nll_nats`. It is convex in 1/T; where the labels are ordered perfectly or at random (T -> 0 or
    infinity) the search ends at 1e-3 or 1e3 times the size of the differences."""
    from scipy.optimize import minimize_scalar

    d_N = np.asarray(differences, float)
    size = float(np.abs(d_N).mean()) or 1.0
    found = minimize_scalar(
        lambda log_t: nll_nats(d_N, size * math.exp(log_t)), bounds=(-math.log(1e3), math.log(1e3)), method="bounded"
    )
    return size * math.exp(found.x)


def reliability(differences: np.ndarray, temperature: float) -> tuple[float, list[dict[str, Any]]]:
    """(ECE, curve). Confidence = sigmoid(|d| / T), in [0.5, 1]; it should be the share of pairs in the right order.

    The curve has equal-width bins that hold a pair: mean confidence, accuracy with Wilson's interval. ECE = sum_b n_b/N |acc_b - conf_b|
    (Guo et al. 2017, arXiv:1706.04599)."""
    d_N = np.asarray(differences, float)
    right_N = is_right(d_N)
    confidence_N = 1 / (1 + np.exp(-np.abs(d_N) / temperature))
    bin_N = np.minimum(((confidence_N - 0.5) * 2 * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    curve, ece = [], 0.0
    for b in np.unique(bin_N):
        here = bin_N == b
        estimate, confidence = wilson(float(right_N[here].sum()), int(here.sum())), float(confidence_N[here].mean())
        ece += here.mean() * abs(estimate.value - confidence)
        curve.append({"confidence": confidence, "accuracy": _plain(estimate)})
    return float(ece), curve


def calibration(differences: np.ndarray, clusters: Sequence[str]) -> dict[str, Any]:
    """NLL and ECE as the scores are, and after a fitted temperature.

    The temperature of the record is fitted on all pairs; NLL and ECE after it are honest: each half of the prompts is judged
    with the temperature of the other half."""
    d_N = np.asarray(differences, float)
    order = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    half_N = np.array([order[cluster] % 2 for cluster in clusters])
    scaled_N = d_N.copy()
    if 0 < half_N.sum() < len(half_N):
        for half in (0, 1):
            scaled_N[half_N == half] /= fit_temperature(d_N[half_N != half])
    temperature = fit_temperature(d_N)
    ece_raw, _ = reliability(d_N, 1.0)
    ece_scaled, _ = reliability(scaled_N, 1.0)
    return {
        "temperature": temperature,
        "nll_nats": nll_nats(d_N),
        "nll_nats_at_temperature": nll_nats(scaled_N),
        "ece": ece_raw,
        "ece_at_temperature": ece_scaled,
        "curve_at_temperature": reliability(d_N, temperature)[1],
    }


# --- length ------------------------------------------------------------------------------------------------------------------


def length_words(answers: Sequence[str]) -> np.ndarray:
    """Words (what white space parts) of each answer, (N,)."""
    return np.array([len(answer.split()) for answer in answers])


def length_report(
    differences: np.ndarray,
    length_differences: np.ndarray,
    clusters: Sequence[str],
    rewards: np.ndarray,
    lengths: np.ndarray,
) -> dict[str, Any]:
    """What length does to scores and labels. `length_differences` are words(chosen) - words(rejected), `rewards` and `lengths` of
    all 2N answers.

    chosen_is_longer: how often the labels prefer the longer answer; prefers_longer: how often the model does; both over the pairs of
    unequal length, and their difference. Then accuracy where the shorter answer is right and where the longer is."""
    d_N, long_N, right_N = np.asarray(differences, float), np.asarray(length_differences, float), is_right(differences)
    groups = [None if gap == 0 else "longer is right" if gap > 0 else "shorter is right" for gap in long_N]
    report: dict[str, Any] = {
        "correlation_reward_length": _correlation(rewards, lengths),
        "correlation_difference_length_difference": _correlation(d_N, long_N),
        "accuracy": accuracy_by(right_N, groups, clusters),
    }
    unequal = np.flatnonzero(long_N)
    if len(unequal):
        names = [clusters[i] for i in unequal]
        labels = (long_N[unequal] > 0).astype(float)
        model = is_right(d_N[unequal] * np.sign(long_N[unequal]))
        report["chosen_is_longer"] = _plain(accuracy(labels, names))
        report["prefers_longer"] = _plain(accuracy(model, names))
        report["model_minus_labels"] = _plain(paired_difference(model, labels, clusters=names))
    return report


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rank correlation; None where one of the two never varies."""
    from scipy.stats import spearmanr

    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)


def length_effect(
    reward_differences: np.ndarray,
    gold_differences: np.ndarray,
    length_differences: np.ndarray,
    clusters: Sequence[str],
) -> Estimate:
    """What LENGTH_UNIT_WORDS more words add to the log-odds of winning at equal gold score: b in the least-squares fit

        d_reward = a d_gold + b d_words / LENGTH_UNIT_WORDS

    (no intercept: the order within a pair is arbitrary), with its interval over prompts; `reward_differences` are raw scores'. Where
    the reward is not linear in gold and gold goes with length, some of that curvature is counted as length.

    Raises ValueError for fewer than LEAST_PROMPTS prompts, and if lengths differ only together with gold or not at all: then the two
    effects cannot be told apart."""
    if len(set(clusters)) < LEAST_PROMPTS:
        raise ValueError(
            f"{len(set(clusters))} prompts are too few to tell the effect of length; it takes {LEAST_PROMPTS}"
        )
    y, g, x = (np.asarray(values, float) for values in (reward_differences, gold_differences, length_differences))
    x = x / LENGTH_UNIT_WORDS

    def slope(sums_RK: np.ndarray) -> np.ndarray:
        gg, gx, xx, gy, xy = sums_RK.T
        scale = np.where(gg > 0, gg, 1.0)
        return (xy - gx * gy / scale) / (xx - gx * gx / scale)

    total = np.stack([g * g, g * x, x * x, g * y, x * y], axis=1)
    gg, gx, xx, _, _ = total.sum(0)
    if xx == 0 or (gg > 0 and xx - gx * gx / gg < 1e-9 * xx):
        raise ValueError(
            "answers differ in length only together with their gold score; the effect of length cannot be told apart"
        )
    return interval(total, slope, clusters=clusters)


# --- on samples of the policy ------------------------------------------------------------------------------------------------


def best_of_n_curve(proxy_PK: Sequence[Sequence[float]], gold_PK: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """Gold score of best-of-n by the proxy for n = 1, 2, 4, ..., K, beside the ceiling, best-of-n by gold; intervals over prompts."""
    k = len(proxy_PK[0])
    sizes = sorted({*(2**i for i in range(k.bit_length()) if 2**i <= k), k})
    return [
        {
            "n": n,
            "gold_by_proxy": _plain(mean_interval(expected_best(proxy_PK, gold_PK, n))),
            "gold_by_gold": _plain(mean_interval(expected_best(gold_PK, gold_PK, n))),
        }
        for n in sizes
    ]


def on_policy_report(
    proxy_PK: Sequence[Sequence[float]],
    gold_PK: Sequence[Sequence[float]],
    answers_PK: Sequence[Sequence[str]],
    *,
    raw_std: float = 1.0,
) -> dict[str, Any]:
    """On the policy's own answers: does the model order two answers to one prompt as gold does, how does best-of-n by it climb in gold,
    and what does it pay for length at equal gold. `length_effect` is None where it cannot be told apart from gold."""
    d_proxy, d_gold, d_words, clusters = [], [], [], []
    for prompt, (proxy, gold, answers) in enumerate(zip(proxy_PK, gold_PK, answers_PK, strict=True)):
        words = length_words(answers)
        for i, j in itertools.combinations(range(len(proxy)), 2):
            d_proxy.append(proxy[i] - proxy[j])
            d_gold.append(gold[i] - gold[j])
            d_words.append(words[i] - words[j])
            clusters.append(str(prompt))
    d_proxy, d_gold, d_words = map(np.asarray, (d_proxy, d_gold, d_words))
    ordered = np.flatnonzero(d_gold)
    report: dict[str, Any] = {
        "prompts": len(proxy_PK),
        "answers": sum(map(len, proxy_PK)),
        "pairs_with_unequal_gold": len(ordered),
    }
    if len(ordered):
        agreement = is_right(d_proxy[ordered] * np.sign(d_gold[ordered]))
        report["agreement"] = _plain(accuracy(agreement, [clusters[i] for i in ordered]))
    try:
        report["length_effect"] = _plain(length_effect(d_proxy * raw_std, d_gold, d_words, clusters))
    except ValueError:
        report["length_effect"] = None
    report["best_of_n"] = best_of_n_curve(proxy_PK, gold_PK)
    return report


# --- several seeds -----------------------------------------------------------------------------------------------------------


def ensemble_report(differences_MN: Sequence[Sequence[float]], clusters: Sequence[str]) -> dict[str, Any]:
    """M seeds on the same pairs: each one's accuracy, that of their mean, how often two of them order a pair differently, and whether
    they disagree more (standard deviation of d) on the pairs that their mean gets wrong."""
    d_MN = np.asarray(differences_MN, float)
    mean_right_N = is_right(d_MN.mean(0))
    spread_N = d_MN.std(0, ddof=1)
    disagree = [float((np.sign(a) != np.sign(b)).mean()) for a, b in itertools.combinations(d_MN, 2)]
    wrong = mean_right_N < 1
    return {
        "members": [_plain(accuracy(is_right(d_N), clusters)) for d_N in d_MN],
        "mean": _plain(accuracy(mean_right_N, clusters)),
        "order_disagreement": float(np.mean(disagree)),
        "spread_where_right": float(spread_N[~wrong].mean()) if (~wrong).any() else None,
        "spread_where_wrong": float(spread_N[wrong].mean()) if wrong.any() else None,
    }


# --- all together ------------------------------------------------------------------------------------------------------------


def check_prompts(heldout: Sequence[Preference]) -> list[str]:
    """The prompt of each held-out pair, as one key. Raises ValueError for fewer than two prompts: they give no interval."""
    keys = [prompt_key(pair["prompt"]) for pair in heldout]
    if len(set(keys)) < 2:
        raise ValueError(
            f"{len(heldout)} held-out pairs on {len(set(keys))} prompt give no interval; hold out more prompts"
        )
    return keys


def measure(
    chosen_scores: Sequence[float],
    rejected_scores: Sequence[float],
    heldout: Sequence[Preference],
    train: Sequence[Preference],
    *,
    raw_std: float = 1.0,
) -> dict[str, Any]:
    """Everything that held-out pairs and their scores tell, as plain JSON.

    raw_std: scores times this are the log-odds that training fitted (`RewardModel.std`);
    calibration is of those. Raises ValueError for scores that are not finite, and for pairs of a single prompt: no interval."""
    chosen_N, rejected_N = np.asarray(chosen_scores, float), np.asarray(rejected_scores, float)
    d_N = chosen_N - rejected_N
    right_N = is_right(d_N)
    clusters = check_prompts(heldout)
    words_chosen, words_rejected = (length_words([pair[side] for pair in heldout]) for side in ("chosen", "rejected"))
    gap_N = words_chosen - words_rejected
    baselines = {"longer wins": is_right(gap_N), "random": np.full(len(d_N), 0.5)}
    if train:
        baselines["bag of words"] = is_right(bag_of_words_differences(train, heldout))
    return {
        "pairs": len(d_N),
        "prompts": len(set(clusters)),
        "ties": int((d_N == 0).sum()),
        "accuracy": _plain(accuracy(right_N, clusters)),
        "by_margin": accuracy_by(right_N, margin_groups([pair.get("margin") for pair in heldout]), clusters),
        "by_kind": accuracy_by(right_N, [pair.get("kind") for pair in heldout], clusters),
        "baselines": {name: against(right_N, baseline, clusters) for name, baseline in baselines.items()},
        "calibration": calibration(d_N * raw_std, clusters),
        "length": length_report(
            d_N,
            gap_N,
            clusters,
            np.concatenate([chosen_N, rejected_N]),
            np.concatenate([words_chosen, words_rejected]),
        ),
    }
