"""Attention: who sees whom, and two ways to compute it: PyTorch's SDPA, and plain matrix products for short rows on a CPU.

Shapes: B batch, T new tokens, S tokens seen (cached + new), H query heads, K key/value heads, E width of a head.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

LONGEST_PRODUCTS = 512  # tokens `attend_by_products` takes; past this the scores cost more memory than they save time
QUERY_BLOCK = 64  # queries at once in it


def attention_mask(n_tokens: int, is_pad_BS: Tensor | None, document_ids_BT: Tensor | None, device=None) -> Tensor:
    """Who sees whom: the earlier tokens and itself, no padding, and only its own packed document.

    (B or 1, 1, T, S) bool, True where query t sees key s. Padding queries see themselves, so that no row is empty.
    """
    n_seen = n_tokens if is_pad_BS is None else is_pad_BS.shape[1]
    key_S = torch.arange(n_seen, dtype=torch.int32, device=device)  # int32: as wide as the scores it is compared beside
    query_T = key_S[n_seen - n_tokens :]
    is_seen = (query_T[:, None] >= key_S[None, :])[None]
    if document_ids_BT is not None:
        is_seen = is_seen & (document_ids_BT[:, :, None] == document_ids_BT[:, None, :])
    if is_pad_BS is not None:
        is_seen = is_seen & ~is_pad_BS[:, None, :] | (query_T[:, None] == key_S[None, :])
    return is_seen[:, None]


def attend(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(E), where seen) v, (B, H, T, E); mask (B or 1, 1, T, S) True where seen, None: causal with T = S.

    PyTorch's SDPA, save for short rows on a CPU in bf16, where `attend_by_products` takes a third of its time at 256 tokens, and under
    torch.compile, which joins the passes over the scores (in fp32 a training step takes 1 to 6 % less; not compiled 4 to 7 % more).
    """
    is_short = q_BHTE.shape[2] == k_BKSE.shape[2] <= LONGEST_PRODUCTS
    is_faster = q_BHTE.dtype == torch.bfloat16 or torch.compiler.is_compiling()
    if is_short and is_faster and q_BHTE.device.type == "cpu":
        return attend_by_products(q_BHTE, k_BKSE, v_BKSE, mask)
    n_group = q_BHTE.shape[1] // k_BKSE.shape[1]
    if n_group > 1 and mask is not None and q_BHTE.device.type == "cuda":  # its kernels that take a mask know no groups
        k_BKSE, v_BKSE, n_group = k_BKSE.repeat_interleave(n_group, 1), v_BKSE.repeat_interleave(n_group, 1), 1
    return F.scaled_dot_product_attention(
        q_BHTE, k_BKSE, v_BKSE, attn_mask=mask, is_causal=mask is None, enable_gqa=n_group > 1
    )


def attend_by_products(q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, mask: Tensor | None) -> Tensor:
    """The same by plain matrix products, which have bf16 instructions where SDPA's backward pass on a CPU has none.

    Queries go in blocks, each against the keys up to its end only, as no mask lets a query see later ones.
    """
    mask = attention_mask(q_BHTE.shape[2], None, None, q_BHTE.device) if mask is None else mask
    return _Products.apply(q_BHTE, k_BKTE, v_BKTE, mask)


class _Products(torch.autograd.Function):
    """The derivative is written out: autograd's reads and writes the scores more often, and keeps smaller blocks from paying.

    With W = softmax(q k^T / sqrt(E)) and y = W v, the gradient dy gives (as in arXiv:2205.14135, appendix B.2)
        dv = W^T dy,   dscores = W * (dy v^T - rowsum(dy * y)),   dq = dscores k / sqrt(E),   dk = dscores^T q / sqrt(E).
    """

    @staticmethod
    def forward(ctx, q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, mask: Tensor) -> Tensor:
        q_BHTE = q_BHTE * q_BHTE.shape[-1] ** -0.5
        weights, outputs = [], []
        for start, end in _blocks(q_BHTE.shape[2]):
            q = _by_key_head(q_BHTE[:, :, start:end], k_BKTE)
            scores = (q @ k_BKTE[:, :, :end].mT).unflatten(2, (-1, end - start))
            scores = scores.masked_fill(~mask[:, None, :, start:end, :end], -math.inf)
            weights.append(scores.softmax(dim=-1, dtype=scores.dtype).flatten(2, 3))
            outputs.append((weights[-1] @ v_BKTE[:, :, :end]).view_as(q_BHTE[:, :, start:end]))
        y_BHTE = torch.cat(outputs, dim=2)
        ctx.save_for_backward(q_BHTE, k_BKTE, v_BKTE, y_BHTE, *weights)
        return y_BHTE

    @staticmethod
    @once_differentiable
    def backward(ctx, dy_BHTE: Tensor):
        q_BHTE, k_BKTE, v_BKTE, y_BHTE, *weights = ctx.saved_tensors
        rowsum_BHT1 = (dy_BHTE * y_BHTE).sum(dim=-1, keepdim=True)
        dq, dk, dv = [], [], []
        for (start, end), weight in zip(_blocks(q_BHTE.shape[2]), weights, strict=True):
            q, dy, rowsum = (_by_key_head(x[:, :, start:end], k_BKTE) for x in (q_BHTE, dy_BHTE, rowsum_BHT1))
            dscores = weight * (dy @ v_BKTE[:, :, :end].mT - rowsum)
            dq.append((dscores @ k_BKTE[:, :, :end]).view_as(q_BHTE[:, :, start:end]))
            dk.append(dscores.mT @ q)
            dv.append(weight.mT @ dy)
        return torch.cat(dq, dim=2) * q_BHTE.shape[-1] ** -0.5, _add(dk), _add(dv), None


def _blocks(n_tokens: int) -> list[tuple[int, int]]:
    return [(start, min(start + QUERY_BLOCK, n_tokens)) for start in range(0, n_tokens, QUERY_BLOCK)]


def _by_key_head(x_BHTE: Tensor, k_BKTE: Tensor) -> Tensor:
    """(B, K, H/K T, E): the queries of the heads that share a key head, one after the other."""
    return x_BHTE.reshape(k_BKTE.shape[0], k_BKTE.shape[1], -1, x_BHTE.shape[-1])


def _add(parts: list[Tensor]) -> Tensor:
    """The sum of tensors (B, K, up to T, E) that begin at the same token; the last has all T."""
    return sum(F.pad(part, (0, 0, 0, parts[-1].shape[2] - part.shape[2])) for part in parts)
