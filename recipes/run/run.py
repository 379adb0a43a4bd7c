"""The run record: one folder per stage that is either finished, and then complete and described, or visibly unfinished.

    run = Run.start("ppo", run_config, config, parents=[policy, reward], data=[prompts])
    ... train, with run.callbacks, run.log, run.resume_from ...
    run.finish(model, tokenizer, judges={"reward_model": reward.score})

`finish` saves the checkpoint, loads it back from disk through the Auto classes, evaluates THAT, and writes the model card and, last of
all and atomically, `manifest.json`. A folder without a manifest is unfinished. Only process 0 of a distributed run writes.
"""

import dataclasses
import fcntl
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from base_model.checkpoints import newest_sealed, remove_partials, write_text_atomically
from recipes.run import record
from recipes.run.quiet import quiet_bars

OWN_LOOPS = ("pretrain", "ppo")  # not transformers' Trainer: their checkpoints hold whole tensors, whatever split them


@dataclass(frozen=True)
class RunConfig:
    """Where a run goes and how it is measured; every recipe's first dataclass."""

    output_dir: str = field(metadata={"help": "the run folder, e.g. runs/tiny/base"})
    seed: int = 1  # of everything that is drawn: same seed, same machine, same bits
    overwrite: bool = field(default=False, metadata={"help": "replace a finished run of that name"})
    resume: bool = field(
        default=False, metadata={"help": "go on from the newest good checkpoint of an interrupted run"}
    )
    evaluation: str | None = field(default=None, metadata={"help": "suite YAML measured when the stage finishes"})

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be >= 0, got {self.seed}")
        if self.overwrite and self.resume:
            raise ValueError("overwrite and resume exclude each other: one starts anew, the other goes on")


