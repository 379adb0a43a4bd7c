"""CONTRIBUTING.md's worked example, its files as they are: found as a command and a stage, it trains, and its own test passes."""

import copy
import json
import re

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from base_model.chat import set_chat_template
from recipes.pipeline.fingerprint import ROOT
from recipes.run import stage
from recipes.run.cli import load_yaml
from recipes.run.record import read_manifest
from tests.conftest import random_model, write_checkpoint

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```(?:python|yaml)\n# ([\w/]+\.\w+)\n(.*?)```", TEXT, re.S))


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The example's files in a folder of their own, which the packages have as a further place for modules."""
    import alignment
    import recipes

    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    for package in (alignment, recipes):
        folder = str(tmp_path / package.__name__)
        monkeypatch.setattr(package, "__path__", [*package.__path__, folder])
    monkeypatch.setattr(stage, "RECIPES", tmp_path / "recipes")
    return tmp_path


def test_the_worked_example_is_a_stage_that_trains_and_its_test_passes(example, tokenizer):
    chat = set_chat_template(copy.deepcopy(tokenizer))
    config = random_model("llama", len(chat)).config
    config.num_labels = 1
    torch.manual_seed(1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(example / "reward")
    chat.save_pretrained(example / "reward")
    parent = write_checkpoint(example / "parent", chat)
    rows = "".join(json.dumps({"prompt": f"Tell me of day {i}."}) + "\n" for i in range(6))
    (example / "prompts.jsonl").write_text(rows, encoding="utf-8")

    found = stage.commands.__wrapped__()["raft"]
    assert found.stage.kind == "alignment" and found.module == "recipes.raft"
    assert set(load_yaml(example / "recipes/configs/tiny/raft.yaml")) >= {"model", "reward_model", "data", "n"}

    config_file = example / "recipes/configs/tiny/raft.yaml"
    config_file.write_text(
        re.sub("evaluation: .*\n", "", config_file.read_text())
    )  # a suite of the tiny pipeline's data

    from recipes.raft import STAGE, main

    assert found.stage == STAGE
    folder = main(
        ["--config", str(config_file), "--output_dir", str(example / "out"), "--model", str(parent),
         "--reward_model", str(example / "reward"),
         "--data", str(example / "prompts.jsonl"), "--n", "2", "--max_new_tokens", "6", "--max_steps", "2"]
    )  # fmt: skip
    manifest = read_manifest(folder)
    assert manifest["stage"] == "raft" and manifest["steps"] == 2
    assert "aligned by RAFT" in (folder / "README.md").read_text()
    scope: dict = {}
    exec(FILES["tests/alignment/test_raft.py"], scope)
    scope["test_the_longest_answer_is_kept_where_length_is_the_score"]()
