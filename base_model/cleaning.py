"""Raw text to clean text, on datatrove's executors, with a record of what each step did.

Documents go through the filters in the order of `CleaningConfig.steps`, then exact duplicates are taken out, then near ones (MinHash), of
which the first in the corpus stays. What comes out, in one folder that appears whole or not at all:

    train-00000.jsonl, ...   the documents kept: id, text, and the other fields of their rows
    dropped.csv              id, step and reason of every document dropped
    cleaning.json            what came in; for each step what it kept, dropped (by reason) and changed, its time, a few examples

The stages are datatrove pipelines, one after another: filter (with exact signatures), exact duplicates, MinHash signatures, buckets,
clusters, write, publish. With executor "slurm" they are submitted as a chain of jobs and the folder appears when the last has run.
"""

from __future__ import annotations

import inspect
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import partial
from os import devnull
from pathlib import Path
from typing import Any

from base_model.documents import Source, list_files

FILTERS = (
    "encoding",
    "language",
    "boilerplate",
    "quality",
    "repetition",
    "fineweb",
    "c4",
    "personal_data",
    "decontamination",
)
DEDUPLICATION = ("exact_duplicates", "near_duplicates")
UNSPACED = ("zh", "ja", "th", "km", "lo", "my", "bo")  # written without spaces: datatrove's own word splitters
EXAMPLE_CHARS = 300
WORK_FOLDERS = ("read", "kept", "exact_signatures", "exact", "positions", "signatures", "pairs", "clusters", "out")


@dataclass(frozen=True)
class CleaningConfig:
    """Which steps, with which settings, run where."""

    steps: list[str] = field(
        default_factory=lambda: [
            *("encoding", "language", "boilerplate", "quality", "repetition", "personal_data", "decontamination"),
            *DEDUPLICATION,
        ],
        metadata={"help": f"in this order; filters: {', '.join(FILTERS)}; then {', '.join(DEDUPLICATION)}"},
    )
    options: dict = field(
        default_factory=dict, metadata={"help": "step -> settings of its block, e.g. {quality: {min_doc_words: 20}}"}
    )
    language: str = field(default="en", metadata={"help": "how words are told apart, and the language that is kept"})
    executor: str = field(default="local", metadata={"help": "local, slurm or ray"})
    executor_options: dict = field(
        default_factory=dict,
        metadata={"help": "passed to datatrove's executor, e.g. {partition: cpu, time: '4:00:00'}"},
    )
    tasks: int = 2  # shares of the corpus, each one file of the result
    workers: int = 2  # processes at a time (local)
    examples: int = 3  # dropped documents shown for each step

    def __post_init__(self) -> None:
        for step in self.steps:
            if step not in (*FILTERS, *DEDUPLICATION):
                near = get_close_matches(step, (*FILTERS, *DEDUPLICATION), n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join((*FILTERS, *DEDUPLICATION))}"
                raise ValueError(f"unknown cleaning step {step!r}; {hint}")
        if self.steps != sorted(set(self.steps), key=lambda step: (step in DEDUPLICATION, self.steps.index(step))):
            raise ValueError(f"each step once, and {', '.join(DEDUPLICATION)} last; got {', '.join(self.steps)}")
        if self.steps[-2:] == list(reversed(DEDUPLICATION)):
            raise ValueError("exact_duplicates comes before near_duplicates")
        if unused := set(self.options) - set(self.steps):
            raise ValueError(f"options for {', '.join(sorted(unused))}, which steps does not name")
        if self.executor not in ("local", "slurm", "ray"):
            raise ValueError(f"executor is {self.executor!r}; use local, slurm or ray")
        if min(self.tasks, self.workers) < 1:
            raise ValueError(f"tasks {self.tasks} and workers {self.workers} must be at least 1")


