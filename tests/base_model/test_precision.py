"""Precision follows the instructions and the race, and a person's word goes before both."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from base_model import precision
from base_model.precision import bf16_gain, find_precision, keep_freed_memory

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("has_instructions", "gain", "expected"), [(True, 3.0, "bf16"), (True, 1.1, "fp32"), (False, 3.0, "fp32")]
)
def test_a_cpu_gets_bf16_only_with_instructions_that_win_the_race(monkeypatch, has_instructions, gain, expected):
    monkeypatch.setattr(precision, "has_bf16_instructions", lambda: has_instructions)
    monkeypatch.setattr(precision, "bf16_gain", lambda: gain)
    assert find_precision("auto", CPU) == expected


def test_what_is_asked_for_is_taken():
    assert find_precision("bf16", CPU) == "bf16" and find_precision("fp32", CPU) == "fp32"
    assert find_precision("fp16", torch.device("cuda", 0)) == "fp16"


def test_impossible_precisions_are_refused():
    with pytest.raises(ValueError, match="precision is 'int4'; it must be auto or one of bf16, fp16, fp32"):
        find_precision("int4", CPU)
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        find_precision("fp16", CPU)


def test_the_instructions_found_are_those_that_the_kernel_lists():
    flags = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    if "flags" not in flags:
        pytest.skip("needs /proc/cpuinfo of an x86 machine")
    assert precision.has_bf16_instructions() == ("avx512_bf16" in flags or "amx_tile" in flags)


def test_the_race_takes_a_moment_and_is_run_once():
    assert 0 < bf16_gain(size=64) < 1000
    assert bf16_gain(size=64) == bf16_gain(size=64)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_kept_for_the_next_tensor_of_that_size():
    """Page faults while a 64 MB tensor (16,384 pages) is made and freed 20 times, after 20 times of warming up."""
    code = """
import resource, sys, torch
from base_model.precision import keep_freed_memory
if sys.argv[1] == "yes": assert keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): torch.ones(16 << 20)
before = faults()
for _ in range(20): torch.ones(16 << 20)
print(faults() - before)
"""
    faults = {
        word: int(subprocess.run([sys.executable, "-c", code, word], capture_output=True, text=True, check=True).stdout)
        for word in ("yes", "no")
    }
    assert faults["yes"] < 1000 < 20_000 < faults["no"]


@pytest.mark.skipif(
    sys.platform != "linux" or not precision.has_bf16_instructions(),
    reason="glibc's allocator; oneDNN multiplies bf16 where the CPU does",
)
@pytest.mark.parametrize("given, least_mib, most_mib", [({}, 0, 25), ({"LRU_CACHE_CAPACITY": "1024"}, 50, 1000)])
def test_new_row_lengths_stop_taking_memory(given, least_mib, most_mib):
    """MiB in use for 300 products of new sizes: seen 11, and 88 to 158 where either list is as long as by default."""
    code = """
import ctypes, torch
from base_model.precision import keep_freed_memory
class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks used free top".split()]
mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Mallinfo2
weight = torch.ones(256, 256, dtype=torch.bfloat16)
def multiply(first, end):
    for rows in range(first, end): torch.ones(rows, 256, dtype=torch.bfloat16) @ weight
keep_freed_memory()
multiply(8, 16)
before = mallinfo2().used
multiply(16, 316)
print((mallinfo2().used - before) / 2**20)
"""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")} | given
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert least_mib <= float(done.stdout) < most_mib


def test_keeping_memory_says_whether_it_did(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
