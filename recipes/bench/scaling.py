"""Scaling: seconds and peak memory of every stage as its data grows. Is time linear, is memory flat?

    python -m recipes.bench scaling [--sizes 1 4 16] [--runs 3] [--stages cleaning pretrain] [--share 1.0] [--out recipes/results]

Each stage runs on 1, 4 and 16 times the data, each time in a process of its own, so that its peak memory is its own (a worker process that
needs more than its parent counts instead). The training stages do as many times the steps. Sizes take turns and medians of the runs count:
two threads fill the heap in another order each time, and one peak is another by a twentieth. Writes scaling.md and scaling.svg; expect
half an hour on 2 cores and exponents within 0.1 of 1. --share 0.1: all sizes a tenth of that.

A batch takes the memory of its longest row, and more data has longer ones; so every size has the longest few rows of the largest, and what
grows is due to their number alone. What a training stage's peak still grows by is the heap between tensors of other sizes.

The exponent. A stage takes t(n) = start-up + b n^e. Differences between sizes know nothing of the start-up, and where each size is r times
the one before, t(r n) - t(n) = b (r^e - 1) n^e: e is the slope of their logarithms over log n. One that is 1.0 +- 0.1 is called linear.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from base_model.checkpoints import read_json_lines
from recipes.run.cli import load_yaml

ROOT = Path(__file__).parents[2]
TINY = ROOT / "recipes" / "configs" / "tiny"
UNIT = {  # what size 1 has of everything
    "documents": 1500,
    "instructions": 500,  # so many that the LONGEST, each in a batch that it makes slow, weigh little in the time
    "prompts": 250,
    "heldout_documents": 60,
    "heldout_instructions": 60,
    "heldout_prompts": 60,
}
EPOCHS_READ = 100  # of the shards: one is over in a moment
ROWS, CONTEXT = 32, 256
LONGEST = 4  # rows that every size has the same
LINEAR = 0.1  # how far from 1 an exponent may be
FLAT = 1.1  # how many times the first size's peak the last one's may be


@dataclass(frozen=True)
class Stage:
    """A recipe, what of its data grows, and settings(data, parents, size), where `size` is in UNITs."""

    grows: str
    module: str
    settings: Callable[[Path, Path, float], dict[str, Any]]
    starts_from_models: bool = True


@dataclass(frozen=True)
class Measured:
    seconds: float
    peak_mib: float


def median(runs: Sequence[Measured]) -> Measured:
    """The median of the seconds and that of the peaks."""
    return Measured(*(statistics.median(getattr(run, field) for run in runs) for field in ("seconds", "peak_mib")))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="recipes.bench scaling", description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 16], help="each the same times the one before")
    parser.add_argument("--runs", type=int, default=3, help="of each stage and size; medians count")
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES), metavar="STAGE")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual data, for a shorter run")
    parser.add_argument("--out", type=Path, default=ROOT / "recipes" / "results")
    options = parser.parse_args(argv)
    check_sizes(options.sizes)
    found: dict[str, dict[int, Measured]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        call_apart("prepare", str(folder), options.sizes, options.share, options.stages)
        for stage in options.stages:
            runs: dict[int, list[Measured]] = {size: [] for size in options.sizes}
            for run in range(options.runs):
                for size, measured in runs.items():
                    measured.append(Measured(**call_apart("measure", stage, str(folder), size, options.share, run)))
                    print(f"{stage} x{size}: {measured[-1].seconds:.1f} s, {measured[-1].peak_mib:.0f} MiB", flush=True)
            found[stage] = {size: median(measured) for size, measured in runs.items()}
    text = table(found, options.runs, call_apart("machine_line"))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "scaling.md").write_text(text, encoding="utf-8")
    (options.out / "scaling.svg").write_text(figure_svg(found), encoding="utf-8")
    print(text)


def check_sizes(sizes: Sequence[int]) -> None:
    """Raise ValueError unless there are three sizes or more, each the same times the one before."""
    ratios = {later / earlier for earlier, later in pairwise(sizes)}
    if len(sizes) < 3 or len(ratios) != 1 or min(ratios) <= 1:
        raise ValueError(f"sizes are {list(sizes)}; give three or more, each the same times the one before: 1 4 16")


# ---- the stages


def _tiny(name: str, **changes: Any) -> dict[str, Any]:
    """The shipped settings of a stage, without evaluation and without checkpoints in between; `changes` on top."""
    settings = load_yaml(TINY / f"{name}.yaml")
    dropped = ("evaluation", "heldout", "policy", "policy_prompts", "gold", "preferences_config", "save_steps", "truth")
    return {key: value for key, value in settings.items() if key not in dropped} | changes


def _clean(data: Path, parents: Path, size: float) -> dict[str, Any]:
    settings = _tiny("clean", heldout=[f"{parents}/data/*_heldout.jsonl"])
    settings["sources"]["general"] = f"{data}/general.jsonl"
    settings["sources"]["domain"]["path"] = f"{data}/domain.jsonl"
    return settings


def _tokenize(data: Path, parents: Path, size: float) -> dict[str, Any]:
    texts = {
        "data": f"{data}/general.jsonl",
        "validation_data": None,
        "lead_in_data": None,
        "conversations": None,
        "tokenizer_data": [],
    }
    return {key: value for key, value in (_tiny("tokenizer") | texts).items() if value and "shards" not in key}


def _loading(data: Path, parents: Path, size: float) -> dict[str, Any]:
    return {"shards": f"{data}/shards"}


def _pretrain(data: Path, parents: Path, size: float) -> dict[str, Any]:
    own = {"tokenizer": f"{parents}/tokenizer", "shards": f"{data}/shards", "steps": max(1, round(12 * size))}
    return _tiny(
        "pretrain",
        **own,
        lead_in_steps=0,
        lead_in_share=0.0,
        conversation_steps=0,
        warmup_steps=0,
        eval_every=0,
        save_every=0,
        sample_every=0,
    )


def _domain_sft(data: Path, parents: Path, size: float) -> dict[str, Any]:
    texts = {"data": f"{data}/domain.jsonl", "replay_data": f"{data}/general.jsonl"}
    return _tiny("domain_sft", model=f"{parents}/base", **texts)


def _lora_sft(data: Path, parents: Path, size: float) -> dict[str, Any]:
    return _tiny("lora_sft", model=f"{parents}/base", data=f"{data}/instructions.jsonl", heldout_rows=16)


def _reward_model(data: Path, parents: Path, size: float) -> dict[str, Any]:
    return _tiny("reward_model", model=f"{parents}/base", data=f"{data}/pairs.jsonl", num_train_epochs=1)


def _ppo(data: Path, parents: Path, size: float) -> dict[str, Any]:
    models = {"model": f"{parents}/base", "reward_model": f"{parents}/reward_model", "data": f"{data}/prompts.jsonl"}
    short = {"max_steps": max(1, round(size)), "critic_warmup_steps": 0, "judges": []}
    return _tiny("ppo", **models, **short, eval_strategy="no", save_strategy="no")


def _dpo(data: Path, parents: Path, size: float) -> dict[str, Any]:
    return _tiny("dpo", model=f"{parents}/base", data=f"{data}/pairs.jsonl")


def _evaluation(data: Path, parents: Path, size: float) -> dict[str, Any]:
    """The tiny suite's kinds of sets on as much as there is, without the row of random weights, which does not grow."""
    judged = {"max_new_tokens": 72, "judges": ["tinytown_gold"]}
    return {
        "model": f"{parents}/base",
        "likelihood": {"general_heldout": f"{data}/general_heldout.jsonl"},
        "generation": {
            "sampled": {"path": f"{data}/prompts_heldout.jsonl", "temperature": 1.0, "metrics": [], **judged},
            "instructions": {"path": f"{data}/instructions_heldout.jsonl", **judged},
        },
        "benchmarks": ["tinytown_qa"],
        "include_path": [f"{data}/benchmarks"],
        "random_init": 0,
    }


