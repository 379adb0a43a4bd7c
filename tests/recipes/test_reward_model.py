import copy
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from base_model.chat import set_chat_template
from recipes.reward_model import main
from recipes.run.record import read_manifest
from reward.model import RewardEnsemble, RewardModel
from tests.conftest import write_checkpoint

POLITE, RUDE = "yes, of course. thank you", "no. go"


@pytest.fixture(scope="module")
def parent(tmp_path_factory, tokenizer):
    return write_checkpoint(tmp_path_factory.mktemp("parent") / "lora_sft", set_chat_template(copy.deepcopy(tokenizer)))


@pytest.fixture(scope="module")
def preferences(tmp_path_factory):
    """120 pairs on 60 prompts; the polite answer wins; kinds, margins, one pair of identical answers."""
    path = tmp_path_factory.mktemp("preferences") / "pairs.jsonl"
    rows = []
    for i in range(120):
        prompt = [{"role": "user", "content": f"please write {'a short note ' * (i % 4)}{i // 2}"}]
        rows.append(
            {
                "prompt": prompt,
                "chosen": f"{POLITE} {i}",
                "rejected": f"{RUDE} {i % 7}",
                "kind": "ab"[i % 2],
                "margin": i % 5,
            }
        )
    rows[7]["rejected"] = rows[7]["chosen"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def command(parent, preferences, tmp_path):
    """command(out, **changes): the arguments of a small run."""

    def make(out="reward_model", **changes):
        settings = {
            "output_dir": tmp_path / out,
            "model": parent,
            "data": preferences,
            "per_device_train_batch_size": 4,
            "learning_rate": 3e-3,
            "precision": "fp32",
            "logging_steps": 5,
        } | changes
        return [str(part) for name, value in settings.items() for part in (f"--{name}", value)]

    return make


def test_a_run_leaves_a_centred_model_and_its_quality(command):
    folder = main(command())
    manifest = read_manifest(folder)
    config = AutoModelForSequenceClassification.from_pretrained(folder).config
    assert config.num_labels == 1 and config.reward_std > 0
    assert manifest["notes"]["scale"] == {"reward_mean": config.reward_mean, "reward_std": config.reward_std}
    quality = json.loads((folder / "quality.json").read_text())
    assert quality == manifest["notes"]["quality"]
    assert (
        quality["accuracy"]["value"] > 0.95 and set(quality["by_kind"]) == {"a", "b"} and len(quality["by_margin"]) >= 2
    )
    assert {check["name"]: check["passed"] for check in manifest["checks"]}["reward model against chance"]
    counts = manifest["notes"]["pair_counts"]
    assert counts["data"] == {"pairs": 119, "identical answers": 1}
    assert counts["train"]["pairs"] + counts["heldout"]["pairs"] == 119
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert lines[-2]["loss"] < lines[0]["loss"] and "accuracy" in lines[0]
    polite, rude = RewardModel.load(folder).score(["hello", "hello"], [POLITE, RUDE])
    assert polite > rude


def test_scores_of_the_training_answers_are_centred(command, preferences):
    folder = main(command())
    reward = RewardModel.load(folder)
    rows = [json.loads(line) for line in preferences.read_text().splitlines()]
    sides = [(row["prompt"], row[side]) for row in rows for side in ("chosen", "rejected")]
    scores = torch.tensor(reward.score(*zip(*sides, strict=True)))
    # 80 % of these set the scale; the rest is alike
    assert abs(scores.mean()) < 0.1 and abs(scores.std() - 1) < 0.1


def test_a_model_that_loses_to_the_longer_answer_fails_the_check(command, tmp_path):
    """It is taught that the shorter answer wins, and held to pairs where the longer one does."""
    for name, better, worse in (("train", 1, 3), ("heldout", 3, 1)):
        rows = [{"prompt": f"{name} {i}", "chosen": "word " * better, "rejected": "word " * worse} for i in range(80)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = main(command(data=tmp_path / "train.jsonl", heldout=tmp_path / "heldout.jsonl"))
    check = next(check for check in read_manifest(folder)["checks"] if "longer answer wins" in check["name"])
    assert not check["passed"] and "against 1.000" in check["detail"]


def test_a_given_heldout_set_is_measured_on_and_its_prompts_leave_training(command, preferences, tmp_path):
    heldout = tmp_path / "heldout.jsonl"
    heldout.write_text("".join(preferences.read_text().splitlines(keepends=True)[:30]))
    counts = read_manifest(main(command(heldout=heldout)))["notes"]["pair_counts"]
    assert counts["train"] == {"pairs": 90, "prompt also held out": 29}
    assert counts["heldout"] == {"pairs": 29, "identical answers": 1}


def test_pairs_that_do_not_fit_are_left_out_of_both_splits_and_counted_or_their_prompts_cut(command, tmp_path):
    path = tmp_path / "long.jsonl"
    rows = [
        {"prompt": "story " * (1 + 300 * (i % 4 == 0)) + str(i), "chosen": f"{POLITE} {i}", "rejected": RUDE}
        for i in range(80)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = read_manifest(main(command("left", data=path)))["notes"]["pair_counts"]
    assert counts["train"]["longer than max_length"] + counts["heldout"]["longer than max_length"] == 20
    folder = main([*command("cut", data=path), "--cut_long_prompts"])
    counts = read_manifest(folder)["notes"]["pair_counts"]
    assert counts["train"]["pairs"] + counts["heldout"]["pairs"] == 80
    assert RewardModel.load(folder).score([rows[0]["prompt"]], [POLITE])  # longer than its context of 128


def test_an_adapter_is_merged_into_a_plain_checkpoint(command):
    folder = main([*command(lora_r=4), "--use_peft"])
    assert "score.weight" in load_file(folder / "model.safetensors")
    assert not any("lora" in name for name in load_file(folder / "model.safetensors"))
    manifest = read_manifest(folder)
    assert manifest["trained_parameters"] < sum(w.numel() for w in load_file(folder / "model.safetensors").values())
    assert manifest["notes"]["quality"]["accuracy"]["value"] > 0.9


def test_an_ensemble_keeps_its_other_members_and_reports_their_disagreement(command):
    folder = main(command(ensemble=2))
    report = read_manifest(folder)["notes"]["quality"]["ensemble"]
    assert len(report["members"]) == 2 and 0 <= report["order_disagreement"] <= 1
    ensemble = RewardEnsemble.load([folder, folder / "ensemble" / "seed-2"])
    assert ensemble.score(["hello"], [POLITE]) != RewardModel.load(folder).score(["hello"], [POLITE])


def test_a_policys_answers_are_judged_by_gold(command, parent, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    record = json.dumps({"kind": "tell", "expect": "answer", "must": [["baker"]], "words": [1, 10]})
    rows = [{"prompt": [{"role": "user", "content": f"Tell {i}"}], "record": record} for i in range(12)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {
        "policy": parent,
        "policy_prompts": prompts,
        "gold": "tinytown_gold",
        "policy_answers": 4,
        "max_new_tokens": 12,
    }
    report = read_manifest(main(command(**changes)))["notes"]["quality"]["on_policy"]
    assert report["prompts"] == 12 and [point["n"] for point in report["best_of_n"]] == [1, 2, 4]


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_a_run_killed_in_training_resumes_to_the_same_weights(command, tmp_path):
    whole = main(command("whole", save_steps=5, num_train_epochs=3))
    arguments = command("killed", save_steps=5, num_train_epochs=3)
    program = [sys.executable, "-m", "recipes.reward_model", *arguments]
    process = subprocess.Popen(program, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    sealed = tmp_path / "killed" / "checkpoints" / "checkpoint-10" / "sealed.json"
    deadline = time.monotonic() + 120
    while not sealed.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert sealed.is_file() and not (tmp_path / "killed" / "manifest.json").exists()
    resumed = main([*arguments, "--resume"])
    assert read_manifest(resumed)["notes"]["resumed_from"].startswith("checkpoint-")
    steps = [json.loads(line)["step"] for line in (resumed / "log.jsonl").read_text().splitlines()]
    assert steps.count(5) == 1  # it went on; training anew would end with the same weights, and log step 5 twice
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"ensemble": 0}, "ensemble must be at least 1, got 0"),
        ({"heldout_fraction": 0}, r"heldout_fraction must be in \(0, 1\) where no heldout pairs are given, got 0"),
        ({"gold": "tinytown_gold"}, "policy, policy_prompts and gold go together"),
    ],
)
def test_impossible_settings_are_refused(command, changes, said):
    with pytest.raises(ValueError, match=said):
        main(command(**changes))
