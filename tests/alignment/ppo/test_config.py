"""Settings that cannot work are refused when they are made; every message names the fields."""

import dataclasses
import re
from pathlib import Path

import pytest

from alignment.ppo.config import RESUMABLE_CHANGES, TOLD_TO_CALLBACKS, PPOConfig
from tests.alignment.ppo.ppo_setup import config


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"rollout_batch_size": 30, "num_mini_batches": 4},
            "rollout_batch_size 30 does not divide by num_mini_batches 4",
        ),
        ({"temperature": 0.0}, "temperature must be > 0, got 0.0"),
        ({"kl_coef": -0.1}, "kl_coef must be >= 0, got -0.1"),
        ({"cliprange": 1.5}, r"cliprange must be in \(0, 1\), got 1.5"),
        ({"cliprange_value": 0.0}, r"cliprange_value must be > 0 or null \(off\), got 0.0"),
        ({"lam": 1.2}, r"lam must be in \[0, 1\], got 1.2"),
        ({"save_strategy": "steps", "save_total_limit": 1}, "save_total_limit must be >= 2, got 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be > 0, got nan"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig("out", **settings)


def test_minibatches_must_deal_evenly_to_the_processes():
    args = PPOConfig("out", rollout_batch_size=24, num_mini_batches=4)
    args.check_processes(3)
    with pytest.raises(ValueError, match=r"a minibatch has 6 episodes .* does not divide by 4 processes"):
        args.check_processes(4)


def test_every_setting_is_read_by_the_code():
    """No field without effect: each is read in alignment/ outside its declaration, or by transformers' own callbacks."""
    folder = Path(__file__).parents[3] / "alignment" / "ppo"
    code = "\n".join(path.read_text() for path in folder.glob("*.py") if path.name not in ("config.py", "dpo.py"))
    code += (folder / "config.py").read_text().split("def check_processes")[1]
    flow = {
        "logging_steps",
        "eval_steps",
        "save_strategy",
        "save_steps",
        "run_name",
    }  # DefaultFlowCallback's, the trackers'
    assert flow <= set(TOLD_TO_CALLBACKS)
    for field in dataclasses.fields(PPOConfig):
        assert field.name in flow or re.search(rf"(args|self)\.{field.name}\b", code), field.name


def test_what_a_resumed_run_may_change_are_settings():
    fields = {field.name for field in dataclasses.fields(PPOConfig)}
    assert RESUMABLE_CHANGES - fields == {"resume", "overwrite", "evaluation"}  # a recipe's own


def test_callbacks_are_told_what_they_ask_for(tmp_path):
    told = config(tmp_path, max_steps=7, save_strategy="steps", save_steps=2, eval_steps=3).training_arguments()
    assert (told.max_steps, told.save_steps, told.eval_steps, told.output_dir) == (7, 2, 3, str(tmp_path))
