"""Expected numbers come from scipy, statsmodels, exact enumeration, sacrebleu, or by hand (working shown)."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval import statistics as s
from eval.results import AGGREGATES

SIMULATIONS = 2000  # a 95 % interval's coverage then has a standard error of 0.5 %


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (57, 200), (4999, 5000)])
def test_wilson_interval_equals_scipy(successes, n):
    from scipy.stats import binomtest

    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    ours = s.wilson(successes, n)
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_takes_the_fractions_that_ties_give_and_refuses_impossible_counts():
    assert s.wilson(2.5, 10).value == 0.25
    with pytest.raises(ValueError, match="successes=11, n=10"):
        s.wilson(11, 10)


@given(st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_mcnemar_equals_scipys_exact_binomial_test(wins, losses):
    from scipy.stats import binomtest

    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert s.mcnemar_exact(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_with_thousands_of_items_stays_finite_and_equals_statsmodels():
    from statsmodels.stats.contingency_tables import mcnemar

    expected = mcnemar([[50, 1210], [1100, 70]], exact=True).pvalue
    assert s.mcnemar_exact(1210, 1100) == pytest.approx(expected, rel=1e-9)


def test_sign_flip_equals_exact_enumeration_on_eight_items():
    differences = [0.3, -0.1, 0.25, 0.4, -0.2, 0.05, 0.6, 0.1]
    patterns = list(itertools.product([-1, 1], repeat=8))
    as_extreme = sum(abs(np.dot(p, differences)) >= abs(sum(differences)) - 1e-12 for p in patterns)
    assert s.sign_flip(differences) == as_extreme / 256


def test_sign_flip_by_sampling_agrees_with_scipys_permutation_test():
    from scipy.stats import permutation_test

    differences = np.random.default_rng(3).normal(0.25, 1, 60)
    expected = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=1).pvalue
    # two Monte Carlo estimates of p near 0.05, each with standard error about 0.002
    assert s.sign_flip(differences) == pytest.approx(expected, abs=0.01)


def test_clusters_are_flipped_whole():
    # Two clusters of four equal items: 4 patterns, of which |sum| >= 8 for ++ and --. As 8 free items p would be 2/256.
    assert s.sign_flip([1.0] * 8, clusters=["x"] * 4 + ["y"] * 4) == 0.5
    assert s.sign_flip([1.0] * 8) == 2 / 256


def test_permutation_p_is_never_zero():
    assert s.sign_flip(np.ones(500)) == 1 / (1 + s.PERMUTATIONS)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_holm_equals_statsmodels(p_values):
    from statsmodels.stats.multitest import multipletests

    assert s.holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_paired_binary_difference_by_hand():
    # n = 10, wins 3, losses 1. Bonett-Price: p+ = 4/12, p- = 2/12, centre 2/12,
    # error = sqrt((6/12 - (2/12)^2) / 12) = 0.198373, half = 1.959964 * 0.198373 = 0.388803.
    a = [1, 1, 1, 0, 1, 1, 0, 0, 1, 0]
    b = [0, 0, 0, 1, 1, 1, 0, 0, 1, 0]
    d = s.paired_difference(a, b)
    assert (d.mean, d.wins, d.losses, d.ties, d.test) == (0.2, 3, 1, 6, "mcnemar_exact")
    assert (d.low, d.high) == pytest.approx((1 / 6 - 0.388803, 1 / 6 + 0.388803), abs=1e-5)
    assert d.p == 0.625  # 2 * (C(4,0) + C(4,1)) / 16


def test_two_models_that_agree_on_every_item_still_get_an_interval_and_a_smallest_detectable_difference():
    d = s.paired_difference([1, 0, 1, 1] * 25, [1, 0, 1, 1] * 25)
    assert d.mean == 0 and d.p == 1 and d.low < 0 < d.high and d.smallest_detectable > 0.02


def test_paired_difference_of_ratios_equals_the_difference_of_the_two_ratios():
    rng = np.random.default_rng(0)
    bits_a, bits_b, size = rng.uniform(100, 200, 40), rng.uniform(90, 180, 40), rng.integers(50, 90, 40)
    d = s.paired_difference(bits_a, bits_b, weights=size)
    assert d.mean == pytest.approx(bits_a.sum() / size.sum() - bits_b.sum() / size.sum())
    assert d.low < d.mean < d.high


def test_interval_of_a_mean_agrees_with_scipys_bootstrap_on_a_large_sample():
    from scipy.stats import bootstrap

    values = np.random.default_rng(5).exponential(size=400)
    theirs = bootstrap((values,), np.mean, n_resamples=9000, method="BCa", rng=1).confidence_interval
    ours = s.mean_interval(values)
    # Interval of width 0.2; BCa corrects for skewness too; each of its bounds has a Monte Carlo error of about 0.002.
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.008)
    assert ours.value == pytest.approx(values.mean())


def test_clustered_standard_error_equals_statsmodels():
    import statsmodels.api as sm

    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(30), 5)
    values = rng.normal(size=30)[groups] + rng.normal(size=150)
    fit = sm.OLS(values, np.ones(150)).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "df_correction": False, "use_correction": False}
    )
    # ours has the U/(U-1) correction of a sample of clusters
    assert s.standard_error(values, clusters=groups) == pytest.approx(fit.bse[0] * math.sqrt(30 / 29), rel=1e-9)
    assert s.standard_error(values) == pytest.approx(values.std(ddof=1) / math.sqrt(150), rel=1e-9)


def _coverage(interval, draw, truth):
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(SIMULATIONS):
        estimate = interval(draw(rng))
        hits += estimate.low <= truth <= estimate.high
    return hits / SIMULATIONS


def test_coverage_of_the_95_percent_intervals_is_right():
    cases = {
        "wilson": (lambda x: s.wilson(x.sum(), 80), lambda r: r.random(80) < 0.3, 0.3),
        "mean of 25": (s.mean_interval, lambda r: r.normal(size=25), 0.0),
        "mean of 100": (s.mean_interval, lambda r: r.uniform(size=100), 0.5),
        "ratio": (
            lambda x: s.ratio_interval(*x),
            lambda r: (lambda size: (size * r.normal(2, 0.5, 60), size))(r.integers(20, 80, 60).astype(float)),
            2.0,
        ),
        "clusters": (
            lambda x: s.mean_interval(x, clusters=np.repeat(np.arange(40), 4)),
            lambda r: np.repeat(r.normal(size=40), 4) + r.normal(size=160),
            0.0,
        ),
    }
    for name, case in cases.items():
        assert 0.93 <= _coverage(*case) <= 0.97, name


def test_coverage_of_the_paired_interval_and_size_of_the_paired_test_are_right():
    rng = np.random.default_rng(4)
    hits = rejected = 0
    for _ in range(SIMULATIONS):
        shared = rng.random(120)
        a, b = rng.random(120) < shared, rng.random(120) < shared
        d = s.paired_difference(a, b)
        hits += d.low <= 0 <= d.high
        rejected += d.p < 0.05
    assert 0.93 <= hits / SIMULATIONS <= 0.97
    assert rejected / SIMULATIONS <= 0.06  # McNemar's exact test is conservative


def test_ignoring_clusters_would_cover_far_too_little():
    cluster_blind = _coverage(
        s.mean_interval, lambda r: np.repeat(r.normal(size=40), 4) + 0.5 * r.normal(size=160), 0.0
    )
    assert cluster_blind < 0.8


def test_smallest_detectable_difference_is_found_four_times_in_five():
    n, rng = 100, np.random.default_rng(8)
    effect = s.smallest_detectable(1 / math.sqrt(n))
    found = sum(abs(x) > 1.959964 / math.sqrt(n) for x in rng.normal(effect, 1 / math.sqrt(n), 4000))
    assert found / 4000 == pytest.approx(0.8, abs=0.02)


def test_approximate_randomisation_of_a_mean_is_the_sign_flip_test():
    rng = np.random.default_rng(6)
    a, b = rng.random(10), rng.random(10)
    stats = [np.stack([x, np.ones(10)], axis=1) for x in (a, b)]
    d = s.paired_statistic(*stats, s.ratio)
    assert d.mean == pytest.approx(a.mean() - b.mean())
    assert d.p == s.sign_flip(a - b)


def test_bleu_p_value_agrees_with_sacrebleus_approximate_randomisation():
    from sacrebleu.metrics import BLEU
    from sacrebleu.significance import PairedTest

    rng = np.random.default_rng(1)
    words = ["the", "a", "dog", "cat", "ran", "sat", "on", "mat", "red", "big", "house", "tree", "to", "in", "and"]
    references = [" ".join(rng.choice(words, 12)) for _ in range(60)]

    def noisy(rate):
        return [" ".join(w if rng.random() > rate else rng.choice(words) for w in r.split()) for r in references]

    first, second = noisy(0.30), noisy(0.37)
    theirs = PairedTest(
        [("b", second), ("a", first)], {"BLEU": BLEU(references=[references])}, None, "ar", n_samples=10_000
    )()[1]["BLEU"][1]
    bleu = BLEU()

    def stats(texts):
        return np.array(bleu._extract_corpus_statistics(texts, [references]), dtype=float)

    def corpus(sums):
        return np.array([bleu._compute_score_from_stats([int(v) for v in row]).score for row in np.rint(sums)])

    d = s.paired_statistic(stats(first), stats(second), corpus, permutations=4000)
    assert d.p == pytest.approx(theirs.p_value, abs=0.03)  # Monte Carlo: 4,000 and 10,000 draws


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_non_finite_score_is_refused_with_its_place(bad):
    with pytest.raises(ValueError, match=r"non-finite score \(.*\) at item 1"):
        s.mean_interval([0.5, bad, 0.25])


def test_unpaired_lengths_and_missing_clusters_are_refused():
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        s.paired_difference([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="2 clusters for 3 items"):
        s.mean_interval([1, 2, 3], clusters=["a", "b"])
    with pytest.raises(ValueError, match="no items"):
        s.mean_interval([])


def test_one_item_gives_a_value_and_no_interval():
    estimate = s.mean_interval([0.25])
    assert estimate.value == 0.25 and math.isnan(estimate.low) and math.isnan(estimate.high)


def test_same_scores_give_the_same_interval_each_time_and_blocks_do_not_change_the_value():
    values = np.random.default_rng(0).random(5000)
    assert s.mean_interval(values) == s.mean_interval(values)
    assert s.mean_interval(values).value == pytest.approx(values.mean())


# ---- the edges


def test_what_overflows_has_no_interval_no_p_and_no_order():
    """Perplexity of 900 to 1,600 nats a word is above the largest float."""
    w, a, b = np.ones(30), -np.linspace(900, 1500, 30), -np.linspace(950, 1600, 30)
    both = [np.stack([x, w], axis=1) for x in (a, b)]
    for first, second in ((both[0], both[1]), (both[0], both[0] / 1e3), (both[0] / 1e3, both[1])):
        d = s.paired_statistic(first, second, AGGREGATES["perplexity"])
        assert all(math.isnan(x) for x in (d.mean, d.low, d.high, d.p, d.smallest_detectable)) and d.warning
    assert (d.wins, d.losses, d.ties) == (0, 0, 30)
    e = s.interval(both[0], AGGREGATES["perplexity"])
    assert math.isnan(e.value) and math.isnan(e.low) and e.warning == "not a finite number"


def test_a_perplexity_that_overflows_without_one_item_has_no_interval():
    # 14 texts of one word and one of ten, 769 nats each: 481 nats a word; without the last 769, and exp(769) is above the largest float
    d = s.interval(np.array([[-769.0, 1.0]] * 14 + [[-769.0, 10.0]]), AGGREGATES["perplexity"])
    assert math.isfinite(d.value) and math.isnan(d.low) and d.warning.startswith("not a finite number without")


def test_nothing_to_divide_by_is_no_number():
    nothing, something = np.zeros((12, 2)), np.stack([np.zeros(12), np.arange(12.0)], axis=1)
    assert math.isnan(s.paired_statistic(nothing, something, s.ratio).p)
    d = s.paired_difference(np.arange(12.0), np.zeros(12), weights=np.zeros(12))
    assert math.isnan(d.mean) and math.isnan(d.p)


@given(st.lists(st.floats(0, 1) | st.just(math.nan), max_size=12))
@settings(max_examples=60, deadline=None)
def test_holm_leaves_out_what_is_no_test(p_values):
    tested = [p for p in p_values if not math.isnan(p)]
    adjusted = s.holm(p_values)
    assert [p for p in adjusted if not math.isnan(p)] == s.holm(tested) and len(adjusted) == len(p_values)
    assert all(math.isnan(q) == math.isnan(p) for p, q in zip(p_values, adjusted, strict=True))


def test_scores_that_all_agree_have_wilsons_interval_and_not_a_point():
    from statsmodels.stats.proportion import proportion_confint

    for right, n in ((6, 6), (0, 23)):
        values = [1.0] * right + [0.0] * (n - right)
        ours = s.mean_interval(values)
        assert (ours.low, ours.high) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)
    assert s.mean_interval([1.0] * 6).low == pytest.approx(0.61, abs=0.005)
    grouped = s.mean_interval([1.0] * 60, clusters=np.repeat(np.arange(12), 5))
    assert grouped.low < proportion_confint(12, 12, method="wilson")[0] + 1e-9  # no better than one item a cluster
    constant = s.mean_interval([64.0] * 40)  # nothing says how far another could lie
    assert math.isnan(constant.low) and constant.warning == "all items agree"


def test_an_interval_of_clusters_uses_students_quantile_and_the_clustered_error():
    """Kish's design effect by hand: 8 clusters of 4 answers, alike within; as good as 8 items."""
    right = np.repeat([1, 1, 1, 0, 1, 0, 1, 1], 4).astype(float)
    from scipy.stats import t

    z, n, p = t.ppf(0.975, 7), 8, 0.75
    centre, half = (
        (p + z * z / 2 / n) / (1 + z * z / n),
        z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + (z / 2 / n) ** 2),
    )
    found = s.mean_interval(right, clusters=np.repeat(np.arange(8), 4))
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half), abs=1e-12)


