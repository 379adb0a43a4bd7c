"""One line that says how PPO is doing, alarms included; each evaluation and each new alarm gets a line of its own above it."""

import sys

from transformers import TrainerCallback

SHOWN = {
    "objective/score": "score",
    "objective/kl_nats": "KL",
    "objective/entropy_nats": "entropy",
    "rollout/length_tokens": "tokens",
    "rollout/eos_rate": "eos",
    "throughput/episodes_per_s": "ep/s",
}


def summary(logs: dict) -> str:
    """`score 0.41  KL 3.2 ...  ALARM kl, length` from a log row."""
    parts = [f"{short} {logs[name]:.3g}" for name, short in SHOWN.items() if name in logs]
    if logs.get("alarms"):
        parts.append(f"ALARM {logs['alarms']}")
    return "  ".join(parts)


class ProgressLine(TrainerCallback):
    """tqdm on the updates, on the main process's terminal. Where stderr is none, as in a log file, a line at every tenth of the updates."""

    def __init__(self) -> None:
        self.bar, self.alarmed = None, set()

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            from tqdm.auto import tqdm

            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, unit="update", dynamic_ncols=True, disable=None
            )

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is None or not logs:
            return
        alarms = set(filter(None, logs.get("alarms", "").split(", ")))
        is_told, self.alarmed = alarms <= self.alarmed, self.alarmed | alarms
        place = f"step {state.global_step}/{state.max_steps}: "
        if "objective/score" not in logs:
            told = [f"{name} {value:.4g}" for name, value in logs.items() if isinstance(value, float)]
            told += [f"ALARM {names}" for names in [logs.get("alarms")] if names]
            self._say(place + "  ".join(told))
            return
        self.bar.set_postfix_str(summary(logs))
        is_tenth = state.global_step % max(1, state.max_steps // 10) == 0
        if not is_told or (self.bar.disable and is_tenth):
            self._say(place + summary(logs))

    def _say(self, line: str) -> None:
        self.bar.write(line, file=sys.stderr)

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.close()
