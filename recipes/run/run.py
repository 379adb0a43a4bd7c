"""The run record: one folder per stage that is either finished, and then complete and described, or visibly unfinished.

    run = Run.start(STAGE, run_config, config, parents=[policy, reward], data=[prompts])
    with run.checking():
        ... read and check all that the run will read ...
    if not run.is_trained:
        with run.training():
            ... train, with run.callbacks, run.log, run.resume_from ...
        run.save(model, tokenizer)
        run.trained(steps=...)
    ... measure what is on disk ...
    run.finish(judges={"reward_model": reward.score})

`save` writes the checkpoint and loads it back from disk through the Auto classes; from `trained` on, `--resume` measures and does not
train. `finish` evaluates the checkpoint and writes the model card and, last of all and atomically, `manifest.json`. A folder without a
manifest is unfinished. Only process 0 of a distributed run writes. What a stage makes goes to `run.out`, and lies in the run's folder
once it is finished (folder.py).
"""

import dataclasses
import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from base_model.checkpoints import checkpoints, newest_sealed, remove_partials, step_of, write_text_atomically
from recipes.run import record
from recipes.run.disk import working_in
from recipes.run.folder import (
    LOG,
    MANIFEST,
    PROGRESS,
    STARTED,
    TRAINED,
    TRAINING_STATE,
    UNFINISHED,
    FolderLock,
    differences,
    forget,
    inputs_inside,
    open_folder,
    read_record,
    take_place,
)
from recipes.run.quiet import quiet_bars
from recipes.run.stage import Stage

