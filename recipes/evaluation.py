"""Measure any causal checkpoint on a suite: a run of this project, a folder from elsewhere, or a hub id.

    python -m recipes.evaluation --config recipes/configs/tiny/evaluation.yaml --model runs/tiny/base

Writes eval.json (metric, value, interval, n, chance, item hashes, signatures, cost) and samples.jsonl (each item: prompt, output,
reference, scores) into the model's folder, or into --output. An evaluation of the same suite (same settings, same data, same
weights) that is there already is kept unless --overwrite. The tiny suite takes 5 to 6 s a checkpoint on 2 cores, and in a process of its
own 4 to 5 s more: imports, and once for an architecture the row of random weights. (recipes/results/evaluation.md: set by set.)
"""

from dataclasses import dataclass, field
from pathlib import Path

from eval.suite import Suite
from recipes.run.cli import command, parse
from recipes.run.quiet import quiet_bars


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured and where the results go; the suite's own keys stand beside these."""

    model: str = field(metadata={"help": "folder of a checkpoint, or a hub id"})
    output: str | None = field(default=None, metadata={"help": "folder for the results; the model's own by default"})
    reference: str | None = field(default=None, metadata={"help": "checkpoint for KL(model || reference)"})
    overwrite: bool = field(default=False, metadata={"help": "measure again even where the same evaluation is there"})


CONFIG_TYPES = (EvaluationConfig, Suite)


def measure(model: str | Path, suite: Suite, out: Path, *, reference: str | None = None, overwrite: bool = False):
    """The evaluation in `out` if it is of this suite and these weights, else a new one, written there."""
    from eval.harness import evaluate, weights_sha256
    from eval.results import Evaluation
    from recipes.judges.registry import judges_of

    quiet_bars()
    if not overwrite and (out / "eval.json").is_file():
        found = Evaluation.load(out)
        is_same = (found.suite["sha256"], found.weights_sha256) == (suite.sha256, weights_sha256(model))
        if is_same and (reference is None or found.notes.get("kl", {}).get("reference") == str(reference)):
            return found

    return evaluate(model, suite, judges=judges_of(suite), reference=reference, out=out)


def main(argv: list[str] | None = None) -> Path:
    config, suite = parse(*CONFIG_TYPES, argv=argv)
    out = Path(config.output or config.model)
    if config.output is None and not out.is_dir():
        raise ValueError(f"{config.model} is no folder to write into; say where the results go with --output FOLDER")
    print_evaluation(measure(config.model, suite, out, reference=config.reference, overwrite=config.overwrite))
    return out


def print_evaluation(evaluation) -> None:
    """One model's metrics and failed checks on the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from eval.words import number

    table = Table("metric", "value", "95 % interval", "n", "chance", title=Text(evaluation.checkpoint))
    for metric in evaluation.metrics:
        spread = "" if metric["low"] is None else f"{number(metric['low'])} to {number(metric['high'])}"
        note = " (optimised, not a benchmark)" if metric["is_optimised"] else ""
        name = Text(f"{metric['set']}/{metric['name']}{note}", style="bold" if metric["is_headline"] else "")
        table.add_row(name, number(metric["value"]), spread, str(metric["n"]), number(metric["chance"]))
    console = Console()
    console.print(table)
    for check in evaluation.checks:
        if not check["passed"]:
            console.print(Text(f"failed check: {check['name']}: {check['detail']}", style="red"))


if __name__ == "__main__":
    command(main)
