"""The processes and their device, through accelerate: DDP and FSDP come from its launcher and config files."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from alignment.ppo.config import PPOConfig
from base_model.precision import find_precision


def make_accelerator(args: PPOConfig) -> Any:
    """An Accelerator at the precision asked for, or found fast. Raises ValueError for what PPO here does not run on."""
    from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType
    from accelerate.state import AcceleratorState, PartialState

    device = PartialState(cpu=args.use_cpu).device
    found = find_precision("auto", device) == "bf16" if args.bf16 is None else args.bf16
    precision = "bf16" if found else "no"
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()  # an earlier trainer of this process; its own accelerator keeps what it has
    handlers = [DistributedDataParallelKwargs(broadcast_buffers=False)]
    accelerator = Accelerator(mixed_precision=precision, cpu=args.use_cpu, kwargs_handlers=handlers)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise ValueError("PPO has two optimizers, and DeepSpeed's engine takes one; launch it with DDP or FSDP 2")
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ValueError(
            "PPO needs FSDP 2 (fsdp_version: 2 in accelerate's config): FSDP 1 flattens the two optimizers' weights"
        )
    return accelerator


def _sharded(wrapped: nn.Module) -> list[Any]:
    from torch.distributed.fsdp import FSDPModule

    return [module for module in wrapped.modules() if isinstance(module, FSDPModule)]


@contextmanager
def full_weights(wrapped: nn.Module) -> Iterator[None]:
    """Every parameter whole on this process while the block runs: generation reads weights without calling `forward`."""
    sharded = _sharded(wrapped)
    for module in sharded:
        module.unshard()
    try:
        yield
    finally:
        for module in sharded:
            module.reshard()


def own_shards(wrapped: nn.Module) -> None:
    """Put the parameters that the optimizers hold back in place: FSDP leaves the root's whole after a forward pass."""
    for module in _sharded(wrapped):
        module.reshard()
