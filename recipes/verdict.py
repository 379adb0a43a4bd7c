"""Is B better than A? A referee for per-item results of this project, lm-eval, inspect, lighteval, or a CSV.

    python -m recipes.verdict runs/tiny/lora_sft runs/tiny/ppo --metric instructions/tinytown_gold
    python -m recipes.verdict a/samples_hellaswag_2026-01-01.jsonl b/samples_hellaswag_2026-01-02.jsonl --margin 0.01
    python -m recipes.verdict seed1.csv,seed2.csv,seed3.csv other1.csv,other2.csv,other3.csv --json -

The first is the baseline, the others are judged against it, each in one sentence: better, worse, not worse by more than the margin, or
cannot tell, with how many more items or seeds would. Items are paired by name; clusters, training seeds and repeated samples are
separate components of variance. Every comparison is recorded in verdicts.ledger beside the items, and the level it is held against is
what earlier ones on the same items left (eval/ledger.py). Exit status, for CI: 0 all are better or within the margin, 3 one is worse, 4
one can't be told (3 before 4), 1 a mistake. Seconds; runs no model.
"""

import argparse
import json
import sys
from pathlib import Path

from recipes.run.cli import command


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m recipes.verdict", description=__doc__.split("\n\n")[0])
    parser.add_argument("models", nargs="+", metavar="RESULTS", help="baseline first; a comma joins one model's seeds")
    parser.add_argument("--metric", help="set/name, or a name pooled over all sets; needed where there are several")
    parser.add_argument("--margin", type=float, help="how much worse still counts as no worse, in units of the metric")
    parser.add_argument("--lower-is-better", action="store_true", help="where the metric's name does not say so")
    parser.add_argument("--json", metavar="FILE", help="all numbers as JSON, - for the terminal")
    parser.add_argument(
        "--ledger", metavar="FILE", help="verdicts.ledger beside the baseline's items by default; none: unrecorded"
    )
    parser.add_argument(
        "--reserve", type=float, metavar="SHARE", help="at the first comparison: set items aside, e.g. 0.2"
    )
    parser.add_argument(
        "--open-reserve", action="store_true", help="confirm one comparison on the reserve, once for ever"
    )
    return parser.parse_args(argv)


def judge_all(options: argparse.Namespace) -> list[dict]:
    """One verdict a candidate, as JSON values, with what the ledger says."""
    from eval import item_scores, ledger, referee
    from eval.statistics import ALPHA

    if len(options.models) < 2:
        raise ValueError("name a baseline and at least one model to judge against it")
    if options.open_reserve and len(options.models) > 2:
        raise ValueError("the reserve is opened for one comparison: name the baseline and one model")
    baseline, *candidates = (item_scores.read(path) for path in options.models)
    metric = item_scores.choose([baseline, *candidates], options.metric)
    is_lower_better = options.lower_is_better or baseline.is_lower_better(metric)
    file = None if options.ledger == "none" else Path(options.ledger or baseline.home / ledger.FILE)
    if file is None and (options.reserve or options.open_reserve):
        raise ValueError("a reserve needs a ledger")
    found = []
    for candidate in candidates:

        def judged(paired, level, candidate=candidate):
            return referee.judge(
                paired, candidate.name, baseline.name, metric,
                level=level, margin=options.margin, lower_is_better=is_lower_better,
            )  # fmt: skip

        paired = referee.pair(candidate, baseline, metric)
        if file is None:
            verdict, spent = judged(paired, ALPHA / len(candidates)), None
        else:
            about = {"candidate": candidate.name, "baseline": baseline.name, "metric": metric, "margin": options.margin}
            verdict, spent = ledger.referee(
                file, paired, about, judged, reserve=options.reserve, is_opening=options.open_reserve
            )
        told = {"file": str(file), **vars(spent)} if spent else None
        found.append(verdict.as_dict() | {"ledger": told, "left_out": baseline.left_out + candidate.left_out})
    return found


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status."""
    from eval.results import finite

    options = arguments(argv)
    found = judge_all(options)
    for verdict in found:
        told = verdict["ledger"]
        lines = [verdict["sentence"], *verdict["notes"], *verdict["left_out"]]
        if told:
            which = "the same as before, which costs nothing" if told["is_repeat"] else f"comparison {told['number']}"
            lines.append(f"{which} on these items, at level {told['level']:.2g} of 0.05 ({told['file']})")
        print("\n  ".join(lines), file=sys.stderr if options.json == "-" else sys.stdout)
    if options.json:
        text = json.dumps(finite(found), indent=1) + "\n"
        if options.json == "-":
            print(text, end="")
        else:
            Path(options.json).write_text(text, encoding="utf-8")
    codes = {verdict["exit_code"] for verdict in found}
    return next((code for code in (3, 4) if code in codes), 0)


if __name__ == "__main__":
    status: list[int] = []
    command(lambda: status.append(main()))
    sys.exit(status[0])
