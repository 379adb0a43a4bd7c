"""The graph: order, references, decisions. (Whole pipelines run in test_make_run.py.)"""

import json

import pytest

from recipes.pipeline.graph import PipelineConfig, build, decider, ordered

STAGES = {
    "ppo": {"recipe": "ppo", "set": {"model": "{sft}", "reward_model": "{reward}"}, "compared": True},
    "reward": {"recipe": "reward_model", "set": {"model": "{sft}"}},
    "sft": {"recipe": "lora_sft", "set": {"train": ["{data}/a.jsonl", "{data}/b.jsonl"]}},
    "data": {"recipe": "tinytown", "seeded": False, "set": {"documents": 10}},
}


def pipeline(folder, stages=STAGES, **options):
    return PipelineConfig(output_dir=str(folder), stages=stages, **options)


def finish(stage, files=("a",), data=()):
    """What a stage leaves on disk when it ended well, as far as the pipeline reads it."""
    stage.folder.mkdir(parents=True, exist_ok=True)
    record = {
        "files": dict.fromkeys(files, "hash"),
        "data": list(data),
        "wall_s": 60,
        "evaluation_s": 5,
        "peak_memory_bytes": {"host": 2**30},
    }
    (stage.folder / "manifest.json").write_text(json.dumps(record))
    inputs = stage.folder.parent / ".inputs"
    inputs.mkdir(exist_ok=True)
    (inputs / f"{stage.folder.name}.json").write_text(json.dumps(stage.inputs()))


def reasons(config):
    return {d.stage.name: (d.runs, d.why) for d in map(decider(config), build(config))}


def test_parents_come_before_children_whatever_the_order_in_the_file(tmp_path):
    assert ordered(pipeline(tmp_path)) == ["data", "sft", "reward", "ppo"]


def test_references_become_folders_and_parents(tmp_path):
    stages = {stage.name: stage for stage in build(pipeline(tmp_path))}
    assert stages["sft"].settings["train"] == [f"{tmp_path}/data/a.jsonl", f"{tmp_path}/data/b.jsonl"]
    assert stages["ppo"].parents == {"sft": tmp_path / "sft", "reward": tmp_path / "reward"}
    assert stages["sft"].merged()["output_dir"] == str(tmp_path / "sft")


def test_after_makes_a_parent_of_a_stage_that_no_setting_names(tmp_path):
    graph = {**STAGES, "sft": {**STAGES["sft"], "after": ["judge"]}, "judge": {"recipe": "reward_model"}}
    assert ordered(pipeline(tmp_path, graph)) == ["data", "judge", "sft", "reward", "ppo"]
    stages = {stage.name: stage for stage in build(pipeline(tmp_path, graph))}
    assert stages["sft"].parents == {"data": tmp_path / "data", "judge": tmp_path / "judge"}
    with pytest.raises(
        ValueError, match="unknown key 'juge' in stage 'sft', a reference to a stage; did you mean 'judge'"
    ):
        ordered(pipeline(tmp_path, {**graph, "sft": {"recipe": "lora_sft", "after": ["juge"]}}))


def test_self_is_the_stages_own_folder_and_no_parent(tmp_path):
    (stage,) = build(pipeline(tmp_path, {"tok": {"recipe": "tokenizer", "set": {"shards": "{self}/shards"}}}))
    assert stage.settings["shards"] == f"{tmp_path}/tok/shards" and stage.parents == {}


