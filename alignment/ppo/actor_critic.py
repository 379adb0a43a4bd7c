"""Policy, reference and critic as one module with one `forward`, so that DDP and FSDP wrap them once.

Any transformers causal LM is a policy. Only the places that predict a response token reach the LM head: a hook in front of it
picks them out of (B, T, D) as one packed (N, D), and whatever the model does to its logits afterwards (scaling, soft-capping)
still happens. No (B, T, V) tensor of prompts and padding is ever made. The critic reads the same places: its value there is
that of the state BEFORE the token predicted there.

Rows are prompt + response, padded on the right, where causal attention never looks: no mask and no position ids are needed,
and the left-padding mistakes of PPO trainers (positions that count padding) have nowhere to happen.

Dropout is off at all times, LoRA's included, by keeping every module in eval mode: otherwise the probability ratio is not 1
before the first step.

Legend: B rows, T tokens of prompt + response, N response tokens of all rows packed one after another, D width, V vocabulary.
"""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from base_model.sequence import aligned_logprobs, entropy_nats, round_up

REFERENCE_ADAPTER = "reference"
PLACE_STEP = 64  # places that reach the head at once are a multiple of it
# For torch.compile on a CPU: what takes more than 8 operations to make is kept where it is used again. By default (30) the cosines of the
# rotary embedding are computed anew in every layer and head: an update of a 2 M model takes 0.73 s instead of 0.70.
REUSE = {"realize_opcount_threshold": 8}


class TokenOutputs(NamedTuple):
    """Per response token, (N,) float32; None where not asked for."""

    logprob_N: Tensor
    value_N: Tensor | None = None
    entropy_N: Tensor | None = None


