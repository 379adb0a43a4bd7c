"""Honest timing on a machine that others use too: what is compared runs in turn, and ratios are taken within a round."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    seconds: dict[str, list[float]]  # one number a round, for each name

    def median_s(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, slow: str, fast: str) -> float:
        """How many times faster `fast` is: the median over rounds of slow / fast, so that a busy minute hits both."""
        return statistics.median(a / b for a, b in zip(self.seconds[slow], self.seconds[fast], strict=True))


def alternate(functions: dict[str, Callable[[], object]], rounds: int = 5, warmup: int = 1) -> Timings:
    """Call each function in turn, `warmup` rounds uncounted, then `rounds` counted ones."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(warmup + rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return Timings(seconds)


def matmul_ceiling(dtype=None, size: int = 1024, device: str = "cpu", duration_s: float = 1.0) -> float:
    """The machine's best rate of square matrix products, in GFLOP/s (2 size^3 each), over about `duration_s`; float32 by default."""
    import torch

    a = torch.randn(size, size, device=device).to(dtype or torch.float32)
    synchronise = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < duration_s:
        synchronise()
        before = time.perf_counter()
        a @ a
        synchronise()
        best = min(best, time.perf_counter() - before)
    return 2 * size**3 / best / 1e9


def machine(device: str = "cpu") -> str:
    """One line: device, threads, versions, matmul ceilings."""
    import torch

    ceilings = " and ".join(
        f"{matmul_ceiling(dtype, device=device):,.0f} GFLOP/s {name}"
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    )
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name()
    else:
        name = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return f"{name}; torch {torch.__version__}; matmul ceiling {ceilings}"
