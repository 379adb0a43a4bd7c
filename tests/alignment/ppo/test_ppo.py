"""The trainer's exact properties, in float32 on tiny random models. Tolerances: 1e-6 for ratios (two forwards that differ in
padding), 1e-5 for log-probabilities against transformers' own forward; bit for bit where so named."""

import math
from dataclasses import replace

import pytest
import torch

from alignment.ppo import losses
from alignment.ppo.trainer import mixed_seed
from base_model.generate import supports
from tests.alignment.ppo import ppo_checks
from tests.alignment.ppo.ppo_setup import PROMPTS, change, gradient, lora, trainer, vowels
from tests.conftest import random_model


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("adapter", [None, lora], ids=["full", "lora"])
def test_ratio_is_1_in_every_microbatch_before_the_first_step(tmp_path, tokenizer, dialect, adapter, temperature):
    peft_config = adapter and adapter(dropout=0.5)
    ppo_checks.check_ratio_is_one(
        trainer(tmp_path, tokenizer, dialect, peft_config=peft_config, temperature=temperature)
    )


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("adapter", [None, lora], ids=["full", "lora"])
def test_old_logprobs_are_those_of_a_plain_forward(tmp_path, tokenizer, dialect, adapter, temperature):
    peft_config = adapter and adapter()
    ppo_checks.check_logprobs_are_the_models(
        trainer(tmp_path, tokenizer, dialect, peft_config=peft_config, temperature=temperature)
    )


def test_reference_logprobs_are_those_of_the_model_before_training(tmp_path, tokenizer, dialect):
    made = trainer(tmp_path, tokenizer, dialect, temperature=0.7)
    start = random_model(dialect, len(tokenizer))
    start.load_state_dict(made.policy.state_dict())
    made.train()
    rollout = made.rollout(0)
    for row, logprobs_R in enumerate(ppo_checks.plain_logprobs(start, rollout, 0.7)):
        torch.testing.assert_close(rollout.reference_BR[row, : len(logprobs_R)], logprobs_R, atol=1e-5, rtol=0)
    assert (rollout.reference_BR - rollout.logprob_BR).abs().max() > 1e-3, "training must have moved the policy"


def test_the_score_lands_on_the_last_response_token(tmp_path, tokenizer):
    made = trainer(tmp_path, tokenizer, lam=1.0, whiten_advantages=False)
    ppo_checks.check_the_score_lands_on_the_last_token(made)


def test_following_the_shaped_reward_is_following_the_objective():
    ppo_checks.check_reward_gradient_is_that_of_the_objective()


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_the_gradient_is_the_same_for_1x8_2x4_and_8x1_episodes(tmp_path, tokenizer, dialect, critic):
    ppo_checks.check_accumulation_changes_nothing(trainer(tmp_path, tokenizer, dialect, critic=critic))


def test_advantages_are_whitened_over_the_whole_rollout_batch(tmp_path, tokenizer):
    ppo_checks.check_whitening_is_over_the_whole_batch(trainer(tmp_path, tokenizer))


