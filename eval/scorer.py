"""Log-likelihoods of continuations under a causal model: the one forward pass that likelihood sets and benchmarks share.

A request is (context, continuation), two lists of token ids; its score is log p(continuation | context) and whether greedy
decoding would write it. Three things make this fast and keep it exact:

* requests that begin alike (the choices of one question, the two sentences of a minimal pair) become one row, in which the
  common beginning is computed once and each branch sees only it and itself;
* the output head runs on the positions that are scored and on no other;
* rows are batched by length under a bound on tokens, found from the memory there is; an out-of-memory halves it and goes on.

Shapes: N requests, R rows, B rows of a batch, T tokens of a row, P scored positions, V vocabulary, D width.
Scores are summed in float64 over float32 log-probabilities. Too long requests lose tokens on the left, as in lm-eval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from base_model import loading
from base_model.forks import processes_for, share_out
from base_model.precision import CPU_BATCH_TOKENS

LEAST_SHARED = 0.25  # a request joins a row when this share of its tokens is then not computed again
LONGEST_ROW = 1024  # tokens: attention in a row of branches is quadratic, so rows of many branches are cut here
UNSTATED_CONTEXT = 2048  # tokens, for models without a limit (BLOOM, Mamba)
HEAD_BYTES = 64 * 2**20  # logits held at once

Request = tuple[Sequence[int], Sequence[int]]


class NonFiniteError(ValueError):
    """A model gave NaN or infinity where a score belongs."""


@dataclass(frozen=True)
class Score:
    logprob: float  # nats, summed over the continuation
    is_greedy: bool  # greedy decoding (argmax) writes every token of the continuation


@dataclass(frozen=True)
class Group:
    """Requests (their indices) that one row of `length` tokens scores; their first `shared` tokens are the same."""

    members: list[int]
    shared: int
    length: int


@dataclass
class Row:
    """Tokens of one row: a shared beginning (branch 0), then the branches (1, 2, ...), and what is scored where."""

    tokens: list[int]
    positions: list[int]
    branches: list[int]
    scored: list[tuple[int, int, int]] = field(default_factory=list)  # (index in row, target token, request)


class Scorer:
    """Scores requests under `model`. `max_length`: tokens that the model reads at once. `batch_tokens`: None finds it."""

    def __init__(self, model, *, batch_tokens: int | None = None, share_beginnings: bool = True) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.max_length = context_length(model)
        self.batch_tokens = batch_tokens or find_batch_tokens(model)
        # Branches need a 4-D mask and position ids, and the head apart from the body; known to hold for these two classes.
        self.is_plain = type(model).__name__ not in ("GPT2LMHeadModel", "LlamaForCausalLM")
        self.share_beginnings = share_beginnings and not self.is_plain
        self.tokens_computed = 0

    def score(self, requests: Sequence[Request]) -> list[Score]:
        """One Score a request. Raises NonFiniteError naming how many requests, ValueError for an empty context or continuation."""
        cut = [self._cut(context, continuation, i) for i, (context, continuation) in enumerate(requests)]
        groups = sorted(pack(cut, self.share_beginnings), key=lambda group: -group.length)
        logprob_N = torch.zeros(len(requests), dtype=torch.float64)
        greedy_N = torch.ones(len(requests), dtype=torch.bool)
        pieces = sum(1 for _ in self._batches(groups))
        scored = share_out(partial(self._score_batch, cut), self._batches(groups), processes_for(pieces, self.device))
        for request_P, logprob_P, is_greedy_P in scored:
            logprob_N.index_add_(0, request_P, logprob_P.double())
            greedy_N[request_P[~is_greedy_P]] = False
        self.tokens_computed += sum(group.length for group in groups)
        bad = int((~torch.isfinite(logprob_N)).sum())
        if bad:
            raise NonFiniteError(f"{bad} of {len(requests)} scores are not finite{_bad_weights(self.model)}")
        return [Score(p, g) for p, g in zip(logprob_N.tolist(), greedy_N.tolist(), strict=True)]

    def _cut(self, context: Sequence[int], continuation: Sequence[int], index: int) -> tuple[list[int], int]:
        """(tokens to read and predict, how many of the last are scored), cut on the left to max_length + 1."""
        if not len(context) or not len(continuation):
            raise ValueError(f"request {index} has {len(context)} context and {len(continuation)} continuation tokens")
        if len(continuation) > self.max_length:
            raise ValueError(
                f"request {index}: a continuation of {len(continuation)} tokens exceeds the model's {self.max_length}"
            )
        return [*context, *continuation][-(self.max_length + 1) :], len(continuation)

    def _batches(self, groups: Sequence[Group]) -> Iterator[Sequence[Group]]:
        """Groups under the bound on tokens, which is looked up for each batch anew."""
        start = 0
        while start < len(groups):
            count = max(1, self.batch_tokens // groups[start].length)
            yield groups[start : start + count]
            start += count

    def _score_batch(
        self, cut: Sequence[tuple[list[int], int]], groups: Sequence[Group]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(request, log-probability, is greedy) of each scored position, all (P,) on the CPU."""
        try:
            # Only a batch's rows are laid out: a tuple a scored token, of all rows at once, would outweigh the texts.
            return self._score_rows([lay_out(cut, group) for group in groups])
        except torch.OutOfMemoryError:
            if len(groups) == 1:
                raise ValueError(
                    f"out of memory on one row of {groups[0].length} tokens; the model does not fit this device"
                ) from None
        # Only here is the failed batch free: while the error is handled, its traceback holds the tensors.
        half = len(groups) // 2
        self.batch_tokens = half * groups[0].length
        torch.cuda.empty_cache()
        halves = [self._score_batch(cut, part) for part in (groups[:half], groups[half:])]
        return tuple(torch.cat(parts) for parts in zip(*halves, strict=True))

    @torch.no_grad()
    def _score_rows(self, rows: list[Row]) -> tuple[Tensor, Tensor, Tensor]:
        width = len(rows[0].tokens)
        # Filled up with each row's first token, on the right, where causal attention hides it.
        tokens_BT = torch.tensor([row.tokens + row.tokens[:1] * (width - len(row.tokens)) for row in rows])
        has_branches = any(row.branches[-1] for row in rows)
        where_P = torch.tensor([b * width + index for b, row in enumerate(rows) for index, _, _ in row.scored])
        target_P = torch.tensor([target for row in rows for _, target, _ in row.scored])
        request_P = torch.tensor([request for row in rows for _, _, request in row.scored])
        layout = self._layout(rows, width) if has_branches else {}
        return request_P, *self._positions(tokens_BT, layout, where_P, target_P)

    def _layout(self, rows: list[Row], width: int) -> dict[str, Tensor]:
        """Position ids and the additive mask of rows with branches; padding sees itself alone, which keeps it finite."""
        positions_BT = torch.zeros(len(rows), width, dtype=torch.long)
        branches_BT = torch.full((len(rows), width), -1)
        for b, row in enumerate(rows):
            positions_BT[b, : len(row.tokens)] = torch.tensor(row.positions)
            branches_BT[b, : len(row.tokens)] = torch.tensor(row.branches)
        query_BT1, key_B1T = branches_BT[:, :, None], branches_BT[:, None, :]
        is_causal_TT = torch.ones(width, width, dtype=torch.bool).tril()
        is_seen_BTT = is_causal_TT & ((key_B1T == 0) | (key_B1T == query_BT1)) & (query_BT1 >= 0)
        is_seen_BTT |= torch.eye(width, dtype=torch.bool)
        dtype = self.model.dtype
        mask_BTT = torch.zeros(is_seen_BTT.shape, dtype=dtype).masked_fill_(~is_seen_BTT, torch.finfo(dtype).min)
        return {"position_ids": positions_BT.to(self.device), "attention_mask": mask_BTT[:, None].to(self.device)}

    def _positions(
        self, tokens_BT: Tensor, layout: dict[str, Tensor], where_P: Tensor, target_P: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of each target, and whether it is the most likely token, at flat positions; both (P,) on the CPU."""
        tokens_BT = tokens_BT.to(self.device)
        if self.is_plain:
            states_PX = self.model(input_ids=tokens_BT, use_cache=False).logits.flatten(0, 1)[where_P.to(self.device)]
            head = torch.nn.Identity()
        else:
            states_BTD = self.model.base_model(input_ids=tokens_BT, use_cache=False, **layout).last_hidden_state
            states_PX = states_BTD.flatten(0, 1)[where_P.to(self.device)]
            head = self.model.get_output_embeddings()
        target_P = target_P.to(self.device)
        block = max(1, HEAD_BYTES // (4 * self.model.config.vocab_size))
        logprobs, greedy = [], []
        for states_QX, target_Q in zip(states_PX.split(block), target_P.split(block), strict=True):
            logits_QV = head(states_QX).float()
            chosen_Q = logits_QV.gather(1, target_Q[:, None])[:, 0]
            logprobs.append((chosen_Q - logits_QV.logsumexp(1)).cpu())
            greedy.append((logits_QV.argmax(1) == target_Q).cpu())  # of tied logits one is written
        return torch.cat(logprobs), torch.cat(greedy)


def pack(sequences: Sequence[tuple[list[int], int]], share_beginnings: bool = True) -> Iterator[Group]:
    """Groups that hold every sequence once: sorted by tokens, neighbours with a long common beginning go into one row.

    sequences: (tokens, how many of the last are scored). The last token of a sequence is predicted and never read.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i][0]) if share_beginnings else range(len(sequences))
    members: list[int] = []
    shared = 0  # common beginning of all members' inputs
    total = 0  # tokens of their row
    for i in order:
        inputs = len(sequences[i][0]) - 1
        if members:
            common = _common_length(sequences[members[-1]][0], sequences[i][0], min(shared, inputs))
            saved = common - (len(members) - 1) * (shared - common)
            if share_beginnings and saved >= LEAST_SHARED * inputs and total + inputs - saved <= LONGEST_ROW:
                members.append(i)
                total += inputs - saved
                shared = common
                continue
            yield Group(members, shared, total)
        members, shared, total = [i], inputs, inputs
    if members:
        yield Group(members, shared, total)


