"""What every transformers-style trainer does inside a run: log to log.jsonl, seal each checkpoint as it is saved."""

import math
from pathlib import Path

from accelerate import PartialState
from transformers import TrainerCallback

from base_model.checkpoints import seal


class RunCallback(TrainerCallback):
    """Writes the trainer's metrics to the run's log and seals checkpoints, so that a half-written one is never resumed from."""

    def __init__(self, run) -> None:
        self.run = run

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs:
            return
        for name, value in logs.items():
            if name in ("loss", "grad_norm") and isinstance(value, float) and not math.isfinite(value):
                raise ValueError(
                    f"{name} is {value} at step {state.global_step}: stopped; the last good checkpoint is kept"
                )
        if "train_loss" not in logs:  # the last line's mean is of the steps of this life alone
            self.run.log({"step": state.global_step, **logs})

    def on_step_end(self, args, state, control, **kwargs):
        self.run.progress(state.global_step, state.max_steps)

    def on_save(self, args, state, control, **kwargs):
        PartialState().wait_for_everyone()  # each process has written its part
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self.run.mark(folder)
            seal(folder)