def test_the_gradient_at_ratio_1_is_that_of_the_advantage_weighted_log_likelihood(tmp_path, tokenizer):
    """Against autograd of -sum A log pi / tokens through the model's own forward, a row at a time."""
    made = trainer(tmp_path, tokenizer, vf_coef=0.0, whiten_advantages=False)
    rollout = made.rollout(0)
    (advantage_BR, target_BR), _ = made.advantages(rollout)
    got = gradient(made, rollout, advantage_BR, target_BR)
    total = 0.0
    for b in range(len(rollout.tokens_BT)):
        start, n = rollout.prompt_tokens_B[b].item(), rollout.response_tokens_B[b].item()
        ids = rollout.tokens_BT[b : b + 1, : start + n]
        logprobs_TV = torch.log_softmax(made.policy(input_ids=ids).logits[0], -1)
        chosen_R = logprobs_TV[start - 1 : start + n - 1].gather(1, ids[0, start:, None])[:, 0]
        total = total - (advantage_BR[b, :n] * chosen_R).sum()
    (total / rollout.response_tokens_B.sum()).backward()
    for name, parameter in made.policy.named_parameters():
        torch.testing.assert_close(got[f"policy.{name}"], parameter.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("epochs, minibatches", [(1, 1), (2, 4), (3, 2)])
def test_every_update_takes_epochs_times_minibatches_optimizer_steps(tmp_path, tokenizer, epochs, minibatches):
    made = trainer(
        tmp_path, tokenizer, num_ppo_epochs=epochs, num_mini_batches=minibatches, max_steps=4, rollout_batch_size=8
    )  # 8 episodes an update of 6 prompts: updates end in the middle of a pass over the data and at its end
    taken = []
    step = made.policy_optimizer.step
    made.policy_optimizer.step = lambda: (taken.append(1), step())
    counted = []
    for _ in range(4):
        counted.append(made.step()["policy/optimizer_steps"])
    assert counted == [epochs * minibatches] * 4
    assert len(taken) == epochs * minibatches * 3  # the first update is the critic's warm-up


def test_each_pass_sees_every_episode_once_in_another_order(tmp_path, tokenizer):
    made, seen = trainer(tmp_path, tokenizer, num_ppo_epochs=3), []
    optimizer_step = made.optimizer_step
    made.optimizer_step = lambda *args, **options: (seen.append(args[3].tolist()), optimizer_step(*args, **options))[1]
    made.step()
    passes = [seen[0] + seen[1], seen[2] + seen[3], seen[4] + seen[5]]
    assert all(sorted(order) == list(range(16)) for order in passes)
    assert len({tuple(order) for order in passes}) == 3


def test_the_gradient_norm_is_clipped(tmp_path, tokenizer):
    """A tiny limit on Adam's first step leaves the direction; with SGD in its place the step itself is the limit."""
    made = trainer(tmp_path, tokenizer, max_grad_norm=1e-3, critic_warmup_steps=0)
    rollout = made.rollout(0)
    prepared, _ = made.advantages(rollout)
    plain = torch.optim.SGD(made.module.policy_parameters(), lr=1.0)
    before = [parameter.detach().clone() for parameter in made.module.policy_parameters()]
    made.policy_optimizer = plain
    made.optimizer_step(rollout, *prepared, torch.arange(16))
    moved = torch.stack([(a - b).norm() for a, b in zip(before, made.module.policy_parameters(), strict=True)]).norm()
    assert moved.item() == pytest.approx(1e-3, rel=1e-2)


def test_in_the_critics_warm_up_only_the_value_head_moves(tmp_path, tokenizer, dialect):
    made = trainer(tmp_path, tokenizer, dialect, critic_warmup_steps=1, max_steps=1)
    before = {name: parameter.detach().clone() for name, parameter in made.module.named_parameters()}
    made.step()
    moved = {name for name, parameter in made.module.named_parameters() if not parameter.equal(before[name])}
    assert moved == {"value_head.weight", "value_head.bias"}


@pytest.mark.parametrize("critic", ["shared", "separate"])
@pytest.mark.parametrize("adapter", [None, lora], ids=["full", "lora"])
def test_training_moves_what_should_learn_and_nothing_else(tmp_path, tokenizer, dialect, critic, adapter):
    made = trainer(tmp_path, tokenizer, dialect, critic=critic, peft_config=adapter and adapter())
    before = {name: parameter.detach().clone() for name, parameter in made.module.named_parameters()}
    metrics = made.train()
    still = {name for name, parameter in made.module.named_parameters() if parameter.equal(before[name])}
    frozen = {name for name, parameter in made.module.named_parameters() if not parameter.requires_grad}
    assert frozen and frozen <= still
    # The second table of GPT-2 has rows of positions that no episode reached, never a whole parameter.
    assert not {name for name in still - frozen if "norm" not in name}
    assert all(math.isfinite(value) for value in metrics.values())


def test_metrics_are_named_and_mean_what_they_say(tmp_path, tokenizer):
    made = trainer(tmp_path, tokenizer, max_steps=2, critic_warmup_steps=0)
    made.step()
    rollout = made.rollout(1)
    metrics = made.step()
    n = rollout.response_tokens_B.float()
    kl = sum((rollout.logprob_BR[b, :k] - rollout.reference_BR[b, :k]).sum() for b, k in enumerate(n.int().tolist()))
    assert metrics["objective/kl_nats"] == pytest.approx(kl.item() / 16, abs=1e-5)
    assert metrics["objective/score"] == pytest.approx(rollout.score_BK.mean().item(), abs=1e-6)
    assert metrics["rollout/length_tokens"] == pytest.approx(n.mean().item())
    assert metrics["rollout/eos_rate"] == pytest.approx(rollout.is_stopped_B.float().mean().item())
    assert 0 < metrics["objective/entropy_nats"] <= math.log(len(tokenizer)) + 1e-6
    assert metrics["policy/approx_kl"] >= 0 and 0 <= metrics["policy/clip_fraction"] <= 1
    for name in ("value/explained_variance", "throughput/tokens_per_s", "reward/vowels", "policy/learning_rate"):
        assert name in metrics


def test_padding_enters_neither_kl_nor_entropy(tmp_path, tokenizer):
    """The same episodes measured in one batch and one by one: what stands beside them changes no metric."""
    made = trainer(tmp_path, tokenizer)
    together = made.advantages(made.rollout(0))[1]
    change(made, per_device_train_batch_size=1)
    alone = made.advantages(made.rollout(0))[1]
    for name in ("objective/kl_nats", "objective/entropy_nats", "objective/score", "value/explained_variance"):
        assert together[name] == pytest.approx(alone[name], abs=1e-5)


def test_early_stopping_ends_the_update_after_the_pass_that_crossed_the_limit(tmp_path, tokenizer):
    made = trainer(tmp_path, tokenizer, max_approx_kl=1e-9, num_ppo_epochs=4, critic_warmup_steps=0)
    assert made.step()["policy/optimizer_steps"] == 2  # one pass of two minibatches


def test_the_learning_rate_falls_to_zero_linearly_after_its_warm_up(tmp_path, tokenizer):
    made = trainer(tmp_path, tokenizer, max_steps=4, warmup_steps=1, learning_rate=1e-3, critic_learning_rate=4e-3)
    rates = []
    for _ in range(4):
        rates.append((made.step()["policy/learning_rate"], made.critic_optimizer.param_groups[0]["lr"]))
    policy = [0.5e-3, 0.75e-3, 0.5e-3, 0.25e-3]  # 1/2 in the warm-up, then 1 - step / 4
    assert rates == [(pytest.approx(rate), pytest.approx(4 * rate)) for rate in policy]


def test_the_adaptive_coefficient_is_logged_and_moves(tmp_path, tokenizer):
    made = trainer(tmp_path, tokenizer, kl_target=1.0, kl_horizon=16, kl_coef=0.1)
    assert made.step()["objective/kl_coef"] == 0.1
    assert made.kl_coef == pytest.approx(0.1 * 0.8)  # KL 0 is below the target: down by the clipped 20 %


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path, tokenizer):
    def weights(seed):
        made = trainer(tmp_path, tokenizer, seed=seed)
        made.train()
        return torch.cat([parameter.flatten() for parameter in made.policy.parameters()])

    first = weights(3)
    assert first.equal(weights(3)) and not first.equal(weights(4))


