"""From scores to advantages: the KL-shaped reward, generalised advantage estimation, and the adaptive KL coefficient.

Legend: B episodes, R response tokens (padded on the right), K reward functions. `is_response_BR` is True on a response's
tokens, its end token included; every response has at least one. What stands outside the mask never matters.

Sources: Ziegler et al. 2019 (arXiv:1909.08593) for the shaped reward and the adaptive coefficient, Schulman et al. 2015
(arXiv:1506.02438) for GAE, Huang et al. 2024 (arXiv:2403.17031) for where the score goes.
"""

import torch
from torch import Tensor


def combine_scores(
    score_BK: Tensor, weight_K: Tensor, is_stopped_B: Tensor, *, missing_eos_penalty: float, clip: float | None
) -> Tensor:
    """One score an episode, (B,): clip(sum_k weight_k score_k, -clip, clip), less the penalty where no stop token came.

    The penalty is applied after the clip, so that it never vanishes. clip None: no clip."""
    score_B = score_BK @ weight_K
    if clip is not None:
        score_B = score_B.clamp(-clip, clip)
    return score_B - missing_eos_penalty * (~is_stopped_B).to(score_B.dtype)


def shaped_rewards(
    score_B: Tensor, logprob_BR: Tensor, reference_BR: Tensor, is_response_BR: Tensor, *, kl_coef: float
) -> Tensor:
    """Reward per token, (B, R): r_t = -kl_coef (log pi_t - log ref_t), plus the score at the LAST response token; else 0.

    Its sum has the expectation E[score] - kl_coef KL(pi || ref). The k1 estimator is the one whose gradient, as a reward,
    is that of the KL; k3 in its place has the gradient of KL(pi || ref) - KL(ref || pi)."""
    reward_BR = (-kl_coef * (logprob_BR - reference_BR)).masked_fill(~is_response_BR, 0)
    last_B = is_response_BR.sum(1) - 1
    assert bool((last_B >= 0).all()), "an episode has no response token"
    return reward_BR.scatter_add(1, last_B.unsqueeze(1), score_B.unsqueeze(1).to(reward_BR.dtype))


def gae(reward_BR: Tensor, value_BR: Tensor, is_response_BR: Tensor, *, gamma: float, lam: float) -> Tensor:
    """Advantage per token: A_t = d_t + gamma lam A_{t+1}, d_t = r_t + gamma V_{t+1} - V_t, V = A = 0 after the last token.

    Returns (B, R), 0 where is_response_BR is False; not whitened. Raises ValueError if shapes differ.
    Source: arXiv:1506.02438, eq. 16."""
    if not reward_BR.shape == value_BR.shape == is_response_BR.shape:
        raise ValueError(
            f"reward {tuple(reward_BR.shape)}, value {tuple(value_BR.shape)} and mask {tuple(is_response_BR.shape)} "
            "must have one shape"
        )
    reward_BR = reward_BR.masked_fill(~is_response_BR, 0)
    value_BR = value_BR.masked_fill(~is_response_BR, 0)
    advantage_BR = torch.zeros_like(reward_BR)
    next_value_B = carry_B = torch.zeros_like(reward_BR[:, 0])
    for t in reversed(range(reward_BR.shape[1])):
        delta_B = reward_BR[:, t] + gamma * next_value_B - value_BR[:, t]
        carry_B = (delta_B + gamma * lam * carry_B).masked_fill(~is_response_BR[:, t], 0)
        advantage_BR[:, t] = carry_B
        next_value_B = value_BR[:, t]
    return advantage_BR


def adapted_kl_coef(kl_coef: float, kl_nats: float, *, target_nats: float, episodes: int, horizon: int) -> float:
    """The proportional controller: kl_coef (1 + clip(kl / target - 1, -0.2, 0.2) episodes / horizon).

    Source: arXiv:1909.08593, section 2.2. It moves the objective while training runs, so it is off by default."""
    error = min(max(kl_nats / target_nats - 1, -0.2), 0.2)
    return kl_coef * (1 + error * episodes / horizon)
