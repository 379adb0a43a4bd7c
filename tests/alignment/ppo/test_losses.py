"""Expected numbers: closed-form categorical KL by enumeration, torch autograd of the textbook objective, rows worked by hand.

float64 throughout, tolerance 1e-10: the sums have at most 9 terms."""

import math

import pytest
import torch

from alignment.ppo.losses import (
    approx_kl,
    explained_variance,
    kl_k1,
    kl_k2,
    kl_k3,
    log_ratio,
    policy_loss,
    value_loss,
)


@pytest.fixture
def pair():
    """Two log-distributions over 9 tokens, and KL(pi || ref) from torch."""
    torch.manual_seed(0)
    pi, ref = torch.log_softmax(torch.randn(2, 9, dtype=torch.float64), -1)
    kl = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=pi), torch.distributions.Categorical(logits=ref)
    )
    return pi, ref, kl


def test_k1_and_k3_are_unbiased_and_k2_is_not_by_enumeration(pair):
    pi, ref, kl = pair
    for estimator in (kl_k1, kl_k3):
        torch.testing.assert_close((pi.exp() * estimator(pi, ref)).sum(), kl, atol=1e-10, rtol=0)
    assert abs((pi.exp() * kl_k2(pi, ref)).sum() - kl) > 1e-2


def test_k3_and_k2_are_never_negative(pair):
    pi, ref, _ = pair
    assert (kl_k3(pi, ref) >= 0).all() and (kl_k2(pi, ref) >= 0).all() and (kl_k1(pi, ref) < 0).any()


def test_k3_in_the_reward_has_the_gradient_of_the_difference_of_both_kls(pair):
    """Why k3 is a metric only: grad E[k3 as reward] = grad(KL(pi||ref) - KL(ref||pi)), which is not that of the KL."""
    pi, ref, _ = pair
    logits = pi.clone().requires_grad_()
    logprobs = torch.log_softmax(logits, 0)
    surrogate = (logprobs.exp().detach() * kl_k3(logprobs, ref).detach() * logprobs).sum()
    got = torch.autograd.grad(surrogate, logits)[0]
    logprobs = torch.log_softmax(logits, 0)
    forward_kl = (logprobs.exp() * (logprobs - ref)).sum()
    reverse_kl = (ref.exp() * (ref - logprobs)).sum()
    wrong = torch.autograd.grad(forward_kl - reverse_kl, logits, retain_graph=True)[0]
    right = torch.autograd.grad(forward_kl, logits)[0]
    torch.testing.assert_close(got, wrong, atol=1e-10, rtol=0)
    assert (got - right).abs().max() > 1e-2


def test_approx_kl_is_unbiased_for_the_kl_from_the_old_policy_by_enumeration(pair):
    old, new, kl = pair
    torch.testing.assert_close((old.exp() * approx_kl(log_ratio(new, old))).sum(), kl, atol=1e-10, rtol=0)


def test_one_step_bandit_gradient_at_ratio_1_is_that_of_expected_advantage_times_log_pi():
    torch.manual_seed(0)
    logits = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    action, advantage = torch.randint(9, (4,)), torch.randn(4, dtype=torch.float64)
    logprob = torch.log_softmax(logits, -1)[range(4), action]
    expected = torch.autograd.grad((advantage * logprob).sum(), logits, retain_graph=True)[0]
    loss, is_clipped = policy_loss(log_ratio(logprob, logprob.detach()), advantage, cliprange=0.2)
    got = torch.autograd.grad(-loss.sum(), logits)[0]
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=0)
    assert not is_clipped.any()


@pytest.mark.parametrize(
    "ratio, advantage, loss, is_clipped",
    [
        (1.5, 2.0, -2.4, True),  # gain capped at 1.2 * 2
        (1.5, -2.0, 3.0, False),  # a bad move made likelier is not forgiven
        (0.5, 2.0, -1.0, False),  # a good move made rarer is not forgiven
        (0.5, -2.0, 1.6, True),  # gain capped at 0.8 * -2
        (1.1, 2.0, -2.2, False),
    ],
)
def test_policy_loss_by_hand(ratio, advantage, loss, is_clipped):
    log_rho = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    got, clipped = policy_loss(log_rho, torch.tensor([advantage], dtype=torch.float64), cliprange=0.2)
    assert got.item() == pytest.approx(loss, abs=1e-10) and clipped.item() is is_clipped
    got.backward()
    assert (log_rho.grad.item() == 0) is is_clipped


def test_log_ratio_is_clamped_so_that_a_lost_token_gives_a_finite_loss():
    got = log_ratio(torch.tensor([0.0, -200.0]), torch.tensor([-100.0, 0.0]))
    assert got.tolist() == [20.0, -20.0]
    assert torch.isfinite(policy_loss(got, torch.tensor([-1.0, 1.0]), cliprange=0.2)[0]).all()


@pytest.mark.parametrize(
    "value, cliprange, expected",
    [
        (1.0, 0.2, 0.5 * 3.8**2),  # clip(1, +-0.2) = 0.2: the larger error counts, so it can't be shed in one step
        (-1.0, 0.2, 0.5 * 25.0),  # away from the target: the raw error is the larger
        (1.0, None, 0.5 * 9.0),
        (0.1, 0.2, 0.5 * 3.9**2),
    ],
)
def test_value_loss_by_hand(value, cliprange, expected):
    tensors = [torch.tensor([number], dtype=torch.float64) for number in (value, 0.0, 4.0)]
    assert value_loss(*tensors, cliprange=cliprange).item() == pytest.approx(expected, abs=1e-10)


def test_explained_variance_is_1_for_a_perfect_critic_0_for_the_mean_and_nan_without_variance():
    target = torch.tensor([1.0, 2.0, 6.0])
    assert explained_variance(target, target) == 1.0
    assert explained_variance(torch.full((3,), 3.0), target) == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(explained_variance(target, torch.ones(3)))
