"""The base stage as a command: what it leaves on disk, what it says, what it refuses, and that killing it changes nothing."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from base_model.checkpoints import checkpoints
from base_model.shards import write_shards
from base_model.validation import token_bytes
from recipes import pretrain
from recipes.run.cli import command
from recipes.run.record import read_manifest
from tests.conftest import TEXTS


@pytest.fixture(scope="module")
def tokens(tokenizer, tmp_path_factory):
    """A folder as `recipes.tokenizer` leaves it: tokenizer, shards, validation."""
    folder = tmp_path_factory.mktemp("tokens")
    tokenizer.save_pretrained(folder)
    write_shards(TEXTS, tokenizer, folder / "shards")
    write_shards(TEXTS[:8], tokenizer, folder / "validation")
    return folder


def arguments(tokens, folder, **more):
    settings = {
        "tokenizer": tokens,
        "output_dir": folder,
        "preset": "llama-1m",
        "n_layer": 1,
        "d_model": 32,
        "d_ff": 64,
        "context_length": 32,
        "steps": 30,
        "batch_size": 4,
        "lr": 1e-2,
        "warmup_steps": 2,
        "precision": "fp32",
        "compile": False,
        "eval_every": 0,
        "save_every": 2,
        "log_every": 5,
    } | more
    return [item for name, value in settings.items() for item in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def finished(tokens, tmp_path_factory):
    return pretrain.main(arguments(tokens, tmp_path_factory.mktemp("runs") / "base", sample_every=15))


def test_it_leaves_a_checkpoint_that_transformers_loads_and_that_scores_as_the_log_says(finished, tokens):
    """The last validation loss, by transformers' own loss on the saved model over the same windows; fp32, summed otherwise: 1e-4."""
    from transformers import AutoModelForCausalLM

    from base_model.shards import ShardLoader
    from base_model.untrained import read_back

    model = AutoModelForCausalLM.from_pretrained(finished)
    loader = ShardLoader(tokens / "validation", 32, 4, shuffle=False)
    batches = [loader.batch(step)["tokens_BT"] for step in range(loader.windows // 4)]
    with torch.no_grad():
        losses = [model(tokens, labels=tokens).loss.item() for tokens in batches]
    manifest = read_manifest(finished)
    assert manifest["notes"]["validation"]["validation_loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    assert manifest["tokens"] == 30 * 4 * 32 and manifest["steps"] == 30
    seen = {int(i) for file in (tokens / "shards").glob("*.bin") for i in np.fromfile(file, dtype="<u2")}
    assert read_back(manifest["notes"]["untrained_token_ids"]) == set(range(model.config.vocab_size)) - seen


def test_a_lead_in_is_read_first_and_recorded(tokens, finished, tokenizer, tmp_path):
    """A model that begins with the lead-in text, and only then reads the shards, differs; the record names the folder."""
    with_lead_in = tmp_path / "tokens"
    shutil.copytree(tokens, with_lead_in)
    write_shards(TEXTS[8:16], tokenizer, with_lead_in / "lead_in")
    losses = {}
    for steps in (0, 3):
        folder = pretrain.main(arguments(with_lead_in, tmp_path / f"base{steps}", lead_in_steps=steps, log_every=1))
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        losses[steps] = [line["loss"] for line in lines if "loss" in line]
        assert any(data["path"].endswith("lead_in") for data in read_manifest(folder)["data"]) == bool(steps)
    assert losses[0] != losses[3]


def test_conversations_share_the_last_steps_and_are_recorded(tokens, tokenizer, tmp_path):
    """The steps before are those without; the last ones read as many conversations as asked for. Steps that leave none are refused."""
    from transformers import AutoTokenizer

    from base_model.chat import CHAT_TEMPLATE

    with_conversations = tmp_path / "tokens"
    shutil.copytree(tokens, with_conversations)
    write_shards(["one two three four five six seven " * 8] * 8, tokenizer, with_conversations / "conversations")
    shares = {}
    for share in (0.25, 1.0):
        settings = {"conversation_steps": 20, "conversation_share": share, "log_every": 1}
        folder = pretrain.main(arguments(with_conversations, tmp_path / f"base{share}", **settings))
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        shares[share] = [line["loss"] for line in lines if "loss" in line]
        assert any(data["path"].endswith("conversations") for data in read_manifest(folder)["data"])
        assert AutoTokenizer.from_pretrained(folder).chat_template == CHAT_TEMPLATE  # and so it is asked
    assert shares[0.25][:10] == shares[1.0][:10]
    assert all(one != other for one, other in zip(shares[0.25][10:], shares[1.0][10:], strict=True))
    with pytest.raises(ValueError, match="conversation_steps 30 leave none of 30 steps"):
        pretrain.main(arguments(with_conversations, tmp_path / "none", conversation_steps=30))


def test_the_log_is_a_curve_with_speed_and_samples(finished):
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] - 1 and all(line["tokens_per_s"] > 0 for line in lines if "loss" in line)
    assert [len(line["samples"]) for line in lines if "samples" in line] == [1, 1]
    assert list((finished / "tensorboard").rglob("events.out.tfevents.*"))


def test_bytes_of_tokens_are_those_of_the_text(tokenizer):
    """Byte-level and character tokenizers: the tokens' bytes add up to the text's, whatever the script; special tokens have none."""
    from base_model.tokenizer import character_tokenizer, encode_text

    for text in (TEXTS[0], "naïve Straße 東京 🙂 \x00\n"):
        for one in (tokenizer, character_tokenizer([text])):
            sizes = token_bytes(one)
            assert sizes[encode_text(one, text)].sum() == len(text.encode("utf-8"))
            assert sizes[one.all_special_ids].sum() == 0 and sizes.shape == (len(one),)


def test_killed_with_signal_9_and_resumed_the_stage_ends_with_the_same_weights(tokens, finished, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["base_model.pretrain", "recipes.pretrain", "transformers"])
    folder = tmp_path / "base"
    process = context.Process(target=pretrain.main, args=(arguments(tokens, folder, sample_every=15),))
    process.start()
    while len(checkpoints(folder / "checkpoints")) < 2 and process.is_alive():
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL and not (folder / "manifest.json").is_file()
    pretrain.main([*arguments(tokens, folder, sample_every=15), "--resume"])
    ours, theirs = (load_file(run / "model.safetensors") for run in (folder, finished))
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())
    assert read_manifest(folder)["notes"]["resumed_from"].startswith("checkpoint-")


def test_a_damaged_newest_checkpoint_is_passed_over(tokens, finished, tmp_path):
    folder = tmp_path / "base"
    with pytest.raises(KeyboardInterrupt):
        interrupted(arguments(tokens, folder, sample_every=15), after=11)
    newest = checkpoints(folder / "checkpoints")[0]
    assert newest.name == "checkpoint-10"
    (newest / "optimizer.safetensors").write_bytes(b"cut off")
    with pytest.warns(
        UserWarning, match="optimizer.safetensors does not match its checksum; using the checkpoint before"
    ):
        pretrain.main([*arguments(tokens, folder, sample_every=15), "--resume"])
    assert read_manifest(folder)["notes"]["resumed_from"] == "checkpoint-8"
    ours, theirs = (load_file(run / "model.safetensors") for run in (folder, finished))
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())


