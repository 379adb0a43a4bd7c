"""How far a model has moved and whether its answers are preferred: KL by sampling, win rates raw and length-controlled.

Shapes: B prompts of a batch, T tokens, V vocabulary, N items.
"""

from __future__ import annotations

import math
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


def length_controlled_win_rate(is_win_N: np.ndarray, length_difference_N: np.ndarray) -> Estimate:
    """Win rate that would be had at equal lengths: sigma(theta) of the fit P(win) = sigma(theta + phi tanh(d / sd(d))).

    is_win: 1, 0, or 1/2 for a tie; length_difference: tokens of the model's answer minus the other's. Both coefficients carry a
    ridge of 0.01, which keeps them finite when one side wins everything. The interval is Wald's for theta (inverse Hessian). Source:
    AlpacaEval 2, arXiv:2404.04475, without its term for the difficulty of an instruction (one pair of models can't tell it from noise).
    """
    spread = float(length_difference_N.std())
    x_N = np.tanh(length_difference_N / spread) if spread > 0 else np.zeros(len(is_win_N))
    features_N2 = np.stack([np.ones(len(x_N)), x_N], axis=1)
    weights_2 = np.zeros(2)
    for _ in range(25):  # Newton's steps on the penalised log-likelihood
        chance_N = 1 / (1 + np.exp(-features_N2 @ weights_2))
        gradient_2 = features_N2.T @ (is_win_N - chance_N) - RIDGE * weights_2
        hessian_22 = (features_N2.T * (chance_N * (1 - chance_N))) @ features_N2 + RIDGE * np.eye(2)
        weights_2 += np.clip(np.linalg.solve(hessian_22, gradient_2), -2, 2)
    half = statistics.student_t_quantile(0.975, math.inf) * math.sqrt(np.linalg.inv(hessian_22)[0, 0])
    value, low, high = (1 / (1 + math.exp(-(weights_2[0] + shift))) for shift in (0.0, -half, half))
    return Estimate(value, low, high, len(x_N))
