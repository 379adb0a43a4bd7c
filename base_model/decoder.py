"""The transformer once more, for generation only: few operations on shared weights, and a key/value cache of fixed size.

`GPT.forward` is the form to read and to train; here a step of a small model is mostly the cost of calling operations, so
there are no modules, biases and residual sums are part of the matrix products, and views of the cache are made once a step for all
layers. It works on the tensors of a `GPT` or of a transformers GPT-2 or Llama, with no copy of them, save that small matrices that
read the same input are put side by side.

Shapes: B rows, T prompt tokens, N = B or B*T vectors, D model width, H query heads, K key/value heads, G = H/K, E width of a
head, S filled slots of the cache, L layers. Prompts are padded on the left, so that all rows continue in the same slot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from base_model.attention import attend
from base_model.gpt import GPTConfig, rotary_table

STACKED_AT_MOST = 2**20  # numbers; below it a product costs more to call than to compute


class Linear(NamedTuple):
    """y = x @ weight + bias. Several matrices (q, k, v; gate, up) stand for one that has their columns side by side."""

    weights: tuple[Tensor, ...]  # each (in, out)
    biases: tuple[Tensor | None, ...]

    @classmethod
    def of(cls, tensors: dict, name: str) -> Linear:
        parts = tensors[f"{name}.weight"]
        biases = tensors.get(f"{name}.bias", (None,) * len(parts))
        if len(parts) > 1 and biases[0] is None and sum(part.numel() for part in parts) <= STACKED_AT_MOST:
            parts, biases = (torch.cat(parts),), (None,)
        return cls(tuple(part.t() for part in parts), biases)

    def __call__(self, x_ND: Tensor, out: tuple[Tensor | None, ...] = (None, None, None)) -> list[Tensor]:
        """One result a matrix, written into `out` where that is given."""
        return [
            torch.mm(x_ND, weight, out=y) if bias is None else torch.addmm(bias, x_ND, weight, out=y)
            for weight, bias, y in zip(self.weights, self.biases, out, strict=False)
        ]

    def add_to(self, residual_ND: Tensor, x_ND: Tensor) -> Tensor:
        y = torch.addmm(residual_ND, x_ND, self.weights[0])
        return y if self.biases[0] is None else y.add_(self.biases[0])


class Norm:
    """LayerNorm where there is a bias, else RMSNorm, y = w x / sqrt(mean(x^2) + eps)."""

    def __init__(self, tensors: dict, name: str, eps: float):
        (self.weight,), (self.bias,) = tensors[f"{name}.weight"], tensors.get(f"{name}.bias", (None,))
        self.eps, self.shape = eps, self.weight.shape
        self.is_by_hypot = self.bias is None and self.weight.device.type == "cpu" and self.weight.dtype == torch.float32
        if self.is_by_hypot:  # F.rms_norm is many small operations on a CPU; these are four
            width = self.weight.shape[0]
            self.scaled_weight = self.weight * math.sqrt(width)
            self.floor = self.weight.new_tensor(math.sqrt(width * eps))

    def __call__(self, x_ND: Tensor) -> Tensor:
        if self.is_by_hypot:  # y = (w sqrt(D)) x / hypot(|x|, sqrt(D eps))
            length_N1 = torch.linalg.vector_norm(x_ND, dim=-1, keepdim=True)
            return x_ND.div(length_N1.hypot_(self.floor)).mul_(self.scaled_weight)
        if self.bias is None:
            return F.rms_norm(x_ND, self.shape, self.weight, self.eps)
        return F.layer_norm(x_ND, self.shape, self.weight, self.bias, self.eps)


class Layer(NamedTuple):
    attention_norm: Norm
    qkv: Linear
    attention_out: Linear
    mlp_norm: Norm
    inner: Linear
    mlp_out: Linear
    is_gated: bool

    @classmethod
    def of(cls, tensors: dict, name: str, eps: float) -> Layer:
        attention_norm, mlp_norm = (Norm(tensors, f"{name}.{part}", eps) for part in ("attention_norm", "mlp_norm"))
        parts = ("attention.qkv", "attention.out", "mlp.inner", "mlp.out")
        qkv, attention_out, inner, mlp_out = (Linear.of(tensors, f"{name}.{part}") for part in parts)
        is_gated = inner.biases[0] is None
        return cls(attention_norm, qkv, attention_out, mlp_norm, inner, mlp_out, is_gated)

    def __call__(self, x_ND: Tensor, index: int, mix: Callable[[int], Tensor], projection: Projection) -> Tensor:
        """One block; `mix` is the attention of layer `index` over what the projection holds, (N, H E)."""
        self.qkv(self.attention_norm(x_ND), projection.parts)
        x_ND = self.attention_out.add_to(x_ND, mix(index))
        inner = self.inner(self.mlp_norm(x_ND))
        if self.is_gated:
            gate, up = inner if len(inner) == 2 else inner[0].chunk(2, dim=-1)
            activated = F.silu(gate, inplace=True).mul_(up)
        else:
            activated = F.gelu(inner[0], approximate="tanh")
        return self.mlp_out.add_to(x_ND, activated)


class Projection:
    """Where all layers in turn put the queries, keys and values of N tokens; its views are made once."""

    def __init__(self, decoder: Decoder, n_tokens: int):
        widths = [weight.shape[1] for weight in decoder.layers[0].qkv.weights]
        qkv = torch.empty(n_tokens, sum(widths), device=decoder.device, dtype=decoder.dtype)
        self.parts = qkv.split(widths, dim=1)
        heads = qkv.view(n_tokens, -1, decoder.head_dim)
        self.qk, self.v = heads[:, : -decoder.n_kv], heads[:, -decoder.n_kv :]
        self.n_query, self.half = decoder.n_head, decoder.head_dim // 2

    def turned(self, rotary: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (N, H, E) and keys (N, K, E) turned by their position, and values (N, K, E)."""
        qk = self.qk
        if rotary is not None:
            cos, signed_sin = rotary
            qk = torch.addcmul(qk * cos, qk.roll(self.half, dims=-1), signed_sin)
        return qk[:, : self.n_query], qk[:, self.n_query :], self.v


