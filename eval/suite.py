"""What is measured: a suite of likelihood sets, generation sets, benchmarks and a KL, read from one YAML file.

    name: tiny
    likelihood:
      general_heldout: {path: runs/tiny/data/general_heldout.jsonl}
    generation:
      instructions: {path: runs/tiny/data/instructions_heldout.jsonl, max_new_tokens: 64, judges: [tinytown_gold]}
    benchmarks:
      - tinytown_qa                                          # a task of include_path, or of lm-eval by its stock name
      - {task: hellaswag, path: "${PLUMBLINE_DATA}/x.jsonl"}   # stock prompt and metric on a local file
      - {task: pubmedqa, path: y.jsonl, fields: {QUESTION: question, CONTEXTS: "[abstract]"}}   # whose columns have other names
    include_path: [runs/tiny/data/benchmarks]                # folders of one's own lm-eval task YAMLs
    kl: {path: runs/tiny/data/prompts_heldout.jsonl, limit: 64}

Every set takes `limit` (a sample drawn with the suite's seed, never the first N). The suite's hash covers its settings and the
content of its files, not where they lie: two evaluations with one hash were asked the same.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from base_model.chat import check_prompt
from base_model.checkpoints import sha256_file
from base_model.documents import Source, expand, list_files, read_rows
from eval.texts import TEXT_METRICS

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.001, 1000  # outside, float32 has no difference left between likely and unlikely
RESERVED_COLUMNS = frozenset({"prompts", "completions"})  # judge(prompts, completions, **columns)


class Checked:
    """Settings whose types are those that their fields say, and whose counts count something. Raises ValueError naming the first other."""

    def __post_init__(self) -> None:
        for name, written in type(
            self
        ).__annotations__.items():  # as the source has it: argument parsers rewrite the fields' own types
            value = getattr(self, name)
            if value is None and "None" in written:
                continue
            kind, said = KINDS[re.match(r"\w+", written)[0]]
            is_of_kind = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
            if not is_of_kind or ("[str]" in written and not all(isinstance(text, str) for text in value)):
                raise ValueError(f"{name} must be {said}, found {value!r}")
            if name in COUNTS and value < COUNTS[name]:
                raise ValueError(f"{name} must be at least {COUNTS[name]}, found {value!r}")


KINDS = {
    "str": (str, "text"),
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "dict": (Mapping, "'key: value' settings"),
    "list": ((list, tuple), "a list"),
    "Sequence": ((list, tuple), "a list of names"),
}
COUNTS = {"limit": 1, "max_new_tokens": 1, "num_fewshot": 0, "random_init": 0, "batch_tokens": 1, "seed": 0}


@dataclass(frozen=True)
class LikelihoodSet(Checked):
    path: str
    limit: int | None = None  # documents
    columns: dict[str, str] | None = None  # our name -> theirs


@dataclass(frozen=True)
class GenerationSet(Checked):
    path: str
    limit: int | None = None  # prompts
    columns: dict[str, str] | None = None
    raw_prompts: bool = False  # prompts that are strings are text to go on from, not what a user says
    metrics: Sequence[str] = tuple(TEXT_METRICS)
    judges: Sequence[str] = ()
    judges_once_there: Sequence[str] = ()  # reward models that a later stage makes; until then nobody is scored by them
    max_new_tokens: int = 64
    temperature: float = 0.0  # 0: greedy
    top_p: float = 1.0
    cluster: str | None = None  # column whose equal values mark items that belong together

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature and not LEAST_TEMPERATURE <= self.temperature <= MOST_TEMPERATURE:
            raise ValueError(
                f"temperature must be 0 (greedy) or {LEAST_TEMPERATURE} to {MOST_TEMPERATURE}, found {self.temperature}"
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, found {self.top_p}")
        for metric in self.metrics:
            if metric not in TEXT_METRICS:
                raise ValueError(f"unknown metric '{metric}'{_near(metric, TEXT_METRICS)}")


@dataclass(frozen=True)
class Benchmark(Checked):
    """A task, or a stock task on a local file. Expressions are Jinja's over the columns of a row, such as `context ~ ' ' ~ word`."""

    task: str
    name: str | None = None  # of the set; None: the task's
    path: str | None = None  # local file instead of the task's own data set
    split: str | None = None  # the task's split that `path` stands for; None: the one that is evaluated
    fields: dict[str, str] | None = None  # field that the task reads -> expression that makes it from a row of `path`
    where: str | None = None  # expression that is true of the rows of `path` that are asked; None: all
    metrics: Sequence[str] | None = None  # those of the task that are kept, the headline first; None: all
    limit: int | None = None  # documents
    by: str | None = (
        None  # field that divides the documents into parts: a limit draws evenly from them, and each is noted
    )
    num_fewshot: int | None = None
    cluster: str | None = None  # field whose equal values mark documents that belong together

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("fields", "where"):
            if getattr(self, key) and not self.path:
                raise ValueError(f"{key} says how rows of `path` are read; give a path")


