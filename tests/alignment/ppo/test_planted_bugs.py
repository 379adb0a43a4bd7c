"""The checks bite: PPO with a bug planted fails the check that is there for it. Each bug is one that a published trainer had."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from alignment.ppo import actor_critic, losses, returns, rollout
from alignment.ppo import trainer as ppo
from alignment.ppo.actor_critic import ActorCritic
from tests.alignment.ppo import ppo_checks, test_known_optimum
from tests.alignment.ppo.ppo_setup import lora, trainer


@pytest.fixture
def made(tmp_path, tokenizer):
    def make(**settings):
        return trainer(tmp_path, tokenizer, "llama", peft_config=lora(dropout=0.5), temperature=0.7, **settings)

    return make


def fails(check, *arguments):
    with pytest.raises(AssertionError):
        check(*arguments)


def k3_rewards(score_B, logprob_BR, reference_BR, is_response_BR, *, kl_coef):
    reward_BR = -kl_coef * losses.kl_k3(logprob_BR, reference_BR).masked_fill(~is_response_BR, 0)
    return reward_BR.scatter_add(1, is_response_BR.sum(1, keepdim=True) - 1, score_B.unsqueeze(1).to(reward_BR.dtype))


def test_k3_in_the_reward_is_caught_by_the_gradient(monkeypatch):
    ppo_checks.check_reward_gradient_is_that_of_the_objective()
    monkeypatch.setattr(returns, "shaped_rewards", k3_rewards)
    fails(ppo_checks.check_reward_gradient_is_that_of_the_objective)


def test_k3_in_the_reward_is_caught_by_the_known_optimum(monkeypatch, tmp_path):
    monkeypatch.setattr(returns, "shaped_rewards", k3_rewards)
    fails(test_known_optimum.test_ten_updates_go_most_of_the_way, tmp_path)


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_mask_shifted_by_one_is_caught(monkeypatch, made, shift):
    ppo_checks.check_logprobs_are_the_models(made())
    pack = rollout.pack

    def shifted(tokens_BT, prompt_tokens_B, response_tokens_B):
        if shift == 1:  # starts one late, so it ends on the padding: the end token is out, a pad is in
            tokens_BT = torch.cat([tokens_BT, torch.zeros_like(tokens_BT[:, :1])], 1)
        return pack(tokens_BT, prompt_tokens_B + shift, response_tokens_B)

    monkeypatch.setattr(rollout, "pack", shifted)
    fails(ppo_checks.check_logprobs_are_the_models, made())


def test_log_probabilities_without_the_temperature_are_caught(monkeypatch, made):
    monkeypatch.setattr(ActorCritic, "_tempered", lambda self, logits_NV: logits_NV)
    fails(ppo_checks.check_logprobs_are_the_models, made())


def test_dropout_left_on_is_caught(monkeypatch, made):
    ppo_checks.check_ratio_is_one(made())
    monkeypatch.setattr(ActorCritic, "train", lambda self, mode=True: nn.Module.train(self, True))
    fails(ppo_checks.check_ratio_is_one, made())


def test_a_reward_one_token_late_is_caught(monkeypatch, made):
    settings = {"lam": 1.0, "whiten_advantages": False}
    ppo_checks.check_the_score_lands_on_the_last_token(made(**settings))

    def late(score_B, logprob_BR, reference_BR, is_response_BR, *, kl_coef):
        reward_BR = -kl_coef * (logprob_BR - reference_BR).masked_fill(~is_response_BR, 0)
        place_B1 = is_response_BR.sum(1, keepdim=True).clamp(
            max=reward_BR.shape[1] - 1
        )  # TRL 3750: the first pad after it
        return reward_BR.scatter_add(1, place_B1, score_B.unsqueeze(1).to(reward_BR.dtype))

    monkeypatch.setattr(returns, "shaped_rewards", late)
    fails(ppo_checks.check_the_score_lands_on_the_last_token, made(**settings))


def test_a_mean_of_means_is_caught(monkeypatch, made):
    ppo_checks.check_accumulation_changes_nothing(made())
    loss = ppo.PPOTrainer.loss

    def averaged(self, rollout, advantage_BR, target_BR, index, **options):
        total, parts = loss(self, rollout, advantage_BR, target_BR, index, **options)
        return total / parts[4], parts  # over this microbatch's tokens, as if the others had as many

    monkeypatch.setattr(ppo.PPOTrainer, "loss", averaged)
    fails(ppo_checks.check_accumulation_changes_nothing, made())


def test_a_whitening_over_less_than_the_batch_is_caught(monkeypatch, made):
    ppo_checks.check_whitening_is_over_the_whole_batch(made())
    whiten = ppo.masked_whiten

    def by_half(values, is_valid):
        return (
            torch.cat([whiten(v, m) for v, m in zip(values.chunk(2), (is_valid * 1).bool().chunk(2), strict=True)])
            + 0.3
        )

    monkeypatch.setattr(ppo, "masked_whiten", by_half)
    fails(ppo_checks.check_whitening_is_over_the_whole_batch, made())


def test_a_reference_with_the_adapter_left_on_is_caught(monkeypatch, made):
    ppo_checks.check_the_reference_is_the_model_without_its_adapter(made())
    monkeypatch.setattr(actor_critic, "adapter", lambda model, name: nullcontext())
    fails(ppo_checks.check_the_reference_is_the_model_without_its_adapter, made())
