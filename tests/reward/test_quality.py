import itertools
import math

import numpy as np
import pytest

from reward.quality import (
    accuracy,
    accuracy_by,
    bag_of_words_differences,
    best_of_n_curve,
    calibration,
    ensemble_report,
    fit_temperature,
    is_right,
    length_effect,
    length_report,
    margin_groups,
    measure,
    nll_nats,
    on_policy_report,
    reliability,
)


def own_prompts(count):
    return [f"prompt {i}" for i in range(count)]


def test_a_tie_is_half_right():
    assert is_right([2.0, -1.0, 0.0]).tolist() == [1, 0, 0.5]


def test_a_score_that_is_not_finite_is_refused_by_its_pair():
    with pytest.raises(
        ValueError, match="the score difference of pair 1 is nan; a reward model must give finite scores"
    ):
        is_right([1.0, math.nan])


def test_accuracy_over_single_pairs_has_wilsons_interval():
    # statsmodels.stats.proportion.proportion_confint(8, 10, method="wilson")
    estimate = accuracy([1] * 8 + [0] * 2, own_prompts(10))
    assert (estimate.value, estimate.n) == (0.8, 10)
    assert (estimate.low, estimate.high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)


def test_pairs_of_one_prompt_widen_the_interval():
    right = np.repeat(np.arange(40) % 4 > 0, 10).astype(float)  # 40 prompts, each all right or all wrong
    alone, grouped = accuracy(right, own_prompts(400)), accuracy(right, np.repeat(own_prompts(40), 10).tolist())
    assert alone.value == grouped.value == 0.75
    # ten copies of a pair tell as much as one: the interval is that of 40 items, sqrt(10) times as wide
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(math.sqrt(10), rel=0.15)


def test_accuracy_by_kind_counts_each_pair_once_and_leaves_out_the_nameless():
    table = accuracy_by(np.array([1, 0, 1, 1]), ["a", "a", "b", None], own_prompts(4))
    assert {name: (row["value"], row["n"]) for name, row in table.items()} == {"a": (0.5, 2), "b": (1.0, 1)}


def test_a_group_with_one_prompt_has_no_interval_and_says_so_in_plain_json():
    table = accuracy_by(np.array([1.0, 0.0]), ["a", "a"], ["same prompt"] * 2)
    assert table == {"a": {"value": 0.5, "low": None, "high": None, "n": 2}}


def test_margin_bins_hold_a_quarter_of_the_pairs_each_in_rising_order():
    groups = margin_groups([float(i) for i in range(100)] + [None])
    assert groups[-1] is None
    assert [len(list(same)) for _, same in itertools.groupby(groups[:-1])] == [25, 25, 25, 25]
    assert sorted(set(groups[:-1])) == list(dict.fromkeys(groups[:-1]))  # names sort as the margins do


def test_equal_margins_are_one_bin_and_no_margins_none():
    assert len(set(margin_groups([2.0] * 5))) == 1
    assert margin_groups([None, None]) == [None, None]


def test_a_bag_of_words_finds_the_word_that_decides():
    rng = np.random.default_rng(0)
    filler = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]

    def pair():
        good, bad = (" ".join(rng.choice(filler, 6)) for _ in range(2))
        return {"prompt": "p", "chosen": f"{good} please", "rejected": f"{bad} now"}

    train, heldout = [pair() for _ in range(80)], [pair() for _ in range(40)]
    assert is_right(bag_of_words_differences(train, heldout)).mean() == 1.0
    swapped = [{**p, "chosen": p["rejected"], "rejected": p["chosen"]} for p in heldout]
    assert is_right(bag_of_words_differences(train, swapped)).mean() == 0.0


