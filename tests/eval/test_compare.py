"""Expected numbers come from scipy, statsmodels, the items themselves, or by hand."""

import json

import numpy as np
import pytest

from eval import words
from eval.compare import compare, short_names, tell
from eval.preference import length_controlled_win_rate
from eval.report import write_report
from tests.eval.runs import write_manifest, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """base -> lora_sft -> {ppo (better), dpo (the same), worse}, with a reward model's record between."""
    root = tmp_path_factory.mktemp("runs")
    base = write_run(root / "base", quality=0.3)
    sft = write_run(root / "lora_sft", quality=0.5, parents=[base])
    write_manifest(root / "reward_model", parents=[sft], notes={"quality": {"accuracy": 0.8}})
    write_run(root / "ppo", quality=0.62, parents=[sft], optimised=True)
    write_run(root / "dpo", quality=0.5, parents=[sft])
    write_run(root / "worse", quality=0.35, parents=[sft])
    return root


def folders(runs, *names):
    return [runs / name for name in names]


@pytest.fixture(scope="module")
def comparison(runs):
    return compare(folders(runs, "base", "lora_sft", "reward_model", "ppo", "dpo", "worse"), baseline=runs / "lora_sft")


def test_parents_are_found_and_a_stage_without_evaluation_is_kept_as_a_record(comparison):
    assert {m.name: m.parent for m in comparison.models} == {
        "base": None, "lora_sft": "base", "ppo": "lora_sft", "dpo": "lora_sft", "worse": "lora_sft",
    }  # fmt: skip
    assert [r.name for r in comparison.records if r.evaluation is None] == ["reward_model"]
    assert comparison.baseline == "lora_sft"


def test_a_change_is_the_difference_of_the_two_values_with_its_direction(comparison):
    change = comparison.to_parent["ppo", "general/bits_per_byte"]
    values = [comparison.cell(name, "general/bits_per_byte")["value"] for name in ("ppo", "lora_sft")]
    assert change.mean == pytest.approx(values[0] - values[1])
    assert change.mean < 0 and change.verdict == "better" and change.wins > change.losses  # fewer bits are better
    assert comparison.to_parent["worse", "instructions/gold"].verdict == "worse"
    assert comparison.to_parent["lora_sft", "instructions/response_tokens"].verdict in ("more", "same")


def test_no_difference_is_told_with_the_smallest_detectable_one(comparison):
    change = comparison.to_parent["dpo", "instructions/gold"]
    assert change.verdict == "same" and not change.is_detected
    said = tell(change)
    assert said.startswith("dpo shows no detectable difference from lora_sft (") and "smallest detectable: 0.0" in said
    assert "ppo is better than lora_sft" in comparison.verdict and "worse is worse than lora_sft" in comparison.verdict
    assert comparison.verdict.startswith("On gold (instructions, n = 60), ")


def test_p_values_are_holm_corrected_within_a_table(comparison):
    from statsmodels.stats.multitest import multipletests

    headline = [c for c in comparison.to_parent.values() if c.key in comparison.headline_keys]
    assert len(headline) == 4 * 5
    expected = multipletests([c.p for c in headline], method="holm")[1]
    assert [c.p_holm for c in headline] == pytest.approx(expected)


def test_the_smallest_detectable_difference_is_that_of_the_corrected_test(comparison):
    """Undetected changes stood against 0.05 over their number; Student's quantiles of 59 degrees of freedom from scipy."""
    from scipy.stats import t

    headline = [c for c in comparison.to_parent.values() if c.key in comparison.headline_keys]
    level = 0.05 / sum(not c.is_detected for c in headline)
    dpo = comparison.to_parent["dpo", "instructions/gold"]
    items = [comparison.by_name[name].evaluation.items_of_set["instructions"] for name in ("dpo", "lora_sft")]
    differences = np.subtract(*([item["scores"]["gold"] for item in found] for found in items))
    error = np.std(differences, ddof=1) / np.sqrt(60)
    assert dpo.smallest_detectable == pytest.approx((t.ppf(1 - level / 2, 59) + t.ppf(0.8, 59)) * error, rel=1e-6)
    for change in headline:  # what is not detected lies below what is detectable
        assert change.is_detected or not abs(change.mean) >= change.smallest_detectable


def test_the_unpaired_smallest_detectable_difference_is_that_of_the_two_widest_models(comparison):
    for key in ("general/bits_per_byte", "instructions/gold", "instructions/rougeL"):
        cells = [comparison.cell(m.name, key) for m in comparison.models]
        halves = sorted((cell["high"] - cell["low"]) / 2 for cell in cells)
        unpaired = comparison.unpaired_detectable(key)
        assert unpaired > 2.8 / 1.96 * np.hypot(*halves[-2:])  # at a stricter level than 0.05
        if key != "general/bits_per_byte":  # made up without anything that pairing takes away
            assert unpaired > max(c.smallest_detectable for c in comparison.to_parent.values() if c.key == key)


