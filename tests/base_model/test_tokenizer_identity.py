"""Tokenizers are compared by what they do: other files of one tokenizer are the same, another tokenizer is not, however alike."""

import copy
import json

import pytest
from tokenizers import normalizers
from transformers import AutoTokenizer

from base_model.tokenizer import padding_id, train_tokenizer
from base_model.tokenizer_identity import reloaded, template_sha256, tokenizer_difference, tokenizer_sha256
from tests.conftest import TEXTS
from tests.parents import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_a_published_tokenizer_is_itself_after_it_is_saved(family, foreign_parent):
    """All are rewritten by `save_pretrained` (merges as strings are enough), which must not count."""
    folder = foreign_parent(family)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer_difference(tokenizer, reloaded(tokenizer)) is None
    assert tokenizer_sha256(tokenizer) == tokenizer_sha256(reloaded(tokenizer))
    assert template_sha256(tokenizer) == template_sha256(reloaded(tokenizer))


def test_named_templates_are_kept_and_compared(tokenizer):
    named = copy.deepcopy(tokenizer)
    named.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    assert tokenizer_difference(named, reloaded(named)) is None
    other = copy.deepcopy(named)
    other.chat_template["tool_use"] += " "
    assert tokenizer_difference(named, other).what == "chat template"
    assert template_sha256(named) != template_sha256(other) != template_sha256(tokenizer) is None


def edited(tokenizer, tmp_path, edit):
    """The tokenizer with its tokenizer.json changed by `edit`."""
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))
    return AutoTokenizer.from_pretrained(tmp_path)


def test_one_merge_less_is_another_tokenizer(tokenizer, tmp_path):
    """The vocabulary is the same, and no common text tells: only the text of the one token that can no longer be built."""
    other = edited(tokenizer, tmp_path, lambda content: content["model"]["merges"].pop())
    assert other.get_vocab() == tokenizer.get_vocab()
    assert "differently" in tokenizer_difference(tokenizer, other).why
    assert tokenizer_sha256(tokenizer) != tokenizer_sha256(other)


def test_a_normalizer_is_another_tokenizer(tokenizer):
    other = copy.deepcopy(tokenizer)
    other.backend_tokenizer.normalizer = normalizers.NFKC()
    assert tokenizer_difference(tokenizer, other).what == "tokenizer"


def test_another_vocabulary_or_end_token_is_named(tokenizer):
    assert "tokens have another id or none" in tokenizer_difference(tokenizer, train_tokenizer(TEXTS, 300)).why
    other = copy.deepcopy(tokenizer)
    other.eos_token = "<|pad|>"
    assert tokenizer_difference(tokenizer, other).why == "its eos_token is '<|pad|>', the parent's '<|eos|>'"


def test_a_child_may_have_more_tokens_a_padding_token_and_a_template(foreign_parent):
    parent = AutoTokenizer.from_pretrained(foreign_parent("gpt2"))
    child = copy.deepcopy(parent)
    child.add_special_tokens({"pad_token": "<|pad|>"})
    child.chat_template = "{{ messages }}"
    assert tokenizer_difference(parent, child) is None
    assert tokenizer_difference(child, parent).what == "tokenizer", "but it may not have fewer"


def test_padding_is_never_an_end_and_leaves_the_tokenizer_alone(tokenizer, foreign_parent):
    assert padding_id(tokenizer) == tokenizer.pad_token_id
    gpt2, smollm2, llama3 = (AutoTokenizer.from_pretrained(foreign_parent(f)) for f in ("gpt2", "smollm2", "llama3"))
    assert padding_id(gpt2) != gpt2.eos_token_id and gpt2.pad_token is None
    assert padding_id(smollm2) == smollm2.unk_token_id, "its pad is its eos"
    assert llama3.convert_ids_to_tokens(padding_id(llama3)) == "<|reserved_special_token_0|>"
    assert padding_id(llama3, ends=range(5)) >= 5
