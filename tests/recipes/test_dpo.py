"""The DPO stage from files to a finished run: resumed after kill -9, in rounds, with what it left out in the record."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from safetensors.torch import load_file

from base_model.chat import set_chat_template
from recipes import dpo
from recipes.dpo import main
from recipes.run.record import read_manifest, weights_sha256
from tests.conftest import write_checkpoint

POLITE, RUDE = "yes, of course. thank you", "no. go"


@pytest.fixture(scope="module")
def parent(tmp_path_factory, tokenizer):
    return write_checkpoint(tmp_path_factory.mktemp("parent") / "lora_sft", set_chat_template(copy.deepcopy(tokenizer)))


def asked(i):
    return [{"role": "user", "content": f"please write {i}"}]


def write_pairs(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    rows = [{"prompt": asked(i), "chosen": f"{POLITE} {i}", "rejected": f"{RUDE} {i % 7}"} for i in range(64)]
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", rows)


@pytest.fixture
def command(parent, pairs, tmp_path):
    """command(out, **changes): the arguments of a small run."""

    def make(out="dpo", **changes):
        settings = {
            "output_dir": tmp_path / out,
            "model": parent,
            "data": pairs,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-3,
            "precision": "fp32",
            "logging_steps": 4,
        } | changes
        return [str(part) for name, value in settings.items() for part in (f"--{name}", value)]

    return make


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_a_run_learns_and_records_where_it_started_what_it_lost_and_what_it_was_made_of(command, parent, pairs):
    folder = main(command(heldout=pairs))
    manifest = read_manifest(folder)
    assert manifest["parents"] == [{"path": str(parent), "stage": "external", "sha256": weights_sha256(parent)}]
    notes = manifest["notes"]
    assert notes["largest_start_margin_nats"] < 1e-3 and notes["heldout_accuracy"]["value"] > 0.9
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    lost = [row["displacement_nats"] for row in log if "displacement_nats" in row]
    assert notes["displacement_nats"] == {"lowest": min(0.0, *lost), "last": lost[-1]}
    assert {check["name"] for check in manifest["checks"]} >= {"chosen answers stay likely"}
    before = weights(parent)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(folder).items())


def test_pairs_that_are_left_out_are_counted_by_reason_in_the_record(command, tmp_path):
    good = [{"prompt": asked(i), "chosen": POLITE, "rejected": RUDE} for i in range(8)]
    turn = lambda text, answer: [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]  # noqa: E731
    bad = [
        {"prompt": asked("a book"), "chosen": "word " * 200, "rejected": RUDE},
        {"prompt": asked("word " * 200), "chosen": POLITE, "rejected": RUDE},
        {"prompt": asked(91), "chosen": POLITE, "rejected": POLITE},
        {"chosen": turn("one", POLITE), "rejected": turn("another", RUDE)},
        {"prompt": asked(92), "chosen": POLITE, "rejected": " "},
        good[0],
    ]
    notes = read_manifest(main(command(data=write_pairs(tmp_path / "pairs.jsonl", [*good, *bad]))))["notes"]
    assert notes["pair_counts"] == {
        "pairs": 8,
        "longer than max_length": 2,
        "identical answers": 1,
        "different prompts": 1,
        "empty answer": 1,
        "repeated": 1,
    }


def test_a_run_killed_in_training_resumes_to_the_same_weights(command, tmp_path):
    whole = main(command("whole", save_steps=4, num_train_epochs=3))
    arguments = command("killed", save_steps=4, num_train_epochs=3)
    program = [sys.executable, "-m", "recipes.dpo", *arguments]
    process = subprocess.Popen(program, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    sealed = tmp_path / "killed" / "checkpoints" / "checkpoint-8" / "sealed.json"
    deadline = time.monotonic() + 120
    while not sealed.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert sealed.is_file() and not (tmp_path / "killed" / "manifest.json").exists()
    resumed = main([*arguments, "--resume"])
    assert read_manifest(resumed)["notes"]["resumed_from"].startswith("checkpoint-")
    steps = [json.loads(line)["step"] for line in (resumed / "log.jsonl").read_text().splitlines()]
    assert steps.count(4) == 1  # it went on; training anew would end with the same weights, and log step 4 twice
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_rounds_are_runs_each_from_the_one_before_on_its_own_answers(command, parent, tmp_path):
    prompts = write_pairs(tmp_path / "prompts.jsonl", [{"prompt": asked(i)} for i in range(24)])
    judged = {"judge": str(judge_of(parent, tmp_path)), "data": str(prompts), "answers": 3, "max_new_tokens": 8}
    (tmp_path / "preferences.yaml").write_text(
        yaml.safe_dump(judged | {"output_dir": "unused", "model": "unused", "heldout_fraction": 0.2})
    )
    arguments = command("dpo", rounds=2, seed=5, preferences_config=tmp_path / "preferences.yaml")
    last = main(arguments)
    first, made = tmp_path / "dpo-1", tmp_path / "dpo-2-preferences"
    records = {folder: read_manifest(folder) for folder in (first, made, last)}
    assert [record["stage"] for record in records.values()] == ["dpo", "preferences", "dpo"]
    assert [record["seed"] for record in records.values()] == [5, 6, 6]
    assert [record["parents"][0]["path"] for record in records.values()] == [str(parent), str(first), str(first)]
    assert records[last]["parents"][0]["sha256"] == weights_sha256(first) != weights_sha256(parent)
    used = [entry["path"] for entry in records[last]["data"]]
    assert used == [str(made / "train.jsonl"), str(made / "heldout.jsonl")]
    assert records[last]["notes"]["largest_start_margin_nats"] < 1e-3  # the reference is round 1, not the first parent

    before = weights(last)
    shutil.rmtree(last)  # as if it had been stopped before round 2
    times = {folder: (folder / "manifest.json").stat().st_mtime_ns for folder in (first, made)}
    again = weights(main(arguments))
    assert {folder: (folder / "manifest.json").stat().st_mtime_ns for folder in times} == times
    assert all(torch.equal(again[name], before[name]) for name in before)


def judge_of(parent, folder):
    """A random reward model of the parent's tokenizer."""
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    config = AutoConfig.from_pretrained(parent)
    config.num_labels = 1
    torch.manual_seed(1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder / "judge")
    AutoTokenizer.from_pretrained(parent).save_pretrained(folder / "judge")
    return folder / "judge"


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"rounds": 2}, "rounds above 1 need preferences_config"),
    ],
)
def test_impossible_settings_are_refused(command, changes, said):
    with pytest.raises(ValueError, match=said):
        main(command(**changes))


