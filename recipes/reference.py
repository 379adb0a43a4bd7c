"""Known models measured by this harness, with intervals, beside what was published of them.

    python -m recipes.reference gpt2 EleutherAI/pythia-160m facebook/opt-125m --output runs/reference
    python -m recipes.reference models/pythia-70m --suite recipes/configs/laptop/blimp.yaml --output runs/reference

Each is a folder or a hub id of any causal model. Writes an evaluation a model, table.md and table.json into the output folder. A model
that is there already is not measured again. Hours for whole benchmarks on a CPU (a suite's `limit` takes samples); seconds where all are
measured.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from recipes.run.cli import command

PUBLISHED = Path(__file__).parent / "results" / "reference_scores.yaml"
SUITE = Path(__file__).parent / "configs" / "reference.yaml"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m recipes.reference", description=__doc__.split("\n\n")[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folders of checkpoints, or hub ids")
    parser.add_argument("--suite", default=str(SUITE), help="suite YAML; stock benchmarks from the hub by default")
    parser.add_argument("--output", default="runs/reference", help="folder for evaluations and the table")
    parser.add_argument("--published", default=str(PUBLISHED), help="YAML of published scores")
    return parser.parse_args(argv)


def table_of(evaluations: dict[str, Any], published: str) -> list[dict[str, Any]]:
    """Rows {model, task, metric, value, low, high, n, published: [{value, metric, protocol, source}]} of all benchmark metrics."""
    from eval import references

    known = references.load(published)
    rows = []
    for model, evaluation in evaluations.items():
        task_of = references.tasks_of(evaluation.suite)
        for entry in evaluation.metrics:
            tasks = task_of.get(entry["set"], {entry["set"]})  # of a group, its tasks
            found = [r for r in known if r.is_of(tasks, entry["name"]) and references.is_same_model(model, r.model)]
            about = [{"value": r.value, "metric": r.metric, "protocol": r.protocol, "source": r.source} for r in found]
            rows.append(
                {"model": model, "task": entry["set"], "metric": entry["name"], "published": about}
                | {key: entry[key] for key in ("value", "low", "high", "n")}
            )
    return rows


def as_markdown(rows: list[dict[str, Any]]) -> str:
    from eval.words import markdown_cell, number

    lines = [
        "| model | task | metric | n | measured here, 95 % interval | published, protocol |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        spread = "" if row["low"] is None else f" [{number(row['low'])}, {number(row['high'])}]"
        beside = "; ".join(
            f"{number(p['value'])} ({p['protocol']}{', metric not stated' if p['metric'] == 'score' else ''})"
            for p in row["published"]
        )
        cells = [row["model"], row["task"], row["metric"], row["n"], number(row["value"]) + spread, beside or "–"]
        lines.append("| " + " | ".join(markdown_cell(cell) for cell in cells) + " |")
    return (
        "# Known models by this harness\n\nPublished numbers are of other prompts and versions: beside, not paired.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def main(argv: list[str] | None = None) -> Path:
    """Returns the path of table.md."""
    from eval import references
    from eval.suite import Suite
    from recipes.evaluation import measure

    options = arguments(argv)
    suite, out = Suite.load(options.suite), Path(options.output)
    references.load(options.published)  # before hours of measuring
    evaluations = {}
    for model in options.models:
        tag = hashlib.sha256(f"{model} {suite.sha256}".encode()).hexdigest()[:8]
        evaluations[model] = measure(model, suite, out / f"{Path(model).name}-{tag}")
    rows = table_of(evaluations, options.published)
    text = as_markdown(rows)
    (out / "table.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (out / "table.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return out / "table.md"


if __name__ == "__main__":
    command(main)
