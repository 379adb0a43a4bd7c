import itertools
import math

import numpy as np
import pytest

from alignment.best_of_n import choose, curve, expected_best, kl_bound_nats, weights


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_estimator_is_the_mean_over_all_subsets(n):
    random = np.random.default_rng(0)
    proxy, score = random.normal(size=(3, 5)), random.normal(size=(3, 5))
    for row in range(3):
        subsets = itertools.combinations(range(5), n)
        brute = np.mean([score[row, max(subset, key=lambda i: proxy[row, i])] for subset in subsets])
        assert expected_best(proxy, score, n)[row] == pytest.approx(brute, abs=1e-12)


def test_with_ties_the_kept_one_is_drawn_evenly_among_the_best():
    proxy, score = np.array([[1.0, 1.0, 0.0]]), np.array([[4.0, 2.0, 100.0]])
    # pairs: (1,2) tie -> 3; (1,3) -> 4; (2,3) -> 2; mean 3
    assert expected_best(proxy, score, 2)[0] == pytest.approx(3.0)


def test_it_is_unbiased_for_the_maximum_of_uniforms():
    """E[max of n uniforms] = n/(n+1); 20,000 prompts of 8 samples: standard error about 0.001, tolerance 4 of those."""
    proxy = np.random.default_rng(1).uniform(size=(20_000, 8))
    for n in (1, 2, 4, 8):
        assert expected_best(proxy, proxy, n).mean() == pytest.approx(n / (n + 1), abs=0.005)


def test_weights_sum_to_one_and_best_of_all_takes_the_top():
    assert weights(6, 3).sum() == pytest.approx(1)
    assert weights(4, 4).tolist() == [0, 0, 0, 1]
    with pytest.raises(ValueError, match="best of 5 needs n between 1 and the number of samples, 4"):
        weights(4, 5)


def test_the_kl_of_best_of_n_among_distinct_answers_is_under_the_bound():
    """Exact KL by enumeration: m equally likely answers; P(best is of rank i) = (i/m)^n - ((i-1)/m)^n."""
    for m, n in [(4, 2), (10, 4), (1000, 8)]:
        p = np.array([(i / m) ** n - ((i - 1) / m) ** n for i in range(1, m + 1)])
        exact = float(np.sum(p * np.log(p * m)))
        assert exact <= kl_bound_nats(n) + 1e-12
    assert exact == pytest.approx(kl_bound_nats(8), abs=0.01), "with many answers the bound is nearly reached"


def test_the_bound_is_the_formula():
    assert kl_bound_nats(1) == 0
    assert kl_bound_nats(4) == pytest.approx(math.log(4) - 0.75)
    with pytest.raises(ValueError, match="n is 0"):
        kl_bound_nats(0)


def test_the_curve_has_powers_of_two_and_rising_proxy():
    proxy = np.random.default_rng(2).normal(size=(50, 8))
    rows = curve(proxy, -proxy)
    assert [row["n"] for row in rows] == [1, 2, 4, 8]
    values = [row["proxy"].value for row in rows]
    assert values == sorted(values)
    assert all(row["score"].value == pytest.approx(-row["proxy"].value) for row in rows)
    assert all(row["proxy"].low <= row["proxy"].value <= row["proxy"].high for row in rows)


def test_choose_keeps_the_best_of_each_prompt_and_passes_its_columns():
    def score(prompts, completions, *, want, **columns):
        return [float(c == w) for c, w in zip(completions, want, strict=True)]

    kept, scores = choose(["p", "q"], [["a", "b"], ["c", "d"]], score, {"want": ["b", "c"]})
    assert kept == ["b", "c"]
    assert scores.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ValueError, match="the same number of samples"):
        choose(["p", "q"], [["a"], ["c", "d"]], score)


def test_bad_scores_are_refused():
    with pytest.raises(ValueError, match="finite scores"):
        expected_best(np.array([[np.nan, 1.0]]), np.zeros((1, 2)), 1)
    with pytest.raises(ValueError, match=r"both be \(prompts, samples\)"):
        expected_best(np.zeros((1, 2)), np.zeros((2, 1)), 1)
