"""The shipped `tiny` pipeline with every stage shrunk to seconds, in a folder of its own: the same recipes, configs and graph."""

from pathlib import Path

import yaml

from recipes.fingerprint import ROOT

TINY = ROOT / "recipes" / "configs" / "tiny"
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


def write(folder: Path, stages: list[str] | None = None, **changes: dict) -> Path:
    """Write the configs below `folder` and return the pipeline's path. stages: the ones to keep; changes: settings of a stage on top."""
    runs = folder / "runs"
    configs = folder / "configs"
    configs.mkdir(parents=True)
    for file in TINY.glob("*.yaml"):
        text = (
            file.read_text(encoding="utf-8")
            .replace("runs/tiny", str(runs))
            .replace("recipes/configs/tiny", str(configs))
        )
        (configs / file.name).write_text(text, encoding="utf-8")
    suite = yaml.safe_load((configs / "evaluation.yaml").read_text(encoding="utf-8"))
    for made in suite["generation"].values():
        made["max_new_tokens"] = 16
    suite["benchmarks"] = [{"task": task, "limit": 12} for task in suite["benchmarks"]]
    suite["kl"] |= {"limit": 8, "max_new_tokens": 16}
    (configs / "evaluation.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
    pipeline = yaml.safe_load((configs / "pipeline.yaml").read_text(encoding="utf-8"))
    if stages is not None:
        pipeline["stages"] = {name: pipeline["stages"][name] for name in stages}
    for name, entry in pipeline["stages"].items():
        entry["set"] = {**entry.get("set", {}), **SHRUNK.get(name, {}), **changes.get(name, {})}
    (configs / "pipeline.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
    return configs / "pipeline.yaml"
