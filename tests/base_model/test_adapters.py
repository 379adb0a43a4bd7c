"""What is generated with any kind of adapter is the adapted model's: by the own decoder where it knows the kind, else by transformers."""

import peft
import pytest
import torch

from base_model.generate import SamplingConfig, generate, supports
from base_model.hf import from_hf
from tests.conftest import random_model

PROMPTS = [[5, 9, 12, 40], [7, 8, 30]]
LORA = {"task_type": "CAUSAL_LM", "r": 4}
LINEAR = {"target_modules": ["q_proj", "down_proj"]}


def lora(**options):
    return peft.LoraConfig(**LORA, **options)


def other(kind, **options):
    return getattr(peft, kind)(task_type="CAUSAL_LM", **options)


# name: (dialect, is the head tied, adapter, does the own decoder run it)
KINDS = {
    "linear": ("llama", True, lora(**LINEAR, rank_pattern={"down_proj": 8}, use_rslora=True), True),
    "linear of GPT-2": ("gpt2", True, lora(target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, bias="all"), True),
    "embedding": ("llama", False, lora(target_modules=["embed_tokens"]), True),
    "head": ("llama", False, lora(target_modules=["lm_head"]), True),
    "tied embedding": ("llama", True, lora(target_modules=["embed_tokens"]), True),
    "tied head": ("llama", True, lora(target_modules=["lm_head"]), True),
    "tied embedding of GPT-2": ("gpt2", True, lora(target_modules=["wte"]), True),
    "saved head": ("llama", False, lora(**LINEAR, modules_to_save=["lm_head"]), True),
    "saved tied embedding": ("llama", True, lora(**LINEAR, modules_to_save=["embed_tokens"]), True),
    "saved tied head": ("llama", True, lora(**LINEAR, modules_to_save=["lm_head"]), True),
    "saved norm": ("llama", True, lora(**LINEAR, modules_to_save=["input_layernorm"]), True),
    "rows of the embedding": ("llama", True, lora(**LINEAR, trainable_token_indices=[5, 9, 12]), True),
    "DoRA": ("llama", True, lora(**LINEAR, use_dora=True), False),
    "lora_bias": ("gpt2", True, lora(target_modules=["c_attn"], lora_bias=True), False),
    "IA3": ("llama", True, other("IA3Config", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]), False),
    "VeRA": ("llama", True, other("VeraConfig", target_modules=["q_proj"], r=4), False),
    "AdaLoRA": ("llama", True, other("AdaLoraConfig", target_modules=["q_proj"], init_r=4, total_step=10), False),
    "LoHa": ("llama", True, other("LoHaConfig", target_modules=["q_proj"], r=4), False),
    "OFT": ("llama", True, other("OFTConfig", target_modules=["q_proj"], oft_block_size=4), False),
    "TrainableTokens": ("llama", True, other("TrainableTokensConfig", token_indices=[5, 9, 12]), False),
    "prefix": ("llama", True, other("PrefixTuningConfig", num_virtual_tokens=3), False),
}  # fmt: skip


def greedy(model, **options):
    """transformers' own tokens, prompt by prompt."""
    rows = [torch.tensor([prompt]) for prompt in PROMPTS]
    how = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    made = [model.generate(input_ids=row, attention_mask=torch.ones_like(row), **how, **options) for row in rows]
    return [one[0, len(prompt) :].tolist() for one, prompt in zip(made, PROMPTS, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_generated_is_the_adapted_models(kind):
    dialect, is_tied, config, is_own = KINDS[kind]
    base, generator = random_model(dialect, 61, seed=4), torch.Generator().manual_seed(1)
    with torch.no_grad():  # or it repeats the prompt's last token, whatever the adapter
        for parameter in base.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    if not is_tied:
        base.config.tie_word_embeddings = False
        base.lm_head.weight = torch.nn.Parameter(base.lm_head.weight.detach().flip(0).clone())
    plain = greedy(base)
    model = peft.get_peft_model(base, config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.6 * torch.randn(parameter.shape, generator=generator))
    expected = greedy(model)
    assert expected != plain, "the adapter does something"
    assert supports(model) is is_own
    assert generate(model, PROMPTS, SamplingConfig(12, greedy=True), pad_id=0).responses() == expected


def test_a_head_that_is_not_the_embedding_is_used_whatever_the_config_says():
    """A merged LoRA of a trained embedding: config.json says tied, the file has a head of its own, and transformers keeps the two apart."""
    model = random_model("llama", 61, seed=4)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().flip(0).clone())
    assert model.config.tie_word_embeddings and supports(model)
    expected = greedy(model)
    assert generate(model, PROMPTS, SamplingConfig(12, greedy=True), pad_id=0).responses() == expected
    ours = from_hf(model)
    assert not ours.config.tie_embeddings
    assert generate(ours, PROMPTS, SamplingConfig(12, greedy=True), pad_id=0).responses() == expected
