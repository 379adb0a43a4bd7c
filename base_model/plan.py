"""Before a long run: what it will take in parameters, FLOPs, memory and time, with nothing trained.

Parameters and FLOPs are counted, and activations are read off a forward pass on fake tensors (no memory is used). On this machine the
time comes from a few seconds of real steps of a cut-down model: one and two layers of the true width, whose difference is the cost of
a layer. For a GPU that is not here it is the FLOPs at an assumed share of what the GPU's data sheet promises.
"""

import statistics
import time
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from base_model.gpt import GPT, GPTConfig
from base_model.optim import make_optimizers
from base_model.precision import DTYPES, find_device, find_precision
from base_model.pretrain_config import PretrainConfig


@dataclass(frozen=True)
class Card:
    """A GPU by its data sheet."""

    name: str
    flops_per_s: float  # dense bf16 matrix products, summed in fp32, no sparsity
    memory_bytes: int


CARDS = {
    "h100": Card("H100 SXM", 989.4e12, 80 * 10**9),
    "h200": Card("H200 SXM", 989.4e12, 141 * 10**9),
    "a100": Card("A100 80 GB", 312e12, 80 * 10**9),
    "a100-40gb": Card("A100 40 GB", 312e12, 40 * 10**9),
    "l40s": Card("L40S", 362e12, 48 * 10**9),
    "4090": Card("RTX 4090", 165.2e12, 24 * 10**9),
}
ASSUMED_MFU = 0.4  # share of a card's FLOP/s that compiled training of such models reaches; 0.3 to 0.5 is usual
USABLE_MEMORY = 0.9  # of a card's: the CUDA context, NCCL's buffers and gaps take the rest


@dataclass(frozen=True)
class Memory:
    """Bytes on one process as the backward pass begins, while all activations are held."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logit_gradients: int  # two float32 copies of the logits' shape; torch.compile needs less

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.logit_gradients


@dataclass(frozen=True)
class Speed:
    """What a probe found: seconds a token and seconds an optimizer step, of the whole model, on one process."""

    s_per_token: float
    s_per_update: float


def matrix_parameters(config: GPTConfig) -> tuple[int, int]:
    """(in one block, in the head): the numbers that a token is multiplied with."""
    q_width, kv_width = config.n_head * config.head_dim, config.n_kv_head * config.head_dim
    attention = config.d_model * (q_width + 2 * kv_width) + q_width * config.d_model
    mlp = (2 if config.dialect == "gpt2" else 3) * config.d_model * config.d_ff
    return attention + mlp, config.vocab_size * config.d_model


def flops_per_token(config: GPTConfig) -> float:
    """Training FLOPs a token, forward and backward: 3 x (2 x matrix parameters + 4 x layers x head width x (T + 1) / 2).

    The second term is q k^T and its product with v, for the (T + 1) / 2 tokens that a token sees on average in a full context; norms,
    activation functions and the softmax are left out, as usual, and so is the recomputation under gradient checkpointing.
    """
    block, head = matrix_parameters(config)
    attention = 4 * config.n_head * config.head_dim * (config.context_length + 1) / 2
    return 3 * (config.n_layer * (2 * block + attention) + 2 * head)


def memory(config: GPTConfig, training: PretrainConfig, world_size: int = 1, device_type: str = "cpu") -> Memory:
    """Bytes for one process without sharding: fp32 weights, gradients and optimizer state, and a micro-batch's activations."""
    precision = training.precision if training.precision != "auto" else "bf16"
    block, _ = matrix_parameters(config)
    by_muon = config.n_layer * block if training.optimizer == "muon" else 0
    rows = training.rows_per_micro_batch(world_size)
    return Memory(
        weights=4 * config.n_parameters,
        gradients=4 * config.n_parameters,
        optimizer=8 * (config.n_parameters - by_muon) + 4 * by_muon,
        activations=activation_bytes(config, rows, precision, device_type),
        logit_gradients=8 * rows * config.context_length * config.vocab_size,
    )


def shard(needed: Memory, config: GPTConfig, world_size: int, precision: str) -> Memory:
    """`needed` under FSDP: weights, gradients and optimizer state split over the processes; beside its part each has whole, in the
    precision of the forward pass, what is in no block, the block at work and the one fetched for after it."""
    block = sum(p.numel() for p in _block_parameters(config))
    whole = config.n_parameters - (config.n_layer - min(2, config.n_layer)) * block
    return replace(
        needed,
        weights=needed.weights // world_size + (4 if precision == "fp32" else 2) * whole,
        gradients=needed.gradients // world_size,
        optimizer=needed.optimizer // world_size,
    )