def lay_out(sequences: Sequence[tuple[list[int], int]], group: Group) -> Row:
    """The row of a group of `sequences`, which are as in `pack`."""
    shared = group.shared
    row = Row(sequences[group.members[0]][0][:shared], list(range(shared)), [0] * shared)
    for branch, i in enumerate(group.members, start=1):
        tokens, scored = sequences[i]
        inputs, offset = len(tokens) - 1, len(row.tokens) - shared
        row.tokens += tokens[shared:inputs]
        row.positions += range(shared, inputs)
        row.branches += [branch] * (inputs - shared)
        row.scored += [(t if t < shared else t + offset, tokens[t + 1], i) for t in range(inputs - scored, inputs)]
    return row


def _common_length(a: Sequence[int], b: Sequence[int], most: int) -> int:
    if a[:most] == b[:most]:
        return most
    return next(k for k in range(most) if a[k] != b[k])


def context_length(model) -> int:
    """Tokens that are given to the model at once: as many as it reads, UNSTATED_CONTEXT where its config does not say."""
    return loading.context_length(model.config, unstated=UNSTATED_CONTEXT)


def find_batch_tokens(model) -> int:
    """Tokens a batch: on an accelerator what half of its free memory holds, else CPU_BATCH_TOKENS."""
    device = next(model.parameters()).device
    if device.type != "cuda":
        return CPU_BATCH_TOKENS
    config = model.config
    width = getattr(config, "hidden_size", 0) or getattr(config, "n_embd", 1024)
    inner = getattr(config, "intermediate_size", None) or 4 * width
    bytes_per_token = 4 * (8 * width + 3 * inner)  # what one layer holds at its widest; no gradients are kept
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return max(context_length(model), min(2**18, int(0.5 * (free_bytes - HEAD_BYTES) / bytes_per_token)))


def _bad_weights(model) -> str:
    """ " (weights of NAME are not finite)" for the first such tensor, else an empty string."""
    for name, weight in model.named_parameters():
        if not math.isfinite(float(weight.detach().float().abs().sum())):
            return f" (the weights {name} hold NaN or infinity)"
    return ""
