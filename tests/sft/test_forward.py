"""Training's forward pass by our GPT: transformers' and TRL's numbers, and their own way for all that GPT does not know."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from trl.trainer.utils import add_fused_lm_head

from sft.forward import ease_forward, ease_head
from tests.conftest import random_model

VOCABULARY = 100
PACKED = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 0, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8]])
PADDED_RIGHT = torch.tensor([[1] * 6 + [0] * 3, [1] * 9])
INPUTS = {
    "bare": {},
    "packed": {"position_ids": PACKED},
    "padded on the right": {"attention_mask": PADDED_RIGHT},
    "padded on the left": {"attention_mask": PADDED_RIGHT.flip(1)},
    "padded on the left, placed": {"attention_mask": PADDED_RIGHT.flip(1), "position_ids": torch.arange(9)[None]},
}


@pytest.fixture
def tokens_BT():
    return torch.randint(VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))


def adapted(model, **more):
    """A LoRA model whose adapter does something."""
    torch.manual_seed(3)
    model = get_peft_model(model, LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM", **more))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model


def pair_of(dialect, adapter=None):
    """(transformers' own, the same eased), with or without an adapter."""
    theirs = random_model(dialect, VOCABULARY).train()
    ours = copy.deepcopy(theirs)
    ease_forward(ours, "fp32")
    return tuple(adapted(model) if adapter else model for model in (theirs, ours))


def is_eased(model, tokens_BT, monkeypatch, **inputs):
    """Whether GPT, and not transformers' layers, computes a pass."""
    backbone = model.get_base_model().base_model if hasattr(model, "peft_config") else model.base_model
    calls = []
    theirs = backbone.forward.theirs
    monkeypatch.setattr(backbone.forward, "theirs", lambda *a, **o: calls.append(1) or theirs(*a, **o))
    model(tokens_BT, **{"use_cache": False, **inputs})
    return not calls


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "LoRA"])
@pytest.mark.parametrize("name", INPUTS)
def test_logits_and_gradients_are_transformers(dialect, adapter, name, tokens_BT, monkeypatch):
    """To float32 rounding; where a padded place is not read, its logits are nobody's business."""
    theirs, ours = pair_of(dialect, adapter)
    inputs = INPUTS[name]
    is_read = inputs.get("attention_mask", torch.ones_like(tokens_BT)).bool()
    logits = [model(tokens_BT, use_cache=False, **inputs).logits[is_read] for model in (theirs, ours)]
    torch.testing.assert_close(logits[1], logits[0], atol=1e-5, rtol=1e-5)
    for each in logits:
        each.square().mean().backward()
    for (key, a), b in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), key
        if a.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, atol=1e-5, rtol=1e-4, msg=lambda text, key=key: f"{key}: {text}")
    assert is_eased(ours, tokens_BT, monkeypatch, **inputs)


def test_with_its_adapter_switched_off_it_is_the_parent(dialect, tokens_BT):
    theirs, ours = pair_of(dialect, adapter=True)
    with torch.no_grad(), theirs.disable_adapter(), ours.disable_adapter():
        logits = [model(tokens_BT, use_cache=False).logits for model in (theirs, ours)]
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)


def _with_dropout(model):
    return adapted(model, lora_dropout=0.5)


def _with_noise(model):
    model.get_input_embeddings().register_forward_hook(lambda module, args, output: output + 1)
    return model


def _with_checkpointing(model):
    model.gradient_checkpointing_enable()
    return model


def _with_dora(model):
    return adapted(model, use_dora=True)


def _with_an_adapted_embedding(model):
    return get_peft_model(model, LoraConfig(r=2, target_modules=["embed_tokens"]))


@pytest.mark.parametrize(
    "change", [_with_dropout, _with_noise, _with_checkpointing, _with_dora, _with_an_adapted_embedding]
)
def test_what_gpt_does_not_know_goes_transformers_way(change, tokens_BT, monkeypatch):
    model = random_model("llama", VOCABULARY).train()
    ease_forward(model, "fp32")
    assert is_eased(model, tokens_BT, monkeypatch)
    assert not is_eased(change(model), tokens_BT, monkeypatch)


@pytest.mark.parametrize(
    "inputs",
    [{"use_cache": True}, {"output_hidden_states": True}, {"attention_mask": torch.ones(2, 1, 9, 9, dtype=torch.bool)}],
    ids=["cache", "hidden states", "a mask of its own"],
)
def test_what_only_transformers_gives_comes_from_it(inputs, tokens_BT, monkeypatch):
    model = random_model("llama", VOCABULARY)
    ease_forward(model, "fp32")
    assert not is_eased(model, tokens_BT, monkeypatch, **inputs)


@pytest.mark.parametrize("name", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_split_weights_stay_with_transformers(name, monkeypatch):
    monkeypatch.setenv(name, "true")
    model = random_model("llama", VOCABULARY)
    ease_forward(model, "fp32")
    assert "forward" not in vars(model.base_model)


def test_a_saved_model_is_the_stock_one(tmp_path, tokens_BT):
    from transformers import AutoModelForCausalLM

    model = random_model("llama", VOCABULARY).eval()
    ease_forward(model, "bf16")
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(again(tokens_BT).logits, model(tokens_BT).logits)
    assert again.config._attn_implementation == "sdpa"


# ------------------------------------------------------------------------------------------------------- the head

FIELDS = ("loss", "log_probs", "entropy", "mean_logits", "is_top1", "label_mask")


def labels_of(tokens_BT, learnt):
    labels_BT = tokens_BT.clone()
    labels_BT[:, learnt:] = -100
    return labels_BT


@pytest.mark.parametrize("learnt", [9, 5, 0], ids=["all", "some", "none"])
def test_the_head_gives_what_trls_gives(dialect, learnt, tokens_BT):
    theirs, ours = pair_of(dialect)
    for model in (theirs, ours):
        add_fused_lm_head(model, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    ease_head(ours, has_mean_logits=True)
    labels_BT = labels_of(tokens_BT, learnt)
    labels_BT[0, 3] = theirs(tokens_BT).logits[0, 2].argmax()  # one hit at least
    results = [model(input_ids=tokens_BT, labels=labels_BT, fused_lm_head=True) for model in (theirs, ours)]
    for field in FIELDS:
        torch.testing.assert_close(results[1][field], results[0][field], atol=1e-5, rtol=1e-5)
    for result in results:
        result.loss.backward()
    for (key, a), b in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, atol=1e-5, rtol=1e-4, msg=lambda text, key=key: f"{key}: {text}")


def test_a_model_that_gpt_does_not_speak_keeps_trls_head():
    model = random_model("llama", VOCABULARY)
    model.config.attention_bias = True
    ease_forward(model, "fp32")
    add_fused_lm_head(model)
    before = model.forward
    ease_head(model)
    assert model.forward is before and "forward" not in vars(model.base_model)
