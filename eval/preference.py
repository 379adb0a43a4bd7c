"""How far a model has moved and whether its answers are preferred: KL by sampling, win rates raw and length-controlled.

Shapes: B prompts of a batch, T tokens, V vocabulary, N items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from base_model.chat import render_prompt
from eval import statistics
from eval.generation import Decoding, continue_ids
from eval.results import Metric, item_hash
from eval.scorer import NonFiniteError, context_length
from eval.statistics import Estimate

RIDGE = 0.01


@torch.no_grad()
def sequence_kl_nats(model, other, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> list[float]:
    """sum_t KL(model(. | prompt, y_<t) || other(. | prompt, y_<t)) in nats along each given response y.

    Its mean over responses sampled from `model` is KL(model || other) over whole responses, with less variance than the mean of
    log-ratios, and never negative. Source: arXiv:2504.10637 (Rao-Blackwellised estimator).
    """
    device = next(model.parameters()).device
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(responses[i]))
    sums = [0.0] * len(prompts)
    for start in range(0, len(order), 8):
        batch = order[start : start + 8]
        rows = [[*prompts[i], *responses[i]] for i in batch]
        width = max(map(len, rows))  # filled up on the right, where causal attention hides it
        tokens_BT = torch.tensor([row + row[:1] * (width - len(row)) for row in rows], device=device)
        ours_BTV = model(input_ids=tokens_BT, use_cache=False).logits
        theirs_BTV = other(input_ids=tokens_BT, use_cache=False).logits
        for b, i in enumerate(batch):
            where = slice(len(prompts[i]) - 1, len(rows[b]) - 1)
            ours_TV = ours_BTV[b, where].float().log_softmax(-1)
            theirs_TV = theirs_BTV[b, where].float().log_softmax(-1)
            sums[i] = float((ours_TV.exp() * (ours_TV - theirs_TV)).sum(-1).double().sum())
    return sums


def measure_kl(
    model, other, tokenizer, rows: Sequence[Mapping[str, Any]], max_new_tokens: int, seed: int
) -> tuple[list[dict], list[Metric]]:
    """Items and metrics of KL(model || other) over responses sampled from `model` at temperature 1, in nats."""
    room = min(context_length(model), context_length(other)) - max_new_tokens
    if room < 1:
        raise ValueError(f"kl: max_new_tokens {max_new_tokens} leaves no room for a prompt")
    prompts = [render_prompt(tokenizer, row["prompt"])[-room:] for row in rows]
    made = continue_ids(model, tokenizer, prompts, Decoding(max_new_tokens, temperature=1.0, seed=seed))
    responses = [ids for ids, _ in made]
    items = []
    for row, ids, kl in zip(rows, responses, sequence_kl_nats(model, other, prompts, responses), strict=True):
        if not torch.isfinite(torch.tensor(kl)):
            raise NonFiniteError(f"the KL on prompt {len(items)} is {kl}")
        items.append(
            {
                "set": "kl",
                "kind": "kl",
                "item": item_hash("kl", row["prompt"]),
                "prompt": row["prompt"],
                "output": tokenizer.decode(ids, skip_special_tokens=True).strip(),
                "scores": {"kl_nats": kl, "response_tokens": len(ids)},
            }
        )
    how = "sampled at temperature 1, exact over the vocabulary at each token (Rao-Blackwellised)"
    metrics = [
        Metric(
            "kl",
            "kl_nats",
            "mean",
            ("kl_nats",),
            higher_is_better=None,
            unit="nats/response",
            is_headline=True,
            signature=how,
        ),
        Metric(
            "kl",
            "kl_nats_per_token",
            "ratio",
            ("kl_nats", "response_tokens"),
            higher_is_better=None,
            unit="nats/token",
            signature=how,
        ),
    ]
    return items, metrics


def length_controlled_win_rate(
    is_win_N: np.ndarray, length_difference_N: np.ndarray, *, resamples: int = 500, seed: int = 0
) -> Estimate:
    """Win rate that would be had at equal lengths: sigma(theta) of the fit P(win) = sigma(theta + phi tanh(d / sd(d))).

    is_win: 1, 0, or 1/2 for a tie; length_difference: tokens of the model's answer minus the other's. Both coefficients carry a
    ridge of 0.01, which keeps them finite when one side wins everything. Source: AlpacaEval 2, arXiv:2404.04475, without its
    term for the difficulty of an instruction (one pair of models can't tell it from noise).
    """
    spread = float(length_difference_N.std())
    x_N = np.tanh(length_difference_N / spread) if spread > 0 else np.zeros(len(is_win_N))
    counts_RN = np.concatenate([np.ones((1, len(x_N))), statistics.resample_counts(len(x_N), resamples, seed)])
    theta_R = np.zeros(len(counts_RN))
    phi_R = np.zeros(len(counts_RN))
    for _ in range(25):  # Newton's steps on the penalised log-likelihood, all resamples at once
        chance_RN = 1 / (1 + np.exp(-(theta_R[:, None] + phi_R[:, None] * x_N)))
        residual_RN = counts_RN * (is_win_N - chance_RN)
        weight_RN = counts_RN * chance_RN * (1 - chance_RN)
        gradient_R, slope_R = residual_RN.sum(1) - RIDGE * theta_R, residual_RN @ x_N - RIDGE * phi_R
        a_R, b_R, d_R = weight_RN.sum(1) + RIDGE, weight_RN @ x_N, weight_RN @ x_N**2 + RIDGE
        determinant_R = a_R * d_R - b_R**2
        theta_R += np.clip((d_R * gradient_R - b_R * slope_R) / determinant_R, -2, 2)
        phi_R += np.clip((a_R * slope_R - b_R * gradient_R) / determinant_R, -2, 2)
    rate_R = 1 / (1 + np.exp(-theta_R))
    low, high = np.quantile(rate_R[1:], [0.025, 0.975])
    return Estimate(float(rate_R[0]), float(low), float(high), len(x_N))