STAGES: dict[str, Stage] = {
    "cleaning": Stage("documents", "recipes.clean", _clean, False),
    "tokenising": Stage("documents", "recipes.tokenizer", _tokenize, False),
    "loading": Stage("tokens read", "recipes.bench.scaling", _loading, False),
    "pretrain": Stage("steps, tokens", "recipes.pretrain", _pretrain, False),
    "domain_sft": Stage("documents", "recipes.domain_sft", _domain_sft),
    "lora_sft": Stage("conversations", "recipes.lora_sft", _lora_sft),
    "reward_model": Stage("pairs", "recipes.reward_model", _reward_model),
    "ppo": Stage("prompts, updates", "recipes.ppo", _ppo),
    "dpo": Stage("pairs", "recipes.dpo", _dpo),
    "evaluation": Stage("items", "recipes.evaluation", _evaluation),
}


# ---- in processes of their own


def call_apart(function: str, *arguments: Any) -> Any:
    """What a function of this module returns, called in a fresh process from the project's root. Raises RuntimeError with its output.

    This process imports nothing large: a child's peak, as the kernel counts it, is never below its parent's size when it was started."""
    code = (
        "import contextlib, json, sys\nfrom recipes.bench import scaling\n"
        f"with contextlib.redirect_stdout(sys.stderr): result = scaling.{function}(*json.loads(sys.argv[1]))\n"
        "print(json.dumps(result))"
    )
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{function}{arguments} ended with status {done.returncode}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(stage: str, folder: str, size: int, share: float, run_number: int) -> dict[str, float]:
    """Run a stage on data of `size`; its seconds, imports of the large packages not counted, and its peak memory."""
    from recipes.run.process import PRELOADED

    data, parents, out = (Path(folder, name) for name in (f"x{size}", "parents", f"{stage}-x{size}-{run_number}"))
    settings = STAGES[stage].settings(data, parents, size * share)
    out.mkdir()
    if stage == "loading":
        importlib.import_module("base_model.shards")
        run = partial(read_shards, **settings)
    else:
        for name in PRELOADED:
            importlib.import_module(name)
        where = {"output" if stage == "evaluation" else "output_dir": str(out / "run")}
        run = recipe(STAGES[stage].module, settings | where, out / "config.yaml")
    began_s = time.perf_counter()
    run()
    elapsed_s = time.perf_counter() - began_s
    unit = 2**20 if platform.system() == "Darwin" else 2**10  # getrusage counts bytes on macOS and KiB on Linux
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return asdict(Measured(elapsed_s, max(peaks) / unit))


