"""Untrained one-label models of both dialects over the shared tiny checkpoints, and the tokenizer with its chat template."""

import copy

import pytest
import torch

from tests.conftest import write_checkpoint


@pytest.fixture
def chat_tokenizer(tokenizer):
    """The shared tokenizer with the chat template; a test may change it."""
    from base_model.chat import set_chat_template

    return set_chat_template(copy.deepcopy(tokenizer))


@pytest.fixture
def chat_checkpoint(tmp_path, chat_tokenizer):
    """Folder of a tiny random Llama with the chat template, as the instruction stage leaves it."""
    return write_checkpoint(tmp_path / "lora_sft", chat_tokenizer)


@pytest.fixture
def make_model(llama_checkpoint, gpt2_checkpoint):
    """make_model(dialect="llama", seed=0): a one-label model with a random head whose scores differ by tenths, not by rounding."""
    from transformers import AutoModelForSequenceClassification

    def make(dialect="llama", seed=0):
        torch.manual_seed(seed)
        folder = {"llama": llama_checkpoint, "gpt2": gpt2_checkpoint}[dialect]
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32).eval()
        torch.nn.init.normal_(model.score.weight, std=0.3)
        return model

    return make
