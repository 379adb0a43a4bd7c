"""lm-eval tasks from where they are: a person's own folder, lm-eval's stock by name, either on a local file."""

from __future__ import annotations

import bisect
import contextlib
import functools
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("DISABLE_MULTIPROC", "1")  # read by lm-eval where it would start processes

import lm_eval.utils
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from base_model.documents import Row, Source, expand, read_rows
from eval.suite import Benchmark

VERSION = version("lm_eval")


def load_tasks(benchmarks: Sequence[Benchmark], include_path: Sequence[str] = ()) -> list[tuple[Benchmark, Any]]:
    """(benchmark, lm-eval task) of every leaf; a group or tag gives several. Raises ValueError for a name that is nowhere."""
    _quiet()
    with _no_bars():
        own = TaskManager(include_path=[expand(p) for p in include_path] or None, include_defaults=False)
        return [(b, task) for b in benchmarks for task in _load(b, own, tuple(include_path))]


def _load(benchmark: Benchmark, own: TaskManager, include_path: tuple[str, ...]) -> list:
    entry = own.task_index.get(benchmark.task)
    path = entry.yaml_path if entry else stock_yaml(benchmark.task)
    if path is not None and "group" not in (config := load_yaml(path, resolve_func=True)):
        loaded = own.load([_on_local_files(config, benchmark, path)])
        return list(loaded["tasks"].values())
    if benchmark.path or benchmark.name:
        what = f"put on the file {benchmark.path}" if benchmark.path else f"named {benchmark.name}"
        raise ValueError(f"{benchmark.task} is no single task, so it can't be {what}")
    manager = own if entry else _stock_tasks(include_path)
    if benchmark.task not in manager.all_tasks:
        raise ValueError(f"'{benchmark.task}' is no task, group or tag of lm-eval {VERSION} or of include_path")
    return list(manager.load([benchmark.task])["tasks"].values())


@functools.cache
def _stock_tasks(include_path: tuple[str, ...]) -> TaskManager:
    """lm-eval's index of all its tasks, groups and tags: about ten seconds."""
    return TaskManager(include_path=[expand(p) for p in include_path] or None)


@functools.cache
def stock_yaml(task: str) -> Path | None:
    """lm-eval's own file of a task, found by a text search, which takes a second; None for a group or tag.

    Raises ValueError for a name that stands in none of its files.
    """
    mentioned = re.compile(rb"(?<![\w-])" + re.escape(task).encode() + rb"(?![\w-])")
    defined = re.compile(rb"""^task:[ \t]*["']?""" + re.escape(task).encode() + rb"""["']?[ \t]*\r?$""", re.MULTILINE)
    is_mentioned = False
    for folder, folders, files in os.walk(Path(lm_eval.utils.__file__).parent / "tasks"):
        folders.sort()
        for file in sorted(files):
            if not file.endswith(".yaml") or not mentioned.search(text := Path(folder, file).read_bytes()):
                continue
            if defined.search(text):
                return Path(folder, file)
            is_mentioned = True
    if not is_mentioned:
        raise ValueError(f"'{task}' is no task, group or tag of lm-eval {VERSION} or of include_path")
    return None


