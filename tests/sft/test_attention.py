"""Attention in float32 under bf16 autocast: the same function, computed more exactly."""

import pytest
import torch

from sft.attention import NAME, use_float32_attention
from sft.packing import RowCollator
from tests.conftest import random_model
from tests.sft.test_packing import packed_dataset, sequences


@pytest.fixture
def batch(tmp_path):
    made = RowCollator(0)(list(packed_dataset(tmp_path, sequences())))
    return {"input_ids": made["input_ids"], "position_ids": made["position_ids"], "use_cache": False}


def test_in_float32_nothing_changes(dialect, batch):
    model = random_model(dialect, 100)
    with torch.no_grad():
        before = model(**batch).logits
        use_float32_attention(model)
        assert model.config._attn_implementation == NAME
        assert torch.equal(model(**batch).logits, before)


def test_under_bf16_it_is_no_farther_from_the_exact_logits(dialect, batch):
    model = random_model(dialect, 100)
    with torch.no_grad():
        exact = model(**batch).logits
        with torch.autocast("cpu", torch.bfloat16):
            plain = model(**batch).logits
            use_float32_attention(model)
            ours = model(**batch).logits
    assert (ours - exact).abs().mean() <= 1.02 * (plain - exact).abs().mean()  # the products around it round alike
    assert not torch.equal(ours, plain)


def test_gradients_flow_and_agree_with_float32(dialect, batch):
    exact, ours = random_model(dialect, 100), random_model(dialect, 100)
    use_float32_attention(ours)
    exact(**batch).logits.square().mean().backward()
    with torch.autocast("cpu", torch.bfloat16):
        ours(**batch).logits.float().square().mean().backward()
    for (name, a), b in zip(exact.named_parameters(), ours.parameters(), strict=True):
        cosine = torch.nn.functional.cosine_similarity(a.grad.flatten(), b.grad.flatten(), dim=0)
        assert cosine > 0.99, name  # bf16 has 8 bits; seen 0.9995 and more


def test_a_saved_model_does_not_name_it(tmp_path):
    from transformers import AutoModelForCausalLM

    model = random_model("llama", 100)
    use_float32_attention(model)
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


def test_another_attention_is_left_alone():
    model = random_model("llama", 100)
    model.set_attn_implementation("eager")
    use_float32_attention(model)
    assert model.config._attn_implementation == "eager"
