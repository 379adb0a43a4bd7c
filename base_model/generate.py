"""Batched sampling from a `GPT` or any causal model of transformers, adapted or not: `generate`.

A `GPT`, a GPT-2, a Llama, and a LoRA model over one run on this project's own decoder; transformers runs the others, and the log says so.

Prompts are padded on the left and share one key/value cache of fixed size; a row that ends leaves the batch, and the others
go on without it. Each row has uniform numbers of its own, so its draws depend on the seed, its place in `prompts` and
`max_new_tokens`, and not on its neighbours or on `batch_size` (logits differ in the last bits with the batch's size, which
can turn a draw or a tie in rare cases).

Shapes: B prompts, T prompt tokens, R response tokens, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from base_model.cuda_graphs import GraphDecoder
from base_model.decoder import Decoder
from base_model.fallback import continue_by_transformers, say_once
from base_model.forks import processes_for, share_out
from base_model.gpt import GPTConfig
from base_model.hf import shared_tensors
from base_model.loading import context_length
from base_model.sampling import SamplingConfig, logprobs_of, next_token

__all__ = ["Generation", "SamplingConfig", "generate", "supports"]


@dataclass
class Generation:
    """The responses, R being the longest one's length."""

    tokens_BR: Tensor  # long, pad_id after the end
    is_response_BR: Tensor  # bool; the stop token counts as response
    stopped_B: Tensor  # bool: ended by a stop token, not by max_new_tokens
    logprobs_BR: Tensor | None  # float32 nats, 0 after the end; of softmax(logits / temperature), before any filter

    def responses(self) -> list[list[int]]:
        """Each row's tokens, the stop token included, without padding."""
        lengths = self.is_response_BR.sum(dim=1).tolist()
        return [row[:length] for row, length in zip(self.tokens_BR.tolist(), lengths, strict=True)]


def supports(model: nn.Module) -> bool:
    """Whether the own decoder can run this model: its architecture and settings, and its adapters, are ones it knows."""
    return not isinstance(_own_tensors(model), str)


def _own_tensors(model: nn.Module) -> tuple[GPTConfig, dict] | str:
    """What the own decoder works on, or why it can't."""
    try:
        with torch.no_grad():
            return shared_tensors(model)
    except (ValueError, AttributeError) as error:
        return str(error)