def clean(
    source: Source,
    out_folder: Path | str,
    config: CleaningConfig | None = None,
    heldout: Sequence[Source] = (),
    *,
    progress: Callable[[str, int, int, int], None] | None = None,
) -> dict[str, Any] | None:
    """Clean a source into `out_folder` (replacing what is there); returns the record that cleaning.json holds, None with slurm.

    heldout: what the result must not contain (evaluation items and held-out text).
    progress: called now and then with (stage, its number, number of stages, documents read so far).
    Raises BadRows as `read_rows` does, FileNotFoundError for a missing source, ValueError for a setting a step does not have."""
    config = CleaningConfig() if config is None else config
    out = Path(out_folder).resolve()
    for item in (source, *heldout):
        list_files(item)
    work = out.with_name(f".{out.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    try:
        stages = _stages(source, work, out, config, heldout)
        _prepare(work, source, config, heldout)
        if config.executor == "slurm":
            _submit(stages, work, config)
            return None
        for number, (name, (pipeline, tasks)) in enumerate(stages.items(), start=1):
            with _quiet(), _watched(work, progress, name, number, len(stages)):
                _executor(name, pipeline, tasks, work, config).run()
            if name == "filter":
                _refuse_nothing(work)
        return json.loads((out / "cleaning.json").read_text(encoding="utf-8"))
    finally:
        if config.executor != "slurm":
            shutil.rmtree(work, ignore_errors=True)


# ---- the stages

Pipeline = tuple[list[Any], int]  # datatrove steps, tasks


def _stages(
    source: Source, work: Path, out: Path, config: CleaningConfig, heldout: Sequence[Source]
) -> dict[str, Pipeline]:
    from datatrove.pipeline.dedup import exact_dedup, minhash
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    from base_model import deduplication
    from base_model.cleaning_filters import ReadRows, Words
    from base_model.cleaning_report import publish

    words = config.language if config.language in UNSPACED else Words()
    exact = exact_dedup.ExactDedupConfig(deduplication.content, deduplication.priority)
    near, threshold = _near_settings(config.options.get("near_duplicates", {}))
    is_exact, is_near = (name in config.steps for name in DEDUPLICATION)
    at = {name: str(work / name) for name in WORK_FOLDERS}

    def read_kept(exclusion_writer: Any = None) -> list[Any]:
        """What passed the filters, less its exact duplicates."""
        reader = JsonlReader(at["kept"], compression=None, add_file_path=False)
        return [reader, *([exact_dedup.ExactDedupFilter(at["exact"], exact, exclusion_writer)] if is_exact else [])]

    stages: dict[str, Pipeline] = {}
    filters = [_filter(name, config, words, heldout, _dropped_writer(work, name)) for name in _filter_names(config)]
    filtering = [
        ReadRows(source, at["read"], at["kept"]),
        *filters,
        JsonlWriter(at["kept"], compression=None, adapter=_as_kept),
    ]
    if is_exact:
        filtering.append(exact_dedup.ExactDedupSignature(at["exact_signatures"], exact))
        finding = exact_dedup.ExactFindDedups(at["exact_signatures"], at["exact"], exact, lines_to_buffer=4096)
    stages["filter"] = filtering, config.tasks
    if is_exact:
        stages["exact duplicates"] = [finding], 1
    writing = read_kept(_dropped_writer(work, "exact_duplicates"))
    if is_near:
        signing = minhash.MinhashDedupSignature(at["signatures"], near, language=words)
        stages["signatures"] = [*read_kept(), deduplication.Positions(at["positions"]), signing], config.tasks
        pairing = minhash.MinhashDedupBuckets(at["signatures"], at["pairs"], config=near, lines_to_buffer=4096)
        stages["buckets"] = [pairing], near.num_buckets
        verifying = deduplication.VerifyPairs(at["pairs"], at["signatures"], near, threshold)
        clustering = minhash.MinhashDedupCluster(at["pairs"], at["clusters"], near, save_cluster_id=True)
        stages["clusters"] = [verifying, clustering, deduplication.KeepFirst(at["clusters"], at["positions"])], 1
        writing.append(minhash.MinhashDedupFilter(at["clusters"], _dropped_writer(work, "near_duplicates")))
    writing.append(JsonlWriter(at["out"], "train-${rank}.jsonl", compression=None, adapter=_as_row))
    stages["write"] = writing, config.tasks
    stages["publish"] = [partial(publish, work=str(work), out=str(out))], 1
    return stages


def _near_settings(options: Mapping[str, Any]) -> tuple[Any, float]:
    """datatrove's MinHash settings (its text normalisation's among them), and our threshold on the similarity of a pair."""
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.utils.text import TextNormConfig

    norms = {key: value for key, value in options.items() if key in inspect.signature(TextNormConfig).parameters}
    rest = {key: value for key, value in options.items() if key not in norms and key != "threshold"}
    settings = _call("near_duplicates", MinhashConfig, {**rest, "norm_config": TextNormConfig(**norms)})
    return settings, options.get("threshold", 0.75)


def _filter_names(config: CleaningConfig) -> list[str]:
    """Filters in order; nothing empty may reach the next stage, whose reader would pass over it and miscount."""
    names = [name for name in config.steps if name in FILTERS]
    return ["empty", *names, *(["emptied"] if "c4" in names else [])]


def _filter(name: str, config: CleaningConfig, words: Any, heldout: Sequence[Source], writer: Any) -> Any:
    from datatrove.pipeline import filters

    from base_model import cleaning_filters as ours

    block, given = {
        "empty": (ours.NonEmpty, {}),
        "emptied": (ours.NonEmpty, {}),
        "encoding": (ours.EncodingFilter, {}),
        "language": (ours.LanguageFilter, {"languages": [config.language]}),
        "boilerplate": (ours.BoilerplateFilter, {}),
        "quality": (filters.GopherQualityFilter, {"language": words}),
        "repetition": (ours.RepetitionFilter, {"language": words}),
        "fineweb": (filters.FineWebQualityFilter, {"language": words}),
        "c4": (filters.C4QualityFilter, {"language": words}),
        "personal_data": (ours.PersonalData, {}),
        "decontamination": (ours.Decontaminate, {"sources": list(heldout)}),
    }[name]
    if name != "personal_data":
        given["exclusion_writer"] = writer
    return _call(name, block, {**given, **config.options.get(name, {})})


def _call(name: str, block: type, options: Mapping[str, Any]) -> Any:
    """block(**options), or a ValueError that names the setting it does not have."""
    known = {key for kind in inspect.getmro(block) for key in inspect.signature(kind).parameters} - {
        "args",
        "kwargs",
        "options",
    }
    for key in options:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(known))}"
            raise ValueError(f"the cleaning step {name!r} has no setting {key!r}; {hint}")
    return block(**options)


