"""What the numbers of `reward/quality.py` mean: the checks a reward model must pass, and sentences on what a reader should notice."""

from collections.abc import Mapping
from typing import Any

from reward.quality import LENGTH_UNIT_WORDS

# Log-odds for LENGTH_UNIT_WORDS more words below which a length effect is not named, however surely it is not 0: it turns an even
# choice by 2.5 points. The regression takes the reward to be linear in gold, and where it is not, small effects are its own: 0.055
# [0.012, 0.099] was measured on tinytown with no bias planted, and -0.134 on the pairs of equal gold alone.
LEAST_LENGTH_EFFECT = 0.1


def checks(quality: Mapping[str, Any]) -> list[tuple[str, bool, str]]:
    """(name, passed, detail) of what a reward model must not fail. Worse than "the longer answer wins" is a failure."""
    own = quality["accuracy"]["value"]
    results = []
    for name, said in (
        ("longer wins", "reward model against 'the longer answer wins'"),
        ("random", "reward model against chance"),
    ):
        baseline = quality["baselines"][name]
        difference = baseline["model_minus_baseline"]
        detail = (
            f"held-out accuracy {own:.3f} against {baseline['accuracy']['value']:.3f}: difference {difference['mean']:+.3f} "
            f"[{difference['low']:+.3f}, {difference['high']:+.3f}] on {quality['pairs']} pairs"
        )
        results.append(
            (said, own >= baseline["accuracy"]["value"] if name == "longer wins" else difference["low"] > 0, detail)
        )
    return results


def findings(quality: Mapping[str, Any]) -> list[str]:
    """What a reader should notice, in sentences: length bias, confidence, vocabulary, gold."""
    said = []
    length = quality["length"]
    if "model_minus_labels" in length:
        gap, share = length["model_minus_labels"], length["prefers_longer"]["value"]
        labels = length["chosen_is_longer"]
        if (labels["low"] or 0) > 0.5:
            said.append(f"labels favour length: the longer answer is the chosen one in {_share(labels)} of pairs")
        if (gap["low"] or 0) > 0:
            said.append(
                f"length bias: the model prefers the longer answer in {share:.1%} of pairs, the labels in {labels['value']:.1%} "
                f"(difference {gap['mean']:+.1%} [{gap['low']:+.1%}, {gap['high']:+.1%}])"
            )
    effect = quality.get("on_policy", {}).get("length_effect")
    has_interval = effect is not None and effect["low"] is not None
    if has_interval and (effect["low"] > LEAST_LENGTH_EFFECT or effect["high"] < -LEAST_LENGTH_EFFECT):
        sign = "longer" if effect["value"] > 0 else "shorter"
        said.append(
            f"length bias towards {sign} answers: at equal gold score {LENGTH_UNIT_WORDS} more words change the log-odds "
            f"of winning by {effect['value']:+.2f} [{effect['low']:+.2f}, {effect['high']:+.2f}]"
        )
    temperature = quality["calibration"]["temperature"]
    helps = (
        quality["calibration"]["nll_nats_at_temperature"] < quality["calibration"]["nll_nats"]
    )  # on the other half of the prompts
    if helps and not 0.8 < temperature < 1.25:
        kind = "overconfident" if temperature > 1 else "underconfident"
        before, after = quality["calibration"]["ece"], quality["calibration"]["ece_at_temperature"]
        said.append(
            f"{kind}: the fitted temperature is {temperature:.2f} (calibration error {before:.3f}, with it {after:.3f})"
        )
    words = quality["baselines"].get("bag of words")
    if words is not None and words["model_minus_baseline"]["low"] <= 0:
        difference = words["model_minus_baseline"]
        said.append(
            "no better than a bag of words: accuracy differs by "
            f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
        )
    curve = quality.get("on_policy", {}).get("best_of_n")
    if curve and curve[-1]["gold_by_proxy"]["value"] < max(point["gold_by_proxy"]["value"] for point in curve):
        said.append(
            f"best-of-n by this model falls in gold score before n = {curve[-1]['n']}: it is over-optimised there"
        )
    return said


def _share(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.1%} [{estimate['low']:.1%}, {estimate['high']:.1%}]"
