"""Low-rank adapters: attach, save, merge, and prove that the merged model is the adapted one.

LoRA (arXiv:2106.09685) trains W' = W + s B A with W frozen, A (r, d_in) random and B (d_out, r) zero, so that the adapted model starts
as its parent; s = lora_alpha / r, or lora_alpha / sqrt(r) with rsLoRA (arXiv:2312.03732). DoRA (arXiv:2402.09353) also trains the length
of every row of W'. QLoRA (arXiv:2305.14314) keeps W in 4-bit NF4. All of it is PEFT's; here are the settings, and the checks around them.

LoRA leaves the embedding as it is, and a token that the parent never met would keep its random row for good. The rows of such tokens
are trained whole beside the adapter (PEFT's `trainable_token_indices`), in the embedding and in a head of its own.

Field names follow TRL's `ModelConfig`. Shapes: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing torch and peft takes seconds; `--help` does without
    import peft
    import torch
    import transformers


ALL_LINEAR = "all-linear"  # every linear layer but the output head


@dataclass(frozen=True)
class LoRAConfig:
    """How the weights are tuned. `use_peft=False` is full fine-tuning, and then nothing else here matters."""

    use_peft: bool = True  # train low-rank adapters; False: every weight
    lora_r: int = 16  # rank of the update
    lora_alpha: float = 32.0  # the update is scaled by lora_alpha / lora_r
    lora_dropout: float = 0.0  # on the adapter's input
    lora_target_modules: list[str] | None = None  # names of layers; None: all linear ones but the output head
    use_rslora: bool = False  # scale by lora_alpha / sqrt(lora_r): ranks stay comparable
    use_dora: bool = False  # also train the length of each weight row
    load_in_4bit: bool = False  # QLoRA: the frozen weights in NF4; needs CUDA and bitsandbytes
    train_new_tokens: bool = True  # beside the adapter, the rows of tokens in the data that the parent never met

    def __post_init__(self):
        if self.lora_r < 1:
            raise ValueError(f"lora_r is a rank and must be at least 1, got {self.lora_r}")
        if self.lora_alpha <= 0:
            raise ValueError(f"lora_alpha must be above 0, got {self.lora_alpha}: at 0 the adapter has no effect")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora_dropout is a probability in [0, 1), got {self.lora_dropout}")
        if not self.use_peft:
            for name in ("use_dora", "use_rslora", "load_in_4bit"):
                if getattr(self, name):
                    raise ValueError(f"{name} needs use_peft: full fine-tuning has no adapter and no 4-bit weights")


def peft_config(
    config: LoRAConfig, token_ids: Sequence[int] = (), layers: Sequence[str] = ("embed_tokens",)
) -> peft.LoraConfig:
    """The `peft.LoraConfig` for these settings on a causal language model.

    token_ids: tokens whose rows in `layers` (names of the embedding, and of a head that is not tied to it) are trained as well."""
    from peft import LoraConfig

    return LoraConfig(
        trainable_token_indices={layer: sorted(token_ids) for layer in layers} if token_ids else None,
        task_type="CAUSAL_LM",
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=ALL_LINEAR if config.lora_target_modules in (None, [ALL_LINEAR]) else config.lora_target_modules,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
    )


def load_parent(model: str | Path, config: LoRAConfig | None = None, *, dtype: str = "float32"):
    """The parent causal language model, from a folder or hub id, in 4 bits where `config.load_in_4bit` says so.

    Raises ValueError if 4-bit weights are asked for where CUDA or bitsandbytes is missing, if the checkpoint lacks weights, and where
    `config` names layers that it can't adapt.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from base_model.loading import load_model

    how = {"dtype": dtype}
    if config is not None and config.load_in_4bit:
        how = {"dtype": torch.bfloat16, "quantization_config": four_bit_config()}
        how["device_map"] = {"": torch.cuda.current_device()}
    parent = load_model(AutoModelForCausalLM, model, **how)
    if config is not None:
        check_targets(parent, config)
    return parent


