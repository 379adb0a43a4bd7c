"""Family-wise error by simulation; the constant of the spending series from scipy; the rest by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from eval import ledger
from eval.item_scores import Model, Row
from eval.referee import judge, pair


def models(*columns, prefix="i"):
    return [
        Model(f"m{k}", [Row("t/acc", f"{prefix}{i}", float(x)) for i, x in enumerate(column)], Path("."))
        for k, column in enumerate(columns)
    ]


def compare(path, candidate, baseline, margin=None, **options):
    def judged(paired, level):
        return judge(paired, candidate.name, baseline.name, "t/acc", level=level, margin=margin)

    about = {"candidate": candidate.name, "baseline": baseline.name, "metric": "t/acc", "margin": margin}
    return ledger.referee(path, pair(candidate, baseline, "t/acc"), about, judged, **options)


def test_all_levels_together_are_alpha_and_a_rejection_hands_its_level_on():
    from scipy.special import zeta

    assert pytest.approx(zeta(1.6), rel=1e-6) == ledger.ZETA
    levels = []
    for _ in range(5000):
        levels.append(ledger.next_level([False] * len(levels), levels))
    assert 0.98 * 0.05 < sum(levels) <= 0.05
    assert ledger.next_level([True], [levels[0]]) == pytest.approx(levels[1] + levels[0])


def test_a_thousand_sweeps_of_200_variants_that_are_no_better_crown_noise_in_at_most_five_percent():
    """Variants share their items and their baseline, so their tests depend on each other; exact McNemar p, by scipy."""
    from scipy.stats import binom

    rng, crowned, at_one_level = np.random.default_rng(0), 0, 0
    levels = []
    for _ in range(200):  # no rejection before the first: what the first false crown stands against
        levels.append(ledger.next_level([False] * len(levels), levels))
    for _ in range(1000):
        hard = rng.beta(2, 2, 100)
        base = rng.random(100) < hard
        variants = rng.random((200, 100)) < hard
        wins, losses = (variants & ~base).sum(1), (~variants & base).sum(1)
        p = np.minimum(1, 2 * binom.cdf(np.minimum(wins, losses), wins + losses, 0.5))
        crowned += bool((p < levels).any())
        at_one_level += bool((p < 0.05).any())
    assert crowned / 1000 <= 0.05
    assert at_one_level / 1000 > 0.7  # what 0.05 each would have crowned


def test_comparisons_are_recorded_and_each_stands_against_its_own_level(tmp_path):
    rng, path = np.random.default_rng(1), tmp_path / "verdicts.ledger"
    base, *variants = models(*(rng.random((5, 80)) < 0.5))
    found = [compare(path, variant, base)[1] for variant in variants]
    assert [spent.number for spent in found] == [1, 2, 3, 4]
    assert [spent.level for spent in found] == pytest.approx([0.05 * k**-1.6 / ledger.ZETA for k in (1, 2, 3, 4)])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["about"]["candidate"] for line in lines] == ["m1", "m2", "m3", "m4"]


def test_the_same_scores_again_cost_nothing_and_a_part_of_the_items_opens_no_new_account(tmp_path):
    rng, path = np.random.default_rng(2), tmp_path / "verdicts.ledger"
    base, one, two = models(*(rng.random((3, 2000)) < 0.5))
    first, again = compare(path, one, base)[1], compare(path, one, base)[1]
    assert again.is_repeat and again.level == first.level and len(path.read_text().splitlines()) == 1
    part = [Model(m.name, m.rows[:1500], m.home) for m in (two, base)]
    assert compare(path, *part)[1].number == 2
    tiny = [Model(m.name, m.rows[700:900], m.home) for m in (two, base)]
    assert compare(path, *tiny)[1].number == 3
    other = models(*(rng.random((2, 2000)) < 0.5), prefix="j")
    assert compare(path, *other)[1].number == 1  # other items, another account


def test_the_reserve_is_kept_from_ordinary_comparisons_and_opened_once(tmp_path):
    rng, path = np.random.default_rng(3), tmp_path / "verdicts.ledger"
    base, one, two = models(*(rng.random((3, 1000)) < 0.5))
    with pytest.raises(ValueError, match="keeps no reserve of these items"):
        compare(path, one, base, is_opening=True)
    seen = compare(path, one, base, reserve=0.2)[0]
    confirmed, spent = compare(path, one, base, is_opening=True)
    assert seen.n + confirmed.n == 1000 and 150 < confirmed.n < 250
    assert confirmed.level == 0.05 and spent.number == 1
    assert compare(path, two, base)[0].n == seen.n  # still without it
    with pytest.raises(ValueError, match="was opened on .* for m1; what it holds is known by now"):
        compare(path, two, base, is_opening=True)
    with pytest.raises(ValueError, match="set aside a reserve of 0.2; it can't become 0.5 now"):
        compare(path, two, base, reserve=0.5)


def test_a_reserve_cannot_be_set_aside_after_all_items_were_seen(tmp_path):
    base, one = models(*(np.random.default_rng(4).random((2, 50)) < 0.5))
    compare(tmp_path / "v.jsonl", one, base)
    with pytest.raises(ValueError, match="no reserve, and all items have been seen"):
        compare(tmp_path / "v.jsonl", one, base, reserve=0.2)


def test_clusters_are_reserved_whole(tmp_path):
    rng = np.random.default_rng(5)
    rows = lambda: [Row("t/acc", f"i{i}", float(rng.random() < 0.5), cluster=f"c{i // 5}") for i in range(500)]  # noqa: E731
    base, one = (Model(name, rows(), Path(".")) for name in ("base", "one"))
    seen = compare(tmp_path / "v.jsonl", one, base, reserve=0.3)[0]
    assert seen.n == 5 * seen.clusters


def test_a_damaged_ledger_is_named_and_not_written_over(tmp_path):
    path = tmp_path / "v.jsonl"
    path.write_text('{"level": 0.01}\n')
    with pytest.raises(ValueError, match="line 1, is no comparison"):
        compare(path, *models([1, 0], [0, 1]))
    assert path.read_text() == '{"level": 0.01}\n'
