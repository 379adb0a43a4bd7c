"""A reward model's quality as tables for a report: each {"title", "text", "columns", "rows"}, every cell a string."""

from collections.abc import Mapping
from typing import Any

from reward.verdict import findings

Table = dict[str, Any]


def tables(quality: Mapping[str, Any]) -> list[Table]:
    """The tables of `reward.quality.measure`'s JSON, the most important first; what was not measured has none."""
    made = [_baselines(quality), _groups(quality), _calibration(quality["calibration"])]
    if "on_policy" in quality:
        made.append(_best_of_n(quality["on_policy"]))
    if "ensemble" in quality:
        made.append(_ensemble(quality["ensemble"]))
    return made


def interval(estimate: Mapping[str, float | None]) -> str:
    """0.712 [0.655, 0.764], or the value alone where there is no interval."""
    if estimate["low"] is None:
        return f"{estimate['value']:.3f}"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def _signed(difference: Mapping[str, float | None]) -> str:
    return f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"


def _baselines(quality: Mapping[str, Any]) -> Table:
    rows = [["this reward model", interval(quality["accuracy"]), "", ""]]
    for name, baseline in quality["baselines"].items():
        difference = baseline["model_minus_baseline"]
        rows.append([name, interval(baseline["accuracy"]), _signed(difference), f"{difference['p']:.3g}"])
    return {
        "title": f"Accuracy on {quality['pairs']} held-out pairs of {quality['prompts']} prompts",
        "text": " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in findings(quality)),
        "columns": ["who orders the pair", "accuracy [95 %]", "model minus it [95 %]", "p"],
        "rows": rows,
    }


def _groups(quality: Mapping[str, Any]) -> Table:
    parts = {"margin": quality["by_margin"], "kind": quality["by_kind"], "length": quality["length"]["accuracy"]}
    rows = [
        [by, name, str(estimate["n"]), interval(estimate)]
        for by, groups in parts.items()
        for name, estimate in groups.items()
    ]
    return {
        "title": "Accuracy by margin, kind and length",
        "text": "",
        "columns": ["by", "group", "pairs", "accuracy [95 %]"],
        "rows": rows,
    }


def _calibration(calibration: Mapping[str, Any]) -> Table:
    return {
        "title": "Calibration of the probability that the preferred answer wins",
        "text": (
            f"Fitted temperature {calibration['temperature']:.2f}; NLL {calibration['nll_nats']:.3f} nats, with it "
            f"{calibration['nll_nats_at_temperature']:.3f}; ECE {calibration['ece']:.3f}, with it "
            f"{calibration['ece_at_temperature']:.3f} (each half of the prompts judged by the other half's temperature)."
        ),
        "columns": ["confidence", "pairs", "accuracy [95 %]"],
        "rows": [
            [f"{point['confidence']:.3f}", str(point["accuracy"]["n"]), interval(point["accuracy"])]
            for point in calibration["curve_at_temperature"]
        ],
    }


def _best_of_n(report: Mapping[str, Any]) -> Table:
    agreement = (
        f"orders {interval(report['agreement'])} of the pairs as gold does"
        if "agreement" in report
        else "gold finds no difference"
    )
    return {
        "title": "Best-of-n on the policy's own answers, by gold",
        "text": f"{report['answers']} answers to {report['prompts']} prompts: the model {agreement}.",
        "columns": ["n", "gold of the model's choice [95 %]", "gold of the best [95 %]"],
        "rows": [
            [str(point["n"]), interval(point["gold_by_proxy"]), interval(point["gold_by_gold"])]
            for point in report["best_of_n"]
        ],
    }


def _ensemble(report: Mapping[str, Any]) -> Table:
    spreads = [
        f"{report[name]:.3f}" if report[name] is not None else "none"
        for name in ("spread_where_right", "spread_where_wrong")
    ]
    return {
        "title": f"{len(report['members'])} seeds",
        "text": (
            f"Two seeds order {report['order_disagreement']:.1%} of pairs differently. Their spread is {spreads[0]} where "
            f"their mean is right, {spreads[1]} where it is wrong."
        ),
        "columns": ["member", "accuracy [95 %]"],
        "rows": [
            *([f"seed {i + 1}", interval(member)] for i, member in enumerate(report["members"])),
            ["their mean", interval(report["mean"])],
        ],
    }