def test_a_symmetric_samples_interval_is_students():
    from scipy.stats import t

    values = np.concatenate([x := np.random.default_rng(0).normal(size=15), -x]) + 5
    low, high = t.interval(0.95, 29, values.mean(), values.std(ddof=1) / math.sqrt(30))
    assert (s.mean_interval(values).low, s.mean_interval(values).high) == pytest.approx((low, high), rel=1e-6)


def test_halls_bounds_and_p_agree():
    """The bound is the mean that is rejected at just 0.05: g(t) = Student's quantile, by scipy's root finder."""
    from scipy.optimize import brentq
    from scipy.stats import skew, t

    x = np.random.default_rng(4).exponential(size=25) * 10
    n, error, b = 25, x.std(ddof=1) / 5, skew(x) / 5
    g = lambda m: (r := (x.mean() - m) / error) + b * r**2 / 3 + b**2 * r**3 / 27 + b / 6  # noqa: E731
    found = s.mean_interval(x)
    assert found.high == pytest.approx(brentq(lambda m: g(m) + t.ppf(0.975, n - 1), x.mean(), 100), rel=1e-6)
    assert s.paired_difference(x, np.full(n, found.high)).p >= 0.05 - 1e-9
    assert found.high > t.interval(0.95, n - 1, x.mean(), error)[1] + error / 3  # what Student's misses


