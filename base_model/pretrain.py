"""Pretraining: next-token prediction over token shards, on `accelerate`, from one CPU to FSDP on many GPUs.

    loader = ShardLoader(folder, T, config.rows_per_micro_batch(world_size), seed=seed, rank=rank, world_size=world_size)
    result = pretrain(GPT(model_config), loader, PretrainConfig(steps=1000), validation=..., checkpoints=run / "checkpoints")

Everything that a step depends on is a function of the step (learning rate, batch) or in the checkpoint, so a run that was killed and
resumed ends with the weights of one that was not, bit for bit on a CPU. Dropout is not used.

Shapes: B rows of a micro-batch on one process, T context, V vocabulary.
"""

import importlib.util
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import ProjectConfiguration, broadcast_object_list
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
from torch.distributed.fsdp import FSDPModule
from tqdm import tqdm

from base_model.gpt import GPT
from base_model.optim import learning_rate_factor, make_optimizers, scale_learning_rates
from base_model.precision import find_device, find_precision, keep_freed_memory
from base_model.pretrain_config import PretrainConfig
from base_model.training_state import load_training_state, model_tensors, read_notes, save_training_state
from base_model.validation import Loader, validate


@dataclass(frozen=True)
class Pretrained:
    """What came out. `model` holds whole fp32 weights (on FSDP: a new model, on the main process only, None elsewhere)."""

    model: GPT | None
    steps: int
    tokens: int  # trained on, all processes together
    precision: str
    metrics: dict[str, float]  # of the last validation: validation_loss, bits_per_byte


def pretrain(
    model: GPT,
    loader: Loader,
    config: PretrainConfig,
    *,
    validation: Loader | None = None,
    token_bytes_V: Tensor | None = None,
    sample: Callable[[GPT], list[str]] | None = None,
    checkpoints: Path | None = None,
    resume_from: Path | str | None = None,
    mark: Callable[[Path], None] = lambda folder: None,
    log: Callable[[dict[str, Any]], None] = lambda metrics: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    tracker_dir: Path | None = None,
    show_progress: bool = True,
) -> Pretrained:
    """Train `model` for config.steps optimizer steps; the loss is the mean cross-entropy of the next token, in nats.

    loader.batch(i) is micro-batch i of this process; step s reads micro-batches s accumulation ... (s + 1) accumulation - 1.
    validation: a loader whose batches 0, 1, ... are measured. token_bytes_V: UTF-8 bytes of each token, for bits per byte.
    sample: called on the model now and then, its texts are logged. checkpoints: folder for training state; resume_from: one of its
    `checkpoint-<step>`; mark: writes what else each should hold. log: gets one dict with "step" (steps done) for each line; progress:
    gets (steps done, all steps).
    Raises ValueError at a loss that is not finite, naming step and batch (the checkpoints before it stay).
    """
    config = config.for_processes(join_processes().num_processes)
    precision = _agree_on_precision(config, resume_from)
    begun = read_notes(resume_from)["step"] if resume_from else 0
    accelerator = _make_accelerator(config, precision, tracker_dir, begun)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    model.train().to(accelerator.device)
    optimizers = make_optimizers(
        model,
        config.optimizer,
        lr=config.lr,
        muon_lr=config.muon_lr,
        weight_decay=config.weight_decay,
        betas=(config.beta1, config.beta2),
    )
    is_compiled = config.compile and _can_compile(accelerator)
    if is_compiled:
        model.compile(options={"cpp.use_decompose_tanh": True})  # by exp: GELU takes half the time on a CPU
    wrapped, *optimizers = accelerator.prepare(model, *optimizers)
    first = load_training_state(resume_from, wrapped, optimizers, accelerator)["step"] if resume_from else 0
    if is_compiled:
        _compile_now(accelerator, wrapped, loader, config)

    tokens_per_step = config.batch_size * model.config.context_length
    metrics: dict[str, float] = {}
    busy_s, busy_steps = 0.0, 0
    bar = _progress_bar(config.steps, first, show_progress and accelerator.is_main_process)
    for step in range(first, config.steps):
        began = time.perf_counter()
        factor = learning_rate_factor(
            step,
            steps=config.steps,
            warmup_steps=config.warmup_steps,
            schedule=config.schedule,
            decay_fraction=config.decay_fraction,
            final_factor=config.final_lr_factor,
        )
        scale_learning_rates(optimizers, factor)
        loss = _accumulate_gradients(accelerator, wrapped, loader, step, config)
        grad_norm = accelerator.clip_grad_norm_(wrapped.parameters(), config.clip_norm or math.inf)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        busy_s, busy_steps = busy_s + time.perf_counter() - began, busy_steps + 1

        done = step + 1
        is_last = done == config.steps
        if done % config.log_every == 0 or is_last:
            speed = busy_steps * tokens_per_step / busy_s
            line = {"loss": loss, "grad_norm": float(grad_norm), "lr": config.lr * factor, "tokens_per_s": speed}
            _report(accelerator, log, done, {**line, "tokens": done * tokens_per_step})
            bar.set_postfix_str(f"loss {loss:.3f}, {speed:,.0f} tokens/s", refresh=False)
            busy_s, busy_steps = 0.0, 0
        bar.update()
        progress(done, config.steps)
        if validation is not None and (is_last or (config.eval_every and done % config.eval_every == 0)):
            with torch.compiler.set_stance("force_eager"):  # a second compilation would cost more than it saves
                metrics = validate(
                    accelerator,
                    lambda batch: _loss(accelerator, wrapped, batch, config),
                    validation,
                    config.eval_batches,
                    token_bytes_V,
                )
            _report(accelerator, log, done, metrics)
            shown = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in metrics.items())
            _say(accelerator, bar, f"step {done}: {shown}")
        if sample is not None and config.sample_every and done % config.sample_every == 0:
            _show_samples(accelerator, wrapped, sample, log, done, bar)
        if checkpoints is not None and config.save_every and done % config.save_every == 0 and not is_last:
            notes = {"precision": precision, "config": asdict(config)}
            keep = config.keep_checkpoints
            save_training_state(checkpoints, done, wrapped, optimizers, accelerator, notes, keep=keep, mark=mark)
    bar.close()
    for tracker in accelerator.trackers:
        tracker.finish()
    trained = _take_off(accelerator, _whole_model(accelerator, wrapped))
    return Pretrained(trained, config.steps, config.steps * tokens_per_step, precision, metrics)


