"""Attention in float32 inside a bf16 model, on a CPU, where rows are short.

torch 2.13's fused attention is slow backwards in bf16 on a CPU. One core, forward and backward, 4 heads of width 32, milliseconds in bf16
and in float32: with AMX tiles 16 rows of 64 tokens 8.7 and 1.7, 16 of 180 tokens 31 and 10, 8 of 256 tokens 12.7 and 8.7, 4 of 512 17.6
and 14.7, 2 of 1,024 17.5 and 19.9; with AVX512-BF16 alone (6 heads, 4,096 tokens) rows of 256 64 and 49, of 53 69 and 21. The matrix
products around it stay in bf16, where they are two to three times faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    import transformers

NAME = "sdpa_float32"
LONGEST_WITH_AMX = 512  # tokens; AMX tiles win back the lead in longer rows


def ease_attention(model: transformers.PreTrainedModel, precision: str) -> None:
    """`use_float32_attention` where it pays: in bf16 on a CPU."""
    from base_model.precision import find_device

    if precision == "bf16" and find_device().type == "cpu":
        use_float32_attention(model)


def use_float32_attention(model: transformers.PreTrainedModel) -> None:
    """Make a model whose attention is "sdpa" compute it in float32 whatever the autocast; any other is left as it is.

    The choice lives in memory alone: a saved config does not name it."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, _attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def _attention(module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask, **options):
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if query.shape[2] > LONGEST_WITH_AMX and torch.cpu._is_amx_tile_supported():
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    with torch.autocast(query.device.type, enabled=False):
        output, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **options)
    return output.to(query.dtype), None
