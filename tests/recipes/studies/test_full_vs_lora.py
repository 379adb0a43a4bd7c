"""The table of variants of one stage."""

import json

import pytest
import yaml

from recipes.studies import full_vs_lora
from tests.conftest import TEXTS


@pytest.fixture(scope="module")
def stage(llama_checkpoint, tmp_path_factory):
    """A stage config on random weights with a suite of a few items."""
    folder = tmp_path_factory.mktemp("stage")
    turns = [
        ({"role": "user", "content": TEXTS[i % 4]}, {"role": "assistant", "content": TEXTS[(i + 1) % 4]})
        for i in range(40)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps({"messages": turn}) + "\n" for turn in turns))
    heldout = [{"prompt": [turn[0]], "completion": turn[1]["content"]} for turn in turns[:4]]
    (folder / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in heldout))
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:4]))
    suite = {
        "likelihood": {"general": {"path": str(folder / "text.jsonl")}},
        "generation": {"instructions": {"path": str(folder / "heldout.jsonl"), "max_new_tokens": 8}},
    }
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    settings = {
        "model": str(llama_checkpoint),
        "data": str(folder / "train.jsonl"),
        "evaluation": str(folder / "suite.yaml"),
        "output_dir": str(folder / "unused"),
        "max_steps": 6,
        "learning_rate": 0.01,
        "heldout_rows": 4,
        "stop_within_tokens": 8,
        "precision": "fp32",
        "per_device_train_batch_size": 4,
    }
    (folder / "stage.yaml").write_text(yaml.safe_dump(settings))
    return folder / "stage.yaml"


def arguments(stage, folder, variants, learned="general/bits_per_byte"):
    config = stage.parent / "variants.yaml"
    settings = {"output_dir": str(folder), "stage_config": str(stage), "variants": variants, "learned": [learned]}
    config.write_text(yaml.safe_dump(settings))
    return ["--config", str(config)]


@pytest.mark.slow
def test_the_table_has_each_variants_change_and_cost(stage, tmp_path):
    variants = {"full": {"use_peft": False}, "LoRA": {"lora_r": 4}}
    written = full_vs_lora.main(arguments(stage, tmp_path / "out", variants))
    rows = {row["variant"]: row for row in json.loads((tmp_path / "out" / "full_vs_lora.json").read_text())}
    for name, row in rows.items():
        folder = tmp_path / "out" / name
        record = json.loads((folder / "manifest.json").read_text())
        value = record["evaluation"]["general/bits_per_byte"]["value"]
        parent = json.loads(next((tmp_path / "out" / "evaluations").glob("*/eval.json")).read_text())
        before = next(m["value"] for m in parent["metrics"] if (m["set"], m["name"]) == ("general", "bits_per_byte"))
        change = row["changes"]["general/bits_per_byte"]
        assert change["value"] == value and change["mean"] == pytest.approx(value - before, abs=1e-9)
        assert change["low"] <= change["mean"] <= change["high"]
        assert row["trained_parameters"] == record["trained_parameters"]
    assert rows["full"]["trained_parameters"] > rows["LoRA"]["trained_parameters"]
    text = written.read_text()
    assert text.count("\n| ") == 4 and "learned: general/bits_per_byte" in text and "| full |" in text


def test_a_setting_that_the_stage_does_not_have_is_named_before_anything_runs(stage, tmp_path):
    with pytest.raises(ValueError, match="unknown key 'lora_rank' in variant 'b'"):
        full_vs_lora.main(arguments(stage, tmp_path / "out", {"a": {}, "b": {"lora_rank": 4}}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"variants": {"a": {}}}, "variants needs at least two to compare"),
        ({"recipe": "tokenizer"}, "recipe is 'tokenizer'; use one of pretrain, domain_sft, lora_sft,"),
        ({"learned": []}, "learned must name at least one metric"),
    ],
)
def test_settings_that_make_no_table_are_refused(settings, message):
    good = {"output_dir": "a", "stage_config": "b", "variants": {"a": {}, "b": {}}, "learned": ["x/y"]}
    with pytest.raises(ValueError, match=message):
        full_vs_lora.VariantsConfig(**(good | settings))


def test_a_metric_that_was_not_measured_is_named_with_those_that_were():
    class Comparison:
        keys = ("general/bits_per_byte",)

    with pytest.raises(ValueError, match="the suite has no metric 'general/bpb'; it has general/bits_per_byte"):
        full_vs_lora.table(Comparison(), ["a"], ["general/bpb"])
