"""Expected values come from scipy, statsmodels, the definitions of the variances, and simulation."""

import math
from pathlib import Path

import numpy as np
import pytest

from eval.item_scores import Model, Row
from eval.referee import judge, pair


def model(name: str, scores_SN, *, clusters=None, samples_RSN=None) -> Model:
    """A model from a matrix of scores: seeds, items; or samples, seeds, items."""
    samples_RSN = np.asarray(scores_SN)[None] if samples_RSN is None else np.asarray(samples_RSN)
    rows = [
        Row("t/acc", f"i{i}", float(samples_RSN[r, s, i]), 1.0, clusters and str(clusters[i]), str(s), str(r))
        for r in range(samples_RSN.shape[0])
        for s in range(samples_RSN.shape[1])
        for i in range(samples_RSN.shape[2])
    ]
    return Model(name, rows, Path("."))


def verdict(a, b, **options):
    return judge(pair(a, b, "t/acc"), a.name, b.name, "t/acc", **options)


def test_one_seed_is_the_paired_test():
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(0)
    a, b = rng.normal(0.3, 1, 80), rng.normal(0, 1, 80)
    found = verdict(model("new", [a]), model("old", [b]))
    assert found.p == pytest.approx(ttest_rel(a, b).pvalue, rel=0.15)  # sign flips, drawn
    assert found.difference == pytest.approx((a - b).mean()) and found.variance["seeds"] is None
    assert found.variance["items"] == pytest.approx((a - b).var(ddof=1) / 80)
    assert "1 seed of a model: nothing is said about training it again" in found.notes


def test_verdicts_their_sentences_and_exit_codes():
    rng = np.random.default_rng(1)
    base = (rng.random(300) < 0.6).astype(float)
    better, worse = base.copy(), base.copy()
    better[np.flatnonzero(base == 0)[:40]], worse[np.flatnonzero(base == 1)[:40]] = 1, 0
    old = model("old", [base])
    found = {name: verdict(model("new", [x]), old) for name, x in (("b", better), ("w", worse), ("s", base))}
    assert [found[k].exit_code for k in "bws"] == [0, 3, 4]
    assert found["b"].sentence.startswith("new is better than old on t/acc (+0.133 [")
    assert found["w"].sentence.startswith("new is worse than old on t/acc (−0.133 [")
    assert found["s"].sentence.startswith("Cannot tell whether new is better or worse than old")
    equal = verdict(model("new", [base]), old, margin=0.05)
    assert equal.exit_code == 0 and "not worse than old by more than 0.050" in equal.sentence
    assert verdict(model("new", [worse]), old, margin=0.05).exit_code == 3
    assert verdict(model("new", [worse]), old, lower_is_better=True).verdict == "better"
    with pytest.raises(ValueError, match="a margin is a positive number"):
        verdict(old, old, margin=-1)


def test_significantly_worse_by_less_than_the_margin_passes():
    rng = np.random.default_rng(2)
    old = rng.normal(size=400)
    new = old - 0.02 + 0.05 * rng.normal(size=400)
    assert verdict(model("new", [new]), model("old", [old])).verdict == "worse"
    assert verdict(model("new", [new]), model("old", [old]), margin=0.1).verdict == "within margin"


def test_items_seeds_and_sampling_are_separate_components_of_variance():
    """Unbiased: their means over simulations equal the variances put in, each divided by how often it was drawn."""
    rng, n, s, r = np.random.default_rng(3), 40, 4, 2
    sd_item, sd_seed, sd_cross, sd_sample = 0.5, 0.3, 0.4, 0.6
    found = []
    for _ in range(120):
        models = []
        for name in ("new", "old"):
            items = rng.normal(0, sd_item, n)
            seeds = rng.normal(0, sd_seed, s)[:, None]
            means = items + seeds + rng.normal(0, sd_cross, (s, n))
            models.append(model(name, None, samples_RSN=means + rng.normal(0, sd_sample, (r, s, n))))
        found.append(verdict(*models).variance)
    mean = {key: np.mean([f[key] for f in found]) for key in ("items", "seeds", "sampling", "total")}
    sampling = 2 * sd_sample**2 / (n * s * r)
    items = 2 * (sd_item**2 / n + sd_cross**2 / (n * s)) + sampling
    assert mean["sampling"] == pytest.approx(sampling, rel=0.06)
    assert mean["items"] == pytest.approx(items, rel=0.06)
    assert mean["seeds"] == pytest.approx(2 * sd_seed**2 / s, rel=0.2)  # 6 degrees of freedom each
    assert mean["total"] == pytest.approx(mean["items"] + mean["seeds"])


