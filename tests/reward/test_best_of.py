import itertools

import numpy as np
import pytest

from reward.best_of import expected_best, weights


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


def test_bad_scores_are_refused():
    with pytest.raises(ValueError, match="finite scores"):
        expected_best(np.array([[np.nan, 1.0]]), np.zeros((1, 2)), 1)
    with pytest.raises(ValueError, match=r"both be \(prompts, samples\)"):
        expected_best(np.zeros((1, 2)), np.zeros((2, 1)), 1)
