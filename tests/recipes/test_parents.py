"""Parents from elsewhere go through the stages: see tests/parents.py for what they are."""

import json

import pytest

from recipes import domain_sft
from recipes.run.record import read_manifest
from tests.conftest import TEXTS


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "domain.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return file


def arguments(parent, data, folder, *more):
    settings = {"model": parent, "data": data, "output_dir": folder, "per_device_train_batch_size": 2}
    return [*(item for name, value in settings.items() for item in (f"--{name}", str(value))), *more]


@pytest.mark.parametrize("family", ["gpt2", "llama2", "qwen2"])
def test_domain_tuning_of_a_published_parent(family, foreign_parent, texts, tmp_path):
    """GPT-2 has no padding token; the tokenizer.json of each is rewritten when it is saved."""
    folder = domain_sft.main(arguments(foreign_parent(family), texts, tmp_path / "run", "--max_steps", "1"))
    assert read_manifest(folder)["steps"] == 1
