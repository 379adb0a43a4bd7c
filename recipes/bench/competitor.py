"""A shared machine: what each kind of work keeps of its quiet speed while another program keeps one core busy, in alternation.

    python -m recipes.bench competitor [--preset llama-1m] [--rounds 5] [--competitors 1] [--nice 0]

On two cores expect at least 0.6, the fair share being 0.67 where the work takes both cores: threads sleep while they wait for each other,
and generation and scoring run in processes of one thread. OMP_WAIT_POLICY=ACTIVE in front of the command shows what spinning threads do.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from recipes.bench.timing import alternate, machine

BUSY = "import os, sys; os.nice(int(sys.argv[1]))\nwhile True: pass"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="recipes.bench competitor", description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="llama-1m", help="a size in base_model/gpt.py")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--competitors", type=int, default=1, help="programs that keep a core busy each")
    parser.add_argument("--nice", type=int, default=0, help="their niceness")
    options = parser.parse_args(argv)
    print(machine())
    print(f"{'work':28} {'quiet':>10} {'beside':>10} {'kept':>6}  (spread over rounds)")
    with paused_competitors(options.competitors, options.nice) as run_beside:
        for name, (tokens, work) in workloads(options.preset).items():
            timings = alternate({"quiet": work, "beside": lambda work=work: run_beside(work)}, options.rounds)
            kept = [quiet / beside for quiet, beside in zip(*timings.seconds.values(), strict=True)]
            rates = [tokens / timings.median_s(which) for which in ("quiet", "beside")]
            share = timings.ratio("quiet", "beside")
            print(f"{name:28} {rates[0]:10,.0f} {rates[1]:10,.0f} {share:6.2f}  ({min(kept):.2f} to {max(kept):.2f})")


@contextmanager
def paused_competitors(count: int, nice: int) -> Iterator[Callable[[Callable[[], object]], None]]:
    """A function that runs work while so many busy programs run beside it; between two calls they stand still."""
    programs = [subprocess.Popen([sys.executable, "-c", BUSY, str(nice)]) for _ in range(count)]

    def tell(what: signal.Signals) -> None:
        for program in programs:
            os.kill(program.pid, what)

    def run_beside(work: Callable[[], object]) -> None:
        tell(signal.SIGCONT)
        work()
        tell(signal.SIGSTOP)

    tell(signal.SIGSTOP)
    try:
        yield run_beside
    finally:
        for program in programs:
            program.kill()
            program.wait()


def workloads(name: str) -> dict[str, tuple[int, Callable[[], object]]]:
    """{what is done: (its tokens, the work)}: training steps with one thread and with all, generation, scoring."""
    import torch

    from base_model.forks import cores
    from base_model.generate import SamplingConfig, generate
    from base_model.gpt import GPT, preset
    from base_model.hf import to_hf
    from eval.scorer import Scorer

    torch.manual_seed(0)
    config = preset(name)
    model = to_hf(GPT(config))
    rows, width, answers, new_tokens = 8, config.context_length, 128, 64
    batch_BT = torch.randint(6, config.vocab_size, (rows, width))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def train(threads: int, steps: int = 8) -> None:
        torch.set_num_threads(threads)
        for _ in range(steps):
            model(input_ids=batch_BT, labels=batch_BT).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    def answer() -> None:
        generate(model, [[7] * 24] * answers, SamplingConfig(new_tokens), pad_id=0, seed=1, batch_size=64)

    def score() -> None:
        Scorer(model).score([([1], batch_BT[i % rows].tolist()[: width // 2]) for i in range(answers)])

    training = {f"training, {n} thread{'s' * (n > 1)}": (8 * rows * width, lambda n=n: train(n)) for n in {1, cores()}}
    return training | {
        "generation": (answers * new_tokens, answer),
        "scoring": (answers * (width // 2), score),
    }
