"""One self-contained report.html, and the same as report.md, from the stages' files alone.

    write_report(["runs/tiny/base", "runs/tiny/ppo"], "runs/tiny")

reads manifest.json, eval.json, samples.jsonl and log.jsonl of each folder and calls into nothing else. Model output is untrusted:
jinja2 escapes it, embedded JSON has no "<", scripts put it on the page as text, and control and direction characters are shown
by their names.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from base_model.checkpoints import write_text_atomically
from eval import figures, references, words
from eval.answers import answers
from eval.behaviours import in_words
from eval.compare import LEAST_OF_A_KIND, Comparison, Model, as_json, compare

MOST_SAMPLES = 200
MOST_PANELS = 8
FILTERS = ("number", "signed", "count", "percent", "seconds", "gib", "fence", "p_value", "markdown_cell", "reading")
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Written:
    """Where the report is, its first sentences, and what it was made from."""

    html: Path
    markdown: Path
    verdict: str
    in_words: list[str]
    comparison: Comparison


def write_report(
    folders: Sequence[Path | str],
    out_dir: Path | str,
    *,
    baseline: Path | str | None = None,
    aligned: Sequence[Path | str] = (),
    command: str = "",
    title: str = "",
    seed: int = 0,
    published: Path | str | None = None,
) -> Written:
    """Write report.html and report.md into `out_dir`. baseline, aligned: as in `compare`. seed: of the samples shown.
    published: file of known models' scores (`eval.references`), whose nearest stand below the benchmarks measured here."""
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    comparison = compare(folders, baseline=baseline, aligned=aligned)
    data = report_data(comparison, command=command, title=title or out_dir.name, seed=seed, published=published)
    write_text_atomically(out_dir / "report.html", render("report.html", data, figures_of(comparison, data)))
    write_text_atomically(out_dir / "report.md", render("report.md", data, {}))
    html, markdown = out_dir / "report.html", out_dir / "report.md"
    return Written(html, markdown, comparison.verdict, data["in_words"], comparison)


def render(template: str, data: Mapping[str, Any], drawn: Mapping[str, Any]) -> str:
    """A template of this folder filled in; .html escapes what it is given."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in FILTERS:
        environment.filters[name] = getattr(words, name)
    return (
        environment.get_template(template).render(**data, drawn=drawn, embedded=words.embedded_json(data)).rstrip()
        + "\n"
    )


def report_data(
    comparison: Comparison, *, command: str, title: str, seed: int, published: Path | str | None = None
) -> dict[str, Any]:
    """All that the report shows, as JSON values with every text made visible."""
    models = [
        {
            "name": m.name,
            "stage": m.stage,
            "parent": m.parent,
            "seed": m.manifest.get("seed"),
            "failure": m.evaluation.failure,
            "is_baseline": m.name == comparison.baseline,
        }
        for m in comparison.models
    ]
    data = {
        "title": title,
        "verdict": comparison.verdict,
        "in_words": in_words(comparison),
        "command": command,
        "baseline": comparison.baseline,
        "suite": comparison.models[0].evaluation.suite,
        "checks": comparison.checks,
        "models": models,
        "metrics": [_metric(comparison, key) for key in comparison.keys],
        "published": _published(comparison, published),
        "contamination": _contamination(comparison),
        "cells": {m.name: {key: _cell(comparison, m.name, key) for key in comparison.keys} for m in comparison.models},
        "to_parent": [as_json(change) for change in comparison.to_parent.values()],
        "to_baseline": [as_json(change) for change in comparison.to_baseline.values()],
        "by_kind": [table | {"changes": [as_json(c) for c in table["changes"]]} for table in comparison.by_kind],
        "least_of_a_kind": LEAST_OF_A_KIND,
        "win_rates": _win_rates(comparison),
        "matrix_models": comparison.aligned or [m.name for m in comparison.models],
        "seed_groups": comparison.seed_groups,
        "answers": answers(comparison, prompt_text),
        "samples": samples(comparison, seed),
        "tables": [
            {"stage": record.name, **table}
            for record in comparison.records
            for table in record.manifest.get("notes", {}).get("tables", [])
        ],
        "lineage": lineage_of(comparison.records),
        "settings": settings_of(comparison.records),
        "costs": [_cost(record) for record in comparison.records],
        "notes": {
            record.name: record.manifest["notes"] for record in comparison.records if record.manifest.get("notes")
        },
        "environment": _environment(comparison),
    }
    return words.visible(data)


def figures_of(comparison: Comparison, data: Mapping[str, Any]) -> dict[str, Any]:
    """The report's drawings as SVG text."""
    headline = [m for m in data["metrics"] if m["is_headline"]][:MOST_PANELS]
    names = [model["name"] for model in data["models"]]
    panels = [
        {
            "title": f"{m['set']} · {m['name']}",
            "cells": {name: data["cells"][name][m["key"]] for name in names},
            "chance": m["chance"],
            "random": m["random_init"] and m["random_init"]["value"],
            "higher_is_better": m["higher_is_better"],
        }
        for m in headline
    ]
    logs = {record.name: read_log(record.folder) for record in comparison.records}
    curves = {name: charts for name, log in logs.items() if (charts := figures.curve_panels(name, log))}
    return {
        "intervals": [figures.interval_panel(panel, names) for panel in panels],
        "curves": curves,
        "overoptimisation": overoptimisation(comparison.records, logs),
        "of_stages": figures_of_stages(comparison.records),
        "lineage": figures.lineage(data["lineage"]["nodes"], [tuple(edge) for edge in data["lineage"]["edges"]]),
    }


