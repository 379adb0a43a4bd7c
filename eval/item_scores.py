"""One model's score of each item, from whatever harness measured it.

    read("runs/tiny/ppo")                 a run of this project, or a folder of its runs with several seeds: eval.json, samples.jsonl
    read("out/samples_hellaswag_*.jsonl") lm-eval with --log_samples: a file, or the folder of several tasks
    read("logs/2026_task.eval")           inspect: .eval (zip) or .json; epochs are samples of an item
    read("details_task_date.parquet")     lighteval: details of a task
    read("scores.csv")                    columns item, score; and, where there are such, cluster, seed, sample, weight, metric

A score is a number an item (0/1 for right), or a numerator over a weight (bits over bytes of a text): the metric is sum(score) /
sum(weight). Formats as their projects document them: lm-eval docs/interface.md; inspect.aisi.org.uk/eval-logs.html; lighteval's
DetailsLogger. Files are data: nothing in them is run, and none of those packages is needed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.results import Evaluation, as_metric, scored

PREFERRED = ("acc_norm", "acc", "exact_match")  # where a task has several metrics and none was named
LOWER_IS_BETTER = ("perplexity", "bits_per_byte", "bits_per_unit", "brier_score", "ter", "wer", "loss", "empty_rate")
GRADES = {"c": 1.0, "i": 0.0, "p": 0.5, "n": 0.0, "yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}  # inspect's letters


@dataclass(frozen=True)
class Row:
    """One score of one item: of one training seed, and of one sample where the model was asked several times."""

    metric: str  # "set/name"
    item: str
    score: float
    weight: float = 1.0
    cluster: str | None = None
    seed: str = ""
    sample: str = ""


@dataclass
class Model:
    """All scores of a model. `left_out`: what was not scored, in words, with counts."""

    name: str
    rows: list[Row]
    home: Path  # folder that the items' ledger stands in
    left_out: list[str] = field(default_factory=list)
    directions: dict[str, bool | None] = field(default_factory=dict)  # metric -> higher is better, where it is known

    @property
    def metrics(self) -> list[str]:
        return list(dict.fromkeys(row.metric for row in self.rows))

    def is_lower_better(self, metric: str) -> bool:
        name = metric.split("/")[-1].split(",")[0]
        known = next((self.directions[key] for key in self.directions if metric in (key, key.split("/")[-1])), None)
        return known is False if known is not None else name.endswith(LOWER_IS_BETTER)


def read(path: Path | str) -> Model:
    """A model's scores; a comma joins the results of its training seeds ("a-seed1,a-seed2").

    Raises FileNotFoundError, or ValueError naming the file, the row and what is wrong with it."""
    parts = [part for part in str(path).split(",") if part]
    models = [_read_one(Path(part)) for part in parts]
    if not models:
        raise ValueError("no results were named")
    if len(models) == 1:
        return models[0]
    rows = []
    for number, model in enumerate(models, start=1):
        seeds = {row.seed for row in model.rows}
        for row in model.rows:  # the place in the list tells seeds apart whose files don't
            rows.append(_with_seed(row, f"{number}:{row.seed}" if len(seeds) > 1 else str(number)))
    left_out = [told for model in models for told in model.left_out]
    return Model(str(path), rows, models[0].home, left_out, models[0].directions)


def choose(models: Iterable[Model], wanted: str | None) -> str:
    """The metric to compare: `wanted` ("set/name", or a name for that metric pooled over all sets), else the only or preferred one that
    all models have. Raises ValueError naming those there are."""
    models = list(models)
    shared = [m for m in models[0].metrics if all(m in other.metrics for other in models[1:])]
    names = list(dict.fromkeys(key.split("/")[-1] for key in shared))
    if wanted is not None:
        if wanted in shared or wanted in names:
            return wanted
        raise ValueError(f"no metric '{wanted}' in all of them; there are: {', '.join(shared) or 'none in common'}")
    sets = {key.rpartition("/")[0] for key in shared}
    preferred = [name for name in PREFERRED if name in names]
    if len(sets) == 1 and (len(shared) == 1 or preferred):
        return shared[0] if len(shared) == 1 else next(key for key in shared if key.split("/")[-1] == preferred[0])
    if not shared:
        raise ValueError(
            f"{models[0].name} ({', '.join(models[0].metrics)}) has no metric in common with the others "
            f"({'; '.join(', '.join(m.metrics) for m in models[1:])})"
        )
    raise ValueError(f"say which metric with --metric; there are: {', '.join(shared)}")


def of_metric(model: Model, metric: str) -> list[Row]:
    """The rows of a metric; of every set that has it where it is a bare name, items then told apart by their sets."""
    if metric in model.metrics:
        return [row for row in model.rows if row.metric == metric]
    return [row for row in model.rows if row.metric.split("/")[-1] == metric]


# ---- one source


def _read_one(path: Path) -> Model:
    if not path.exists():
        raise FileNotFoundError(f"there are no results at {path}")
    if path.is_dir():
        return _read_folder(path)
    reader = _reader(path)
    if reader is None:
        raise ValueError(
            f"{path}: results are .jsonl (lm-eval), .eval or .json (inspect), .parquet (lighteval) or .csv"
        )
    left_out: list[str] = []
    rows = _checked(reader(path, left_out), path)
    return Model(str(path), rows, path.parent, left_out)


def _read_folder(path: Path) -> Model:
    if (path / "eval.json").is_file():
        return _read_run(path)
    runs = sorted(found.parent for found in path.glob("**/eval.json"))
    if runs:  # several seeds of one model
        models = [_read_run(run) for run in runs]
        rows = [_with_seed(row, str(run)) for run, model in zip(runs, models, strict=True) for row in model.rows]
        return Model(str(path), rows, models[0].home, [], models[0].directions)
    files = [file for file in sorted(path.glob("**/*")) if file.is_file() and _is_result(file)]
    if not files:
        raise ValueError(f"{path} holds no eval.json, no samples_*.jsonl, no .eval and no details_*.parquet")
    left_out: list[str] = []
    rows = [row for file in files for row in _checked(_reader(file)(file, left_out), file)]
    if twice := _first_repeated((row.metric, row.item, row.seed, row.sample) for row in rows):
        raise ValueError(f"{path} holds item {twice[1]} of {twice[0]} more than once: name the files of one evaluation")
    return Model(str(path), rows, path, left_out)


def _is_result(file: Path) -> bool:
    return (
        (file.name.startswith("samples_") and file.suffix == ".jsonl")
        or file.suffix == ".eval"
        or (file.name.startswith("details_") and file.suffix == ".parquet")
    )


def _reader(file: Path) -> Callable[[Path, list[str]], Iterator[Row]] | None:
    readers = {".jsonl": _lm_eval, ".eval": _inspect, ".json": _inspect, ".parquet": _lighteval, ".csv": _csv}
    return readers.get(file.suffix.lower())


def _checked(rows: Iterable[Row], path: Path) -> list[Row]:
    found = list(rows)
    if not found:
        raise ValueError(f"{path} holds no scores")
    for row in found:
        if not (math.isfinite(row.score) and math.isfinite(row.weight)):
            raise ValueError(
                f"{path}: item {row.item} has the score {row.score} for {row.metric}; every score is a finite number"
            )
    return found


def _with_seed(row: Row, seed: str) -> Row:
    return Row(row.metric, row.item, row.score, row.weight, row.cluster, seed, row.sample)


def _first_repeated(values: Iterable[Any]) -> Any | None:
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


# ---- formats


def _read_run(folder: Path) -> Model:
    """Metrics of an own run that are means or ratios of item scores."""
    evaluation = Evaluation.load(folder)
    rows, directions = [], {}
    for entry in evaluation.metrics:
        metric = as_metric(entry)
        scale = -1 / math.log(2) if metric.aggregate == "bits_per_unit" else 1.0
        if metric.aggregate not in ("mean", "proportion", "ratio", "bits_per_unit"):
            continue  # corpus metrics: recipes.compare has their paired tests
        directions[metric.key] = metric.higher_is_better
        for item in scored(metric, evaluation.items_of_set[metric.set]):  # a judge may not apply to every item
            score, *weight = (item["scores"][name] for name in metric.fields)
            rows.append(Row(metric.key, item["item"], scale * score, weight[0] if weight else 1.0, item.get("cluster")))
    return Model(
        str(folder), _checked(rows, folder / "samples.jsonl"), _home_of_items(evaluation, folder), [], directions
    )


def _home_of_items(evaluation: Evaluation, folder: Path) -> Path:
    """Where the first held-out file or folder of the suite lies, where it is there; else the run's parent."""
    settings = evaluation.suite.get("settings", {})
    made = [
        *settings.get("generation", {}).values(),
        *settings.get("likelihood", {}).values(),
        *settings.get("benchmarks", []),
    ]
    paths = [value if isinstance(value, str) else value.get("path") for value in made]
    for path in (*paths, *settings.get("include_path", [])):
        if path and Path(path).exists():  # beside a folder of data, not in it, whose content belongs to the suite
            return Path(path).parent
    return folder.parent


