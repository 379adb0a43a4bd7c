import math

import numpy as np
import pytest

from alignment.best_of_n import choose, curve, kl_bound_nats


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