class Run:
    """An open run. Make it with `Run.start`; end it with `finish`."""

    def __init__(
        self, stage: str, run_config: RunConfig, settings: dict[str, Any], parents: list[dict], data: list[dict]
    ) -> None:
        self.stage, self.config, self.settings = stage, run_config, settings
        self.parents, self.data = parents, data
        self.dir = Path(run_config.output_dir)
        self.checkpoints = self.dir / record.TRAINING_STATE
        self.resume_from: str | None = None
        self.is_main = int(os.environ.get("RANK", "0")) == 0
        self.notes: dict[str, Any] = {}
        self.checks: list[dict[str, Any]] = []
        self._began_s = time.monotonic()
        self._progress_s = 0.0
        self._lock: Any = None
        self._tasks: Any = None  # of the suite, loaded when the run began

    @classmethod
    def start(
        cls,
        stage: str,
        run_config: RunConfig,
        config: Any = None,
        *,
        parents: Sequence[Path | str] = (),
        data: Sequence[Path | str] = (),
    ) -> "Run":
        """Open `run_config.output_dir`. A parent is a checkpoint's folder, or a hub id.

        Raises ValueError if it holds a finished run (without --overwrite), files that no run made, another running process, or an
        interrupted run with other settings (with --resume), or if it was launched on DeepSpeed and cannot run on it;
        FileNotFoundError or ValueError if a parent is missing or unfinished.
        """
        quiet_bars()
        _check_deepspeed(stage)
        described = [record.describe_parent(parent) for parent in parents]
        run = cls(stage, run_config, _plain(config), described, [record.describe_data(path) for path in data])
        if run.is_main:
            run._check_evaluation()
            run._open()
        run._set_seed()
        if run_config.resume:
            newest = newest_sealed(run.checkpoints)
            run.resume_from = str(newest) if newest else None
            run.note("resumed_from", newest.name if newest else None)
        return run

    def _check_evaluation(self) -> None:
        """Open all that the evaluation will read, with the first parent's tokenizer: nothing of it is to be found out after training."""
        if self.config.evaluation is None:
            return
        from transformers import AutoTokenizer

        from eval.inputs import check_inputs
        from eval.suite import Suite
        from recipes.judges.registry import check_judges, judge_names

        suite = Suite.load(self.config.evaluation)
        check_judges(judge_names(suite))
        folder = record.parent_folder(self.parents[0]) if self.parents else None
        self._tasks = check_inputs(suite, AutoTokenizer.from_pretrained(folder) if folder else None)

    def _open(self) -> None:
        started = self.dir / "started.json"
        if (
            self.dir.is_dir()
            and any(self.dir.iterdir())
            and not started.is_file()
            and not (self.dir / "manifest.json").is_file()
        ):
            raise ValueError(f"{self.dir} holds files that no run made; give another --output_dir")
        self.dir.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(self.dir)
        if (self.dir / "manifest.json").is_file() and not self.config.overwrite:
            raise ValueError(
                f"{self.dir} holds a finished run; pass --overwrite to replace it, or another --output_dir"
            )
        settings = {
            "stage": self.stage,
            "seed": self.config.seed,
            "config": self.settings,
            "parents": [p["sha256"] for p in self.parents],
            "data": [d["sha256"] for d in self.data],
            **_batch_of_processes(self.settings),
            **_split_of_weights(self.stage),
        }
        if self.config.resume and started.is_file():
            before = json.loads(started.read_text(encoding="utf-8"))
            differing = _differences(before, settings)
            if differing:
                raise ValueError(
                    f"{self.dir} was started with other settings ({'; '.join(differing)}): resume with those, or start anew"
                )
        else:
            self._clear()
            write_text_atomically(started, json.dumps(settings, indent=1) + "\n")
        remove_partials(self.dir)

    def _clear(self) -> None:
        (self.dir / "manifest.json").unlink(missing_ok=True)  # first: from here on the folder is visibly unfinished
        for path in self.dir.iterdir():
            if path.name != ".lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _set_seed(self) -> None:
        import random

        import numpy
        import torch

        random.seed(self.config.seed)
        numpy.random.seed(self.config.seed)
        torch.manual_seed(self.config.seed)

    @property
    def callbacks(self) -> list:
        """Callbacks for a transformers-style trainer: metrics to log.jsonl, checkpoints sealed."""
        from recipes.run.callbacks import RunCallback

        return [RunCallback(self)]

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Append one line to log.jsonl with the seconds since the run began. `metrics` holds "step"."""
        if self.is_main:
            with open(self.dir / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps({**metrics, "elapsed_s": round(self.elapsed_s, 3)}) + "\n")

    def progress(self, done: int, total: int) -> None:
        """Say how far the stage is, for whoever watches the folder (the pipeline's table); at most a few times a second."""
        now_s = time.monotonic()
        if self.is_main and (done >= total or now_s - self._progress_s > 0.5):
            self._progress_s = now_s
            write_progress(self.dir, done, total, self.elapsed_s)

    @property
    def elapsed_s(self) -> float:
        """Seconds since this process opened the run."""
        return time.monotonic() - self._began_s

    def note(self, key: str, value: Any) -> None:
        """Put a fact (a count, a table) into the record's `notes`."""
        self.notes[key] = value

    def check(self, name: str, passed: bool, detail: str) -> None:
        """Put a check into the record; the report shows passed and failed ones."""
        self.checks.append({"name": name, "passed": bool(passed), "detail": detail})

    def finish(
        self,
        model: Any = None,
        tokenizer: Any = None,
        *,
        judges: Mapping[str, Callable] | None = None,
        reference: Path | str | None = None,
        steps: int | None = None,
        tokens: int | None = None,
        trained_parameters: int | None = None,
    ) -> Path:
        """Save, reload, evaluate, describe; then write the manifest. Returns the run folder.

        model: a `base_model.GPT`, a transformers model (causal or sequence classification), or None when the stage wrote its own files.
        reference: checkpoint to which KL is measured by sampling. Raises ValueError if the reloaded checkpoint differs from the model in
        memory, or its tokenizer or template is not its parent's.
        """
        from base_model.precision import give_back_freed_memory
        from recipes.run.card import model_card

        if not self.is_main:
            return self.dir
        trained_s = self.elapsed_s
        give_back_freed_memory()
        if model is not None:
            save_checkpoint(model, tokenizer, self.dir)
            self._check_tokenizer()
        summary = self._evaluate(judges or {}, reference) if model is not None and _is_causal(self.dir) else None
        manifest = {
            "stage": self.stage,
            "config": self.settings,
            "seed": self.config.seed,
            "parents": self.parents,
            "data": self.data,
            **record.tokenizer_hashes(self.dir),
            "files": record.run_files(self.dir),
            "versions": record.versions(),
            "git_commit": record.git_commit(),
            "hardware": record.hardware(),
            "steps": steps,
            "tokens": tokens,
            "trained_parameters": trained_parameters,
            "wall_s": round(trained_s, 2),
            "evaluation_s": round(self.elapsed_s - trained_s, 2),
            "peak_memory_bytes": record.peak_memory_bytes(),
            "checks": self.checks,
            "notes": self.notes,
            "evaluation": summary,
        }
        if model is not None:
            write_text_atomically(self.dir / "README.md", model_card(manifest, self.dir))
        remove_partials(self.dir)
        (self.dir / ".progress.json").unlink(missing_ok=True)
        write_text_atomically(self.dir / "manifest.json", json.dumps(manifest, indent=1, default=str) + "\n")
        (self.dir / "started.json").unlink(missing_ok=True)
        if self._lock:
            self._lock.close()
        return self.dir

    def _check_tokenizer(self) -> None:
        """Refuse a checkpoint whose tokenizer or chat template is not its first parent's (tokens and a template may be added)."""
        if not self.parents:
            return
        from transformers import AutoTokenizer

        from base_model.tokenizer_identity import tokenizer_difference

        parent = record.parent_folder(self.parents[0])
        difference = tokenizer_difference(*map(AutoTokenizer.from_pretrained, (parent, self.dir)))
        if difference:
            raise ValueError(
                f"the {difference.what} of {self.dir} is not that of its parent {self.parents[0]['path']}: {difference.why}; "
                "use the parent's"
            )

    def _evaluate(self, judges: Mapping[str, Callable], reference: Path | str | None) -> dict[str, Any] | None:
        if self.config.evaluation is None:
            self.check("evaluated", False, "no suite was given (--evaluation SUITE.yaml)")
            return None
        from eval.harness import Suite, evaluate
        from recipes.judges.registry import judges_of

        suite = Suite.load(self.config.evaluation)
        evaluation = evaluate(
            self.dir,
            suite,
            judges={**judges_of(suite), **judges},
            reference=Path(reference) if reference else None,
            out=self.dir,
            tasks=self._tasks,
        )
        return evaluation.summary()


def lock_folder(folder: Path) -> Any:
    """Lock a folder for this process until the returned file is closed or the process ends. Raises ValueError if another one has it."""
    lock = open(folder / ".lock", "w")  # noqa: SIM115 - closing it gives the lock up
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise ValueError(f"another process is working in {folder}; wait for it, or give another --output_dir") from None
    return lock


def write_progress(folder: Path, done: int, total: int, elapsed_s: float) -> None:
    """Replace `.progress.json`: {done, total, elapsed_s}. Not synced to disk: it is of no use after the process."""
    partial = folder / ".progress.json.partial"
    partial.write_text(json.dumps({"done": done, "total": total, "elapsed_s": round(elapsed_s, 1)}), encoding="utf-8")
    os.replace(partial, folder / ".progress.json")


def save_checkpoint(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write model and tokenizer as a Hugging Face checkpoint into a run folder and read it back through the Auto classes.

    Raises ValueError naming the tensor if what was read back is not bit for bit what was in memory (as fp32 or the model's own type).
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    from base_model.gpt import GPT
    from base_model.hf import export_checkpoint, to_hf

    partial = folder / ".checkpoint.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    if isinstance(model, GPT):
        export_checkpoint(model, tokenizer, partial)
        model = to_hf(model)
    else:
        _list_stops(model, tokenizer)
        model.save_pretrained(partial, safe_serialization=True)
        tokenizer.save_pretrained(partial)
    auto = AutoModelForCausalLM if _is_causal(partial) else AutoModelForSequenceClassification
    read = auto.from_pretrained(partial, dtype=next(model.parameters()).dtype).state_dict()
    for name, tensor in model.state_dict().items():
        if name not in read or not torch.equal(read[name].cpu(), tensor.detach().cpu()):
            raise ValueError(f"{folder}: {name} read back from the saved checkpoint is not what was trained")
    AutoTokenizer.from_pretrained(partial)
    for path in sorted(partial.iterdir()):
        target = folder / path.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(path, target)
    partial.rmdir()


def _list_stops(model: Any, tokenizer: Any) -> None:
    """Put all that ends an answer into the generation config, so that whoever loads the checkpoint stops where its evaluation did."""
    from base_model.stops import stop_token_ids

    config = getattr(model, "generation_config", None)
    if config is None or tokenizer.eos_token_id is None:
        return
    listed = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    stops = stop_token_ids(tokenizer, model)
    if not {*stops} <= {*listed}:
        config.eos_token_id = list(stops)


def _is_causal(folder: Path) -> bool:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return not any("SequenceClassification" in name for name in config.get("architectures") or [])


def _plain(config: Any) -> dict[str, Any]:
    """Dataclasses, mappings and sequences of them as plain JSON values (paths as strings)."""
    if config is None:
        return {}
    if isinstance(config, (list, tuple)):
        merged: dict[str, Any] = {}
        for item in config:
            merged.update(_plain(item))
        return merged
    values = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else dict(config)
    for transient in ("output_dir", "overwrite", "resume", "evaluation"):  # where and how often, not what
        values.pop(transient, None)
    return json.loads(json.dumps(values, default=str))


def _check_deepspeed(stage: str) -> None:
    """Raises ValueError if the launcher asks for DeepSpeed where it is not installed, or for a stage that does not run on it."""
    if not _is_launched_with("DEEPSPEED"):
        return
    if stage in OWN_LOOPS:
        raise ValueError(
            f"{stage} does not run on DeepSpeed; launch it with recipes/configs/accelerate/ddp.yaml or fsdp.yaml"
        )
    require_deepspeed("accelerate's config")


def require_deepspeed(accelerate_config: str) -> None:
    """Raises ValueError, naming the accelerate config that asks for DeepSpeed, if it is not installed."""
    if importlib.util.find_spec("deepspeed") is None:
        raise ValueError(
            f"{accelerate_config} asks for DeepSpeed, which is not installed: pip install 'plumbline[deepspeed]', or launch "
            "with recipes/configs/accelerate/fsdp.yaml"
        )


def _batch_of_processes(settings: dict[str, Any]) -> dict[str, str]:
    """Where a stage's batch is so many rows of each process: both numbers, since a resumed run on other processes has another batch."""
    if "per_device_train_batch_size" not in settings or settings.get("batch_size") or "rollout_batch_size" in settings:
        return {}
    processes, rows = os.environ.get("WORLD_SIZE", "1"), settings["per_device_train_batch_size"]
    return {"processes x per_device_train_batch_size (without batch_size)": f"{processes} x {rows}"}


def _split_of_weights(stage: str) -> dict[str, str]:
    """What splits the weights over processes, if anything: transformers' Trainer goes on from its checkpoints under the same alone (or
    without the optimizer's state, and no word of it), and DeepSpeed only on as many processes."""
    if stage in OWN_LOOPS:
        return {}
    if _is_launched_with("DEEPSPEED"):
        return {"weights split by": f"DeepSpeed on {os.environ.get('WORLD_SIZE', '1')} processes"}
    return {"weights split by": "FSDP"} if _is_launched_with("FSDP") else {}


def _is_launched_with(what: str) -> bool:
    """Does accelerate's launcher ask for it: "DEEPSPEED" or "FSDP"?"""
    return os.environ.get(f"ACCELERATE_USE_{what}", "false").lower() == "true"


def _differences(before: dict, after: dict) -> list[str]:
    """Readable "key: old -> new" of two settings, one level into `config`."""
    flat_before = {**before, **before.get("config", {})}
    flat_after = {**after, **after.get("config", {})}
    keys = [key for key in {**flat_before, **flat_after} if key != "config"]
    return [
        f"{key}: {flat_before.get(key)} -> {flat_after.get(key)}"
        for key in keys
        if flat_before.get(key) != flat_after.get(key)
    ]
