"""The transformer: one `GPT` that speaks the two stock dialects, GPT-2's and Llama's.

    gpt2   LayerNorm, learned positions, GELU (tanh form), biases          arXiv:1706.03762, Radford et al. 2019
    llama  RMSNorm, rotary positions, SwiGLU, grouped-query attention      arXiv:2302.13971, arXiv:2104.09864

Shapes: B batch, T new tokens, S tokens seen by attention (cached + new), V vocabulary, D model width, H query heads,
K key/value heads, E width of a head. `is_pad` is True at padding. Dropout is left out of both dialects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from base_model.attention import attend, attention_mask

IGNORED_TARGET = -100  # targets with this value leave the loss, as in torch and transformers


@dataclass(frozen=True)
class GPTConfig:
    """Everything that fixes the architecture. Sizes that are None take the dialect's habit, and are filled in."""

    dialect: str  # "gpt2" or "llama"
    vocab_size: int
    n_layer: int
    n_head: int
    d_model: int
    context_length: int  # tokens; learned positions and the rotary table end here
    n_kv_head: int | None = None  # key/value heads, shared by n_head / n_kv_head query heads each; None: n_head
    head_dim: int | None = None  # None: d_model / n_head
    d_ff: int | None = None  # None: 4 d_model (gpt2); 8/3 d_model, rounded up to a multiple of 32 (llama)
    rope_theta: float = 10000.0  # base of the rotary wavelengths (llama)
    norm_eps: float = 1e-5
    tie_embeddings: bool = True  # the output head is the token embedding
    init_std: float = 0.02  # of weights; those that write into the residual stream get init_std / sqrt(2 n_layer)
    gradient_checkpointing: bool = False  # recompute each block in the backward pass: less memory, a third more work

    def __post_init__(self):
        fill = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        if self.dialect not in ("gpt2", "llama"):
            raise ValueError(f"dialect is {self.dialect!r}; it must be 'gpt2' or 'llama'")
        for name in ("vocab_size", "n_layer", "n_head", "d_model", "context_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.n_kv_head is None:
            fill("n_kv_head", self.n_head)
        if self.head_dim is None:
            if self.d_model % self.n_head:
                raise ValueError(
                    f"d_model {self.d_model} does not divide into n_head {self.n_head} heads; set head_dim"
                )
            fill("head_dim", self.d_model // self.n_head)
        if self.d_ff is None:
            fill("d_ff", 4 * self.d_model if self.dialect == "gpt2" else 32 * math.ceil(8 * self.d_model / 3 / 32))
        if self.n_kv_head < 1 or self.n_head % self.n_kv_head:
            raise ValueError(f"n_head {self.n_head} is not a multiple of n_kv_head {self.n_kv_head}")
        if self.dialect == "gpt2" and (self.n_kv_head, self.head_dim * self.n_head) != (self.n_head, self.d_model):
            raise ValueError("the gpt2 dialect needs n_kv_head = n_head and head_dim = d_model / n_head; use llama")
        if self.dialect == "llama" and self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}; rotary positions turn pairs, so it must be even")

    @property
    def n_parameters(self) -> int:
        """Trainable numbers, a tied head counted once; equals the sum over `GPT(config).parameters()`."""
        bias = 1 if self.dialect == "gpt2" else 0
        norm = self.d_model * (1 + bias)
        q_width, kv_width = self.n_head * self.head_dim, self.n_kv_head * self.head_dim
        attention = (self.d_model + bias) * (q_width + 2 * kv_width) + (q_width + bias) * self.d_model
        n_in = 1 if self.dialect == "gpt2" else 2
        mlp = n_in * (self.d_model + bias) * self.d_ff + (self.d_ff + bias) * self.d_model
        tables = self.vocab_size * self.d_model * (1 if self.tie_embeddings else 2)
        positions = self.context_length * self.d_model if self.dialect == "gpt2" else 0
        return tables + positions + norm + self.n_layer * (attention + mlp + 2 * norm)


def _llama(vocab_size, n_layer, n_head, n_kv_head, d_model, d_ff, context_length, **more) -> dict:
    sizes = {"n_layer": n_layer, "n_head": n_head, "n_kv_head": n_kv_head, "d_model": d_model, "d_ff": d_ff}
    return {"dialect": "llama", "vocab_size": vocab_size, **sizes, "context_length": context_length, **more}


def _gpt2(n_layer, n_head, d_model, vocab_size=50257, context_length=1024) -> dict:
    sizes = {"n_layer": n_layer, "n_head": n_head, "d_model": d_model}
    return {"dialect": "gpt2", "vocab_size": vocab_size, **sizes, "context_length": context_length}


PRESETS: dict[str, dict] = {  # arguments of GPTConfig; the number in a name is its parameters
    "llama-1m": _llama(2048, n_layer=4, n_head=4, n_kv_head=2, d_model=128, d_ff=352, context_length=256),
    "llama-2m": _llama(2048, n_layer=4, n_head=6, n_kv_head=2, d_model=192, d_ff=512, context_length=256),
    "llama-6m": _llama(4096, n_layer=6, n_head=8, n_kv_head=4, d_model=256, d_ff=704, context_length=512),
    "llama-10m": _llama(8192, n_layer=6, n_head=5, n_kv_head=5, d_model=320, d_ff=880, context_length=256),
    "llama-350m": _llama(32768, 24, 16, 8, d_model=1024, d_ff=2816, context_length=2048, tie_embeddings=False),
    "llama-1b": _llama(128256, 16, 32, 8, d_model=2048, d_ff=8192, context_length=8192, rope_theta=500000.0),
    "gpt2-1m": _gpt2(n_layer=4, n_head=4, d_model=128, vocab_size=2048, context_length=256),
    "gpt2-124m": _gpt2(n_layer=12, n_head=12, d_model=768),
    "gpt2-350m": _gpt2(n_layer=24, n_head=16, d_model=1024),
    "gpt2-774m": _gpt2(n_layer=36, n_head=20, d_model=1280),
    "gpt2-1.5b": _gpt2(n_layer=48, n_head=25, d_model=1600),
}


def preset(name: str, **changes) -> GPTConfig:
    """The named size with some fields changed, such as `vocab_size`. Raises ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    return GPTConfig(**{**PRESETS[name], **changes})


class KVCache:
    """Room for `length` tokens of `batch_size` rows; `GPT.forward(..., cache=cache)` appends what it is given.

    Keys and values are (n_layer, B, K, length, E); `is_pad_BS` remembers padding among the `used` tokens.
    """

    def __init__(self, config: GPTConfig, batch_size: int, length: int, *, device=None, dtype=None):
        shape = (config.n_layer, batch_size, config.n_kv_head, length, config.head_dim)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.is_pad_BS = torch.zeros(batch_size, length, dtype=torch.bool, device=device)
        self.used = 0

    @property
    def length(self) -> int:
        return self.keys.shape[3]

    def append(self, layer: int, key_BKTE: Tensor, value_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        """Writes one layer's new keys and values behind the `used` ones; returns all of them, (B, K, S, E)."""
        end = self.used + key_BKTE.shape[2]
        self.keys[layer, :, :, self.used : end] = key_BKTE
        self.values[layer, :, :, self.used : end] = value_BKTE
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


def default_position_ids(n_tokens: int, is_pad_BS: Tensor | None, document_ids_BT: Tensor | None) -> Tensor:
    """Position of each of the last `n_tokens` tokens: counted from 0 at the first one that is not padding, and anew in
    each packed document. (B, T) or (1, T) long; 0 at padding."""
    if document_ids_BT is not None:
        index_T = torch.arange(document_ids_BT.shape[1], device=document_ids_BT.device)
        is_start_BT = torch.ones_like(document_ids_BT, dtype=torch.bool)
        is_start_BT[:, 1:] = document_ids_BT[:, 1:] != document_ids_BT[:, :-1]
        return index_T - torch.where(is_start_BT, index_T, 0).cummax(dim=1).values
    return ((~is_pad_BS).long().cumsum(dim=1) - 1).clamp(min=0)[:, -n_tokens:]


def rotary_table(config: GPTConfig, device=None) -> Tensor:
    """cos and sin of position x frequency, theta^(-2i/E) for pair i: (2, context_length, E) float32; both halves of the
    last dimension are the same, since pair i is the dimensions i and i + E/2. Source: arXiv:2104.09864, eq. 34."""
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=device) / config.head_dim
    frequency = 1.0 / config.rope_theta**exponent
    angle = torch.arange(config.context_length, dtype=torch.float32, device=device)[:, None] * frequency
    angle = torch.cat([angle, angle], dim=-1)
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x_BHTE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each pair (x_i, x_{i+E/2}) by its position's angle; cos and sin are (B or 1, 1, T, E)."""
    first, second = x_BHTE.chunk(2, dim=-1)
    return x_BHTE * cos + torch.cat([-second, first], dim=-1) * sin


