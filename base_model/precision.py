"""What this machine does well: its device, the number format to compute in, and how its allocator should behave.

bf16 on a CPU pays only where there are bf16 matrix instructions (AVX512-BF16, AMX, Arm's BFMMLA): two to four times faster with them,
far slower without. So they are looked for, and then a short race decides.
"""

import ctypes
import functools
import gc
import os
import platform
import sys
import time

import torch

PRECISIONS = ("bf16", "fp16", "fp32")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# Tokens of a forward pass without gradients: what a layer makes of so many stays in the cache. Reward models 128 and 320 wide score rows of
# 40 to 200 tokens 1.3 and 1.1 times as fast as in batches of 16,384, and hold less memory (two cores).
CPU_BATCH_TOKENS = 4096
# oneDNN's code, for the shape of a product each; by default 1,024. A step of a small model uses some thirty, and with 48 a reward model's
# peak is the same after 7 and 98 steps.
PRIMITIVES_KEPT = 48
LEAST_GAIN = (
    1.2  # bf16 must win by this factor: it costs accuracy, and a near tie would fall differently from run to run
)


def find_device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def find_precision(wanted: str = "auto", device: torch.device | None = None) -> str:
    """ "bf16", "fp16" or "fp32" for training on `device` (None: the one that find_device finds).

    "auto" is bf16 on a GPU that has it in hardware and on a CPU where it is found faster, fp16 on older GPUs, else fp32. Anything else is
    taken at its word. Raises ValueError for an unknown name, and for fp16 on a CPU, where gradients would underflow unscaled.
    """
    device = device or find_device()
    if wanted not in ("auto", *PRECISIONS):
        raise ValueError(f"precision is {wanted!r}; it must be auto or one of {', '.join(PRECISIONS)}")
    if wanted == "fp16" and device.type == "cpu":
        raise ValueError("precision fp16 needs a GPU (its gradients are scaled there); on a CPU use bf16 or fp32")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        return "bf16" if has_bf16_instructions() and bf16_gain() >= LEAST_GAIN else "fp32"
    return "fp32"


def has_bf16_instructions() -> bool:
    """Does this CPU multiply bf16 matrices in hardware? Emulation (AVX512 without BF16) does not count."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@functools.cache
def bf16_gain(size: int = 512, rounds: int = 5) -> float:
    """How many times faster a bf16 matrix product is than an fp32 one on this CPU: ratio of the best of alternating rounds."""
    matrices = {dtype: torch.ones(size, size, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)}
    best_s = dict.fromkeys(matrices, float("inf"))
    for _ in range(rounds + 1):  # the first round warms up: kernels are made and pages touched
        for dtype, matrix in matrices.items():
            began = time.perf_counter()
            for _ in range(4):
                matrix @ matrix
            best_s[dtype] = min(best_s[dtype], time.perf_counter() - began)
    return best_s[torch.float32] / best_s[torch.bfloat16]


def keep_freed_memory() -> bool:
    """Ask glibc to reuse freed blocks instead of handing them back; True where that was done (Linux with glibc).

    By default each tensor above 32 MB is mapped afresh and its pages are cleared by the kernel at first touch, at every step.
    A training loop asks for the same sizes again and again. What would lie between them for good, oneDNN's code for each new row length,
    is kept for the latest PRIMITIVES_KEPT shapes alone (if nothing was multiplied before, and the environment does not say otherwise).
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(PRIMITIVES_KEPT))
    os.environ.setdefault("LRU_CACHE_CAPACITY", "1")  # PyTorch's own list of the same, which would hold on to them
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    m_trim_threshold, m_mmap_max = -1, -4  # from malloc.h
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(m_mmap_max, 0) and mallopt(m_trim_threshold, 2**31 - 1))


def give_back_freed_memory() -> None:
    """Undo `keep_freed_memory` after a training loop: what follows asks for other sizes, and would only add to what is kept."""
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return
    gc.collect()
    m_mmap_max, default_mmap_max = -4, 65536
    libc = ctypes.CDLL(None)
    libc.mallopt(m_mmap_max, default_mmap_max)
    libc.malloc_trim(0)
