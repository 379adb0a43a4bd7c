"""Expected numbers: a float64 double loop written from the definitions, rows worked by hand, and torch autograd on an enumerated policy.

Tolerance 1e-5 where float32 sums of up to 12 terms of size 1 meet float64 ones; else exact."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.ppo.returns import adapted_kl_coef, combine_scores, gae, shaped_rewards


def ragged(lengths, width=None):
    width = width or max(lengths)
    return torch.arange(width) < torch.tensor(lengths)[:, None]


def gae_double_loop(reward, value, lengths, gamma, lam):
    """A_t = sum_k (gamma lam)^k d_{t+k}, in Python floats, straight from the definition."""
    advantages = []
    for row, length in enumerate(lengths):
        deltas = []
        for t in range(length):
            after = value[row][t + 1].item() if t + 1 < length else 0.0
            deltas.append(reward[row][t].item() + gamma * after - value[row][t].item())
        advantages.append([sum((gamma * lam) ** k * deltas[t + k] for k in range(length - t)) for t in range(length)])
    return advantages


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6))
def test_gae_equals_the_double_loop_on_ragged_masks(lengths, gamma, lam, seed):
    generator = torch.Generator().manual_seed(seed)
    reward, value = torch.randn(2, len(lengths), 12, generator=generator)
    is_response = ragged(lengths, 12)
    got = gae(
        reward.masked_fill(~is_response, torch.nan),
        value.masked_fill(~is_response, torch.nan),
        is_response,
        gamma=gamma,
        lam=lam,
    )
    expected = gae_double_loop(reward, value, lengths, gamma, lam)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(got[row, :length], torch.tensor(expected[row]), atol=1e-5, rtol=1e-5)
    assert got[~is_response].eq(0).all()


def test_gae_with_lam_1_is_return_minus_value():
    torch.manual_seed(0)
    reward, value = torch.randn(2, 4, 6).double()
    is_response = ragged([6, 1, 3, 4])
    reward = reward.masked_fill(~is_response, 0)
    to_go = reward.flip(1).cumsum(1).flip(1)
    expected = (to_go - value).masked_fill(~is_response, 0)
    torch.testing.assert_close(gae(reward, value, is_response, gamma=1.0, lam=1.0), expected, atol=1e-12, rtol=0)


def test_gae_with_lam_0_is_the_one_step_error():
    reward, value = torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 20.0]])
    assert gae(reward, value, ragged([2]), gamma=0.5, lam=0.0).tolist() == [[1 + 10 - 10, 2 - 20]]


def test_gae_refuses_shapes_that_differ():
    with pytest.raises(ValueError, match=r"reward \(2, 3\), value \(2, 4\)"):
        gae(torch.zeros(2, 3), torch.zeros(2, 4), torch.ones(2, 3, dtype=torch.bool), gamma=1, lam=1)


def test_the_score_sits_on_the_last_response_token_and_the_kl_on_every_one():
    # By hand: -0.5 * (logprob - reference) = -0.5 * 1 on each valid token; scores 10 and 20 on tokens 1 and 2.
    logprob, reference = torch.full((2, 3), -1.0), torch.full((2, 3), -2.0)
    got = shaped_rewards(torch.tensor([10.0, 20.0]), logprob, reference, ragged([2, 3]), kl_coef=0.5)
    assert got.tolist() == [[-0.5, 9.5, 0.0], [-0.5, -0.5, 19.5]]


def test_padding_does_not_enter_the_shaped_reward():
    is_response = ragged([1, 3])
    logprob = torch.zeros(2, 3).masked_fill(~is_response, torch.nan)
    got = shaped_rewards(torch.ones(2), logprob, logprob, is_response, kl_coef=1.0)
    assert got.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_scores_are_weighted_clipped_and_then_penalised_where_the_end_token_is_missing():
    score_BK = torch.tensor([[1.0, 2.0], [30.0, 0.0], [-40.0, 0.0]])
    is_stopped = torch.tensor([True, True, False])
    weights = torch.tensor([1.0, 0.5])
    got = combine_scores(score_BK, weights, is_stopped, missing_eos_penalty=1.0, clip=10.0)
    assert got.tolist() == [2.0, 10.0, -11.0]
    got = combine_scores(score_BK, weights, is_stopped, missing_eos_penalty=0.0, clip=None)
    assert got.tolist() == [2.0, 30.0, -40.0]


@pytest.mark.parametrize("kl, expected", [(20.0, 0.1 * 1.02), (0.0, 0.1 * 0.98), (11.0, 0.1 * 1.01), (10.0, 0.1)])
def test_the_adaptive_coefficient_moves_by_a_clipped_share(kl, expected):
    got = adapted_kl_coef(0.1, kl, target_nats=10.0, episodes=100, horizon=1000)
    assert got == pytest.approx(expected, abs=1e-12)


def policy_gradient(logits, reward_of_token):
    """E_pi[reward * grad log pi] over every token, by enumeration: the gradient that a reward of this form follows."""
    logprobs = torch.log_softmax(logits, 0)
    surrogate = (logprobs.exp().detach() * reward_of_token(logprobs.detach()) * logprobs).sum()
    return torch.autograd.grad(surrogate, logits)[0]


def test_k1_in_the_reward_has_the_gradient_of_the_kl_by_enumeration():
    torch.manual_seed(0)
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    reference = torch.log_softmax(torch.randn(6, dtype=torch.float64), 0)

    def reward(logprobs):
        one_token = torch.ones(6, 1, dtype=torch.bool)
        return shaped_rewards(torch.zeros(6), logprobs[:, None], reference[:, None], one_token, kl_coef=1.0)[:, 0]

    logprobs = torch.log_softmax(logits, 0)
    expected = torch.autograd.grad(-(logprobs.exp() * (logprobs - reference)).sum(), logits)[0]
    torch.testing.assert_close(policy_gradient(logits, reward), expected, atol=1e-12, rtol=0)
