"""The policy on held-out prompts: what it is trained on, what it is not (judges), KL, length, and samples to read.

The same prompts and the same random numbers every time, so that two evaluations of a run are paired and its samples can be
read side by side.
"""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from alignment.ppo.prompts import PromptSet, as_text
from alignment.ppo.rollout import measure_episodes, sample_responses
from alignment.ppo.scoring import call_judge, score_all
from base_model.checkpoints import write_text_atomically
from base_model.sequence import masked_sum


def evaluate_policy(trainer: Any, prompts: PromptSet, seed: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """(metrics named eval/..., one row a prompt in the data set's order, on every process)."""
    accelerator = trainer.accelerator
    share = math.ceil(len(prompts) / accelerator.num_processes)
    first = accelerator.process_index * share
    # Every process makes as many forward passes (FSDP waits for all): the last ones may repeat a prompt, and drop it.
    places = [min(place, len(prompts) - 1) for place in range(first, first + share)]
    rows = _evaluate_places(trainer, prompts, places, first, seed)[: max(0, len(prompts) - first)]
    if accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        rows = gather_object(rows)
    metrics = {
        "eval/score": statistics.fmean(row["score"] for row in rows),
        "eval/kl_nats": statistics.fmean(row["kl_nats"] for row in rows),
        "eval/length_tokens": statistics.fmean(row["tokens"] for row in rows),
        "eval/eos_rate": statistics.fmean(row["is_stopped"] for row in rows),
    }
    for judge in trainer.judges:
        metrics[f"eval/{judge.name}"] = statistics.fmean(row[judge.name] for row in rows)
    return metrics, rows


def _evaluate_places(
    trainer: Any, prompts: PromptSet, places: list[int], first: int, seed: int
) -> list[dict[str, Any]]:
    args, batch = trainer.args, prompts.batch(places)
    with trainer.full_weights():
        responses = sample_responses(
            trainer.policy, batch.ids, trainer.sampling, pad_id=trainer.pad_id,
            seed=seed, first_row=first, batch_size=args.generation_batch_size,
        )  # fmt: skip
    completions = trainer.processing_class.batch_decode(responses, skip_special_tokens=True)
    episodes = measure_episodes(
        trainer.wrapped, batch.ids, responses, stop_token_ids=trainer.stop_token_ids, pad_id=trainer.pad_id,
        batch_size=args.per_device_train_batch_size, context_tokens=trainer.context_tokens,
        device=trainer.accelerator.device, want_value=False,
    )  # fmt: skip
    kl_B = masked_sum(episodes.logprob_BR - episodes.reference_BR, episodes.is_response_BR, dim=1).tolist()
    weight_K = torch.tensor([reward.weight for reward in trainer.rewards])
    score_B = (score_all(trainer.rewards, batch.prompts, completions, batch.columns) @ weight_K).tolist()
    judged = {
        judge.name: call_judge(judge.name, judge.function, batch.prompts, completions, batch.columns)
        for judge in trainer.judges
    }
    return [
        {
            "prompt": as_text(batch.prompts[i]),
            "completion": completions[i],
            "score": score_B[i],
            **{name: values[i] for name, values in judged.items()},
            "kl_nats": kl_B[i],
            "tokens": len(responses[i]),
            "is_stopped": bool(episodes.is_stopped_B[i]),
        }
        for i in range(len(places))
    ]


def write_samples(folder: Path, step: int, rows: Sequence[dict[str, Any]]) -> None:
    """`samples/step-<step>.jsonl`: a resumed run writes the same file again."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": step, **row}, ensure_ascii=False) for row in rows]
    write_text_atomically(folder / f"step-{step:06d}.jsonl", "\n".join(lines) + "\n")
