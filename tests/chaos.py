"""Kill every stage with signal 9 at random moments, go on with --resume each time, and hold what it ends with to a run never killed.

    python -m tests.chaos --kills 100 --seed 1 --out recipes/results/chaos.md        (this is `make chaos`: ten minutes on one core)
    python -m tests.chaos --kills 10 --stages ppo dpo

The stages are a chain of very small ones, each made from the runs before it. A kill falls at a random time of a life, or where something
is being written: a checkpoint, the final save, in evaluation, as the run takes its place. Each life is a fork of one process that
has imported everything, so it takes no more than its work. Compared are the weights, all files, steps, tokens, notes, checks, evaluation
and the log, without what is a time or memory.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SMALL = {"per_device_train_batch_size": 4, "precision": "fp32", "logging_steps": 3, "save_steps": 2}
TIMES = ("_s", "per_second", "runtime", "throughput", "time/", "peak", "memory", "resumed_from")
PHASES = ("start and steps", "checkpoint", "final save", "evaluation", "taking its place")


@dataclass(frozen=True)
class Stage:
    """One link of the chain: a recipe, and its settings for a folder of runs."""

    name: str
    settings: Callable[[Path], dict[str, Any]]
    share: int  # of 100 kills
    flags: tuple[str, ...] = ()

    def parents(self) -> list[str]:
        """Names of the stages that it is made from."""
        named = self.settings(Path("/runs")).values()
        return [stage.name for stage in STAGES if Path("/runs", stage.name) in named]

    def arguments(self, runs: Path, out: Path) -> list[str]:
        settings = {**self.settings(runs), "output_dir": out}
        return [str(part) for key, value in settings.items() for part in (f"--{key}", value)] + list(self.flags)


STAGES = (
    Stage("tokenizer", lambda runs: {"data": runs / "text.jsonl", "vocab_size": 400}, 4),
    Stage(
        "pretrain",
        lambda runs: {
            "tokenizer": runs / "tokenizer", "preset": "llama-1m", "n_layer": 1, "d_model": 32, "d_ff": 64,
            "context_length": 128, "steps": 14, "batch_size": 4, "lr": 1e-2, "warmup_steps": 2, "precision": "fp32",
            "compile": False, "eval_every": 0, "save_every": 2, "log_every": 3, "evaluation": runs / "suite.yaml",
        },
        16,
    ),
    Stage(
        "domain_sft",
        lambda runs: SMALL | {
            "model": runs / "pretrain", "data": runs / "text.jsonl", "num_train_epochs": 1.5, "context_length": 32,
            "lr_scheduler_type": "constant", "evaluation": runs / "suite.yaml",
        },
        16,
    ),
    Stage(
        "lora_sft",
        lambda runs: SMALL | {
            "model": runs / "pretrain", "data": runs / "chats.jsonl", "max_steps": 13, "lr_scheduler_type": "constant",
            "heldout_rows": 4, "stop_within_tokens": 8, "packing": False, "evaluation": runs / "suite.yaml",
        },
        16,
    ),
    Stage(
        "preferences",
        lambda runs: {
            "model": runs / "lora_sft", "data": runs / "prompts.jsonl", "judge": "tinytown_annotators", "answers": 3,
            "pairs_per_prompt": 2, "max_new_tokens": 8, "prompts_at_once": 4, "heldout_fraction": 0.3,
        },
        4,
    ),
    Stage("reward_model", lambda runs: SMALL | {"model": runs / "lora_sft", "data": runs / "pairs.jsonl"}, 14),
    Stage(
        "ppo",
        lambda runs: {
            "model": runs / "lora_sft", "reward_model": runs / "reward_model", "data": runs / "prompts.jsonl",
            "heldout": runs / "prompts.jsonl", "max_steps": 6, "rollout_batch_size": 8, "num_mini_batches": 2,
            "max_completion_length": 8, "learning_rate": 1e-3, "eval_strategy": "steps", "eval_steps": 2,
            "save_strategy": "steps", "save_steps": 1, "bf16": False, "use_cpu": True, "disable_tqdm": True,
            "evaluation": runs / "suite.yaml",
        },
        16,
    ),
    Stage(
        "dpo",
        lambda runs: SMALL | {
            "model": runs / "lora_sft", "data": runs / "pairs.jsonl", "heldout": runs / "heldout.jsonl",
            "learning_rate": 1e-3, "evaluation": runs / "suite.yaml",
        },
        14,
    ),
)  # fmt: skip


@dataclass
class Tried:
    """What came of one run that was killed: where, and in what it differs from the run that never was."""

    stage: str
    kills: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)


def write_inputs(runs: Path) -> None:
    """Text, conversations, prompts and pairs to learn from, and a suite to be measured on."""
    from tests.conftest import TEXTS

    def rows(name: str, made: list[dict]) -> None:
        (runs / name).write_text("".join(json.dumps(row) + "\n" for row in made))

    def user(text: str) -> list[dict]:
        return [{"role": "user", "content": text}]

    record = json.dumps({"kind": "tell", "expect": "answer", "must": [["baker"]], "words": [1, 40]})
    pairs = [
        {"prompt": user(f"write {i}"), "chosen": f"Yes, of course. {i}", "rejected": f"no {i % 7}"} for i in range(64)
    ]
    rows("text.jsonl", [{"text": f"{i} {TEXTS[i % 4]}"} for i in range(48)])
    rows("chats.jsonl", [{"prompt": user(f"write {i}"), "completion": TEXTS[i % 4][:20]} for i in range(40)])
    rows("prompts.jsonl", [{"prompt": user(f"write {i}"), "kind": "tell", "record": record} for i in range(12)])
    rows("pairs.jsonl", pairs[:56])
    rows("heldout.jsonl", pairs[56:])
    suite = {"likelihood": {"text": {"path": str(runs / "text.jsonl"), "limit": 8}}, "random_init": 0}
    (runs / "suite.yaml").write_text(json.dumps(suite))


def begin(stage: Stage, arguments: list[str], log: Path) -> int:
    """Begin a life of the stage in a fork; returns its process id. What it prints goes to the end of `log`."""
    from recipes.run.process import command_module

    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with open(log, "a", encoding="utf-8") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            print("$", " ".join(arguments), flush=True)
            try:
                command_module(f"recipes.{stage.name}").main(arguments)
                status = 0
            except BaseException:
                traceback.print_exc()
    finally:
        os._exit(status)


def has_ended(pid: int) -> bool:
    """Has it ended by itself? Raises RuntimeError if it failed."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended and status:
        raise RuntimeError(f"a life ended with status {status}")
    return bool(ended)