class Decoder:
    """Reads prompts with `prefill`, then one token a row with `step`; both return the next token's logits, (B, V).

    tensors: the weights as `base_model.hf.shared_tensors` gives them; they are not copied. n_slots: tokens a row can hold.
    """

    steps_between_checks = 1  # for ended rows; on a CPU looking at the tokens costs nothing
    shrink_below = 1.0  # drop ended rows when no more than this share of the batch goes on

    def __init__(self, config: GPTConfig, tensors: dict[str, tuple[Tensor, ...]], n_rows: int, n_slots: int):
        (self.embedding,), (head,) = tensors["embedding.weight"], tensors["head.weight"]
        self.head, self.device, self.dtype = head.t(), head.device, head.dtype
        (self.positions,) = tensors.get("positions.weight", (None,))
        self.layers = [Layer.of(tensors, f"blocks.{i}", config.norm_eps) for i in range(config.n_layer)]
        self.norm = Norm(tensors, "norm", config.norm_eps)
        self.n_head, self.n_kv, self.head_dim = config.n_head, config.n_kv_head, config.head_dim
        if self.positions is None:
            cos, sin = rotary_table(replace(config, context_length=n_slots), self.device).to(self.dtype)
            half = config.head_dim // 2
            self.cos, self.signed_sin = cos, torch.cat([-sin[:, :half], sin[:, half:]], dim=-1)
        shape = (2, config.n_layer, n_rows, config.n_kv_head, n_slots, config.head_dim)
        self.cache = torch.empty(shape, device=self.device, dtype=self.dtype)  # keys, values
        self.projection: Projection | None = None  # of the latest step
        self.n_filled = 0
        self.n_pad_B: Tensor | None = None  # padding at the left of each row; None where no row has any
        self.mask: Tensor | None = None  # (B*K, 1, slots): -inf at padding, else 0

    def prefill(self, tokens_BT: Tensor, n_pad_B: Tensor | None = None) -> Tensor:
        """Fills the cache with left-padded prompts; n_pad_B is the padding of each row (None: none anywhere)."""
        n_rows, n_tokens = tokens_BT.shape
        slot_T = torch.arange(n_tokens, device=self.device)
        position_N, is_seen = slot_T.repeat(n_rows), None
        if n_pad_B is not None:
            self.n_pad_B = n_pad_B
            position_N = (slot_T - n_pad_B[:, None]).clamp_(min=0).flatten()
            is_pad_BS = torch.arange(self.cache.shape[4], device=self.device) < n_pad_B[:, None]
            mask_BS = torch.zeros(is_pad_BS.shape, device=self.device, dtype=self.dtype)
            self.mask = mask_BS.masked_fill_(is_pad_BS, -math.inf).repeat_interleave(self.n_kv, dim=0)[:, None]
            is_seen = (slot_T[:, None] >= slot_T) & ~is_pad_BS[:, None, :n_tokens] | (slot_T[:, None] == slot_T)
            is_seen = is_seen[:, None]

        def mix(layer: int) -> Tensor:
            q, k, v = (part.unflatten(0, (n_rows, n_tokens)).transpose(1, 2) for part in projection.turned(rotary))
            self.cache[0, layer, :n_rows, :, :n_tokens] = k
            self.cache[1, layer, :n_rows, :, :n_tokens] = v
            return attend(q, k, v, is_seen).transpose(1, 2).reshape(n_rows * n_tokens, -1)

        projection = Projection(self, n_rows * n_tokens)
        x_ND, rotary = self._embed(tokens_BT.flatten(), position_N)
        for i, layer in enumerate(self.layers):
            x_ND = layer(x_ND, i, mix, projection)
        self.n_filled = n_tokens
        return torch.mm(self.norm(x_ND.view(n_rows, n_tokens, -1)[:, -1]), self.head)

    def repeat(self, row_B: Tensor) -> None:
        """After `prefill`: row i becomes a copy of prompt row_B[i]."""
        filled = self.cache[:, :, :, :, : self.n_filled]
        filled[:, :, : len(row_B)] = filled[:, :, row_B]
        if self.n_pad_B is not None:
            self.n_pad_B = self.n_pad_B[row_B]
            self.mask = self.mask.unflatten(0, (-1, self.n_kv))[row_B].flatten(0, 1)

    def step(self, token_B: Tensor) -> Tensor:
        """Appends one token a row to the cache."""
        slot, self.n_filled = self.n_filled, self.n_filled + 1
        n_rows, scale = token_B.shape[0], self.head_dim**-0.5
        position_B = slice(slot, slot + 1) if self.n_pad_B is None else slot - self.n_pad_B
        new_keys, new_values = (new.unbind(0) for new in self.cache[:, :, :, :, slot].unbind(0))
        keys, values = self.cache.flatten(2, 3)[:, :, :, : slot + 1].unbind(0)
        keys, values = keys.transpose(-1, -2).unbind(0), values.unbind(0)
        mask = None if self.mask is None else self.mask[:, :, : slot + 1]

        def mix(layer: int) -> Tensor:
            q, k, v = projection.turned(rotary)
            new_keys[layer].copy_(k)
            new_values[layer].copy_(v)
            q = q.reshape(n_rows * self.n_kv, -1, self.head_dim)  # (B*K, G, E)
            if mask is None:
                score = torch.bmm(q, keys[layer]).mul_(scale)
            else:
                score = torch.baddbmm(mask, q, keys[layer], alpha=scale)
            return torch.bmm(score.softmax(dim=-1), values[layer]).view(n_rows, -1)

        projection = self._projection(n_rows)
        x_BD, rotary = self._embed(token_B, position_B)
        for i, layer in enumerate(self.layers):
            x_BD = layer(x_BD, i, mix, projection)
        return torch.mm(self.norm(x_BD), self.head)

    def keep(self, n_rows: int, source: Tensor, target: Tensor) -> None:
        """Drops all but the first `n_rows` rows, after copying rows `source` over rows `target`."""
        filled = self.cache[:, :, :, :, : self.n_filled]
        filled[:, :, target] = filled[:, :, source]
        self.cache = self.cache[:, :, :n_rows]
        if self.n_pad_B is not None:
            self.n_pad_B[target] = self.n_pad_B[source]
            mask = self.mask.unflatten(0, (-1, self.n_kv))
            mask[target] = mask[source]
            self.n_pad_B, self.mask = self.n_pad_B[:n_rows], mask[:n_rows].flatten(0, 1)

    def _projection(self, n_rows: int) -> Projection:
        if self.projection is None or self.projection.v.shape[0] != n_rows:
            self.projection = Projection(self, n_rows)
        return self.projection

    def _embed(self, token_N: Tensor, position_N: Tensor | slice) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Token vectors (N, D), learned positions added, or the rotary cos and sin that go with them, (N or 1, 1, E)."""
        x_ND = self.embedding[token_N]
        if self.positions is not None:
            return x_ND.add_(self.positions[position_N]), None
        return x_ND, (self.cos[position_N, None], self.signed_sin[position_N, None])
