"""PPO beside TRL's last PPOTrainer (1.12.0): speed in alternation, seconds by part, memory, and reward reached at equal KL.

    pip download trl==1.12.0 --no-deps -d build/trl && unzip -q build/trl/trl-1.12.0*.whl -d build/trl-1.12.0
    python -m recipes.bench ppo [--oracle build/trl-1.12.0] [--rounds 5] [--learning_updates 40]

Same model (random weights), prompts, reward, batch, passes and optimizer steps: 64 episodes of 24 + 32 tokens, 4 passes of one
step in microbatches of 16, at one precision. Each trainer lives in a process of its own and they take turns. Ours runs twice: with a
separate critic, as TRL has it, and with a value head on the policy. Without the oracle's folder only ours is timed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from recipes.bench.timing import Timings, machine

ROOT = Path(__file__).parents[2]
ANSWER = "answer: "
PARTS = ("rollout", "scoring", "forward", "update")


class Trainer:
    """A process that holds one trainer and does a piece of work when told to."""

    def __init__(self, kind: str, options: argparse.Namespace, folder: str) -> None:
        self.kind = kind
        oracle = str(Path(options.oracle).resolve())
        command = [sys.executable, "-m", "recipes.bench._ppo_trainer", kind, options.preset]
        command += [options.precision, oracle, f"{folder}/{kind}", "compiled" if options.torch_compile else "eager"]
        self.log = open(f"{folder}/{kind}.log", "w+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )

    def ask(self, **work: Any) -> dict[str, Any]:
        """The answer to one piece of work. Raises ValueError with the end of its log if the process fails."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(work) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(ANSWER):  # a trainer prints its own lines, too
                return json.loads(line.removeprefix(ANSWER))
        self.process.wait()
        self.log.seek(0)
        raise ValueError(
            f"the trainer {self.kind} ended with status {self.process.returncode}: {self.log.read()[-1500:]}"
        )

    def end(self) -> None:
        """Let the process go."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.log.close()


def reward_at_kl(points: list[list[float]], kl_nats: float) -> float:
    """Reward where a curve of (KL, reward) points first reaches a KL, linear between points; its last reward if it never does."""
    for (kl_a, reward_a), (kl_b, reward_b) in pairwise(points):
        if kl_b >= kl_nats:
            return reward_a + (reward_b - reward_a) * (kl_nats - kl_a) / (kl_b - kl_a) if kl_b > kl_a else reward_b
    return points[-1][1]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="recipes.bench ppo", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--oracle", default="build/trl-1.12.0", help="folder into which trl 1.12.0's wheel was unzipped"
    )
    parser.add_argument("--preset", default="llama-2m", help="a size in base_model/gpt.py")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="of all trainers (autocast)")
    parser.add_argument("--torch_compile", action="store_true", help="of all trainers' models; the first round pays")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds; one more warms up")
    parser.add_argument("--updates", type=int, default=2, help="updates in a round")
    parser.add_argument("--learning_updates", type=int, default=40, help="updates of the run that is judged; 0: none")
    options = parser.parse_args(argv)
    kinds = ["separate", "shared"]
    if (Path(options.oracle) / "trl").is_dir():
        kinds.insert(0, "trl")
    else:
        print(f"there is no trl in {options.oracle} (see --help for how it comes there); timing ours alone")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with tempfile.TemporaryDirectory() as folder:
        trainers = [Trainer(kind, options, folder) for kind in kinds]
        try:
            _speed(trainers, options)
            if options.learning_updates:
                _learning(trainers, options.learning_updates)
        finally:
            for trainer in trainers:
                trainer.end()


def _speed(trainers: list[Trainer], options: argparse.Namespace) -> None:
    rounds: dict[str, list[dict[str, Any]]] = {trainer.kind: [] for trainer in trainers}
    for number in range(options.rounds + 1):
        for trainer in trainers:
            answer = trainer.ask(updates=options.updates)
            if number:
                rounds[trainer.kind].append(answer)
    wall, cpu = (
        Timings({k: [r[what] for r in done] for k, done in rounds.items()}) for what in ("seconds", "cpu_seconds")
    )
    episodes = rounds[trainers[0].kind][0]["episodes"]
    print(machine())
    how = f"{options.precision}, compiled" if options.torch_compile else options.precision
    print(
        f"{options.preset}, {how}, {episodes // options.updates} episodes an update; medians of "
        f"{options.rounds} rounds in turn; CPU time is what a busy machine leaves comparable"
    )
    print(
        f"{'trainer':>9} {'episodes/s':>11} {'times TRL':>10} {'in CPU time':>12} {'peak MB':>8}   s an update: {'  '.join(PARTS)}"
    )
    for kind, done in rounds.items():
        ratios = [f"{timings.ratio('trl', kind):.2f}" if "trl" in rounds else "" for timings in (wall, cpu)]
        parts = [statistics.median(answer["parts"][part] for answer in done) / options.updates for part in PARTS]
        print(
            f"{kind:>9} {episodes / wall.median_s(kind):11.1f} {ratios[0]:>10} {ratios[1]:>12} "
            f"{done[-1]['peak_bytes'] / 1e6:8.0f}   {'  '.join(f'{value:.3f}' for value in parts)}"
        )


def _learning(trainers: list[Trainer], updates: int) -> None:
    curves = {trainer.kind: trainer.ask(learn=updates)["curve"] for trainer in trainers}
    common = min(max(kl for kl, _ in curve) for curve in curves.values())
    print(f"\nreward on held-out prompts (share of low-numbered words; {updates} updates), one yardstick for all:")
    for kind, curve in curves.items():
        kl, reward = curve[-1]
        at_common = f"{reward_at_kl(curve, common):.3f} at KL {common:.2f}"
        print(f"{kind:>9}  {curve[0][1]:.3f} at first, {reward:.3f} at the end (KL {kl:.2f} nats), {at_common}")
