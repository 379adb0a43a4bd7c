"""PPO's training state on disk: what a killed run needs to end with the same weights, bit for bit, as one that was not killed.

checkpoint-<step>/ holds, sealed and renamed into place (base_model/checkpoints.py):

    weights.safetensors    every parameter that trains, policy and critic, by its name in ActorCritic
    optimizers.safetensors the tensors of both optimizers' state
    rng.json               the random state of each process (Python, NumPy, torch): reward functions may draw from it
    state.json             step, KL coefficient, log, evaluations, settings, and a fingerprint of the frozen weights

The data position is step * rollout_batch_size. Nothing is pickled. Under FSDP whole tensors are gathered and written by
process 0, so a run may go on with another number of processes.
"""

import dataclasses
import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from alignment.ppo.alarms import Alarm
from alignment.ppo.config import RESUMABLE_CHANGES
from alignment.ppo.distributed import own_shards
from base_model.checkpoints import damage, keep_newest, newest_sealed, seal, write_atomically

WEIGHTS, OPTIMIZERS, RNG, STATE = "weights.safetensors", "optimizers.safetensors", "rng.json", "state.json"


def whole(tensor: Tensor) -> Tensor:
    """The full tensor on the CPU, gathered where it is sharded (every process must call)."""
    tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return tensor.detach().cpu().contiguous()


def _fill(target: Tensor, source: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded."""
    if hasattr(target, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        source = distribute_tensor(source.to(target.device), target.device_mesh, target.placements)
    target.copy_(source)


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that train, by name; a tied one once."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def collect_weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: whole(parameter) for name, parameter in trained_parameters(module).items()}


@torch.no_grad()
def load_weights(module: nn.Module, folder: Path) -> None:
    """Raises ValueError if the checkpoint's parameters are not the module's."""
    saved, parameters = load_file(folder / WEIGHTS), trained_parameters(module)
    differing = sorted(set(saved) ^ set(parameters))
    differing += sorted(name for name in set(saved) & set(parameters) if saved[name].shape != parameters[name].shape)
    if differing:
        raise ValueError(
            f"{folder} holds other trained parameters than this model ({len(differing)} differ, first {differing[0]}): "
            "resume with the same model, adapter and critic"
        )
    for name, parameter in parameters.items():
        _fill(parameter, saved[name])


def collect_optimizers(module: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Every state tensor as `<parameter name>/<state name>`; the two optimizers share no parameter."""
    names = {parameter: name for name, parameter in trained_parameters(module).items()}
    found = {}
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                found[f"{names[parameter]}/{key}"] = whole(torch.as_tensor(value))
    return found


@torch.no_grad()
def load_optimizers(module: nn.Module, optimizers: Iterable[torch.optim.Optimizer], folder: Path) -> None:
    """State tensors back to the parameters' optimizers, in their layout (sharded or whole) and on their device."""
    parameters, owners = trained_parameters(module), {}
    for optimizer in optimizers:
        owners.update({p: optimizer for group in optimizer.param_groups for p in group["params"]})
    for key, value in load_file(folder / OPTIMIZERS).items():
        name, entry = key.rsplit("/", 1)
        parameter = parameters[name]
        if value.shape == parameter.shape and entry != "step":
            target = torch.zeros_like(parameter)
            _fill(target, value)
            value = target
        owners[parameter].state[parameter][entry] = value


def random_state() -> dict[str, Any]:
    """This process's random state as plain JSON values."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    state = {
        "python": [version, list(words), gauss],
        "numpy": [name, keys.tolist(), position, has_gauss, cached],
        "torch": torch.get_rng_state().tolist(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state().tolist()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """The reverse of `random_state`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.tensor(state["cuda"], dtype=torch.uint8))


def frozen_fingerprint(module: nn.Module) -> str:
    """Hash of the weights that do not train (the reference among them): resuming against another reference would be silent.

    Of names and float64 sums, so that it costs one pass over the weights and no copy."""
    digest = hashlib.sha256()
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            digest.update(f"{name} {parameter.detach().double().sum().item():.12e}\n".encode())
    return digest.hexdigest()[:16]


