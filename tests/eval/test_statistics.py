"""Expected numbers come from scipy, statsmodels, exact enumeration, sacrebleu, or by hand (working shown)."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval import statistics as s

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


@pytest.mark.parametrize("cached", [0, 10**9])
def test_resamples_drawn_in_blocks_are_those_drawn_at_once(monkeypatch, cached):
    values_NK, drawn = (
        np.random.default_rng(3).normal(size=(30, 2)),
        np.random.default_rng(7).integers(30, size=(50, 30)),
    )
    monkeypatch.setattr(s, "BLOCK", 100)  # 3 rows of 30
    monkeypatch.setattr(s, "CACHED", cached)
    s.resample_counts.cache_clear()
    np.testing.assert_allclose(s._resampled_sums(values_NK, 50, 7), values_NK[drawn].sum(1), rtol=0, atol=1e-12)


def test_bootstrap_interval_agrees_with_scipys_percentiles_on_a_large_sample():
    from scipy.stats import bootstrap

    values = np.random.default_rng(5).exponential(size=400)
    theirs = bootstrap((values,), np.mean, n_resamples=9000, method="percentile", rng=1).confidence_interval
    ours = s.bootstrap_mean(values)
    # Interval of width 0.2; each bound has a Monte Carlo error of about 0.002.
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
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


def test_student_quantiles_equal_scipys():
    from scipy.stats import t

    for dof in (1, 2):
        assert s.student_t_quantile(0.975, dof) == pytest.approx(t.ppf(0.975, dof), rel=1e-9)
    assert s.student_t_quantile(0.975, 3) == pytest.approx(t.ppf(0.975, 3), rel=0.01)
    for dof in (10, 30, 200):
        assert s.student_t_quantile(0.975, dof) == pytest.approx(t.ppf(0.975, dof), rel=1e-4)


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
        "mean of 25": (s.bootstrap_mean, lambda r: r.normal(size=25), 0.0),
        "mean of 100": (s.bootstrap_mean, lambda r: r.uniform(size=100), 0.5),
        "ratio": (
            lambda x: s.ratio_bootstrap(*x),
            lambda r: (lambda size: (size * r.normal(2, 0.5, 60), size))(r.integers(20, 80, 60).astype(float)),
            2.0,
        ),
        "clusters": (
            lambda x: s.bootstrap_mean(x, clusters=np.repeat(np.arange(40), 4)),
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
        s.bootstrap_mean, lambda r: np.repeat(r.normal(size=40), 4) + 0.5 * r.normal(size=160), 0.0
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
        s.bootstrap_mean([0.5, bad, 0.25])


def test_unpaired_lengths_and_missing_clusters_are_refused():
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        s.paired_difference([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="2 clusters for 3 items"):
        s.bootstrap_mean([1, 2, 3], clusters=["a", "b"])
    with pytest.raises(ValueError, match="no items"):
        s.bootstrap_mean([])


def test_one_item_gives_a_value_and_no_interval():
    estimate = s.bootstrap_mean([0.25])
    assert estimate.value == 0.25 and math.isnan(estimate.low) and math.isnan(estimate.high)


def test_same_scores_give_the_same_interval_each_time_and_blocks_do_not_change_the_value():
    values = np.random.default_rng(0).random(5000)
    assert s.bootstrap_mean(values) == s.bootstrap_mean(values)
    assert s.bootstrap_mean(values).value == pytest.approx(values.mean())
