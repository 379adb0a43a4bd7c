"""PPO's losses and the KL estimators, per token: any shape in, the same shape out. The caller masks and averages.

A loss here is summed over the tokens of an optimizer minibatch and divided by their number, over all microbatches and
processes; a mean of means would weigh tokens by how the batch was cut.

Sources: Schulman et al. 2017 (arXiv:1707.06347) for the clipped objective; Schulman 2020, "Approximating KL divergence", for
the estimators.
"""

import torch
from torch import Tensor

MAX_LOG_RATIO = 20.0  # nats; exp(20) = 5e8 stays finite in float32 products, where exp(100) would not


def kl_k1(logprob: Tensor, reference: Tensor) -> Tensor:
    """log pi - log ref at tokens sampled from pi: an unbiased estimate of KL(pi || ref); may be negative."""
    return logprob - reference


def kl_k2(logprob: Tensor, reference: Tensor) -> Tensor:
    """(log pi - log ref)^2 / 2: biased, low variance, >= 0. A metric only."""
    return (logprob - reference).square() / 2


def kl_k3(logprob: Tensor, reference: Tensor) -> Tensor:
    """ref/pi - 1 - log(ref/pi): an unbiased estimate of KL(pi || ref), >= 0. A metric only: as a reward its gradient is wrong."""
    log_ratio = reference - logprob
    return log_ratio.exp() - 1 - log_ratio


def log_ratio(logprob: Tensor, old_logprob: Tensor) -> Tensor:
    """log(pi / pi_old), clamped at +-20 nats so that its exponential stays finite."""
    return (logprob - old_logprob).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def policy_loss(log_ratio: Tensor, advantage: Tensor, *, cliprange: float) -> tuple[Tensor, Tensor]:
    """max(-A rho, -A clip(rho, 1 - c, 1 + c)) with rho = exp(log_ratio), and where the clip cut the gradient off (bool).

    At rho = 1 its gradient is that of -A log pi. Source: arXiv:1707.06347, eq. 7 (there a maximum is sought)."""
    ratio = log_ratio.exp()
    unclipped = -advantage * ratio
    clipped = -advantage * ratio.clamp(1 - cliprange, 1 + cliprange)
    return torch.maximum(unclipped, clipped), clipped > unclipped


def value_loss(value: Tensor, old_value: Tensor, target: Tensor, *, cliprange: float | None) -> Tensor:
    """0.5 max((v - R)^2, (clip(v, v_old - c, v_old + c) - R)^2). The clip is in reward units; None: 0.5 (v - R)^2."""
    loss = (value - target).square()
    if cliprange is not None:
        clipped = old_value + (value - old_value).clamp(-cliprange, cliprange)
        loss = torch.maximum(loss, (clipped - target).square())
    return 0.5 * loss


def approx_kl(log_ratio: Tensor) -> Tensor:
    """rho - 1 - log rho at tokens of pi_old: an unbiased estimate of KL(pi_old || pi), >= 0, and 0 before the first step."""
    return log_ratio.exp() - 1 - log_ratio


def explained_variance(value: Tensor, target: Tensor) -> float:
    """1 - Var(target - value) / Var(target) over all entries: 1 is a perfect critic, 0 one that knows the mean, nan if
    the targets are all equal."""
    variance = target.double().var(correction=0)
    return (
        (1 - (target.double() - value.double()).var(correction=0) / variance).item() if variance > 0 else float("nan")
    )
