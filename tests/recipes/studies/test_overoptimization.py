"""The sweep from files to a finished run and a report, on random weights; what it refuses; what it does not do twice."""

import copy
import json
import subprocess
import sys

import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification

from base_model.chat import set_chat_template
from recipes.run.record import read_manifest
from recipes.studies.overoptimization import CONFIG_TYPES, OveroptimizationConfig, main, toy_curves, variants
from tests.conftest import random_model, write_checkpoint
from tests.eval.runs import write_run
from tests.recipes import shrunken
from tests.recipes.shrunken import TINY


@pytest.fixture(scope="module")
def settings(tmp_path_factory, tokenizer):
    """The recipe's settings: one variant of each method, two seeds, five prompts, two updates."""
    folder, chat = tmp_path_factory.mktemp("sweep"), set_chat_template(copy.deepcopy(tokenizer))
    config = random_model("llama", len(chat)).config
    config.num_labels = 1
    torch.manual_seed(1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder / "reward")
    chat.save_pretrained(folder / "reward")
    record = json.dumps({"kind": "tell", "expect": "answer", "must": [["baker"]], "words": [1, 10]})
    asked = [[{"role": "user", "content": f"Tell story {i}"}] for i in range(8)]
    rows = {
        "prompts": [{"prompt": prompt, "record": record} for prompt in asked],
        "heldout": [{"prompt": prompt, "record": record} for prompt in asked[:5]],
        "pairs": [{"prompt": prompt, "chosen": "yes, of course", "rejected": "no"} for prompt in asked],
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    quick = {"output_dir": "unused", "use_cpu": True, "bf16": False, "disable_tqdm": True, "max_steps": 2}
    ppo = quick | {"rollout_batch_size": 8, "num_mini_batches": 2, "critic_warmup_steps": 0, "eval_steps": 1}
    dpo = {"output_dir": "unused", "per_device_train_batch_size": 4, "precision": "fp32", "learning_rate": 1e-3}
    for name, stage in (("ppo", ppo), ("dpo", dpo)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(stage))
    return {
        "model": str(write_checkpoint(folder / "policy", chat)),
        "reward_model": str(folder / "reward"),
        **{name: str(folder / f"{name}.jsonl") for name in rows},
        "gold": "tinytown_gold",
        "ppo_config": str(folder / "ppo.yaml"),
        "ppo_kl_coef": [0.1],
        "dpo_config": str(folder / "dpo.yaml"),
        "dpo_beta": [0.5],
        "seeds": [1, 2],
        "best_of": 4,
        "max_new_tokens": 8,
    }


def run(settings, folder, *flags, **changes):
    """The recipe in this process; its stages in theirs."""
    folder.mkdir(exist_ok=True)
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(settings | {"output_dir": str(folder / "overoptimization")} | changes))
    return main(["--config", str(file), *flags])


def test_a_sweep_leaves_points_figures_and_a_place_in_the_report(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "recipes.pipeline.fingerprint.code_sha256", lambda module: "same"
    )  # whoever edits the code meanwhile
    from recipes.compare import main as compare

    folder = run(settings, tmp_path)
    manifest = read_manifest(folder)
    assert manifest["stage"] == "overoptimization" and len(manifest["parents"]) == 2 and len(manifest["data"]) == 3
    values = json.loads((folder / "points.json").read_text())
    found = {(point["method"], point["setting"]): point for point in values["points"]}
    of_training = [("ppo", "kl_coef 0.1"), ("dpo", "beta 0.5"), *(("ppo trajectory", f"step {i}") for i in range(3))]
    assert list(found) == [*of_training, *(("best-of-n", f"n {n}") for n in (1, 2, 4))]
    assert [found[key]["seeds"] for key in of_training] == [2] * 5
    assert all(found[key]["proxy"]["n"] == 2 * 5 for key in of_training)  # every held-out prompt, for both seeds
    assert found["ppo trajectory", "step 0"]["kl_nats"] == pytest.approx(0, abs=1e-4)
    assert found["dpo", "beta 0.5"]["kl_nats"] > 0 and not found["dpo", "beta 0.5"]["kl_is_bound"]
    assert "ppo trajectory, gold" in (folder / "figure.svg").read_text()
    assert "exact tilt, gold" in (folder / "toy.svg").read_text()

    sweep = tmp_path / "overoptimization-sweep"
    stages = sorted(path.parent.name for path in sweep.glob("*/manifest.json"))
    assert stages == ["dpo-beta-0.5-seed-1", "dpo-beta-0.5-seed-2", "ppo-kl_coef-0.1-seed-1", "ppo-kl_coef-0.1-seed-2"]
    times = {path: path.stat().st_mtime_ns for path in sweep.glob("*/manifest.json")}
    before = (folder / "points.json").read_bytes()
    lost = sweep / "dpo-beta-0.5-seed-2" / "manifest.json"
    lost.unlink()  # as where the sweep was stopped before this one had finished
    (lost.parent / "started.json").write_text("{}")
    run(settings, tmp_path, "--overwrite")
    assert [path for path, before_ns in times.items() if path.stat().st_mtime_ns != before_ns] == [lost]
    assert (folder / "points.json").read_bytes() == before  # it alone was trained again, to the same bits

    page = compare([str(write_run(tmp_path / "base", quality=0.3)), str(folder)]).read_text()
    assert page.count('src="data:image/svg+xml;base64,') == 2 and "kl_coef 0.1" in page