@pytest.mark.parametrize(
    "change, said",
    [
        ({"sft": {"recipe": "lora_sft", "set": {"x": "{ppo}"}}}, "depend on each other in a circle"),
        (
            {"sft": {"recipe": "lora_sft", "set": {"x": "{dta}"}}},
            "unknown key 'dta' in stage 'sft', a reference to a stage; did you mean 'data'",
        ),
        ({"sft": {"recipe": "os.system"}}, "unknown key 'os.system' in stage 'sft', recipe"),
        ({"sft": {"recipe": "lora_sft", "sets": {}}}, "unknown key 'sets' in stage 'sft'; did you mean 'set'"),
        ({"sft": "lora"}, "stage 'sft' must be a mapping with a 'recipe'"),
        ({"../sft": {"recipe": "ppo"}}, "must be letters, digits"),
    ],
)
def test_a_mistake_in_the_graph_is_named(tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        ordered(pipeline(tmp_path, {**STAGES, **change}))


def test_unknown_stage_names_on_the_command_line_are_named(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'reward'"):
        ordered(pipeline(tmp_path, only="rewards"))
    with pytest.raises(ValueError, match="exclude each other"):
        pipeline(tmp_path, only="ppo", from_stage="sft")
    with pytest.raises(ValueError, match="numbers with commas"):
        pipeline(tmp_path, seeds="1;2")


def test_seeds_repeat_the_seeded_stages_and_share_the_data(tmp_path):
    stages = build(pipeline(tmp_path, seeds="1,2"))
    assert [stage.name for stage in stages] == [
        "data", "seed-1/sft", "seed-1/reward", "seed-1/ppo", "seed-2/sft", "seed-2/reward", "seed-2/ppo"
    ]  # fmt: skip
    assert [stage.settings["seed"] for stage in stages] == [1, 1, 1, 1, 2, 2, 2]
    assert stages[4].parents == {"data": tmp_path / "data"}


def test_what_is_not_there_runs_and_what_is_unchanged_does_not(tmp_path):
    config = pipeline(tmp_path)
    assert reasons(config)["data"] == (True, "not there yet")
    for stage in build(config):
        finish(stage)
    assert set(reasons(config).values()) == {(False, "unchanged")}


def test_a_changed_setting_runs_its_stage_and_children_only_if_its_files_changed(tmp_path):
    for stage in build(pipeline(tmp_path)):
        finish(stage)
    changed = pipeline(
        tmp_path, {**STAGES, "reward": {"recipe": "reward_model", "set": {"model": "{sft}", "epochs": 2}}}
    )
    assert reasons(changed) == {
        "data": (False, "unchanged"),
        "sft": (False, "unchanged"),
        "reward": (True, "changed: settings"),
        "ppo": (False, "unchanged"),
    }
    reward = next(stage for stage in build(changed) if stage.name == "reward")
    finish(reward, files=("b",))
    assert reasons(changed)["ppo"] == (True, "changed: parent reward")


def test_changed_data_or_a_changed_suite_runs_the_stage_again(tmp_path):
    from recipes.run.record import describe_data

    rows, mine, suite = tmp_path / "rows.jsonl", tmp_path / "notes", tmp_path / "suite.yaml"
    mine.mkdir()
    for file in (rows, mine / "a.txt"):
        file.write_text('{"text": "one"}\n')
    suite.write_text(f"likelihood: {{text: {{path: {rows}}}}}")
    stages = {"sft": {"recipe": "lora_sft", "set": {"data": f"{mine}/*.txt", "evaluation": str(suite)}}}
    config = pipeline(tmp_path / "runs", stages)

    def state():
        return reasons(config)["sft"][1]

    def end():
        finish(build(config)[0], data=[describe_data(f"{mine}/*.txt")])

    end()
    assert state() == "unchanged"
    (mine / "a.txt").write_text("two")
    assert state() == "changed: data"
    end()
    (mine / "b.txt").write_text("one more")
    assert state() == "changed: data"
    end()
    rows.write_text('{"text": "two"}\n')
    assert state() == "changed: suite"
    end()
    suite.write_text(suite.read_text() + "\nbatch_tokens: 64")  # changes no score
    assert state() == "unchanged"


def test_a_changed_source_file_runs_the_stage_again(tmp_path, monkeypatch):
    for stage in build(pipeline(tmp_path)):
        finish(stage)
    monkeypatch.setattr(
        "recipes.pipeline.fingerprint.code_sha256", lambda module: "other" if module == "recipes.ppo" else "same"
    )
    assert reasons(pipeline(tmp_path))["ppo"] == (True, "changed: code")


def test_from_runs_the_stage_and_all_that_descend_from_it(tmp_path):
    for stage in build(pipeline(tmp_path)):
        finish(stage)
    again = reasons(pipeline(tmp_path, from_stage="reward"))
    assert again["sft"] == (False, "unchanged")
    assert again["reward"] == (True, "asked for") and again["ppo"] == (True, "follows reward")


def test_only_runs_one_stage(tmp_path):
    assert [name for name, (runs, _) in reasons(pipeline(tmp_path, only="sft")).items() if runs] == ["sft"]


def test_an_interrupted_stage_goes_on(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "started.json").write_text("{}")
    decision = decider(pipeline(tmp_path))(build(pipeline(tmp_path))[0])
    assert decision.resume and decision.why == "interrupted: goes on"


def test_a_dry_run_says_what_would_follow_and_for_how_long(tmp_path, capsys):
    from recipes.pipeline.__main__ import main

    path = tmp_path / "p.yaml"
    path.write_text(
        json.dumps(
            {"output_dir": str(tmp_path / "runs"), "stages": {**STAGES, "data": {**STAGES["data"], "expected_s": 65}}}
        )
    )
    assert main(["--config", str(path), "--dry_run"]) is None
    out = capsys.readouterr().out
    assert "4 of 4 stages would run" in out and "1:05" in out
    assert not (tmp_path / "runs").exists()


def test_deepspeed_that_is_not_installed_is_said_before_anything_runs(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = "recipes/configs/accelerate/deepspeed_zero3.yaml"
    with pytest.raises(ValueError, match=f"{config} asks for DeepSpeed, which is not installed: pip install"):
        PipelineConfig("runs/unused", accelerate=config)
    PipelineConfig("runs/unused", accelerate="recipes/configs/accelerate/fsdp.yaml")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "found")
    PipelineConfig("runs/unused", accelerate=config)
