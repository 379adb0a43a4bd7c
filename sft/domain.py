"""Continued pretraining on a domain's text, with some general text replayed against forgetting.

Rehearsal of old data beside the new is the plain cure for forgetting (arXiv:2403.08763 finds 1-5 % enough for mild shifts, more for strong
ones). The share is of the text's UTF-8 bytes, so that it does not depend on the tokenizer; the record has the share of tokens too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from base_model.documents import Source, read_texts
from sft.arrow import write_dataset
from sft.examples import RowCounts, document_rows
from sft.packing import pack

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def domain_data(
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    context_tokens: int,
    packing: bool = True,
    replay: Source | None = None,
    replay_share: float = 0.2,
    seed: int = 1,
) -> tuple[Dataset, dict[str, RowCounts]]:
    """Rows to train on, written below `folder`: the documents of `source`, and of `replay` so many as make about `replay_share` of all.

    Also counts, under "domain" and, where there is replay, "replay". Raises ValueError naming file and row for a row that cannot be used,
    and for a share outside [0, 1)."""
    if not 0 <= replay_share < 1:
        raise ValueError(f"replay_share is a share of the training text, at least 0 and below 1, got {replay_share}")
    counts = {"domain": RowCounts()} | ({"replay": RowCounts()} if replay else {})

    def rows() -> Iterator[dict[str, list[int]]]:
        yield from document_rows(source, tokenizer, counts["domain"], context_tokens=context_tokens)
        if replay:
            wanted_bytes = count_bytes(source) * replay_share / (1 - replay_share)
            share = min(1.0, wanted_bytes / count_bytes(replay))
            yield from document_rows(
                replay, tokenizer, counts["replay"], context_tokens=context_tokens, share=share, seed=seed
            )

    dataset = write_dataset(rows, folder / "rows.arrow")
    return (pack(dataset, folder / "packed.arrow") if packing else dataset), counts


def count_bytes(source: Source) -> int:
    """UTF-8 bytes of all texts of a source."""
    return sum(len(text.encode()) for text in read_texts(source))
