"""From logits to the next token: the filters of transformers' `generate`, in its order, and sampling by inverse CDF.

Shapes: B rows, V vocabulary, K candidates kept by top-k, S tokens so far.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FEW = 128  # tokens that hold top_p of the probability in most places, once a model has learned something


@dataclass(frozen=True)
class SamplingConfig:
    """How to continue a prompt. Filters act in this order: repetition penalty, temperature, top-k, top-p."""

    max_new_tokens: int = 64  # the stop token included
    temperature: float = 1.0  # logits are divided by it
    top_k: int = 0  # only the k likeliest tokens; 0: all
    top_p: float = 1.0  # only the likeliest tokens that together reach this probability
    repetition_penalty: float = (
        1.0  # > 1 lowers the logits of tokens already in the prompt or the answer (arXiv:1909.05858)
    )
    greedy: bool = False  # the likeliest token; temperature, top_k and top_p have no part in it
    stop_token_ids: tuple[int, ...] = ()  # an answer ends with the first of these

    def __post_init__(self):
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))  # YAML gives a list
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1")
        if not self.temperature > 0:
            raise ValueError(
                f"temperature is {self.temperature}; it must be above 0 (for the likeliest token: greedy=True)"
            )
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; it must be 0 (all tokens) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be in (0, 1]")
        if not self.repetition_penalty > 0:
            raise ValueError(f"repetition_penalty is {self.repetition_penalty}; it must be above 0 (1: none)")


def next_token(logits_BV: Tensor, seen_BS: Tensor | None, uniform_B: Tensor | None, sampling: SamplingConfig) -> Tensor:
    """The token that follows in each row, (B,) long. seen_BS: prompt and answer so far, for the repetition penalty; uniform_B: see
    `sample`, not needed where sampling is greedy."""
    if sampling.repetition_penalty != 1.0:
        logits_BV = penalise_repetition(logits_BV, seen_BS, sampling.repetition_penalty)
    return logits_BV.argmax(dim=-1) if sampling.greedy else sample(logits_BV, uniform_B, sampling)


def logprobs_of(logits_BV: Tensor, token_B: Tensor, sampling: SamplingConfig) -> Tensor:
    """log softmax(logits / temperature) of each row's token, (B,) nats, before any filter."""
    if not sampling.greedy and sampling.temperature != 1.0:
        logits_BV = logits_BV / sampling.temperature
    return logits_BV.gather(1, token_B[:, None])[:, 0] - logits_BV.logsumexp(dim=-1)


def penalise_repetition(logits_BV: Tensor, seen_BS: Tensor, penalty: float) -> Tensor:
    """Logits of the token ids in `seen_BS` divided by the penalty where positive and multiplied by it where negative, once
    however often a token is in it. Source: arXiv:1909.05858, section 4.1; transformers' form for negative logits."""
    logits_BS = logits_BV.gather(1, seen_BS)
    return logits_BV.scatter(1, seen_BS, torch.where(logits_BS < 0, logits_BS * penalty, logits_BS / penalty))


def sample(logits_BV: Tensor, uniform_B: Tensor, sampling: SamplingConfig) -> Tensor:
    """One token a row, (B,) long: the first whose cumulative probability reaches the row's uniform number in (0, 1].

    A function of its arguments alone, so a row's draw does not depend on its neighbours. Tokens of probability 0 are never
    drawn. Ties at the k-th place of top-k are cut, where transformers keeps them all.
    """
    if sampling.temperature != 1.0:
        logits_BV = logits_BV / sampling.temperature
    if 0 < sampling.top_k < logits_BV.shape[1]:
        logits_BK, token_BK = logits_BV.topk(sampling.top_k)
        probability_BK = logits_BK.softmax(dim=-1)
    elif sampling.top_p < 1.0:
        probability_BK, token_BK = _likeliest(logits_BV, sampling.top_p)
    else:
        cumulative_BV = logits_BV.softmax(dim=-1).cumsum(dim=-1)
        return _first_reaching(cumulative_BV, uniform_B * cumulative_BV[:, -1])
    cumulative_BK = probability_BK.cumsum(dim=-1)
    total_B = cumulative_BK[:, -1]
    if sampling.top_p < 1.0:  # kept: a prefix, up to the token that reaches top_p
        n_nucleus_B = (cumulative_BK - probability_BK < sampling.top_p).sum(dim=-1)
        total_B = cumulative_BK.gather(1, (n_nucleus_B - 1).clamp(min=0)[:, None])[:, 0]
    return token_BK.gather(1, _first_reaching(cumulative_BK, uniform_B * total_B)[:, None])[:, 0]


def _likeliest(logits_BV: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Probabilities and tokens, likeliest first, at least as many as reach top_p: all of them, or FEW where that will do, since on a
    CPU sorting a vocabulary takes longer than a small model does. (Elsewhere asking whether it will do waits for the device.)"""
    log_total_B1 = logits_BV.logsumexp(dim=-1, keepdim=True)
    if logits_BV.device.type == "cpu" and logits_BV.shape[1] > FEW:
        logits_BK, token_BK = logits_BV.topk(FEW)
        probability_BK = (logits_BK - log_total_B1).exp()
        if (probability_BK.sum(dim=-1) > top_p + 1e-5).all():  # a margin for the rounding of the sum
            return probability_BK, token_BK
    logits_BV, token_BV = logits_BV.sort(descending=True)
    return (logits_BV - log_total_B1).exp(), token_BV


def _first_reaching(cumulative_BK: Tensor, target_B: Tensor) -> Tensor:
    return torch.searchsorted(cumulative_BK, target_B[:, None])[:, 0]
