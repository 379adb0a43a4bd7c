"""kill -9 at random moments: the run that was resumed each time ends bit for bit as the one that was never killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("kills, seed", [(4, 0), pytest.param(10, 1, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_and_resumed_ends_with_the_same_bits(tmp_path, kills, seed):
    command = [sys.executable, "-m", "tests.alignment.ppo.kill_worker", str(tmp_path), str(kills), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["same"], result
    assert result["kills"] == kills, f"the run ended before it was killed {kills} times: {result}"