def interrupted(argv, after):
    """The stage, with Ctrl-C after some steps."""
    from recipes.run.run import Run

    class Stopped(Run):
        def progress(self, done, total):
            if done == after:
                raise KeyboardInterrupt

    before, pretrain.Run = pretrain.Run, Stopped
    try:
        pretrain.main(argv)
    finally:
        pretrain.Run = before


def test_a_plan_for_gpus_elsewhere_needs_only_their_name(capsys):
    config = "recipes/configs/gpu/gpt2-124m/pretrain.yaml"
    assert pretrain.main(["--config", config, "--plan_device", "h100", "--plan_gpus", "8"]) is None
    said = capsys.readouterr().out
    assert "8 GPUs = 512 rows a step, bf16" in said and "assuming 40% of 989 TFLOP/s each" in said


def test_the_plan_prints_and_trains_nothing(tmp_path, capsys, monkeypatch):
    from base_model import plan

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "probe", lambda config, training, budget_s: plan.Speed(1e-4, 0.5))
    assert pretrain.main(["--preset", "gpt2-124m", "--plan"]) is None
    assert "parameters    124,439,808" in capsys.readouterr().out
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--preset", "gpt3"], "unknown preset 'gpt3'; there are llama-1m"),
        (["--batchsize", "4"], "unknown key 'batchsize' in the command line; did you mean 'batch_size'?"),
        (["--warmup_steps", "99"], "warmup_steps 99 must be below steps 30"),
        (["--context_length", "100000"], "no shard with 100001 in a row"),
        (["--tokenizer", "/nowhere"], "the parent /nowhere is not there"),
    ],
)
def test_a_mistake_is_one_line(tokens, tmp_path, capsys, more, message):
    with pytest.raises(SystemExit) as exit_status:
        command(lambda: pretrain.main([*arguments(tokens, tmp_path / "base"), *more]))
    error = capsys.readouterr().err.strip().splitlines()
    assert exit_status.value.code == 1 and message in error[-1] and error[-1].startswith("error: ")


def test_without_a_tokenizer_it_says_which_command_makes_one(tmp_path):
    with pytest.raises(ValueError, match=r"--tokenizer is needed: the folder that `python -m recipes.tokenizer` wrote"):
        pretrain.main(["--output_dir", str(tmp_path / "base")])


def test_help_loads_neither_torch_nor_transformers_models():
    code = (
        "import sys, recipes.pretrain as p\ntry: p.main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--muon_lr" in shown and shown.strip().endswith("False")


def test_the_shipped_shakespeare_config_learns_real_text(data_folder, tmp_path, monkeypatch):
    """40 steps, from log 72 = 4.28 nats: below 3.0, where the characters' frequencies alone would give 3.3."""
    from recipes import tokenizer as tokenizer_recipe

    monkeypatch.setenv("PLUMBLINE_DATA", str(data_folder))
    folder = tmp_path / "tokenizer"
    configs = "recipes/configs/shakespeare_char"
    tokenizer_recipe.main(["--config", f"{configs}/tokenizer.yaml", "--output_dir", str(folder)])
    shortened = ["--steps", "40", "--eval_batches", "4", "--trackers", "none", "--save_every", "0"]
    run = pretrain.main(
        ["--config", f"{configs}.yaml", "--tokenizer", str(folder), "--output_dir", str(tmp_path / "base"), *shortened]
    )
    assert read_manifest(run)["notes"]["validation"]["validation_loss"] < 3.0
    shutil.rmtree(tmp_path / "base" / "checkpoints", ignore_errors=True)
