"""A shipped pipeline with every stage shrunk to seconds, in a folder of its own: the same recipes, configs and graph."""

import glob
import gzip
import itertools
import shutil
from pathlib import Path

import yaml

from recipes.pipeline.fingerprint import ROOT

CONFIGS = ROOT / "recipes" / "configs"
TINY = CONFIGS / "tiny"
SHRUNK = {  # stage -> settings on top of the shipped ones
    "data": {
        "documents": 1500,
        "instructions": 240,
        "prompts": 80,
        "rhymes": 200,
        "heldout_documents": 20,
        "heldout_instructions": 16,
        "heldout_prompts": 12,
    },
    "tokenizer": {"vocab_size": 700},
    "base": {
        "preset": "llama-1m",
        "steps": 12,
        "lead_in_steps": 2,
        "conversation_steps": 3,
        "batch_size": 8,
        "compile": False,
        "eval_every": 0,
        "save_every": 6,
        "warmup_steps": 2,
        "trackers": "none",
    },
    "domain_sft": {"max_steps": 4, "save_steps": 2},
    "lora_sft": {"max_steps": 4, "save_steps": 2, "heldout_rows": 16, "stop_within_tokens": 16},
    "preferences": {"prompts": 24, "max_new_tokens": 16, "annotator_ties_below": 0.0},
    "reward_model": {
        "policy_prompts_at_most": 4,
        "policy_answers": 2,
        "max_new_tokens": 16,
        "per_device_train_batch_size": 8,
        "num_train_epochs": 0.5,
    },
    "ppo": {
        "max_steps": 2,
        "rollout_batch_size": 16,
        "max_completion_length": 16,
        "num_mini_batches": 2,
        "critic_warmup_steps": 1,
        "eval_steps": 2,
        "save_steps": 1,
    },
    "dpo": {"per_device_train_batch_size": 8, "num_train_epochs": 0.5},
}


LAPTOP_SHRUNK = {  # what differs on the laptop's data: conversations are longer, and there are few in so little of them
    "data": {"heldout_share": 0.15, "most_characters": 500, "most_prompt_characters": 200},
    "tokenizer": {"vocab_size": 1500},
    "base": {**SHRUNK["base"], "lead_in_steps": 0, "conversation_steps": 0},
    "gold_model": {"per_device_train_batch_size": 8, "num_train_epochs": 0.5},
}


def write(folder: Path, stages: list[str] | None = None, *, name: str = "tiny", **changes: dict) -> Path:
    """Write the configs of the pipeline `name` below `folder` and return its path. stages: the ones to keep; changes: settings of a
    stage on top."""
    runs, configs = folder / "runs", folder / "configs"
    shutil.copytree(CONFIGS / name, configs)
    for file in configs.rglob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        text = text.replace(f"runs/{name}", str(runs)).replace(f"recipes/configs/{name}", str(configs))
        file.write_text(text, encoding="utf-8")
    shrink_suite(configs / "evaluation.yaml")
    pipeline = yaml.safe_load((configs / "pipeline.yaml").read_text(encoding="utf-8"))
    if stages is not None:
        pipeline["stages"] = {name: pipeline["stages"][name] for name in stages}
    shrunk = SHRUNK if name == "tiny" else {**SHRUNK, **LAPTOP_SHRUNK}
    for stage, entry in pipeline["stages"].items():
        entry["set"] = {**entry.get("set", {}), **shrunk.get(stage, {}), **changes.get(stage, {})}
    (configs / "pipeline.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
    return configs / "pipeline.yaml"


def shrink_suite(path: Path) -> None:
    """A dozen items a set, short answers."""
    suite = yaml.safe_load(path.read_text(encoding="utf-8"))
    for made in suite["generation"].values():
        made["max_new_tokens"] = 16
    suite["benchmarks"] = [
        {**({"task": entry} if isinstance(entry, str) else entry), "limit": 12} for entry in suite["benchmarks"]
    ]
    suite["kl"] |= {"limit": 8, "max_new_tokens": 16}
    path.write_text(yaml.safe_dump(suite, sort_keys=False), encoding="utf-8")  # the first judge is the verdict's


def shorten_sources(data: dict, folder: Path) -> dict:
    """The settings of recipes.data.real_data on the first rows of each source's first file, written to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    short = {kind: {**data[kind]} for kind in ("general", "domain", "instructions", "preferences")}
    for kind, sources in short.items():
        for name, entry in sources.items():
            keys = [key for key in ("path", "heldout") if key in entry]
            heads = {key: _head(entry[key], folder / f"{kind}.{name}.{key}", kind) for key in keys}
            sources[name] = {**entry, **heads}
    return short


def _head(path: str, target: Path, kind: str) -> str:
    file = sorted(glob.glob(path))[0]
    suffix = file.removesuffix(".gz").rsplit(".", 1)[1]
    rows = 4000 if suffix == "txt" else 12 if kind == "general" else 400  # of text: lines of stories, books
    target = target.with_name(f"{target.name}.{suffix}")
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        target.write_text("".join(itertools.islice(stream, rows)), encoding="utf-8")
    return str(target)
