"""Training's forward pass by our GPT: transformers' and TRL's numbers, and their own way for all that GPT does not know."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from trl.trainer.utils import add_fused_lm_head

from sft.forward import ease_forward, ease_head
from tests.conftest import random_model

VOCABULARY = 100
FIELDS = ("loss", "log_probs", "entropy", "mean_logits", "is_top1", "label_mask")  # of TRL's fused head
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
    settings = {"r": 3, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **more}
    model = get_peft_model(model, LoraConfig(**settings))
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
    return tuple(model if adapter is None else adapted(model, **adapter) for model in (theirs, ours))


def assert_same_gradients(theirs, ours):
    """To float32 rounding, and of the same parameters."""
    for (key, a), b in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), key
        if a.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, atol=1e-5, rtol=1e-4, msg=lambda text, key=key: f"{key}: {text}")


def is_eased(model, tokens_BT, monkeypatch, **inputs):
    """Whether GPT, and not transformers' layers, computes a pass."""
    backbone = model.get_base_model().base_model if hasattr(model, "peft_config") else model.base_model
    calls = []
    theirs = backbone.forward.theirs
    monkeypatch.setattr(backbone.forward, "theirs", lambda *a, **o: calls.append(1) or theirs(*a, **o))
    model(tokens_BT, **{"use_cache": False, **inputs})
    return not calls


@pytest.mark.parametrize("adapter", [None, {}], ids=["full", "LoRA"])
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
    assert_same_gradients(theirs, ours)
    assert is_eased(ours, tokens_BT, monkeypatch, **inputs)


@pytest.mark.parametrize(
    "adapter", [{"trainable_token_indices": [3, 5]}, {"target_modules": ["embed_tokens", "q_proj"]}]
)
def test_an_embedding_that_an_adapter_changes_is_read(adapter, tokens_BT, monkeypatch):
    """Rows of tokens that are trained whole, in the head tied to it too; and LoRA on all of it."""
    theirs, ours = pair_of("llama", adapter)
    with torch.no_grad():
        for model in (theirs, ours):
            torch.manual_seed(4)
            for name, parameter in model.named_parameters():
                if "trainable_tokens_delta" in name or "lora_embedding" in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    tokens_BT[0, :2] = torch.tensor([3, 5])
    logits = [model(tokens_BT, use_cache=False).logits for model in (theirs, ours)]
    torch.testing.assert_close(logits[1], logits[0], atol=1e-5, rtol=1e-5)
    for each in logits:
        each.square().mean().backward()
    assert_same_gradients(theirs, ours)
    assert is_eased(ours, tokens_BT, monkeypatch)


def test_with_its_adapter_switched_off_it_is_the_parent(dialect, tokens_BT):
    theirs, ours = pair_of(dialect, adapter={})
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


@pytest.mark.parametrize("change", [_with_dropout, _with_noise, _with_checkpointing, _with_dora])
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


# ---------------------------------------------------------------------------------------------------------- pairs

PROMPTS = [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [1, 11, 12, 13, 14, 15], [1, 2, 3]]
CHOSEN = [[20, 21], [22, 23, 24, 25, 26, 27], []]  # the third is the beginning of what was rejected
REJECTED = [[30, 21, 32, 33], [34], [35, 36]]


def pairs(pad_id=0):
    """Both sides' ids and attention mask, padded on the right, and where the answers are."""
    rows = [p + a for side in (CHOSEN, REJECTED) for p, a in zip(PROMPTS, side, strict=True)]
    width = 20  # more than any row has
    tokens_BT = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows])
    lengths, starts = (torch.tensor([len(row) for row in each])[:, None] for each in (rows, PROMPTS * 2))
    is_seen_BT = torch.arange(width) < lengths
    return tokens_BT, is_seen_BT.long(), is_seen_BT & (torch.arange(width) >= starts)


def eased_with_pairs(model):
    ours = copy.deepcopy(model)
    ease_forward(ours, "fp32", has_pairs=True)
    return ours


def test_a_prompt_of_two_answers_is_computed_once_and_each_answer_as_if_alone(dialect):
    theirs = random_model(dialect, VOCABULARY)
    ours = eased_with_pairs(theirs)
    tokens_BT, mask_BT, _ = pairs()
    widths = []
    gpt = ours.base_model.forward.gpt
    gpt.register_forward_pre_hook(lambda module, args: widths.append(args[0].shape))
    logits = [m(tokens_BT, attention_mask=mask_BT, use_cache=False).logits[mask_BT.bool()] for m in (theirs, ours)]
    assert widths == [(3, 16)]  # of (6, 20): 10 + 2 + 4 tokens at most
    torch.testing.assert_close(logits[1], logits[0], atol=1e-5, rtol=1e-5)
    for each in logits:
        each.square().mean().backward()
    assert_same_gradients(theirs, ours)


def test_rows_with_little_in_common_stay_apart():
    ours = eased_with_pairs(random_model("llama", VOCABULARY))
    tokens_BT, mask_BT = (each[:, :12] for each in pairs()[:2])
    widths = []
    ours.base_model.forward.gpt.register_forward_pre_hook(lambda module, args: widths.append(args[0].shape))
    for rows in (tokens_BT[[0, 1, 2, 1, 2, 0]], tokens_BT[:5], tokens_BT[:1]):
        ours(rows, attention_mask=mask_BT[: len(rows)], use_cache=False)
    assert widths == [(6, 12), (5, 12), (1, 12)]


def test_the_head_of_pairs_gives_what_trls_gives(dialect):
    """Also of the last prompt token, which both answers read."""
    theirs = random_model(dialect, VOCABULARY)
    ours = eased_with_pairs(theirs)
    for model in (theirs, ours):
        add_fused_lm_head(model, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    ease_head(ours, has_mean_logits=True)
    tokens_BT, mask_BT, is_answer_BT = pairs()
    inputs = {"input_ids": tokens_BT, "attention_mask": mask_BT, "labels": tokens_BT.masked_fill(~is_answer_BT, -100)}
    results = [model(**inputs, fused_lm_head=True) for model in (theirs, ours)]
    for field in FIELDS:
        torch.testing.assert_close(results[1][field], results[0][field], atol=1e-5, rtol=1e-5)
    for result in results:
        result.log_probs.square().sum().backward()
    assert_same_gradients(theirs, ours)


def test_scores_of_pairs_are_transformers(dialect, tmp_path):
    from reward.train import load_for_reward

    random_model(dialect, VOCABULARY).save_pretrained(tmp_path)
    theirs, ours = load_for_reward(tmp_path, 1), load_for_reward(tmp_path, 1)
    theirs.config.pad_token_id = ours.config.pad_token_id = 0
    ease_forward(ours, "fp32", has_pairs=True)
    tokens_BT, mask_BT, _ = pairs()
    scores = [model(tokens_BT, attention_mask=mask_BT, use_cache=False).logits for model in (theirs, ours)]
    torch.testing.assert_close(scores[1], scores[0], atol=1e-5, rtol=1e-5)
    for each in scores:
        each.square().sum().backward()
    assert_same_gradients(theirs, ours)


# ------------------------------------------------------------------------------------------------------- the head


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
    assert_same_gradients(theirs, ours)


def test_a_model_that_gpt_does_not_speak_keeps_trls_head():
    model = random_model("llama", VOCABULARY)
    model.config.attention_bias = True
    ease_forward(model, "fp32")
    add_fused_lm_head(model)
    before = model.forward
    ease_head(model)
    assert model.forward is before and "forward" not in vars(model.base_model)