def save(trainer: Any) -> Path:
    """Write the trainer's output_dir/checkpoint-<step>; every process must call. Returns the folder."""
    accelerator, args = trainer.accelerator, trainer.args
    folder = Path(args.output_dir) / f"checkpoint-{trainer.state.global_step}"
    own_shards(trainer.wrapped)
    weights = collect_weights(trainer.module)
    optimizers = collect_optimizers(trainer.module, _optimizers(trainer))
    rng = [random_state()]
    if accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        rng = gather_object(rng)
    if accelerator.is_main_process:
        state = {
            "step": trainer.state.global_step,
            "kl_coef": trainer.kl_coef,
            "next_episode": trainer.state.global_step * args.rollout_batch_size,
            "frozen_weights": trainer.fingerprint,
            "prompts": len(trainer.prompts),
            "tokens": trainer.state.num_input_tokens_seen,
            "settings": dataclasses.asdict(args),
            "evaluations": trainer.evaluations,
            "alarms": [dataclasses.asdict(alarm) for alarm in trainer.alarms],
            "log": trainer.state.log_history,
        }
        with write_atomically(folder) as partial:
            save_file(weights, partial / WEIGHTS)
            save_file(optimizers, partial / OPTIMIZERS)
            (partial / RNG).write_text(json.dumps(rng), encoding="utf-8")
            (partial / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
            seal(partial)
        keep_newest(folder.parent, args.save_total_limit, trainer.state.global_step)
    accelerator.wait_for_everyone()
    return folder


def resume(trainer: Any, checkpoint: str | Path | bool) -> None:
    """Put a fresh trainer where the checkpoint was made; True: the newest whole one below its output_dir.

    Raises FileNotFoundError if there is none, ValueError if it is damaged, or was made with other settings, another model or
    other prompts: the run would go on, but as neither of the two."""
    if checkpoint is True:
        checkpoint = newest_sealed(trainer.args.output_dir)
        if checkpoint is None:
            raise FileNotFoundError(f"there is no whole checkpoint to resume from below {trainer.args.output_dir}")
    folder = Path(checkpoint)
    if not (folder / STATE).is_file():
        raise FileNotFoundError(f"{folder} is no PPO checkpoint: it has no {STATE}")
    problem = damage(folder)
    if problem is not None:
        raise ValueError(f"{folder} is damaged: {problem}; resume from the checkpoint before it")
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    _check_same(trainer, state, folder)
    load_weights(trainer.module, folder)
    load_optimizers(trainer.module, _optimizers(trainer), folder)
    rng = json.loads((folder / RNG).read_text(encoding="utf-8"))
    if len(rng) == trainer.accelerator.num_processes:
        set_random_state(rng[trainer.accelerator.process_index])
    trainer.kl_coef = state["kl_coef"]
    trainer.evaluations = state["evaluations"]
    trainer.alarms = [Alarm(**alarm) for alarm in state["alarms"]]
    trainer.state.global_step = state["step"]
    trainer.state.num_input_tokens_seen = state["tokens"]
    trainer.state.log_history = state["log"]


def _check_same(trainer: Any, state: Mapping[str, Any], folder: Path) -> None:
    ours, theirs = dataclasses.asdict(trainer.args), state["settings"]
    differing = [
        f"{name} {theirs[name]!r} -> {value!r}"
        for name, value in ours.items()
        if name in theirs and name not in RESUMABLE_CHANGES and theirs[name] != value
    ]
    if differing:
        raise ValueError(
            f"{folder} was made with other settings ({'; '.join(differing)}); resume with those, or start anew"
        )
    if state["frozen_weights"] != trainer.fingerprint:
        raise ValueError(
            f"{folder} was trained against another reference: the frozen weights differ; build the trainer from the model "
            "that the run started with, not from a trained one"
        )
    if state["prompts"] != len(trainer.prompts):
        raise ValueError(
            f"{folder} was trained on {state['prompts']} prompts, train_dataset has {len(trainer.prompts)}"
        )


def _optimizers(trainer: Any) -> list[torch.optim.Optimizer]:
    return [
        getattr(optimizer, "optimizer", optimizer) for optimizer in (trainer.policy_optimizer, trainer.critic_optimizer)
    ]