def recipe(module: str, settings: Mapping[str, Any], config: Path) -> Callable[[], Any]:
    """A call of `module.main` with these settings, written to the file `config`."""
    config.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    return partial(importlib.import_module(module).main, ["--config", str(config)])


def read_shards(shards: str) -> None:
    """Every batch of EPOCHS_READ epochs."""
    from base_model.shards import ShardLoader

    loader = ShardLoader(shards, CONTEXT, ROWS)
    for step in range(EPOCHS_READ * int(loader.steps_per_epoch)):
        loader.batch(step)


def prepare(folder: str, sizes: Sequence[int], share: float, stages: Sequence[str]) -> None:
    """Below `folder`: the data of each size in x1, x4, ..., and in `parents` what the stages start from, models hardly trained."""
    from transformers import AutoTokenizer

    from base_model.documents import Source, read_texts
    from base_model.shards import write_shards

    parents = Path(folder, "parents")
    parents.mkdir()
    for size in sizes:
        write_data(Path(folder, f"x{size}"), size * share)
    data = Path(folder, f"x{sizes[0]}")
    (parents / "data").symlink_to(data, target_is_directory=True)

    def make(name: str, stage: str, settings: Mapping[str, Any]) -> None:
        place = {"output_dir": str(parents / name)}
        recipe(STAGES[stage].module, {**settings, **place}, parents / f"{name}.yaml")()

    make("tokenizer", "tokenising", _tokenize(data, parents, 1))
    tokenizer = AutoTokenizer.from_pretrained(parents / "tokenizer", trust_remote_code=False)
    for size in sizes[:-1]:
        share_longest(tokenizer, Path(folder, f"x{sizes[-1]}"), Path(folder, f"x{size}"))
    for size in sizes:
        texts = read_texts(Source(f"{folder}/x{size}/general.jsonl"))
        write_shards(texts, tokenizer, f"{folder}/x{size}/shards")
    if not any(STAGES[stage].starts_from_models for stage in stages):
        return
    make("base", "pretrain", _pretrain(data, parents, 1) | {"steps": 1})
    make("reward_model", "reward_model", _reward_model(data, parents, 1))


