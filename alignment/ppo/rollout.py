"""Rollouts: prompts in, episodes out, and episodes packed for the forward and backward passes.

Episodes are kept as prompt + response, padded on the right, with their two lengths; every mask comes from the lengths (and
those from the first stop token), never from pad ids. Left padding exists inside generation only.

Old log-probabilities come from the training forward, not from generation: a step of training and a step of the key/value
cache round differently, and the ratio must be 1 before the first step.

Legend: B episodes, T tokens of prompt + response, R response tokens, N response tokens packed one after another, K rewards.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from base_model.generate import SamplingConfig, generate
from base_model.sequence import pad_right, round_up_eighth


@dataclass
class Rollout:
    """B finished episodes. Tensors of shape (B, R) hold 0 outside `is_response_BR`."""

    tokens_BT: Tensor  # int64: prompt, response, padding
    prompt_tokens_B: Tensor  # int64: length of the prompt
    response_tokens_B: Tensor  # int64: length of the response, its stop token included; >= 1
    is_stopped_B: Tensor  # bool: the response ended with a stop token
    logprob_BR: Tensor  # of the policy that made the episode, nats
    reference_BR: Tensor  # of the reference, nats
    value_BR: Tensor  # of the critic before the update, reward units
    entropy_BR: Tensor  # of the policy's distribution at each place, nats
    score_BK: Tensor  # raw scores of the reward functions

    @property
    def is_response_BR(self) -> Tensor:
        places_R = torch.arange(self.logprob_BR.shape[1], device=self.logprob_BR.device)
        return places_R < self.response_tokens_B.unsqueeze(1)

    @property
    def tokens_B(self) -> Tensor:
        return self.prompt_tokens_B + self.response_tokens_B


@dataclass(frozen=True)
class Packed:
    """Some episodes as the arguments of `ActorCritic.forward`, cut to the longest of them or a little above."""

    tokens_BT: Tensor
    place_N: Tensor  # flattened place of the token before each response token
    target_N: Tensor  # that response token
    is_response_BR: Tensor  # where the N stand in (B, R), row by row

    def spread(self, values_N: Tensor) -> Tensor:
        """Packed values back in (B, R), 0 elsewhere."""
        return values_N.new_zeros(self.is_response_BR.shape).masked_scatter(self.is_response_BR, values_N)


def pack(tokens_BT: Tensor, prompt_tokens_B: Tensor, response_tokens_B: Tensor) -> Packed:
    """Places and targets of every response token; entry n is the same token as the n-th True of `is_response_BR`."""
    n_response = int(response_tokens_B.max())
    n_tokens = min(round_up_eighth(int((prompt_tokens_B + response_tokens_B).max())), tokens_BT.shape[1])
    tokens_BT = tokens_BT[:, :n_tokens].contiguous()
    places_R = torch.arange(n_response, device=tokens_BT.device)
    is_response_BR = places_R < response_tokens_B.unsqueeze(1)
    starts_B = torch.arange(len(tokens_BT), device=tokens_BT.device) * n_tokens + prompt_tokens_B
    target_place_N = (starts_B.unsqueeze(1) + places_R)[is_response_BR]
    return Packed(tokens_BT, target_place_N - 1, tokens_BT.flatten()[target_place_N], is_response_BR)


def by_length(tokens_B: Sequence[int], batch_size: int) -> list[list[int]]:
    """Rows in batches of at most `batch_size`, each of rows of about one length: little padding."""
    order = sorted(range(len(tokens_B)), key=lambda row: tokens_B[row])
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


@torch.no_grad()
def sample_responses(
    model: nn.Module,
    prompt_ids: Sequence[Sequence[int]],
    sampling: SamplingConfig,
    *,
    pad_id: int,
    seed: int,
    first_row: int = 0,
    batch_size: int | None = None,
) -> list[list[int]]:
    """A response to each prompt, up to its first stop token, that one included. The same seed gives the same responses.

    Row i draws from the numbers of row first_row + i, so a process with a share of the rows samples what one process with all of
    them would."""
    generator = torch.Generator().manual_seed(seed)
    torch.rand(first_row, sampling.max_new_tokens, generator=generator)
    return generate(model, prompt_ids, sampling, pad_id=pad_id, generator=generator, batch_size=batch_size).responses()


@torch.no_grad()
def measure_episodes(
    module: nn.Module,
    prompt_ids: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    stop_token_ids: Sequence[int],
    pad_id: int,
    batch_size: int,
    context_tokens: int,
    device: Any,
    want_value: bool = True,
) -> Rollout:
    """The episodes with the policy's, the reference's and the critic's numbers at every response token; no scores yet.

    module: an ActorCritic, prepared by accelerate or not. Rows of one length go through together, padded to a
    length of `round_up_eighth` but to no more than `context_tokens`."""
    rows = [[*prompt, *response] for prompt, response in zip(prompt_ids, responses, strict=True)]
    longest = max(len(row) for row in rows)
    tokens_BT, _ = pad_right(rows, pad_id, device=device)
    tokens_BT = F.pad(tokens_BT, (0, min(round_up_eighth(longest), context_tokens) - longest), value=pad_id)
    prompt_tokens_B = torch.tensor([len(prompt) for prompt in prompt_ids], device=device)
    response_tokens_B = torch.tensor([len(response) for response in responses], device=device)
    stops = set(stop_token_ids)
    is_stopped_B = torch.tensor([response[-1] in stops for response in responses], device=device)
    shape = (len(rows), int(response_tokens_B.max()))
    out = {name: torch.zeros(shape, device=device) for name in ("logprob", "reference", "value", "entropy")}
    for batch in by_length([len(row) for row in rows], batch_size):
        index = torch.tensor(batch, device=device)
        packed = pack(tokens_BT[index], prompt_tokens_B[index], response_tokens_B[index])
        arguments = (packed.tokens_BT, packed.place_N, packed.target_N)
        policy = module(*arguments, want_value=want_value, want_entropy=True)
        reference = module(*arguments, reference=True)
        found = {"logprob": policy.logprob_N, "reference": reference.logprob_N, "entropy": policy.entropy_N}
        if want_value:
            found["value"] = policy.value_N
        for name, values_N in found.items():
            out[name][index, : packed.is_response_BR.shape[1]] = packed.spread(values_N.float())
    return Rollout(
        tokens_BT=tokens_BT,
        prompt_tokens_B=prompt_tokens_B,
        response_tokens_B=response_tokens_B,
        is_stopped_B=is_stopped_B,
        score_BK=torch.zeros(len(rows), 0, device=device),
        **{f"{name}_BR": values for name, values in out.items()},
    )


def gather_rollout(rollout: Rollout, accelerator: Any) -> Rollout:
    """The episodes of all processes, in the order of the processes, on every process."""
    if accelerator.num_processes == 1:
        return rollout
    gathered = {}
    for field in dataclasses.fields(rollout):
        tensor = getattr(rollout, field.name)
        if tensor.ndim == 2 and field.name != "score_BK":
            tensor = accelerator.pad_across_processes(tensor, dim=1)
        gathered[field.name] = accelerator.gather(tensor.contiguous())
    return Rollout(**gathered)
