"""Tokens that nobody trained are told from the weights; what was kept from training is known here, since the test trains the model."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from base_model.tokenizer import SPECIAL_TOKENS
from base_model.untrained import named, read_back, untrained_ids, written_out
from tests.conftest import random_model


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "own head"])
def trained(request):
    """A model trained on ids 6..299 of 400 alone, which follow each other by a rule that it learns."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=400, tie_word_embeddings=request.param, **size))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(150):
        start_B1 = torch.randint(294, (16, 1))
        tokens_BT = 6 + (start_B1 + torch.arange(24) * 7) % 294
        model(input_ids=tokens_BT, labels=tokens_BT).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def test_tokens_that_training_never_met_are_found_and_no_other(trained, tokenizer):
    assert untrained_ids(trained, tokenizer) == {*range(len(SPECIAL_TOKENS)), *range(300, 400)}


def test_random_weights_show_no_sign(dialect, tokenizer):
    pad = {0} if dialect == "llama" else set()  # torch fills an embedding's padding row with zeros
    assert untrained_ids(random_model(dialect, 400), tokenizer) == pad


@pytest.mark.parametrize("sign", ["zeros", "tiny", "mean", "repeated"])
def test_rows_that_were_put_there_are_found(tokenizer, sign):
    """As they are added: zeros, tiny numbers, the mean of all rows with a little noise (transformers), one value for all (Llama 3)."""
    model = random_model("llama", 400)
    rows = model.get_input_embeddings().weight.data
    fresh = {
        "zeros": torch.zeros(2, 32),
        "tiny": torch.randn(2, 32) * 1e-3,
        "mean": rows.mean(0) + torch.randn(2, 32) * 1e-4,
        "repeated": rows[7].expand(2, 32).clone() + 0.1,
    }[sign]
    rows[[50, 60]] = fresh
    assert untrained_ids(model, tokenizer) == {0, 50, 60}  # 0: padding


def test_rows_past_the_tokenizers_end_are_not_named(tokenizer):
    model = random_model("llama", 448)
    model.get_input_embeddings().weight.data[400:] = 0
    assert untrained_ids(model, tokenizer) == {0}  # padding


@given(st.sets(st.integers(0, 60)))
def test_ids_written_out_are_read_back(ids):
    assert read_back(written_out(ids)) == ids


def test_runs_are_shortened_and_names_cut(tokenizer):
    assert written_out([77, 4, 3, 5]) == "3-5,77"
    assert named([4, 3, 5], tokenizer, most=2) == "3 '<|system|>', 4 '<|user|>', and 1 more"