def test_luck_of_a_seed_is_not_called_better():
    """Three seeds each, whose means differ more than items explain: a test over items alone would reject half of the time."""
    rng, rejected, by_items = np.random.default_rng(4), 0, 0
    for _ in range(100):
        two = [rng.normal(0, 0.2, (3, 1)) + rng.normal(0, 0.5, (3, 60)) for _ in range(2)]
        rejected += verdict(model("a", two[0]), model("b", two[1])).verdict != "cannot tell"
        by_items += verdict(model("a", [two[0].mean(0)]), model("b", [two[1].mean(0)])).verdict != "cannot tell"
    assert rejected / 100 <= 0.06 + 0.044 and by_items / 100 > 0.3  # two standard errors


def test_about_as_many_more_items_as_it_says_would_tell():
    from statsmodels.stats.power import TTestPower

    x = np.random.default_rng(5).normal(size=50)
    x = 0.2 + (x - x.mean()) / x.std(ddof=1)  # a difference of 0.2 standard deviations
    found = verdict(model("new", [x]), model("old", [np.zeros(50)]))
    needed = TTestPower().solve_power(0.2, alpha=0.05, power=0.8)
    assert found.verdict == "cannot tell" and found.more_items + 50 == pytest.approx(needed, rel=0.02)
    assert f"about {found.more_items} more items would tell" in found.sentence
    same = verdict(model("new", [np.zeros(50)]), model("old", [np.zeros(50)]))
    assert same.more_items is None and "No number of items would tell" in same.sentence


def test_clusters_widen_and_are_counted():
    rng, groups = np.random.default_rng(6), np.repeat(np.arange(20), 5)
    d = np.repeat(rng.normal(0.4, 1, 20), 5)
    zero = np.zeros(100)
    clustered = verdict(model("new", [d], clusters=list(groups)), model("old", [zero], clusters=list(groups)))
    alone = verdict(model("new", [d]), model("old", [zero]))
    assert clustered.clusters == 20 and clustered.variance["items"] == pytest.approx(
        5 * alone.variance["items"], rel=0.06
    )


def test_items_of_one_model_alone_are_left_out_and_counted_and_none_in_common_is_refused():
    a, b = model("new", [[1, 0, 1, 1]]), model("old", [[1, 1, 0]])
    paired = pair(a, b, "t/acc")
    assert paired.items == ["i0", "i1", "i2"] and paired.notes == [
        "1 items of new are not among old's and were left out"
    ]
    other = Model("other", [Row("t/acc", "elsewhere", 1.0)], Path("."))
    with pytest.raises(ValueError, match="new and other have no item of t/acc in common"):
        pair(a, other, "t/acc")
    ragged = Model("ragged", [*a.rows, Row("t/acc", "i0", 1.0, seed="second")], Path("."))
    with pytest.raises(ValueError, match="seed 'second' has no score of item 'i1'"):
        pair(ragged, b, "t/acc")


def test_no_number_is_no_verdict():
    rows = [Row("t/rate", f"i{i}", 0.0, 0.0) for i in range(20)]
    found = judge(pair(*(two := [Model(n, rows, Path(".")) for n in "ab"]), "t/rate"), two[0].name, "b", "t/rate")
    assert found.verdict == "cannot tell" and math.isnan(found.p) and found.warning == "not a finite number"
    assert "p not defined" in found.sentence