def test_a_metric_that_overflows_has_no_verdict_and_the_report_says_why(tmp_path):
    """Word perplexity of text without spaces, 900 nats a word and more; compared in the terminal and in both reports."""
    from recipes.compare import print_comparison

    for name, quality in (("base", 0.5), ("worse", 0.1)):
        write_run(tmp_path / name, quality=quality, unspaced=True)
    written = write_report([tmp_path / "base", tmp_path / "worse"], tmp_path)
    change = written.comparison.to_baseline["worse", "general/word_perplexity"]
    assert change.verdict == "undefined" and not change.is_detected and np.isnan(change.p_holm)
    assert written.comparison.cell("base", "general/word_perplexity")["value"] is None
    assert written.comparison.to_baseline["worse", "general/bits_per_byte"].verdict == "worse"
    for file in (written.html, written.markdown):
        assert "overflows: more than 709 nats a unit; read bits per byte" in file.read_text()
    assert "NaN" not in written.html.read_text()
    print_comparison(written.comparison)
    reason = "overflows: more than 709 nats a unit; read bits per byte"
    assert tell(change) == f"worse can't be compared with base ({reason})"


def test_twenty_models_that_differ_by_nothing_give_no_verdict_of_better(tmp_path):
    names = [f"m{i}" for i in range(20)]
    for name in names:
        write_run(tmp_path / name, quality=0.5)
    found = compare([tmp_path / name for name in names], baseline="m0").to_baseline.values()
    assert len(found) == 19 * 6
    assert not [c for c in found if c.verdict in ("better", "worse")]
    assert [c for c in found if c.p < 0.05]  # what an uncorrected table would have called a difference


def test_win_rate_counts_ties_a_half_and_mirrors(comparison):
    rates = comparison.win_rates("instructions/gold", ["lora_sft", "ppo"])
    rate, back = rates["ppo", "lora_sft"], rates["lora_sft", "ppo"]
    items = [comparison.by_name[name].evaluation.items_of_set["instructions"] for name in ("ppo", "lora_sft")]
    scores = np.array([[item["scores"]["gold"] for item in found] for found in items])
    expected = (scores[0] > scores[1]).mean() + 0.5 * (scores[0] == scores[1]).mean()
    assert rate.rate == pytest.approx(expected) and back.rate == pytest.approx(1 - expected)
    assert (back.low, back.controlled) == pytest.approx((1 - rate.high, 1 - rate.controlled))
    from scipy.stats import binomtest

    assert rate.p == pytest.approx(binomtest(rate.wins, rate.wins + rate.losses).pvalue)


def test_an_optimised_judge_is_marked_and_is_no_primary_metric(comparison):
    assert comparison.is_optimised("instructions/reward_model") and not comparison.is_optimised("instructions/gold")
    assert comparison.primary_key == "instructions/gold"


def test_other_items_are_not_compared_and_the_check_says_so(runs, tmp_path):
    other = write_run(tmp_path / "other", quality=0.5, items=50, suite="1" * 64)
    comparison = compare([runs / "base", other])
    assert not comparison.to_baseline
    failed = {check["name"]: check["detail"] for check in comparison.checks if not check["passed"]}
    assert "were not asked the same items" in failed["same items"] and failed["same suite"].startswith("2 suite hash")
    assert "nothing to compare" in comparison.verdict


def test_models_that_differ_in_their_seed_alone_are_summed_up_over_seeds(tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path / f"seed-{seed}" / "ppo", quality=0.5 + seed / 100, seed=seed, stage="ppo")
    comparison = compare([tmp_path / f"seed-{seed}" / "ppo" for seed in (1, 2, 3)])
    (group,) = comparison.seed_groups
    assert group["models"] == ["seed-1/ppo", "seed-2/ppo", "seed-3/ppo"]
    values = [comparison.cell(name, "instructions/gold")["value"] for name in group["models"]]
    from scipy import stats

    over = group["metrics"]["instructions/gold"]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (over["mean"], over["low"], over["high"]) == pytest.approx((np.mean(values), low, high))


def test_mistaken_folders_and_baselines_are_named(runs, tmp_path):
    with pytest.raises(FileNotFoundError, match="has neither eval.json nor manifest.json"):
        compare([tmp_path])
    with pytest.raises(ValueError, match="the baseline nobody is none of the evaluated models: base, dpo"):
        compare(folders(runs, "base", "dpo"), baseline="nobody")
    with pytest.raises(ValueError, match="was evaluated; run python -m recipes.evaluation"):
        compare([runs / "reward_model"])
    with pytest.raises(ValueError, match="a folder was given twice"):
        short_names([runs / "base", runs / "base"])


def test_length_control_takes_away_a_win_that_length_alone_gave():
    rng = np.random.default_rng(0)
    d = rng.normal(15, 15, 4000)  # A is longer, and the judge likes length and nothing else
    wins = (rng.random(4000) < 1 / (1 + np.exp(-3 * np.tanh(d / d.std())))).astype(float)
    estimate = length_controlled_win_rate(wins, d)
    assert wins.mean() > 0.75
    assert estimate.low < 0.5 < estimate.high and estimate.value == pytest.approx(0.5, abs=0.04)


