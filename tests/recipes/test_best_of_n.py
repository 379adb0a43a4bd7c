"""Best-of-n as a run that stands beside trained models in a comparison."""

import copy
import json

import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification

from base_model.chat import set_chat_template
from recipes import compare
from recipes.best_of_n import BestOfNConfig, main
from recipes.run.record import read_manifest
from tests.conftest import random_model, write_checkpoint
from tests.eval.runs import write_manifest


@pytest.fixture
def parents(tmp_path, tokenizer):
    """(model folder, reward model folder, suite file)."""
    chat = set_chat_template(copy.deepcopy(tokenizer))
    config = random_model("llama", len(chat)).config
    config.num_labels = 1
    torch.manual_seed(1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "reward")
    chat.save_pretrained(tmp_path / "reward")
    record = json.dumps({"kind": "tell", "expect": "answer", "must": [["baker"]], "words": [1, 10]})
    rows = [
        {"prompt": [{"role": "user", "content": f"Tell {i}"}], "completion": "a story", "record": record}
        for i in range(6)
    ]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = {"path": str(tmp_path / "asked.jsonl"), "max_new_tokens": 8, "judges": ["tinytown_gold"]}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({"generation": {"asked": asked}, "random_init": 0}))
    return write_checkpoint(tmp_path / "lora_sft", chat), tmp_path / "reward", tmp_path / "suite.yaml"


def test_it_stands_beside_models_with_win_rates_a_bound_and_its_cost(parents, tmp_path, capsys):
    model, reward, suite = map(str, parents)
    folder = main(
        [
            *("--model", model, "--reward_model", reward, "--n", "4"),
            *("--evaluation", suite, "--output_dir", str(tmp_path / "best_of_4")),
        ]
    )
    manifest = read_manifest(folder)
    assert [parent["path"] for parent in manifest["parents"]] == [model, reward] and manifest["config"]["n"] == 4
    assert not list(folder.glob("*.safetensors")) and manifest["notes"]["seconds_per_prompt"] > 0
    write_manifest(tmp_path / "sweep")  # a run that holds neither a model nor an evaluation: tables and figures
    models = [model, str(folder), str(tmp_path / "sweep")]
    html = compare.main([*models, "--suite", suite, "--output", str(tmp_path / "report")])
    text = html.with_suffix(".md").read_text()
    assert "| kl/kl\\_nats\\_bound | 0 | – | – | – | 0.636 |" in text  # log 4 - 3/4; none was measured for the model
    assert "| asked/sampled\\_tokens | 6 |" in text
    assert "| best\\_of\\_4 | lora\\_sft" in text.split("## Win rates, pairwise")[1]
    assert "asked/tinytown_gold: row preferred" in " ".join(capsys.readouterr().out.split())


def test_without_a_suite_there_is_nothing_to_do(parents, tmp_path):
    model, reward, _ = map(str, parents)
    with pytest.raises(ValueError, match="say on what with --evaluation SUITE.yaml"):
        main(["--model", model, "--reward_model", reward, "--output_dir", str(tmp_path / "out")])
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        BestOfNConfig(model, reward, n=0)