@pytest.mark.parametrize(("n", "wins", "losses", "alpha"), [(20, 3, 3, 0.05), (50, 8, 7, 0.05), (60, 10, 8, 0.001)])
def test_binary_differences_as_large_as_the_smallest_detectable_are_found_four_times_in_five(n, wins, losses, alpha):
    a = [1] * wins + [0] * losses + [1] * (n - wins - losses)
    b = [0] * wins + [1] * losses + [1] * (n - wins - losses)
    effect = s.paired_difference(a, b).detectable_at(alpha)
    differ = max((wins + losses + 2) / (n + 2), effect)
    counts = np.random.default_rng(0).multinomial(n, [(differ + effect) / 2, (differ - effect) / 2, 1 - differ], 4000)
    found = np.mean([s.mcnemar_exact(int(w), int(v)) < alpha for w, v, _ in counts])
    assert found == pytest.approx(0.8, abs=0.025)  # 0.006 of simulation, and steps of a discrete test


def test_power_of_a_t_test_at_the_smallest_detectable_difference_equals_statsmodels():
    from statsmodels.stats.power import TTestPower

    for n, alpha in ((10, 0.05), (20, 0.05), (20, 0.05 / 88), (200, 0.01)):
        power = TTestPower().power(s.smallest_detectable(1 / math.sqrt(n), alpha=alpha, dof=n - 1), n, alpha)
        assert power == pytest.approx(0.8, abs=0.035), (n, alpha)  # the sum of two quantiles is no exact power


