import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from recipes.run.run import Run, RunConfig
from recipes.run.stage import Stage
from tests.conftest import TEXTS, put_in_hub_cache, random_model, write_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Settings:
    lr: float = 0.1


def start(folder, stage="base", lr=0.1, parents=(), **options):
    declared = Stage(stage, own_loop=stage in ("pretrain", "ppo"))
    return Run.start(declared, RunConfig(output_dir=str(folder), **options), Settings(lr), parents=parents)


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


def files_below(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_is_not_overwritten_unless_asked_and_stands_until_the_new_one_is_finished(tmp_path, tokenizer):
    folder = finished(tmp_path / "a", tokenizer)
    with pytest.raises(ValueError, match="holds a finished run; pass --overwrite"):
        start(folder)
    (folder / "notes.txt").write_text("mine")
    before = files_below(folder)
    run = start(folder, overwrite=True, seed=2)
    run.log({"step": 1})
    made = random_model("gpt2", len(tokenizer))
    during = files_below(folder)
    assert {name: during[name] for name in before} == before
    run.finish(made, tokenizer)
    record = json.loads((folder / "manifest.json").read_text())
    assert record["seed"] == 2 and record["notes"] == {} and not (folder / ".unfinished").exists()
    assert json.loads((folder / "config.json").read_text())["model_type"] == "gpt2"
    assert (folder / "notes.txt").read_text() == "mine" and "notes.txt" not in record["files"]
    assert [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()] == [1]


@pytest.mark.parametrize("killed_at", ["README.md", "tokenizer.json"], ids=["first file", "last file"])
def test_a_run_killed_as_it_took_its_place_is_finished_by_the_next_command(tmp_path, tokenizer, monkeypatch, killed_at):
    folder = finished(tmp_path / "a", tokenizer)
    whole = files_below(finished(tmp_path / "b", tokenizer, seed=2))
    replace = os.replace

    def killed(source, target):
        if Path(source) == folder / ".unfinished" / killed_at:
            raise KeyboardInterrupt
        replace(source, target)

    run = start(folder, overwrite=True, seed=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("os.replace", killed)
        run.finish(random_model("llama", len(tokenizer)), tokenizer)
    run._lock.close()
    assert not (folder / "manifest.json").exists(), "half in its place it must not look finished"
    with pytest.raises(ValueError, match="holds a finished run"):
        start(folder, resume=True, seed=2)
    after = files_below(folder)
    assert json.loads(after["manifest.json"])["seed"] == 2
    assert set(after) == set(whole) and after["model.safetensors"] == whole["model.safetensors"]


def test_a_record_that_lists_files_outside_its_folder_takes_none_of_them_along(tmp_path, tokenizer):
    folder = finished(tmp_path / "a", tokenizer)
    for name in ("beside.txt", "absolute.txt"):
        (tmp_path / name).write_text("mine")
    record = json.loads((folder / "manifest.json").read_text())
    record["files"] |= {"../beside.txt": "0", str(tmp_path / "absolute.txt"): "0"}
    (folder / "manifest.json").write_text(json.dumps(record))
    finished(folder, tokenizer, seed=2, overwrite=True)
    assert (tmp_path / "beside.txt").is_file() and (tmp_path / "absolute.txt").is_file()


def test_a_run_is_not_made_from_what_lies_in_its_own_folder(tmp_path, tokenizer):
    folder = finished(tmp_path / "a", tokenizer)
    (folder / "rows.jsonl").write_text('{"text": "mine"}\n')
    before = files_below(folder)
    for inputs in ({"parents": [folder]}, {"data": [folder / "rows.jsonl"]}, {"data": [f"{tmp_path}/*/rows.jsonl"]}):
        with pytest.raises(ValueError, match="lies in .*, the run's own folder"):
            Run.start(Stage("base"), RunConfig(output_dir=str(folder), overwrite=True), Settings(), **inputs)
    with pytest.raises(FileNotFoundError, match="typo.csv"):
        Run.start(Stage("base"), RunConfig(output_dir=str(folder), overwrite=True), Settings(), data=["typo.csv"])
    assert files_below(folder) == before


def interrupted(folder, **options):
    """A run that logged two steps, made a checkpoint after the first, and was killed."""
    from base_model.checkpoints import seal

    run = start(folder, **options)
    for step in (1, 2):
        run.log({"step": step})
        if step == 1:
            checkpoint = run.checkpoints / "checkpoint-1"
            checkpoint.mkdir(parents=True)
            (checkpoint / "w").write_text("x")
            run.mark(checkpoint)
            seal(checkpoint)
    run.note("found", 1)
    run.progress(2, 4)
    run._lock.close()
    return folder


def test_an_interrupted_run_is_neither_removed_nor_taken_up_without_a_word(tmp_path):
    folder = interrupted(tmp_path / "a")
    (folder / "notes.txt").write_text("mine")
    before = files_below(folder)
    with pytest.raises(
        ValueError, match=r"interrupted run \(newest checkpoint: checkpoint-1\): --resume .* --overwrite"
    ):
        start(folder)
    assert files_below(folder) == before
    start(folder, overwrite=True)._lock.close()
    assert set(files_below(folder)) == {"notes.txt", "started.json", ".lock"}
    start(folder)._lock.close()  # nothing was made: nothing can be lost


@pytest.mark.parametrize("content", ["[]", "{}", "null", "", '{"stage": 1}'])
def test_a_file_named_started_json_makes_no_folder_ours(tmp_path, content):
    (tmp_path / "started.json").write_text(content)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "thesis.txt").write_text("mine")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(ValueError, match="holds files that no run made"):
            start(tmp_path, **options)
    assert (tmp_path / "checkpoints" / "thesis.txt").read_text() == "mine"


def test_a_damaged_started_json_is_said_and_can_be_overwritten(tmp_path):
    folder = interrupted(tmp_path / "a")
    (folder / "started.json").write_text("[]")
    with pytest.raises(
        ValueError, match="does not say with what settings the run was started; --overwrite starts anew"
    ):
        start(folder, resume=True)
    start(folder, overwrite=True)._lock.close()
    assert not (folder / "checkpoints").exists()


def test_checkpoints_on_another_disk_are_emptied_and_the_link_stays(tmp_path):
    (tmp_path / "disk").mkdir()
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "checkpoints").symlink_to(tmp_path / "disk")
    interrupted(folder)
    assert (tmp_path / "disk" / "checkpoint-1").is_dir()
    start(folder, overwrite=True)._lock.close()
    assert (folder / "checkpoints").is_symlink() and not any((tmp_path / "disk").iterdir())


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_run_whose_folder_is_removed_or_replaced_says_so_and_writes_nothing(tmp_path, tokenizer, is_replaced):
    run = start(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "away")
    other = start(tmp_path / "a") if is_replaced else None
    before = files_below(tmp_path / "a")
    for work in (lambda: run.log({"step": 1}), lambda: run.progress(1, 2), lambda: run.finish()):
        with pytest.raises(ValueError, match="was removed or replaced while this run was going on"):
            work()
    assert files_below(tmp_path / "a") == before
    if other:
        other._lock.close()


