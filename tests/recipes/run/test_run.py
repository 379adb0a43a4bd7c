import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch

from recipes.run.run import Run, RunConfig
from tests.conftest import TEXTS, put_in_hub_cache, random_model, write_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Settings:
    lr: float = 0.1


def start(folder, stage="base", lr=0.1, parents=(), **options):
    return Run.start(stage, RunConfig(output_dir=str(folder), **options), Settings(lr), parents=parents)


def finished(folder, tokenizer, **options):
    run = start(folder, **options)
    return run.finish(random_model("llama", len(tokenizer)), tokenizer, steps=3, tokens=12)


def test_a_finished_run_is_a_checkpoint_with_its_record(tmp_path, tokenizer):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = finished(tmp_path / "runs" / "base", tokenizer)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    expected = random_model("llama", len(tokenizer)).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    assert AutoTokenizer.from_pretrained(folder).encode("The baker") == tokenizer.encode("The baker")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["stage"] == "base" and manifest["steps"] == 3 and manifest["config"] == {"lr": 0.1}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(manifest["files"])
    assert "AutoModelForCausalLM" in (folder / "README.md").read_text()
    assert not (folder / "started.json").exists()


def test_without_a_suite_the_record_says_that_nothing_was_measured(tmp_path, tokenizer):
    manifest = json.loads((finished(tmp_path / "a", tokenizer) / "manifest.json").read_text())
    assert [(c["name"], c["passed"]) for c in manifest["checks"]] == [("evaluated", False)]