def activation_bytes(config: GPTConfig, rows: int, precision: str, device_type: str = "cpu") -> int:
    """Bytes that a forward pass of `rows` full contexts keeps for the backward pass, without torch.compile (which keeps less)."""
    with FakeTensorMode(), torch.device(device_type):
        model = GPT(config)
        tokens_BT = torch.zeros(rows, config.context_length, dtype=torch.long)
        own = {p.untyped_storage()._cdata for p in (*model.parameters(), *model.buffers())}
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor):
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage  # held, so that no other storage gets its address
            return tensor

        is_low = precision != "fp32"
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast(device_type, DTYPES[precision] if is_low else torch.bfloat16, enabled=is_low),
        ):
            loss = model(tokens_BT, targets_BT=tokens_BT)
        total = sum(storage.nbytes() for storage in kept.values())
        del loss
    return total


def probe(config: GPTConfig, training: PretrainConfig, *, budget_s: float = 10.0) -> Speed:
    """Run real, uncompiled training steps of one- and two-layer cuts of the model for about `budget_s`, and scale to all its layers."""
    device = find_device()
    precision = find_precision(training.precision, device)
    one, two = replace(config, n_layer=1), replace(config, n_layer=2)
    tokens = (
        _matmul_flops_per_s(DTYPES[precision], device) * budget_s / 20 / flops_per_token(two)
    )  # about budget / 10 a step
    n_tokens = max(8, min(config.context_length, int(tokens)))
    rows = max(1, min(training.rows_per_micro_batch(), int(tokens) // n_tokens))
    one, two = replace(one, context_length=n_tokens), replace(two, context_length=n_tokens)

    models = {cut.n_layer: _constant_model(cut, device) for cut in (one, two)}
    optimizers = make_optimizers(nn.ModuleDict({"blocks": models[1].blocks}), training.optimizer, lr=0.0, muon_lr=0.0)
    step_s: dict[int, list[float]] = {1: [], 2: []}
    update_s: list[float] = []
    ends = time.perf_counter() + budget_s
    while len(update_s) < 3 or time.perf_counter() < ends:
        for n_layer, model in models.items():
            step_s[n_layer].append(_time(lambda model=model: _gradients(model, rows, precision, device), device))
        update_s.append(_time(lambda: [optimizer.step() for optimizer in optimizers], device))
    # the first round warms up
    first, second = (statistics.median(step_s[n][1:]) / (rows * n_tokens) for n in (1, 2))
    head_flops = 6 * matrix_parameters(config)[1]
    layer_s = max(second - first, second * 0.5 * (1 - head_flops / flops_per_token(two)))
    rest_s = max(first - layer_s, 0.0)
    longer = (flops_per_token(replace(config, n_layer=1)) - head_flops) / (flops_per_token(one) - head_flops)
    block = sum(p.numel() for p in _block_parameters(config))
    return Speed(
        s_per_token=config.n_layer * layer_s * longer + rest_s,
        s_per_update=statistics.median(update_s[1:]) * config.n_parameters / block,
    )


def describe(config: GPTConfig, training: PretrainConfig, *, budget_s: float = 10.0) -> str:
    """The plan as text for a terminal."""
    device = find_device()
    precision = find_precision(training.precision, device)
    training = replace(training, precision=precision)
    needed = memory(config, training, device_type=device.type)
    speed = probe(config, training, budget_s=budget_s)
    tokens_per_step = training.batch_size * config.context_length
    step_s = tokens_per_step * speed.s_per_token + speed.s_per_update
    flops = flops_per_token(config)
    rows = training.rows_per_micro_batch()
    lines = [
        *_model_lines(config),
        f"memory        {_parts(needed, training)} ({rows} rows at once, {precision})",
        f"this machine  {_short(flops / speed.s_per_token)}FLOP/s on {device.type} in {precision}, from {budget_s:.0f} s of real steps",
        f"time          {training.steps:,} steps of {tokens_per_step:,} tokens = {_short(training.steps * tokens_per_step)}tokens:"
        f" {_duration(training.steps * step_s)} without torch.compile ({tokens_per_step / step_s:,.0f} tokens/s)",
    ]
    return "\n".join(lines)


def describe_on(
    card_name: str, config: GPTConfig, training: PretrainConfig, *, gpus: int = 1, mfu: float = ASSUMED_MFU
) -> str:
    """The plan on so many GPUs of a kind that need not be here, as text for a terminal.

    Raises ValueError for a card that is not in CARDS, a batch that the GPUs cannot share, or an mfu outside (0, 1]."""
    if card_name not in CARDS:
        raise ValueError(f"unknown plan_device {card_name!r}; there are {', '.join(CARDS)}")
    if not 0 < mfu <= 1:
        raise ValueError(f"plan_mfu is a share of the card's FLOP/s, above 0 and at most 1, got {mfu}")
    card = CARDS[card_name]
    precision = "bf16" if training.precision == "auto" else training.precision
    rows, accumulation = training.rows_per_micro_batch(gpus), training.for_processes(gpus).accumulation
    copied = memory(config, training, gpus)
    kinds = [("DDP" if gpus > 1 else "one GPU", copied)]
    if gpus > 1:
        kinds.append(("FSDP", shard(copied, config, gpus, precision)))
    tokens = training.steps * training.batch_size * config.context_length
    recomputed = 4 / 3 if config.gradient_checkpointing else 1.0  # the forward pass twice; MFU does not count it
    tokens_per_s = gpus * card.flops_per_s * mfu / flops_per_token(config) / recomputed
    lines = [
        *_model_lines(config),
        f"each GPU      {rows} rows at once x {accumulation} passes x {gpus} GPUs = {training.batch_size} rows a step, {precision}",
        *(f"{name:<14}{_parts(needed, training)}: {_verdict(needed, card)}" for name, needed in kinds),
        f"time          {training.steps:,} steps = {_short(tokens)}tokens: {_duration(tokens / tokens_per_s)} on {gpus} x {card.name}"
        f" ({tokens_per_s:,.0f} tokens/s), assuming {mfu:.0%} of {_short(card.flops_per_s)}FLOP/s each",
        "              (memory without torch.compile, which needs less; time without evaluation, checkpoints and slow networks)",
    ]
    return "\n".join(lines)


def _model_lines(config: GPTConfig) -> list[str]:
    return [
        f"model         {config.dialect}, {config.n_layer} layers, width {config.d_model}, {config.n_head} heads"
        f" ({config.n_kv_head} key/value), context {config.context_length}, vocabulary {config.vocab_size}",
        f"parameters    {config.n_parameters:,}",
        f"compute       {_short(flops_per_token(config))}FLOP a token (forward and backward)",
    ]


def _parts(needed: Memory, training: PretrainConfig) -> str:
    return (
        f"{_gb(needed.total)}: weights {_gb(needed.weights)}, gradients {_gb(needed.gradients)}, {training.optimizer}"
        f" {_gb(needed.optimizer)}, activations {_gb(needed.activations)}, logits' gradients {_gb(needed.logit_gradients)}"
    )


def _verdict(needed: Memory, card: Card) -> str:
    if needed.total <= USABLE_MEMORY * card.memory_bytes:
        return f"fits into {_gb(card.memory_bytes)}"
    return (
        f"does not fit into {_gb(card.memory_bytes)}; lower per_device_train_batch_size, or use gradient_checkpointing"
    )


def _block_parameters(config: GPTConfig) -> list[torch.Tensor]:
    with torch.device("meta"):
        return list(GPT(replace(config, n_layer=1)).blocks.parameters())


def _constant_model(config: GPTConfig, device: torch.device) -> GPT:
    """A model of the right shapes, filled with a constant: large tables take long to draw, and no value changes the time."""
    with torch.device("meta"):
        model = GPT(config)
    model = model.to_empty(device=device)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(0.01)
    return model


def _gradients(model: GPT, rows: int, precision: str, device: torch.device) -> None:
    tokens_BT = torch.zeros(rows, model.config.context_length, dtype=torch.long, device=device)
    is_low = precision != "fp32"
    with torch.autocast(device.type, DTYPES[precision] if is_low else torch.bfloat16, enabled=is_low):
        loss = model(tokens_BT, targets_BT=tokens_BT)
    loss.backward()


def _matmul_flops_per_s(dtype: torch.dtype, device: torch.device, size: int = 512) -> float:
    a = torch.ones(size, size, dtype=dtype, device=device)
    a @ a
    return 2 * size**3 / min(_time(lambda: a @ a, device) for _ in range(5))


def _time(work, device: torch.device) -> float:
    synchronise = torch.get_device_module(device).synchronize if device.type != "cpu" else lambda: None
    synchronise()
    began = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - began


def _short(number: float) -> str:
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.3g} "


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.1f} {name}"
    return f"about {seconds:.0f} s"
