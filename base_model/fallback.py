"""Generation for models that `base_model.decoder` does not run: transformers' own loop, with this project's draws.

transformers keeps the cache and the positions, whatever the architecture or the adapter; which token comes next is decided here, by the
same functions and the same uniform numbers as everywhere else. What the checkpoint's generation_config would add (a repetition
penalty, a minimal length, another temperature) takes no part: the answers are samples of the distribution that was asked for.

Shapes: B rows, R response tokens, S tokens so far, V vocabulary.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from base_model.hf import unwrap
from base_model.sampling import SamplingConfig, logprobs_of, next_token


def continue_by_transformers(
    model: nn.Module,
    prompt_BT: Tensor,
    n_pad_B: Tensor | None,
    sampling: SamplingConfig,
    uniform_RB: Tensor | None,
    pad_id: int,
    want_logprobs: bool,
) -> tuple[Tensor, Tensor | None]:
    """(tokens_RB, logprobs_RB) of left-padded prompts: what a row has after its stop token means nothing."""
    from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

    n_prompt = prompt_BT.shape[1]
    logprobs: list[Tensor] = []

    class OwnDraw(LogitsProcessor):
        """Leaves one token to choose from: the one that is drawn here."""

        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            logits_BV, step = scores.float(), input_ids.shape[1] - n_prompt
            token_B = next_token(logits_BV, input_ids, None if uniform_RB is None else uniform_RB[step], sampling)
            if want_logprobs:
                logprobs.append(logprobs_of(logits_BV, token_B, sampling))
            return torch.full_like(scores, -torch.inf).scatter_(1, token_B[:, None], 0.0)

    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=False,
        eos_token_id=list(sampling.stop_token_ids) or None,
        pad_token_id=pad_id,
        use_cache=True,
    )
    is_prompt_BT = torch.ones_like(prompt_BT)
    if n_pad_B is not None:
        is_prompt_BT = (torch.arange(n_prompt, device=prompt_BT.device) >= n_pad_B[:, None]).long()
    with _generating_by(model, config), torch.no_grad():
        made_BS = model.generate(
            input_ids=prompt_BT,
            attention_mask=is_prompt_BT,
            generation_config=config,
            logits_processor=LogitsProcessorList([OwnDraw()]),
        )
    return made_BS[:, n_prompt:].T, torch.stack(logprobs) if want_logprobs else None


@contextmanager
def _generating_by(model: nn.Module, config) -> Iterator[None]:
    """The model generates by exactly this config, without dropout: `generate` fills fields that are not set from the model's own."""
    owners = [model, unwrap(model)]
    saved = [owner.generation_config for owner in owners]
    training = [module for module in model.modules() if module.training]
    for owner in owners:
        owner.generation_config = config
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for owner, own in zip(owners, saved, strict=True):
            owner.generation_config = own


@functools.cache
def say_once(model_class: str, reason: str) -> None:
    """One line in the log for each kind of model that transformers generates with, and why."""
    logging.getLogger(__name__).warning("%s: transformers generates its answers (%s)", model_class, reason)
