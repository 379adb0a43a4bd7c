"""Made-up run folders for tests of comparison and report: real files, no model."""

import json
from pathlib import Path

import numpy as np

from eval.checks import checks_of
from eval.results import Evaluation, Metric, item_hash, measured

SUITE = {"name": "made-up", "sha256": "0" * 64, "settings": {}}


def write_run(
    folder: Path,
    *,
    quality: float,
    parents: list[Path] = (),
    items: int = 60,
    seed: int = 1,
    outputs: list[str] | None = None,
    optimised: bool = False,
    stage: str | None = None,
    suite: str = "0" * 64,
    kinds: dict[str, float] | None = None,
    unspaced: bool = False,
    faults: dict[str, int] | None = None,
    task: str = "town_qa",
) -> Path:
    """A finished run whose judge scores average about `quality` (0 to 1), with bits per byte, an accuracy, a judge, ROUGE and a log.

    kinds: of prompt, in turn, each with what its judge's scores have on top of `quality`.
    task: name of the multiple-choice benchmark.
    faults: of answers, each with how many of the first ones have it; a judge gives each as 1 or 0, lower is better, and none for the last.
    unspaced: texts of one word of some 10,000 characters, and their word perplexity among the metrics.
    """
    rng = np.random.default_rng([seed, *folder.name.encode()])
    shared = np.random.default_rng(0).random(items)  # how hard each item is, the same for every model
    found, metrics = [], []
    for i in range(items):
        prompt = [{"role": "user", "content": f"Question {i} about the harbour"}]
        kind, extra = list(kinds.items())[i % len(kinds)] if kinds else ("", 0.0)
        score = float(np.clip(quality + extra + 0.3 * (shared[i] - 0.5) + 0.1 * rng.normal(), 0, 1))
        text = (
            outputs[i % len(outputs)]
            if outputs
            else f"{folder.name} answers {i}: the tide is {'high' if score > 0.5 else 'low'}."
        )
        scores = {
            "gold": score,
            "rougeL": score / 2,
            "stop_rate": 1.0,
            "empty_rate": 0.0,
            "response_tokens": int(8 + 10 * rng.random() + 10 * quality),
        }
        if optimised:
            scores["reward_model"] = 3 * score
        scores |= {fault: float(i < count) for fault, count in (faults or {}).items() if i < items - 1}
        found.append(
            {
                "set": "instructions",
                "kind": "generation",
                "item": item_hash(prompt),
                "prompt": prompt,
                "output": text,
                "reference": f"The tide is high at {i} o'clock.",
                "scores": scores,
                **({"label": kind} if kind else {}),
            }
        )
    for i in range(items):
        picked = 0 if shared[i] + 0.3 * rng.normal() < quality else 1
        right = [i % 2]
        picked = right[0] if picked == 0 else 1 - right[0]
        choices = ["the gull", "the cat"]
        found.append(
            {
                "set": task,
                "kind": "benchmark",
                "item": item_hash("q", i),
                "prompt": f"Who ate fish {i}?",
                "choices": choices,
                "picked": picked,
                "right": right,
                "output": choices[picked],
                "reference": choices[right[0]],
                "scores": {"acc": float(picked in right)},
            }
        )
    for i in range(items):
        size = (10_000 if unspaced else 200) + i
        found.append(
            {
                "set": "general",
                "kind": "likelihood",
                "item": item_hash("text", i),
                "prompt": f"Text {i} " * 20,
                "scores": {
                    "loglikelihood": -float(size * (1.4 - 0.4 * quality + 0.02 * rng.normal())),
                    "bytes": size,
                    "words": 1,
                },
            }
        )
    by_set = {name: [x for x in found if x["set"] == name] for name in ("general", "instructions", task)}
    metrics = [
        Metric(
            "general",
            "bits_per_byte",
            "bits_per_unit",
            ("loglikelihood", "bytes"),
            False,
            "bits/byte",
            is_headline=True,
        ),
        Metric("instructions", "gold", "mean", ("gold",), is_headline=True, signature="judge"),
        Metric("instructions", "rougeL", "mean", ("rougeL",), is_headline=True),
        Metric("instructions", "stop_rate", "proportion", ("stop_rate",), is_headline=True),
        Metric("instructions", "response_tokens", "mean", ("response_tokens",), None, "tokens"),
        Metric(task, "acc", "proportion", ("acc",), chance=0.5, is_headline=True),
    ]
    metrics += [Metric("instructions", fault, "mean", (fault,), False, signature="judge") for fault in faults or {}]
    if unspaced:
        fields = ("loglikelihood", "words")
        metrics.append(Metric("general", "word_perplexity", "perplexity", fields, False, is_headline=True))
    if optimised:
        metrics.append(
            Metric(
                "instructions",
                "reward_model",
                "mean",
                ("reward_model",),
                is_optimised=True,
                signature="judge, optimised",
            )
        )
    result = Evaluation(
        str(folder),
        SUITE | {"sha256": suite, "settings": {"benchmarks": [task]}},
        [measured(metric, by_set[metric.set]) for metric in metrics],
        cost={"wall_s": 7.5},
        environment={"python": "3.11", "device": "cpu"},
        weights_sha256=f"{folder.name:0<64}",
    )
    result.loaded_items = found
    result.checks = checks_of(result)
    result.save(folder)
    write_manifest(folder, parents=parents, seed=seed, stage=stage)
    steps = range(0, 101, 5)
    write_log(
        folder,
        [
            {
                "step": s,
                "elapsed_s": s / 2,
                "loss": 4 - s / 50,
                "kl": s / 20,
                "reward": s / 100,
                "response_length": 20 + s / 10,
            }
            for s in steps
        ],
    )
    return folder


def write_manifest(folder: Path, *, parents=(), seed: int = 1, stage: str | None = None, **more) -> None:
    """A manifest.json as a finished stage leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "stage": stage or folder.name,
        "config": {"learning_rate": 1e-3 + len(folder.name) / 1e4, "batch_size": 16, "kl_coef": 0.05, "beta": None},
        "seed": seed,
        "parents": [{"path": str(p), "stage": p.name, "sha256": f"{p.name:0<64}"} for p in parents],
        "data": [{"path": "data/prompts.jsonl", "sha256": "d" * 64}],
        "tokenizer_sha256": "7" * 64,
        "template_sha256": "8" * 64,
        "versions": {"torch": "2.13.0", "python": "3.11.9"},
        "git_commit": "c" * 40,
        "hardware": {"processor": "a CPU", "cores": 2},
        "steps": 100,
        "tokens": 123456,
        "trained_parameters": 2_000_000,
        "wall_s": 81.5,
        "evaluation_s": 8.0,
        "peak_memory_bytes": {"host": 2**30},
        "checks": [{"name": "loss falls", "passed": True, "detail": "4.0 to 2.0"}],
        "notes": {},
        **more,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def write_log(folder: Path, lines: list[dict]) -> None:
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