def test_length_control_equals_statsmodels_logistic_fit():
    import statsmodels.api as sm

    rng = np.random.default_rng(1)
    d = rng.normal(5, 10, 600)
    x = np.tanh(d / d.std())
    wins = (rng.random(600) < 1 / (1 + np.exp(-(0.4 + 0.9 * x)))).astype(float)
    fit = sm.Logit(wins, sm.add_constant(x)).fit(disp=0)
    # the ridge of 0.01 moves a coefficient that rests on 600 items by less than 1e-3
    assert length_controlled_win_rate(wins, d).value == pytest.approx(1 / (1 + np.exp(-fit.params[0])), abs=1e-3)


def test_length_control_without_length_differences_is_the_raw_rate_and_all_wins_stay_finite():
    assert length_controlled_win_rate(np.array([1.0, 0, 0.5, 1]), np.zeros(4)).value == pytest.approx(0.625, abs=0.01)
    estimate = length_controlled_win_rate(np.ones(50), np.arange(50.0))
    assert 0.95 < estimate.value < 1 and np.isfinite(estimate.low)


def test_everything_is_read_from_files(runs, comparison):
    text = json.dumps([m.evaluation.metrics for m in comparison.models])
    again = compare(folders(runs, "base", "lora_sft", "reward_model", "ppo", "dpo", "worse"), baseline="lora_sft")
    assert json.dumps([m.evaluation.metrics for m in again.models]) == text and again.verdict == comparison.verdict


def test_a_kind_that_falls_is_seen_beside_a_mean_that_rises(tmp_path):
    """Means from the files; p-values from the change over each kind's items, by Holm over the two kinds that have items enough."""
    sft = write_run(tmp_path / "sft", quality=0.5, items=100, kinds={"story": 0.0, "unknown": 0.0})
    ppo = write_run(tmp_path / "ppo", quality=0.5, items=100, parents=[sft], kinds={"story": -0.15, "unknown": 0.45})
    compared = compare([sft, ppo])
    assert compared.to_parent["ppo", "instructions/gold"].verdict == "better"
    (table,) = compared.by_kind
    assert table["key"] == "instructions/gold" and table["kinds"] == {"story": 50, "unknown": 50}
    for folder in (sft, ppo):
        rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        for kind in ("story", "unknown"):
            scores = [row["scores"]["gold"] for row in rows if row.get("label") == kind]
            assert table["cells"][kind][folder.name]["value"] == pytest.approx(np.mean(scores), abs=1e-12)
    story, unknown = table["changes"]
    assert (story.kind, story.verdict, unknown.kind, unknown.verdict) == ("story", "worse", "unknown", "better")
    assert story.n == 50 and story.p_holm == min(1, 2 * min(story.p, unknown.p))
    means = {kind: cells["ppo"]["value"] - cells["sft"]["value"] for kind, cells in table["cells"].items()}
    assert story.mean == pytest.approx(means["story"], abs=1e-12)


def test_kinds_of_few_items_and_judges_that_were_optimised_have_no_table_of_kinds(tmp_path):
    kinds = {"story": 0.0, "list": 0.0, "summary": 0.0}
    few = write_run(tmp_path / "few", quality=0.5, items=28, kinds=kinds, optimised=True)  # 10, 9 and 9 items
    enough = write_run(tmp_path / "enough", quality=0.5, items=29, kinds=kinds, optimised=True)  # 10, 10 and 9
    assert compare([few]).by_kind == []
    (table,) = compare([enough]).by_kind
    assert table["key"] == "instructions/gold" and table["kinds"] == {"list": 10, "story": 10}


def test_a_model_measured_on_prompts_of_other_kinds_leaves_a_gap_in_the_table(tmp_path):
    sft = write_run(tmp_path / "sft", quality=0.5, kinds={"story": 0.0, "list": 0.0})
    ppo = write_run(tmp_path / "ppo", quality=0.6, parents=[sft], kinds={"story": 0.0, "summary": 0.0})
    lone = write_run(tmp_path / "lone", quality=0.6, kinds={"list": 0.0, **{f"kind_{i}": 0.0 for i in range(59)}})
    (table,) = compare([sft, ppo, lone]).by_kind
    assert [*table["cells"]["list"]] == ["sft", "lone"] and [*table["cells"]["story"]] == ["sft", "ppo"]
    assert table["cells"]["list"]["lone"]["n"] == 1 and table["cells"]["list"]["lone"]["low"] is None
    assert [change.kind for change in table["changes"]] == ["story"]
    written = write_report([sft, ppo, lone], tmp_path)
    (row,) = [line for line in written.markdown.read_text().splitlines() if line.startswith("| list | 30 |")]
    assert " | – | " in row and row.endswith(f"| {words.number(table['cells']['list']['lone']['value'])} |")
    assert "NaN" not in written.html.read_text()  # which JSON does not have
