"""Tokens that nobody trained: which rows of a model's embedding still stand where they began.

A tokenizer has tokens that the model's text never held: role tokens before any conversation was seen, rare bytes, rows kept in reserve.
A prompt with one of them reads noise. Best is the parent's record of what it was trained on; where there is none the weights tell:

    short       a row far shorter than the others: zeros, or what weight decay left
    at the mean a row that lies on the mean of all, where transformers puts the rows that it adds
    repeated    a row bit for bit equal to another: one value was written into all rows kept in reserve
    pushed away every step pushes the rows of tokens that are never the next one, all in one direction: in the head (or an embedding tied
                to it) they become nearly parallel. Control tokens that are so give the direction; with a head of its own the
                embedding's row must be shorter than most as well, since a token may be read and never said

Source: Land and Bartolo 2024, arXiv:2405.05417, who find under-trained tokens by norms and by the direction of known unused rows.
Shapes: V tokens, D width.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

SHORT = 0.4  # of the median length
SHORTER_THAN_MOST = 0.75
PARALLEL = 0.95  # cosine


def untrained_ids(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids of the tokenizer's tokens whose rows show one of the signs above. A model all of whose rows are random shows none, and
    neither does one whose weights are elsewhere (split by DeepSpeed)."""
    embedding_VD = model.get_input_embeddings().weight.detach().float()
    if not embedding_VD.numel():
        return set()
    head = model.get_output_embeddings()
    head_VD = embedding_VD if head is None else head.weight.detach().float()
    length_V = embedding_VD.norm(dim=1)
    median = length_V.median()
    from_mean_V = (embedding_VD - embedding_VD.mean(0)).norm(dim=1)
    found_V = (length_V < SHORT * median) | (from_mean_V < SHORT * from_mean_V.median()) | _repeated(embedding_VD)
    pushed_V = _pushed_away(head_VD, sorted(set(tokenizer.all_special_ids)))
    if pushed_V is not None:
        is_tied = head is None or head.weight is model.get_input_embeddings().weight
        found_V |= pushed_V if is_tied else pushed_V & (length_V < SHORTER_THAN_MOST * median)
    return {i for i in found_V.nonzero()[:, 0].tolist() if i < len(tokenizer)}


def _repeated(rows_VD: Tensor) -> Tensor:
    """(V,) True where another row has the same numbers."""
    import torch

    generator = torch.Generator().manual_seed(0)
    direction_D = torch.randn(rows_VD.shape[1], generator=generator, dtype=torch.float64).to(rows_VD.device)
    _, group_V, counts = (rows_VD.double() @ direction_D).unique(return_inverse=True, return_counts=True)
    return counts[group_V] > 1


def _pushed_away(head_VD: Tensor, control_ids: Sequence[int]) -> Tensor | None:
    """(V,) True for rows parallel to those of control tokens, if at least two of these are parallel to each other; else None."""
    from torch.nn.functional import normalize

    unit_VD = normalize(head_VD, dim=1)
    control_CD = unit_VD[[i for i in control_ids if i < len(unit_VD)]]
    is_parallel_CC = control_CD @ control_CD.T > PARALLEL
    if not len(control_CD) or is_parallel_CC.sum(1).max() < 2:
        return None
    group = is_parallel_CC[is_parallel_CC.sum(1).argmax()]
    return unit_VD @ normalize(control_CD[group].mean(0), dim=0) > PARALLEL


def written_out(ids: Iterable[int]) -> str:
    """Ids as text, runs shortened: "3-5,77"."""
    runs: list[list[int]] = []
    for i in sorted(ids):
        if runs and runs[-1][1] == i - 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def read_back(text: str) -> set[int]:
    """The ids that `written_out` wrote."""
    ids: set[int] = set()
    for run in text.split(",") if text else ():
        first, _, last = run.partition("-")
        ids.update(range(int(first), int(last or first) + 1))
    return ids


def named(ids: Collection[int], tokenizer: PreTrainedTokenizerBase, most: int = 8) -> str:
    """The first few of some tokens for people to read: "3 '<|system|>', 77 'q', and 12 more"."""
    first = sorted(ids)[:most]
    text = ", ".join(f"{i} {tokenizer.convert_ids_to_tokens(i)!r}" for i in first)
    return text + (f", and {len(ids) - most} more" if len(ids) > most else "")