class ActorCritic(nn.Module):
    """policy: a causal LM or PeftModel.
    reference: a frozen causal LM; or, for a PeftModel, the name of a frozen adapter, or None: its adapter switched off.
    critic: a transformer trunk of its own, or None: the value head reads the policy's.
    temperature: divides every logit, the reference's too."""

    def __init__(
        self,
        policy: nn.Module,
        value_head: nn.Linear,
        *,
        reference: nn.Module | str | None,
        critic: nn.Module | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.policy, self.critic, self.value_head = policy, critic, value_head
        self.reference = reference if isinstance(reference, nn.Module) else None
        self.reference_adapter = reference if isinstance(reference, str) else None
        self.temperature = temperature
        self._aligned_logprobs, self._entropy_nats = aligned_logprobs, entropy_nats
        self._no_split_modules = getattr(policy, "_no_split_modules", None)  # FSDP shards along these
        self.train(False)

    def compile_parts(self, trunks: Iterable[nn.Module], *, on_cpu: bool) -> None:
        """Let torch compile what takes the time: each trunk, in place (names in checkpoints stay), and the passes over V."""
        for trunk in trunks:
            trunk.compile(options=REUSE if on_cpu else None)
        self._aligned_logprobs = torch.compile(aligned_logprobs)
        self._entropy_nats = torch.compile(entropy_nats)

    def train(self, mode: bool = True) -> "ActorCritic":
        """Stays in eval mode whatever is asked (no dropout); only gradient checkpointing is told that training goes on."""
        from transformers.modeling_layers import GradientCheckpointingLayer

        super().train(False)
        for module in self.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.training = True
        return self

    def forward(
        self,
        tokens_BT: Tensor,
        place_N: Tensor,
        target_N: Tensor,
        *,
        reference: bool = False,
        want_value: bool = True,
        want_entropy: bool = False,
        value_trains_trunk: bool = True,
    ) -> TokenOutputs:
        """Log-probabilities of the response tokens at the sampling temperature, and on request values and entropies.

        place_N: index into the flattened (B*T) places of the token before each response token; target_N: that response token.
        value_trains_trunk False: the values send no gradient into a trunk (critic-only warm-up of a shared one)."""
        n_tokens = len(place_N)
        fill = (0, round_up(n_tokens, PLACE_STEP) - n_tokens)
        place_N, target_N = F.pad(place_N, fill), F.pad(target_N, fill)  # with the first place; cut off again below
        if reference:
            with self._as_reference():
                model = self.policy if self.reference is None else self.reference
                logits_NV, _ = packed_logits(model, tokens_BT, place_N)
                return TokenOutputs(self._logprobs(logits_NV, target_N)[:n_tokens])
        logits_NV, hidden_ND = packed_logits(self.policy, tokens_BT, place_N)
        logprob_N = self._logprobs(logits_NV, target_N)[:n_tokens]
        entropy_N = self._entropy_nats(self._tempered(logits_NV))[:n_tokens] if want_entropy else None
        if not want_value:
            return TokenOutputs(logprob_N, None, entropy_N)
        if self.critic is not None:
            hidden_ND = self.critic(**model_inputs(tokens_BT)).last_hidden_state.flatten(0, 1).index_select(0, place_N)
        elif not value_trains_trunk:
            hidden_ND = hidden_ND.detach()
        return TokenOutputs(logprob_N, self._values(hidden_ND)[:n_tokens], entropy_N)

    def _as_reference(self):
        return nullcontext() if self.reference is not None else adapter(self.policy, self.reference_adapter)

    def _tempered(self, logits_NV: Tensor) -> Tensor:
        return logits_NV if self.temperature == 1.0 else logits_NV.float() / self.temperature

    def _logprobs(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        return self._aligned_logprobs(self._tempered(logits_NV), target_N)

    def _values(self, hidden_ND: Tensor) -> Tensor:
        with torch.autocast(hidden_ND.device.type, enabled=False):  # a bfloat16 value would have 3 digits
            weight_1D, bias_1 = self.value_head.weight, self.value_head.bias
            return hidden_ND.float() @ weight_1D[0].float() + bias_1.float()

    def policy_parameters(self) -> list[nn.Parameter]:
        """What the policy's optimizer trains: with a shared critic the trunk too is here, the value head is not."""
        return [parameter for parameter in self.policy.parameters() if parameter.requires_grad]

    def critic_parameters(self) -> list[nn.Parameter]:
        """What the critic's optimizer trains: the value head, and the trunk of a separate critic."""
        trunk = [] if self.critic is None else [p for p in self.critic.parameters() if p.requires_grad]
        return [*trunk, *self.value_head.parameters()]


def packed_logits(model: nn.Module, tokens_BT: Tensor, place_N: Tensor) -> tuple[Tensor, Tensor]:
    """(logits_NV, hidden_ND) at the flattened places `place_N` alone; equal to the full forward's there.

    Raises ValueError for a model whose forward does not call its output embedding layer on (B, T, D) states."""
    head, caught = output_head(model), []

    def pick(module: nn.Module, inputs: tuple) -> tuple:
        hidden_BTD = inputs[0]
        if hidden_BTD.shape[:-1] == tokens_BT.shape:
            caught.append(hidden_BTD.flatten(0, 1).index_select(0, place_N))
            return (caught[-1].unsqueeze(0), *inputs[1:])
        return inputs

    handle = head.register_forward_pre_hook(pick)
    try:
        logits_1NV = model(**model_inputs(tokens_BT)).logits
    finally:
        handle.remove()
    if len(caught) != 1 or logits_1NV.shape[:2] != (1, len(place_N)):
        raise ValueError(
            f"{type(model).__name__} does not pass its hidden states through get_output_embeddings(); PPO needs a causal LM "
            "whose LM head is a module that its forward calls once"
        )
    return logits_1NV.squeeze(0), caught[0]


def model_inputs(tokens_BT: Tensor) -> dict[str, Any]:
    """Arguments of a transformers forward for rows padded on the right: nothing needs masking (a mask of ones says so)."""
    return {"input_ids": tokens_BT, "attention_mask": torch.ones_like(tokens_BT), "use_cache": False}


def output_head(model: nn.Module) -> nn.Module:
    """The LM head module. Raises ValueError where there is none."""
    model = model.get_base_model() if is_peft(model) else model
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is None:
        raise ValueError(
            f"{type(model).__name__} has no output embeddings; PPO's policy must be a causal language model"
        )
    return head


def is_peft(model: nn.Module) -> bool:
    """Whether the model is a PeftModel (peft is imported only by who uses it)."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


@contextmanager
def adapter(model: nn.Module, name: str | None) -> Iterator[None]:
    """The PeftModel with adapter `name` in force (None: with none), and afterwards as it was."""
    if name is None:
        with model.disable_adapter():
            yield
        return
    active = model.active_adapter
    model.set_adapter(name)
    try:
        yield
    finally:
        model.set_adapter(active)


def build_policy(model: nn.Module, peft_config: Any, ref_model: nn.Module | None) -> tuple[nn.Module, Any]:
    """(policy, reference) ready for ActorCritic.

    peft_config given: the adapter is attached here, the reference is the adapter switched off.
    A PeftModel: its adapter goes on learning, the reference is a frozen copy of that adapter as it came.
    Else every weight learns, the reference is a frozen copy of the model; `ref_model` overrides any of these.
    Raises ValueError for a PeftModel with a peft_config, a prompt-learning adapter, or ref_model being the model itself."""
    if ref_model is model:
        raise ValueError(
            "ref_model is the policy itself: it would move with it; leave it out and a frozen copy is made"
        )
    if is_peft(model) and peft_config is not None:
        raise ValueError(
            "the model already has an adapter and peft_config asks for another; merge the first "
            "(model.merge_and_unload()) so that the reference is the model without the new one, or leave peft_config out"
        )
    reference: Any = ref_model
    if peft_config is not None:
        from peft import get_peft_model

        model = get_peft_model(model, peft_config)
    elif is_peft(model):
        if ref_model is None:
            reference = _copy_adapter(model)
    elif ref_model is None:
        reference = copy.deepcopy(model)
    if is_peft(model) and any(config.is_prompt_learning for config in model.peft_config.values()):
        raise ValueError("prompt-learning adapters lengthen the row, so places would shift; use LoRA or full weights")
    if isinstance(reference, nn.Module):
        reference.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("no parameter of the policy is trainable; load the adapter with is_trainable=True")
    return model, reference


def _copy_adapter(model: nn.Module) -> str:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    active = model.active_adapter
    model.add_adapter(REFERENCE_ADAPTER, model.peft_config[active])
    weights = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(model, adapter_name=active).items()}
    set_peft_model_state_dict(model, weights, adapter_name=REFERENCE_ADAPTER)
    model.set_adapter(active)
    return REFERENCE_ADAPTER


def build_critic(policy: nn.Module, kind: str, value_model: Any = None) -> tuple[nn.Module | None, nn.Linear]:
    """(trunk or None, value head) of a "shared" or "separate" critic.

    shared: the policy's trunk with a new head, started at zero. separate: a copy of `value_model`, a one-label sequence
    classifier (its head's scores centred and scaled by reward_mean and reward_std of its config), or, without one, a copy of
    the policy's trunk with a head at zero. Call it before an adapter is attached.
    Raises ValueError for a value_model with other labels or another vocabulary."""
    width = policy.config.get_text_config().hidden_size
    if kind == "shared":
        if value_model is not None:
            raise ValueError("a value_model is given but critic is 'shared'; set critic='separate' to use it")
        return None, _linear_head(torch.zeros(1, width))
    if value_model is None:
        start = copy.deepcopy(policy)
        trunk = _trunk(start.merge_and_unload() if is_peft(start) else start)
        return trunk.requires_grad_(True), _linear_head(torch.zeros(1, width))
    if getattr(value_model.config, "num_labels", None) != 1 or not hasattr(value_model, "score"):
        raise ValueError(
            "the separate critic must start from a sequence classifier with one label and a `score` head, got "
            f"{type(value_model).__name__} with {getattr(value_model.config, 'num_labels', None)} labels"
        )
    ours, theirs = (model.config.get_text_config().vocab_size for model in (policy, value_model))
    if ours != theirs:
        raise ValueError(
            f"the critic reads the policy's tokens, but value_model has {theirs} tokens and the policy {ours}; "
            "start it from a model with the policy's tokenizer, or leave value_model out"
        )
    mean = getattr(value_model.config, "reward_mean", 0.0)
    std = getattr(value_model.config, "reward_std", 1.0)
    score = value_model.score
    bias = torch.zeros(1) if score.bias is None else score.bias.detach().float()
    head = _linear_head(score.weight.detach().float() / std, (bias - mean) / std)
    return copy.deepcopy(_trunk(value_model)).requires_grad_(True), head


def _trunk(model: nn.Module) -> nn.Module:
    return getattr(model, model.base_model_prefix)


def _linear_head(weight_1D: Tensor, bias_1: Tensor | None = None) -> nn.Linear:
    head = nn.Linear(weight_1D.shape[1], 1, device=weight_1D.device)
    with torch.no_grad():
        head.weight.copy_(weight_1D)
        head.bias.copy_(torch.zeros(1) if bias_1 is None else bias_1)
    return head


def set_gradient_checkpointing(module: ActorCritic) -> None:
    """Recompute activations in the backward pass of every trunk that trains. Raises ValueError where a model can't."""
    for trained in (module.policy, module.critic):
        if trained is None:
            continue
        if not getattr(trained, "supports_gradient_checkpointing", False):
            raise ValueError(f"{type(trained).__name__} does not support gradient_checkpointing; set it to false")
        trained.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    module.train()
