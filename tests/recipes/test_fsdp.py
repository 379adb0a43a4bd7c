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


@pytest.fixture
def arguments(parent, pairs, tmp_path):
    """arguments(name): flags of a run of twelve steps in the folder `name`."""

    def make(name):
        settings = {
            "model": parent,
            "data": pairs,
            "output_dir": tmp_path / name,
            "batch_size": 8,
            "per_device_train_batch_size": 4,
            "num_train_epochs": 2,
            "learning_rate": 1e-3,
            "precision": "fp32",
            "save_steps": 5,
        }
        return [str(part) for name, value in settings.items() for part in (f"--{name}", value)]

    return make


def largest_difference(ours, theirs):
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (ours, theirs))
    assert ours.keys() == theirs.keys()
    return max((ours[key] - theirs[key]).abs().max().item() for key in theirs)  # of weights that moved by 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize(
    "recipe, more", [(reward_model, []), (dpo, ["--sft_weight", "1"]), (dpo, ["--use_peft", "--lora_r", "4"])]
)
def test_weights_that_were_split_are_put_together_again(arguments, tmp_path, recipe, more, launcher):
    recipe.main([*arguments("alone"), *more])
    done = launcher(recipe.__name__, [*arguments("split"), *more])
    assert done.returncode == 0, done.stderr[-2000:]
    assert largest_difference(tmp_path / "split", tmp_path / "alone") < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("recipe, more", [(reward_model, []), (dpo, ["--use_peft", "--lora_r", "4"])])
def test_a_split_run_that_was_stopped_goes_on(arguments, tmp_path, recipe, more, launcher):
    """FSDP on another number of processes, DeepSpeed on the same (`recipes/run/run.py` refuses others)."""
    recipe.main([*arguments("alone"), *more])
    broken = [*arguments("split"), *more]
    done = launcher(recipe.__name__, broken, STOP_AFTER_STEP="7")
    assert done.returncode != 0 and "power cut" in done.stderr
    done = launcher(recipe.__name__, [*broken, "--resume"], processes=1 if launcher is launch else 2)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "split" / "manifest.json").read_text())
    assert record["notes"]["resumed_from"] == "checkpoint-5"
    assert largest_difference(tmp_path / "split", tmp_path / "alone") < 1e-5


@pytest.mark.slow
def test_a_reward_models_adapter_is_refused(parent, pairs, tmp_path):
    arguments = ["--model", str(parent), "--data", str(pairs), "--output_dir", str(tmp_path / "run"), "--use_peft"]
    done = launch("recipes.reward_model", [*arguments, "--per_device_train_batch_size", "4"])
    assert done.returncode != 0
    assert "error: a reward model's adapter is merged by one process, and FSDP and DeepSpeed split it" in done.stderr
