"""A small trainer on random weights, and prompts and rewards for it: what several PPO tests start from."""

from dataclasses import replace
from pathlib import Path

import torch

from alignment.ppo.config import PPOConfig
from alignment.ppo.trainer import PPOTrainer
from tests.conftest import random_model

PROMPTS = [
    {"prompt": text, "weight": float(i)}
    for i, text in enumerate(
        [
            "The",
            "When it rains, the children",
            "Please write",
            "Yes, of course. No, thank you. I",
            "baker",
            "The old sailor",
        ]
    )
]
STOPS = [2, *range(7, 400, 6)]  # the end token and a sixth of all others: responses of a random model get many lengths
QUIET = {
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "alarm_entropy_fraction": None,
    "alarm_length_factor": None,
    "alarm_eos_rate": None,
    "alarm_kl_nats": None,
}


def vowels(prompts, completions, **columns) -> list[float]:
    """A reward with no tie to any token: the share of vowels in the text."""
    return [sum(letter in "aeiou" for letter in text) / (1 + len(text)) for text in completions]


def config(folder: Path, **overrides) -> PPOConfig:
    """16 episodes an update in 2 x 2 minibatches, answers of up to 9 tokens, rates at which 3 updates move something."""
    small = {
        "rollout_batch_size": 16,
        "num_mini_batches": 2,
        "num_ppo_epochs": 2,
        "per_device_train_batch_size": 4,
        "max_completion_length": 9,
        "learning_rate": 1e-3,
        "max_steps": 3,
        "critic_warmup_steps": 1,
        "seed": 3,
        "stop_token_ids": STOPS,
    }
    return PPOConfig(output_dir=str(folder), **{**QUIET, **small, **overrides})


def lively(model):
    """The model with larger weights: a random one is close to uniform, and much would go unseen."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    return model


NAMED = {"eval_dataset", "eval_judges", "callbacks", "ref_model", "value_model", "reward_processing_classes"}


def trainer(
    folder: Path, tokenizer, dialect: str = "gpt2", *, model=None, peft_config=None, rewards=vowels, **overrides
):
    """A PPOTrainer on a tiny random model of the dialect (or `model`)."""
    named = {key: overrides.pop(key) for key in NAMED & overrides.keys()}
    model = model or lively(random_model(dialect, len(tokenizer)))
    args = config(folder, **overrides)
    return PPOTrainer(model, rewards, args, PROMPTS, processing_class=tokenizer, peft_config=peft_config, **named)


def lora(dropout: float = 0.0, r: int = 4):
    """A LoRA config whose B matrices do not start at zero, so that adapter on and off differ at once."""
    from peft import LoraConfig

    return LoraConfig(r=r, lora_alpha=8, lora_dropout=dropout, init_lora_weights=False, target_modules="all-linear")


def change(trainer_, **settings) -> None:
    """Replace settings of a built trainer."""
    trainer_.args = replace(trainer_.args, **settings)


def gradient(trainer_, rollout, advantage_BR, target_BR, rows=None) -> dict[str, torch.Tensor]:
    """The gradient that one optimizer step on `rows` (None: all episodes) would use, by parameter name, unclipped."""
    found: dict[str, torch.Tensor] = {}

    class Recorder:
        def __init__(self, optimizer):
            self.optimizer, self.param_groups = optimizer, optimizer.param_groups

        def step(self):
            for name, parameter in trainer_.module.named_parameters():
                if parameter.grad is not None:
                    found[name] = parameter.grad.clone()

        def zero_grad(self):
            self.optimizer.zero_grad()

    saved = trainer_.policy_optimizer, trainer_.critic_optimizer, trainer_.args
    trainer_.policy_optimizer, trainer_.critic_optimizer = Recorder(saved[0]), Recorder(saved[1])
    change(trainer_, max_grad_norm=1e9)
    try:
        rows = torch.arange(len(rollout.tokens_BT)) if rows is None else rows
        trainer_.optimizer_step(rollout, advantage_BR, target_BR, rows)
    finally:
        trainer_.policy_optimizer, trainer_.critic_optimizer, trainer_.args = saved
    return found
