"""Compare any number of checkpoints: a table of stages and metrics and the pairwise win rates here, report.html and report.md on disk.

    python -m recipes.compare runs/tiny/base runs/tiny/lora_sft runs/tiny/ppo runs/tiny/dpo --baseline runs/tiny/lora_sft
    python -m recipes.compare runs/tiny/ppo some/model-of-yours --suite recipes/configs/tiny/evaluation.yaml --output runs/comparison

Evaluations on disk are reused. With --suite, a model that was not measured on that very suite (same settings, data, weights) is
measured now; without it, every folder must hold an evaluation. Comparing takes seconds: it reads files and runs no model.
A run without a checkpoint goes in as it is: best-of-n (recipes.best_of_n) with its win rates, its bound on KL and what an answer costs;
a sweep (recipes.studies.overoptimization) with its figures and tables.
"""

import argparse
import hashlib
from pathlib import Path

from recipes.evaluation import measure
from recipes.reference import PUBLISHED
from recipes.run.cli import command


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m recipes.compare", description=__doc__.split("\n\n")[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="run folders, checkpoints from elsewhere, hub ids")
    parser.add_argument("--suite", help="suite YAML: what is not measured on it yet is measured now")
    parser.add_argument("--baseline", help="one of the models; the first by default")
    parser.add_argument("--output", help="folder for the report; the models' common folder by default")
    parser.add_argument("--seed", type=int, default=0, help="of the samples that are shown")
    return parser.parse_args(argv)


def evaluated_folder(model: str, suite, output: Path) -> Path:
    """The folder with the model's evaluation on `suite`: its own if it is a run's or can be written, else one under `output`."""
    from eval.results import Evaluation

    own = Path(model)
    has_other = (own / "eval.json").is_file() and Evaluation.load(own).suite["sha256"] != suite.sha256
    is_foreign = not (own / "manifest.json").is_file()
    out = own
    if has_other or is_foreign:  # another suite's evaluation, or a folder that is not ours, is left as it is
        tag = hashlib.sha256(f"{own.resolve() if own.exists() else model} {suite.sha256}".encode()).hexdigest()[:8]
        out = output / "evaluations" / f"{own.name}-{tag}"
    measure(model, suite, out)
    return out


def holds_model(model: str) -> bool:
    """False for a run of this project that left no checkpoint: best-of-n (measured already), a sweep (figures and tables alone)."""
    return not (Path(model) / "manifest.json").is_file() or (Path(model) / "config.json").is_file()


def main(argv: list[str] | None = None) -> Path:
    """Returns the path of report.html."""
    options = arguments(argv)
    folders = [Path(model) for model in options.models]
    output = Path(options.output) if options.output else _common(folders)
    from eval.report import write_report

    baseline = options.baseline
    if options.suite:
        from eval.suite import Suite

        suite = Suite.load(options.suite)
        measured = {
            model: evaluated_folder(model, suite, output) if holds_model(model) else Path(model)
            for model in options.models
        }
        folders = list(measured.values())
        baseline = measured.get(baseline, baseline)
    line = ["python -m recipes.compare", *options.models]
    line += [f"--{name} {value}" for name in ("suite", "baseline", "output") if (value := getattr(options, name))]
    written = write_report(
        folders,
        output,
        baseline=baseline,
        aligned=folders,
        command=" ".join(line),
        seed=options.seed,
        published=PUBLISHED,
    )
    print_comparison(written.comparison)
    print("\n".join([written.verdict, *written.in_words, str(written.html)]))
    return written.html


def _common(folders: list[Path]) -> Path:
    parents = {folder.resolve().parent for folder in folders if folder.is_dir()}
    if len(parents) != 1:
        raise ValueError("the models lie in different folders; say where the report goes with --output FOLDER")
    return next(iter(parents))


def print_comparison(comparison) -> None:
    """Stage x metric table and pairwise win rates on the terminal."""
    from rich.console import Console

    console = Console()
    console.print(stage_table(comparison))
    for key in comparison.judge_keys:
        if (table := win_table(comparison, key)) is not None:
            console.print(table)


def stage_table(comparison):
    """A row for each headline metric, a column for each model: value, 95 % interval, paired change against the parent."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from eval.words import number, signed

    title = "value, 95 % interval, paired change against the parent stage (≈ none detectable)"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 1, 0))
    table.add_column("metric", overflow="fold")
    for heading in ("n", "chance", "random"):
        table.add_column(heading, justify="right", style="dim")
    for model in comparison.models:
        table.add_column(Text(model.name), justify="right", overflow="fold")
    colours = {"better": "green", "worse": "red", "same": "dim"}
    for key in comparison.headline_keys:
        entry = comparison.entries[key]
        arrow = {True: " ↑", False: " ↓", None: ""}[entry["higher_is_better"]]
        cells = [Text(entry["name"] + arrow).append(f"\n{entry['set']}", style="dim"), Text(str(entry["n"]))]
        random = (entry["random_init"] or {}).get("value")
        cells += [Text("" if value is None else number(value, 2)) for value in (entry["chance"], random)]
        for model in comparison.models:
            cell, change = comparison.cell(model.name, key), comparison.to_parent.get((model.name, key))
            text = Text("–" if cell is None else number(cell["value"]))
            if cell and cell["low"] is not None:
                text.append(f"\n{number(cell['low'], 2)}–{number(cell['high'], 2)}", style="dim")
            if change:
                said = {"same": "≈", "undefined": ""}.get(change.verdict, signed(change.mean))
                text.append(f"\n{said}", style=colours.get(change.verdict, "blue"))
            cells.append(text)
        table.add_row(*cells)
    return table


def win_table(comparison, key: str):
    """Pairwise win rates of one judge in percent, the rate at equal length in brackets; None with fewer than two models."""
    from rich.table import Table
    from rich.text import Text

    rates = comparison.win_rates(key)
    names = list(dict.fromkeys(pair[0] for pair in rates))
    if not names:
        return None
    is_optimised = comparison.is_optimised(key)
    note = " (optimised, not a benchmark)" if is_optimised else ""
    table = Table(title=f"{key}{note}: row preferred to column, %, at equal length in brackets; bold: p < 0.05 (Holm)")
    for title in ["", *names]:
        table.add_column(Text(title), justify="right" if title else "left")
    for row in sorted(names, key=[m.name for m in comparison.models].index):
        cells = []
        for column in names:
            rate = rates.get((row, column))
            said = "" if rate is None else f"{100 * rate.rate:.0f} ({100 * rate.controlled:.0f})"
            cells.append(Text(said, style="bold" if rate and rate.p_holm < 0.05 else ""))
        table.add_row(Text(row), *cells)
    return table


if __name__ == "__main__":
    command(main)