def test_a_finished_run_is_not_overwritten_unless_asked(tmp_path, tokenizer):
    folder = finished(tmp_path / "a", tokenizer)
    with pytest.raises(ValueError, match="holds a finished run; pass --overwrite"):
        start(folder)
    run = start(folder, overwrite=True)
    assert not (folder / "manifest.json").exists(), "while it is being replaced it must look unfinished"
    run._lock.close()


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        (None, "there is no suite at .*suite.yaml"),
        ("likelihod: {x: x.jsonl}", "unknown key 'likelihod' in .*suite.yaml; did you mean 'likelihood'"),
        ("likelihood: {x: nowhere.jsonl}", "no file or folder at nowhere.jsonl"),
        ("generation: {x: {path: FILE, judges: [nobody]}}", "no judge 'nobody'; there are tinytown_gold, "),
        ("likelihood: {x: FILE}", "FILE:1: field 'text' is missing; the row has prompt"),
        ("{benchmarks: [no_such_task], generation: {x: FILE}}", "'no_such_task' is no task"),
    ],
)
def test_what_the_evaluation_will_read_is_opened_before_the_run_touches_its_folder(tmp_path, suite, said):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "Hi"}\n')
    if suite:
        (tmp_path / "suite.yaml").write_text(suite.replace("FILE", str(file)))
    with pytest.raises((ValueError, FileNotFoundError), match=said.replace("FILE", ".*rows.jsonl")):
        start(tmp_path / "a", evaluation=str(tmp_path / "suite.yaml"))
    assert not (tmp_path / "a").exists()


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds files that no run made"):
        start(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_resuming_with_other_settings_names_them(tmp_path):
    start(tmp_path / "a", lr=0.1)._lock.close()
    with pytest.raises(ValueError, match=r"lr: 0.1 -> 0.2"):
        start(tmp_path / "a", lr=0.2, resume=True)


def test_resume_finds_the_newest_whole_checkpoint(tmp_path):
    from base_model.checkpoints import seal

    run = start(tmp_path / "a")
    for step in (5, 10):
        (run.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        (run.checkpoints / f"checkpoint-{step}" / "w").write_text("x")
    seal(run.checkpoints / "checkpoint-5")
    run._lock.close()
    with pytest.warns(UserWarning, match="checkpoint-10 is damaged"):
        again = start(tmp_path / "a", resume=True)
    assert again.resume_from.endswith("checkpoint-5")


@pytest.mark.parametrize(
    "stage, message",
    [
        (
            "dpo",
            r"asks for DeepSpeed, which is not installed: pip install 'plumbline\[deepspeed\]', or launch with .*fsdp.yaml",
        ),
        ("ppo", "ppo does not run on DeepSpeed; launch it with recipes/configs/accelerate/ddp.yaml or fsdp.yaml"),
        ("pretrain", "pretrain does not run on DeepSpeed"),
    ],
)
def test_deepspeed_where_it_cannot_run_is_one_clear_line(tmp_path, monkeypatch, stage, message):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=message):
        start(tmp_path / "a", stage=stage)
    assert not (tmp_path / "a").exists()


@dataclass(frozen=True)
class RowsOfEach:
    per_device_train_batch_size: int = 4
    batch_size: int | None = None


@pytest.mark.parametrize("batch_size, is_refused", [(None, True), (8, False)])
def test_another_number_of_processes_resumes_the_batch_of_all_and_not_the_rows_of_each(
    tmp_path, monkeypatch, batch_size, is_refused
):
    def open_on(processes, **options):
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        return Run.start("dpo", RunConfig(output_dir=str(tmp_path / "a"), **options), RowsOfEach(batch_size=batch_size))

    open_on(2)._lock.close()
    if is_refused:
        with pytest.raises(
            ValueError, match=r"other settings \(processes x per_device.* \(without batch_size\): 2 x 4 -> 1 x 4\)"
        ):
            open_on(1, resume=True)
    else:
        open_on(1, resume=True)._lock.close()


@pytest.mark.parametrize(
    "stage, first, then, refused",
    [
        ("dpo", ("FSDP", 2), ("FSDP", 1), None),
        ("dpo", ("FSDP", 2), ("", 1), "FSDP -> None"),
        ("dpo", ("", 1), ("FSDP", 2), "None -> FSDP"),
        ("dpo", ("DEEPSPEED", 2), ("", 1), "DeepSpeed on 2 processes -> None"),
        ("dpo", ("DEEPSPEED", 2), ("DEEPSPEED", 4), "DeepSpeed on 2 processes -> DeepSpeed on 4 processes"),
        ("dpo", ("", 2), ("", 1), None),
        ("pretrain", ("FSDP", 2), ("", 1), None),
    ],
)
def test_split_weights_are_resumed_only_where_their_optimizer_state_comes_back(
    tmp_path, monkeypatch, stage, first, then, refused
):
    def open_on(launch, **options):
        kind, processes = launch
        for name in ("FSDP", "DEEPSPEED"):
            monkeypatch.setenv(f"ACCELERATE_USE_{name}", str(name == kind).lower())
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        return Run.start(stage, RunConfig(output_dir=str(tmp_path / "a"), **options), RowsOfEach(batch_size=8))

    monkeypatch.setattr(
        "recipes.run.run.require_deepspeed", lambda config: None
    )  # an extra; not needed to open a folder
    open_on(first)._lock.close()
    if refused:
        with pytest.raises(ValueError, match=rf"other settings \(weights split by: {refused}\): resume with those"):
            open_on(then, resume=True)
    else:
        open_on(then, resume=True)._lock.close()


def test_two_processes_cannot_work_in_one_folder(tmp_path):
    start_elsewhere = (
        "from recipes.run.run import Run, RunConfig\n"
        f"run = Run.start('base', RunConfig(output_dir={str(tmp_path / 'a')!r}))\nprint('open', flush=True)\ninput()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", start_elsewhere], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(ValueError, match="another process is working in"):
            start(tmp_path / "a")
    finally:
        other.communicate("\n")


def test_an_unfinished_or_missing_parent_is_refused(tmp_path):
    start(tmp_path / "parent")._lock.close()
    with pytest.raises(ValueError, match="its stage did not finish"):
        start(tmp_path / "child", parents=[tmp_path / "parent"])
    with pytest.raises(FileNotFoundError, match="run its stage first"):
        start(tmp_path / "child", parents=[tmp_path / "absent"])


def test_a_name_that_is_neither_a_folder_nor_in_the_hubs_cache_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"the parent someone/absent is not there; run its stage first \(as a hub id"
    ):
        start(tmp_path / "child", parents=["someone/absent"])
    with pytest.raises(
        FileNotFoundError, match=r"the parent a/b/c is not there; run its stage first \(as a hub id: Repo id"
    ):
        start(tmp_path / "child", parents=["a/b/c"])
    with pytest.raises(
        FileNotFoundError, match=r"recipes/absent is not there; run its stage first \(it can be no hub id"
    ):
        start(tmp_path / "child", parents=["recipes/absent"])  # recipes/ is a folder here


