"""Optimizers and learning rates of pretraining: AdamW or Muon, warm-up, cosine or constant-then-decay.

AdamW (arXiv:1711.05101) with weight decay on matrices only: a norm's gain or a bias at 0 is not a smaller model.
Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon/; torch.optim.Muon) moves each matrix inside the blocks along its
orthogonalised momentum; embeddings, head, norms and biases stay with AdamW.
"""

import math
from collections.abc import Iterable

import torch
from torch import nn

OPTIMIZERS = ("adamw", "muon")
FUSED_DEVICES = ("cpu", "cuda", "mps")  # where torch has AdamW as one kernel
SCHEDULES = ("cosine", "wsd")


def make_optimizers(
    model: nn.Module,
    name: str,
    *,
    lr: float,
    muon_lr: float = 0.02,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
    muon_momentum: float = 0.95,
) -> list[torch.optim.Optimizer]:
    """[AdamW] for "adamw"; [AdamW, Muon] for "muon". Each trainable parameter is in exactly one group.

    lr is AdamW's peak, muon_lr Muon's: an update of a (rows, columns) matrix has the spectral norm muon_lr sqrt(max(1, rows/columns)).
    Decay is decoupled: p <- p - lr weight_decay p. Raises ValueError for an unknown name or a model without matrices in `blocks`.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer is {name!r}; it must be one of {', '.join(OPTIMIZERS)}")
    trained = [(key, p) for key, p in model.named_parameters() if p.requires_grad]
    inside = [p for key, p in trained if p.ndim == 2 and "blocks." in key] if name == "muon" else []
    if name == "muon" and not inside:
        raise ValueError("muon moves the matrices inside `blocks`, and this model has none; use adamw")
    taken = {id(p) for p in inside}
    rest = [p for _, p in trained if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    is_fused = all(p.device.type in FUSED_DEVICES for p in rest)
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=lr, betas=betas, fused=is_fused)]
    if inside:
        optimizers.append(torch.optim.Muon(inside, lr=muon_lr, weight_decay=weight_decay, momentum=muon_momentum))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]  # torch's name for the peak that a schedule scales
    return optimizers


def learning_rate_factor(
    step: int, *, steps: int, warmup_steps: int, schedule: str, decay_fraction: float = 0.3, final_factor: float = 0.0
) -> float:
    """Share of the peak learning rate at optimizer step `step`, counted from 0.

    Warm-up is linear: (step + 1) / (warmup_steps + 1), so that the first step moves. Then
        cosine   final + (1 - final) (1 + cos(pi t)) / 2,  t = (step - warmup_steps) / (steps - warmup_steps)
        wsd      1, and over the last decay_fraction of `steps` a straight line to final   (arXiv:2404.06395)
    Both would reach final_factor at `steps`, one past the last step. Raises ValueError for an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is {schedule!r}; it must be one of {', '.join(SCHEDULES)}")
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "cosine":
        left = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))))
    else:
        decay_steps = max(1.0, decay_fraction * steps)
        left = min(1.0, max(0.0, steps - step) / decay_steps)
    return final_factor + (1 - final_factor) * left


def scale_learning_rates(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Set each group's learning rate to `factor` times its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
