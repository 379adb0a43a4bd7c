"""Published scores of known models, to stand beside measured ones: what a number is worth, never a paired comparison.

A file of them (recipes/results/reference_scores.yaml) has `protocols` {name: {text, source}} and `models`, each with name, parameters and
scores {protocol: {task: {metric: value}}}, values as printed: percent for accuracies.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PERCENT = ("acc", "acc_norm", "score")
UNSTATED = "score"  # the metric of sources that name none; shown beside the accuracies that it may be
MOST_ROWS = 6  # of published scores beside measured ones


@dataclass(frozen=True)
class Reference:
    """One published score, accuracies as a share of 1."""

    model: str
    parameters: float
    task: str
    metric: str
    value: float
    protocol: str  # in words
    source: str

    def is_of(self, tasks: Collection[str], metric: str) -> bool:
        """Whether it is of a task of one of these names, and of this metric, or of one that its source does not name."""
        return self.task in tasks and (self.metric == metric or (self.metric == UNSTATED and metric in PERCENT))


def load(path: Path | str) -> list[Reference]:
    """All scores of a file. Raises FileNotFoundError, or ValueError naming what is wrong in it."""
    import yaml

    values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(values, dict) or set(values) != {"protocols", "models"}:
        raise ValueError(f"{path} must hold 'protocols' and 'models'")
    found = []
    for model in values["models"]:
        where = f"{path}: {model.get('name', 'a model without a name')}"
        if missing := {"name", "parameters", "scores"} - set(model):
            raise ValueError(f"{where} has no {', '.join(sorted(missing))}")
        for protocol, tasks in model["scores"].items():
            if protocol not in values["protocols"]:
                raise ValueError(f"{where}: no protocol '{protocol}'; there are {', '.join(values['protocols'])}")
            about = values["protocols"][protocol]
            for task, metrics in tasks.items():
                for metric, value in metrics.items():
                    if not isinstance(value, (int, float)) or (metric in PERCENT and not 0 <= value <= 100):
                        raise ValueError(f"{where}, {task}: {metric} is {value!r}; accuracies are percent, as printed")
                    share = value / 100 if metric in PERCENT else float(value)
                    found.append(
                        Reference(
                            model["name"],
                            float(model["parameters"]),
                            task,
                            metric,
                            share,
                            about["text"],
                            about["source"],
                        )
                    )
    return found


def nearest(
    references: Sequence[Reference], columns: Mapping[str, tuple[Collection[str], str]], parameters: float | None
) -> list[dict[str, Any]]:
    """At most MOST_ROWS rows for a table whose columns are {key: (names of the task, metric)}, a model and protocol each, nearest in size
    first (in its logarithm; smallest first where `parameters` is unknown), then those with most cells.

    A row is {model, parameters, protocol, source, cells: {key: {value, metric}}}."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for reference in references:
        for key, (tasks, metric) in columns.items():
            if reference.is_of(tasks, metric):
                about = {name: getattr(reference, name) for name in ("model", "parameters", "protocol", "source")}
                cells = rows.setdefault((reference.model, reference.protocol), about | {"cells": {}})["cells"]
                if key not in cells or reference.metric == metric:
                    cells[key] = {"value": reference.value, "metric": reference.metric}
    size = math.log(parameters) if parameters else 0.0
    ranked = sorted(rows.values(), key=lambda row: (abs(math.log(row["parameters"]) - size), -len(row["cells"])))
    return ranked[:MOST_ROWS]


def tasks_of(suite: Mapping[str, Any]) -> dict[str, set[str]]:
    """{set: names that its task is known by} of a suite's benchmarks: the task's, and that which the suite gives it."""
    settings = suite.get("settings", {}).get("benchmarks", [])
    made = [{"task": value} if isinstance(value, str) else value for value in settings]
    return {(value.get("name") or value["task"]): {value["task"], value.get("name") or value["task"]} for value in made}


def is_same_model(name: str, published: str) -> bool:
    """Whether a folder or hub id names a published model: by letters and digits, "gpt2" being GPT-2 124M."""
    own, theirs = (_letters(text) for text in (name.rstrip("/").split("/")[-1], published))
    return (GPT2.get(own) or own) == theirs


GPT2 = {"gpt2": "gpt2124m", "gpt2medium": "gpt2355m", "gpt2large": "gpt2774m", "gpt2xl": "gpt215b"}


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())
