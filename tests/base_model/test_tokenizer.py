"""The tokenizer: nothing lost, nothing smuggled in, the same after saving."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from base_model.tokenizer import (
    ESCAPE,
    SPECIAL_TOKENS,
    character_tokenizer,
    encode_text,
    encode_texts,
    escape_special,
    knows_escape,
    train_tokenizer,
)

TEXTS = ["Mira sold 12 red apples to Otto. " * 3, "<|eos|>" * 40 + "<|user|>" * 40, "Ωmega 😀 \t\r\n\n  x"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(iter(TEXTS), 400, model_max_length=77)


def test_special_tokens_are_distinct_and_have_the_first_ids(tokenizer):
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2, 3, 4, 5]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)


def test_the_tokenizer_adds_no_special_tokens_so_a_prompt_is_a_prefix(tokenizer):
    prompt, completion = tokenizer("Mira sold")["input_ids"], tokenizer(" apples")["input_ids"]
    assert tokenizer("Mira sold apples")["input_ids"] == prompt + completion


def test_every_single_byte_has_a_token(tokenizer):
    # the byte-level alphabet, from the definition in GPT-2: printable bytes stand for themselves, the rest from U+0100 on
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    alphabet = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(rest))]
    assert set(alphabet) <= set(tokenizer.get_vocab())


@settings(max_examples=300, deadline=None)
@given(st.binary())
@example(bytes(range(256)))
def test_any_bytes_round_trip(tokenizer, data):
    text = data.decode("latin-1")  # one character a byte: every byte string is a text this way
    assert tokenizer.decode(encode_text(tokenizer, text)).encode("latin-1") == data


PIECES = st.sampled_from([*SPECIAL_TOKENS, ESCAPE, "<", "|", "<|", "|>", " ", "eos", "\n", "é", "😀"])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
@example("<" + ESCAPE + "|eos|>")
@example("<" + ESCAPE + ESCAPE + "|<|eos|>")
def test_any_text_round_trips_and_never_becomes_a_special_token(tokenizer, text):
    ids = encode_text(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert all(i >= len(SPECIAL_TOKENS) for i in ids)


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join), st.lists(PIECES, max_size=8).map("".join))
def test_escaping_is_one_to_one(left, right):
    assert (escape_special(left) == escape_special(right)) == (left == right)


def test_training_on_special_strings_makes_no_merge_that_equals_one():
    """A corpus full of "<|eos|>" must not teach BPE a merge whose result is the special token."""
    tokenizer = train_tokenizer(["<|eos|>" * 1000] * 3, 300)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    assert merges and not {"".join(merge) for merge in merges} & set(SPECIAL_TOKENS)


def test_a_saved_tokenizer_is_the_same_under_auto_classes_of_both_dialects(tokenizer, tmp_path):
    from transformers import AutoTokenizer, GPT2Config, LlamaConfig

    text = "Mira <|eos|> 😀 12 \n <" + ESCAPE + "|"
    tokenizer.save_pretrained(tmp_path)
    for config in (None, LlamaConfig(), GPT2Config()):
        if config is not None:
            config.save_pretrained(tmp_path)
        loaded = AutoTokenizer.from_pretrained(tmp_path)
        assert encode_text(loaded, text) == encode_text(tokenizer, text)
        assert loaded("Mira<|eos|>")["input_ids"] == [*encode_text(tokenizer, "Mira"), 2]
        assert loaded.model_max_length == 77 and loaded.padding_side == "left" and knows_escape(loaded)


def test_encoding_in_a_batch_equals_encoding_one_by_one(tokenizer, monkeypatch):
    monkeypatch.setattr("base_model.tokenizer.TEXTS_AT_ONCE", 2)
    texts = [*TEXTS, "", "a"]
    assert encode_texts(tokenizer, texts) == [encode_text(tokenizer, text) for text in texts]


def test_truncation_left_on_by_someone_does_not_cut_content(tokenizer):
    whole = encode_text(tokenizer, TEXTS[0])
    tokenizer.backend_tokenizer.enable_truncation(3)
    assert encode_text(tokenizer, TEXTS[0]) == whole


def test_a_foreign_tokenizer_encodes_content_without_its_special_tokens(monkeypatch):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate("</s>ab")}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    foreign = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    assert not knows_escape(foreign)
    assert foreign("a</s>")["input_ids"] == [4, foreign.eos_token_id]
    monkeypatch.setattr("base_model.tokenizer.TEXTS_AT_ONCE", 2)
    assert encode_texts(foreign, ["a</s>b", "b", "ab"]) == [[4, 0, 1, 2, 3, 5], [5], [4, 5]]
    assert encode_texts(foreign, []) == []


def test_a_vocabulary_too_small_for_the_bytes_is_refused():
    with pytest.raises(ValueError, match="vocab_size 261 cannot hold the 262 special and byte tokens; use 262 or more"):
        train_tokenizer(["a"], 261)
    assert len(train_tokenizer(["a"], 262)) == 262


def test_a_character_tokenizer_has_one_token_a_character(tmp_path):
    from transformers import AutoTokenizer

    text = "First Citizen:\nBefore <|eos|>"
    tokenizer = character_tokenizer([text[:8], text[8:]])
    ids = encode_text(tokenizer, text)
    assert len(ids) == len(text) and len(tokenizer) == 7 + len(set(text))
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(encode_text(tokenizer, "First Zitizen")) == "First <|unknown|>itizen"
    tokenizer.save_pretrained(tmp_path)
    assert encode_text(AutoTokenizer.from_pretrained(tmp_path), text) == ids


def test_a_very_long_word_is_learnt_from_in_pieces_and_a_short_one_as_ever(monkeypatch):
    from base_model import tokenizer as module

    def learnt(texts, longest):
        monkeypatch.setattr(module, "LONGEST_WORD", longest)
        return module.train_tokenizer(texts, 400).backend_tokenizer.to_str()

    assert learnt(TEXTS, 256) == learnt(TEXTS, 100_000)  # no word of theirs is so long: nothing of the cut is saved
    word = "".join("acgt"[i * i % 7 % 4] for i in range(3000))
    assert learnt([word], 256) != learnt([word], 100_000)
    made = module.train_tokenizer([word], 400)
    assert made.decode(module.encode_text(made, word)) == word
