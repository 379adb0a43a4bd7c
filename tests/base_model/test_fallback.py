"""Generation by transformers' loop with this project's draws: what a prompt is answered does not depend on who runs the model."""

import copy
import logging

import pytest
import torch
from transformers import AutoModelForCausalLM

from base_model.fallback import say_once
from base_model.generate import SamplingConfig, generate, supports
from base_model.sequence import token_logprobs
from tests.alignment.ppo.ppo_setup import lively
from tests.conftest import random_model

PROMPTS = [[5, 9, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [60], [33, 5, 40, 5, 2, 51], [5, 9, 5]]
OWN_SETTINGS = {"repetition_penalty": 5.0, "min_p": 0.9, "max_length": 5, "min_new_tokens": 4, "do_sample": True}


@pytest.fixture
def model(dialect):
    return lively(random_model(dialect, 61))


@pytest.fixture(scope="module")
def qwen2(foreign_parent):
    """Its generation_config has a repetition penalty and samples."""
    return lively(AutoModelForCausalLM.from_pretrained(foreign_parent("qwen2"), dtype=torch.float32))


@pytest.mark.parametrize("sampling", [
    SamplingConfig(12, greedy=True, stop_token_ids=(7,)),
    SamplingConfig(12, greedy=True, repetition_penalty=1.4),
    SamplingConfig(12, temperature=0.8, stop_token_ids=(2, 10, 20)),
    SamplingConfig(12, top_p=0.7, top_k=9, stop_token_ids=(2, 10)),
])  # fmt: skip
def test_transformers_draws_the_same_tokens_as_the_own_decoder(model, sampling):
    """Also in batches of two, and with equal prompts. Log-probabilities to 1e-4: two orders of float32 sums."""
    options = {"pad_id": 0, "seed": 3, "want_logprobs": True, "batch_size": 2}
    own, theirs = (generate(model, PROMPTS, sampling, by_transformers=by, **options) for by in (False, True))
    assert theirs.responses() == own.responses() and torch.equal(theirs.stopped_B, own.stopped_B)
    torch.testing.assert_close(theirs.logprobs_BR, own.logprobs_BR, atol=1e-4, rtol=0)


def test_an_unknown_architecture_is_sampled_by_its_own_forward_pass(qwen2):
    made = generate(qwen2, PROMPTS, SamplingConfig(8, temperature=0.7), pad_id=0, seed=1, want_logprobs=True)
    for prompt, response, logprobs in zip(PROMPTS, made.responses(), made.logprobs_BR, strict=True):
        row = torch.tensor([[*prompt, *response]])
        with torch.no_grad():
            expected = token_logprobs(qwen2(input_ids=row).logits / 0.7, row)[0, len(prompt) - 1 :]
        torch.testing.assert_close(logprobs[: len(response)], expected, atol=1e-5, rtol=0)


def test_the_checkpoints_own_sampling_settings_take_no_part_and_stay(qwen2):
    expected = generate(qwen2, PROMPTS, SamplingConfig(8), pad_id=0, seed=1).responses()
    changed = copy.deepcopy(qwen2)
    changed.generation_config.update(**OWN_SETTINGS)
    before = changed.generation_config.to_dict()
    assert generate(changed, PROMPTS, SamplingConfig(8), pad_id=0, seed=1).responses() == expected
    assert changed.generation_config.to_dict() == before


def test_an_adapted_model_keeps_its_generation_config_and_training_mode(qwen2):
    """PEFT hands its generation config down to the model inside, which is saved with it."""
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(copy.deepcopy(qwen2), LoraConfig(r=2, target_modules=["q_proj"], lora_dropout=0.5)).train()
    before = adapted.get_base_model().generation_config.to_dict()
    first, second = (generate(adapted, PROMPTS, SamplingConfig(8), pad_id=0, seed=1).responses() for _ in range(2))
    assert first == second == generate(qwen2, PROMPTS, SamplingConfig(8), pad_id=0, seed=1).responses(), "no dropout"
    assert adapted.get_base_model().generation_config.to_dict() == before and all(m.training for m in adapted.modules())


def test_the_global_random_stream_is_left_alone(qwen2):
    before = torch.get_rng_state()
    generate(qwen2, PROMPTS, SamplingConfig(4), pad_id=0, seed=1)
    assert torch.get_rng_state().equal(before)


def test_the_log_says_once_that_transformers_generates(qwen2, caplog):
    say_once.cache_clear()
    assert not supports(qwen2)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            generate(qwen2, [[1]], SamplingConfig(2), pad_id=0)
    assert [record.getMessage() for record in caplog.records if "transformers generates" in record.getMessage()] == [
        "Qwen2ForCausalLM: transformers generates its answers (model_type is 'qwen2'; only gpt2 and llama checkpoints can be read)"
    ]


def test_a_prompt_that_does_not_fit_is_refused_as_everywhere(qwen2):
    with pytest.raises(ValueError, match="do not fit the model's context of 256"):
        generate(qwen2, [[1] * 250], SamplingConfig(8), pad_id=0)