def test_the_likelihood_of_labels_is_log_2_for_a_model_that_knows_nothing():
    assert nll_nats(np.zeros(5)) == pytest.approx(math.log(2), abs=1e-12)
    assert nll_nats(np.array([1.0, -2.0])) == pytest.approx(
        (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 2, abs=1e-12
    )


def planted(count=20_000, scale=1.0, seed=0):
    """Differences whose labels were drawn from sigmoid(d): the differences of chosen minus rejected, times `scale`."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(0, 1.5, count)
    is_first = rng.random(count) < 1 / (1 + np.exp(-log_odds))
    return np.where(is_first, log_odds, -log_odds) * scale


@pytest.mark.parametrize("scale", [0.2, 1.0, 4.0])
def test_the_fitted_temperature_undoes_a_wrong_scale(scale):
    # the standard error of 1/T at 20,000 labels is about 0.01
    assert fit_temperature(planted(scale=scale)) == pytest.approx(scale, rel=0.05)


def test_the_fitted_temperature_is_that_of_a_logistic_regression():
    from statsmodels.api import Logit

    d = planted(500, scale=3.0)
    rows = np.concatenate([d, -d])
    slope = Logit(np.repeat([1, 0], 500), rows).fit(disp=0).params[0]
    assert fit_temperature(d) == pytest.approx(1 / slope, rel=1e-4)


def test_a_perfect_and_a_reversed_order_end_the_search_at_its_bounds():
    assert 0 < fit_temperature(np.array([1.0, 2.0])) < 0.01
    assert fit_temperature(np.array([-1.0, -2.0])) > 1000


def test_calibrated_scores_have_little_calibration_error_and_scaled_ones_much():
    good, bad = reliability(planted(), 1.0)[0], reliability(planted(scale=4.0), 1.0)[0]
    assert good < 0.015 and bad > 0.1
    assert reliability(planted(scale=4.0), 4.0)[0] < 0.015


def test_expected_calibration_error_by_hand():
    # confidences sigmoid(2) = 0.8808 twice (bin 7: one right, one wrong) and sigmoid(0.1) = 0.525 once (bin 0, right)
    ece, curve = reliability(np.array([2.0, -2.0, 0.1]), 1.0)
    sigmoid = [1 / (1 + math.exp(-x)) for x in (2.0, 0.1)]
    assert ece == pytest.approx(2 / 3 * abs(0.5 - sigmoid[0]) + 1 / 3 * abs(1 - sigmoid[1]), abs=1e-12)
    assert [(row["confidence"], row["accuracy"]["value"], row["accuracy"]["n"]) for row in curve] == [
        (pytest.approx(sigmoid[1]), 1.0, 1),
        (pytest.approx(sigmoid[0]), 0.5, 2),
    ]


def test_the_calibration_table_judges_each_half_with_the_others_temperature():
    d = planted(2000, scale=3.0)
    table = calibration(d, own_prompts(2000))
    assert table["temperature"] == pytest.approx(3.0, rel=0.15)
    assert table["nll_nats_at_temperature"] < table["nll_nats"]
    assert table["ece_at_temperature"] < 0.05 < table["ece"]
    halves = [d[i::2] / fit_temperature(d[1 - i :: 2]) for i in (0, 1)]
    assert table["nll_nats_at_temperature"] == pytest.approx(nll_nats(np.concatenate(halves)), abs=1e-9)


def test_length_report_says_who_prefers_the_longer_answer():
    gaps = np.array([3, 2, -1, -4, 0])  # chosen minus rejected, words
    differences = np.array([1.0, 0.5, -0.5, 2.0, 1.0])  # the model is wrong where the third's shorter answer is right
    report = length_report(differences, gaps, own_prompts(5), rewards=np.arange(10.0), lengths=np.arange(10.0) ** 2)
    assert report["correlation_reward_length"] == pytest.approx(1.0)
    assert {name: row["value"] for name, row in report["accuracy"].items()} == {
        "longer is right": 1.0,
        "shorter is right": 0.5,
    }
    assert report["chosen_is_longer"]["value"] == 0.5  # 2 of 4; the pair of equal length says nothing
    assert report["prefers_longer"]["value"] == 0.75
    assert report["model_minus_labels"]["mean"] == pytest.approx(0.25)


def test_answers_of_one_length_have_no_length_report():
    report = length_report(np.ones(3), np.zeros(3), own_prompts(3), np.ones(6), np.ones(6))
    assert report == {
        "correlation_reward_length": None,
        "correlation_difference_length_difference": None,
        "accuracy": {},
    }


def test_a_planted_length_bias_is_found_at_its_size():
    rng = np.random.default_rng(1)
    gold = rng.normal(size=800)
    words = 6 * gold + rng.normal(0, 8, 800)  # better answers are longer, too: the raw correlation would mislead
    reward = 2.0 * gold + 0.3 * words / 10 + rng.normal(0, 0.5, 800)
    effect = length_effect(reward, gold, words, np.repeat(own_prompts(200), 4).tolist())
    assert effect.low < 0.3 < effect.high and effect.low > 0.2
    import statsmodels.api as sm

    fitted = sm.OLS(reward, np.stack([gold, words / 10], 1)).fit().params[1]
    assert effect.value == pytest.approx(fitted, abs=1e-9)


def test_no_length_bias_is_found_where_none_was_planted():
    rng = np.random.default_rng(2)
    gold = rng.normal(size=800)
    words = 6 * gold + rng.normal(0, 8, 800)
    effect = length_effect(2.0 * gold + rng.normal(0, 0.5, 800), gold, words, own_prompts(800))
    assert effect.low < 0 < effect.high


def test_length_that_moves_only_with_gold_is_refused():
    with pytest.raises(ValueError, match="only together with their gold score"):
        length_effect(np.arange(40.0), np.arange(40.0), np.arange(40.0) * 3, own_prompts(40))
    with pytest.raises(ValueError, match="only together"):
        length_effect(np.arange(40.0), np.arange(40.0), np.zeros(40), own_prompts(40))
    with pytest.raises(ValueError, match="4 prompts are too few to tell the effect of length; it takes 10"):
        length_effect(np.arange(4.0), np.arange(4.0) ** 2, np.arange(4.0), own_prompts(4))


def test_the_best_of_n_curve_starts_at_the_mean_and_its_ceiling_is_gold():
    rng = np.random.default_rng(3)
    gold = rng.normal(size=(50, 6))
    curve = best_of_n_curve(gold + rng.normal(size=gold.shape), gold)
    assert [point["n"] for point in curve] == [1, 2, 4, 6]
    assert curve[0]["gold_by_proxy"]["value"] == pytest.approx(gold.mean())
    assert curve[-1]["gold_by_gold"]["value"] == pytest.approx(gold.max(1).mean())
    assert all(point["gold_by_proxy"]["value"] <= point["gold_by_gold"]["value"] for point in curve)


def test_agreement_on_policy_samples_counts_pairs_of_unequal_gold():
    proxy = [[3.0, 1.0, 2.0], [1.0, 1.0, 2.0], [1.0, 2.0, 3.0]]
    gold = [[0.9, 0.1, 0.1], [0.5, 0.4, 0.4], [0.1, 0.2, 0.3]]  # the last rises: the sign of the gold gap counts
    report = on_policy_report(proxy, gold, [["a b", "a", "a b c"], ["a", "a b", "a"], ["a", "b", "c"]])
    assert (report["answers"], report["pairs_with_unequal_gold"]) == (9, 7)
    assert report["agreement"]["value"] == pytest.approx((1 + 1 + 0.5 + 0 + 3) / 7)
    assert report["length_effect"] is None  # three prompts cannot tell


def test_an_ensemble_report_compares_members_mean_and_disagreement():
    members = [[1.0, 1.0, -1.0], [1.0, -2.0, -1.0], [1.0, 2.0, -1.0]]
    report = ensemble_report(members, own_prompts(3))
    assert [row["value"] for row in report["members"]] == pytest.approx([2 / 3, 1 / 3, 2 / 3])
    assert report["mean"]["value"] == pytest.approx(2 / 3)
    assert report["order_disagreement"] == pytest.approx((1 / 3 + 0 + 1 / 3) / 3)
    # where the mean is right: spreads 0 and std(1, -2, 2) = 2.0817; where it is wrong: 0
    assert report["spread_where_right"] == pytest.approx(2.081666 / 2, abs=1e-6)
    assert report["spread_where_wrong"] == 0.0


def labelled(count=60):
    rng = np.random.default_rng(4)

    def make(words):
        return " ".join(rng.choice(["one", "two", "three"], words))

    return [
        {"prompt": f"p{i}", "chosen": make(3 + i % 4), "rejected": make(4), "kind": "ab"[i % 2], "margin": float(i % 5)}
        for i in range(count)
    ]


def test_measure_puts_everything_into_plain_json():
    import json

    pairs = labelled()
    scores = np.random.default_rng(5).normal(size=(2, 60))
    quality = measure(scores[0] + 1, scores[1], pairs, pairs, raw_std=2.0)
    assert json.loads(json.dumps(quality, allow_nan=False)) == quality
    assert quality["accuracy"]["value"] == pytest.approx((scores[0] + 1 > scores[1]).mean())
    assert set(quality["by_kind"]) == {"a", "b"} and set(quality["baselines"]) == {
        "longer wins",
        "random",
        "bag of words",
    }
    assert (
        quality["baselines"]["longer wins"]["accuracy"]["value"] == 0.625
    )  # 3, 4, 5, 6 words against 4: (0 + 1/2 + 1 + 1) / 4
    assert quality["calibration"]["nll_nats"] == pytest.approx(nll_nats(2.0 * (scores[0] + 1 - scores[1])))


def test_pairs_of_one_prompt_are_too_few_to_measure_on():
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    with pytest.raises(ValueError, match="2 held-out pairs on 1 prompt give no interval; hold out more prompts"):
        measure([1, 1], [0, 0], [pair, {**pair, "chosen": "c"}], [])
