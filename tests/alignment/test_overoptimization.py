import math
from itertools import product

import numpy as np
import pytest
import torch

from alignment.overoptimization import (
    Measured,
    best_of_n_points,
    exact_best_of_n,
    exact_tilt,
    figure_svg,
    measure,
    over_seeds,
    table,
    turnover,
)
from alignment.toy import answer_logprobs, make_model, make_toy
from tests.conftest import random_model


def flat(kl, proxy, gold, prompts=20, spread=0.01):
    noise = np.random.default_rng(0).normal(size=prompts) * spread
    return Measured([kl] * prompts, (proxy + noise).tolist(), (gold + noise).tolist())


def test_a_point_is_the_mean_over_seeds_and_prompts():
    point = over_seeds("ppo", "beta 0.1", [Measured([1, 3], [0, 2], [1, 1]), Measured([2, 2], [4, 2], [0, 2])])
    assert (point.kl_nats, point.proxy.value, point.gold.value, point.seeds) == (2, 2, 1, 2)
    with pytest.raises(ValueError, match="no run to summarise"):
        over_seeds("ppo", "beta 0.1", [])


def test_seeds_of_one_prompt_are_one_unit_of_the_interval():
    """Three identical seeds say no more than one: the interval must not shrink by sqrt(3)."""
    run = Measured([1.0] * 30, np.random.default_rng(1).normal(size=30).tolist(), [0.0] * 30)
    one, three = over_seeds("a", "b", [run]).proxy, over_seeds("a", "b", [run] * 3).proxy
    assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.02)


def test_best_of_n_stands_at_its_bound_and_says_so():
    points = best_of_n_points(np.array([[0.0, 1.0, 2.0, 3.0]] * 5), np.zeros((5, 4)))
    assert [point.setting for point in points] == ["n 1", "n 2", "n 4"]
    assert points[2].kl_nats == pytest.approx(math.log(4) - 0.75) and all(point.kl_is_bound for point in points)
    assert "<= 0.64" in table(points)


def test_a_fall_of_gold_while_the_proxy_rises_is_named():
    runs = {"beta 1": [flat(1, 0.2, 0.5)], "beta 0.1": [flat(4, 0.6, 0.7)], "beta 0.01": [flat(16, 0.9, 0.4)]}
    assert turnover("ppo", runs).startswith("ppo: over-optimisation: gold -0.300")


def test_no_turnover_is_said_where_there_is_none():
    rising = {"beta 1": [flat(1, 0.2, 0.5)], "beta 0.1": [flat(4, 0.6, 0.7)]}
    assert turnover("dpo", rising).startswith("dpo: no turnover; gold is highest at the largest KL")
    noisy = {"beta 1": [flat(1, 0.2, 0.5)], "beta 0.1": [Measured([4.0] * 20, [0.6] * 20, [0.0, 0.98] * 10)]}
    assert "no turnover that the data can tell" in turnover("dpo", noisy)
    assert "one setting" in turnover("dpo", {"a": [flat(1, 1, 1)]})


def test_the_exact_tilt_maximises_the_objective_and_reaches_the_known_optimum():
    """J of the tilt is J* (log-sum-exp), and tilting toward a proxy that is gold plus noise loses gold at large KL."""
    toy = make_toy(0, beta=0.3)
    reference = answer_logprobs(make_model(seed=0))
    (row,) = exact_tilt(reference, toy.reward_XY, toy.reward_XY, [0.3])
    assert row["proxy"] - 0.3 * row["kl_nats"] == pytest.approx(toy.optimum(reference), abs=1e-9)
    noise = torch.randn(toy.reward_XY.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    curve = exact_tilt(reference, toy.reward_XY + 2 * noise, toy.reward_XY, [10, 3, 1, 0.3, 0.1, 0.03])
    kl, proxy = [row["kl_nats"] for row in curve], [row["proxy"] for row in curve]
    assert kl == sorted(kl) and proxy == sorted(proxy)
    with pytest.raises(ValueError, match="beta must be above 0"):
        exact_tilt(reference, toy.reward_XY, toy.reward_XY, [0.0])


def test_exact_best_of_n_is_what_brute_force_over_all_draws_gives():
    """Three answers, n = 3: all 27 draws, the one of the highest proxy kept."""
    p, proxy, gold = [0.5, 0.3, 0.2], [1.0, 3.0, 2.0], [4.0, 0.0, 7.0]
    kept = [0.0, 0.0, 0.0]
    for draw in product(range(3), repeat=3):
        kept[max(draw, key=lambda y: proxy[y])] += math.prod(p[y] for y in draw)
    rows = [torch.tensor([row], dtype=torch.float64) for row in (p, proxy, gold)]
    (point,) = exact_best_of_n(rows[0].log(), *rows[1:], [3])
    assert point.proxy.value == pytest.approx(sum(q * r for q, r in zip(kept, proxy, strict=True)), abs=1e-12)
    assert point.gold.value == pytest.approx(sum(q * r for q, r in zip(kept, gold, strict=True)), abs=1e-12)
    assert point.kl_nats == pytest.approx(sum(q * math.log(q / r) for q, r in zip(kept, p, strict=True)), abs=1e-12)


def test_a_policy_that_is_the_reference_has_kl_0_and_judges_see_the_columns(tokenizer):
    model = random_model("llama", len(tokenizer))
    rows = [{"prompt": "The dog", "want": 1.0}, {"prompt": "When it rains", "want": 2.0}]
    judge = lambda prompts, completions, *, want, **columns: list(want)  # noqa: E731
    found = measure(
        model, random_model("llama", len(tokenizer)), tokenizer, rows, judge, judge, max_new_tokens=8, seed=1
    )
    assert max(map(abs, found.kl_nats)) < 1e-6
    assert found.proxy == found.gold == [1.0, 2.0]


def test_the_figure_has_both_curves_and_the_same_bytes_each_time():
    points = [over_seeds("ppo", "beta 1", [flat(1, 0.2, 0.5)]), over_seeds("ppo", "beta 0.1", [flat(4, 0.6, 0.7)])]
    limit = [{"beta": 1, "kl_nats": 1.0, "proxy": 0.3, "gold": 0.4}]
    drawn = figure_svg(points, limit)
    assert drawn == figure_svg(points, limit)
    assert all(label in drawn for label in ("ppo, gold", "ppo, proxy", "exact tilt, gold", "sqrt(KL"))