def _accumulate_gradients(accelerator, wrapped, loader: Loader, step: int, config: PretrainConfig) -> float:
    """Gradients of the step's mean loss, left in the parameters; returns that loss over all processes.

    Each micro-batch has the same number of targets, so the mean of their means is the mean over the step's tokens.
    """
    losses = []
    for micro in range(config.accumulation):
        batch = loader.batch(step * config.accumulation + micro)
        is_synced = micro == config.accumulation - 1  # processes exchange gradients once a step
        with nullcontext() if is_synced else accelerator.no_sync(wrapped):
            loss = _loss(accelerator, wrapped, batch, config)
            accelerator.backward(loss / config.accumulation)
        losses.append(loss.detach())
    losses_PM = accelerator.gather(torch.stack(losses)[None])
    if not torch.isfinite(losses_PM).all():
        process, micro = (~torch.isfinite(losses_PM)).nonzero()[0].tolist()
        raise ValueError(
            f"the loss is {losses_PM[process, micro].item()} at step {step + 1}, batch {step * config.accumulation + micro}"
            f" of process {process} (rows {loader.batch_size}); the weights were not changed by it and checkpoints before it"
            " are kept: lower the learning rate, clip, or use fp32, and --resume"
        )
    return losses_PM.mean().item()


def _loss(accelerator, wrapped, batch: dict[str, Tensor], config: PretrainConfig) -> Tensor:
    tokens_BT = batch["tokens_BT"].to(accelerator.device, non_blocking=True)
    documents_BT = None
    if config.document_mask:
        documents_BT = batch["document_ids_BT"][:, :-1].to(accelerator.device, non_blocking=True)
    return wrapped(tokens_BT[:, :-1], targets_BT=tokens_BT[:, 1:], document_ids_BT=documents_BT)


def join_processes() -> PartialState:
    """This process's place among those that were launched together; over gloo where there is no accelerator.

    Without cpu=True accelerate would let processes on a machine without GPUs train on their own, each unaware of the others.
    """
    return PartialState(cpu=find_device().type == "cpu")