@dataclass(frozen=True)
class KLSet(Checked):
    """Prompts for KL(model || reference), measured on what the model samples at temperature 1."""

    path: str
    limit: int | None = 64
    columns: dict[str, str] | None = None
    raw_prompts: bool = False
    max_new_tokens: int = 64


@dataclass(frozen=True)
class Suite(Checked):
    """A fixed set of items. Raises ValueError for unknown or impossible settings as soon as it is made."""

    name: str = "suite"
    seed: int = 1  # of the samples that `limit` draws, and of decoding
    likelihood: dict[str, Any] = field(default_factory=dict)  # name -> LikelihoodSet's fields, or a path
    generation: dict[str, Any] = field(default_factory=dict)  # name -> GenerationSet's fields, or a path
    benchmarks: list[Any] = field(default_factory=list)  # task names, or Benchmark's fields
    include_path: list[str] = field(default_factory=list)  # folders of lm-eval task YAMLs
    kl: dict[str, Any] | None = None  # KLSet's fields; measured where a reference is given
    random_init: int = 50  # items a set on which random weights are measured, once for an architecture; 0: not at all
    batch_tokens: int | None = None  # tokens a forward pass; None: found from the memory there is

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [*self.likelihood, *self.generation, *(b.name or b.task for b in self.benchmark_sets)]
        if not names:
            raise ValueError(f"suite '{self.name}' measures nothing; give likelihood, generation or benchmarks")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"suite '{self.name}' has two sets named '{twice[0]}'; every set needs a name of its own")
        _ = self.likelihood_sets, self.generation_sets, self.kl_set

    @classmethod
    def load(cls, path: Path | str) -> Suite:
        """Read a YAML file. Raises FileNotFoundError, or ValueError naming what is wrong in it."""
        import yaml

        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no suite at {path}")
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not valid YAML: {error}") from None
        if not isinstance(values, dict):
            raise ValueError(f"{path} must hold 'key: value' lines, found {type(values).__name__}")
        return _build(cls, {"name": path.stem, **values}, str(path))

    @cached_property
    def likelihood_sets(self) -> dict[str, LikelihoodSet]:
        return {
            name: _build(LikelihoodSet, value, f"likelihood set '{name}'") for name, value in self.likelihood.items()
        }

    @cached_property
    def generation_sets(self) -> dict[str, GenerationSet]:
        return {
            name: _build(GenerationSet, value, f"generation set '{name}'") for name, value in self.generation.items()
        }

    @cached_property
    def benchmark_sets(self) -> list[Benchmark]:
        values = [{"task": value} if isinstance(value, str) else value for value in self.benchmarks]
        return [_build(Benchmark, value, f"benchmark {number}") for number, value in enumerate(values, start=1)]

    @cached_property
    def kl_set(self) -> KLSet | None:
        return None if self.kl is None else _build(KLSet, self.kl, "kl")

    @property
    def judges(self) -> list[str]:
        """Names of all judges that the suite asks for."""
        return sorted({judge for made in self.generation_sets.values() for judge in made.judges})

    @property
    def judges_once_there(self) -> list[str]:
        """Folders of the judges that it asks for once they are there."""
        return sorted({judge for made in self.generation_sets.values() for judge in made.judges_once_there})

    @cached_property
    def sha256(self) -> str:
        """Hash of the settings, with the content of files in place of their paths. `batch_tokens` changes no score."""
        settings = dataclasses.asdict(self)
        for transient in ("name", "batch_tokens"):
            settings.pop(transient)
        settings["include_path"] = [_content(folder) for folder in self.include_path]
        for group in ("likelihood", "generation"):
            settings[group] = {
                name: dataclasses.asdict(made) | {"path": _content(made.path)}
                for name, made in getattr(self, f"{group}_sets").items()
            }
        settings["benchmarks"] = [
            dataclasses.asdict(b) | {"path": b.path and _content(b.path)} for b in self.benchmark_sets
        ]
        if self.kl_set:
            settings["kl"] = dataclasses.asdict(self.kl_set) | {"path": _content(self.kl_set.path)}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def shortened(self, limit: int) -> Suite:
        """The same sets with at most `limit` items each, without KL and without judges that are asked over a network."""
        likelihood = {k: dataclasses.asdict(_limited(made, limit)) for k, made in self.likelihood_sets.items()}
        generation = {}
        for name, made in self.generation_sets.items():
            near = [judge for judge in made.judges if not judge.startswith("http")]
            generation[name] = dataclasses.asdict(_limited(made, limit)) | {"judges": near}
        benchmarks = [dataclasses.asdict(_limited(made, limit)) for made in self.benchmark_sets]
        return dataclasses.replace(
            self, likelihood=likelihood, generation=generation, benchmarks=benchmarks, kl=None, random_init=0
        )

    def describe(self) -> dict[str, Any]:
        """{name, sha256, settings} for eval.json."""
        return {"name": self.name, "sha256": self.sha256, "settings": dataclasses.asdict(self)}


