"""Many short sequences in one row, none of which sees another.

TRL's best-fit-decreasing packing lays sequences end to end; the collator here keeps the rows apart (TRL's own flattens a whole batch into one
row, whose attention mask grows with the square of the batch where there is no flash attention) and gives position ids that begin anew with
every sequence and no attention mask. transformers turns that into a block-diagonal mask, but only with `use_cache=False`, which the trainer
passes. With flash attention TRL's flattened batch is used instead; see `sft/training.py`.

Shapes: B rows, T tokens of the longest row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.examples import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset


def write_dataset(rows: Iterable[dict[str, list[int]]], file: Path) -> Dataset:
    """Rows of `input_ids` and `labels` as an Arrow file, memory-mapped: memory does not grow with the number of rows.
    Replaces `file`."""
    from datasets import Dataset, Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    file.parent.mkdir(parents=True, exist_ok=True)
    features = Features({"input_ids": List(Value("int32")), "labels": List(Value("int32"))})
    with ArrowWriter(path=str(file), features=features) as writer:
        for row in rows:
            writer.write(row)
        writer.finalize()
    return Dataset.from_file(str(file))


def pack(dataset: Dataset, row_tokens: int, file: Path, *, split_long: bool) -> Dataset:
    """Sequences laid into rows of at most `row_tokens` tokens (column `seq_lengths` says where each ends), best fit first.

    A sequence longer than a row is cut in several (`split_long`) or at the row's end. Deterministic; written to `file`."""
    from datasets import Dataset
    from trl import pack_dataset

    options = {"cache_file_name": str(file), "load_from_cache_file": False}
    pack_dataset(dataset, row_tokens, "bfd_split" if split_long else "bfd", options)
    return Dataset.from_file(str(file))


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