def test_pad_equal_to_eos_or_missing_changes_no_episode(tmp_path, tokenizer):
    """Masks come from lengths: with TRL's mask-by-pad-id the end token would drop out of every response here."""
    import copy

    expected = trainer(tmp_path, tokenizer).rollout(0)
    for pad in (tokenizer.eos_token, None):
        other = copy.deepcopy(tokenizer)
        other.pad_token = pad
        got = trainer(tmp_path, other).rollout(0)
        assert got.logprob_BR.equal(expected.logprob_BR) and got.response_tokens_B.equal(expected.response_tokens_B)
        assert got.is_stopped_B.any()


def test_a_transformers_only_architecture_trains_through_transformers_generate(tmp_path, tokenizer):
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=64, eos_token_id=2, bos_token_id=1, hidden_dropout=0.3, attention_dropout=0.3,
        )
    )  # fmt: skip
    made = trainer(tmp_path, tokenizer, model=model)
    assert not supports(made.policy)
    ppo_checks.check_ratio_is_one(made)
    ppo_checks.check_logprobs_are_the_models(made)
    assert made.rollout(0).tokens_BT.equal(made.rollout(0).tokens_BT), "the same seed gives the same responses"
    made.train()


def test_gradient_checkpointing_gives_the_same_gradient(tmp_path, tokenizer, dialect):
    gradients = []
    for is_on in (False, True):
        made = trainer(tmp_path, tokenizer, dialect, gradient_checkpointing=is_on, critic="separate")
        rollout = made.rollout(0)
        gradients.append(gradient(made, rollout, *made.advantages(rollout)[0]))
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, atol=1e-7, rtol=1e-5)


