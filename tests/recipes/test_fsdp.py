"""The stages on pairs, on two processes that split the weights: the model of one."""

import copy
import json

import pytest
from safetensors.torch import load_file

from base_model.chat import set_chat_template
from recipes import dpo, reward_model
from tests.conftest import write_checkpoint
from tests.recipes.sharded import LAUNCHERS, launch


@pytest.fixture(scope="module")
def parent(tmp_path_factory, tokenizer):
    return write_checkpoint(tmp_path_factory.mktemp("parent") / "sft", set_chat_template(copy.deepcopy(tokenizer)))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    rows = [
        {
            "prompt": [{"role": "user", "content": f"write {i}"}],
            "chosen": f"yes, thank you {i}",
            "rejected": f"no {i % 7}",
        }
        for i in range(48)
    ]
    file = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize(
    "recipe, more", [(reward_model, []), (dpo, ["--sft_weight", "1"]), (dpo, ["--use_peft", "--lora_r", "4"])]
)
def test_weights_that_were_split_are_put_together_again(parent, pairs, tmp_path, recipe, more, launcher):
    def arguments(name):
        settings = {
            "model": parent,
            "data": pairs,
            "output_dir": tmp_path / name,
            "batch_size": 8,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-3,
            "precision": "fp32",
        }
        return [*(str(part) for name, value in settings.items() for part in (f"--{name}", value)), *more]

    recipe.main(arguments("alone"))
    done = launcher(recipe.__name__, arguments("split"))
    assert done.returncode == 0, done.stderr[-2000:]
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("split", "alone"))
    assert ours.keys() == theirs.keys()
    assert max((ours[key] - theirs[key]).abs().max().item() for key in theirs) < 1e-5  # of weights that moved by 1e-3


@pytest.mark.slow
def test_a_reward_models_adapter_is_refused(parent, pairs, tmp_path):
    arguments = ["--model", str(parent), "--data", str(pairs), "--output_dir", str(tmp_path / "run"), "--use_peft"]
    done = launch("recipes.reward_model", [*arguments, "--per_device_train_batch_size", "4"])
    assert done.returncode != 0
    assert "error: a reward model's adapter is merged by one process, and FSDP and DeepSpeed split it" in done.stderr
