"""Choosing a token, against transformers' logits processors: with evenly spaced uniform numbers frequencies are exact, so nothing is
left to chance: each token's count may differ from N x probability by 1 at either end of its interval, and by float32 rounding."""

import pytest
import torch
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from base_model.sampling import FEW, SamplingConfig, penalise_repetition, sample

N = 20_000


@pytest.fixture
def logits_V():
    return 2 * torch.randn(40, generator=torch.Generator().manual_seed(0))


def frequencies(logits_V, sampling):
    """Share of each token over N draws at uniform numbers 0.5/N, 1.5/N, ..."""
    uniform_N = (torch.arange(N) + 0.5) / N
    return torch.bincount(sample(logits_V.expand(N, -1), uniform_N, sampling), minlength=len(logits_V)) / N


@pytest.mark.parametrize(
    ("settings", "warpers"),
    [
        ({}, []),
        ({"temperature": 0.6}, [TemperatureLogitsWarper(0.6)]),
        ({"top_k": 7}, [TopKLogitsWarper(7)]),
        ({"top_k": 1}, [TopKLogitsWarper(1)]),
        ({"top_k": 1000}, []),
        ({"top_p": 0.8}, [TopPLogitsWarper(0.8)]),
        ({"top_p": 0.01}, [TopPLogitsWarper(0.01)]),
        (
            {"temperature": 1.7, "top_k": 12, "top_p": 0.7},
            [TemperatureLogitsWarper(1.7), TopKLogitsWarper(12), TopPLogitsWarper(0.7)],
        ),
    ],
)
def test_frequencies_are_those_of_transformers(logits_V, settings, warpers):
    expected = logits_V[None]
    for warper in warpers:
        expected = warper(None, expected)
    difference = (frequencies(logits_V, SamplingConfig(**settings)) - expected.softmax(dim=-1)[0]).abs()
    assert difference.max() <= 1.01 / N


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.999])
def test_the_nucleus_of_a_large_vocabulary_is_transformers_whether_or_not_few_tokens_hold_it(top_p):
    logits_BV = torch.randn(2, 600, generator=torch.Generator().manual_seed(0)) * torch.tensor([[4.0], [0.5]])
    expected = TopPLogitsWarper(top_p)(None, logits_BV.clone()).softmax(dim=-1)
    n_nucleus = (expected > 0).sum(dim=-1)
    assert n_nucleus[0] < FEW, "the first row's is small"
    assert top_p == 0.3 or n_nucleus[1] > FEW, "the second row's is not"
    for logits_V, expected_V in zip(logits_BV, expected, strict=True):
        difference = (frequencies(logits_V, SamplingConfig(top_p=top_p)) - expected_V).abs()
        assert difference.max() <= 1.01 / N
    together = sample(logits_BV, torch.tensor([0.77, 0.77]), SamplingConfig(top_p=top_p))
    alone = [sample(logits_V[None], torch.tensor([0.77]), SamplingConfig(top_p=top_p)) for logits_V in logits_BV]
    assert together.tolist() == torch.cat(alone).tolist()


def test_the_repetition_penalty_is_transformers():
    logits_BV = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    seen_BS = torch.tensor([[3, 3, 5, 39], [0, 1, 2, 3], [7, 7, 7, 7]])
    expected = RepetitionPenaltyLogitsProcessor(1.7)(seen_BS, logits_BV.clone())
    assert torch.equal(penalise_repetition(logits_BV, seen_BS, 1.7), expected)


@pytest.mark.parametrize("settings", [{}, {"top_k": 3}, {"top_p": 0.9}])
def test_a_token_without_probability_is_never_drawn(settings):
    logits_BV = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(2, -1)
    ends_B = torch.tensor([2.0**-24, 1.0])  # the least and the greatest that 1 - torch.rand gives
    assert sample(logits_BV, ends_B, SamplingConfig(**settings)).tolist() == [1, 3]


@pytest.mark.parametrize("settings", [{}, {"top_k": 250}, {"top_p": 0.9999999}])
def test_the_greatest_uniform_number_stays_inside_though_probabilities_do_not_sum_to_one(settings):
    logits_BV = torch.randn(2000, 300, generator=torch.Generator().manual_seed(0))
    logits_BV[:, 290:] = -torch.inf
    assert (logits_BV.softmax(-1).cumsum(-1)[:, -1] < 1).any(), "the case must occur"
    assert sample(logits_BV, torch.ones(2000), SamplingConfig(**settings)).max() < 290


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0; it must be at least 1"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0 .for the likeliest token: greedy=True"),
        ({"top_k": -1}, "top_k is -1; it must be 0"),
        ({"top_p": 0.0}, r"top_p is 0.0; it must be in \(0, 1\]"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0; it must be above 0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SamplingConfig(**settings)
