"""Optimizers against updates worked by hand, and schedules against transformers' own."""

import math

import pytest
import torch
from torch import nn

from base_model.gpt import GPT, GPTConfig
from base_model.optim import learning_rate_factor, make_optimizers, scale_learning_rates


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPT(GPTConfig("gpt2", vocab_size=40, n_layer=2, n_head=2, d_model=16, context_length=8))


def test_adamw_decays_matrices_and_no_norm_or_bias(model):
    """With zero gradients AdamW's step is decay alone: p (1 - lr decay) = 0.99 p; in fp32 to 1e-6."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    (adamw,) = make_optimizers(model, "adamw", lr=0.1, weight_decay=0.1)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    adamw.step()
    for name, p in model.named_parameters():
        expected = before[name] * (0.99 if p.ndim == 2 else 1.0)
        torch.testing.assert_close(p.detach(), expected, atol=0, rtol=1e-6)
    assert any(p.ndim == 1 for p in model.parameters())


def test_muon_takes_block_matrices_and_adamw_all_else_once(model):
    adamw, muon = make_optimizers(model, "muon", lr=1e-3)
    by_muon = {id(p) for group in muon.param_groups for p in group["params"]}
    by_adamw = [id(p) for group in adamw.param_groups for p in group["params"]]
    assert by_muon == {id(p) for p in model.blocks.parameters() if p.ndim == 2}
    assert len(by_adamw) == len(set(by_adamw)) and by_muon.isdisjoint(by_adamw)
    assert by_muon | set(by_adamw) == {id(p) for p in model.parameters()}


def test_a_muon_update_is_close_to_orthogonal_with_the_norm_of_its_learning_rate(model):
    """Newton-Schulz with Muon's coefficients leaves singular values in 0.5 to 1.5 (Jordan 2024); for a (32, 16) matrix the
    update is scaled by lr sqrt(32/16). 16 x 16 gradients with singular values from 1 to 100 go in."""
    _, muon = make_optimizers(model, "muon", lr=0.0, muon_lr=0.1, weight_decay=0.0)
    matrix = nn.Parameter(model.blocks[0].mlp.inner.weight.detach()[:32].clone())
    muon.param_groups[0]["params"] = [matrix]
    before = matrix.detach().clone()
    u, _, v = torch.linalg.svd(torch.randn(32, 16), full_matrices=False)
    matrix.grad = u @ torch.diag(torch.linspace(1, 100, 16)) @ v
    muon.step()
    singular = torch.linalg.svdvals((before - matrix.detach()) / (0.1 * math.sqrt(2)))
    assert singular.min() > 0.4 and singular.max() < 1.6


def test_unknown_names_are_refused(model):
    with pytest.raises(ValueError, match="optimizer is 'sgd'; it must be one of adamw, muon"):
        make_optimizers(model, "sgd", lr=1e-3)
    with pytest.raises(ValueError, match="schedule is 'linear'; it must be one of cosine, wsd"):
        learning_rate_factor(0, steps=10, warmup_steps=0, schedule="linear")
    with pytest.raises(ValueError, match="this model has none; use adamw"):
        make_optimizers(nn.Linear(2, 2), "muon", lr=1e-3)


def test_cosine_is_transformers_cosine_after_the_warmup():
    from transformers import get_cosine_schedule_with_warmup

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=7, num_training_steps=50).lr_lambdas[0]
    for step in range(7, 50):
        ours = learning_rate_factor(step, steps=50, warmup_steps=7, schedule="cosine")
        assert ours == pytest.approx(theirs(step), abs=1e-12)


def test_wsd_is_transformers_wsd_after_the_warmup():
    from transformers import get_wsd_schedule

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_wsd_schedule(
        optimizer, num_warmup_steps=5, num_decay_steps=20, num_training_steps=50, decay_type="linear", min_lr_ratio=0.1
    ).lr_lambdas[0]
    for step in range(5, 51):
        ours = learning_rate_factor(
            step, steps=50, warmup_steps=5, schedule="wsd", decay_fraction=0.4, final_factor=0.1
        )
        assert ours == pytest.approx(theirs(step), abs=1e-12)


def test_warmup_is_a_straight_line_that_moves_at_the_first_step():
    factors = [learning_rate_factor(step, steps=100, warmup_steps=4, schedule="wsd") for step in range(6)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_scaling_is_of_the_peak_however_often_it_is_done(model):
    optimizers = make_optimizers(model, "muon", lr=1e-3, muon_lr=0.02)
    for factor in (0.1, 0.5, 0.25):
        scale_learning_rates(optimizers, factor)
    assert [group["lr"] for group in optimizers[0].param_groups] == pytest.approx([0.25e-3, 0.25e-3])
    assert optimizers[1].param_groups[0]["lr"] == pytest.approx(0.005)
