"""Evaluation: likelihood requests per second, lm-eval's task layer included, against lm-eval's own HFLM on the same model and tasks.

    python -m recipes.bench evaluation [--preset llama-2m] [--items 240] [--rounds 3]
    python -m recipes.bench evaluation --model runs/tiny/base [--suite recipes/configs/tiny/evaluation.yaml] [--reference FOLDER]

The first compares on the embedded world's tasks: expect twice HFLM's rate or more on a CPU, more where choices share long contexts.
Both read the task files, build the requests, score them and compute the metrics; HFLM has its best batch of 32, 64 or 128 rows, and is
spared what lm-eval notes of the machine afterwards (it asks pip for a list of packages, which takes seconds).
The second says how long a suite takes on a checkpoint, set by set, and the smallest differences that it can find.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from recipes.bench.timing import alternate, machine


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="recipes.bench evaluation", description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="llama-2m", help="a size in base_model/gpt.py")
    parser.add_argument("--items", type=int, default=240, help="documents a task")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", help="a checkpoint, to time a whole suite on")
    parser.add_argument("--suite", default="recipes/configs/tiny/evaluation.yaml")
    parser.add_argument("--reference", help="a checkpoint to which KL is measured too, as after PPO and DPO")
    options = parser.parse_args(argv)
    print(machine())
    if options.model:
        time_suite(options.model, options.suite, options.reference)
    else:
        with tempfile.TemporaryDirectory() as folder:
            against_hflm(Path(folder), options)


def against_hflm(folder: Path, options: argparse.Namespace) -> None:
    """Requests per second of both, task by task."""
    import logging

    import torch
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from base_model.gpt import GPT, preset
    from base_model.hf import to_hf
    from base_model.tokenizer import train_tokenizer
    from eval import benchmarks
    from eval.scorer import Scorer
    from eval.suite import Benchmark
    from eval.tasks import load_tasks
    from recipes.tinytown.benchmarks import TASKS, make_task, task_yaml

    logging.disable(logging.WARNING)
    evaluator.add_env_info = lambda results: None
    texts = []
    for task in TASKS:
        rows = make_task(task, 1, options.items)
        texts += [row["context"] + choice for row in rows for choice in row["choices"]]
        (folder / f"{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        file = str(folder / f"{task}.jsonl")  # lm-eval looks for a relative one from where it is run
        (folder / f"{task}.yaml").write_text(task_yaml(task).replace(f"{task}.jsonl", file))
    torch.manual_seed(0)
    config = preset(options.preset)
    tokenizer = train_tokenizer(texts, config.vocab_size)
    model = to_hf(GPT(config)).eval()

    def ours(task):
        ((benchmark, loaded),) = load_tasks([Benchmark(task)], [str(folder)])
        return benchmarks.measure(
            benchmarks.BatchedLM(Scorer(model), tokenizer), benchmark, loaded, seed=1, control=False
        )[0]

    def theirs(task, batch_size):
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device="cpu")
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        return evaluator.simple_evaluate(model=lm, tasks=[task], task_manager=manager, bootstrap_iters=0)["samples"][
            task
        ]

    print(
        f"{options.preset}, {options.items} documents a task\n{'task':18} {'requests':>8} {'ours/s':>8} {'HFLM/s':>8} {'ratio':>6}"
    )
    total = {"requests": 0, "ours": 0.0, "theirs": 0.0}
    for task in TASKS:
        sizes = {size: _seconds(lambda size=size, task=task: theirs(task, size)) for size in (32, 64, 128)}
        best = min(sizes, key=sizes.get)
        timings = alternate(
            {"ours": lambda t=task: ours(t), "theirs": lambda t=task, b=best: theirs(t, b)}, options.rounds
        )
        right = [item["scores"]["acc"] for item in ours(task)]
        assert right == [sample["acc"] for sample in sorted(theirs(task, best), key=lambda s: s["doc_id"])], task
        requests = sum(len(row["choices"]) for row in map(json.loads, (folder / f"{task}.jsonl").open()))
        seconds = {name: timings.median_s(name) for name in ("ours", "theirs")}
        _print_row(task, requests, seconds["ours"], seconds["theirs"], timings.ratio("theirs", "ours"))
        total = {"requests": total["requests"] + requests, **{name: total[name] + seconds[name] for name in seconds}}
    _print_row("all", total["requests"], total["ours"], total["theirs"], total["theirs"] / total["ours"])


def time_suite(checkpoint: str, suite_path: str, reference: str | None = None) -> None:
    """Seconds of each set, and what the suite can detect."""
    from eval.harness import evaluate
    from eval.suite import Suite
    from recipes.judges.registry import resolve

    suite = Suite.load(suite_path)
    judges = resolve(suite.judges)
    with tempfile.TemporaryDirectory() as folder:
        for what in ("first (with random weights)", "second"):
            began_s = time.perf_counter()
            out = Path(folder) / "run"
            result = evaluate(checkpoint, suite, judges=judges, reference=reference, out=out, progress=False)
            print(f"{what} evaluation: {time.perf_counter() - began_s:.1f} s")
    for name, seconds in result.cost["sets_s"].items():
        print(f"  {name:20} {len(result.items_of_set[name]):5} items {seconds:6.2f} s")
    print("smallest difference found with 80 % power at p < 0.05, unpaired (pairing makes it smaller):")
    for metric in result.metrics:
        if metric["is_headline"] and metric["smallest_detectable"] is not None:
            print(f"  {metric['set'] + '/' + metric['name']:36} {metric['smallest_detectable']:.3f}")


def _seconds(function) -> float:
    began_s = time.perf_counter()
    function()
    return time.perf_counter() - began_s


def _print_row(task: str, requests: int, ours_s: float, theirs_s: float, ratio: float) -> None:
    print(f"{task:18} {requests:8} {requests / ours_s:8.0f} {requests / theirs_s:8.0f} {ratio:6.2f}", flush=True)