def read_set(made: LikelihoodSet | GenerationSet | KLSet, seed: int) -> list[dict[str, Any]]:
    """Rows of a set, sampled to its limit. Raises BadRows naming file, row and field for one that cannot be asked."""
    is_text = isinstance(made, LikelihoodSet)
    required, check = (("text",), _check_text) if is_text else (("prompt",), partial(_check_question, made))
    source = Source(made.path, columns=made.columns, raw_prompts=not is_text and made.raw_prompts)
    rows = [row.fields for row in read_rows(source, required, check=check)]
    if not rows:
        raise ValueError(f"{made.path} holds no rows")
    return [rows[i] for i in sample_indices(len(rows), made.limit, seed)]


def _check_text(fields: Mapping[str, Any]) -> None:
    if not fields["text"].strip():
        raise ValueError("field 'text' is empty")


def _check_question(made: GenerationSet | KLSet, fields: Mapping[str, Any]) -> None:
    check_prompt(fields["prompt"])
    references_of(fields)
    cluster = made.cluster if isinstance(made, GenerationSet) else None
    if cluster and fields.get(cluster) is None:
        raise ValueError(f"field '{cluster}' (cluster) is missing; the row has {', '.join(map(str, fields))}")
    if taken := RESERVED_COLUMNS.intersection(fields):
        raise ValueError(f"field '{min(taken)}' has a name that judges are called with; rename the column")


def references_of(fields: Mapping[str, Any]) -> list[str]:
    """A row's references: its `completion`, a text, a list of texts, or messages that end with the assistant's; [] where it has none.

    Raises ValueError for anything else."""
    completion = fields.get("completion")
    if completion is None:
        return []
    if isinstance(completion, str):
        return [completion]
    if isinstance(completion, (list, tuple)) and completion:
        if all(isinstance(text, str) for text in completion):
            return list(completion)
        last = completion[-1]
        if isinstance(last, Mapping) and last.get("role") == "assistant" and isinstance(last.get("content"), str):
            return [last["content"]]
    raise ValueError(
        f"field 'completion' must be a text, a list of texts (several references), or messages that end with the assistant's, "
        f"found {str(completion)[:60]!r}"
    )


def sample_indices(count: int, limit: int | None, seed: int) -> list[int]:
    """`limit` of 0..count-1 in rising order, drawn with `seed`; all where limit is None or not smaller."""
    if limit is None or limit >= count:
        return list(range(count))
    return sorted(random.Random(seed).sample(range(count), limit))


def even_indices(parts: Sequence[Any], limit: int | None, seed: int) -> list[int]:
    """Like `sample_indices` of len(parts) items, as many of each part as of any other (one more of some where it must be).

    A part that has too few gives all; parts: the part that each item belongs to."""
    drawn: dict[Any, int] = {}
    ranks = []
    for i in random.Random(seed).sample(range(len(parts)), len(parts)):
        ranks.append((drawn.setdefault(parts[i], 0), i))
        drawn[parts[i]] += 1
    ranks.sort(key=lambda rank: rank[0])  # stable: within a rank in the order drawn
    return sorted(i for _, i in ranks[:limit])


def _limited(made, limit: int):
    return dataclasses.replace(made, limit=min(limit, made.limit or limit))


def _build(kind: type, value: Any, where: str) -> Any:
    """A dataclass from a mapping (or from the path alone). Raises ValueError naming an unknown key and the nearest known one."""
    if isinstance(value, str) and "path" in kind.__dataclass_fields__:
        value = {"path": value}
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be 'key: value' settings, got {value!r}")
    for key in value:
        if key not in kind.__dataclass_fields__:
            raise ValueError(f"unknown key '{key}' in {where}{_near(key, kind.__dataclass_fields__)}")
    try:
        return kind(**value)
    except TypeError as error:
        raise ValueError(f"{where}: {str(error).split('__init__() ')[-1]}") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"


def _content(path: str) -> Any:
    """Hashes of the files at a path; the path itself for a hub id."""
    folder = Path(expand(path))
    files = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else list_files(Source(path))
    return [(file.name, sha256_file(file)) for file in files] or path