def test_a_hub_id_is_a_parent_with_its_commit_and_the_hash_of_its_weights(tmp_path, tokenizer, monkeypatch):
    from base_model.tokenizer import train_tokenizer
    from recipes.run.record import describe_parent

    checkpoint = write_checkpoint(tmp_path / "local", tokenizer)
    put_in_hub_cache(tmp_path / "hub", "someone/tiny", checkpoint, COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = finished(tmp_path / "child", tokenizer, parents=["someone/tiny"])
    (parent,) = json.loads((folder / "manifest.json").read_text())["parents"]
    assert (parent["path"], parent["stage"], parent["revision"]) == ("someone/tiny", "external", COMMIT)
    assert parent["sha256"] == describe_parent(checkpoint)["sha256"]
    assert f"`someone/tiny` at `{COMMIT[:12]}`" in (folder / "README.md").read_text()
    other = train_tokenizer(["quite another text about ships and sealing wax"] * 9, 300)
    with pytest.raises(ValueError, match="the tokenizer of .* is not that of its parent someone/tiny"):
        finished(tmp_path / "other", other, parents=["someone/tiny"])


def test_a_stage_is_trained_from_a_hub_id_in_the_cache(tmp_path, llama_checkpoint):
    """The whole command, in a process that knows nothing but the cache's place and that there is no network."""
    put_in_hub_cache(tmp_path / "hub", "someone/tiny", llama_checkpoint, COMMIT)
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    settings = {
        "model": "someone/tiny",
        "data": tmp_path / "text.jsonl",
        "output_dir": tmp_path / "run",
        "max_steps": 2,
    }
    command = [sys.executable, "-m", "recipes.domain_sft", "--use_peft"]
    command += [f"--{name}={value}" for name, value in settings.items()]
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["parents"][0]["revision"] == COMMIT and manifest["steps"] == 2
    assert "%|" not in done.stdout + done.stderr, "a bar that redraws its line fills a log"


def test_a_checkpoint_with_another_tokenizer_than_its_parents_is_refused(tmp_path, tokenizer):
    from base_model.tokenizer import train_tokenizer

    other = train_tokenizer(["quite another text about ships and sealing wax"] * 9, 300)
    parent = write_checkpoint(tmp_path / "parent", other)
    with pytest.raises(ValueError, match="the tokenizer of .* is not that of its parent"):
        finished(tmp_path / "child", tokenizer, parents=[parent])
    assert not (tmp_path / "child" / "manifest.json").exists()


def test_a_child_may_gain_a_template_but_not_change_it(tmp_path, tokenizer):
    import copy

    from base_model.chat import set_chat_template

    with_template = set_chat_template(copy.deepcopy(tokenizer))
    child = finished(tmp_path / "child", with_template, parents=[write_checkpoint(tmp_path / "base", tokenizer)])
    changed = copy.deepcopy(with_template)
    changed.chat_template = changed.chat_template.replace("system", "sistem")
    with pytest.raises(ValueError, match="the chat template of .* is not that of its parent"):
        finished(tmp_path / "grandchild", changed, parents=[child])


def test_the_log_holds_one_json_a_line_with_elapsed_seconds(tmp_path):
    run = start(tmp_path / "a")
    run.log({"step": 1, "loss": 2.5})
    run.log({"step": 2, "loss": 2.0})
    lines = [json.loads(line) for line in (run.dir / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 2.5), (2, 2.0)]
    assert all(line["elapsed_s"] >= 0 for line in lines)


def test_contradicting_options_are_refused():
    with pytest.raises(ValueError, match="overwrite and resume exclude each other"):
        RunConfig(output_dir="x", overwrite=True, resume=True)