def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingConfig,
    *,
    pad_id: int,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    want_logprobs: bool = False,
    batch_size: int | None = None,
    dtype: torch.dtype | None = None,
    by_transformers: bool = False,
) -> Generation:
    """Continue each prompt (token ids) until a stop token or max_new_tokens.

    seed or generator (a CPU one) fixes the draws; with neither they come from torch's global generator. batch_size: rows at
    a time, prompts of like length together (None: all at once); on a CPU the batches share the cores (forks.py). dtype: compute
    in it, on a converted copy of the weights (None: the model's own). by_transformers: let transformers run models that the own
    decoder knows, too.
    Dropout is off, whatever mode the model is in, and no gradient flows.
    Raises ValueError for an empty prompt, and where prompt and answer would not fit the model's context.
    """
    if seed is not None and generator is not None:
        raise ValueError("both seed and generator were given; give one of them")
    own = "asked for" if by_transformers else _own_tensors(model)
    lengths = [len(prompt) for prompt in prompts]
    if isinstance(own, str):
        if not by_transformers:
            say_once(type(model).__name__, own)
        context = context_length(model.config, unstated=2**31)
        device = next(model.parameters()).device
        model = model if dtype is None else copy.deepcopy(model).to(dtype)
    else:
        config, tensors = own
        context, device = config.context_length, tensors["head.weight"][0].device
        if dtype is not None:
            tensors = {name: tuple(part.to(dtype) for part in parts) for name, parts in tensors.items()}
    _check_lengths(lengths, sampling.max_new_tokens, context)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
    n_prompts, n_new = len(prompts), sampling.max_new_tokens
    uniform_BR = None if sampling.greedy else 1.0 - torch.rand(n_prompts, n_new, generator=generator)  # in (0, 1]
    batch_size = min(batch_size or n_prompts, n_prompts)
    order = sorted(range(n_prompts), key=lengths.__getitem__) if batch_size < n_prompts else list(range(n_prompts))

    tokens_BR = torch.full((n_prompts, n_new), pad_id, device=device)
    logprobs_BR = torch.zeros(n_prompts, n_new, device=device)
    batches = [order[start : start + batch_size] for start in range(0, n_prompts, batch_size)]

    def continue_rows(rows: list[int]) -> tuple[Tensor, Tensor | None]:
        some = [prompts[row] for row in rows]
        uniform_RB = None if uniform_BR is None else uniform_BR[rows].T.contiguous().to(device)
        with torch.autocast(device.type, enabled=False):
            if isinstance(own, str):
                return continue_by_transformers(
                    model, *_left_padded(some, device), sampling, uniform_RB, pad_id, want_logprobs
                )
            make_decoder = GraphDecoder if device.type == "cuda" else Decoder
            with torch.inference_mode():
                decoder = make_decoder(config, tensors, len(rows), max(lengths[row] for row in rows) + n_new)
                return _continue(decoder, some, sampling, uniform_RB, pad_id, want_logprobs)

    made = share_out(continue_rows, batches, processes_for(len(batches), device))
    for rows, (tokens_RB, logprobs_RB) in zip(batches, made, strict=True):
        tokens_BR[rows, : len(tokens_RB)] = tokens_RB.T
        if want_logprobs:
            logprobs_BR[rows, : len(tokens_RB)] = logprobs_RB.T

    is_stop_BR = torch.isin(tokens_BR, torch.tensor(sampling.stop_token_ids, dtype=torch.long, device=device))
    is_response_BR = is_stop_BR.cumsum(dim=1) - is_stop_BR.long() == 0  # no stop token before this one
    n_longest = int(is_response_BR.sum(dim=1).max())
    return Generation(
        tokens_BR=tokens_BR.masked_fill(~is_response_BR, pad_id)[:, :n_longest],
        is_response_BR=is_response_BR[:, :n_longest],
        stopped_B=is_stop_BR.any(dim=1),
        logprobs_BR=logprobs_BR.masked_fill(~is_response_BR, 0.0)[:, :n_longest] if want_logprobs else None,
    )


def _check_lengths(lengths: list[int], n_new: int, context_length: int) -> None:
    if not lengths:
        raise ValueError("no prompts were given")
    if 0 in lengths:
        raise ValueError(f"prompt {lengths.index(0)} is empty; start it with the bos token")
    if max(lengths) + n_new > context_length:
        raise ValueError(
            f"a prompt of {max(lengths)} tokens and max_new_tokens {n_new} do not fit the model's context of "
            f"{context_length}; shorten one of them"
        )


