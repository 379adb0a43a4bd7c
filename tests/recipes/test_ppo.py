"""The PPO stage from files to a finished run, on random weights; the evidence's arithmetic by hand."""

import copy
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from alignment.ppo.validation import write_samples
from base_model.chat import set_chat_template
from recipes.bench.ppo import reward_at_kl
from recipes.ppo import against_start, answers_over_time, main
from recipes.run.record import read_manifest
from tests.conftest import random_model, write_checkpoint


@pytest.fixture(scope="module")
def parents(tmp_path_factory, tokenizer):
    """(policy folder, reward model folder) of one tokenizer."""
    folder, chat = tmp_path_factory.mktemp("parents"), set_chat_template(copy.deepcopy(tokenizer))
    config = random_model("llama", len(chat)).config
    config.num_labels = 1
    torch.manual_seed(1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder / "reward")
    chat.save_pretrained(folder / "reward")
    return write_checkpoint(folder / "policy", chat), folder / "reward"


@pytest.fixture
def command(parents, tmp_path):
    """command(out, *flags): the arguments of a run of two updates."""
    rows = [{"prompt": [{"role": "user", "content": f"write {i}"}], "kind": "ab"[i % 2]} for i in range(9)]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(out, *flags, **changes):
        settings = {
            "output_dir": tmp_path / out, "model": parents[0], "reward_model": parents[1], "data": prompts, "heldout": prompts,
            "max_steps": 2, "rollout_batch_size": 8, "num_mini_batches": 2, "max_completion_length": 8, "critic_warmup_steps": 0,
            "learning_rate": 1e-2, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1,
            "bf16": False, "use_cpu": True, "disable_tqdm": True, **changes,
        }  # fmt: skip
        return [*(item for name, value in settings.items() for item in (f"--{name}", str(value))), *flags]

    return make


def test_the_stage_leaves_a_checkpoint_its_evidence_and_a_log(command, parents):
    folder = main(command("ppo"))
    manifest = read_manifest(folder)
    assert [parent["path"] for parent in manifest["parents"]] == [str(parents[0]), str(parents[1])]
    assert manifest["steps"] == 2 and manifest["tokens"] > 0
    notes = manifest["notes"]
    assert [seen["step"] for seen in notes["evaluations"]] == [0, 1, 2]
    assert [answer["step"] for answer in notes["answers_over_time"][0]["answers"]] == [0, 1, 2]
    assert "no alarm while training" in {check["name"] for check in manifest["checks"]}
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log if "objective/score" in row] == [1, 2]
    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (parents[0], folder))
    assert any(not a.equal(b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


def test_a_lora_stage_keeps_its_adapter_and_the_merged_model_is_held_to_it(command):
    folder = main(command("lora", "--use_peft", save_strategy="no", eval_strategy="no"))
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert read_manifest(folder)["notes"]["merge"]["largest_difference"] <= 1e-4


def test_a_judge_that_is_trained_on_is_refused(command, parents):
    with pytest.raises(ValueError, match="is both reward_model and judge: what is trained on measures nothing"):
        main(command("both", "--judges", str(parents[1])))


def test_win_rate_by_hand():
    verdict = against_start([1.0, 2.0, 3.0, 0.0], [0.0, 2.0, 1.0, 1.0])  # win, tie, win, loss
    assert verdict["win_rate"] == 2.5 / 4 and verdict["n"] == 4 and verdict["low"] < 0.625 < verdict["high"]
    sure = against_start([1.0] * 50, [0.0] * 50)
    assert sure["low"] > 0.5


def test_answers_stand_beside_each_other_over_time(tmp_path):
    for step in (0, 20):
        write_samples(tmp_path, step, [{"prompt": name, "completion": f"{name}{step}"} for name in "abcdef"])
    table = answers_over_time(tmp_path)
    assert [entry["prompt"] for entry in table] == list("abcd")
    assert [answer["completion"] for answer in table[1]["answers"]] == ["b0", "b20"]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_what_only_python_takes_for_a_line_end_is_part_of_an_answer(tmp_path, mark):
    write_samples(tmp_path, 0, [{"prompt": f"one{mark}two", "completion": f"yes{mark}no"}])
    (entry,) = answers_over_time(tmp_path)
    assert (entry["prompt"], entry["answers"][0]["completion"]) == (f"one{mark}two", f"yes{mark}no")


def test_reward_at_equal_kl_is_read_off_a_curve_between_its_points():
    curve = [[0.0, 0.5], [1.0, 0.7], [3.0, 0.8]]
    assert reward_at_kl(curve, 2.0) == pytest.approx(0.75)
    assert reward_at_kl(curve, 0.5) == pytest.approx(0.6)
    assert reward_at_kl(curve, 9.0) == 0.8