def named_otherwise(pairs, folder, count):
    """(file of the first `count` pairs under other names, the columns setting that maps them)."""
    columns = {"prompt": "asked", "chosen": "better", "rejected": "worse"}
    rows = [json.loads(line) for line in pairs.read_text().splitlines()[:count]]
    rows = [{theirs: row[ours] for ours, theirs in columns.items()} for row in rows]
    return write_pairs(folder / f"theirs{count}.jsonl", rows), json.dumps(columns)


def test_held_out_pairs_are_read_before_training_under_the_same_columns(command, pairs, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(dpo, "train", lambda *arguments: trained.append(arguments))
    data, columns = named_otherwise(pairs, tmp_path, 8)
    with pytest.raises(FileNotFoundError, match=r"no file or folder at nowhere\.json"):
        main(command(data=data, columns=columns, heldout="nowhere.json"))
    with pytest.raises(ValueError, match=r"bad.jsonl:1: missing field 'chosen'; the row has: prompt"):
        main(command(data=data, columns=columns, heldout=write_pairs(tmp_path / "bad.jsonl", [{"asked": "Q"}])))
    assert not trained
    assert not (tmp_path / "dpo" / "started.json").exists()  # so that --resume with the right path is not refused


def test_what_fails_after_training_is_gone_on_with_from_the_trained_model(command, pairs, tmp_path, monkeypatch):
    data, columns = named_otherwise(pairs, tmp_path, 8)
    arguments = command(data=data, columns=columns, heldout=data, num_train_epochs=1)
    with monkeypatch.context() as broken:
        broken.setattr(dpo, "measure_heldout", lambda *_: {}["nothing"])
        with pytest.raises(KeyError):
            main(arguments)
    monkeypatch.setattr(dpo, "train", None)  # not called again
    manifest = read_manifest(main([*arguments, "--resume"]))
    assert manifest["steps"] == 2 and manifest["notes"]["heldout_accuracy"]["n"] == 8
    assert manifest["notes"]["pair_counts"] == {"pairs": 8} and manifest["trained_parameters"] > 0
