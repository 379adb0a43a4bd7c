"""A stage of transformers' Trainer on two CPU processes that split its weights, launched with fsdp.yaml or deepspeed_zero3.yaml.

    python -m accelerate.commands.launch --config_file .../fsdp.yaml -m tests.recipes.sharded RECIPE ARGUMENTS...

accelerate offers FSDP to accelerators only, and on CPUs trains copies without a word; over gloo it works as well once it takes the
processes for GPUs', which is all that is changed here. DeepSpeed takes CPUs when told to. STOP_AFTER_STEP in the environment ends every
process by an error after that step."""

import importlib
import importlib.util
import os
import socket
import subprocess
import sys

import pytest

from recipes.pipeline.fingerprint import ROOT


def launch(recipe: str, arguments: list[str], processes: int = 2, **environment: str) -> subprocess.CompletedProcess:
    """Run the recipe's command on two processes, by FSDP 2."""
    return _launch("fsdp", processes, [], environment, recipe, *arguments)


def launch_deepspeed(
    recipe: str, arguments: list[str], processes: int = 2, **environment: str
) -> subprocess.CompletedProcess:
    """Run the recipe's command on two processes, by DeepSpeed's ZeRO 3 in float32."""
    return _launch("deepspeed_zero3", processes, ["--mixed_precision", "no"], environment, recipe, *arguments)


LAUNCHERS = [
    pytest.param(launch, id="fsdp"),
    pytest.param(
        launch_deepspeed,
        id="deepspeed",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("deepspeed") is None,
            reason="DeepSpeed is an extra: pip install 'plumbline[deepspeed]'",
        ),
    ),
]


def _launch(
    config: str, processes: int, more: list[str], environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    file = ROOT / "recipes" / "configs" / "accelerate" / f"{config}.yaml"
    options = [
        "--config_file",
        str(file),
        "--num_processes",
        str(processes),
        "--main_process_port",
        str(port),
        *more,
        "-m",
        "tests.recipes.sharded",
    ]
    line = [sys.executable, "-m", "accelerate.commands.launch", *options, *arguments]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "DS_ACCELERATOR": "cpu",
        **environment,
    }
    return subprocess.run(line, capture_output=True, text=True, timeout=280, cwd=ROOT, env=environment)


def main(recipe: str, arguments: list[str]) -> None:
    from recipes.run.callbacks import RunCallback
    from recipes.run.cli import command

    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        _split_on_cpus()
    if last := os.environ.get("STOP_AFTER_STEP"):

        def stop(self, args, state, control, **kwargs):
            if state.global_step == int(last):
                raise RuntimeError("power cut")

        RunCallback.on_step_end = stop
    command(lambda: importlib.import_module(recipe).main(arguments))


def _split_on_cpus() -> None:
    from accelerate import DistributedType, PartialState
    from transformers import Trainer

    make_accelerator = Trainer.create_accelerator_and_postprocess

    def make(self):
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        make_accelerator(self)
        assert self.is_fsdp_enabled and self.accelerator.is_fsdp2

    Trainer.create_accelerator_and_postprocess = make


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
