"""Rows of token ids in an Arrow file, memory-mapped: as Python lists they would take ten times the memory, all of it at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset


def write_dataset(
    rows: Callable[[], Iterable[dict[str, Any]]],
    file: Path,
    ids: Sequence[str] = ("input_ids", "labels"),
    others: Mapping[str, str] = {},
) -> Dataset:
    """The rows that `rows()` gives as a data set whose memory does not grow with their number.

    ids: columns with a list of token ids (or labels) a row; others: the Arrow type, such as "float64", of every other column.
    In a distributed run one process of each machine calls `rows` and writes `file`; the others wait and read."""
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    def write() -> None:
        types = dict.fromkeys(ids, List(Value("int32"))) | {name: Value(kind) for name, kind in others.items()}
        with ArrowWriter(path=str(file), features=Features(types)) as writer:
            for row in rows():
                writer.write(row)
            writer.finalize()

    return written_once(write, file)


def written_once(write: Callable[[], object], file: Path) -> Dataset:
    """The data set in `file`, which `write()` makes in one process of each machine."""
    from accelerate import PartialState
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    state = PartialState()
    with state.local_main_process_first():
        if state.is_local_main_process:
            file.parent.mkdir(parents=True, exist_ok=True)
            write()
    return Dataset.from_file(str(file))


def token_counts(dataset: Dataset, column: str) -> list[int]:
    """How many ids each row of a column has; few of them are read at once."""
    from pyarrow.compute import list_value_length

    tables = dataset.with_format("arrow").iter(batch_size=1000)
    return [count for table in tables for count in list_value_length(table[column]).to_pylist()]


def ids_in(dataset: Dataset, column: str = "input_ids") -> set[int]:
    """The distinct ids of a column; few rows are read at once."""
    from pyarrow.compute import list_flatten, unique

    found: set[int] = set()
    for table in dataset.with_format("arrow").iter(batch_size=1000):
        found.update(unique(list_flatten(table[column])).to_pylist())
    return found
