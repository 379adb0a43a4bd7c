"""Reward functions: what may be one, and calling them so that a mistake in one is found at once and named.

A reward function is `f(prompts, completions, **columns) -> list[float]`, as TRL's trainers and this project's judges have it:
prompts as they stand in the data set, completions as text, every other column of the data set as a list. A sequence
classifier with one label (a model, or the folder of one) is wrapped in `reward.model.RewardModel`, which re-tokenises the text with
its own tokenizer.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reward.model import RewardModel


@dataclass(frozen=True)
class Reward:
    """A named reward function with its weight."""

    name: str
    function: Callable[..., list[float]]
    weight: float = 1.0

    @property
    def model(self) -> RewardModel | None:
        """The reward model that the function belongs to, if it does."""
        owner = getattr(self.function, "__self__", None)
        return owner if isinstance(owner, RewardModel) else None


def build_rewards(
    reward_funcs: Any, weights: Sequence[float] | None = None, tokenizers: Any = None, device: Any = None
) -> list[Reward]:
    """One Reward each of a function, a sequence classifier or the folder of one (one alone or a sequence of them).

    tokenizers: for classifiers given as models, in the same order (None: loaded from the model's own name).
    Raises ValueError for none, for what is no function and no one-label classifier, and for a wrong number of weights."""
    functions = list(reward_funcs) if isinstance(reward_funcs, (list, tuple)) else [reward_funcs]
    tokenizers = list(tokenizers) if isinstance(tokenizers, (list, tuple)) else [tokenizers] * len(functions)
    if not functions:
        raise ValueError("reward_funcs is empty; give at least one function or reward model")
    for name, values in (("reward_weights", weights), ("reward_processing_classes", tokenizers)):
        if values is not None and len(values) != len(functions):
            raise ValueError(f"{name} has {len(values)} entries for {len(functions)} reward functions; give one each")
    weights = [1.0] * len(functions) if weights is None else [float(weight) for weight in weights]
    named = [_named(function, tokenizer, device) for function, tokenizer in zip(functions, tokenizers, strict=True)]
    return [
        Reward(_unique(i, [name for name, _ in named]), function, weight)
        for i, ((_, function), weight) in enumerate(zip(named, weights, strict=True))
    ]


def _named(function: Any, tokenizer: Any, device: Any) -> tuple[str, Callable]:
    if isinstance(function, (str, Path)):
        return Path(function).name, RewardModel.load(function, device=device).score
    if isinstance(function, RewardModel):
        return "reward_model", function.score
    if isinstance(function, torch.nn.Module):
        return type(function).__name__, _classifier(function, tokenizer, device).score
    if not callable(function):
        raise ValueError(
            f"a reward function must be callable or a sequence classifier, got {type(function).__name__}: {function!r}"
        )
    if inspect.iscoroutinefunction(function):
        raise ValueError(f"reward function {_name_of(function)} is async; wrap it in a plain one (asyncio.run)")
    return _name_of(function), function


def _classifier(model: Any, tokenizer: Any, device: Any) -> RewardModel:
    if not hasattr(model, "score") or getattr(model.config, "num_labels", None) != 1:
        raise ValueError(
            f"a reward model is a sequence classifier with 1 label; {type(model).__name__} has "
            f"{getattr(model.config, 'num_labels', 'no')} labels"
        )
    if tokenizer is None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model.config._name_or_path, trust_remote_code=False)
    scale = {"mean": getattr(model.config, "reward_mean", 0.0), "std": getattr(model.config, "reward_std", 1.0)}
    scale["cut_to"] = getattr(model.config, "reward_cut_to", None)
    return RewardModel(model.to(device).eval() if device else model.eval(), tokenizer, **scale)


def _name_of(function: Any) -> str:
    owner = getattr(function, "__self__", None)
    if owner is not None and getattr(function, "__name__", "") in ("score", "__call__"):
        return {"RewardModel": "reward_model"}.get(type(owner).__name__, type(owner).__name__)
    return getattr(function, "__name__", type(function).__name__)


def _unique(i: int, names: list[str]) -> str:
    return names[i] if names.count(names[i]) == 1 else f"{names[i]}_{i}"


def call_judge(
    name: str,
    function: Callable[..., list[float]],
    prompts: Sequence[Any],
    completions: Sequence[str],
    columns: Mapping[str, list],
) -> list[float]:
    """The function's scores, checked: one finite number a completion.

    Raises ValueError naming the function if it raises (the cause attached), or returns the wrong count, text, nan or infinity."""
    try:
        scores = function(prompts=list(prompts), completions=list(completions), **columns)
    except Exception as error:
        raise ValueError(f"reward function {name} raised {type(error).__name__}: {error}") from error
    if isinstance(scores, Tensor):
        scores = scores.tolist()
    if isinstance(scores, (str, bytes, Mapping)) or not hasattr(scores, "__len__"):
        raise ValueError(f"reward function {name} must return a list of numbers, got {type(scores).__name__}")
    if len(scores) != len(completions):
        raise ValueError(f"reward function {name} returned {len(scores)} scores for {len(completions)} completions")
    for i, score in enumerate(scores):
        if not isinstance(score, Real) or isinstance(score, bool):
            raise ValueError(f"reward function {name} must return numbers, got {type(score).__name__} {score!r} at {i}")
        if not math.isfinite(score):
            count = sum(not math.isfinite(s) for s in scores if isinstance(s, Real))
            raise ValueError(
                f"reward function {name} returned {score} for completion {i} ({completions[i][:60]!r}), "
                f"{count} of {len(scores)} are not finite"
            )
    return [float(score) for score in scores]


def score_all(
    rewards: Sequence[Reward],
    prompts: Sequence[Any],
    completions: Sequence[str],
    columns: Mapping[str, list],
    *,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> Tensor:
    """Raw scores of every reward function, (B, K) float32 on the CPU.

    Reward models compute under `autocast()`, as in TRL's trainers (bf16 moves a score by 0.006 standard deviations, root mean square);
    other functions are called as they are."""
    scores = []
    for reward in rewards:
        with nullcontext() if reward.model is None else autocast():
            scores.append(call_judge(reward.name, reward.function, prompts, completions, columns))
    return torch.tensor(scores, dtype=torch.float32).T.reshape(len(completions), len(rewards))
