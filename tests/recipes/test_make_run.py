"""The whole pipeline from nothing to a report, shrunk: what `make run` promises."""

import json
import os
import subprocess
import sys

import pytest

from recipes.pipeline.fingerprint import ROOT
from recipes.run.record import read_manifest
from tests.recipes import shrunken

MODELS = ("base", "domain_sft", "lora_sft", "ppo", "dpo")


def run(path, *more):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "recipes.pipeline", "--config", str(path), *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder of the runs, config, what the first run printed)."""
    folder = tmp_path_factory.mktemp("pipeline")
    path = shrunken.write(folder)
    done = run(path)
    assert done.returncode == 0, done.stderr
    return folder / "runs", path, done.stdout


@pytest.mark.timeout(600)
def test_every_stage_leaves_a_finished_run_and_the_report_is_written(finished):
    runs, _, printed = finished
    for stage in ("data", "cleaned", "tokenizer", *MODELS, "preferences", "reward_model"):
        assert read_manifest(runs / stage) is not None, stage
        assert f"{stage}: done" in printed
    assert (runs / "report.html").is_file() and (runs / "report.md").is_file()
    assert str(runs / "report.html") in printed


def test_a_stages_log_holds_lines_and_no_bars(finished):
    runs, _, _ = finished
    logs = {path.stem: path.read_bytes() for path in (runs / "logs").iterdir()}
    assert {"base", "ppo", "dpo"} < set(logs)
    assert [name for name, text in logs.items() if b"\r" in text or b"Loading weights" in text] == []
    assert b"step 2/2: score" in logs["ppo"]  # what the bar would have shown


def test_every_model_loads_through_the_auto_classes_and_was_evaluated(finished):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    runs, _, _ = finished
    for stage in MODELS:
        model, tokenizer = (
            AutoModelForCausalLM.from_pretrained(runs / stage),
            AutoTokenizer.from_pretrained(runs / stage),
        )
        ids = tokenizer("The baker", return_tensors="pt")
        assert model(input_ids=ids["input_ids"]).logits.shape[-1] == model.config.vocab_size
        assert json.loads((runs / stage / "eval.json").read_text())["metrics"]
        assert (runs / stage / "samples.jsonl").stat().st_size > 0
        assert "AutoModelForCausalLM" in (runs / stage / "README.md").read_text()
    assert AutoModelForSequenceClassification.from_pretrained(runs / "reward_model").config.num_labels == 1


def test_all_stages_were_measured_on_the_same_items(finished):
    runs, _, _ = finished
    suites = {json.loads((runs / stage / "eval.json").read_text())["suite"]["sha256"] for stage in MODELS}
    assert len(suites) == 1


def test_a_second_run_does_nothing_and_says_so(finished):
    _, path, _ = finished
    again = run(path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("kept (unchanged") == 10 and "done in" not in again.stdout


def test_the_lineage_of_every_model_verifies(finished):
    from recipes.lineage import trace

    runs, _, _ = finished
    for stage in MODELS:
        assert trace(runs / stage).all_problems() == []


def test_from_a_stage_runs_it_and_nothing_beside(finished):
    _, path, _ = finished
    dry = run(path, "--dry_run", "--from", "dpo")
    assert "1 of 10 stages would run" in dry.stdout
