"""The whole laptop pipeline on the first rows of its real files, shrunk: minutes, so marked slow."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from recipes.pipeline.fingerprint import ROOT
from recipes.run.cli import load_yaml
from recipes.run.record import read_manifest
from tests.recipes import shrunken

MODELS = ("base", "domain_sft", "lora_sft", "ppo", "dpo")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_laptop_pipeline_runs_and_its_gold_model_judges_every_stage_after_the_base(data_folder, tmp_path):
    sources = shrunken.shorten_sources(load_yaml(shrunken.CONFIGS / "laptop" / "data.yaml"), tmp_path / "sources")
    path = shrunken.write(
        tmp_path, name="laptop", data={**shrunken.LAPTOP_SHRUNK["data"], **sources}, ppo={"heldout_rows": 8}
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PLUMBLINE_DATA": str(data_folder)}
    command = [sys.executable, "-m", "recipes.pipeline", "--config", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    runs = tmp_path / "runs"
    for stage in yaml.safe_load(path.read_text())["stages"]:
        assert read_manifest(runs / stage) is not None, stage
    evaluations = {stage: json.loads((runs / stage / "eval.json").read_text()) for stage in MODELS}
    assert len({evaluation["suite"]["sha256"] for evaluation in evaluations.values()}) == 1
    sets = {stage: {m["set"] for m in evaluation["metrics"]} for stage, evaluation in evaluations.items()}
    benchmarks = {"blimp", "lambada_openai", "hellaswag", "bbq", "truthfulqa_mc2", "harmless_pairs"}
    assert all(benchmarks < of_stage for of_stage in sets.values())
    gold = {
        stage: [m["set"] for m in evaluation["metrics"] if m["name"].endswith("gold_model")]
        for stage, evaluation in evaluations.items()
    }
    assert gold == {stage: [] if stage == "base" else ["sampled", "instructions"] for stage in MODELS}
    assert (runs / "report.html").is_file() and "gold" in (runs / "report.md").read_text()

    def runs_of_13(folder):
        texts = [json.loads(line)["text"] for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]
        words = [re.findall(r"\w+", text.lower()) for text in texts]
        return {tuple(of_text[i : i + 13]) for of_text in words for i in range(len(of_text) - 12)}

    held, learnt = runs_of_13(runs / "data" / "general_heldout"), runs_of_13(runs / "cleaned" / "general")
    assert held and learnt and not held & learnt
