"""Reward functions as people write them, right and wrong. Every message is read."""

import math

import pytest
import torch

from alignment.ppo.scoring import build_rewards, call_judge, score_all
from reward.model import RewardModel
from tests.alignment.ppo.test_actor_critic import classifier


def length(prompts, completions, **columns):
    return [float(len(text)) for text in completions]


def call(function):
    return call_judge("f", function, ["p", "q"], ["one", "two"], {"kind": ["a", "b"]})


def test_a_function_gets_prompts_completions_and_columns_and_may_return_what_counts_as_numbers():
    def judge(prompts, completions, *, kind):
        assert (prompts, completions, kind) == (["p", "q"], ["one", "two"], ["a", "b"])
        return torch.tensor([1, 2])

    assert call(judge) == [1.0, 2.0]


@pytest.mark.parametrize(
    "returned, message",
    [
        ([1.0], "reward function f returned 1 scores for 2 completions"),
        ([1.0, math.nan], r"returned nan for completion 1 \('two'\), 1 of 2 are not finite"),
        ([-math.inf, 0.0], r"returned -inf for completion 0 \('one'\)"),
        (["1", "2"], "must return numbers, got str '1' at 0"),
        ([None, 1.0], "must return numbers, got NoneType None at 0"),
        ("12", "must return a list of numbers, got str"),
        (3.0, "must return a list of numbers, got float"),
    ],
)
def test_a_wrong_return_value_is_named(returned, message):
    with pytest.raises(ValueError, match=message):
        call(lambda prompts, completions, **columns: returned)


def test_an_exception_in_a_reward_function_names_the_function_and_keeps_its_cause():
    def judge(prompts, completions, **columns):
        raise KeyError("gold")

    with pytest.raises(ValueError, match="reward function f raised KeyError: 'gold'") as caught:
        call(judge)
    assert isinstance(caught.value.__cause__, KeyError)


def test_what_is_no_reward_function_is_refused_when_built(dialect):
    async def later(prompts, completions, **columns):
        return []

    with pytest.raises(ValueError, match="must be callable or a sequence classifier, got int: 3"):
        build_rewards([3])
    with pytest.raises(ValueError, match="reward function later is async"):
        build_rewards([later])
    with pytest.raises(ValueError, match="reward_funcs is empty"):
        build_rewards([])
    with pytest.raises(ValueError, match="reward_weights has 1 entries for 2 reward functions"):
        build_rewards([length, length], [1.0])
    with pytest.raises(ValueError, match="1 label; .* has 2 labels"):
        build_rewards([classifier(dialect, num_labels=2)])
    with pytest.raises(FileNotFoundError, match="there is no reward model in nowhere"):
        build_rewards(["nowhere"])


def test_a_classifier_scores_text_with_its_own_tokenizer_on_its_own_scale(dialect, tokenizer):
    model = classifier(dialect, vocab=len(tokenizer))
    model.config.pad_token_id, model.config.reward_mean, model.config.reward_std = tokenizer.pad_token_id, 0.5, 2.0
    (reward,) = build_rewards(model, tokenizers=tokenizer)
    prompts, texts = ["The baker", "When"], [" keeps bread.", " it rains"]
    expected = RewardModel(model, tokenizer, mean=0.5, std=2.0).score(prompts, texts)
    assert call_judge(reward.name, reward.function, prompts, texts, {}) == expected
    assert reward.name == type(model).__name__


def test_scores_stand_in_a_column_a_function_and_equal_names_are_numbered():
    rewards = build_rewards([length, length], [1.0, 0.5])
    assert [(reward.name, reward.weight) for reward in rewards] == [("length_0", 1.0), ("length_1", 0.5)]
    assert score_all(rewards, ["p"] * 3, ["a", "bb", ""], {}).tolist() == [[1, 1], [2, 2], [0, 0]]


def test_reward_models_alone_compute_under_autocast(tokenizer):
    seen = []

    def judge(prompts, completions):
        seen.append(torch.is_autocast_enabled("cpu"))
        return [0.0] * len(completions)

    model = classifier("llama", vocab=len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    rewards = build_rewards([model, judge], tokenizers=[tokenizer, None])
    inputs = (rewards, ["The baker"] * 2, [" keeps bread.", " it rains"], {})
    exact, rough = (score_all(*inputs, **how)[:, 0] for how in ({}, {"autocast": lambda: torch.autocast("cpu")}))
    assert seen == [False, False]
    assert not exact.equal(rough) and torch.allclose(exact, rough, rtol=0.02, atol=0.02)  # bfloat16 has 8 bits