def figures_of_stages(records: Sequence[Model]) -> list[dict[str, str]]:
    """{stage, title, source} of the SVG files that records name under `figures`, as data: an image so embedded can run no script."""
    found = []
    for record in records:
        for figure in record.manifest.get("notes", {}).get("figures", []):
            file = record.folder / Path(figure["file"]).name  # of its own folder, wherever the record points
            if file.suffix == ".svg" and file.is_file():
                source = "data:image/svg+xml;base64," + base64.b64encode(file.read_bytes()).decode()
                found.append({"stage": record.name, "title": words.visible(figure["title"]), "source": source})
    return found


def overoptimisation(records: Sequence[Model], logs: Mapping[str, list]) -> list[str]:
    """Gold and proxy score against sqrt(KL), of each log that holds both beside the KL (a sweep, or a run that measured gold)."""
    charts = []
    for record in records:
        found: dict[str, list[tuple[float, float]]] = {}
        for line in logs[record.name]:
            kl = next((line[key] for key in ("kl_nats", "objective/kl_nats") if key in line), None)
            if kl is None or not any("gold" in key for key in line):
                continue
            for key in line:
                if ("gold" in key or "proxy" in key) and figures.is_number(line[key]):
                    found.setdefault(key, []).append((max(0.0, kl) ** 0.5, line[key]))
        series = {key: sorted(points) for key, points in found.items() if len(points) >= 2}
        if series:
            charts.append(figures.line_chart(f"{record.name} · score against √KL", series, "√KL, √nats"))
    return charts


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Lines of log.jsonl; a last line that was cut off by a crash is left out."""
    path = folder / "log.jsonl"
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [line for line in found if isinstance(line, dict)]


# ---- parts of the data


def _metric(comparison: Comparison, key: str) -> dict[str, Any]:
    entry = comparison.entries[key]
    kept = ("set", "name", "unit", "higher_is_better", "is_headline", "signature", "chance", "n")
    cells = [cell for m in comparison.models if (cell := comparison.cell(m.name, key))]
    random_init = next((cell["random_init"] for cell in cells if cell["random_init"]), None)
    return {
        "key": key,
        **{name: entry[name] for name in kept},
        "is_optimised": any(cell["is_optimised"] for cell in cells),
        "random_init": random_init,
        "smallest_detectable": comparison.unpaired_detectable(key),
    }


def _cell(comparison: Comparison, name: str, key: str) -> dict[str, Any] | None:
    cell = comparison.cell(name, key)
    if cell is None:
        return None
    evaluation = comparison.by_name[name].evaluation
    control = evaluation.notes.get(cell["set"], {}).get("question_removed") or {}
    alone = control.get("value") if control.get("metric") == cell["name"] else None
    return {part: cell[part] for part in ("value", "low", "high", "n")} | {
        "warning": cell.get("warning", ""),
        "question_removed": alone,
    }


def _published(comparison: Comparison, path: Path | str | None) -> list[dict[str, Any]]:
    """Published scores of the headline benchmarks, of known models that are nearest in size to the last model here."""
    if path is None:
        return []
    last = comparison.models[-1].evaluation
    tasks = references.tasks_of(last.suite)
    columns = {
        key: (tasks[entry["set"]], entry["name"])
        for key, entry in comparison.entries.items()
        if entry["is_headline"] and entry["set"] in tasks
    }
    return references.nearest(references.load(path), columns, last.environment.get("parameters"))


def _contamination(comparison: Comparison) -> dict[str, dict[str, int]]:
    """{benchmark: {n, contaminated, words}} of the last model that was checked (recipes.contamination): it has trained on most."""
    found: dict[str, dict[str, int]] = {}
    for model in comparison.models:
        path = model.folder / "contamination.json"
        if path.is_file():
            told = json.loads(path.read_text(encoding="utf-8"))
            for name, task in told["tasks"].items():
                found[name] = {"n": task["n"], "contaminated": task["contaminated"], "words": told["words"]}
    return found


def _win_rates(comparison: Comparison) -> list[dict[str, Any]]:
    tables = []
    for key in comparison.judge_keys:
        if comparison.entries[key]["higher_is_better"] is False:
            continue  # a share of faults is told in words
        rates = comparison.win_rates(key)
        if rates:
            is_optimised = any((c := comparison.cell(m.name, key)) and c["is_optimised"] for m in comparison.models)
            tables.append(
                {"key": key, "is_optimised": is_optimised, "rates": [as_json(rate) for rate in rates.values()]}
            )
    return tables


def samples(comparison: Comparison, seed: int) -> list[dict[str, Any]]:
    """Up to MOST_SAMPLES items, an equal share of each set that has outputs, drawn with `seed`, every model's output side by side."""
    by_model = {m.name: m.evaluation.items_of_set for m in comparison.models}
    sets = list(
        dict.fromkeys(name for found in by_model.values() for name, items in found.items() if "output" in items[0])
    )
    chosen = []
    for set_name in sets:
        of_model = {name: {i["item"]: i for i in found.get(set_name, [])} for name, found in by_model.items()}
        asked = list(dict.fromkeys(item for found in of_model.values() for item in found))
        share = min(len(asked), MOST_SAMPLES // len(sets))
        for item in sorted(random.Random(f"{seed} {set_name}").sample(asked, share), key=asked.index):
            shown = {name: found[item] for name, found in of_model.items() if item in found}
            first = next(iter(shown.values()))
            chosen.append(
                {
                    "set": set_name,
                    "item": item,
                    "label": first.get("label", ""),
                    "prompt": prompt_text(first["prompt"]),
                    "reference": first.get("reference") or "",
                    "choices": first.get("choices", []),
                    "outputs": {
                        name: {
                            "text": found["output"],
                            "scores": {k: v for k, v in found["scores"].items() if isinstance(v, (int, float))},
                        }
                        for name, found in shown.items()
                    },
                }
            )
    return chosen


def prompt_text(prompt: Any) -> str:
    """A prompt as text: messages as "role: content" paragraphs, a single one from the user as what it says."""
    if isinstance(prompt, str):
        return prompt
    if [message["role"] for message in prompt] == ["user"]:
        return prompt[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def lineage_of(records: Sequence[Model]) -> dict[str, Any]:
    """Nodes (runs, their parents from elsewhere, data files) and edges of the graph."""
    nodes: dict[str, dict[str, str]] = {}
    edges: list[tuple[str, str]] = []
    by_path = {str(record.folder.resolve()): record.name for record in records}
    by_weights = {r.evaluation.weights_sha256: r.name for r in records if r.evaluation and r.evaluation.weights_sha256}
    for record in records:
        for data in record.manifest.get("data", []):
            inside = next(
                (name for path, name in by_path.items() if str(Path(data["path"]).resolve()).startswith(path + "/")),
                None,
            )
            source = inside or data["path"]
            if inside is None:
                nodes.setdefault(
                    source, {"id": source, "title": Path(source).name, "detail": _hash(data["sha256"]), "kind": "data"}
                )
            if source != record.name:
                edges.append((source, record.name))
        for parent in record.manifest.get("parents", []):
            source = (
                by_weights.get(parent["sha256"]) or by_path.get(str(Path(parent["path"]).resolve())) or parent["path"]
            )
            if source not in by_path.values():
                nodes.setdefault(
                    source,
                    {"id": source, "title": Path(source).name, "detail": _hash(parent["sha256"]), "kind": "other"},
                )
            if source != record.name:
                edges.append((source, record.name))
        weights = record.evaluation.weights_sha256 if record.evaluation else None
        config = _hash(record.manifest.get("config_sha256") or _sha256(record.manifest.get("config", {})))
        told = f"weights {_hash(weights)}" if weights else f"config {config}"
        kind = "model" if record.evaluation else "other"
        nodes[record.name] = {"id": record.name, "title": record.name, "detail": told, "kind": kind}
    return {"nodes": list(nodes.values()), "edges": list(dict.fromkeys(edges))}


def settings_of(records: Sequence[Model]) -> dict[str, Any]:
    """Settings of each stage's config, split into those that all stages which have them share, and those that differ."""
    configs = {
        r.name: flatten(r.manifest.get("config", {})) | {"seed": r.manifest.get("seed")} for r in records if r.manifest
    }
    keys = list(dict.fromkeys(key for config in configs.values() for key in config))
    shared, differing = {}, []
    for key in keys:
        values = {name: config[key] for name, config in configs.items() if key in config}
        if len({json.dumps(value, sort_keys=True) for value in values.values()}) == 1 and len(values) > 1:
            shared[key] = next(iter(values.values()))
        elif any(value is not None for value in values.values()):
            differing.append({"key": key, "values": values})
    return {"names": list(configs), "shared": shared, "differing": differing}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat


def _cost(record: Model) -> dict[str, Any]:
    manifest = record.manifest
    peak = manifest.get("peak_memory_bytes") or {}
    peak = peak if isinstance(peak, dict) else {"host": peak}
    evaluation_s = record.evaluation.cost.get("wall_s") if record.evaluation else None
    return {
        "name": record.name,
        "wall_s": manifest.get("wall_s"),
        "evaluation_s": manifest.get("evaluation_s") or evaluation_s,
        "steps": manifest.get("steps"),
        "tokens": manifest.get("tokens"),
        "trained_parameters": manifest.get("trained_parameters"),
        "peak_memory_bytes": max([v for v in peak.values() if v], default=None),
    }


def _environment(comparison: Comparison) -> dict[str, Any]:
    last = comparison.records[-1].manifest
    commits = sorted({r.manifest.get("git_commit") for r in comparison.records if r.manifest.get("git_commit")})
    hardware = last.get("hardware", {})
    return {
        "evaluation": comparison.models[-1].evaluation.environment,
        "versions": last.get("versions", {}),
        "git_commits": commits,
        "hardware": {key: str(value) for key, value in hardware.items()},
    }


def _hash(value: str | None) -> str:
    return value[:10] if value else "from the hub"


def _sha256(value: Any) -> str:
    import hashlib

    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