def test_nothing_is_detectable_where_even_agreement_of_all_would_not_be():
    assert math.isnan(s.paired_difference([1.0] * 5, [0.5] * 5).smallest_detectable)  # 2 / 2^5 = 0.06
    assert math.isnan(s.paired_difference([1] * 5, [0] * 5).smallest_detectable)


def test_few_clusters_few_that_differ_and_skewness_are_warned_of():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(5), 8)
    assert s.paired_difference(rng.normal(size=40), np.zeros(40), clusters=groups).warning == "too few clusters (5)"
    assert s.mean_interval(rng.random(40), clusters=groups).warning == "too few clusters (5)"
    d = s.paired_difference([0.5] * 60, [0.5] * 57 + [0.2, 0.1, 0.9])
    assert d.warning == "only 3 items differ from the rest"
    assert s.paired_difference(np.exp(np.linspace(-2, 2.5, 20)), np.zeros(20)).warning == "too skewed for 20 items"
    assert s.paired_difference(rng.normal(size=20), np.zeros(20)).warning == ""
    six = np.repeat(np.arange(6), 5)
    assert s.paired_difference(np.repeat(np.arange(6.0), 5), np.full(30, 2.5), clusters=six).warning == ""


@pytest.mark.parametrize("name", ["lognormal", "pareto"])
def test_skewed_differences_are_not_called_significant_too_often(name):
    """Sign flips alone reject 0.13 and 0.18 at n = 20."""
    rng, rejected, alone = np.random.default_rng(2), 0, 0
    for _ in range(600):
        x = rng.lognormal(size=20) - math.exp(0.5) if name == "lognormal" else rng.pareto(2.1, 20) - 1 / 1.1
        d = s.paired_difference(x, np.zeros(20))
        rejected += d.p < 0.05 and not d.warning
        alone += s.sign_flip(x, permutations=2000) < 0.05
    assert rejected / 600 <= 0.06 + 0.018  # two standard errors
    assert alone / 600 > 0.1
