"""Two processes are one: same prompts, same samples, same gradients, so the same weights and evaluation.

Tolerance 1e-5 on weights that moved by about 1e-2: sums are taken in another order, and nothing else may differ."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def compare(tmp_path, *cases) -> dict:
    command = [sys.executable, "-m", "tests.alignment.ppo.distributed_worker", str(tmp_path), *cases]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "cases, kind",
    [
        (("full", "lora"), "MULTI_CPU"),
        (("fsdp",), "FSDP"),
        pytest.param(("separate",), "MULTI_CPU", marks=pytest.mark.slow),
        pytest.param(("fsdp_lora",), "FSDP", marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_evaluate_and_save_as_one(tmp_path, cases, kind):
    for case, result in compare(tmp_path, *cases).items():
        assert result["kind"] == kind, case
        assert result["rollout_rows"] == [16, 16], case
        assert result["is_resumed"], case
        assert result["weights"] < 1e-5 and result["saved_model"] < 1e-5, case
        assert result["went_on_alone"] < 1e-5, case  # one process, from the two's checkpoint of the first update
        assert result["evaluation"] < 1e-4, case
