"""One line that says how PPO is doing, alarms included; each evaluation and each new alarm gets a line of its own above it."""

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
    """tqdm on the updates, on the main process of each machine's terminal."""

    def __init__(self) -> None:
        self.bar, self.alarmed = None, set()

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="update", dynamic_ncols=True)

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is None or not logs:
            return
        if "objective/score" in logs:
            self.bar.set_postfix_str(summary(logs))
        else:
            shown = {name: f"{value:.4g}" for name, value in logs.items() if isinstance(value, float)}
            self.bar.write(
                f"step {state.global_step}: " + "  ".join(f"{name} {value}" for name, value in shown.items())
            )

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.close()