def _json_lines(path: Path) -> Iterator[tuple[int, dict]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not valid JSON ({error})") from None
            if not isinstance(value, dict):
                raise ValueError(f"{path}, line {number}: expected an object, got {type(value).__name__}")
            yield number, value


def _lm_eval(path: Path, left_out: list[str]) -> Iterator[Row]:
    """samples_TASK_DATE.jsonl: a line a document and filter; `metrics` names the keys that hold its scores."""
    match = re.fullmatch(r"samples_(.+?)(_\d{4}-\d\d-\d\dT[\d.:-]+)?", path.stem)
    task = match[1] if match else path.stem
    seen: dict[tuple, int] = {}
    for number, sample in _json_lines(path):
        if "doc_id" not in sample:
            raise ValueError(f"{path}, line {number}: no 'doc_id'; is this a file of lm-eval --log_samples?")
        name = str(sample.get("doc_hash") or sample["doc_id"])
        filter_name = sample.get("filter", "none")
        for metric in sample.get("metrics") or [k for k, v in sample.items() if k != "doc_id" and _is_number(v)]:
            key = f"{task}/{metric}" + ("" if filter_name == "none" else f",{filter_name}")
            count = seen[key, name] = seen.get((key, name), 0) + 1
            item = f"{task}:{name}" + (f"-{count}" if count > 1 else "")
            value = sample.get(metric)
            if _is_number(value):
                yield Row(key, item, float(value))
            elif metric == "bits_per_byte" and isinstance(value, list) and len(value) == 2:
                yield Row(key, item, -value[0] / math.log(2), float(value[1]))


def _inspect(path: Path, left_out: list[str]) -> Iterator[Row]:
    """An inspect log: samples with id, epoch and scores {scorer: {value}}; .eval is a zip of header.json and samples/*.json."""
    try:
        header, samples = _inspect_zip(path) if zipfile.is_zipfile(path) else _inspect_json(path)
    except NotImplementedError:
        raise ValueError(
            f"{path} is compressed in a way that this Python can't read; write it as JSON: inspect log convert --to json"
        ) from None
    task, unscored = str(header.get("eval", {}).get("task", path.stem)), 0
    for sample in samples:
        scores = sample.get("scores") or ({"score": sample["score"]} if sample.get("score") else {})
        is_scored = False
        for scorer, score in scores.items():
            value = score.get("value") if isinstance(score, Mapping) else score
            parts = value if isinstance(value, Mapping) else {None: value}
            for part, graded in parts.items():
                number = _graded(graded)
                if number is not None:
                    is_scored = True
                    key = f"{task}/{scorer}" + ("" if part is None else f".{part}")
                    yield Row(key, f"{task}:{sample.get('id')}", number, sample=str(sample.get("epoch", 1)))
        unscored += not is_scored
    if unscored:
        left_out.append(f"{unscored} samples of {path.name} have no score")


def _inspect_zip(path: Path) -> tuple[dict, list[dict]]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "header.json" not in names:
            raise ValueError(f"{path} has no header.json: the evaluation did not finish")
        header = json.loads(archive.read("header.json"))
        return header, [json.loads(archive.read(name)) for name in names if re.fullmatch(r"samples/.+\.json", name)]


def _inspect_json(path: Path) -> tuple[dict, list[dict]]:
    try:
        log = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is neither a zip nor JSON ({error})") from None
    if not isinstance(log, dict) or "samples" not in log:
        raise ValueError(f"{path} has no 'samples'; is this a log of inspect?")
    return log, log["samples"] or []


def _lighteval(path: Path, left_out: list[str]) -> Iterator[Row]:
    """details_TASK_DATE.parquet: `metric` (before 0.10 `metrics`) holds {name: score}; the item is its query."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} can't be read as parquet: {error}") from None
    held = next((name for name in ("metric", "metrics") if name in table.column_names), None)
    if held is None:
        raise ValueError(f"{path} has no column 'metric' or 'metrics', only {', '.join(table.column_names)}")
    match = re.fullmatch(r"details_(.+?)(_\d{4}-\d\d-\d\dT[\d.:-]+)?", path.stem)
    task = match[1] if match else path.stem
    seen: dict[str, int] = {}
    for row in table.to_pylist():
        doc = row.get("doc") or {}
        asked = (
            [doc.get("query"), doc.get("choices")]
            if doc
            else [row.get("full_prompt") or row.get("example"), row.get("choices")]
        )
        name = hashlib.sha256(json.dumps(asked, default=str).encode()).hexdigest()[:16]
        seen[name] = seen.get(name, 0) + 1
        item = f"{task}:{name}" + (f"-{seen[name]}" if seen[name] > 1 else "")
        for metric, value in dict(row[held] or {}).items():
            if _is_number(value):
                yield Row(f"{task}/{metric}", item, float(value))


def _csv(path: Path, left_out: list[str]) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        for needed in ("item", "score"):
            if needed not in columns:
                raise ValueError(f"{path} has no column '{needed}', only {', '.join(map(str, columns)) or 'no header'}")
        seen = set()
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            numbers = {}
            for name in ("score", *(["weight"] if "weight" in columns else [])):
                try:
                    numbers[name] = float(row[name])
                except (TypeError, ValueError):
                    raise ValueError(f"{where}: {name} is {row[name]!r}; give a number") from None
                if not math.isfinite(numbers[name]):
                    raise ValueError(f"{where}: {name} is {row[name]}; every score is a finite number")
            told = {name: row.get(name) or "" for name in ("seed", "sample")}
            metric = row.get("metric") or "score"
            key = (metric, row["item"], *told.values())
            if key in seen:
                raise ValueError(
                    f"{where}: item {row['item']!r} is there a second time; tell them apart by a column seed or sample"
                )
            seen.add(key)
            yield Row(
                metric, row["item"], numbers["score"], numbers.get("weight", 1.0), row.get("cluster") or None, **told
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))  # True and False too


def _graded(value: Any) -> float | None:
    """An inspect score as a number: numbers, booleans, its letters (C, I, P, N), yes and no; None for text that is none of these."""
    if _is_number(value):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        if value.strip().lower() in GRADES:
            return GRADES[value.strip().lower()]
        try:
            number = float(value)
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    return None