def write_data(folder: Path, size: float) -> None:
    """The embedded world with `size` times UNIT of everything; a benchmark; as pairs, first answers against those to the next prompt."""
    from recipes.tinytown.benchmarks import make_task
    from recipes.tinytown.writing import WorldConfig, write_world

    counts = {name: max(60, round(count * size)) for name, count in UNIT.items()}
    write_world(folder, WorldConfig(**counts, rhymes=1), seed=1)
    talks = [row["messages"] for row in read_json_lines(folder / "instructions.jsonl")]
    pairs = [
        {"prompt": [question], "chosen": answer["content"], "rejected": other["content"]}
        for (question, answer, *_), (_, other, *_) in zip(talks, talks[1:] + talks[:1], strict=True)
    ]
    items = make_task("tinytown_qa", 1, 4 * max(2, round(UNIT["heldout_prompts"] * size / 4)))
    for name, rows in (("pairs", pairs), ("benchmarks/tinytown_qa", items)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def share_longest(tokenizer: Any, largest: Path, folder: Path) -> None:
    """In every file of `folder` the last rows give way to the LONGEST rows with most tokens of that file in `largest`."""
    from base_model.tokenizer import encode_texts

    def longer_row(line: str) -> str:  # each answer of a pair is a row of its own
        row = json.loads(line)
        if "rejected" in row:
            del row[min("chosen", "rejected", key=lambda side: len(row[side]))]
        return json.dumps(row, ensure_ascii=False)

    for path in folder.rglob("*.jsonl"):
        with open(largest / path.relative_to(folder), encoding="utf-8") as file:
            lines = list(file)
        tokens = [len(ids) for ids in encode_texts(tokenizer, [longer_row(line) for line in lines])]
        longest = [lines[i] for i in sorted(range(len(lines)), key=tokens.__getitem__)[-LONGEST:]]
        with open(path, encoding="utf-8") as file:
            others = list(file)
        path.write_text("".join([*others[: -len(longest)], *longest]), encoding="utf-8")


def machine_line() -> str:
    from recipes.bench.timing import machine

    return machine()


# ---- what it says


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """e of seconds = start-up + b size^e, by least squares on the logarithms of the increments; NaN where one is not positive."""
    increments = [later - earlier for earlier, later in pairwise(seconds)]
    if min(increments) <= 0:
        return math.nan
    x, y = [math.log(size) for size in sizes[:-1]], [math.log(increment) for increment in increments]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def start_up_s(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Seconds at no data, on the line through the first and the last size."""
    return seconds[0] - sizes[0] * (seconds[-1] - seconds[0]) / (sizes[-1] - sizes[0])


def table(found: Mapping[str, Mapping[int, Measured]], runs: int, machine: str) -> str:
    """The measurements and what follows from them, as Markdown."""
    sizes = list(next(iter(found.values())))
    names = [f"{size}x" for size in sizes]
    head = ["stage", "what grows", *(f"s, {name}" for name in names), "start-up, s", "exponent", "linear"]
    lines = [[*head, *(f"MiB, {name}" for name in names), "peak grows", "flat"]]
    for stage, measured in found.items():
        seconds, peaks = ([getattr(m, field) for m in measured.values()] for field in ("seconds", "peak_mib"))
        slope, growth = exponent(sizes, seconds), peaks[-1] / peaks[0]
        time_cells = [f"{s:.1f}" for s in (*seconds, start_up_s(sizes, seconds))]
        verdict = "yes" if abs(slope - 1) <= LINEAR else "no"
        memory_cells = [*(f"{peak:,.0f}" for peak in peaks), f"{growth:.2f}", "yes" if growth <= FLAT else "no"]
        lines.append([stage, STAGES[stage].grows, *time_cells, f"{slope:.2f}", verdict, *memory_cells])
    lines.insert(1, ["---"] * len(lines[0]))
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return (
        f"# Time and memory as the data grows\n\n    python -m recipes.bench scaling\n\n{body}\n\n"
        f"Each number is the median of {runs} runs, each in its own process; every size has the {LONGEST} longest rows of the largest. "
        "The exponent is that of time in size, after the start-up; "
        f"linear is 1.0 +- {LINEAR}. Flat: the peak at {names[-1]} is at most {FLAT} times that at {names[0]}. {machine}.\n\n"
        "![time and memory](scaling.svg)\n"
    )


def figure_svg(found: Mapping[str, Mapping[int, Measured]]) -> str:
    """Seconds without start-up, and peak memory, against size, a colour a stage, as SVG; same numbers, same bytes."""
    import io

    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "plumbline", "svg.fonttype": "none", "font.size": 9}):
        figure, (time_axes, memory_axes) = pyplot.subplots(1, 2, figsize=(9, 4), layout="constrained")
        for stage, measured in found.items():
            sizes, seconds = list(measured), [m.seconds for m in measured.values()]
            start_s = start_up_s(sizes, seconds)
            time_axes.loglog(sizes, [max(s - start_s, 1e-3) for s in seconds], "o-", markersize=4, linewidth=1)
            peaks = [m.peak_mib for m in measured.values()]
            memory_axes.semilogx(sizes, peaks, "o-", markersize=4, linewidth=1, label=stage)
        for axes in (time_axes, memory_axes):
            axes.set_xticks(sizes, [f"{size}x" for size in sizes])
            axes.minorticks_off()
            axes.set_xlabel("data")
        time_axes.set_ylabel("seconds after start-up")
        memory_axes.set_ylabel("peak memory, MiB")
        memory_axes.set_ylim(bottom=0)
        figure.legend(loc="outside right upper", fontsize=7, frameon=False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return out.getvalue()
