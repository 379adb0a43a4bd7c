"""Loading: text to shards to batches. How fast, beside a training step and beside `datasets`, and how much memory.

    python -m recipes.bench loading [--megabytes 10 100]            (--megabytes 10 1000: about 5 minutes)

Expect a batch in well under 1 % of the time of a training step of a 2 M model, at the first step and at the millionth alike, a few times
faster than the same windows from a memory-mapped `datasets` table through torch's DataLoader, and the same peak memory for every size
of text: each size is tokenised, written and read for an epoch by a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from recipes.bench.timing import alternate, machine

ROWS, CONTEXT, VOCABULARY = 32, 256, 2048


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="recipes.bench loading", description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 100], help="sizes of text to measure")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    print(machine())
    print(f"{'text':>8}  {'tokenised and written':>21}  {'an epoch read':>16}  {'peak memory':>11}")
    for megabytes in options.megabytes:
        written_s, read_s, tokens, peak_mib = measure_apart(megabytes)
        print(
            f"{megabytes:5} MB  {megabytes / written_s:16.1f} MB/s  {tokens / read_s / 1e6:7.1f} M tok/s  {peak_mib:7} MiB"
        )
    with tempfile.TemporaryDirectory() as folder:
        write(folder, options.megabytes[0])
        compare(folder, options.rounds)


def compare(folder: str, rounds: int) -> None:
    """Print the time of a batch near and far, of the same through `datasets`, and of a training step."""
    import numpy as np
    import torch
    from datasets import Dataset, disable_progress_bars, load_from_disk

    from base_model.gpt import GPT, preset
    from base_model.shards import ShardLoader

    disable_progress_bars()
    loader = ShardLoader(folder, CONTEXT, ROWS)
    in_order = ShardLoader(folder, CONTEXT, ROWS, shuffle=False)
    windows = np.concatenate([in_order.batch(step)["tokens_BT"] for step in range(loader.windows // ROWS)])
    Dataset.from_dict({"tokens": windows.astype(np.int32)}).save_to_disk(f"{folder}/table")
    table = load_from_disk(f"{folder}/table").with_format("torch")
    stream = itertools.chain.from_iterable(
        torch.utils.data.DataLoader(table, ROWS, shuffle=True) for _ in itertools.count()
    )
    model = GPT(preset("llama-2m"))
    batches, steps = 50, itertools.count()

    def near() -> None:
        for _ in range(batches):
            loader.batch(next(steps))

    def far() -> None:
        for _ in range(batches):
            loader.batch(10**9 + next(steps))

    def through_datasets() -> None:
        for _ in range(batches):
            next(stream)

    def training_step() -> None:
        tokens = loader.batch(next(steps))["tokens_BT"]
        model(tokens[:, :-1], targets_BT=tokens[:, 1:]).backward()
        model.zero_grad()

    timings = alternate({"near": near, "far": far, "datasets": through_datasets, "step": training_step}, rounds)
    batch_s, step_s = timings.median_s("near") / batches, timings.median_s("step")
    print(
        f"a batch of {ROWS} x {CONTEXT} tokens: {1e6 * batch_s:.0f} us ({ROWS * CONTEXT / batch_s / 1e6:.1f} M tokens/s)"
    )
    print(f"  at step 1,000,000,000: {timings.ratio('far', 'near'):.2f} times the first steps' time")
    print(f"  datasets and DataLoader: {timings.ratio('datasets', 'near'):.2f} times ours")
    print(f"  share of a training step (llama-2m, fp32, {1e3 * step_s:.0f} ms): {100 * batch_s / step_s:.2f} %")


def measure_apart(megabytes: int) -> tuple[float, float, int, int]:
    """Seconds to tokenise and write, seconds to read an epoch, its tokens, and the peak resident memory in MiB, of a fresh process."""
    command = [sys.executable, "-c", f"from recipes.bench.loading import measure; measure({megabytes})"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    written_s, read_s, tokens, peak = done.stdout.split()
    return float(written_s), float(read_s), int(tokens), int(peak)


def measure(megabytes: int) -> None:
    """Print what `measure_apart` returns."""
    from base_model.shards import ShardLoader

    with tempfile.TemporaryDirectory() as folder:
        written_s = write(folder, megabytes)
        loader = ShardLoader(folder, CONTEXT, ROWS)
        start = time.perf_counter()
        steps = int(loader.steps_per_epoch)
        for step in range(steps):
            loader.batch(step)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            written_s,
            time.perf_counter() - start,
            steps * ROWS * CONTEXT,
            peak // (1 << 20 if sys.platform == "darwin" else 1 << 10),
        )


def write(folder: str, megabytes: int) -> float:
    """Shards of made-up text, several of them; returns the seconds it took (the making of the text among them)."""
    from base_model.shards import write_shards
    from base_model.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(made_up_text(1), VOCABULARY)
    start = time.perf_counter()
    write_shards(made_up_text(megabytes), tokenizer, folder, shard_tokens=1 << 23)
    return time.perf_counter() - start


def made_up_text(megabytes: int) -> Iterator[str]:
    """Documents of about 1,000 characters from a vocabulary of 5,000 words, common ones more often; the same for the same size."""
    import numpy as np

    generator = np.random.default_rng(0)
    words = np.array(
        ["".join(generator.choice(list("etaoinshrdlu"), generator.integers(2, 9))) for _ in range(5000)], dtype=object
    )
    for _ in range(megabytes):
        picks = (5000 * generator.random(155_000) ** 3).astype(int)
        for document in np.array_split(words[picks], 1000):
            yield " ".join(document)


if __name__ == "__main__":
    main()
