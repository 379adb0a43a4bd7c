"""Low-rank adapters: attach, save, merge, and prove that the merged model is the adapted one.

LoRA (arXiv:2106.09685) trains W' = W + s B A with W frozen, A (r, d_in) random and B (d_out, r) zero, so that the adapted model starts
as its parent; s = lora_alpha / r, or lora_alpha / sqrt(r) with rsLoRA (arXiv:2312.03732). DoRA (arXiv:2402.09353) also trains the length
of every row of W'. QLoRA (arXiv:2305.14314) keeps W in 4-bit NF4. All of it is PEFT's; here are the settings, and the checks around them.

LoRA leaves the embedding as it is, and a token that the parent never met would keep its random row for good. The rows of such tokens
are trained whole beside the adapter (PEFT's `trainable_token_indices`), in the embedding and in a head of its own.

Field names follow TRL's `ModelConfig`. Shapes: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing torch and peft takes seconds; `--help` does without
    import peft
    import torch
    import transformers


@dataclass(frozen=True)
class LoRAConfig:
    """How the weights are tuned. `use_peft=False` is full fine-tuning, and then nothing else here matters."""

    use_peft: bool = True  # train low-rank adapters; False: every weight
    lora_r: int = 16  # rank of the update
    lora_alpha: float = 32.0  # the update is scaled by lora_alpha / lora_r
    lora_dropout: float = 0.0  # on the adapter's input
    lora_target_modules: list[str] | None = None  # names of linear layers; None: all of them but the output head
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
        target_modules=config.lora_target_modules or "all-linear",
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
    )


def load_parent(model: str | Path, config: LoRAConfig | None = None, *, dtype: str = "float32"):
    """The parent causal language model, from a folder or hub id, in 4 bits where `config.load_in_4bit` says so.

    Raises ValueError if 4-bit weights are asked for where CUDA or bitsandbytes is missing.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if config is None or not config.load_in_4bit:
        return AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    return AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.bfloat16, quantization_config=four_bit_config(), device_map={"": torch.cuda.current_device()}
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


def load_adapted(parent: Path | str, adapter: Path | str) -> peft.PeftModel:
    """A saved adapter on its parent's own weights, in float32 on the CPU, in evaluation mode."""
    from peft import PeftConfig, PeftModel

    model = load_parent(parent)
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
) -> MergeCheck:
    """Load the parent with the adapter, and the merged checkpoint, from their files, in float32 on the CPU, and compare them on `prompts`.

    Raises ValueError, naming the largest difference or the first prompt whose greedy continuation differs, if they are not one model.
    """
    import torch

    if not prompts:
        raise ValueError("verify_merge needs at least one prompt")
    adapted, plain = load_adapted(parent, adapter), load_parent(merged).eval()
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
            settings = {
                "max_new_tokens": max_new_tokens,
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
