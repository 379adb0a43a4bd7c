"""Full fine-tuning against LoRA (or any other variants of one stage): what each learned, forgot and cost, in one table.

    python -m recipes.studies.full_vs_lora --config recipes/configs/tiny/full_vs_lora.yaml

Each variant is the stage's own recipe with some settings changed, run in a process of its own (its memory is its own) and evaluated on the
stage's suite; the changes are paired with the parent's on the same items, with 95 % intervals, Holm-corrected over the table. Written to
full_vs_lora.md and .json in the output folder. One training seed: the intervals are over items.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.words import number, signed
from recipes.run.cli import command, load_yaml, parse, reject_unknown
from recipes.run.stage import stages


@dataclass(frozen=True)
class VariantsConfig:
    """One stage, several ways."""

    output_dir: str  # a folder below it for each variant
    stage_config: str  # the stage's YAML, with `model` and `evaluation`
    recipe: str = "lora_sft"  # or any other stage that trains
    variants: dict = field(default_factory=dict)  # name -> settings that differ from stage_config
    learned: list[str] = field(default_factory=list)  # metrics, "set/name", that the stage is for
    forgotten: list[str] = field(default_factory=list)  # metrics that it may cost

    def __post_init__(self) -> None:
        training = [name for name, one in stages().items() if one.stage.trains]
        if self.recipe not in training:
            raise ValueError(f"recipe is {self.recipe!r}; use one of {', '.join(training)}")
        if len(self.variants) < 2:
            raise ValueError(f"variants needs at least two to compare, got {list(self.variants)}")
        if not self.learned:
            raise ValueError("learned must name at least one metric, e.g. [instructions/rougeL]")


CONFIG_TYPES = (VariantsConfig,)


def main(argv: list[str] | None = None) -> Path:
    """Returns the path of the table."""
    (config,) = parse(*CONFIG_TYPES, argv=argv)
    stage = load_yaml(config.stage_config)
    for key in ("model", "evaluation"):
        if key not in stage:
            raise ValueError(f"{config.stage_config} has no '{key}', which the table needs")
    check_overrides(config)
    out = Path(config.output_dir)
    for name, changed in config.variants.items():
        print(f"{name}: {changed or 'as configured'}", flush=True)
        run_variant(config, name, changed or {})

    from eval.compare import compare
    from eval.suite import Suite
    from recipes.compare import evaluated_folder

    parent = evaluated_folder(stage["model"], Suite.load(stage["evaluation"]), out)
    names = ["parent", *config.variants]
    comparison = compare([parent, *(out / name for name in config.variants)], baseline=parent, names=names)
    rows = table(comparison, list(config.variants), [*config.learned, *config.forgotten])
    written = out / "full_vs_lora.md"
    text = as_markdown(rows, config)
    (out / "full_vs_lora.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    written.write_text(text, encoding="utf-8")
    print(text)
    return written


def check_overrides(config: VariantsConfig) -> None:
    """Raise ValueError for a setting that the stage does not have, before anything is run."""
    import importlib

    types = importlib.import_module(stages()[config.recipe].module).CONFIG_TYPES
    known = [name for kind in types for name in kind.__dataclass_fields__]
    for name, changed in config.variants.items():
        reject_unknown(list(changed or {}), known, f"variant '{name}'")


def run_variant(config: VariantsConfig, name: str, changed: dict[str, Any]) -> None:
    """One variant, anew. Raises ValueError with its failure."""
    from recipes.run.process import run_recipe

    folder = Path(config.output_dir) / name
    arguments = ["--config", config.stage_config, "--output_dir", str(folder), "--overwrite"]
    for key, value in changed.items():
        arguments += [f"--{key}", json.dumps(value) if isinstance(value, (dict, bool)) else str(value)]
    log = Path(config.output_dir) / f"{name}.txt"
    failure = run_recipe(stages()[config.recipe].module, arguments, log, lambda: None)
    if failure:
        raise ValueError(f"variant '{name}' failed: {failure}; its output is in {log}")


def table(comparison, variants: list[str], keys: list[str]) -> list[dict[str, Any]]:
    """A row for each variant: paired change to the parent on each metric, trained parameters, seconds, memory.

    Raises ValueError for a metric that was not measured."""
    for key in keys:
        if key not in comparison.keys:
            raise ValueError(f"the suite has no metric '{key}'; it has {', '.join(comparison.keys)}")
    changes = comparison.changes([(name, "parent") for name in variants], keys)
    rows = []
    for name in variants:
        record = comparison.by_name[name].manifest
        notes = record["notes"]
        rows.append(
            {
                "variant": name,
                "changes": {
                    change.key: {
                        "value": comparison.cell(name, change.key)["value"],
                        "mean": change.mean,
                        "low": change.low,
                        "high": change.high,
                        "p_holm": change.p_holm,
                        "verdict": change.verdict,
                    }
                    for change in changes
                    if change.model == name
                },
                "trained_parameters": record["trained_parameters"],
                "training_s": notes["training_s"],
                "training_peak_bytes": notes.get("training_peak_bytes") or record["peak_memory_bytes"],
            }
        )
    return rows


def as_markdown(rows: list[dict[str, Any]], config: VariantsConfig) -> str:
    """The table for people: change to the parent with its interval; (=) where none was detected."""
    keys = [*config.learned, *config.forgotten]
    head = ["variant", *(f"learned: {k}" for k in config.learned), *(f"forgotten: {k}" for k in config.forgotten)]
    lines = [[*head, "trained parameters", "training s", "peak memory MiB"]]
    for row in rows:
        cells = [row["variant"]]
        for key in keys:
            change = row["changes"][key]
            mark = {"better": " ▲", "worse": " ▼", "same": " (=)"}.get(change["verdict"], "")
            interval = f"[{signed(change['low'])}, {signed(change['high'])}]"
            cells.append(f"{number(change['value'])} ({signed(change['mean'])} {interval}){mark}")
        memory = row["training_peak_bytes"]
        peak = memory.get("accelerator", memory["host"]) / 2**20
        lines.append([*cells, f"{row['trained_parameters']:,}", f"{row['training_s']:.1f}", f"{peak:,.0f}"])
    lines.insert(1, ["---"] * len(lines[0]))
    body = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return (
        f"# {config.recipe}: full fine-tuning against LoRA\n\n{body}\n\n"
        "Value (paired change to the parent, 95 % interval). ▲ better, ▼ worse, (=) no difference detected at 5 % after Holm's correction. "
        "One training seed: the intervals are over items.\n"
    )


if __name__ == "__main__":
    command(main)
