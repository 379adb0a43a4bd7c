"""The configs for GPUs, every stage shrunk, on local folders in the form of the hub's data sets: their files' names and their columns."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.torch import load_file

from alignment.ppo.config import PPOConfig
from base_model.batches import share_batch
from recipes.pipeline import __main__ as pipeline
from recipes.pipeline.fingerprint import ROOT
from recipes.run.cli import load_yaml
from recipes.run.process import LaunchedProcess, wait_for
from recipes.run.record import read_manifest
from tests.conftest import TEXTS

MODELS = ("gpt2-124m", "llama-350m")
GPU = ROOT / "recipes" / "configs" / "gpu"
HUB = {  # name in the configs -> local folder
    "HuggingFaceFW/fineweb-edu:sample-10BT": "fineweb-edu",
    "HuggingFaceTB/smoltalk:all": "smoltalk",
    "HuggingFaceH4/ultrafeedback_binarized": "ultrafeedback_binarized",
    "trl-lib/ultrafeedback-prompt": "ultrafeedback-prompt",
}
SHRUNK = {
    "tokenizer": {"vocab_size": 512, "validation_documents": 10, "tokenizer_documents": 50},
    "base": {
        **{"n_layer": 1, "n_head": 2, "n_kv_head": 2, "d_model": 32, "context_length": 128, "steps": 6},
        **{"warmup_steps": 1, "batch_size": 8, "per_device_train_batch_size": 4, "precision": "fp32"},
        **{"compile": False, "save_every": 0, "eval_batches": 2},
    },
    "lora_sft": {
        **{"batch_size": 8, "per_device_train_batch_size": 4, "max_steps": 3, "save_steps": 0, "precision": "fp32"},
        **{"heldout_rows": 4, "stop_within_tokens": 8, "packing": False},
    },
    "reward_model": {"batch_size": 8, "per_device_train_batch_size": 4, "save_steps": 0, "precision": "fp32"},
    "dpo": {"batch_size": 8, "per_device_train_batch_size": 4, "save_steps": 0, "precision": "fp32"},
    "ppo": {
        **{"max_steps": 1, "rollout_batch_size": 8, "num_mini_batches": 2, "per_device_train_batch_size": 4},
        **{"max_completion_length": 8, "heldout_rows": 4, "bf16": False, "eval_strategy": "no", "save_strategy": "no"},
    },
}


def said(role, text):
    return {"content": text, "role": role}


def write(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The four data sets, small, with the columns that their cards list."""
    folder = tmp_path_factory.mktemp("hub")
    pages = [
        {"text": f"{i}. {TEXTS[i % 4]} " * 4, "id": str(i), "url": "", "language": "en", "score": 3.0}
        for i in range(90)
    ]
    write(folder / "fineweb-edu" / "sample" / "10BT" / "000_00000.parquet", pages)
    for split, count in (("train", 40), ("test", 8)):
        chats = [
            {"messages": [said("user", f"{split} {i}?"), said("assistant", TEXTS[i % 4])], "source": "made"}
            for i in range(count)
        ]
        write(folder / "smoltalk" / "data" / "all" / f"{split}-00000-of-00001.parquet", chats)
        prompts = [{"prompt": [said("user", f"{split} write {i}")]} for i in range(count)]
        write(folder / "ultrafeedback-prompt" / "data" / f"{split}-00000-of-00001.parquet", prompts)
    for split, count in (("train_prefs", 40), ("test_prefs", 8), ("train_sft", 3)):
        pairs = []
        for i in range(count):
            prompt = f"{split} tell {i}"
            chosen, rejected = (
                [said("user", prompt), said("assistant", f"{text} {i}")] for text in ("yes, gladly", "no")
            )
            scores = {"score_chosen": 8.0, "score_rejected": 8.0 if i == 5 else 6.5}
            row = {"prompt": prompt, "prompt_id": str(i), "chosen": chosen, "rejected": rejected, "messages": chosen}
            pairs.append(row | scores)
        write(folder / "ultrafeedback_binarized" / "data" / f"{split}-00000-of-00001.parquet", pairs)
    return folder