@pytest.mark.slow  # compiling takes half a minute
@pytest.mark.parametrize("adapter", [None, lora], ids=["full", "lora"])
def test_compiled_trunks_give_the_same_episodes_and_gradient(tmp_path, tokenizer, dialect, adapter):
    gradients = []
    for is_on in (False, True):
        made = trainer(
            tmp_path, tokenizer, dialect, peft_config=adapter and adapter(), torch_compile=is_on, critic="separate"
        )
        policy = made.policy.get_base_model() if adapter else made.policy
        assert all(
            (trunk._compiled_call_impl is not None) == is_on for trunk in (policy.base_model, made.module.critic)
        )
        names = set(made.module.state_dict())
        rollout = made.rollout(0)
        gradients.append((names, rollout, gradient(made, rollout, *made.advantages(rollout)[0])))
    (names, rollout, eager), (compiled_names, compiled_rollout, compiled) = gradients
    assert names == compiled_names and torch.equal(rollout.tokens_BT, compiled_rollout.tokens_BT)
    torch.testing.assert_close(compiled_rollout.logprob_BR, rollout.logprob_BR, atol=1e-5, rtol=0)
    for name, expected in eager.items():
        torch.testing.assert_close(compiled[name], expected, atol=1e-6, rtol=1e-3)


def test_messages_go_through_the_chat_template(tmp_path, tokenizer):
    import copy

    from alignment.ppo.trainer import PPOTrainer
    from base_model.chat import set_chat_template
    from tests.alignment.ppo.ppo_setup import config, lively

    chat, seen = set_chat_template(copy.deepcopy(tokenizer)), []

    def judge(prompts, completions, *, kind, **columns):
        seen.append((prompts[0], completions[0], kind[0]))
        return [0.0] * len(prompts)

    rows = [{"prompt": [{"role": "user", "content": "Hello"}], "kind": "greeting"}]
    made = PPOTrainer(lively(random_model("gpt2", len(chat))), judge, config(tmp_path), rows, processing_class=chat)
    rollout = made.rollout(0)
    assert chat.decode(rollout.tokens_BT[0][: rollout.prompt_tokens_B[0]]) == "<|bos|><|user|>Hello<|assistant|>"
    assert seen[0][0] == rows[0]["prompt"] and isinstance(seen[0][1], str) and seen[0][2] == "greeting"


def test_columns_reach_the_reward_function_beside_their_prompts(tmp_path, tokenizer):
    seen = []

    def judge(prompts, completions, *, weight, **columns):
        seen.extend(zip(prompts, weight, strict=True))
        return weight

    trainer(tmp_path, tokenizer, rewards=judge).rollout(0)
    assert len(seen) == 16 and all({"prompt": p, "weight": w} in PROMPTS for p, w in seen)


def test_several_rewards_are_weighted_and_logged_by_name(tmp_path, tokenizer):
    def length(prompts, completions, **columns):
        return [float(len(text)) for text in completions]

    made = trainer(tmp_path, tokenizer, rewards=[vowels, length], reward_weights=[2.0, -0.1])
    metrics = made.advantages(made.rollout(0))[1]
    expected = 2.0 * metrics["reward/vowels"] - 0.1 * metrics["reward/length"]
    assert metrics["objective/score"] == pytest.approx(expected, abs=1e-5)


def test_a_broken_gradient_stops_the_run_with_the_update_named(tmp_path, tokenizer):
    made = trainer(tmp_path, tokenizer, critic_warmup_steps=0)
    rollout = made.rollout(0)
    (advantage_BR, target_BR), _ = made.advantages(rollout)
    with pytest.raises(ValueError, match="policy/loss is nan in update 1: stopped"):
        made.update(rollout, advantage_BR * float("nan"), target_BR, step=0)


def test_bf16_trains_and_keeps_float32_weights(tmp_path, tokenizer, dialect):
    made = trainer(tmp_path, tokenizer, dialect, bf16=True)
    metrics = made.train()
    assert all(parameter.dtype == torch.float32 for parameter in made.policy.parameters())
    assert all(math.isfinite(value) for value in metrics.values())


def test_a_seed_of_several_numbers_differs_in_each_of_them():
    seeds = {mixed_seed(a, b, c) for a in range(8) for b in range(-2, 8) for c in range(5)}
    assert len(seeds) == 8 * 10 * 5 and all(0 <= seed < 2**63 for seed in seeds)


def test_the_clip_fraction_is_that_of_the_tokens_whose_gradient_is_cut(tmp_path, tokenizer):
    made = trainer(tmp_path, tokenizer, cliprange=0.001, critic_warmup_steps=0)
    assert made.step()["policy/clip_fraction"] > 0
    assert replace(made.args, cliprange=0.2).cliprange == 0.2 and losses.MAX_LOG_RATIO == 20
