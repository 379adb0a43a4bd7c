"""The settings of pretraining. Apart from the loop, so that a command can show them without loading torch."""

from dataclasses import dataclass, replace
from typing import Literal

from base_model.batches import share_batch


@dataclass(frozen=True)
class PretrainConfig:
    """How to train; what to train and on what are arguments of `pretrain`."""

    steps: int = 1000  # optimizer steps
    batch_size: int = 32  # rows an optimizer step sees: all processes and micro-batches together
    accumulation: int = 1  # micro-batches a step is split into, for memory
    per_device_train_batch_size: int | None = (
        None  # most rows of one process at once; accumulation then follows from it
    )
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: block matrices by Muon, the rest by AdamW
    lr: float = 1e-3  # AdamW's peak learning rate
    muon_lr: float = 0.02  # Muon's peak learning rate
    weight_decay: float = 0.1  # decoupled, on matrices only
    beta1: float = 0.9  # AdamW's decay of the mean gradient
    beta2: float = 0.95  # AdamW's decay of the squared gradient
    schedule: Literal["cosine", "wsd"] = "cosine"  # after the warm-up; wsd: constant, then straight down
    warmup_steps: int = 20  # steps of linear warm-up
    decay_fraction: float = 0.3  # share of the steps that wsd decays over
    final_lr_factor: float = 0.0  # share of the peak that the schedule ends at
    clip_norm: float = 1.0  # largest L2 norm of the whole gradient; 0: no clipping
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"  # auto: what this machine does well
    compile: bool = True  # torch.compile, where there is a compiler
    document_mask: bool = False  # packed documents do not see each other; slower
    log_every: int = 10  # steps between lines in the log
    eval_every: int = 200  # steps between validations; one is always made at the end; 0: only then
    eval_batches: int = 20  # at most so many validation micro-batches
    sample_every: int = 0  # steps between samples; 0: none
    save_every: int = 200  # steps between checkpoints; 0: none
    keep_checkpoints: int = 2  # newest ones kept
    trackers: str = "tensorboard"  # any that accelerate knows, with commas between; "none"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "log_every", "eval_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.per_device_train_batch_size is not None and self.per_device_train_batch_size < 1:
            raise ValueError(
                f"per_device_train_batch_size is {self.per_device_train_batch_size}; it must be at least 1, or left out"
            )
        if self.per_device_train_batch_size is not None and self.accumulation != 1:
            raise ValueError(
                f"accumulation {self.accumulation} follows from per_device_train_batch_size "
                f"{self.per_device_train_batch_size} where that is given; give one of the two"
            )
        not_negative = ("lr", "muon_lr", "weight_decay", "warmup_steps", "clip_norm")
        for name in (*not_negative, "eval_every", "sample_every", "save_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be below steps {self.steps}")
        if not 0 < self.decay_fraction <= 1 or not 0 <= self.final_lr_factor <= 1:
            raise ValueError(
                f"decay_fraction {self.decay_fraction} must be in (0, 1] and final_lr_factor {self.final_lr_factor} in [0, 1]"
            )
        if self.save_every and self.keep_checkpoints < 2:
            raise ValueError(
                f"keep_checkpoints is {self.keep_checkpoints}; keep 2 or more, to fall back on one if the newest is damaged"
            )

    def for_processes(self, world_size: int) -> "PretrainConfig":
        """The same global batch on so many processes: with the accumulation that per_device_train_batch_size asks for there.

        Raises ValueError if batch_size does not divide."""
        if self.per_device_train_batch_size is None:
            return self
        _, accumulation = share_batch(self.batch_size, world_size, self.per_device_train_batch_size)
        return replace(self, accumulation=accumulation, per_device_train_batch_size=None)

    def rows_per_micro_batch(self, world_size: int = 1) -> int:
        """batch_size / (world_size accumulation): the batch_size of each process's loader. Raises ValueError if not whole."""
        accumulation = self.for_processes(world_size).accumulation
        rows, left = divmod(self.batch_size, world_size * accumulation)
        if left or not rows:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide into {world_size} process(es) x accumulation {accumulation}"
            )
        return rows
