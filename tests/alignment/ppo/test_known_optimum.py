"""PPO against the exact optimum of an enumerable task (alignment/toy.py): the share of the gap that it closes.

Threshold 0.98 (PPO.md's); seen here: 0.986 to 0.989 over 3 seeds in 60 updates of 256 episodes, about 8 s each on a quiet core."""

import pytest
import torch

from alignment import toy
from alignment.ppo.config import PPOConfig
from alignment.ppo.trainer import PPOTrainer
from tests.alignment.ppo.ppo_setup import QUIET


def settings(folder, task, **overrides) -> PPOConfig:
    known_good = {
        "rollout_batch_size": 256,
        "num_ppo_epochs": 4,
        "num_mini_batches": 4,
        "per_device_train_batch_size": 64,
        "max_completion_length": toy.MAX_TOKENS,
        "max_steps": 60,
        "learning_rate": 1e-3,
        "critic_learning_rate": 1e-3,
        "critic_warmup_steps": 0,
        "kl_coef": task.beta,
        "lam": 0.95,
        "vf_coef": 0.5,
        "cliprange_value": None,
        "score_clip": None,
        "missing_eos_penalty": 0.0,  # the task's reward knows about endings
    }
    return PPOConfig(str(folder), **{**QUIET, **known_good, **overrides})


def train(folder, seed=0, **overrides):
    """(gap closed, trainer, exact KL, sampled KL of the last update)."""
    task, model = toy.make_toy(seed), toy.make_model(seed=seed)
    reference_XY = toy.answer_logprobs(model)
    rows = [{"prompt": prompt} for prompt in toy.PROMPTS]
    args = settings(folder, task, seed=seed, **overrides)
    trainer = PPOTrainer(model, task.score, args, rows, processing_class=toy.make_tokenizer())
    metrics = trainer.train()
    policy_XY = toy.answer_logprobs(trainer.policy)
    return task.gap_closed(policy_XY, reference_XY), task.kl_nats(policy_XY, reference_XY), metrics["objective/kl_nats"]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_ppo_closes_the_gap_to_the_known_optimum(tmp_path, seed):
    gap, kl_nats, sampled_kl = train(tmp_path, seed)
    assert gap >= 0.98
    assert sampled_kl == pytest.approx(kl_nats, abs=0.35)  # one batch of 256 before the last, tiny step


@pytest.mark.slow
def test_a_separate_critic_and_a_lora_policy_close_it_too(tmp_path):
    assert train(tmp_path, critic="separate")[0] >= 0.98


def test_ten_updates_go_most_of_the_way(tmp_path):
    """The same claim, coarse and quick: 0.87 was seen; a sign error is negative, k3 in the reward stays below 0.6."""
    torch.manual_seed(0)
    assert train(tmp_path, max_steps=10)[0] > 0.8
