"""The tokenizer stage as a command: tokenizer, shards, and the text kept for validation."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base_model.documents import Source, read_texts
from recipes.tokenizer import main, since, until

TEXTS = [f"Story {i}: the mill <|eos|> turned {i * 7} times, and then it stood still." for i in range(50)]


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    (tmp_path / "data" / "heldout.jsonl").write_text(json.dumps({"text": "The mill stood still."}) + "\n")
    return tmp_path


def decoded(folder, tokenizer):
    index = json.loads((folder / "index.json").read_text())
    ids = np.concatenate([np.fromfile(folder / shard["file"], dtype=index["dtype"]) for shard in index["shards"]])
    documents = np.split(ids, np.flatnonzero(ids == tokenizer.eos_token_id) + 1)[:-1]
    assert all(document[0] == tokenizer.bos_token_id for document in documents)
    return [tokenizer.decode(document[1:-1]) for document in documents]


def test_tokenizer_and_shards_are_written_and_give_the_text_back(data):
    from transformers import AutoTokenizer

    flags = ["--data", str(data / "data" / "train.jsonl"), "--vocab_size", "300", "--model_max_length", "64"]
    heldout = str(data / "data" / "heldout.jsonl")
    folder = main(["--output_dir", str(data / "out"), *flags, "--validation_data", heldout, "--lead_in_data", heldout])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == 300 and tokenizer.model_max_length == 64 and tokenizer.chat_template is None
    assert decoded(folder / "shards", tokenizer) == TEXTS
    assert decoded(folder / "validation", tokenizer) == ["The mill stood still."]
    assert decoded(folder / "lead_in", tokenizer) == ["The mill stood still."]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["notes"]["training"]["documents"] == 50 and manifest["notes"]["validation"]["documents"] == 1
    assert {"shards/index.json", "shards/00000.bin", "tokenizer.json"} <= set(manifest["files"])


def test_conversations_become_shards_and_the_tokenizer_is_learnt_from_all_that_the_pipeline_reads(data):
    """Their ids are those that the chat template gives; words of the later stages' text are tokens, as those of the conversations."""
    from transformers import AutoTokenizer

    from base_model.chat import set_chat_template

    said = [{"role": "user", "content": "Xylophone?"}, {"role": "assistant", "content": "Yes <|eos|>."}]
    too_long = [said[0], {"role": "assistant", "content": "no " * 80}]
    rows = [{"messages": said}] * 3 + [{"messages": too_long}]
    (data / "said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "later.txt").write_text("Gastritis " * 9)
    flags = ["--data", str(data / "data" / "train.jsonl"), "--vocab_size", "400", "--model_max_length", "64"]
    more = ["--conversations", str(data / "said.jsonl"), "--tokenizer_data", str(data / "later.txt")]
    folder = main(["--output_dir", str(data / "out"), *flags, *more])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize(" Gastritis") == ["ĠGastritis"] and tokenizer.tokenize("Xylophone") == ["Xylophone"]
    ids = set_chat_template(AutoTokenizer.from_pretrained(folder)).apply_chat_template(said, return_dict=False)
    written = np.fromfile(folder / "conversations" / "00000.bin", dtype="uint16")
    assert written.tolist() == ids * 3  # the one that is longer than the model's context is left out
    assert {data["path"] for data in json.loads((folder / "manifest.json").read_text())["data"]} == {
        str(data / "data" / "train.jsonl"),
        str(data / "said.jsonl"),
        str(data / "later.txt"),
    }


def test_the_last_share_of_a_text_is_kept_for_validation(data):
    from transformers import AutoTokenizer

    text = "".join(f"line {i}\n" for i in range(100))
    (data / "book.txt").write_text(text)
    flags = ["--data", str(data / "book.txt"), "--kind", "characters", "--validation_share", "0.1"]
    folder = main(["--output_dir", str(data / "out"), *flags, "--shards", str(data / "elsewhere")])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    cut = int(0.9 * len(text))
    assert decoded(data / "elsewhere", tokenizer) == [text[:cut]]
    assert decoded(folder / "validation", tokenizer) == [text[cut:]]


def test_a_large_texts_first_documents_are_kept_for_validation_and_the_next_make_the_tokenizer(data):
    from transformers import AutoTokenizer

    file = data / "data" / "train.jsonl"
    flags = ["--data", str(file), "--kind", "characters", "--validation_documents", "5", "--tokenizer_documents", "3"]
    folder = main(["--output_dir", str(data / "out"), *flags])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # stories 5, 6 and 7 turned 35, 42 and 49 times: no 8 and no 0 or 1
    assert {digit for digit in "0123456789" if digit in tokenizer.get_vocab()} == set("2345679")
    kept = [json.loads(line)["text"] for line in (folder / "validation.jsonl").read_text().splitlines()]
    assert kept == TEXTS[:5]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["notes"]["training"]["documents"] == 45 and manifest["notes"]["validation"]["documents"] == 5


def test_a_tokenizer_that_exists_is_used_as_it_is(data, tokenizer):
    tokenizer.save_pretrained(data / "theirs")
    folder = main(
        [
            "--output_dir",
            str(data / "out"),
            "--data",
            str(data / "data" / "train.jsonl"),
            "--kind",
            str(data / "theirs"),
        ]
    )
    assert (folder / "tokenizer.json").read_bytes() == (data / "theirs" / "tokenizer.json").read_bytes()


@given(st.lists(st.text(max_size=5)), st.integers(0, 30))
def test_until_and_since_cut_the_text_once(texts, cut):
    first, rest = list(until(iter(texts), cut)), list(since(iter(texts), cut))
    assert "".join(first) + "".join(rest) == "".join(texts)
    assert len("".join(first)) == min(cut, len("".join(texts)))
    assert all(rest)


def test_without_a_cut_every_text_comes():
    assert list(until(iter(["a", "", "b"]), None)) == ["a", "", "b"]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--kind", "words"], "kind is 'words'; use bpe, characters, or the folder of a tokenizer"),
        (["--validation_share", "1.0"], "validation_share is 1.0; it must be at least 0 and below 1"),
        (
            ["--validation_share", "0.1", "--validation_data", "x"],
            "validation_data, validation_share and validation_documents exclude each other",
        ),
        (["--tokenizer_documents", "0"], "tokenizer_documents is 0; it must be at least 1, or left out"),
        (["--vocab_size", "100"], "vocab_size 100 cannot hold the 262 special and byte tokens"),
    ],
)
def test_impossible_settings_are_refused(data, flags, complaint):
    with pytest.raises(ValueError, match=complaint):
        main(["--output_dir", str(data / "out"), "--data", str(data / "data" / "train.jsonl"), *flags])


def test_tiny_shakespeare_is_cut_as_nanogpt_cuts_it(tmp_path):
    """nanoGPT's prepare.py prints 65 characters, 1,003,854 training and 111,540 validation tokens; ours add bos and eos."""
    import os

    if not os.environ.get("PLUMBLINE_DATA"):
        pytest.skip("PLUMBLINE_DATA is not set")
    folder = main(
        ["--config", "recipes/configs/shakespeare_char/tokenizer.yaml", "--output_dir", str(tmp_path / "out")]
    )
    notes = json.loads((folder / "manifest.json").read_text())["notes"]
    assert notes["training"]["vocab_size"] == 65 + 7
    assert (notes["training"]["bytes"], notes["validation"]["bytes"]) == (1_003_854, 111_540)
    assert sum(len(text) for text in read_texts(Source("${PLUMBLINE_DATA}/tinyshakespeare/input.txt.gz"))) == 1_115_394