def _continue(
    decoder: Decoder,
    prompts: list[Sequence[int]],
    sampling: SamplingConfig,
    uniform_RB: Tensor | None,
    pad_id: int,
    want_logprobs: bool,
) -> tuple[Tensor, Tensor | None]:
    """Tokens (and log-probabilities) a step a line, up to the step at which the last row ended; what a row has after its
    stop token means nothing."""
    device, stops = decoder.device, set(sampling.stop_token_ids)
    place = {prompt: i for i, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}  # equal prompts are read once
    place_B = torch.tensor([place[tuple(prompt)] for prompt in prompts], device=device)
    prompt_UT, n_pad_U = _left_padded(list(place), device)
    logits_BV = decoder.prefill(prompt_UT, n_pad_U)
    if len(place) < len(prompts):
        decoder.repeat(place_B)
        logits_BV = logits_BV[place_B]
    has_penalty = sampling.repetition_penalty != 1.0
    n_prompt = prompt_UT.shape[1]
    history_BS = F.pad(prompt_UT[place_B], (0, sampling.max_new_tokens)) if has_penalty else None
    row_B = torch.arange(len(prompts), device=device)  # the prompt that each row of the shrinking batch belongs to
    tokens, logprobs, rows = [], [], []  # a tensor a step
    ended: set[int] = set()  # rows of the batch
    for step in range(sampling.max_new_tokens):
        logits_BV = logits_BV.float()
        seen_BS = history_BS[:, : n_prompt + step] if has_penalty else None
        uniform_B = None if uniform_RB is None else uniform_RB[step, : len(row_B)]
        token_B = next_token(logits_BV, seen_BS, uniform_B, sampling)
        tokens.append(token_B)
        rows.append(row_B)
        if want_logprobs:
            logprobs.append(logprobs_of(logits_BV, token_B, sampling))
        if step + 1 == sampling.max_new_tokens:
            break
        if has_penalty:
            history_BS[:, n_prompt + step] = token_B
        if stops and (step + 1) % decoder.steps_between_checks == 0:
            ended |= _ended(tokens[-decoder.steps_between_checks :], stops)
            n_live = len(row_B) - len(ended)
            if n_live == 0:
                break
            if ended and n_live <= decoder.shrink_below * len(row_B):
                moves = _moves(ended, len(row_B), device)
                decoder.keep(n_live, *moves)
                row_B, token_B = (_kept(each, n_live, *moves) for each in (row_B, token_B))
                if has_penalty:
                    history_BS = _kept(history_BS, n_live, *moves)
                if uniform_RB is not None:
                    uniform_RB[:, moves[1]] = uniform_RB[:, moves[0]]
                ended = set()
        logits_BV = decoder.step(token_B)
    tokens_RB = torch.full((len(rows), len(prompts)), pad_id, device=device)
    logprobs_RB = torch.zeros(tokens_RB.shape, device=device) if want_logprobs else None
    for values_RB, values in ((tokens_RB, tokens), (logprobs_RB, logprobs)):
        for step, value_B in enumerate(values):
            values_RB[step, rows[step]] = value_B
    return tokens_RB, logprobs_RB


def _ended(tokens: list[Tensor], stops: set[int]) -> set[int]:
    """Rows with a stop token among the tokens of these steps, each (B,)."""
    ids = (tokens[0] if len(tokens) == 1 else torch.cat(tokens)).tolist()
    return set() if stops.isdisjoint(ids) else {i % len(tokens[0]) for i, token in enumerate(ids) if token in stops}


def _moves(ended: set[int], n_rows: int, device) -> tuple[Tensor, Tensor]:
    """Which of the last rows move, and into which places that fell empty, so that the rows that go on come first."""
    n_live = n_rows - len(ended)
    source = [row for row in range(n_live, n_rows) if row not in ended]
    target = [row for row in range(n_live) if row in ended]
    return tuple(torch.tensor(each, dtype=torch.long, device=device) for each in (source, target))


def _kept(each_B: Tensor, n_rows: int, source: Tensor, target: Tensor) -> Tensor:
    """The first n_rows rows, after a copy of rows `source` over rows `target`; the tensor itself is left as it was."""
    each_B = each_B.clone()
    each_B[target] = each_B[source]
    return each_B[:n_rows]


def _left_padded(prompts: list[Sequence[int]], device) -> tuple[Tensor, Tensor | None]:
    """(B, T) prompts that end together, and the padding in front of each, (B,), or None where there is none. A row is padded with
    its own first token, so that a repetition penalty finds nothing there that is not in the prompt."""
    longest = max(map(len, prompts))
    n_pad = [longest - len(prompt) for prompt in prompts]
    rows = [[prompt[0]] * n + list(prompt) for prompt, n in zip(prompts, n_pad, strict=True)]
    return torch.tensor(rows, device=device), torch.tensor(n_pad, device=device) if any(n_pad) else None