def _agree_on_precision(config: PretrainConfig, resume_from: Path | str | None) -> str:
    """The precision of every process: the checkpoint's, else the first process's finding (a race may end otherwise elsewhere)."""
    if resume_from:
        return read_notes(resume_from)["precision"]
    state = join_processes()
    found = [find_precision(config.precision, state.device) if state.is_main_process else ""]
    return broadcast_object_list(found)[0]


def _make_accelerator(config: PretrainConfig, precision: str, tracker_dir: Path | None, begun: int) -> Accelerator:
    AcceleratorState._reset_state()  # an earlier call in this process may have had another precision
    trackers = [name.strip() for name in config.trackers.split(",") if name.strip() not in ("", "none")]
    accelerator = Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        log_with=(trackers or None) if tracker_dir else None,
        project_config=ProjectConfiguration(logging_dir=str(tracker_dir)) if tracker_dir else None,
        cpu=join_processes().device.type == "cpu",
    )
    if tracker_dir and trackers:
        # Steps that a life before this one told after its last checkpoint are made again: their points are hidden.
        hidden = {"tensorboard": {"purge_step": begun + 1}} if begun else {}
        accelerator.init_trackers("pretrain", config=asdict(config), init_kwargs=hidden)
    return accelerator


def _can_compile(accelerator: Accelerator) -> bool:
    """Is there what torch.compile needs for this device? Says so in one line if not."""
    device = accelerator.device.type
    if device == "cpu":
        lacking = "C++ compiler" if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))) else ""
    elif device == "cuda":
        lacking = "triton" if importlib.util.find_spec("triton") is None else ""
    else:
        lacking = f"support on {device}"
    if lacking:
        accelerator.print(f"not compiled: torch.compile finds no {lacking}; training goes on, slower", file=sys.stderr)
    return not lacking


def _compile_now(accelerator: Accelerator, wrapped: torch.nn.Module, loader: Loader, config: PretrainConfig) -> None:
    """Compile by one forward and backward pass, whose gradients are dropped; where that fails, go on without."""
    began = time.perf_counter()
    try:
        with accelerator.no_sync(wrapped):
            accelerator.backward(_loss(accelerator, wrapped, loader.batch(0), config))
        accelerator.print(f"compiled in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    except TorchDynamoException as error:
        accelerator.unwrap_model(wrapped)._compiled_call_impl = None
        reason = str(error).strip().splitlines()[0]
        accelerator.print(f"not compiled: {reason}; training goes on, slower", file=sys.stderr)
    wrapped.zero_grad()


def _progress_bar(steps: int, first: int, is_shown: bool) -> tqdm:
    shape = "{desc}: {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} steps, {elapsed}, {remaining} left, {postfix}"
    return tqdm(total=steps, initial=first, desc="pretrain", bar_format=shape, disable=None if is_shown else True)


def _say(accelerator: Accelerator, bar: tqdm, text: str) -> None:
    if accelerator.is_main_process:
        bar.write(text, file=sys.stderr)


def _report(accelerator: Accelerator, log: Callable, step: int, metrics: dict[str, Any]) -> None:
    if accelerator.is_main_process:
        log({"step": step, **metrics})
    accelerator.log(metrics, step=step)


def _show_samples(accelerator, wrapped, sample: Callable, log: Callable, step: int, bar: tqdm) -> None:
    """Texts of the model as it is, to the terminal and the log. Weights split by FSDP are gathered first."""
    model = _whole_model(accelerator, wrapped)
    if accelerator.is_main_process:
        texts = sample(model)
        log({"step": step, "samples": texts})
        for text in texts:
            bar.write(f"step {step}: {' '.join(text.split())}", file=sys.stderr)
    if model is not None:
        model.train()


def _whole_model(accelerator: Accelerator, wrapped: torch.nn.Module) -> GPT | None:
    """The model being trained; where FSDP split it, a whole copy on the main process and None on the others."""
    model = accelerator.unwrap_model(wrapped)
    if not isinstance(model, FSDPModule):
        return model
    weights = model_tensors(model)
    if not accelerator.is_main_process:
        return None
    whole = GPT(model.config)
    whole.load_state_dict(weights, strict=False)  # a tied head has no entry of its own
    return whole


def _take_off(accelerator: Accelerator, model: GPT | None) -> GPT | None:
    """The model without what accelerate and torch.compile put around it, so that it computes in fp32 and can be trained again."""
    if model is not None:
        model = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        model._compiled_call_impl = None
        vars(model).pop("_is_accelerate_prepared", None)
    return model