def check_targets(model: transformers.PreTrainedModel, config: LoRAConfig) -> None:
    """Raises ValueError for a name in `lora_target_modules` that no layer of the model has, whose layers have no matrix to adapt, or that
    is an embedding tied to the output head: the one matrix would get two updates, and no merged model could hold both."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    if not config.use_peft or config.lora_target_modules in (None, [ALL_LINEAR]):
        return
    adaptable = (nn.Linear, Conv1D, nn.Embedding)
    modules = dict(model.named_modules())
    known = sorted({path.rpartition(".")[2] for path, module in modules.items() if isinstance(module, adaptable)})
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = head is not None and head.weight is embedding.weight
    for name in config.lora_target_modules:
        found = [module for path, module in modules.items() if path == name or path.endswith(f".{name}")]
        if not any(isinstance(module, adaptable) for module in found):
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(
                f"lora_target_modules: {type(model).__name__} has no layer '{name}' that LoRA can adapt"
                + (f"; did you mean '{near[0]}'?" if near else f"; it has {', '.join(known)}")
            )
        if is_tied and any(module is embedding or module is head for module in found):
            raise ValueError(
                f"lora_target_modules: '{name}' of {type(model).__name__} is tied (embedding and output head are one matrix), so an "
                "adapter on it can't be merged; leave it out, or train every weight (no_use_peft)"
            )


def four_bit_config() -> transformers.BitsAndBytesConfig:
    """QLoRA's storage: NF4, double-quantised, computing in bf16. Raises ValueError without CUDA or bitsandbytes."""
    import importlib.util

    import torch

    if not torch.cuda.is_available():
        raise ValueError(
            "load_in_4bit (QLoRA) needs a CUDA device, and this machine has none; drop the flag to train plain LoRA"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError("load_in_4bit (QLoRA) needs the package bitsandbytes: pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def attach(model: transformers.PreTrainedModel, config: LoRAConfig, token_ids: Sequence[int] = ()) -> peft.PeftModel:
    """Wrap `model` with a fresh adapter: its own weights frozen, only the adapter's trainable. The logits do not change (B = 0).

    token_ids: tokens whose rows in the embedding and the output head are trained too.
    A is drawn from torch's global generator: seed it before. Raises ValueError if a target module is not in the model.
    """
    from peft import get_peft_model, prepare_model_for_kbit_training

    if config.load_in_4bit:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    adapted = get_peft_model(model, peft_config(config, token_ids, token_layers(model)))
    head = adapted.get_base_model().get_output_embeddings()
    if token_ids and head is not None and not hasattr(head, "bias"):
        head.register_parameter("bias", None)  # TRL's fused head reads it, and PEFT's wrapper around the head has none
    return adapted


def token_layers(model: transformers.PreTrainedModel) -> list[str]:
    """Names of the layers with a row for each token: the embedding, and the output head where it has weights of its own.

    A head with a bias is left out: PEFT's wrapper would compute without the bias."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    layers = [embedding]
    if head is not None and head.weight is not embedding.weight and getattr(head, "bias", None) is None:
        layers.append(head)
    return [name for name, module in model.named_modules() if any(module is layer for layer in layers)]


def add_rows(model: transformers.PreTrainedModel, tokens: int) -> int:
    """Give `model` rows for so many tokens, where it has fewer; returns how many were added.

    A new row is the mean of the old ones, so that no new token is likelier than a common one before it is trained (Hewitt 2021,
    https://www.cs.columbia.edu/~johnhew/vocab-expansion.html)."""
    import torch

    had = model.get_input_embeddings().weight.shape[0]
    if tokens <= had:
        return 0
    model.resize_token_embeddings(tokens, mean_resizing=False)
    with torch.no_grad():
        for layer in filter(None, (model.get_input_embeddings(), model.get_output_embeddings())):
            layer.weight[had:] = layer.weight[:had].mean(0)
    return tokens - had


def save_adapter(
    model: peft.PeftModel, folder: Path | str, *, parent: Path | str, weights: dict[str, torch.Tensor] | None = None
) -> Path:
    """Write the adapter alone (safetensors), naming its parent, so that `AutoPeftModelForCausalLM.from_pretrained(folder)` finds both.

    weights: the full state dict of a model whose own is split over processes."""
    for settings in model.peft_config.values():
        settings.base_model_name_or_path = str(parent)
    model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False, state_dict=weights)
    return Path(folder)


def finish_adapter(
    model: peft.PeftModel,
    folder: Path,
    *,
    parent: Path | str,
    prompts: Sequence[Sequence[int]],
    save: Callable[[transformers.PreTrainedModel], None],
    weights: dict[str, torch.Tensor] | None = None,
    load: Callable[[Path | str], transformers.PreTrainedModel] = load_parent,
) -> tuple[transformers.PreTrainedModel, MergeCheck]:
    """How every training of an adapter ends: it is written to `folder`/adapter, read back onto the parent's own weights (full ones, after
    QLoRA), merged, written to `folder` by `save`, and the two on disk are held to each other on `prompts`.

    load: reads parent and merged model (a classifier's, for a reward model). weights: as in `save_adapter`.
    Raises ValueError, as `verify_merge` does, if they are not one model."""
    adapter = save_adapter(model, folder / "adapter", parent=parent, weights=weights)
    merged = merge(load_adapted(parent, adapter, load)).eval()
    save(merged)
    return merged, verify_merge(parent, adapter, folder, prompts, load=load)


def load_adapted(
    parent: Path | str, adapter: Path | str, load: Callable[[Path | str], transformers.PreTrainedModel] = load_parent
) -> peft.PeftModel:
    """A saved adapter on its parent's own weights, in float32 on the CPU, in evaluation mode."""
    from peft import PeftConfig, PeftModel

    model = load(parent)
    rows = PeftConfig.from_pretrained(adapter).trainable_token_indices or {}
    add_rows(model, 1 + max((max(ids) for ids in rows.values()), default=-1))  # tokens added beside the adapter
    return PeftModel.from_pretrained(model, adapter).eval()


def merge(model: peft.PeftModel) -> transformers.PreTrainedModel:
    """The parent's class with the adapter added into its weights; `model` is used up.

    Merge what `load_adapted` gives: after QLoRA that is the adapter on the parent's full weights, which is what a user of the adapter
    loads, not on the 4-bit ones. Raises ValueError if the sum has a NaN or infinity (PEFT's own check)."""
    return model.merge_and_unload(safe_merge=True)


@dataclass(frozen=True)
class MergeCheck:
    """What `verify_merge` measured."""

    largest_difference: float  # of any logit
    tolerance: float
    greedy_tokens_compared: int  # all were equal


def verify_merge(
    parent: Path | str,
    adapter: Path | str,
    merged: Path | str,
    prompts: Sequence[Sequence[int]],
    *,
    tolerance: float = 1e-4,
    max_new_tokens: int = 32,
    load: Callable[[Path | str], transformers.PreTrainedModel] = load_parent,
) -> MergeCheck:
    """Load the parent with the adapter, and the merged checkpoint, from their files, in float32 on the CPU, and compare them on `prompts`:
    their logits, and of causal models the greedy continuations.

    Raises ValueError, naming the largest difference or the first prompt whose greedy continuation differs, if they are not one model.
    """
    import torch

    from base_model.loading import context_length

    if not prompts:
        raise ValueError("verify_merge needs at least one prompt")
    adapted, plain = load_adapted(parent, adapter, load), load(merged).eval()
    largest, compared = 0.0, 0
    with torch.no_grad():
        for number, prompt in enumerate(prompts):
            tokens_BT = torch.tensor([list(prompt)])
            difference = (adapted(tokens_BT).logits - plain(tokens_BT).logits).abs().max().item()
            largest = max(largest, difference)
            if not difference <= tolerance:  # also true for NaN
                raise ValueError(
                    f"the merged model {merged} is not the adapter {adapter} on {parent}: on prompt {number} their logits differ "
                    f"by {difference:.3g}, more than {tolerance:g}"
                )
            new_tokens = min(max_new_tokens, context_length(plain.config, unstated=2**31) - len(prompt))
            if not plain.can_generate() or new_tokens < 1:
                continue
            settings = {
                "max_new_tokens": new_tokens,
                "do_sample": False,
                "attention_mask": torch.ones_like(tokens_BT),
            }
            ours_BT, theirs_BT = (model.generate(input_ids=tokens_BT, **settings) for model in (plain, adapted))
            if not torch.equal(ours_BT, theirs_BT):
                raise ValueError(
                    f"the merged model {merged} does not continue prompt {number} as the adapter {adapter} on {parent} does: greedy "
                    f"tokens {ours_BT[0, len(prompt) :].tolist()} and {theirs_BT[0, len(prompt) :].tolist()}"
                )
            compared += ours_BT.shape[1] - len(prompt)
    return MergeCheck(largest, tolerance, compared)