def test_the_log_goes_back_to_the_checkpoint_and_times_and_notes_go_on(tmp_path):
    folder = interrupted(tmp_path / "a")
    before = json.loads((folder / ".progress.json").read_text())
    (folder / ".progress.json").write_text(json.dumps({**before, "elapsed_s": 100.0, "training_s": 50.0}))
    run = start(folder, resume=True)
    with run.training():
        run.log({"step": 2})
    assert [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()] == [1, 2]
    assert run.elapsed_s > 100 and 50 <= run.notes["training_s"] < 60
    assert run.notes["resumed_from"] == "checkpoint-1" and "found" not in run.notes  # it was noted after the checkpoint
    assert run.peak_memory_bytes()["host"] >= before["peak_memory_bytes"]["host"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    """With another seed, put in by hand: the record would name a seed that its weights do not come from."""
    interrupted(tmp_path / "other", seed=2)
    folder = interrupted(tmp_path / "a")
    shutil.copytree(tmp_path / "other" / "checkpoints" / "checkpoint-1", folder / "checkpoints" / "checkpoint-3")
    with pytest.raises(ValueError, match=r"checkpoint-3 is of another run \(seed: 2 -> 1\); remove it"):
        start(folder, resume=True)
    assert (folder / "checkpoints" / "checkpoint-3").is_dir()


def test_damaged_checkpoints_make_room_for_those_that_are_made_again(tmp_path):
    folder = interrupted(tmp_path / "a")
    (folder / "checkpoints" / "checkpoint-1" / "w").write_text("y")
    with pytest.warns(UserWarning, match="w does not match its checksum"):
        run = start(folder, resume=True)
    assert run.resume_from is None and not any(run.checkpoints.iterdir())


@pytest.mark.parametrize("was, now", [("file", None), ("folder", None), ("glob", None), ("folder", "a new file")])
def test_data_that_changed_is_not_resumed_on(tmp_path, was, now):
    @dataclass(frozen=True)
    class WithData:
        data: str  # a setting of the same name as what the record calls the hashes

    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text('{"text": "an animal"}\n')
    path = {"file": "rows/a.jsonl", "folder": "rows", "glob": "rows/*.jsonl"}[was]

    def begin(**options):
        where = str(tmp_path / path)
        return Run.start(
            Stage("s"), RunConfig(output_dir=str(tmp_path / "run"), **options), WithData(where), data=[where]
        )

    begin()._lock.close()
    begin(resume=True)._lock.close()
    (tmp_path / "rows" / ("b.jsonl" if now else "a.jsonl")).write_text('{"text": "a vegetable"}\n')
    with pytest.raises(ValueError, match=r"other settings \(data: [0-9a-f]{12} -> [0-9a-f]{12}\)"):
        begin(resume=True)


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
        return Run.start(
            Stage("dpo"), RunConfig(output_dir=str(tmp_path / "a"), **options), RowsOfEach(batch_size=batch_size)
        )

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
        declared = Stage(stage, own_loop=stage == "pretrain")
        return Run.start(declared, RunConfig(output_dir=str(tmp_path / "a"), **options), RowsOfEach(batch_size=8))

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
        "from recipes.run.run import Run, RunConfig\nfrom recipes.run.stage import Stage\n"
        f"run = Run.start(Stage('base'), RunConfig(output_dir={str(tmp_path / 'a')!r}))\nprint('open', flush=True)\ninput()"
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


def test_a_failed_evaluation_loses_no_training_and_may_be_resumed_with_another_suite(tmp_path, tokenizer):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Hi", "completion": "Yes."}\n')
    for name, tokens in (("long", 500), ("short", 4)):  # 500 new tokens leave no room in the model's 128 positions
        settings = f"{{path: {tmp_path / 'rows.jsonl'}, max_new_tokens: {tokens}}}"
        (tmp_path / f"{name}.yaml").write_text(f"random_init: 0\ngeneration: {{g: {settings}}}\n")
    run = start(tmp_path / "a", evaluation=str(tmp_path / "long.yaml"))
    run.note("rows", 7)
    with pytest.raises(ValueError, match="max_new_tokens 500 leaves no room"):
        run.finish(random_model("llama", len(tokenizer)), tokenizer, steps=3)
    run._lock.close()
    again = start(tmp_path / "a", resume=True, evaluation=str(tmp_path / "short.yaml"))
    assert again.is_trained
    manifest = json.loads((again.finish() / "manifest.json").read_text())
    assert manifest["steps"] == 3 and manifest["notes"]["rows"] == 7
    assert manifest["evaluation"]["g/stop_rate"]["n"] == 1 and "model.safetensors" in manifest["files"]
