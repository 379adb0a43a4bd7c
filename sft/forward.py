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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sft.examples import IGNORED

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SPLITTING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")  # set by `accelerate launch` where weights are split
UNKNOWN = ("past_key_values", "inputs_embeds", "output_hidden_states", "output_attentions", "token_type_ids")
ROUND_TOKENS = 16  # rows of few lengths: each new one costs a kernel


def ease_forward(model: PreTrainedModel, precision: str, *, has_pairs: bool = False) -> None:
    """Let our GPT compute the hidden states of a model that it speaks, on a CPU; any other gets `sft.attention.ease_attention` alone.

    has_pairs: the second half of a batch answers the first half's prompts, so that each prompt is computed once.
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
    model.base_model.forward = _GPTForward(model, config, has_pairs)


class _GPTForward:
    """`forward` of a backbone (LlamaModel, GPT2Model) by a GPT without weights of its own."""

    def __init__(self, model: PreTrainedModel, config: Any, has_pairs: bool) -> None:
        import torch

        from base_model.gpt import GPT, rotary_table

        self.model, self.config, self.has_pairs, self.theirs = model, config, has_pairs, model.base_model.forward
        with torch.device("meta"):
            self.gpt = GPT(config)
        self.gpt.head = torch.nn.Identity()
        if config.dialect == "llama":
            self.gpt.rotary = rotary_table(config)

    def __call__(self, input_ids=None, attention_mask=None, position_ids=None, use_cache=None, is_read_BT=None, **more):
        """As the backbone's own. is_read_BT: whose hidden states are wanted; the others may be 0."""
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        places = None
        is_whole = use_cache is False and input_ids is not None and input_ids.shape[1] <= self.config.context_length
        if is_whole and not any(more.get(name) is not None for name in UNKNOWN):
            places = _places(input_ids, attention_mask, position_ids)
        tensors = None if places is None else self._tensors()
        if tensors is None:
            options = {"attention_mask": attention_mask, "position_ids": position_ids, "use_cache": use_cache, **more}
            return self.theirs(input_ids, **options)
        if is_read_BT is None:
            is_read_BT = self._is_scored(input_ids)
        branched = _Branched.of(input_ids, attention_mask) if self.has_pairs and places == {} else None
        tokens_BT = input_ids
        if branched is not None:
            tokens_BT, places, is_read_BT = branched.tokens_BT, branched.places, branched.taken(is_read_BT)
        hidden = torch.func.functional_call(self.gpt, tensors, (tokens_BT,), {**places, "is_read_BT": is_read_BT})
        if is_read_BT is not None:
            hidden = hidden.new_zeros(*tokens_BT.shape, hidden.shape[-1]).masked_scatter(is_read_BT[..., None], hidden)
        if branched is not None:
            hidden = branched.put_back(hidden)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden)

    def _tensors(self) -> dict[str, torch.Tensor] | None:
        """The weights of the pass, a function of the model's; None where only transformers' layers do what the model asks for."""
        import torch

        from base_model.hf import trained_tensors

        if not self._is_plain():
            return None
        with torch.autocast(self.model.device.type, enabled=False), contextlib.suppress(ValueError):
            return trained_tensors(self.model, self.config)  # ValueError: an adapter that is not read there
        return None

    def _is_scored(self, input_ids: torch.Tensor) -> torch.Tensor | None:
        """The one position of a row that a classification head of transformers reads: the last that is not the pad id."""
        import torch

        pad_id = self.model.config.pad_token_id
        if not type(self.model).__name__.endswith("ForSequenceClassification") or pad_id is None:
            return None
        place_T = torch.arange(input_ids.shape[1], dtype=torch.int32, device=input_ids.device)
        last_B = (place_T * (input_ids != pad_id)).argmax(dim=1)
        return place_T == last_B[:, None]

    def _is_plain(self) -> bool:
        """Nothing is in the model that transformers' layers would do and GPT does not."""
        import torch

        is_training = self.model.training
        if is_training and getattr(self.model.config, "attention_dropout", 0.0):
            return False
        for module in self.model.base_model.modules():
            drops = isinstance(module, torch.nn.Dropout) and module.p > 0
            recomputes = getattr(module, "gradient_checkpointing", False)
            has_hooks = module._forward_hooks or module._forward_pre_hooks
            if has_hooks or (is_training and (drops or recomputes)):
                return False
        return True


def _places(input_ids, attention_mask, position_ids) -> dict[str, torch.Tensor] | None:
    """What tells GPT where each token stands and whom it sees, as transformers reads the same; None: nothing that GPT has."""
    import torch

    if attention_mask is None:
        if position_ids is None:
            return {}
        # positions that do not go on by one begin another sequence, as in transformers.masking_utils
        breaks_BS = position_ids.diff(dim=1) != 1
        documents_BT = torch.nn.functional.pad(breaks_BS.cumsum(dim=1), (1, 0))
        return {"position_ids_BT": position_ids, "document_ids_BT": documents_BT.expand_as(input_ids)}
    if attention_mask.shape != input_ids.shape:
        return None
    is_seen_BT = attention_mask.bool()
    if bool((is_seen_BT[:, 1:] <= is_seen_BT[:, :-1]).all()):  # padding on the right is seen by no token
        return {} if position_ids is None else {"position_ids_BT": position_ids}
    if position_ids is None:
        position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
    return {"position_ids_BT": position_ids.expand_as(input_ids), "is_pad_BT": ~is_seen_BT}


