"""Attention in float32 inside a bf16 model, for CPUs on which bf16 attention is slow.

torch 2.13's fused attention has a fast bf16 backward only with AMX tiles. With AVX512-BF16 alone, 4,096 tokens of 6 heads of width 32 in
sequences of 256, 180 and 53 take 64, 80 and 69 ms of one core, forward and backward, but 49, 40 and 21 ms by way of float32. The matrix
products around it stay in bf16, where they are two to three times faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    import transformers

NAME = "sdpa_float32"


def use_float32_attention(model: transformers.PreTrainedModel) -> None:
    """Make a model whose attention is "sdpa" compute it in float32 whatever the autocast; any other is left as it is.

    The choice lives in memory alone: a saved config does not name it."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, _attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def pays_here() -> bool:
    """Is this a CPU that multiplies bf16 but has no AMX tiles?"""
    import torch

    from base_model.precision import find_device

    return find_device().type == "cpu" and not torch.cpu._is_amx_tile_supported()


def _attention(module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask, **options):
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    with torch.autocast(query.device.type, enabled=False):
        output, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **options)
    return output.to(query.dtype), None
