"""The domain stage as a command."""

import json

import pytest
import torch
from safetensors.torch import load_file

from recipes import domain_sft
from tests.conftest import TEXTS
from tests.processes import together


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "domain.jsonl"
    file.write_text("".join(json.dumps({"text": f"{i} {TEXTS[i % 4]} " * (1 + i % 5)}) + "\n" for i in range(80)))
    return file


def arguments(parent, data, folder, *more):
    settings = [
        "--precision",
        "fp32",
        "--per_device_train_batch_size",
        "4",
        "--learning_rate",
        "5e-3",
        "--max_steps",
        "12",
    ]
    return ["--model", str(parent), "--data", str(data), "--output_dir", str(folder), *settings, *more]


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_every_weight_reads_on_in_the_domain_and_no_chat_template_is_set(llama_checkpoint, texts, tmp_path):
    folder = domain_sft.main(arguments(llama_checkpoint, texts, tmp_path / "run", "--logging_steps", "1"))
    record = manifest(folder)
    assert record["stage"] == "domain_sft" and record["template_sha256"] is None
    assert record["notes"]["parameters"]["trained"] == record["notes"]["parameters"]["total"]
    assert record["notes"]["rows"]["domain"]["read"] == 80 and record["notes"]["replayed_tokens_share"] == 0
    losses = [json.loads(line).get("loss") for line in (folder / "log.jsonl").read_text().splitlines()]
    assert losses[11] < losses[0] - 0.5
    assert not (folder / "adapter").exists()


def test_one_flag_makes_it_lora_and_replay_is_in_the_record(llama_checkpoint, texts, tmp_path):
    replay = ["--replay_data", str(texts), "--replay_share", "0.3"]
    folder = domain_sft.main(arguments(llama_checkpoint, texts, tmp_path / "run", "--use_peft", *replay))
    record = manifest(folder)
    assert record["notes"]["parameters"]["trained"] < record["notes"]["parameters"]["total"]
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert record["notes"]["replayed_tokens_share"] == pytest.approx(0.3, abs=0.06)
    assert len(record["data"]) == 2


def test_a_replay_share_of_0_leaves_the_general_text_unread(llama_checkpoint, texts, tmp_path):
    replay = ["--replay_data", str(tmp_path / "not_there.jsonl"), "--replay_share", "0"]
    record = manifest(domain_sft.main(arguments(llama_checkpoint, texts, tmp_path / "run", *replay)))
    assert record["notes"]["replayed_tokens_share"] == 0 and len(record["data"]) == 1


def test_a_resumed_run_ends_with_the_same_bits(llama_checkpoint, texts, tmp_path, monkeypatch):
    """Every weight trained; the interruption is an error at step 9, after checkpoint 8. The LoRA stage's tests kill the process itself."""
    from recipes.run.callbacks import RunCallback

    whole = domain_sft.main(arguments(llama_checkpoint, texts, tmp_path / "whole", "--save_steps", "4"))

    def stop(self, args, state, control, **kwargs):
        if state.global_step == 9:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(RunCallback, "on_step_end", stop)
        with pytest.raises(RuntimeError, match="power cut"):
            domain_sft.main(arguments(llama_checkpoint, texts, tmp_path / "run", "--save_steps", "4"))
    folder = domain_sft.main(arguments(llama_checkpoint, texts, tmp_path / "run", "--save_steps", "4", "--resume"))
    assert manifest(folder)["notes"]["resumed_from"] == "checkpoint-8"
    ours, theirs = load_file(folder / "model.safetensors"), load_file(whole / "model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def stopped_at_step_9(arguments):
    """The stage, ended by an error in every process of it."""
    from recipes.run.callbacks import RunCallback

    def stop(self, args, state, control, **kwargs):
        if state.global_step == 9:
            raise RuntimeError("power cut")

    RunCallback.on_step_end = stop
    with pytest.raises(RuntimeError, match="power cut"):
        domain_sft.main(arguments)


@pytest.mark.parametrize("first, then", [(2, 1), (1, 2)])
def test_any_number_of_processes_trains_one_model_and_goes_on_from_another_number(
    llama_checkpoint, texts, tmp_path, first, then
):
    """8 rows a step, at most 2 at once, over the end of an epoch whose last rows fill no whole batch. Equal but for the order of float32
    sums: within 1e-5 of weights that move by 1e-2."""
    batch = ["--batch_size", "8", "--per_device_train_batch_size", "2", "--save_steps", "4"]
    whole, broken = ([*arguments(llama_checkpoint, texts, tmp_path / name), *batch] for name in ("whole", "broken"))
    domain_sft.main(whole)
    together(stopped_at_step_9, broken, processes=first)
    together(domain_sft.main, [*broken, "--resume"], processes=then)
    assert manifest(tmp_path / "broken")["notes"]["resumed_from"] == "checkpoint-8"
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("broken", "whole"))
    parent = load_file(llama_checkpoint / "model.safetensors")
    assert max((theirs[name] - parent[name]).abs().max() for name in parent) > 1e-2
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in theirs)
    assert manifest(tmp_path / "broken")["tokens"] == manifest(tmp_path / "whole")["tokens"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "holds no rows"),
        ('{"body": "a"}\n', "domain.jsonl:1: field 'text': is missing"),
        ('{"text": "good"}\n{"text": " "}\n', "domain.jsonl:2: field 'text': is empty or only white space"),
    ],
)
def test_a_mistake_in_the_data_names_file_and_row(llama_checkpoint, tmp_path, text, message):
    data = tmp_path / "domain.jsonl"
    data.write_text(text)
    with pytest.raises(ValueError) as caught:
        domain_sft.main(arguments(llama_checkpoint, data, tmp_path / "run"))
    assert message in str(caught.value) and str(data) in str(caught.value)
