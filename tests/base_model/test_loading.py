"""Checkpoints are read whole, or refused by name."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BloomConfig, Gemma3Config, GPT2Config

from base_model.loading import context_length, load_model


@pytest.fixture
def edited(tmp_path, foreign_parent):
    """edited(change, family) -> a copy of a parent whose weights went through change(weights)."""

    def make(change, family="llama2"):
        folder = shutil.copytree(foreign_parent(family), tmp_path / family)
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


def test_a_missing_weight_is_refused_by_name_and_not_made_up(edited):
    folder = edited(lambda weights: weights.pop("lm_head.weight"))
    with pytest.raises(ValueError, match="llama2 lacks weights that its config.json names: lm_head.weight, 1 in all"):
        load_model(AutoModelForCausalLM, folder)


def test_a_weight_of_another_shape_is_refused_by_name(edited):
    folder = edited(lambda weights: weights.update({"model.norm.weight": torch.ones(7)}))
    with pytest.raises(ValueError, match="has weights of another shape than its config.json says: model.norm.weight"):
        load_model(AutoModelForCausalLM, folder)


def test_a_head_that_is_trained_from_here_on_may_be_new(foreign_parent):
    options = {"num_labels": 1, "pad_token_id": 0}
    with pytest.raises(ValueError, match="lacks weights that its config.json names: score.weight"):
        load_model(AutoModelForSequenceClassification, foreign_parent("llama2"), **options)
    is_new = {"is_new": lambda name: name == "score.weight"}
    assert load_model(AutoModelForSequenceClassification, foreign_parent("llama2"), **is_new, **options).num_labels == 1


def test_a_tied_head_is_not_missing(foreign_parent):
    model = load_model(AutoModelForCausalLM, foreign_parent("qwen2"))
    assert model.lm_head.weight is model.model.embed_tokens.weight and model.dtype == torch.bfloat16


def test_damaged_weights_are_one_line(tmp_path, foreign_parent):
    folder = shutil.copytree(foreign_parent("llama2"), tmp_path / "cut")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(ValueError, match="the weights of .*cut are damaged"):
        load_model(AutoModelForCausalLM, folder)


def test_an_architecture_without_such_a_head_is_one_line(tmp_path):
    from transformers import FalconMambaConfig, FalconMambaForCausalLM

    FalconMambaForCausalLM(
        FalconMambaConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, state_size=2)
    ).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match="transformers has no AutoModelForSequenceClassification for the kind of model in"
    ):
        load_model(AutoModelForSequenceClassification, tmp_path)


def test_the_context_has_many_names():
    assert context_length(GPT2Config(n_positions=96)) == 96
    assert context_length(Gemma3Config(text_config={"max_position_embeddings": 77})) == 77
    assert context_length(BloomConfig(), unstated=512) == 512
    with pytest.raises(ValueError, match="a bloom model does not say how many tokens it reads at once"):
        context_length(BloomConfig())
