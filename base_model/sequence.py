"""Token sequences as tensors: shifts, log-probabilities, masked statistics, padding, as pure functions.

Legend: B batch, T tokens of a row (prompt + response), R response tokens, V vocabulary; `...` any leading shape.
Masks are bool and say what True means: `is_pad_BT`, `is_response_BR`. Padding leaves by mask, never by a sentinel
value: what stands in a masked place (NaN included) reaches neither a result nor a gradient.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def shift(tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and their targets for next-token prediction: (tokens[:, :-1], tokens[:, 1:]), both (B, T-1) views.

    Raises ValueError if a row is shorter than 2: one token predicts nothing."""
    if tokens_BT.ndim != 2 or tokens_BT.shape[1] < 2:
        raise ValueError(f"expected tokens of shape (B, T) with T >= 2, got {tuple(tokens_BT.shape)}")
    return tokens_BT[:, :-1], tokens_BT[:, 1:]


def aligned_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax(logits)[..., target] in nats: logits (..., V) stand at the same index as the token they predict.

    log p(y) = z_y - logsumexp(z), computed in float32 whatever the logits' dtype. Returns the shape of `targets`.
    Raises ValueError if the leading shapes differ."""
    if logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} need targets of shape {tuple(logits.shape[:-1])}, got {tuple(targets.shape)}"
        )
    # cross_entropy is its negative in one pass over V, forward and backward; gather - logsumexp takes three
    nll = F.cross_entropy(logits.float().flatten(0, -2), targets.flatten(), reduction="none")
    return -nll.view(targets.shape)


def token_logprobs(logits_BTV: Tensor, tokens_BT: Tensor) -> Tensor:
    """log p(tokens[:, t+1] | tokens[:, :t+1]) in nats, (B, T-1) float32: entry t belongs to token t+1.

    The last R columns are those of the last R tokens: `token_logprobs(logits_BTV, tokens_BT)[:, -R:]`."""
    _, targets_BS = shift(tokens_BT)
    return aligned_logprobs(logits_BTV[:, :-1], targets_BS)


def entropy_nats(logits: Tensor) -> Tensor:
    """Entropy of softmax(logits) over the last axis, in nats, >= 0: H = logsumexp(z) - sum_v p_v z_v. Shape (...)."""
    logits = logits.float()
    log_z = logits.logsumexp(-1, keepdim=True)
    logprobs = logits - log_z
    # A forbidden token (logit -inf) has p log p = 0, not nan.
    return -(logprobs.exp() * logprobs.clamp(min=torch.finfo(torch.float32).min)).sum(-1)


def _check_mask(values: Tensor, is_valid: Tensor) -> None:
    if is_valid.dtype != torch.bool or is_valid.shape != values.shape:
        raise ValueError(
            f"expected a bool mask of shape {tuple(values.shape)}, got {is_valid.dtype} {tuple(is_valid.shape)}"
        )


def masked_sum(values: Tensor, is_valid: Tensor, dim: int | None = None) -> Tensor:
    """Sum of values where is_valid, over `dim` (None: all axes). ValueError unless the mask is bool of that shape."""
    _check_mask(values, is_valid)
    kept = values.masked_fill(~is_valid, 0)
    return kept.sum() if dim is None else kept.sum(dim)


def masked_mean(values: Tensor, is_valid: Tensor, dim: int | None = None) -> Tensor:
    """Mean of values where is_valid, over `dim` (all axes when None); 0 where nothing is valid, never nan."""
    total = masked_sum(values, is_valid, dim)
    count = is_valid.sum() if dim is None else is_valid.sum(dim)
    return total / count.clamp(min=1)


def masked_whiten(
    values: Tensor, is_valid: Tensor, *, eps: float = 1e-8, sum_across: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """(values - mean) / sqrt(variance + eps) over the valid places; 0 elsewhere. Same shape and dtype as `values`.

    Mean and (population) variance run over every valid place of every process: `sum_across` adds a tensor up over the
    processes (None: one process). With no valid place, or one, the result is 0."""
    _check_mask(values, is_valid)
    sum_across = sum_across or (lambda tensor: tensor)
    wide = torch.float32 if values.device.type == "mps" else torch.float64
    kept = values.masked_fill(~is_valid, 0).to(wide)
    total, count = sum_across(torch.stack([kept.sum(), is_valid.sum().to(wide)]))
    centred = (kept - total / count.clamp(min=1)).masked_fill(~is_valid, 0)
    variance = sum_across(centred.square().sum()) / count.clamp(min=1)
    return (centred / (variance + eps).sqrt()).to(values.dtype)


def position_ids(is_pad_BT: Tensor) -> Tensor:
    """Positions that count real tokens only, (B, T) int64: cumsum(~is_pad) - 1, and 0 on the left padding before the
    first token. Without them a left-padded row of a learned-position model sees other embeddings."""
    return (~is_pad_BT).long().cumsum(1).sub_(1).clamp_(min=0)


def round_up(count: int, multiple: int) -> int:
    """The least multiple of `multiple` that is not below `count`.

    Lengths rounded up are few: on a CPU every new shape of a bf16 product leaves a kernel in memory, and costs the time to make it."""
    return -(-count // multiple) * multiple


def round_up_eighth(count: int) -> int:
    """The least length not below `count` of the eight that an octave has (64, 72, .. 128, 144, .. 256): at most an eighth more."""
    return round_up(count, 1 << max(0, count.bit_length() - 4))


def is_until_stop(tokens_BR: Tensor, stop_token_ids: Iterable[int]) -> Tensor:
    """True from the first token of a row to its first stop token, that one included; (B, R) bool. A row without a stop
    token is True throughout. It looks at stop tokens, not at padding, so pad == eos cannot eat a row's last token."""
    stops = torch.as_tensor(list(stop_token_ids), dtype=tokens_BR.dtype, device=tokens_BR.device)
    is_stop_BR = torch.isin(tokens_BR, stops)
    return is_stop_BR.long().cumsum(1) - is_stop_BR.long() == 0


def _pad(rows: Sequence[Sequence[int]], pad_id: int, side: str, device) -> tuple[Tensor, Tensor]:
    width = max((len(row) for row in rows), default=0)
    tokens_BT = torch.full((len(rows), width), pad_id, dtype=torch.long)
    is_pad_BT = torch.ones((len(rows), width), dtype=torch.bool)
    for tokens_T, is_pad_T, row in zip(tokens_BT, is_pad_BT, rows, strict=True):
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        tokens_T[place] = torch.as_tensor(row, dtype=torch.long)
        is_pad_T[place] = False
    return tokens_BT.to(device), is_pad_BT.to(device)


def pad_left(rows: Sequence[Sequence[int]], pad_id: int, *, device=None) -> tuple[Tensor, Tensor]:
    """Ragged rows of token ids as (tokens_BT int64, is_pad_BT bool), padded on the left to the longest row."""
    return _pad(rows, pad_id, "left", device)


def pad_right(rows: Sequence[Sequence[int]], pad_id: int, *, device=None) -> tuple[Tensor, Tensor]:
    """Ragged rows of token ids as (tokens_BT int64, is_pad_BT bool), padded on the right to the longest row."""
    return _pad(rows, pad_id, "right", device)
