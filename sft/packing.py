"""Many short sequences in one row, none of which sees another.

TRL's best-fit-decreasing packing lays sequences end to end; the collator here keeps the rows apart (TRL's own flattens a whole batch into
one row, whose attention mask grows with the square of the batch where there is no flash attention) and gives position ids that begin anew
with every sequence and no attention mask. transformers turns that into a block-diagonal mask, but only with `use_cache=False`, which the
trainer passes. With flash attention TRL's flattened batch is used instead; see `sft/training.py`.

Shapes: B rows, T tokens of the longest row.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.arrow import token_counts, written_once
from sft.examples import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset


def pack(dataset: Dataset, file: Path, *, row_tokens: int | None = None) -> Dataset:
    """Sequences laid into rows of at most `row_tokens` tokens, best fit first; column `seq_lengths` has their lengths.

    row_tokens: None for the longest sequence's, the least that holds them all; attention costs a row's square, and sequences do not see
    each other. Deterministic: the same sequences in the same order give the same rows. Written to `file` as in `sft.arrow.write_dataset`.
    Raises ValueError for a sequence longer than a row, which TRL would cut in silence."""
    from trl import pack_dataset

    longest = max(token_counts(dataset, "input_ids"), default=0)
    row_tokens = row_tokens or longest
    if longest > row_tokens:
        raise ValueError(f"a sequence of {longest} tokens does not fit into rows of {row_tokens}")
    options = {"cache_file_name": str(file), "load_from_cache_file": False}
    return written_once(lambda: pack_dataset(dataset, row_tokens, "bfd", options), file)


class RowCollator:
    """Rows of packed sequences to a batch: `input_ids`, `labels`, `position_ids`, each (B, T) int64.

    Position ids restart at 0 with each sequence, and stay 0 on padding (each padding token is then a sequence of its own). The first
    token of a sequence is not learnt: what stands before it belongs to another."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        def padded(sequences: Iterator[Any], value: int):
            return pad_sequence([torch.as_tensor(s) for s in sequences], batch_first=True, padding_value=value).long()

        lengths = [row.get("seq_lengths") or [len(row["input_ids"])] for row in rows]
        position_ids_BT = padded((torch.cat([torch.arange(n) for n in row]) for row in lengths), 0)
        labels_BT = padded((row["labels"] for row in rows), IGNORED)
        return {
            "input_ids": padded((row["input_ids"] for row in rows), self.pad_token_id),
            "labels": labels_BT.masked_fill(position_ids_BT == 0, IGNORED),
            "position_ids": position_ids_BT,
        }
