"""Stages killed at random moments and resumed end as the run that was never killed: 10 kills a stage here, 100 by `make chaos`."""

import subprocess
import sys

import pytest

from recipes.pipeline.fingerprint import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "domain_sft", "lora_sft", "reward_model", "ppo", "dpo", "preferences"])
def test_a_killed_stage_ends_as_the_one_that_was_never_killed(tmp_path, stage):
    command = [sys.executable, "-m", "tests.chaos", "--stages", stage, "--kills", "10", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "| all | 10 |" in done.stdout