MARK = "run.json"  # in each checkpoint: whose it is


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
        self, stage: Stage, run_config: RunConfig, settings: dict[str, Any], parents: list[dict], data: list[dict]
    ) -> None:
        self.stage, self.config, self.settings = stage, run_config, settings
        self.parents, self.data = parents, data
        self.dir = Path(run_config.output_dir)
        self.out = self.dir / UNFINISHED  # what the stage makes; moved into `dir` when the run is finished
        self.checkpoints = self.dir / TRAINING_STATE
        self.resume_from: str | None = None
        self.is_main = int(os.environ.get("RANK", "0")) == 0
        self.notes: dict[str, Any] = {}
        self.checks: list[dict[str, Any]] = []
        self._trained: dict[str, Any] = {}  # steps, tokens, trained_parameters and wall_s, once training is over
        self._began_s = time.monotonic()
        self._training_began_s: float | None = None
        self._trained_s = 0.0
        self._progress, self._progress_s = (0, 0), 0.0
        self._before: dict[str, Any] = {}  # what the lives before this one took
        self._log_file = self.dir / LOG
        self._is_log_cut = False
        self._lock: FolderLock | None = None
        self._goes_on = False  # with what an earlier life began
        self._tasks: Any = None  # of the suite, loaded when the run began

    @classmethod
    def start(
        cls,
        stage: Stage,
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
        for inside in inputs_inside(Path(run_config.output_dir), [*parents, *data]):
            raise ValueError(
                f"{inside} lies in {run_config.output_dir}, the run's own folder, and a run does not replace what it is made "
                "from; give another --output_dir"
            )
        described = [record.describe_parent(parent) for parent in parents]
        run = cls(stage, run_config, _plain(config), described, [record.describe_data(path) for path in data])
        if run.is_main:
            run._check_evaluation()
            run._open()
        run._set_seed()
        if run_config.resume:
            run._find_checkpoint()
            run._read_trained()
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
        self._tasks = check_inputs(
            suite, AutoTokenizer.from_pretrained(folder, trust_remote_code=False) if folder else None
        )

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the run's result: a run is resumed, and a checkpoint is one of its own, only where all of it is the same."""
        return {
            "stage": self.stage.name,
            "seed": self.config.seed,
            "config": self.settings,
            "parents": [p["sha256"] for p in self.parents],
            "data": [d["sha256"] for d in self.data],
            **_batch_of_processes(self.settings),
            **_split_of_weights(self.stage),
        }

    def _open(self) -> None:
        self._goes_on = self.config.resume and (self.dir / STARTED).is_file()
        self._lock = open_folder(self.dir, self.identity, overwrite=self.config.overwrite, resume=self.config.resume)
        working_in.append(self.dir)
        self._before = read_record(self.dir / PROGRESS) or {}
        if (self.dir / MANIFEST).is_file():  # the run that is there keeps its log until it is replaced
            self._log_file = self.out / LOG

    def _find_checkpoint(self) -> None:
        """The newest whole checkpoint, with the notes that it was made with. Damaged ones go: their steps are made again."""
        newest = newest_sealed(self.checkpoints)
        if newest and (made := read_record(newest / MARK)):
            if differing := differences(made["run"], self.identity):
                raise ValueError(
                    f"{newest} is of another run ({'; '.join(differing)}); remove it, and --resume goes on from the one before"
                )
            self.notes |= made["notes"]
        for folder in checkpoints(self.checkpoints) if self.is_main else []:
            if newest is None or step_of(folder) > step_of(newest):
                shutil.rmtree(folder)
        self.resume_from = str(newest) if newest else None
        self.note("resumed_from", newest.name if newest else None)

    def mark(self, checkpoint: Path) -> None:
        """Write into a checkpoint, before it is sealed, whose it is, where the log stands, and the notes so far."""
        log_bytes = self._log_file.stat().st_size if self._log_file.is_file() else 0
        made = {"run": self.identity, "log_bytes": log_bytes, "notes": self.notes}
        (checkpoint / MARK).write_text(json.dumps(made, indent=1, default=str) + "\n", encoding="utf-8")

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

    @contextmanager
    def checking(self) -> Iterator[None]:
        """Around the reading of everything that the run will read: nothing of it is to be found out after training. A run whose inputs are
        refused has not begun: it can be started again with others."""
        try:
            yield
        except (ValueError, OSError):
            if self.is_main and not self._goes_on:
                forget(self.dir)
            raise

    @contextmanager
    def training(self) -> Iterator[None]:
        """Around the training itself: its seconds, over all lives of the run, are noted; the log first goes back to the checkpoint."""
        if self.is_main and not self._is_log_cut:
            self._cut_log()
        self._is_log_cut = True
        self._training_began_s = time.monotonic()
        try:
            yield
        finally:
            self._trained_s, self._training_began_s = self.training_s - self._before.get("training_s", 0.0), None
        self.note("training_s", round(self.training_s, 2))

    def _cut_log(self) -> None:
        """Drop what was logged after the checkpoint that the run goes on from: those steps are made again."""
        if not self._log_file.is_file():
            return
        made = read_record(Path(self.resume_from) / MARK) if self.resume_from else {"log_bytes": 0}
        lines = self._log_file.read_bytes().splitlines(keepends=True)
        if made:
            kept = b"".join(lines)[: made["log_bytes"]]
        else:  # a checkpoint without a mark: by its step
            last = step_of(self.resume_from)
            kept = b"".join(line for line in lines if line.endswith(b"\n") and json.loads(line)["step"] <= last)
        write_text_atomically(self._log_file, kept.decode("utf-8"))

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Append one line to log.jsonl with the seconds that the run has taken. `metrics` holds "step"."""
        if self.is_main:
            self._lock.check()
            with open(self._log_file, "a", encoding="utf-8") as file:
                file.write(json.dumps({**metrics, "elapsed_s": round(self.elapsed_s, 3)}) + "\n")
            self._write_progress()

    def progress(self, done: int, total: int) -> None:
        """Say how far the stage is, for whoever watches the folder (the pipeline's table); at most a few times a second."""
        self._progress = (done, total)
        if self.is_main:
            self._write_progress(is_due=done >= total)

    def _write_progress(self, *, is_due: bool = False) -> None:
        """Replace .progress.json: where the run is, and what it has taken so far, for its next life if this one is killed."""
        self._lock.check()
        now_s = time.monotonic()
        if not is_due and now_s - self._progress_s <= 0.5:
            return
        self._progress_s = now_s
        facts = {
            "done": self._progress[0],
            "total": self._progress[1],
            "elapsed_s": round(self.elapsed_s, 2),
            "training_s": round(self.training_s, 2),
            "peak_memory_bytes": self.peak_memory_bytes(),
        }
        partial = self.dir / f"{PROGRESS}.partial"
        partial.write_text(json.dumps(facts), encoding="utf-8")  # not synced: it is not worth the wait
        os.replace(partial, self.dir / PROGRESS)

    @property
    def elapsed_s(self) -> float:
        """Seconds that the run has been open, over all its lives."""
        return self._before.get("elapsed_s", 0.0) + time.monotonic() - self._began_s

    @property
    def training_s(self) -> float:
        """Seconds of them spent within `training`."""
        running_s = 0.0 if self._training_began_s is None else time.monotonic() - self._training_began_s
        return self._before.get("training_s", 0.0) + self._trained_s + running_s

    def peak_memory_bytes(self) -> dict[str, int]:
        """The largest of all lives, of this machine and of the accelerator where there is one."""
        before = self._before.get("peak_memory_bytes", {})
        return {name: max(peak, before.get(name, 0)) for name, peak in record.peak_memory_bytes().items()}

    def inside(self, path: Path | str) -> Path:
        """Where a path lies until the run is finished: one in the run's folder lies in `out`, any other where it is."""
        path, home = Path(path).absolute(), self.dir.absolute()
        return self.out / path.relative_to(home) if path.is_relative_to(home) else path

    def note(self, key: str, value: Any) -> None:
        """Put a fact (a count, a table) into the record's `notes`."""
        self.notes[key] = value

    def check(self, name: str, passed: bool, detail: str) -> None:
        """Put a check into the record; the report shows passed and failed ones."""
        self.checks.append({"name": name, "passed": bool(passed), "detail": detail})

    @property
    def is_trained(self) -> bool:
        """Is training over, here or in the run that this one resumes? Then the model is in `out`."""
        return bool(self._trained)

    def save(self, model: Any, tokenizer: Any) -> None:
        """Put the trained model on disk, before anything that can fail.

        model: a `base_model.GPT` or a transformers model (causal or sequence classification). Raises ValueError if what is read back is
        not what is in memory, or its tokenizer or template is not its parent's.
        """
        if self.is_main:
            self._lock.check()
            save_checkpoint(model, tokenizer, self.out)
            self._check_tokenizer()
            self._tell_type()

    def trained(
        self, *, steps: int | None = None, tokens: int | None = None, trained_parameters: int | None = None
    ) -> None:
        """Training is over and its model saved: with the notes and checks so far, this is where `--resume` goes on from now on."""
        facts = {"steps": steps, "tokens": tokens, "trained_parameters": trained_parameters}
        self._trained = {**facts, "wall_s": round(self.elapsed_s, 2)}
        if self.is_main:
            self.checkpoints.mkdir(exist_ok=True)
            state = {"trained": self._trained, "notes": self.notes, "checks": self.checks}
            write_text_atomically(self.dir / TRAINED, json.dumps(state, default=str) + "\n")

    def _read_trained(self) -> None:
        if (self.dir / TRAINED).is_file():
            state = json.loads((self.dir / TRAINED).read_text(encoding="utf-8"))
            self._trained, self.checks = state["trained"], state["checks"]
            self.notes |= state["notes"] | {"resumed_from": "the trained model"}

    def finish(
        self,
        model: Any = None,
        tokenizer: Any = None,
        *,
        judges: Mapping[str, Callable] | None = None,
        reference: Path | str | None = None,
        **facts: int,
    ) -> Path:
        """Evaluate and describe what is on disk; then write the manifest. Returns the run folder.

        model, tokenizer, facts: for `save` and `trained`, where they were not called. A stage without a model wrote its own files.
        reference: checkpoint to which KL is measured by sampling.
        """
        from base_model.precision import give_back_freed_memory
        from recipes.run.card import model_card

        if not self.is_main:
            return self.dir
        self._write_progress(is_due=True)
        give_back_freed_memory()
        if model is not None:
            self.save(model, tokenizer)
            self.trained(**facts)
        began_s = self.elapsed_s
        summary = self._evaluate(judges or {}, reference) if self.is_trained and _is_causal(self.out) else None
        never = dict.fromkeys(("steps", "tokens", "trained_parameters")) | {"wall_s": round(began_s, 2)}
        manifest = {
            "stage": self.stage.name,
            "config": self.settings,
            "seed": self.config.seed,
            "parents": self.parents,
            "data": self.data,
            **record.tokenizer_hashes(self.out),
            "files": record.run_files(self.out),
            "versions": record.versions(),
            "git_commit": record.git_commit(),
            "hardware": record.hardware(),
            **(self._trained or never),
            "evaluation_s": round(self.elapsed_s - began_s, 2),
            "peak_memory_bytes": self.peak_memory_bytes(),
            "checks": self.checks,
            "notes": self.notes,
            "evaluation": summary,
        }
        if self.is_trained:
            write_text_atomically(self.out / "README.md", model_card(manifest, self.dir, self.stage.purpose))
        remove_partials(self.out)
        self._lock.check()
        write_text_atomically(self.out / MANIFEST, json.dumps(manifest, indent=1, default=str) + "\n")
        take_place(self.dir)
        self._lock.close()
        return self.dir

    def _tell_type(self) -> None:
        """Say it where the weights are of another type than the parent's (trained in float32, they have twice the size of bfloat16's)."""
        if not self.parents:
            return
        before, now = (record.weights_type(folder) for folder in (record.parent_folder(self.parents[0]), self.out))
        if before not in (None, now):
            detail = f"{now}, as they were trained; the parent's are {before}: from_pretrained(..., dtype='{before}') rounds them to that"
            self.check("weights' type", True, detail)
            print(f"{self.dir}: the weights are {detail}", file=sys.stderr, flush=True)

    def _check_tokenizer(self) -> None:
        """Refuse a checkpoint whose tokenizer or chat template is not its first parent's (tokens and a template may be added)."""
        if not self.parents:
            return
        from transformers import AutoTokenizer

        from base_model.tokenizer_identity import tokenizer_difference

        parent = record.parent_folder(self.parents[0])
        difference = tokenizer_difference(*map(AutoTokenizer.from_pretrained, (parent, self.out)))
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
            self.out,
            suite,
            judges={**judges_of(suite), **judges},
            reference=Path(reference) if reference else None,
            out=self.out,
            tasks=self._tasks,
        )
        return evaluation.summary()


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
    read = auto.from_pretrained(partial, dtype=next(model.parameters()).dtype, trust_remote_code=False).state_dict()
    for name, tensor in model.state_dict().items():
        if name not in read or not torch.equal(read[name].cpu(), tensor.detach().cpu()):
            raise ValueError(f"{folder}: {name} read back from the saved checkpoint is not what was trained")
    AutoTokenizer.from_pretrained(partial, trust_remote_code=False)
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


def _check_deepspeed(stage: Stage) -> None:
    """Raises ValueError if the launcher asks for DeepSpeed where it is not installed, or for a stage that does not run on it."""
    if not _is_launched_with("DEEPSPEED"):
        return
    if stage.own_loop:
        raise ValueError(
            f"{stage.name} does not run on DeepSpeed; launch it with recipes/configs/accelerate/ddp.yaml or fsdp.yaml"
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


def _split_of_weights(stage: Stage) -> dict[str, str]:
    """What splits the weights over processes, if anything: transformers' Trainer goes on from its checkpoints under the same alone (or
    without the optimizer's state, and no word of it), and DeepSpeed only on as many processes."""
    if stage.own_loop:
        return {}
    if _is_launched_with("DEEPSPEED"):
        return {"weights split by": f"DeepSpeed on {os.environ.get('WORLD_SIZE', '1')} processes"}
    return {"weights split by": "FSDP"} if _is_launched_with("FSDP") else {}


def _is_launched_with(what: str) -> bool:
    """Does accelerate's launcher ask for it: "DEEPSPEED" or "FSDP"?"""
    return os.environ.get(f"ACCELERATE_USE_{what}", "false").lower() == "true"
