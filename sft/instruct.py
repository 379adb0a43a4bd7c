"""Instruction tuning: conversations to rows, and does the tuned model stop?

Only what the assistant says is learnt, its end token included (`sft/examples.py`). A model that does not stop is the classic failure: its
loss looks healthy and every answer runs on; so the share of answers that end by themselves is measured on held-out prompts.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from base_model.documents import Source
from sft.arrow import write_dataset
from sft.examples import IGNORED, RowCounts, instruction_rows
from sft.packing import pack

DEFAULT_HELDOUT = 64  # conversations

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
    heldout_rows: int | None = 0,
    seed: int = 1,
) -> tuple[Dataset, Dataset, RowCounts]:
    """Rows to train on, `heldout_rows` conversations kept from them (drawn with `seed`, not packed; None: DEFAULT_HELDOUT, but
    at most a tenth), and the counts of all.

    Written below `folder`. Raises ValueError naming file and row, or if nothing is left to train on."""
    counts = RowCounts()
    dataset = write_dataset(
        lambda: instruction_rows(source, tokenizer, counts, context_tokens=context_tokens, on_long_rows=on_long_rows),
        folder / "rows.arrow",
    )
    if heldout_rows is None:
        heldout_rows = min(DEFAULT_HELDOUT, len(dataset) // 10)
    if len(dataset) <= heldout_rows:
        raise ValueError(
            f"{source.path} has {len(dataset)} usable rows, and heldout_rows {heldout_rows} leaves none to train on"
        )
    shuffled = dataset.shuffle(seed=seed, keep_in_memory=True)  # indices only
    heldout, training = shuffled.select(range(heldout_rows)), shuffled.select(range(heldout_rows, len(dataset)))
    return (pack(training, folder / "packed.arrow") if packing else training), heldout, counts


def heldout_loss(model: PreTrainedModel, heldout: Dataset) -> float:
    """Mean of -log p over the learnt tokens of all `heldout` rows, in nats."""
    from eval.scorer import Scorer

    answers = []  # (what stands before, what is learnt) of every turn of the assistant
    for row in heldout:
        ids, end = row["input_ids"], 0
        for is_learnt, labels in itertools.groupby(row["labels"], key=lambda label: label != IGNORED):
            start, end = end, end + len(list(labels))
            if is_learnt and end > max(start, 1):  # nothing stands before a row's first token
                answers.append((ids[: max(start, 1)], ids[max(start, 1) : end]))
    scores = Scorer(model).score(answers)
    return -sum(score.logprob for score in scores) / sum(len(learnt) for _, learnt in answers)


@dataclass(frozen=True)
class StopRate:
    """How many of the sampled answers ended by themselves."""

    stopped: int
    sampled: int
    within_tokens: int

    @property
    def rate(self) -> float:
        """0 where nothing could be sampled: what was not measured has not been shown to stop."""
        return self.stopped / self.sampled if self.sampled else 0.0


def stop_rate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    heldout: Dataset,
    *,
    max_new_tokens: int = 128,
    seed: int = 1,
) -> StopRate:
    """Answers sampled at temperature 1, and those of them that end by themselves within `max_new_tokens` (at most half the context).

    The prompts are the first turns of `heldout` conversations, those that leave room for such an answer."""
    from base_model.generate import SamplingConfig, generate
    from base_model.loading import context_length
    from base_model.stops import stop_token_ids
    from base_model.tokenizer import padding_id

    context = context_length(model.config, unstated=2**31)
    max_new_tokens = min(max_new_tokens, context // 2)
    prompts = [row["input_ids"][: first_answer(row["labels"])] for row in heldout]
    prompts = [prompt for prompt in prompts if len(prompt) <= context - max_new_tokens]
    if not prompts:
        return StopRate(0, 0, max_new_tokens)
    stops = stop_token_ids(tokenizer, model)
    sampling = SamplingConfig(max_new_tokens=max_new_tokens, stop_token_ids=stops)
    generation = generate(model, prompts, sampling, pad_id=padding_id(tokenizer, stops), seed=seed, batch_size=64)
    return StopRate(int(generation.stopped_B.sum()), len(prompts), max_new_tokens)


def first_answer(labels: list[int]) -> int:
    """Where the assistant first speaks."""
    return next(position for position, label in enumerate(labels) if label != IGNORED)