def phase(folder: Path) -> str:
    """What a run does, by what lies in its folder."""
    made, states = folder / ".unfinished", folder / "checkpoints"
    if (made / "manifest.json").is_file() or (folder / ".replaced.json").is_file():
        return "taking its place"
    if (made / ".checkpoint.partial").is_dir():
        return "final save"
    if (made / "model.safetensors").is_file():
        return "evaluation"
    folders = [*states.glob("checkpoint-*"), *states.glob(".checkpoint-*.partial")]
    return "checkpoint" if any(not (path / "sealed.json").is_file() for path in folders) else "start and steps"


def kill_somewhere(pid: int, folder: Path, wanted: str, life_s: float, dice: random.Random) -> str | None:
    """Kill the life in the wanted phase; returns the phase that it was in, or None if it had ended before."""
    began_s, wait_s = time.monotonic(), dice.uniform(0, 1) * life_s
    while not has_ended(pid):
        is_there = time.monotonic() - began_s > wait_s if wanted == PHASES[0] else phase(folder) == wanted
        if is_there:
            time.sleep(0 if wanted == PHASES[0] else dice.uniform(0, 0.03))
            found = phase(folder)
            if has_ended(pid):
                return None
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return found
        time.sleep(0.002)
    return None


def ending(folder: Path) -> dict[str, Any]:
    """All that a run ended with, without times: {"weights": ..., "steps": ..., "tokens": ..., "files": ..., "log": ...}."""
    told = (folder / "manifest.json").read_text().replace(str(folder), "RUN")
    manifest = timeless(json.loads(told))
    files = manifest.pop("files")
    log = folder / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    return {
        "weights": {name: digest for name, digest in files.items() if name.endswith(".safetensors")},
        "steps": manifest["steps"],
        "tokens": manifest["tokens"],
        "record": manifest,
        "files": {name: digest for name, digest in files.items() if name not in ("eval.json", "adapter/README.md")},
        "log": timeless(lines),
    }


def timeless(value: Any) -> Any:
    """Without the entries that tell a time, memory or where it was resumed; tables of the report are text of those entries."""
    if isinstance(value, dict):
        return {
            k: timeless(v) for k, v in value.items() if not (k.endswith(TIMES[0]) or any(t in k for t in TIMES[1:]))
        }
    return [timeless(item) for item in value] if isinstance(value, list) else value


