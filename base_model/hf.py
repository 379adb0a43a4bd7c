"""To and from stock Hugging Face classes: `GPT2LMHeadModel` and `LlamaForCausalLM`, no remote code.

Both sides hold the same numbers in another arrangement: GPT-2's matrices are transposed (its `Conv1D`), and Llama keeps queries,
keys, values, gate and up in separate matrices where `GPT` has them stacked. `layout` is the whole correspondence; everything
else here reads it. What a `GPT` does not have (rotary scaling, attention biases, other activations) is refused by name.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from base_model.gpt import GPT, GPTConfig, rotary_table
from base_model.loading import load_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ARCHITECTURES = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM"}


@dataclass(frozen=True)
class Source:
    """Where a tensor of a `GPT` is in a Hugging Face model: stacked from these, in this order of rows."""

    names: tuple[str, ...]
    rows: tuple[int, ...] | None = None  # of each of several names
    is_transposed: bool = False


def layout(config: GPTConfig) -> dict[str, Source]:
    """{name in `GPT`: Source in the Hugging Face model}, for every parameter; a tied head has no entry."""
    table: dict[str, Source] = {}

    def add(ours: str, *theirs: str, parts=("weight",), rows=None, is_transposed=False) -> None:
        for part in parts:
            names = tuple(f"{name}.{part}" for name in theirs)
            table[f"{ours}.{part}"] = Source(names, rows, is_transposed and part == "weight")

    if config.dialect == "gpt2":
        both = ("weight", "bias")
        add("embedding", "transformer.wte")
        add("positions", "transformer.wpe")
        for i in range(config.n_layer):
            ours, theirs = f"blocks.{i}", f"transformer.h.{i}"
            add(f"{ours}.attention_norm", f"{theirs}.ln_1", parts=both)
            add(f"{ours}.attention.qkv", f"{theirs}.attn.c_attn", parts=both, is_transposed=True)
            add(f"{ours}.attention.out", f"{theirs}.attn.c_proj", parts=both, is_transposed=True)
            add(f"{ours}.mlp_norm", f"{theirs}.ln_2", parts=both)
            add(f"{ours}.mlp.inner", f"{theirs}.mlp.c_fc", parts=both, is_transposed=True)
            add(f"{ours}.mlp.out", f"{theirs}.mlp.c_proj", parts=both, is_transposed=True)
        add("norm", "transformer.ln_f", parts=both)
    else:
        kv_rows = config.n_kv_head * config.head_dim
        add("embedding", "model.embed_tokens")
        for i in range(config.n_layer):
            ours, theirs = f"blocks.{i}", f"model.layers.{i}"
            add(f"{ours}.attention_norm", f"{theirs}.input_layernorm")
            qkv = (f"{theirs}.self_attn.{name}_proj" for name in "qkv")
            add(f"{ours}.attention.qkv", *qkv, rows=(config.n_head * config.head_dim, kv_rows, kv_rows))
            add(f"{ours}.attention.out", f"{theirs}.self_attn.o_proj")
            add(f"{ours}.mlp_norm", f"{theirs}.post_attention_layernorm")
            gate_up = (f"{theirs}.mlp.{name}_proj" for name in ("gate", "up"))
            add(f"{ours}.mlp.inner", *gate_up, rows=(config.d_ff, config.d_ff))
            add(f"{ours}.mlp.out", f"{theirs}.mlp.down_proj")
        add("norm", "model.norm")
    if not config.tie_embeddings:
        add("head", "lm_head")
    return table


# ---------------------------------------------------------------------------------------------------------- configuration


def config_from_hf(config) -> GPTConfig:
    """The `GPTConfig` of a transformers GPT-2 or Llama config. Raises ValueError naming each setting that `GPT` does not have."""
    dialect = config.model_type
    if dialect not in ARCHITECTURES:
        raise ValueError(f"model_type is {dialect!r}; only gpt2 and llama checkpoints can be read")
    common = {
        "dialect": dialect,
        "vocab_size": config.vocab_size,
        "n_layer": config.num_hidden_layers,
        "n_head": config.num_attention_heads,
        "d_model": config.hidden_size,
        "context_length": config.max_position_embeddings,
        "tie_embeddings": config.tie_word_embeddings,
        "init_std": config.initializer_range,
    }
    needed = {"quantization_config": (None,)}
    if dialect == "gpt2":
        needed |= {
            "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "add_cross_attention": (False,),
        }
        _refuse_settings(config, needed)
        return GPTConfig(**common, d_ff=config.n_inner, norm_eps=config.layer_norm_epsilon)
    rope = config.rope_parameters
    needed |= {"hidden_act": ("silu", "swish"), "attention_bias": (False,), "mlp_bias": (False,)}
    _refuse_settings(config, needed)
    if rope.get("rope_type", "default") != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError(
            f"the checkpoint has rotary scaling, rope_parameters={rope}; only rope_type 'default' can be read"
        )
    return GPTConfig(
        **common,
        n_kv_head=config.num_key_value_heads,
        head_dim=config.head_dim,
        d_ff=config.intermediate_size,
        rope_theta=float(rope["rope_theta"]),
        norm_eps=config.rms_norm_eps,
    )


def _refuse_settings(config, needed: dict[str, tuple]) -> None:
    wrong = [
        f"{name}={getattr(config, name)!r} (only {' or '.join(map(repr, values))})"
        for name, values in needed.items()
        if getattr(config, name, values[0]) not in values
    ]
    if wrong:
        raise ValueError(f"the checkpoint has settings that GPT does not speak: {', '.join(wrong)}")


def config_to_hf(config: GPTConfig, **token_ids: int | None):
    """The transformers config of a `GPTConfig`, every dropout 0; token_ids are `pad_token_id` and the like."""
    from transformers import GPT2Config, LlamaConfig

    common = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "max_position_embeddings": config.context_length,
        "initializer_range": config.init_std,
        "tie_word_embeddings": config.tie_embeddings,
        **{"pad_token_id": None, "bos_token_id": None, "eos_token_id": None, **token_ids},
    }
    if config.dialect == "gpt2":
        no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        return GPT2Config(**common, **no_dropout, n_inner=config.d_ff, layer_norm_epsilon=config.norm_eps)
    return LlamaConfig(
        **common,
        intermediate_size=config.d_ff,
        num_key_value_heads=config.n_kv_head,
        head_dim=config.head_dim,
        rms_norm_eps=config.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
    )


# -------------------------------------------------------------------------------------------------------------- weights


def unwrap(model: nn.Module) -> nn.Module:
    """The transformers model inside a `PeftModel`, whose adapted layers stay as they are; any other model itself."""
    peft = sys.modules.get("peft")
    return model.get_base_model() if peft is not None and isinstance(model, peft.PeftModel) else model


def shared_tensors(model: nn.Module) -> tuple[GPTConfig, dict[str, tuple[Tensor, ...]]]:
    """The weights of a `GPT`, a transformers GPT-2 or Llama, or a LoRA `PeftModel` over one, without copying them.

    {parameter name in `GPT`: tensors that stacked along dimension 0 make it}: the model's own storage, so later training steps
    show; only a layer with an active LoRA adapter gives a new tensor, its effective weight. The head is what the model's head holds:
    the config that is returned says tied where that is the embedding, whatever the model's own config says.
    Raises ValueError as `config_from_hf` and `effective_parameter` do, and for an adapter that lengthens the prompt."""
    peft = sys.modules.get("peft")
    if peft is not None and isinstance(model, peft.PeftModel) and model.active_peft_config.is_prompt_learning:
        raise ValueError("its adapter lengthens the prompt, which is not read here")
    model = unwrap(model)
    if isinstance(model, GPT):
        tensors = {name: (parameter.data,) for name, parameter in model.named_parameters()}
        tensors.setdefault("head.weight", tensors["embedding.weight"])
        return model.config, tensors
    config = replace(config_from_hf(model.config), tie_embeddings=False)
    tensors = {}
    for ours, source in layout(config).items():
        found = (effective_parameter(model, name) for name in source.names)
        tensors[ours] = tuple(tensor.t() if source.is_transposed else tensor for tensor in found)
    (embedding,), (head,) = tensors["embedding.weight"], tensors["head.weight"]
    is_tied = head.data_ptr() == embedding.data_ptr() and head.shape == embedding.shape
    return replace(config, tie_embeddings=is_tied), tensors


def effective_parameter(model: nn.Module, name: str, *, trained: bool = False) -> Tensor:
    """The parameter that the model's forward pass uses under a plain name such as `model.layers.0.mlp.up_proj.weight`:
    W + sum of scaling * B A over the active LoRA adapters of that layer, or the copy, or rows, that an adapter trains in its place.
    trained: as a function of what is trained, with a gradient.

    Raises ValueError for other kinds of adapter (merge those first), also for one that is off, or merged and off."""
    path, _, part = name.rpartition(".")
    module = model.get_submodule(path)
    peft = sys.modules.get("peft")
    if peft is not None and isinstance(module, peft.utils.ModulesToSaveWrapper):
        is_on = not module.disable_adapters and any(each in module.modules_to_save for each in module.active_adapters)
        module = module.modules_to_save[module.active_adapters[0]] if is_on else module.original_module
    holds_rows = peft is not None and isinstance(
        module, peft.utils.other.TrainableTokensWrapper
    )  # trained in their place
    if holds_rows or part in module._parameters:  # no wrapper of PEFT's has any of its own
        found = getattr(module, part)
        return found if trained else found.data
    if type(module) not in (peft.tuners.lora.Linear, peft.tuners.lora.Embedding):
        raise ValueError(f"{path} has an adapter that is not read here ({type(module).__name__}); merge it first")
    if module.merged and module.disable_adapters:
        raise ValueError(f"{path} has an adapter that is merged and switched off; unmerge it first")
    weight = getattr(module.get_base_layer(), part)
    weight = weight if trained else weight.data
    for adapter in [] if module.disable_adapters or module.merged else module.active_adapters:
        if adapter not in module.scaling:
            continue  # an adapter of other layers
        if adapter in module.lora_variant or module.lora_bias[adapter]:
            raise ValueError(
                f"{path} has a LoRA variant (DoRA or a bias) that is not read here; merge the adapter first"
            )
        if part == "weight":
            delta = module.get_delta_weight(adapter).to(weight.dtype)
            weight = weight + (delta if trained else delta.detach())
    return weight


def trained_tensors(model: nn.Module, config: GPTConfig) -> dict[str, Tensor]:
    """Every parameter of a `GPT` but its head's, as a function of the parameters of the Hugging Face model (adapters applied).

    A gradient of one reaches what is trained of the other. Raises ValueError as `effective_parameter` does."""
    tensors = {}
    for ours, source in layout(config).items():
        if ours != "head.weight":
            parts = [effective_parameter(model, name, trained=True) for name in source.names]
            stacked = parts[0] if len(parts) == 1 else torch.cat(parts)
            tensors[ours] = stacked.t() if source.is_transposed else stacked
    return tensors


def from_hf(hf_model: nn.Module) -> GPT:
    """A `GPT` on the weights of a transformers GPT-2 or Llama (or a LoRA model over one, adapters applied).

    Shares the tensors where the layouts allow: all of GPT-2's; Llama's except the stacked qkv and gate/up, which are copies.
    Raises ValueError as `config_from_hf` does."""
    config, tensors = shared_tensors(hf_model)
    with torch.device("meta"):
        model = GPT(config)
    stacked = {name: parts[0] if len(parts) == 1 else torch.cat(parts) for name, parts in tensors.items()}
    model.load_state_dict(stacked, assign=True)
    if config.tie_embeddings:
        model.head.weight = model.embedding.weight
    if config.dialect == "llama":
        model.rotary = rotary_table(config, device=stacked["embedding.weight"].device)
    return model.train(hf_model.training)


def to_hf(model: GPT, **token_ids: int | None) -> PreTrainedModel:
    """A new `GPT2LMHeadModel` or `LlamaForCausalLM` on the CPU with copies of the model's weights, in its dtype, in eval mode."""
    import transformers

    config = config_to_hf(model.config, **token_ids)
    with torch.random.fork_rng(devices=[]):  # its constructor draws initial weights
        hf_model = getattr(transformers, ARCHITECTURES[model.config.dialect])(config)
    ours = dict(model.named_parameters())
    hf_model.to(ours["embedding.weight"].dtype)
    with torch.no_grad():
        for name, source in layout(model.config).items():
            tensor = ours[name].detach()
            parts = (tensor,) if source.rows is None else tensor.split(source.rows)
            for their_name, part in zip(source.names, parts, strict=True):
                hf_model.get_parameter(their_name).copy_(part.t() if source.is_transposed else part)
    return hf_model.eval()


