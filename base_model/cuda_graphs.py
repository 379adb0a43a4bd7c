"""The decoder on CUDA: a step is one replay of a recorded graph, since launching its kernels one by one takes longer than they do.

A graph's shapes and addresses are fixed, so a step attends to a window of the cache (64, 128, 256 ... slots) with a mask over what
is not filled, and the slot to fill is itself a tensor. There is one graph for each number of rows and window that comes up.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from base_model.decoder import Decoder
from base_model.gpt import GPTConfig

SMALLEST_WINDOW = 64  # slots; windows double from here


class GraphDecoder(Decoder):
    """Logits of a step are valid until the next step. On another device than CUDA the same operations run without a graph."""

    steps_between_checks = 8  # looking at the tokens waits for the device
    shrink_below = 0.5  # a smaller batch means recording a new graph

    def __init__(self, config: GPTConfig, tensors: dict[str, tuple[Tensor, ...]], n_rows: int, n_slots: int):
        super().__init__(config, tensors, n_rows, SMALLEST_WINDOW * math.ceil(n_slots / SMALLEST_WINDOW))
        self.cache.zero_()  # slots that are not filled yet get weight 0, which would not remove a NaN
        self.token_B = torch.zeros(n_rows, dtype=torch.long, device=self.device)
        self.slot = torch.zeros(1, dtype=torch.long, device=self.device)
        self.graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self.pool = torch.cuda.graph_pool_handle() if self.device.type == "cuda" else None

    def prefill(self, tokens_BT: Tensor, n_pad_B: Tensor | None = None) -> Tensor:
        logits_BV = super().prefill(tokens_BT, n_pad_B)
        n_rows, n_tokens = tokens_BT.shape
        if n_pad_B is None:
            self.n_pad_B = torch.zeros(n_rows, dtype=torch.long, device=self.device)
            self.mask = self.cache.new_zeros(n_rows * self.n_kv, 1, self.cache.shape[4])
        self.mask[:, :, n_tokens:] = -math.inf  # until filled
        return logits_BV

    def step(self, token_B: Tensor) -> Tensor:
        n_rows, n_slots = len(token_B), self.cache.shape[4]
        window = SMALLEST_WINDOW
        while window <= self.n_filled:
            window *= 2
        window = min(window, n_slots)
        self.token_B = self.token_B[:n_rows]
        self.token_B.copy_(token_B)
        self.slot.fill_(self.n_filled)
        self.n_filled += 1
        if self.device.type != "cuda":
            return self._fixed_step(window)
        if (n_rows, window) not in self.graphs:
            self.graphs[n_rows, window] = self._record(window)
        graph, logits_BV = self.graphs[n_rows, window]
        graph.replay()
        return logits_BV

    def _record(self, window: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries set themselves up; the step can run twice, it writes the same
            self._fixed_step(window)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            logits_BV = self._fixed_step(window)
        return graph, logits_BV

    def _fixed_step(self, window: int) -> Tensor:
        """One step whose operations and addresses depend on the number of rows and the window alone."""
        n_rows = len(self.token_B)
        self.mask.index_fill_(2, self.slot, 0.0)
        mask = self.mask[:, :, :window].view(n_rows, self.n_kv, 1, window)

        def mix(layer: int) -> Tensor:
            q, k, v = projection.turned(rotary)
            keys, values = self.cache[:, layer]
            keys.index_copy_(2, self.slot, k.unsqueeze(2))
            values.index_copy_(2, self.slot, v.unsqueeze(2))
            q = q.unflatten(1, (self.n_kv, -1))  # the heads that share a key stand as so many queries, (B, K, G, E)
            keys, values = keys[:, :, :window], values[:, :, :window]
            return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask).reshape(n_rows, -1)

        projection = self._projection(n_rows)
        x_BD, rotary = self._embed(self.token_B, self.slot - self.n_pad_B)
        for i, layer in enumerate(self.layers):
            x_BD = layer(x_BD, i, mix, projection)
        return torch.mm(self.norm(x_BD), self.head)
