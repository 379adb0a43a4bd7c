"""The instruction stage as a command: what it leaves on disk, what it refuses, and that killing it changes nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recipes import lora_sft
from recipes.run.cli import command
from tests.conftest import TEXTS, write_checkpoint
from tests.recipes.sharded import LAUNCHERS

COMMAND = [sys.executable, "-m", "recipes.lora_sft"]


@pytest.fixture(scope="module")
def instructions(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "instructions.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": TEXTS[i % 4]},
                {"role": "assistant", "content": TEXTS[(i + 1) % 4][: 10 + i % 30]},
            ]
        }
        for i in range(120)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def arguments(parent, data, folder, **more):
    settings = {
        "model": parent,
        "data": data,
        "output_dir": folder,
        "precision": "fp32",
        "per_device_train_batch_size": 4,
        "lora_r": 4,
        "learning_rate": 5e-3,
        "logging_steps": 1,
        "heldout_rows": 8,
        "stop_within_tokens": 16,
    } | more
    return [item for name, value in settings.items() for item in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def finished(llama_checkpoint, instructions, tmp_path_factory):
    """A finished run of 36 steps, never killed, in one process."""
    folder = tmp_path_factory.mktemp("runs") / "lora_sft"
    return lora_sft.main(arguments(llama_checkpoint, instructions, folder, max_steps=36, save_steps=4))


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_the_run_is_the_merged_model_with_the_adapter_beside_it(finished, llama_checkpoint):
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = AutoModelForCausalLM.from_pretrained(finished)
    assert type(merged).__name__ == "LlamaForCausalLM"
    tokenizer = AutoTokenizer.from_pretrained(finished)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    adapted = AutoPeftModelForCausalLM.from_pretrained(finished / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, atol=1e-4, rtol=0)
        parent = AutoModelForCausalLM.from_pretrained(llama_checkpoint)
        assert (merged(ids).logits - parent(ids).logits).abs().max() > 0.01


def test_the_record_has_what_was_read_trained_and_checked(finished):
    record = manifest(finished)
    assert record["notes"]["rows"]["read"] == 120 and record["notes"]["rows"]["skipped"] == 0
    assert record["steps"] == 36 and record["tokens"] > 0
    assert (
        record["trained_parameters"]
        == record["notes"]["parameters"]["trained"]
        < record["notes"]["parameters"]["total"]
    )
    assert record["notes"]["merge"]["largest_difference"] <= 1e-4
    assert record["notes"]["heldout_loss_nats"] < 6
    assert record["template_sha256"] is not None


def test_the_template_that_the_parent_lacked_has_its_role_tokens_trained(finished, llama_checkpoint):
    rows = [
        load_file(folder / "model.safetensors")["model.embed_tokens.weight"] for folder in (llama_checkpoint, finished)
    ]
    assert (rows[0] != rows[1]).any(1).nonzero()[:, 0].tolist() == [3, 4, 5]  # system, user, assistant
    record = manifest(finished)
    check = {check["name"]: check for check in record["checks"]}["the data's tokens are trained"]
    assert check["passed"] and "4 '<|user|>', 5 '<|assistant|>'; their rows are trained here" in check["detail"]
    assert record["notes"]["untrained_token_ids"] == "0,3"  # padding, and no conversation has a system message


def test_tokens_that_stay_untrained_are_a_failed_check(llama_checkpoint, instructions, tmp_path):
    settings = arguments(llama_checkpoint, instructions, tmp_path / "run", max_steps=1, heldout_rows=0)
    record = manifest(lora_sft.main([*settings, "--no_train_new_tokens"]))
    check = {check["name"]: check for check in record["checks"]}["the data's tokens are trained"]
    assert not check["passed"]
    assert check["detail"].startswith(
        f"2 were never trained in {llama_checkpoint}, by the look of its weights: 4 '<|user|>'"
    )
    assert check["detail"].endswith("leave train_new_tokens on, or train every weight")
    assert record["notes"]["untrained_token_ids"] == "0,3-5"


def test_what_a_parent_never_trained_is_known_from_the_nearest_record_above_it(tmp_path):
    from recipes.run.finetune import recorded_untrained

    folders = [tmp_path / name for name in ("base", "dpo", "other")]
    notes = [{"untrained_token_ids": "3-5,9"}, {}, {}]
    parents = [[], [{"path": str(folders[0])}], [{"path": str(tmp_path / "gone")}]]
    for folder, note, parent in zip(folders, notes, parents, strict=True):
        folder.mkdir()
        (folder / "manifest.json").write_text(json.dumps({"notes": note, "parents": parent}))
    assert [recorded_untrained(str(folder)) for folder in folders] == [{3, 4, 5, 9}, {3, 4, 5, 9}, None]


def test_a_model_that_does_not_stop_is_a_failed_check(finished):
    """36 steps from random weights do not teach it to stop."""
    record = manifest(finished)
    check = {check["name"]: check for check in record["checks"]}["answers stop"]
    assert record["notes"]["stop_rate"] < 0.9 and not check["passed"]
    assert "of 8 sampled answers end by themselves within 16 tokens" in check["detail"]


def test_a_run_killed_at_a_checkpoint_and_resumed_ends_with_the_same_bits(
    finished, llama_checkpoint, instructions, tmp_path
):
    folder = tmp_path / "lora_sft"
    line = [*COMMAND, *arguments(llama_checkpoint, instructions, folder, max_steps=36, save_steps=4)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while not list(folder.glob("checkpoints/checkpoint-*/sealed.json")):
            assert process.poll() is None and time.monotonic() < deadline, process.stderr.read().decode()[-2000:]
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (folder / "manifest.json").exists()
    lora_sft.main([*arguments(llama_checkpoint, instructions, folder, max_steps=36, save_steps=4), "--resume"])
    assert manifest(folder)["notes"]["resumed_from"].startswith("checkpoint-")
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        ours, theirs = load_file(folder / name), load_file(finished / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert manifest(folder)["tokens"] == manifest(finished)["tokens"]


def test_two_processes_train_what_one_does(finished, llama_checkpoint, instructions, tmp_path):
    """Half the rows each, one global batch: the same gradient, added up in another order."""
    folder = tmp_path / "lora_sft"
    settings = arguments(llama_checkpoint, instructions, folder, max_steps=36, per_device_train_batch_size=2)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run([*launcher, *COMMAND[1:], *settings], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    ours, theirs = load_file(folder / "model.safetensors"), load_file(finished / "model.safetensors")
    largest = max((ours[key] - theirs[key]).abs().max().item() for key in theirs)
    assert largest < 1e-4  # weights move by 0.1; seen 5e-7 after 16 steps
    assert manifest(folder)["tokens"] == manifest(finished)["tokens"]
    assert manifest(folder)["notes"]["rows"] == manifest(finished)["notes"]["rows"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("method", ["use_peft", "no_use_peft"])
def test_weights_that_were_split_are_put_together_again(llama_checkpoint, instructions, tmp_path, method, launcher):
    settings = {"max_steps": 4, "per_device_train_batch_size": 8}
    alone = lora_sft.main([*arguments(llama_checkpoint, instructions, tmp_path / "alone", **settings), f"--{method}"])
    more = [*arguments(llama_checkpoint, instructions, tmp_path / "split", max_steps=4), f"--{method}"]
    done = launcher("recipes.lora_sft", more)
    assert done.returncode == 0, done.stderr[-2000:]
    ours, theirs = load_file(tmp_path / "split" / "model.safetensors"), load_file(alone / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert max((ours[key] - theirs[key]).abs().max().item() for key in theirs) < 1e-5  # seen 6e-8


def test_a_merge_that_is_not_the_adapter_fails_the_run(llama_checkpoint, instructions, tmp_path, monkeypatch):
    import sft.lora

    merge = sft.lora.merge

    def wrong(model):
        merged = merge(model)
        with torch.no_grad():
            merged.model.layers[0].mlp.up_proj.weight.mul_(1.1)
        return merged

    monkeypatch.setattr(sft.lora, "merge", wrong)
    with pytest.raises(ValueError, match="the merged model .* is not the adapter .* their logits differ by"):
        lora_sft.main(arguments(llama_checkpoint, instructions, tmp_path / "run", max_steps=1))
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_every_weight_is_trained_without_peft(llama_checkpoint, instructions, tmp_path):
    folder = lora_sft.main([*arguments(llama_checkpoint, instructions, tmp_path / "run", max_steps=2), "--no_use_peft"])
    record = manifest(folder)
    assert record["notes"]["parameters"]["trained"] == record["notes"]["parameters"]["total"]
    assert not (folder / "adapter").exists()


def test_a_tokenizer_that_is_not_the_parents_is_refused(llama_checkpoint, finished, instructions, tmp_path):
    from base_model.tokenizer import train_tokenizer

    parent = tmp_path / "parent"
    shutil.copytree(finished, parent, ignore=shutil.ignore_patterns("checkpoints"))
    train_tokenizer(TEXTS, 300).save_pretrained(parent)
    with pytest.raises(ValueError, match=r"parent/tokenizer.json is not the tokenizer that .*parent was trained with"):
        lora_sft.main(arguments(parent, instructions, tmp_path / "run"))

    external = write_checkpoint(tmp_path / "external", train_tokenizer(TEXTS, 300))
    train_tokenizer(TEXTS, 400).save_pretrained(external)
    with pytest.raises(ValueError, match="has 400 tokens, its model only 300: it is not the model's own"):
        lora_sft.main(arguments(external, instructions, tmp_path / "run2"))


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "rows.jsonl holds no rows"),
        ('{"question": "a"}\n', "rows.jsonl:1: field 'messages': is missing"),
        (
            '{"prompt": "a", "completion": "  "}\n',
            "rows.jsonl:1: field 'completion': message 2 (from 'assistant') is only white space",
        ),
        (
            '{"messages": [{"role": "user", "content": "a"}]}\n',
            "rows.jsonl:1: field 'messages': the assistant's turn is missing",
        ),
        (
            '{"prompt": "a", "completion": "b"}\n',
            "rows.jsonl has 1 usable rows, and heldout_rows 8 leaves none to train on",
        ),
    ],
)
def test_a_mistake_in_the_data_is_one_line_and_no_traceback(llama_checkpoint, tmp_path, capsys, text, message):
    data = tmp_path / "rows.jsonl"
    data.write_text(text)
    with pytest.raises(SystemExit) as exit_:
        command(lambda: lora_sft.main(arguments(llama_checkpoint, data, tmp_path / "run")))
    assert exit_.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1] and lines[-1].startswith("error: ")


def test_a_context_longer_than_the_parents_is_refused(llama_checkpoint, instructions, tmp_path):
    with pytest.raises(ValueError, match="context_length 999 is more than the 128 positions of"):
        lora_sft.main(arguments(llama_checkpoint, instructions, tmp_path / "run", context_length=999))


def test_alpacas_columns_are_mapped_on_the_command_line(llama_checkpoint, tmp_path):
    data = tmp_path / "alpaca.jsonl"
    rows = [{"instruction": f"Say {i}.", "input": TEXTS[i % 4], "output": f"{i}."} for i in range(20)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = '{"prompt": "instruction", "context": "input", "completion": "output"}'
    folder = lora_sft.main(arguments(llama_checkpoint, data, tmp_path / "run", max_steps=1, columns=columns))
    assert manifest(folder)["notes"]["rows"]["read"] == 20
    with pytest.raises(ValueError, match="columns must be a JSON object, our name to theirs, got 'prompt=instruction'"):
        lora_sft.main(arguments(llama_checkpoint, data, tmp_path / "run2", columns="prompt=instruction"))


def test_help_needs_no_torch():
    """`--help` must answer at once: importing torch and trl takes seconds."""
    code = "import sys; import recipes.lora_sft, recipes.domain_sft; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, cwd=Path(__file__).parents[2]).returncode == 0