def shrunken(name, hub, folder):
    """The pipeline of the configs, with local folders for hub ids and every stage shrunk; returns its file."""
    for file in (GPU / name).glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        for theirs, ours in HUB.items():
            text = text.replace(theirs, str(hub / ours))
        text = text.replace(f"runs/gpu/{name}", str(folder / "runs")).replace(
            f"recipes/configs/gpu/{name}", str(folder)
        )
        (folder / file.name).write_text(text, encoding="utf-8")
    suite = yaml.safe_load((folder / "evaluation.yaml").read_text())
    suite |= {"benchmarks": [], "random_init": 0}  # the benchmarks' data is on the hub
    suite["likelihood"]["fineweb_edu"]["limit"] = 4
    suite["generation"]["sampled"] |= {"limit": 4, "max_new_tokens": 8}
    suite["kl"] |= {"limit": 4, "max_new_tokens": 8}
    (folder / "evaluation.yaml").write_text(yaml.safe_dump(suite))
    graph = yaml.safe_load((folder / "pipeline.yaml").read_text())
    for stage, entry in graph["stages"].items():
        entry["set"] |= SHRUNK[stage]
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    return folder / "pipeline.yaml"


@pytest.mark.parametrize("name", ["gpt2-124m", pytest.param("llama-350m", marks=pytest.mark.slow)])
def test_the_pipeline_goes_from_text_to_aligned_models(hub, tmp_path, name):
    file = shrunken(name, hub, tmp_path)
    assert pipeline.main(["--config", str(file)]).is_file()
    record = {stage: read_manifest(tmp_path / "runs" / stage) for stage in SHRUNK}
    assert record["tokenizer"]["notes"]["training"]["documents"] == 80
    assert record["base"]["tokens"] == 6 * 8 * 128
    assert record["lora_sft"]["notes"]["rows"]["read"] == 40  # the training split's
    for stage in ("reward_model", "dpo"):
        assert record[stage]["steps"] == 39 // 8  # 40 pairs of train_prefs, one of them tied
    assert record["reward_model"]["notes"]["pair_counts"]["heldout"]["pairs"] == 7
    assert {"fineweb_edu/bits_per_byte", "sampled/reward_model"} <= set(record["ppo"]["evaluation"])


@pytest.mark.slow
def test_a_pipelines_stage_on_two_processes_leaves_what_one_does(hub, tmp_path):
    file = shrunken("gpt2-124m", hub, tmp_path)
    graph = yaml.safe_load(file.read_text())
    graph["stages"] = {name: graph["stages"][name] for name in ("tokenizer", "base")}
    file.write_text(yaml.safe_dump(graph | {"baseline": None}, sort_keys=False))
    pipeline.main(["--config", str(file)])
    before = load_file(tmp_path / "runs" / "base" / "model.safetensors")
    accelerate = ["--accelerate", str(ROOT / "recipes/configs/accelerate/ddp.yaml"), "--num_processes", "2"]
    pipeline.main(["--config", str(file), "--only", "base", *accelerate])
    after = load_file(tmp_path / "runs" / "base" / "model.safetensors")
    assert "accelerate.commands.launch" in (tmp_path / "runs" / "logs" / "base.txt").read_text()
    assert max((after[key] - before[key]).abs().max() for key in before) < 1e-5  # of weights that moved by 1e-3


def test_a_launched_stage_that_fails_says_why_in_one_line(tmp_path):
    ddp = str(ROOT / "recipes/configs/accelerate/ddp.yaml")
    arguments = ["--output_dir", str(tmp_path / "run"), "--steps", "0"]
    launched = LaunchedProcess("recipes.pretrain", arguments, tmp_path / "log.txt", accelerate_config=ddp, processes=1)
    assert wait_for(launched) == "steps is 0; it must be at least 1"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_the_global_batch_is_the_same_on_one_to_eight_gpus(name, processes):
    batches = {}
    for stage in ("pretrain", "lora_sft", "reward_model", "dpo"):
        settings = load_yaml(GPU / name / f"{stage}.yaml")
        rows, passes = share_batch(settings["batch_size"], processes, settings["per_device_train_batch_size"])
        assert rows <= settings["per_device_train_batch_size"]
        batches[stage] = rows * passes * processes
    assert batches == {
        "pretrain": {"gpt2-124m": 512, "llama-350m": 256}[name],
        "lora_sft": 128,
        "reward_model": 64,
        "dpo": 64,
    }
    ppo = load_yaml(GPU / name / "ppo.yaml")
    known = PPOConfig.__dataclass_fields__
    PPOConfig(**{key: value for key, value in ppo.items() if key in known}).check_processes(processes)


def test_the_two_models_run_the_same_stages_on_the_same_data():
    graphs = [load_yaml(GPU / name / "pipeline.yaml")["stages"] for name in MODELS]
    assert [list(graph) for graph in graphs] == [list(SHRUNK)] * 2
    for stage in ("tokenizer", "lora_sft", "reward_model", "dpo", "ppo"):
        first, second = (load_yaml(GPU / name / f"{stage}.yaml") for name in MODELS)
        assert first["data"] == second["data"] and first["data"].split("@")[0] in HUB
        assert json.dumps(first.get("heldout")) == json.dumps(second.get("heldout"))
