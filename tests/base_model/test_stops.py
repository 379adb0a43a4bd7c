"""Where answers end, for tokenizers and templates as other projects publish them."""

import copy

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from base_model.chat import set_chat_template
from base_model.stops import answer_end_id, stop_token_ids, template_end_id

# what the family's own documentation says ends an answer; the first is what its template writes
ENDS = {
    "gpt2": ["<|endoftext|>"],
    "opt": ["</s>"],
    "llama2": ["</s>"],
    "llama3": ["<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"],
    "qwen2": ["<|im_end|>", "<|endoftext|>"],
    "gemma": ["<end_of_turn>", "<eos>"],
    "smollm2": ["<|im_end|>"],
}


@pytest.mark.parametrize("family", ENDS)
def test_all_that_ends_an_answer_is_a_stop(family, foreign_parent):
    folder = foreign_parent(family)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert {*tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer, model))} == {*ENDS[family]}
    assert tokenizer.convert_ids_to_tokens(answer_end_id(tokenizer)) == ENDS[family][0]
    if family in ("llama3", "qwen2", "gemma", "smollm2"):  # Llama 2's template writes what eos_token names
        del model.generation_config.eos_token_id
        tokenizer.eos_token = None
        assert answer_end_id(tokenizer) in stop_token_ids(tokenizer, model), "the template alone says so"


def test_the_own_template_ends_a_turn_with_the_end_token(tokenizer):
    chatty = set_chat_template(copy.deepcopy(tokenizer))
    assert template_end_id(chatty) == chatty.eos_token_id and stop_token_ids(chatty) == (2,)


def test_ordinary_text_after_an_answer_is_no_stop_token(tokenizer):
    plain = copy.deepcopy(tokenizer)
    for template in ("{{ messages[1]['content'] }}\n\nUser:<|user|>", "{{ messages[1]['content'] }}", "{{ broken("):
        plain.chat_template = template
        assert template_end_id(plain) is None and answer_end_id(plain) == plain.eos_token_id


def test_ids_that_the_tokenizer_does_not_have_are_left_out(tokenizer, dialect):
    from tests.conftest import random_model

    model = random_model(dialect, len(tokenizer))
    model.generation_config.eos_token_id = [50256, 7]  # the first is GPT2Config's default
    assert stop_token_ids(tokenizer, model) == (2, 7)


def test_a_tokenizer_without_any_end_is_refused(tokenizer):
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None
    with pytest.raises(ValueError, match="no answer could end itself"):
        stop_token_ids(endless)