def _dropped_writer(work: Path, step: str) -> Any:
    from datatrove.pipeline.writers import JsonlWriter

    return JsonlWriter(str(work / "dropped" / step), compression=None, adapter=_as_dropped)


def _as_kept(writer: Any, document: Any) -> dict[str, Any]:
    return {"text": document.text, "id": document.id, "metadata": document.metadata}


def _as_row(writer: Any, document: Any) -> dict[str, Any]:
    return {"id": document.id, "text": document.text, **document.metadata["fields"]}


def _as_dropped(writer: Any, document: Any) -> dict[str, Any]:
    shared = {"shared": document.metadata["shared"]} if "shared" in document.metadata else {}
    return {
        "id": document.id,
        "reason": document.metadata.get("filter_reason", ""),
        "text": document.text[:EXAMPLE_CHARS],
        **shared,
    }


# ---- running them


def _prepare(work: Path, source: Source, config: CleaningConfig, heldout: Sequence[Source]) -> None:
    for name in WORK_FOLDERS:
        (work / name).mkdir(parents=True)
    about = {
        "source": asdict(source),
        "heldout": [item.path for item in heldout] if "decontamination" in config.steps else [],
        "config": asdict(config),
        "filters": _filter_names(config),
        "deduplication": [name for name in config.steps if name in DEDUPLICATION],
        "examples": config.examples,
        "began_s": time.time(),
    }
    (work / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _executor(name: str, pipeline: list[Any], tasks: int, work: Path, config: CleaningConfig, **more: Any) -> Any:
    common = {
        "pipeline": pipeline,
        "tasks": tasks,
        "logging_dir": str(work / "logs" / name.replace(" ", "_")),
        **config.executor_options,
        **more,
    }
    if config.executor == "slurm":
        from datatrove.executor import SlurmPipelineExecutor

        # jobs find this package where it stands, installed or not
        path = f"export PYTHONPATH={Path(__file__).resolve().parents[1]}:$PYTHONPATH"
        common["env_command"] = "\n".join([*filter(None, [common.get("env_command")]), path])
        return SlurmPipelineExecutor(job_name=f"clean {name}", **common)
    if config.executor == "ray":
        from datatrove.executor import RayPipelineExecutor

        return RayPipelineExecutor(workers=config.workers, **common)
    from datatrove.executor import LocalPipelineExecutor

    # Light stages run in this process; a forked worker has everything imported already (2 s less a stage than a fresh one)
    workers = min(tasks, config.workers) if name in ("filter", "signatures", "write") else 1
    return LocalPipelineExecutor(
        workers=workers, start_method="fork" if sys.platform == "linux" else "forkserver", **common
    )


def _submit(stages: dict[str, Pipeline], work: Path, config: CleaningConfig) -> None:
    """Each stage a Slurm job array that waits for the one before."""
    executor = None
    for name, (pipeline, tasks) in stages.items():
        executor = _executor(name, pipeline, tasks, work, config, depends=executor)
    executor.run()


def _refuse_nothing(work: Path) -> None:
    """Raise ValueError when the filters left nothing: the stages after it would not say why."""
    from base_model.cleaning_report import filter_record

    if any(path.stat().st_size for path in (work / "kept").iterdir()):
        return
    drops = ", ".join(f"{step['step']} {step['dropped']}" for step in filter_record(work) if step["dropped"])
    raise ValueError(
        f"cleaning kept no document ({drops or 'the source has no rows'}); look at the source, and at steps and options"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep datatrove's log lines and bars off the terminal; failures still raise."""
    from datatrove.utils.logging import logger, setup_default_logger

    logger.disable("datatrove")
    try:
        with open(devnull, "w") as nowhere, redirect_stderr(nowhere):
            yield
    finally:
        setup_default_logger()  # datatrove left one that writes to the place just closed
        logger.enable("datatrove")


@contextmanager
def _watched(work: Path, progress: Callable[[str, int, int, int], None] | None, *stage: Any) -> Iterator[None]:
    """Call progress(*stage, documents read) twice a second while the block runs, and once after it."""

    def report() -> None:
        read = sum(int(path.read_text() or 0) for path in (work / "read").glob("*.progress"))
        progress(*stage, read)

    def watch() -> None:
        while not is_over.wait(0.5):
            report()

    if progress is None:
        yield
        return
    is_over = threading.Event()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
    report()