def make_norm(config: GPTConfig) -> nn.Module:
    kind = nn.LayerNorm if config.dialect == "gpt2" else nn.RMSNorm
    return kind(config.d_model, eps=config.norm_eps)


class Attention(nn.Module):
    """Causal self-attention; queries, keys and values come from one matrix, in that order of rows."""

    def __init__(self, config: GPTConfig, layer: int):
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        self.n_head, self.n_kv_head = config.n_head, config.n_kv_head
        has_bias = config.dialect == "gpt2"
        self.qkv = nn.Linear(config.d_model, (config.n_head + 2 * config.n_kv_head) * config.head_dim, bias=has_bias)
        self.out = nn.Linear(config.n_head * config.head_dim, config.d_model, bias=has_bias)

    def forward(self, x_BTD: Tensor, rotary: tuple[Tensor, Tensor] | None, mask: Tensor | None, cache: KVCache | None):
        heads = self.qkv(x_BTD).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        q, k, v = heads.split([self.n_head, self.n_kv_head, self.n_kv_head], dim=1)
        if rotary is not None:
            cos, sin = rotary[0].to(q.dtype), rotary[1].to(q.dtype)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
        return self.out(attend(q, k, v, mask).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """gpt2: out(gelu(in(x))); llama: out(silu(gate(x)) * up(x)), gate and up being the two halves of one matrix."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.is_gated = config.dialect == "llama"
        self.inner = nn.Linear(config.d_model, config.d_ff * (2 if self.is_gated else 1), bias=not self.is_gated)
        self.out = nn.Linear(config.d_ff, config.d_model, bias=not self.is_gated)

    def forward(self, x_BTD: Tensor) -> Tensor:
        if not self.is_gated:
            return self.out(F.gelu(self.inner(x_BTD), approximate="tanh"))
        gate, up = self.inner(x_BTD).chunk(2, dim=-1)
        return self.out(F.silu(gate) * up)


class Block(nn.Module):
    def __init__(self, config: GPTConfig, layer: int):
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.mlp_norm = make_norm(config)
        self.mlp = MLP(config)

    def forward(self, x_BTD: Tensor, rotary=None, mask=None, cache=None, is_read_BT=None) -> Tensor:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), rotary, mask, cache)
        if is_read_BT is not None:
            x_BTD = x_BTD[is_read_BT]  # (N, D) from here on
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))


class GPT(nn.Module):
    _no_split_modules = ("Block",)  # transformers' name for the units of FSDP; accelerate splits by it

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Embedding(config.context_length, config.d_model) if config.dialect == "gpt2" else None
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.norm = make_norm(config)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        rotary = rotary_table(config) if config.dialect == "llama" else None
        self.register_buffer("rotary", rotary, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal(0, init_std) weights, zero biases, norms at 1; the two matrices of a block that write into the residual
        stream get init_std / sqrt(2 n_layer), so that its variance does not grow with depth (GPT-2, section 2.3)."""
        residual_std = self.config.init_std / math.sqrt(2 * self.config.n_layer)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=residual_std if name.endswith(".out") else self.config.init_std)
                if getattr(module, "bias", None) is not None:
                    nn.init.zeros_(module.bias)

    def _apply(self, function, recurse=True):
        """Moves and casts as any module, but the rotary table is made anew: exact in float32 whatever the weights are."""
        super()._apply(function, recurse)
        if self.rotary is not None:
            self.rotary = rotary_table(self.config, self.rotary.device)
        return self

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        targets_BT: Tensor | None = None,
        position_ids_BT: Tensor | None = None,
        is_pad_BT: Tensor | None = None,
        document_ids_BT: Tensor | None = None,
        is_seen_BTT: Tensor | None = None,
        is_read_BT: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Next-token logits (B, T, V) for each position, or, given targets, the mean cross-entropy in nats (a scalar).

        targets_BT: token that should follow at each position (the caller shifts), IGNORED_TARGET to leave it out.
        is_pad_BT: padding, on either side; what follows it is numbered and answered as if it were not there.
        document_ids_BT: packed rows; a token sees only earlier ones of its own document, and counts from 0 in each.
        is_seen_BTT: rows of any other build, such as answers that share a prompt; True where the first of two tokens sees the second, an
        earlier one or itself. Position ids go with it, and take the place of the count of tokens in what the context allows.
        is_read_BT: the N positions whose logits are wanted, (N, V): the last layer spares the others what only they would need.
        cache: the tokens continue those in it, and are appended.
        Raises ValueError where the tokens run past the context or the cache, or packing is mixed with padding or a cache.
        """
        n_tokens = tokens_BT.shape[1]
        n_past = 0 if cache is None else cache.used
        if is_seen_BTT is None:
            self._check_room(n_tokens, n_past, is_pad_BT, document_ids_BT, cache)
        is_pad_BS = is_pad_BT
        if cache is not None:
            if is_pad_BT is not None:
                cache.is_pad_BS[:, n_past : n_past + n_tokens] = is_pad_BT
            is_pad_BS = cache.is_pad_BS[:, : n_past + n_tokens]
        mask = None if is_seen_BTT is None else is_seen_BTT[:, None]  # None: SDPA's own causal path
        if document_ids_BT is not None or is_pad_BS is not None:
            mask = attention_mask(n_tokens, is_pad_BS, document_ids_BT, tokens_BT.device)
            if position_ids_BT is None:
                position_ids_BT = default_position_ids(n_tokens, is_pad_BS, document_ids_BT)
        x_BTD = self.embedding(tokens_BT)
        rotary = None
        if self.positions is None:
            table = self.rotary[:, None, :n_tokens] if position_ids_BT is None else self.rotary[:, position_ids_BT]
            rotary = tuple(table[:, :, None])
        elif position_ids_BT is None:
            x_BTD = x_BTD + self.positions.weight[:n_tokens]
        else:
            x_BTD = x_BTD + self.positions(position_ids_BT)
        for number, block in enumerate(self.blocks, start=1):
            read = is_read_BT if number == len(self.blocks) else None
            if self.config.gradient_checkpointing and self.training and torch.is_grad_enabled():
                x_BTD = checkpoint(block, x_BTD, rotary, mask, None, read, use_reentrant=False)
            else:
                x_BTD = block(x_BTD, rotary, mask, cache, read)
        if cache is not None:
            cache.used += n_tokens
        x_BTD = self.norm(x_BTD)
        if targets_BT is None:
            return self.head(x_BTD)
        logits = self.head(x_BTD).flatten(0, 1).float()
        return F.cross_entropy(logits, targets_BT.flatten(), ignore_index=IGNORED_TARGET)

    def _check_room(self, n_tokens, n_past, is_pad_BT, document_ids_BT, cache) -> None:
        if n_past + n_tokens > self.config.context_length and is_pad_BT is None:
            raise ValueError(
                f"{n_past + n_tokens} tokens are more than the context_length of {self.config.context_length}; cut the input"
            )
        if document_ids_BT is not None and (is_pad_BT is not None or cache is not None):
            raise ValueError(
                "document_ids_BT goes with neither is_pad_BT nor a cache; give padding a document of its own"
            )
        if cache is not None and n_past + n_tokens > cache.length:
            raise ValueError(
                f"{n_past + n_tokens} tokens do not fit the cache of {cache.length}; make a longer KVCache"
            )
        if cache is not None and self.config.gradient_checkpointing and self.training and torch.is_grad_enabled():
            raise ValueError("a cache cannot be filled under gradient checkpointing; call model.eval() first")
