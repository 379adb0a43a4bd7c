"""Instruction tuning: conversations to rows, and does the tuned model stop?

Only what the assistant says is learnt, its end token included (`sft/examples.py`). A model that does not stop is the classic failure: its
loss looks healthy and every answer runs on; so the share of answers that end by themselves is measured on held-out prompts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from base_model.documents import Source
from sft.examples import IGNORED, RowCounts, instruction_rows
from sft.packing import pack, write_dataset

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def instruction_data(
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    context_tokens: int,
    packing: bool = True,
    on_long_rows: str = "error",
    heldout_rows: int = 0,
    seed: int = 1,
) -> tuple[Dataset, Dataset, RowCounts]:
    """Rows to train on, `heldout_rows` conversations kept from them (drawn with `seed`, not packed), and the counts of all.

    Written below `folder`. Raises ValueError naming file and row, or if nothing is left to train on."""
    counts = RowCounts()
    dataset = write_dataset(
        lambda: instruction_rows(source, tokenizer, counts, context_tokens=context_tokens, on_long_rows=on_long_rows),
        folder / "rows.arrow",
    )
    if len(dataset) <= heldout_rows:
        raise ValueError(
            f"{source.path} has {len(dataset)} usable rows, and heldout_rows {heldout_rows} leaves none to train on"
        )
    shuffled = dataset.shuffle(seed=seed, keep_in_memory=True)  # indices only
    heldout, training = shuffled.select(range(heldout_rows)), shuffled.select(range(heldout_rows, len(dataset)))
    return (pack(training, context_tokens, folder / "packed.arrow") if packing else training), heldout, counts


def stop_rate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    heldout: Dataset,
    *,
    max_new_tokens: int = 128,
    seed: int = 1,
) -> float:
    """Share of answers, sampled at temperature 1 to the first turns of `heldout`, that end with <|eos|> within `max_new_tokens`."""
    from base_model.generate import SamplingConfig, generate

    prompts = [row["input_ids"][: first_answer(row["labels"])] for row in heldout]
    sampling = SamplingConfig(max_new_tokens=max_new_tokens, stop_token_ids=(tokenizer.eos_token_id,))
    generation = generate(model, prompts, sampling, pad_id=tokenizer.pad_token_id, seed=seed, batch_size=64)
    return generation.stopped_B.float().mean().item()


def first_answer(labels: list[int]) -> int:
    """Where the assistant first speaks."""
    return next(position for position, label in enumerate(labels) if label != IGNORED)
