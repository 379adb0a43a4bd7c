import numpy as np
import pytest

from reward.quality import measure, on_policy_report
from reward.verdict import checks, findings


def pairs(chosen_words, rejected_words):
    """Pairs whose answers have these numbers of (random) words."""
    rng = np.random.default_rng(0)

    def text(words):
        return " ".join(rng.choice(["alpha", "beta", "gamma", "delta"], words))

    return [
        {"prompt": f"p{i}", "chosen": text(a), "rejected": text(b)}
        for i, (a, b) in enumerate(zip(chosen_words, rejected_words, strict=True))
    ]


def test_a_model_worse_than_the_longer_answer_fails_the_check_and_one_that_is_better_passes():
    heldout = pairs(np.where(np.arange(200) % 10 < 7, 8, 4), [6] * 200)  # the longer wins 70 %
    for right, passed in ((0.6, False), (0.85, True)):
        d = np.where(np.arange(200) < 200 * right, 1.0, -1.0)
        (name, result, detail), _ = checks(measure(d, 0 * d, heldout, []))
        assert "longer answer wins" in name and result is passed
        assert f"held-out accuracy {right:.3f} against 0.700" in detail and "on 200 pairs" in detail


def test_a_model_at_chance_fails_the_check_against_chance():
    d = np.where(np.arange(100) < 52, 1.0, -1.0)
    results = checks(measure(d, 0 * d, pairs([5] * 100, [5] * 100), []))
    assert [(name, passed) for name, passed, _ in results if "chance" in name] == [
        ("reward model against chance", False)
    ]


def test_a_planted_length_bias_is_named_with_its_size():
    rng = np.random.default_rng(2)
    gold = rng.normal(size=(60, 4))
    words = rng.integers(5, 40, (60, 4))
    proxy = gold + 0.5 * words / 10
    d = np.ones(60)
    quality = measure(d, 0 * d, pairs([5] * 60, [5] * 60), [])
    answers = [["w " * n for n in row] for row in words]
    quality["on_policy"] = on_policy_report(proxy, gold, answers, raw_std=0.6)
    (said,) = [line for line in findings(quality) if "length bias" in line]
    # planted 0.5 scores a 10 words, and a score is 0.6 log-odds
    assert (
        "length bias towards longer answers: at equal gold score 10 more words change the log-odds of winning by +0.30"
        in said
    )


@pytest.mark.parametrize(
    "low, high, is_named",
    [(0.012, 0.099, False), (0.05, 0.3, False), (0.11, 0.2, True), (-0.2, -0.11, True), (-0.2, -0.05, False)],
)
def test_a_length_effect_is_named_only_where_all_of_its_interval_matters(low, high, is_named):
    d = np.ones(60)
    quality = measure(d, 0 * d, pairs([5] * 60, [5] * 60), [])
    quality["on_policy"] = {"length_effect": {"value": (low + high) / 2, "low": low, "high": high, "n": 60}}
    assert any(line.startswith("length bias towards") for line in findings(quality)) is is_named


def test_a_model_that_prefers_longer_answers_more_than_the_labels_do_is_named():
    rng = np.random.default_rng(3)
    gap = np.where(rng.random(300) < 0.5, 3, -3)
    d = np.where(rng.random(300) < 0.4, 1.0, 1.0 * np.sign(gap))
    said = findings(measure(d, 0 * d, pairs(10 + gap, [10] * 300), []))
    assert any(line.startswith("length bias: the model prefers the longer answer in") for line in said)


def test_overconfidence_is_named_with_its_temperature():
    rng = np.random.default_rng(4)
    log_odds = rng.normal(0, 1, 2000)
    d = 5 * np.where(rng.random(2000) < 1 / (1 + np.exp(-log_odds)), log_odds, -log_odds)
    said = findings(measure(d, 0 * d, pairs([5] * 2000, [5] * 2000), []))
    (line,) = [line for line in said if "confident" in line]
    assert line.startswith("overconfident: the fitted temperature is ")
    assert float(line.split("temperature is ")[1].split()[0]) == pytest.approx(5, rel=0.15)


def test_a_temperature_that_does_not_help_on_other_prompts_is_not_called_overconfidence():
    """Scores without a signal: the fitted temperature is far from 1, and means nothing."""
    d = np.ones(60)
    quality = measure(d, 0 * d, pairs([5] * 60, [5] * 60), [])
    quality["calibration"] |= {"temperature": 1.76, "nll_nats": 0.6931, "nll_nats_at_temperature": 0.6953}
    assert not any("confident" in line for line in findings(quality))
    quality["calibration"] |= {"nll_nats_at_temperature": 0.6}
    assert any(line.startswith("overconfident") for line in findings(quality))


def test_best_of_n_that_falls_in_gold_is_named():
    gold = np.tile(np.arange(8.0), (40, 1))
    proxy = -np.abs(gold - 2)  # likes a middling answer best
    d = np.ones(40)
    quality = measure(d, 0 * d, pairs([5] * 40, [5] * 40), [])
    quality["on_policy"] = on_policy_report(proxy, gold, [["w"] * 8] * 40)
    assert any("best-of-n by this model falls in gold score before n = 8" in line for line in findings(quality))


def test_a_bag_of_words_that_does_as_well_is_named():
    heldout = [{"prompt": f"p{i}", "chosen": "yes please", "rejected": "no now"} for i in range(40)]
    d = np.ones(40)
    assert any("no better than a bag of words" in line for line in findings(measure(d, 0 * d, heldout, heldout)))
