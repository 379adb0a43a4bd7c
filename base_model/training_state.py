"""All that a training step depends on, in a folder: weights, optimizer state, loss scale, random numbers and place in the run.

    model.safetensors       each parameter, fp32
    optimizer.safetensors   "<optimizer>.<parameter name>.<state key>", such as 0.norm.weight.exp_avg
    random.safetensors      torch's generators, "<process>.cpu" and "<process>.<accelerator>"
    training_state.json     step, precision, loss scale, and what the caller notes

There is no pickle in it. Tensors that FSDP has split over processes are stored whole, so a run may go on with another number of them
(and then other sums, so not bit for bit). Learning rates and the place in the data follow from the step.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from base_model.checkpoints import keep_newest, seal, write_atomically

MODEL, OPTIMIZER, RANDOM, STATE = (
    "model.safetensors",
    "optimizer.safetensors",
    "random.safetensors",
    "training_state.json",
)


def save_training_state(
    parent: Path,
    step: int,
    model: nn.Module,
    optimizers: Iterable[torch.optim.Optimizer],
    accelerator: Accelerator,
    notes: dict[str, Any],
    *,
    keep: int = 2,
    mark: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Write `parent/checkpoint-<step>`, sealed, and remove all but the newest `keep`. Every process must call it.

    mark: writes what else the folder should hold, before it is sealed.
    model and optimizers are those that `accelerator.prepare` returned. Returns the folder once it is on disk.
    """
    model = accelerator.unwrap_model(model)
    weights = model_tensors(model)
    state = {key: _whole(tensor) for key, tensor in _optimizer_tensors(model, optimizers).items()}
    random = {key: tensor for one in gather_object([_random_tensors(accelerator)]) for key, tensor in one.items()}
    folder = parent / f"checkpoint-{step}"
    if accelerator.is_main_process:
        with write_atomically(folder) as partial:
            save_file(weights, partial / MODEL)
            save_file(state, partial / OPTIMIZER)
            save_file(random, partial / RANDOM)
            scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
            (partial / STATE).write_text(json.dumps({"step": step, "loss_scale": scaler, **notes}, indent=1) + "\n")
            mark(partial)
            seal(partial)
        keep_newest(parent, keep, step)
    accelerator.wait_for_everyone()
    return folder


def read_notes(folder: Path | str) -> dict[str, Any]:
    """`step`, `loss_scale` and the notes of a checkpoint. Raises FileNotFoundError if the folder holds no training state."""
    path = Path(folder) / STATE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {STATE}; give a checkpoint-<step> folder that pretraining wrote")
    return json.loads(path.read_text(encoding="utf-8"))


def load_training_state(
    folder: Path | str, model: nn.Module, optimizers: Iterable[torch.optim.Optimizer], accelerator: Accelerator
) -> dict[str, Any]:
    """Put a checkpoint into a prepared model and prepared optimizers, and set the random numbers; returns the notes.

    Raises ValueError naming the first tensor that is missing or of another shape.
    """
    folder, model = Path(folder), accelerator.unwrap_model(model)
    notes = read_notes(folder)
    with torch.no_grad():
        weights = load_file(folder / MODEL)
        for name, parameter in model.named_parameters():
            parameter.copy_(_like(parameter, _take(weights, name, parameter, folder)))
    _load_optimizers(folder, model, optimizers)
    if accelerator.scaler is not None and notes["loss_scale"] is not None:
        accelerator.scaler.load_state_dict(notes["loss_scale"])
    random, process = load_file(folder / RANDOM), accelerator.process_index
    if f"{process}.cpu" in random:  # a process more than before starts from its own seed
        torch.set_rng_state(random[f"{process}.cpu"])
    if f"{process}.{accelerator.device.type}" in random and accelerator.device.type != "cpu":
        torch.get_device_module(accelerator.device).set_rng_state(random[f"{process}.{accelerator.device.type}"])
    return notes


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter by name, whole and on the CPU; a tied one once. With FSDP every process must call it."""
    return {name: _whole(parameter.detach()) for name, parameter in model.named_parameters()}


def _whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu().contiguous()


def _like(target: Tensor, tensor: Tensor) -> Tensor:
    """`tensor` on the device of `target`, and split as it is."""
    if isinstance(target, DTensor):
        return distribute_tensor(tensor.to(target.device), target.device_mesh, target.placements)
    return tensor.to(target.device)


def _take(tensors: dict[str, Tensor], name: str, parameter: Tensor, folder: Path) -> Tensor:
    if name not in tensors or tensors[name].shape != parameter.shape:
        found = tuple(tensors[name].shape) if name in tensors else "nothing"
        raise ValueError(f"{folder}: {name} should be {tuple(parameter.shape)}, found {found}; it is another model's")
    return tensors[name]


def _optimizer_tensors(model: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> dict[str, Tensor]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{i}.{names[parameter]}.{key}": value
        for i, optimizer in enumerate(optimizers)
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def _load_optimizers(folder: Path, model: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> None:
    tensors = load_file(folder / OPTIMIZER)
    parameters = dict(model.named_parameters())
    for i, optimizer in enumerate(optimizers):
        mine = {parameter for group in optimizer.param_groups for parameter in group["params"]}
        for full_name in [key for key in tensors if key.startswith(f"{i}.")]:
            name, key = full_name.removeprefix(f"{i}.").rsplit(".", 1)
            if parameters.get(name) not in mine:
                raise ValueError(f"{folder}: {full_name} is the state of another optimizer; resume with the same one")
            parameter, value = parameters[name], tensors.pop(full_name)
            is_count = value.ndim == 0 and parameter.ndim > 0  # AdamW's step, on the parameter's device when fused
            value = value.to(parameter.device) if is_count else _like(parameter, value)
            optimizer.state[parameter][key] = value
    if tensors:
        raise ValueError(
            f"{folder}: {next(iter(tensors))} belongs to no optimizer of this run; resume with the same one"
        )


def _random_tensors(accelerator: Accelerator) -> dict[str, Tensor]:
    process, device = accelerator.process_index, accelerator.device
    random = {f"{process}.cpu": torch.get_rng_state()}
    if device.type != "cpu":
        random[f"{process}.{device.type}"] = torch.get_device_module(device).get_rng_state()
    return random