# ---------------------------------------------------------------------------------------------------------- checkpoints


@torch.no_grad()
def largest_logit_difference(model: GPT, hf_model: nn.Module) -> float:
    """max |difference| of the two models' logits, each in float32, over max(1, max |logit|), on two random rows of tokens."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, min(64, model.config.context_length))
    tokens_BT = torch.randint(model.config.vocab_size, shape, generator=generator)
    logits = []
    for each in (model, hf_model):
        weight = next(each.parameters())
        each = each if weight.dtype == torch.float32 else copy.deepcopy(each).float()
        output = each(tokens_BT.to(weight.device))
        logits.append(getattr(output, "logits", output).cpu())
    ours, theirs = logits
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1)).item()


def refuse_difference(model: GPT, hf_model: nn.Module, what: str, tolerance: float) -> None:
    """Raises ValueError naming the largest difference where it is above the tolerance, or not a number."""
    difference = largest_logit_difference(model, hf_model)
    if not difference <= tolerance:
        raise ValueError(
            f"refusing {what}: its logits and the {ARCHITECTURES[model.config.dialect]}'s differ by up to "
            f"{difference:.3g} of the largest logit (allowed: {tolerance:g})"
        )


def export_checkpoint(
    model: GPT, tokenizer: PreTrainedTokenizerBase, folder: Path | str, *, tolerance: float = 1e-4
) -> Path:
    """Write a stock checkpoint: config, safetensors, tokenizer and generation_config (pad, bos and eos ids from the tokenizer).

    Raises ValueError, and writes nothing, where the exported model's logits differ by more than `tolerance` of the largest one
    (float32 rounding is about 1e-6), or where the tokenizer has ids that the model has not."""
    from transformers import GenerationConfig

    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens, the model only vocab_size {model.config.vocab_size}; "
            "they do not belong together"
        )
    token_ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    hf_model = to_hf(model, **token_ids)
    refuse_difference(model, hf_model, f"to write {folder}", tolerance)
    hf_model.generation_config = GenerationConfig(**token_ids)
    hf_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def import_checkpoint(folder: Path | str, *, dtype: torch.dtype | None = None, tolerance: float = 1e-4) -> GPT:
    """Read a GPT-2 or Llama checkpoint folder (safetensors, sharded or not), in its own dtype unless told another.

    Raises FileNotFoundError where there is no config.json, and ValueError for a model that `GPT` does not speak, for weights that
    are missing or of another shape, and where the logits differ from transformers' by more than `tolerance` of the largest one."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json; give the folder of a Hugging Face checkpoint")
    config_from_hf(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(f"{folder} has no .safetensors weights; other formats can run code and are not read")
    hf_model = load_model(AutoModelForCausalLM, folder, dtype=dtype or "auto")
    model = from_hf(hf_model)
    if hf_model.config.tie_word_embeddings and not model.config.tie_embeddings:
        raise ValueError(
            f"{folder}: config.json says that the head is tied to the embedding, and the weights hold another one; "
            "set tie_word_embeddings to false"
        )
    refuse_difference(model, hf_model, f"to read {folder}", tolerance)
    return model