@dataclass(frozen=True)
class _Branched:
    """Pairs of rows as one row each: what both begin with, the rest of the first, the rest of the second. P pairs, S tokens of such a row.

    A token of the second rest sees the common beginning and its own rest, and stands where it stood in its row."""

    tokens_BT: torch.Tensor  # (P, S), padded on the right with what is seen by nobody
    places: dict[str, torch.Tensor]  # for GPT
    row_2PT: torch.Tensor  # of each token of the pairs' rows: its row here
    place_2PT: torch.Tensor  # and its place in it

    @classmethod
    def of(cls, tokens_2PT: torch.Tensor, attention_mask: torch.Tensor | None) -> _Branched | None:
        """None where it would not save a tenth of the tokens. Rows p and P + p are a pair; padding is on the right."""
        import torch

        from base_model.sequence import round_up

        if attention_mask is None or len(tokens_2PT) % 2:
            return None
        device, n_tokens = tokens_2PT.device, tokens_2PT.shape[1]
        first_PT, second_PT = tokens_2PT.chunk(2)
        is_first_PT, is_second_PT = attention_mask.bool().chunk(2)
        is_common_PT = (first_PT == second_PT) & is_first_PT & is_second_PT
        common_P1 = is_common_PT.int().cumprod(dim=1).sum(dim=1, keepdim=True)
        length_P1 = is_first_PT.sum(dim=1, keepdim=True)
        whole_P1 = length_P1 + is_second_PT.sum(dim=1, keepdim=True) - common_P1
        width = round_up(int(whole_P1.max()), ROUND_TOKENS)
        if width > 0.9 * 2 * n_tokens:
            return None
        place_S = torch.arange(width, device=device)
        is_rest_PS = place_S >= length_P1  # of the second row
        position_PS = torch.where(is_rest_PS, common_P1 + place_S - length_P1, place_S).clamp(max=n_tokens - 1)
        tokens_PS = torch.where(is_rest_PS, second_PT.gather(1, position_PS), first_PT.gather(1, position_PS))
        is_apart_PSS = is_rest_PS[:, :, None] & ~is_rest_PS[:, None, :] & (place_S >= common_P1)[:, None, :]
        is_seen_PSS = (place_S[:, None] >= place_S) & ~is_apart_PSS
        place_T = torch.arange(n_tokens, device=device)
        second_place_PT = torch.where(place_T < common_P1, place_T, length_P1 - common_P1 + place_T).clamp(
            max=width - 1
        )
        return cls(
            tokens_PS,
            {"position_ids_BT": position_PS, "is_seen_BTT": is_seen_PSS},
            torch.arange(len(first_PT), device=device).repeat(2)[:, None],
            torch.cat([place_T.clamp(max=width - 1).expand_as(first_PT), second_place_PT]),
        )

    def taken(self, is_read_2PT: torch.Tensor | None) -> torch.Tensor | None:
        """The same marks in the rows here: a place that either row of a pair reads."""
        if is_read_2PT is None:
            return None
        is_read_PS = is_read_2PT.new_zeros(self.tokens_BT.shape)
        is_read_PS[self.row_2PT.expand_as(self.place_2PT)[is_read_2PT], self.place_2PT[is_read_2PT]] = True
        return is_read_PS

    def put_back(self, hidden_PSD: torch.Tensor) -> torch.Tensor:
        """What was computed here, for each token of the pairs' rows, (2P, T, D); anything where there was padding."""
        return hidden_PSD[self.row_2PT, self.place_2PT]


def ease_head(model: Any, *, has_mean_logits: bool = False) -> None:
    """Let a model whose forward pass is our GPT's score learnt tokens alone where TRL asks for its fused head.

    Call it after TRL has added that head. The same log-probabilities, entropies and hits, and mean logits where they are wanted, in the
    same output (`trl.trainer.utils.FusedCausalLMOutput`), zero where the label is -100."""
    import torch

    from base_model.hf import unwrap

    model = unwrap(model)
    if not isinstance(model.base_model.forward, _GPTForward):
        return
    theirs = model.forward

    @functools.wraps(type(model).forward)  # trainers and generation read the signature
    def forward(self, *args, fused_lm_head=False, labels=None, **options):
        if not fused_lm_head or labels is None or "shift_labels" in options or "num_items_in_batch" in options:
            return theirs(*args, fused_lm_head=fused_lm_head, labels=labels, **options)
        is_read_BT = torch.nn.functional.pad(labels[:, 1:] != IGNORED, (0, 1))
        options |= {"use_cache": False, "is_read_BT": is_read_BT}
        hidden_BTD = self.base_model(*args, **options).last_hidden_state
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
