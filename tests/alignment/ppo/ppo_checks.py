"""What must hold of PPO, as functions that assert it: the tests call them on the trainer as it is, and, to see that they bite, on
trainers with a bug planted. Expected numbers come from a plain transformers forward, from autograd and from loops written here."""

import torch

from alignment.ppo import losses, returns
from alignment.ppo.rollout import by_length, pack


def plain_logprobs(model, rollout, temperature: float) -> list[torch.Tensor]:
    """log softmax(logits / T) of every response token, one row at a time through the model's own forward: no padding at all."""
    found = []
    for b in range(len(rollout.tokens_BT)):
        start, n = rollout.prompt_tokens_B[b], rollout.response_tokens_B[b]
        ids = rollout.tokens_BT[b : b + 1, : start + n]
        with torch.no_grad():
            logprobs = torch.log_softmax(model(input_ids=ids).logits[0] / temperature, -1)
        found.append(torch.stack([logprobs[start + t - 1, ids[0, start + t]] for t in range(n)]))
    return found


def check_logprobs_are_the_models(trainer, atol: float = 1e-5) -> None:
    """Old log-probabilities are those of a plain forward at the sampling temperature, at the response tokens and nowhere else."""
    rollout = trainer.rollout(0)
    expected = plain_logprobs(trainer.policy, rollout, trainer.args.temperature)
    for row, logprobs_R in enumerate(expected):
        got_R = rollout.logprob_BR[row, : len(logprobs_R)]
        torch.testing.assert_close(got_R, logprobs_R, atol=atol, rtol=0)
    assert rollout.logprob_BR[~rollout.is_response_BR].eq(0).all()


def check_the_reference_is_the_model_without_its_adapter(trainer, atol: float = 1e-5) -> None:
    """Reference log-probabilities are those of a plain forward with peft's own switch off."""
    rollout = trainer.rollout(0)
    with trainer.policy.disable_adapter():
        expected = plain_logprobs(trainer.policy, rollout, trainer.args.temperature)
    for row, logprobs_R in enumerate(expected):
        torch.testing.assert_close(rollout.reference_BR[row, : len(logprobs_R)], logprobs_R, atol=atol, rtol=0)


def check_ratio_is_one(trainer, atol: float = 1e-6) -> None:
    """Before the first step, in every microbatch of every minibatch: ratio 1, approx KL 0, clip fraction 0."""
    rollout = trainer.rollout(0)
    order = torch.randperm(len(rollout.tokens_BT), generator=torch.Generator().manual_seed(5))
    for rows in order.chunk(trainer.args.num_mini_batches):
        tokens_B = rollout.tokens_B[rows].tolist()
        for batch in by_length(tokens_B, trainer.args.per_device_train_batch_size):
            index = rows[batch]
            packed = pack(rollout.tokens_BT[index], rollout.prompt_tokens_B[index], rollout.response_tokens_B[index])
            out = trainer.wrapped(packed.tokens_BT, packed.place_N, packed.target_N)
            old_N = rollout.logprob_BR[index, : packed.is_response_BR.shape[1]][packed.is_response_BR]
            log_ratio_N = losses.log_ratio(out.logprob_N, old_N)
            assert (log_ratio_N.exp() - 1).abs().max() <= atol, (
                f"ratio off by {(log_ratio_N.exp() - 1).abs().max():.2e}"
            )
            _, is_clipped_N = losses.policy_loss(log_ratio_N, torch.randn_like(old_N), cliprange=trainer.args.cliprange)
            assert not is_clipped_N.any()
            assert losses.approx_kl(log_ratio_N).abs().max() <= atol


def check_reward_gradient_is_that_of_the_objective() -> None:
    """By enumeration: following the shaped reward is following E[score] - beta KL(pi || ref)."""
    generator = torch.Generator().manual_seed(0)
    logits, reference, score = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    reference = torch.log_softmax(reference, 0)
    logprobs = torch.log_softmax(logits, 0)
    shaped = returns.shaped_rewards(
        score, logprobs.detach()[:, None], reference[:, None], torch.ones(6, 1, dtype=torch.bool), kl_coef=0.7
    )[:, 0]
    got = torch.autograd.grad((logprobs.exp().detach() * shaped * logprobs).sum(), logits, retain_graph=True)[0]
    objective = (logprobs.exp() * (score - 0.7 * (logprobs - reference))).sum()
    torch.testing.assert_close(got, torch.autograd.grad(objective, logits)[0], atol=1e-10, rtol=0)


def check_the_score_lands_on_the_last_token(trainer) -> None:
    """With no KL price and lambda 1, every advantage of an episode is its score less the value: nothing else, nowhere else."""
    rollout = trainer.rollout(0)
    trainer.kl_coef = 0.0
    lam, whiten = trainer.args.lam, trainer.args.whiten_advantages
    assert lam == 1.0 and not whiten, "build the trainer with lam=1, whiten_advantages=False"
    (advantage_BR, target_BR), _ = trainer.advantages(rollout)
    score_B = rollout.score_BK.sum(1) - trainer.args.missing_eos_penalty * (~rollout.is_stopped_B).float()
    is_response_BR = rollout.is_response_BR
    expected_BR = (score_B[:, None] - rollout.value_BR).masked_fill(~is_response_BR, 0)
    torch.testing.assert_close(advantage_BR, expected_BR, atol=1e-6, rtol=0)
    expected_target = score_B[:, None].expand_as(target_BR)[is_response_BR]
    torch.testing.assert_close(target_BR[is_response_BR], expected_target, atol=1e-6, rtol=0)
    zero_steps = returns.gae(
        returns.shaped_rewards(score_B, rollout.logprob_BR, rollout.reference_BR, is_response_BR, kl_coef=0.0),
        torch.zeros_like(rollout.value_BR), is_response_BR, gamma=1.0, lam=0.0,
    )  # fmt: skip
    last_B = rollout.response_tokens_B - 1
    assert zero_steps[range(len(last_B)), last_B].equal(score_B), "the score is not on the last response token"


def check_accumulation_changes_nothing(trainer, atol: float = 1e-6) -> None:
    """One gradient for 1 x 8, 2 x 4 and 8 x 1 episodes of unequal lengths: the mean is over the minibatch's tokens."""
    from tests.alignment.ppo.ppo_setup import change, gradient

    rollout = trainer.rollout(0)
    assert len(set(rollout.response_tokens_B.tolist())) > 2, "the episodes must differ in length"
    prepared, _ = trainer.advantages(rollout)
    rows, gradients = torch.arange(8), []
    for size in (8, 4, 1):
        change(trainer, per_device_train_batch_size=size)
        gradients.append(gradient(trainer, rollout, *prepared, rows))
    for other in gradients[1:]:
        assert other.keys() == gradients[0].keys()
        for name, expected in gradients[0].items():
            torch.testing.assert_close(other[name], expected, atol=atol, rtol=1e-4)


def check_whitening_is_over_the_whole_batch(trainer) -> None:
    """Advantages have mean 0 and standard deviation 1 over the tokens of the whole rollout batch."""
    (advantage_BR, _), _ = trainer.advantages(trainer.rollout(0))
    values = advantage_BR[trainer.rollout(0).is_response_BR].double()
    assert abs(values.mean()) < 1e-5 and abs(values.std(correction=0) - 1) < 1e-4