def _on_local_files(config: dict[str, Any], benchmark: Benchmark, yaml_path: Path) -> dict[str, Any]:
    """The task's whole config, its data read by this project where it lies in local files (`path`, or the YAML's data_files)."""
    config = {key: value for key, value in config.items() if key not in ("tag", "group")}
    config["task"] = benchmark.name or config["task"]
    splits = {key: config.get(key) for key in ("test_split", "validation_split", "training_split", "fewshot_split")}
    if benchmark.path:
        split = benchmark.split or next((name for name in splits.values() if name), "test")
        files = {split: benchmark.path}
    elif config.get("dataset_path") == "json" and (given := (config.get("dataset_kwargs") or {}).get("data_files")):
        files = given if isinstance(given, dict) else {"train": given}
        files = {split: _beside(path, yaml_path) for split, path in files.items()}
    else:
        return config
    config |= {key: name if name in files else None for key, name in splits.items()}
    if not any(name in files for key, name in splits.items() if key != "fewshot_split"):
        raise ValueError(f"task {benchmark.task} evaluates none of the splits {sorted(files)} that its files give")
    config |= {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": None}
    return config | {"custom_dataset": functools.partial(_read_splits, files, _mapping(benchmark))}


def _beside(path: str, yaml_path: Path) -> str:
    """A relative data file is looked for from here, then beside its task's YAML."""
    expanded = expand(path)
    beside = yaml_path.parent / expanded
    return str(beside) if not Path(expanded).exists() and beside.exists() else expanded


def _read_splits(files: dict[str, str], mapped: Callable[[Row], dict[str, Any] | None], **unused) -> Any:
    import datasets
    from pyarrow import ArrowException

    def split_of(path: str) -> Any:
        rows = [(row.location, made) for row in read_rows(Source(path), ()) if (made := mapped(row))]
        try:
            return datasets.Dataset.from_list([made for _, made in rows])
        except (ArrowException, OverflowError) as error:
            raise ValueError(_mixed_types(rows) or f"{path}: its rows make no table: {error}") from None

    return datasets.DatasetDict({split: split_of(path) for split, path in files.items()})


def _mixed_types(rows: Sequence[tuple[str, dict[str, Any]]]) -> str | None:
    """The first row, by its location, with a value that no Arrow column holds together with those before; None where there is none."""
    import pyarrow

    def is_refused(values: list) -> bool:
        try:
            pyarrow.array(values)
        except (pyarrow.ArrowException, OverflowError):
            return True
        return False

    for name in dict.fromkeys(name for _, row in rows for name in row):
        values = [row.get(name) for _, row in rows]
        if is_refused(values):
            first = bisect.bisect_left(
                range(len(values)), True, key=lambda i, values=values: is_refused(values[: i + 1])
            )
            return f"{rows[first][0]}: field '{name}' is of another type than in the rows before, or too large a number"
    return None


def _mapping(benchmark: Benchmark) -> Callable[[Row], dict[str, Any] | None]:
    """What makes a row's fields as the task reads them; None for a row that `where` leaves out.

    Its errors name the row, the field and the expression. Sandboxed: a suite's YAML runs no code."""
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(undefined=StrictUndefined)
    made = {"where": benchmark.where} if benchmark.where else {}
    made |= {f"fields.{name}": expression for name, expression in (benchmark.fields or {}).items()}
    try:
        compiled = {key: environment.compile_expression(text, undefined_to_none=False) for key, text in made.items()}
    except (TemplateError, TypeError) as error:
        raise ValueError(f"{benchmark.task} has an expression that Jinja cannot read: {error}") from None

    def mapped(row: Row) -> dict[str, Any] | None:
        values = {}
        for key, expression in compiled.items():
            try:
                values[key] = expression(row.fields)
                if isinstance(values[key], StrictUndefined):
                    raise ValueError(f"{values[key]._undefined_message}; the row has {', '.join(row.fields)}")
            except (TemplateError, TypeError, AttributeError, LookupError, ArithmeticError, ValueError) as error:
                raise ValueError(f"{row.location}: {benchmark.task}, {key}: {made[key]!r}: {error}") from None
        if not values.pop("where", True):
            return None
        return row.fields | {key.removeprefix("fields."): value for key, value in values.items()}

    return mapped


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """No progress bars of `datasets` for files that are read in milliseconds."""
    import datasets

    was_disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not was_disabled:
            datasets.enable_progress_bars()


@functools.cache
def _quiet() -> None:
    """lm-eval logs much and compiles a prompt's template for every document; once is enough."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    lm_eval.utils.env.from_string = functools.lru_cache(maxsize=256)(lm_eval.utils.env.from_string)
