"""The forward pass of training on a CPU: our GPT computes it on the trained model's own parameters, the head scores learnt tokens alone.

transformers' layers compute many small products one after another, each LoRA layer four more, and cast what each of them reads. `GPT`
stacks queries, keys and values, and gate and up, and has attention for short rows (`base_model/attention.py`). Its weights are made anew
for every pass from the model's own, adapters folded in (W + s B A), so that gradients reach what is trained, and optimizer, checkpoints,
PEFT and TRL see the model that they know. TRL's head takes every position's logits five times over on a CPU, prompts and padding too.

Whatever `GPT` does not know goes the old way: other architectures, dropout, hooks (NEFTune's noise), checkpointed layers, DoRA, caches.

Shapes: B rows, T tokens, N learnt tokens, D width, V vocabulary.
"""

from __future__ import annotations

import contextlib
import functools
import os
import types
from typing import TYPE_CHECKING, Any

from sft.examples import IGNORED

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SPLITTING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")  # set by `accelerate launch` where weights are split
UNKNOWN = ("past_key_values", "inputs_embeds", "output_hidden_states", "output_attentions", "token_type_ids")


def ease_forward(model: PreTrainedModel, precision: str) -> None:
    """Let our GPT compute the hidden states of a model that it speaks, on a CPU; any other gets `sft.attention.ease_attention` alone.

    Weights, state and saved files stay the model's own; adapters may be put on afterwards."""
    from base_model.hf import config_from_hf
    from base_model.precision import find_device
    from sft.attention import ease_attention

    ease_attention(model, precision)
    if find_device().type != "cpu" or any(os.environ.get(name, "").lower() in ("1", "true") for name in SPLITTING):
        return
    try:
        config = config_from_hf(model.config)
    except ValueError:
        return
    model.base_model.forward = _GPTForward(model, config)


class _GPTForward:
    """`forward` of a backbone (LlamaModel, GPT2Model) by a GPT without weights of its own."""

    def __init__(self, model: PreTrainedModel, config: Any) -> None:
        import torch

        from base_model.gpt import GPT, rotary_table

        self.model, self.config, self.theirs = model, config, model.base_model.forward
        with torch.device("meta"):
            self.gpt = GPT(config)
        self.gpt.head = torch.nn.Identity()
        if config.dialect == "llama":
            self.gpt.rotary = rotary_table(config)

    def __call__(self, input_ids=None, attention_mask=None, position_ids=None, use_cache=None, **more):
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        from base_model.hf import trained_tensors

        places = None
        if use_cache is False and input_ids is not None and not any(more.get(name) is not None for name in UNKNOWN):
            places = self._places(input_ids, attention_mask, position_ids)
        tensors = None
        if places is not None and self._is_plain():
            with torch.autocast(input_ids.device.type, enabled=False), contextlib.suppress(ValueError):
                tensors = trained_tensors(self.model, self.config)  # ValueError: an adapter that is not read there
        if tensors is None:
            options = {"attention_mask": attention_mask, "position_ids": position_ids, "use_cache": use_cache, **more}
            return self.theirs(input_ids, **options)
        hidden_BTD = torch.func.functional_call(self.gpt, tensors, (input_ids,), places)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden_BTD)

    def _places(self, input_ids, attention_mask, position_ids) -> dict[str, Any] | None:
        """What tells GPT where each token stands and whom it sees, as transformers reads the same; None: nothing that GPT has."""
        import torch

        n_tokens = input_ids.shape[1]
        if n_tokens > self.config.context_length:
            return None
        if attention_mask is None:
            if position_ids is None:
                return {}
            # positions that do not go on by one begin another sequence, as in transformers.masking_utils
            breaks_BS = position_ids.diff(dim=1) != 1
            documents_BT = torch.nn.functional.pad(breaks_BS.cumsum(dim=1), (1, 0))
            return {"position_ids_BT": position_ids, "document_ids_BT": documents_BT.expand_as(input_ids)}
        if attention_mask.ndim != 2 or attention_mask.shape != input_ids.shape:
            return None
        is_seen_BT = attention_mask.bool()
        if bool((is_seen_BT[:, 1:] <= is_seen_BT[:, :-1]).all()):  # padding on the right is seen by no token
            return {} if position_ids is None else {"position_ids_BT": position_ids}
        if position_ids is None:
            position_ids = torch.arange(n_tokens, device=input_ids.device)[None]
        return {"position_ids_BT": position_ids.expand_as(input_ids), "is_pad_BT": ~is_seen_BT}

    def _is_plain(self) -> bool:
        """Nothing is in the model that transformers' layers would do and GPT does not."""
        import torch

        is_training = self.model.training
        if is_training and getattr(self.model.config, "attention_dropout", 0.0):
            return False
        for module in self.model.base_model.modules():
            drops = isinstance(module, torch.nn.Dropout) and module.p > 0
            recomputes = getattr(module, "gradient_checkpointing", False)
            has_variant = (
                getattr(module, "lora_variant", None)
                or any(getattr(module, "lora_bias", {}).values())
                or len(getattr(module, "lora_embedding_A", ()))
            )
            has_hooks = module._forward_hooks or module._forward_pre_hooks
            if has_hooks or has_variant or (is_training and (drops or recomputes)):
                return False
        return True