def try_stage(stage: Stage, runs: Path, kills: int, dice: random.Random) -> Iterator[Tried]:
    """Runs of the stage, killed up to five times each, until there were so many kills."""
    whole, folder, log = runs / stage.name, runs / f"{stage.name}-killed", runs / f"{stage.name}.txt"
    began_s = time.monotonic()
    pid = begin(stage, stage.arguments(runs, whole), log)
    os.waitpid(pid, 0)
    life_s, expected = time.monotonic() - began_s, ending(whole)
    while kills > 0:
        tried, flags = Tried(stage.name), []
        shutil.rmtree(folder, ignore_errors=True)
        while True:
            pid = begin(stage, [*stage.arguments(runs, folder), *flags], log)
            wanted = dice.choice((*PHASES[:1] * 3, *PHASES[1:]))
            found = kill_somewhere(pid, folder, wanted, life_s, dice) if len(tried.kills) < min(5, kills) else None
            if found is None:
                while not has_ended_or_gone(pid):
                    time.sleep(0.005)
                break
            tried.kills.append(found)
            flags = ["--resume"]
            if (folder / ".unfinished" / "manifest.json").is_file():  # the next command only puts it in its place
                from recipes.run.folder import take_place

                take_place(folder)
            if (folder / "manifest.json").is_file():
                break
        ended = ending(folder)
        tried.differing = [what for what in expected if ended[what] != expected[what]]
        kills -= len(tried.kills)
        if tried.kills:
            yield tried


def has_ended_or_gone(pid: int) -> bool:
    """As `has_ended`, also true of a process that was waited for already."""
    try:
        return has_ended(pid)
    except ChildProcessError:
        return True


def table(tried: list[Tried], seconds: float, seed: int) -> str:
    """Markdown: a row a stage, kills by what they interrupted, and how many ended as the run that was never killed."""
    asked = ("weights", "steps", "tokens", "record", "files", "log")
    lines = [
        "| stage | kills | " + " | ".join(f"in {name}" for name in PHASES) + " | same " + " | same ".join(asked) + " |",
        "| --- " * (2 + len(PHASES) + len(asked)) + "|",
    ]
    for name in [*dict.fromkeys(one.stage for one in tried), "all"]:
        mine = [one for one in tried if name in (one.stage, "all")]
        count = sum(len(one.kills) for one in mine)
        where = Counter(place for one in mine for place in one.kills)
        same = [sum(len(one.kills) for one in mine if what not in one.differing) for what in asked]
        cells = [name, str(count), *(str(where[p]) for p in PHASES), *(f"{number} of {count}" for number in same)]
        lines.append("| " + " | ".join(cells) + " |")
    about = f"{len(tried)} runs, seed {seed}, {seconds / 60:.1f} minutes on one core of {platform.processor() or platform.machine()}"
    return "\n".join([*lines, "", about]) + "\n"


ABOUT = """# Killed at random moments

`make chaos` kills every stage of a small chain with signal 9, goes on with `--resume`, and compares what it ends with to a run
that was never killed: weights and all other files by their sha256, steps, tokens, the record and the log line by line, without what
is a time or memory. A kill counts as the same where the run that it fell into ended the same.

"""


def main(argv: list[str] | None = None) -> int:
    """Kill, compare, print the table; returns 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of all stages together")
    parser.add_argument("--seed", type=int, default=1)
    names = [stage.name for stage in STAGES]
    parser.add_argument("--stages", nargs="+", choices=names, default=names)
    parser.add_argument("--out", type=Path, help="page that the table is written to")
    parser.add_argument("--folder", type=Path, help="where the runs go; none: a temporary folder")
    options = parser.parse_args(argv)
    import accelerate  # noqa: F401 - once, for every life
    import torch

    torch.set_num_threads(1)
    began_s, dice, tried = time.monotonic(), random.Random(options.seed), []
    runs = options.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    runs.mkdir(exist_ok=True, parents=True)
    write_inputs(runs)
    chosen = [stage for stage in STAGES if stage.name in options.stages]
    total = sum(stage.share for stage in chosen)
    needed = list(chosen)
    for stage in reversed(STAGES):
        needed += [one for one in STAGES if stage in needed and one.name in stage.parents()]
    for stage in (stage for stage in STAGES if stage in needed):
        kills = round(options.kills * stage.share / total) if stage in chosen else 0
        for one in try_stage(stage, runs, kills, dice):
            tried.append(one)
            said = f"differs in {', '.join(one.differing)}" if one.differing else "ended the same"
            print(f"{one.stage}: killed in {', '.join(one.kills)}: {said}", file=sys.stderr, flush=True)
    page = table(tried, time.monotonic() - began_s, options.seed)
    print(page)
    if options.out:
        options.out.write_text(ABOUT + page, encoding="utf-8")
    return int(any(one.differing for one in tried))


if __name__ == "__main__":
    sys.exit(main())
