"""Measure one checkpoint on one suite: `evaluate(checkpoint, suite)`.

The checkpoint is read from disk through the Auto classes, so what is measured is what a user gets. Global random state and
nothing else of the caller is touched: every draw comes from the suite's seed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from base_model.checkpoints import sha256_file, write_text_atomically
from base_model.loading import load_model
from base_model.precision import find_device
from eval import generation, likelihood
from eval.checks import checks_of
from eval.generation import Decoding, Judge
from eval.inputs import Tasks, check_inputs, load_documents
from eval.results import Evaluation, Metric, measured
from eval.scorer import NonFiniteError, Scorer
from eval.suite import Suite, read_set


def evaluate(
    checkpoint: Path | str,
    suite: Suite,
    *,
    judges: Mapping[str, Judge] | None = None,
    reference: Path | str | None = None,
    out: Path | str | None = None,
    progress: bool = True,
    tasks: Tasks | None = None,
) -> Evaluation:
    """Measure a causal checkpoint (folder or hub id).

    judges: name -> judge(prompts, completions, **columns). Those that the suite names score the sets that name them (those of
    `judges_once_there` where they are given); any other was handed in by a training stage, scores every generation set, and is marked as
    optimised.
    reference: checkpoint for KL(model || reference), where the suite has `kl`.
    out: folder for eval.json and samples.jsonl. tasks: what `eval.inputs.check_inputs` returned for this suite, where it was called.
    Before anything is measured, all that the suite names is read and checked (`eval.inputs`).
    Raises NonFiniteError for a model of NaNs (after writing an eval.json that says so), ValueError for a judge that is missing
    and for a checkpoint that is no causal language model.
    """
    started_s = time.monotonic()
    judges = dict(judges or {})
    if missing := [name for name in suite.judges if name not in judges]:
        raise ValueError(f"suite '{suite.name}' asks for the judge '{missing[0]}', and none of that name was given")
    with _untouched_random_state():
        model, tokenizer = load_checkpoint(checkpoint)
        tasks = check_inputs(suite, tokenizer, tasks)
        result = Evaluation(str(checkpoint), suite.describe(), [], environment=environment_of(model))
        result.loaded_items, result.weights_sha256 = [], weights_sha256(checkpoint)
        try:
            random_init = random_init_row(
                model, tokenizer, suite, judges, cache=out and Path(out).parent / ".random_init"
            )
            _measure_sets(result, suite, tasks, model, tokenizer, judges, reference, progress, random_init)
        except NonFiniteError as error:
            result.failure = f"{checkpoint} can't be measured: {error}"
            result.metrics = []
        result.checks = checks_of(result)
        result.cost |= {"wall_s": round(time.monotonic() - started_s, 2), "peak_memory_bytes": _peak_memory_bytes()}
    if out is not None:
        result.save(out)
    if result.failure:
        raise NonFiniteError(result.failure)
    return result


def _measure_sets(
    result: Evaluation,
    suite: Suite,
    tasks: Tasks,
    model,
    tokenizer,
    judges,
    reference,
    progress: bool,
    random_init: Mapping[str, dict],
) -> None:
    """Measure set after set into `result`."""
    scorer = Scorer(model, batch_tokens=suite.batch_tokens)
    optimised = [name for name in judges if name not in (*suite.judges, *suite.judges_once_there)]

    def record(name: str, items: list[dict], metrics: list[Metric], notes: dict[str, Any], began_s: float) -> None:
        result.loaded_items += _numbered(items)
        result.metrics += [measured(metric, items, random_init.get(metric.key)) for metric in metrics]
        result.notes[name] = notes
        elapsed_s = round(time.monotonic() - began_s, 3)
        result.cost.setdefault("sets_s", {})[name] = elapsed_s
        if progress:
            print(f"  {name}: {len(items)} items, {elapsed_s:.1f} s", file=sys.stderr, flush=True)

    for name, made in suite.likelihood_sets.items():
        began_s = time.monotonic()
        texts = [row["text"] for row in read_set(made, suite.seed)]
        record(name, *likelihood.measure(name, scorer, tokenizer, texts), {}, began_s)
    for name, made in suite.generation_sets.items():
        began_s = time.monotonic()
        there = [name for name in made.judges_once_there if name in judges]
        asked = {judge: judges[judge] for judge in [*made.judges, *there, *optimised]}
        decoding = Decoding(made.max_new_tokens, made.temperature, made.top_p, suite.seed)
        found = generation.measure(
            name,
            model,
            tokenizer,
            read_set(made, suite.seed),
            decoding,
            metrics=made.metrics,
            judges=asked,
            optimised=optimised,
            cluster=made.cluster,
        )
        record(name, *found, began_s)
    if tasks:
        from eval import benchmarks  # late: lm-eval takes a second to import

        lm = benchmarks.BatchedLM(scorer, tokenizer)
        for benchmark, task, docs in tasks:
            began_s = time.monotonic()
            record(task.config.task, *benchmarks.measure(lm, benchmark, task, suite.seed, docs), began_s)
    if suite.kl_set and reference is not None:
        from eval import preference

        began_s = time.monotonic()
        other, other_tokenizer = load_checkpoint(reference)
        if other_tokenizer.get_vocab() != tokenizer.get_vocab():
            raise ValueError(f"KL needs one tokenizer, and {reference} has another than {result.checkpoint}")
        rows = read_set(suite.kl_set, suite.seed)
        found = preference.measure_kl(model, other, tokenizer, rows, suite.kl_set.max_new_tokens, suite.seed)
        record("kl", *found, {"reference": str(reference)}, began_s)


def random_init_row(
    model, tokenizer, suite: Suite, judges: Mapping[str, Judge], *, cache: Path | None
) -> dict[str, dict[str, Any]]:
    """{"set/metric": {value, low, high, n}} of the model's architecture with random weights, on a part of the suite.

    Measured once for an architecture, a tokenizer and a suite: the result is kept in the folder `cache`.
    """
    from transformers import AutoModelForCausalLM

    if not suite.random_init:
        return {}
    short = suite.shortened(suite.random_init)
    named = {name: judges[name] for name in short.judges}
    about = [model.config.to_diff_dict(), tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template, short.sha256]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()
    path = cache and cache / f"{digest[:16]}.json"
    if path and path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    torch.manual_seed(suite.seed)
    untrained = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32).to(model.device).eval()
    result = Evaluation("random weights", short.describe(), [], loaded_items=[])
    _measure_sets(result, short, load_documents(short), untrained, tokenizer, named, None, False, {})
    keys = ("value", "low", "high", "n")
    row = {f"{m['set']}/{m['name']}": {key: m[key] for key in keys} for m in result.metrics}
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, json.dumps(row, indent=1) + "\n")
    return row


def load_checkpoint(checkpoint: Path | str) -> tuple[Any, Any]:
    """(model in evaluation mode, tokenizer), float32, on the accelerator there is.

    Raises FileNotFoundError for a folder that is not there, ValueError for one that holds no causal language model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    folder = Path(checkpoint)
    config = folder / "config.json"
    if folder.is_dir() and config.is_file():
        names = json.loads(config.read_text(encoding="utf-8")).get("architectures") or []
        if any("SequenceClassification" in name for name in names):
            raise ValueError(
                f"{checkpoint} is a {names[0]}; this evaluates causal models (a reward model's figures: its own record)"
            )
    elif not folder.is_dir() and (
        folder.is_absolute() or str(checkpoint).count("/") != 1 or str(checkpoint).startswith(".")
    ):
        raise FileNotFoundError(f"there is no checkpoint at {checkpoint}")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
    has_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = load_model(AutoModelForCausalLM, checkpoint, dtype=torch.float32)
    finally:
        if has_bars:
            logging.enable_progress_bar()
    return model.to(find_device()).eval(), tokenizer


def weights_sha256(checkpoint: Path | str) -> str | None:
    """One hash for the safetensors files of a folder; None where there are none (a hub id)."""
    digests = {path.name: sha256_file(path) for path in sorted(Path(checkpoint).glob("*.safetensors"))}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest() if digests else None


def _numbered(items: list[dict]) -> list[dict]:
    """Items that ask the same twice get different hashes, in order of appearance."""
    seen: dict[str, int] = {}
    for item in items:
        count = seen[item["item"]] = seen.get(item["item"], 0) + 1
        if count > 1:
            item["item"] += f"-{count}"
    return items


def environment_of(model) -> dict[str, Any]:
    """Versions, device and threads that an evaluation was made with."""
    from importlib.metadata import version

    packages = ("torch", "transformers", "lm_eval", "rouge_score", "sacrebleu")
    return {
        "python": sys.version.split()[0],
        **{name: version(name) for name in packages},
        "device": str(next(model.parameters()).device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _peak_memory_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS and KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextlib.contextmanager
def _untouched_random_state() -> Iterator[None]:
    """Python's, numpy's and torch's generators are afterwards as they were."""
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