def ease_head(model: Any, *, has_mean_logits: bool = False) -> None:
    """Let a model whose forward pass is our GPT's score learnt tokens alone where TRL asks for its fused head.

    Call it after TRL has added that head. The same log-probabilities, entropies and hits, and mean logits where they are wanted, in the
    same output (`trl.trainer.utils.FusedCausalLMOutput`), zero where the label is -100."""
    from base_model.hf import unwrap

    model = unwrap(model)
    if not isinstance(model.base_model.forward, _GPTForward):
        return
    theirs = model.forward

    @functools.wraps(type(model).forward)  # trainers and generation read the signature
    def forward(self, *args, fused_lm_head=False, labels=None, **options):
        if not fused_lm_head or labels is None or "shift_labels" in options or "num_items_in_batch" in options:
            return theirs(*args, fused_lm_head=fused_lm_head, labels=labels, **options)
        hidden_BTD = self.base_model(*args, **{**options, "use_cache": False}).last_hidden_state
        return _score(hidden_BTD[:, :-1], self.get_output_embeddings(), labels[:, 1:], has_mean_logits)

    model.forward = types.MethodType(forward, model)


def _score(hidden_BSD: torch.Tensor, head: torch.nn.Module, labels_BS: torch.Tensor, has_mean_logits: bool):
    """What TRL's fused head gives, S = T - 1 positions a row."""
    import torch
    from trl.trainer.utils import FusedCausalLMOutput

    is_learnt_BS = labels_BS != IGNORED
    hidden_ND, labels_N1 = hidden_BSD[is_learnt_BS], labels_BS[is_learnt_BS][:, None]
    weight_VD, bias = head.weight, getattr(head, "bias", None)
    logprobs_NV = torch.nn.functional.linear(hidden_ND, weight_VD, bias).float().log_softmax(dim=-1)
    logprobs_N = logprobs_NV.gather(1, labels_N1)[:, 0]

    def placed(values_N: torch.Tensor) -> torch.Tensor:
        return values_N.new_zeros(labels_BS.shape).masked_scatter(is_learnt_BS, values_N)

    with torch.no_grad():
        entropy_N = -torch.linalg.vecdot(logprobs_NV.exp(), logprobs_NV)
        is_top1_N = logprobs_NV.argmax(dim=-1) == labels_N1[:, 0]
        mean_logits = None
        if has_mean_logits:
            mean_bias = 0.0 if bias is None else bias.mean()
            mean_logits = placed((hidden_ND.float() @ weight_VD.float().mean(dim=0)) + mean_bias)
    logprobs_BS = placed(logprobs_N)
    return FusedCausalLMOutput(
        loss=-logprobs_BS.sum() / is_learnt_BS.sum().clamp(min=1),
        log_probs=logprobs_BS,
        entropy=placed(entropy_N),
        mean_logits=mean_logits,
        is_top1=placed(is_top1_N),
        label_mask=is_learnt_BS,
    )
