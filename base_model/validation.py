"""Loss on held-out shards while training: nats a token, and bits per byte, which do not depend on the vocabulary.

Shapes: B rows, T context, V vocabulary.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor


class Loader(Protocol):
    """What training and validation need of a loader; `base_model.shards.ShardLoader` is one."""

    batch_size: int  # rows of one process's micro-batch
    windows: int  # rows of one epoch, all processes together

    def batch(self, step: int) -> dict[str, Tensor]: ...


@torch.no_grad()
def validate(
    accelerator: Accelerator,
    loss_of: Callable[[dict[str, Tensor]], Tensor],
    loader: Loader,
    max_batches: int,
    token_bytes_V: Tensor | None = None,
) -> dict[str, float]:
    """`validation_loss`: mean nats a token; with token_bytes_V also `bits_per_byte` = sum of nats / (ln 2 x bytes predicted).

    loss_of gives a batch's mean loss. The mean is over the loader's batches 0, 1, ... of every process, up to max_batches or one epoch.
    Special tokens count in the nats and hold no bytes: to say where a document ends is part of the task.
    """
    per_epoch = loader.windows // (loader.batch_size * accelerator.num_processes)
    nats = n_tokens = n_bytes = 0.0
    for i in range(max(1, min(max_batches, per_epoch))):
        batch = loader.batch(i)
        targets_BT = batch["tokens_BT"][:, 1:]
        nats += loss_of(batch).item() * targets_BT.numel()
        n_tokens += targets_BT.numel()
        n_bytes += 0 if token_bytes_V is None else token_bytes_V[targets_BT].sum().item()
    sums = torch.tensor([nats, n_tokens, n_bytes], dtype=torch.float32, device=accelerator.device)
    nats, n_tokens, n_bytes = accelerator.reduce(sums).tolist()
    metrics = {"validation_loss": nats / n_tokens}
    if n_bytes:
        metrics["bits_per_byte"] = nats / (math.log(2) * n_bytes)
    return metrics


def token_bytes(tokenizer) -> Tensor:
    """UTF-8 bytes that each token stands for, (V,) long; 0 for special tokens. Byte-level and character tokenizers.

    A byte-level tokenizer writes each byte as one character of its own alphabet, so there a token's bytes are its characters.
    """
    backend = tokenizer.backend_tokenizer
    is_byte_level = type(backend.decoder).__name__ == "ByteLevel"
    special = {i for i, token in backend.get_added_tokens_decoder().items() if token.special}
    sizes = torch.zeros(len(tokenizer), dtype=torch.long)
    for token, i in backend.get_vocab(with_added_tokens=True).items():
        if i not in special:
            sizes[i] = len(token) if is_byte_level else len(token.encode("utf-8"))
    return sizes