def test_a_variant_is_trained_anew_when_its_data_or_its_parents_weights_are_others(settings, tmp_path):
    from safetensors.torch import load_file, save_file

    policy = tmp_path / "policy"
    policy.mkdir()
    weights = load_file(f"{settings['model']}/model.safetensors")
    save_file(weights, policy / "model.safetensors")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("{}\n")
    config = OveroptimizationConfig(**settings | {"model": str(policy), "pairs": str(pairs)})
    (stage, _) = variants(config, tmp_path, prompts=5)["dpo", "beta 0.5"]
    before = stage.inputs()
    pairs.write_text("{}\n{}\n")
    after_data = stage.inputs()
    save_file({name: tensor + 1 for name, tensor in weights.items()}, policy / "model.safetensors")
    after_weights = stage.inputs()
    assert [name for name in before if before[name] != after_data[name]] == ["data"]
    assert [name for name in before if after_data[name] != after_weights[name]] == ["model"]


def test_only_the_swept_setting_and_the_seed_differ_between_variants(settings, tmp_path):
    config = OveroptimizationConfig(**settings | {"dpo_beta": [0.5, 0.1]})
    stages = [
        stage.settings
        for (method, _), seeds in variants(config, tmp_path, 5).items()
        if method == "dpo"
        for stage in seeds
    ]
    assert [(stage.pop("beta"), stage.pop("seed")) for stage in stages] == [(0.5, 1), (0.5, 2), (0.1, 1), (0.1, 2)]
    assert stages[1:] == stages[:-1]


def tiny_stanza():
    """The stage that the tiny config shows in its first lines, as YAML reads it."""
    lines = (TINY / "overoptimization.yaml").read_text(encoding="utf-8").splitlines()
    start = lines.index("#   overoptimization:")
    return yaml.safe_load("\n".join(line[4:] for line in lines[start:] if line.startswith("#   ")))


def test_the_stage_that_the_tiny_config_shows_fits_into_the_tiny_pipeline():
    from recipes.pipeline.graph import PipelineConfig, build

    pipeline = yaml.safe_load((TINY / "pipeline.yaml").read_text(encoding="utf-8"))
    pipeline["stages"] |= tiny_stanza()
    stage = build(PipelineConfig(**pipeline))[-1]
    assert set(stage.parents) == {"lora_sft", "reward_model", "data", "preferences"}
    known = {name for kind in CONFIG_TYPES for name in kind.__dataclass_fields__}
    assert set(stage.merged()) <= known and stage.merged()["pairs"] == "runs/tiny/preferences/train.jsonl"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_shrunken_tiny_pipeline_runs_the_sweep_as_a_stage_and_its_report_shows_it(tmp_path):
    from recipes.pipeline.fingerprint import ROOT

    before = ["data", "cleaned", "tokenizer", "base", "domain_sft", "lora_sft", "preferences", "reward_model"]
    path = shrunken.write(tmp_path, before)
    pipeline = yaml.safe_load(path.read_text(encoding="utf-8"))
    stanza = tiny_stanza()
    ppo = {name: value for name, value in shrunken.SHRUNK["ppo"].items() if name != "max_completion_length"}
    quick = {"ppo_set": ppo, "dpo_set": shrunken.SHRUNK["dpo"], "best_of": 4, "max_new_tokens": 16, "seeds": [1, 2]}
    stanza["overoptimization"]["config"] = str(path.parent / "overoptimization.yaml")
    stanza["overoptimization"]["set"] |= quick | {"ppo_kl_coef": [0.2, 0.0], "dpo_beta": [1.0, 0.1]}
    pipeline["stages"] |= stanza
    path.write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "recipes.pipeline", "--config", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    runs = tmp_path / "runs"
    points = json.loads((runs / "overoptimization" / "points.json").read_text())["points"]
    of_training = [point for point in points if point["method"] in ("ppo", "dpo")]
    assert [point["setting"] for point in of_training] == ["kl_coef 0.2", "kl_coef 0", "beta 1", "beta 0.1"]
    assert all(point["seeds"] == 2 and point["kl_nats"] > 0 for point in of_training)
    assert len(list((runs / "overoptimization-sweep").glob("*/eval.json"))) == 8  # each was measured as its stage is
    page = (runs / "report.html").read_text()
    assert page.count('src="data:image/svg+xml;base64,') == 2 and "overoptimization: gold and proxy" in page
    again = subprocess.run([*command, "--dry_run"], cwd=ROOT, capture_output=True, text=True)
    assert "0 of 9 stages would run" in again.stdout


def test_the_toy_shows_gold_fall_under_the_tilt_and_best_of_n_under_its_bound():
    from alignment.best_of_n import kl_bound_nats

    best_of_n, tilt = toy_curves()
    gold = [row["gold"] for row in tilt]
    assert max(gold) > gold[0] + 0.2 and gold[-1] < gold[0] - 0.05
    assert all(point.kl_nats <= kl_bound_nats(2**k) + 1e-9 for k, point in enumerate(best_of_n))


def test_an_unknown_setting_of_a_stage_is_named_before_anything_runs(settings, tmp_path):
    with pytest.raises(ValueError, match="unknown key 'betta' in dpo_set; did you mean 'beta'"):
        run(settings, tmp_path, dpo_set={"betta": 1})
    assert not (tmp_path / "overoptimization").exists()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"seeds": []}, r"seeds must hold distinct values, at least one; got \[\]"),
        ({"dpo_beta": [0.1, 0.1]}, r"dpo_beta must hold distinct values, at least one; got \[0.1, 0.1\]"),
        ({"best_of": 0}, "best_of must be at least 1, got 0"),
        ({"gold": "r", "reward_model": "r"}, "r is both reward_model and gold: what is trained on measures nothing"),
    ],
)
def test_impossible_settings_are_refused(settings, changes, said):
    with pytest.raises(ValueError, match=said):
        OveroptimizationConfig(**settings | changes)
