"""Rows to ids and labels: the mask token by token, and one clear line for each rule that a row breaks."""

import copy
import gzip
import json

import pytest

from base_model.chat import set_chat_template
from base_model.documents import Source
from base_model.tokenizer import encode_text
from sft.examples import (
    IGNORED,
    RowCounts,
    check_conversation,
    cut_to_context,
    document_rows,
    encode_document,
    encode_messages,
    instruction_rows,
    to_messages,
)

USER, SYSTEM, ASSISTANT, EOS, BOS = "<|user|>", "<|system|>", "<|assistant|>", "<|eos|>", "<|bos|>"


@pytest.fixture(scope="module")
def chat_tokenizer(tokenizer):
    return set_chat_template(copy.deepcopy(tokenizer))


def say(role, content):
    return {"role": role, "content": content}


def by_hand(tokenizer, *pieces):
    """Ids and labels from (text or special token, is learnt) pieces."""
    ids, labels = [], []
    for text, is_learnt in pieces:
        special = tokenizer.get_vocab().get(text) if text.startswith("<|") else None
        tokens = encode_text(tokenizer, text) if special is None else [special]
        ids += tokens
        labels += tokens if is_learnt else [IGNORED] * len(tokens)
    return {"input_ids": ids, "labels": labels}


CONVERSATIONS = {
    "one turn": (
        [say("user", "Who is it?"), say("assistant", "The baker.")],
        [(BOS, 0), (USER, 0), ("Who is it?", 0), (ASSISTANT, 0), ("The baker.", 1), (EOS, 1)],
    ),
    "two turns with a system message": (
        [
            say("system", "Be brief."),
            say("user", "A?"),
            say("assistant", "Yes."),
            say("user", "B?"),
            say("assistant", "No."),
        ],
        [
            *[(BOS, 0), (SYSTEM, 0), ("Be brief.", 0)],
            *[(USER, 0), ("A?", 0), (ASSISTANT, 0), ("Yes.", 1), (EOS, 1)],
            *[(USER, 0), ("B?", 0), (ASSISTANT, 0), ("No.", 1), (EOS, 1)],
        ],
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_what_the_assistant_says_and_its_end_token_is_learnt_and_nothing_else(chat_tokenizer, name):
    messages, pieces = CONVERSATIONS[name]
    assert encode_messages(messages, chat_tokenizer) == by_hand(chat_tokenizer, *pieces)


def test_control_tokens_in_what_people_type_are_letters(chat_tokenizer):
    row = encode_messages([say("user", "say <|eos|><|assistant|>"), say("assistant", "<|user|> no")], chat_tokenizer)
    ids = {token: chat_tokenizer.get_vocab()[token] for token in (BOS, USER, ASSISTANT, EOS)}
    assert [row["input_ids"].count(ids[token]) for token in (BOS, USER, ASSISTANT, EOS)] == [1, 1, 1, 1]
    assert chat_tokenizer.decode([t for t in row["labels"] if t != IGNORED]) == "<|user|> no<|eos|>"


def test_labels_are_those_that_trl_makes_of_the_same_conversations(chat_tokenizer, tmp_path):
    """TRL's assistant_only_loss is an independent path: chat template with generation marks through its own preparation."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from tests.conftest import random_model

    conversations = [
        [say("user", "Who?"), say("assistant", "The doctor, of course.")],
        [say("system", "Short."), say("user", "A"), say("assistant", "b c"), say("user", "D"), say("assistant", "e")],
    ]
    options = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none"}
    trainer = SFTTrainer(
        model=random_model("llama", len(chat_tokenizer)),
        args=SFTConfig(str(tmp_path), assistant_only_loss=True, **options),
        train_dataset=Dataset.from_dict({"messages": conversations}),
        processing_class=copy.deepcopy(chat_tokenizer),
    )
    for ours, theirs in zip(
        (encode_messages(c, chat_tokenizer) for c in conversations), trainer.train_dataset, strict=True
    ):
        assert ours["input_ids"] == list(theirs["input_ids"])
        assert ours["labels"] == list(theirs["labels"])


def test_prompt_and_completion_are_a_conversation(chat_tokenizer):
    want = [say("user", "Who?"), say("assistant", "Me.")]
    assert to_messages({"prompt": "Who?", "completion": "Me."}) == want
    assert to_messages({"prompt": want[:1], "completion": want[1:]}) == want
    assert to_messages({"prompt": want[:1], "completion": "Me."}) == want


def test_alpacas_columns_are_mapped_and_its_input_stands_below_the_instruction(chat_tokenizer, tmp_path):
    file = tmp_path / "alpaca.jsonl.gz"
    rows = [
        {"instruction": "Name it.", "input": "A gate.", "output": "gate"},
        {"instruction": "Name it.", "input": "", "output": "it"},
    ]
    with gzip.open(file, "wt") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    source = Source(str(file), columns={"prompt": "instruction", "context": "input", "completion": "output"})
    texts = [
        chat_tokenizer.decode(row["input_ids"])
        for row in instruction_rows(source, chat_tokenizer, RowCounts(), context_tokens=99)
    ]
    assert texts == [
        "<|bos|><|user|>Name it.\n\nA gate.<|assistant|>gate<|eos|>",
        "<|bos|><|user|>Name it.<|assistant|>it<|eos|>",
    ]


def write(tmp_path, *rows):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


GOOD = {"messages": [say("user", "Hello"), say("assistant", "Hi.")]}
BAD = {
    "missing column": (
        {"text": "a"},
        "field 'messages': is missing; expected 'messages', or 'prompt' and 'completion'",
    ),
    "half a pair": ({"prompt": "a"}, "field 'completion': is missing"),
    "no list": ({"messages": "Hello"}, "must be a list of messages with at least one of the assistant, found str"),
    "no messages": ({"messages": []}, "found an empty list"),
    "no content": ({"messages": [{"role": "user"}]}, "message 1 must be {'role': ..., 'content': text}"),
    "two users": (
        {"messages": [say("user", "a"), say("user", "b"), say("assistant", "c")]},
        "roles out of order: message 2 is from 'user', expected 'assistant'",
    ),
    "assistant first": (
        {"messages": [say("assistant", "c")]},
        "roles out of order: message 1 is from 'assistant', expected 'system' or 'user'",
    ),
    "late system": (
        {"messages": [say("user", "a"), say("system", "b"), say("assistant", "c")]},
        "roles out of order: message 2 is from 'system'",
    ),
    "unknown role": ({"messages": [say("tool", "a")]}, "message 1 has the role 'tool'; use system, user or assistant"),
    "assistant missing": (
        {"messages": [say("user", "a"), say("assistant", "b"), say("user", "c")]},
        "the assistant's turn is missing: the last message is from 'user'",
    ),
    "spaces": (
        {"messages": [say("user", "a"), say("assistant", " \n ")]},
        "message 2 (from 'assistant') is only white space",
    ),
    "empty": ({"prompt": "a", "completion": ""}, "field 'completion': message 2 (from 'assistant') is empty"),
    "completion of the user": (
        {"prompt": "a", "completion": [say("user", "b")]},
        "field 'completion': must begin with what the assistant says, found the role 'user'",
    ),
    "context beside messages": (
        {"prompt": [say("user", "a")], "context": "b", "completion": "c"},
        "field 'context': goes with a prompt that is a string",
    ),
    "longer than the context": (
        {"prompt": "a", "completion": "bread " * 99},
        "tokens, more than the context of 40; shorten it, or choose --on_long_rows drop or truncate",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_one_line_naming_file_and_row(chat_tokenizer, tmp_path, name):
    row, message = BAD[name]
    file = write(tmp_path, GOOD, row, GOOD, row)
    with pytest.raises(ValueError) as caught:
        list(instruction_rows(Source(str(file)), chat_tokenizer, RowCounts(), context_tokens=40))
    assert str(caught.value).startswith(f"{file}:2: ") and message in str(caught.value)
    assert "1 more bad row" in str(caught.value) and "\n" not in str(caught.value)


def test_bad_rows_are_skipped_and_counted_when_asked(chat_tokenizer, tmp_path):
    file = write(tmp_path, GOOD, *(row for row, _ in BAD.values()))
    counts = RowCounts()
    rows = list(instruction_rows(Source(str(file), on_bad_rows="skip"), chat_tokenizer, counts, context_tokens=40))
    assert len(rows) == 1
    assert (counts.read, counts.skipped) == (1 + len(BAD), len(BAD))
    assert f"{file}:2: field 'messages': is missing" in counts.first_problems[0]


@pytest.mark.parametrize("reader", [instruction_rows, document_rows])
def test_an_empty_file_is_named(chat_tokenizer, tmp_path, reader):
    file = write(tmp_path)
    with pytest.raises(ValueError, match=f"{file} holds no rows"):
        list(reader(Source(str(file)), chat_tokenizer, RowCounts(), context_tokens=40))


def test_long_conversations_are_dropped_or_cut_after_a_whole_answer_and_counted(chat_tokenizer, tmp_path):
    turns = [say("user", "Who?"), say("assistant", "The baker."), say("user", "Where?"), say("assistant", "at " * 30)]
    file = write(tmp_path, GOOD, {"messages": turns}, {"prompt": "a " * 99, "completion": "b"})
    first = encode_messages(turns[:2], chat_tokenizer)

    counts = RowCounts()
    rows = list(instruction_rows(Source(str(file)), chat_tokenizer, counts, context_tokens=40, on_long_rows="truncate"))
    assert rows[1] == first  # ends with the first answer's end token
    assert (len(rows), counts.truncated, counts.dropped_long) == (2, 1, 1)
    assert counts.tokens == sum(len(row["input_ids"]) for row in rows)
    assert counts.learnt_tokens == sum(label != IGNORED for row in rows for label in row["labels"])

    counts = RowCounts()
    rows = list(instruction_rows(Source(str(file)), chat_tokenizer, counts, context_tokens=40, on_long_rows="drop"))
    assert (len(rows), counts.truncated, counts.dropped_long) == (1, 0, 2)


def test_a_file_with_nothing_that_fits_and_an_unknown_policy_are_refused(chat_tokenizer, tmp_path):
    file = write(tmp_path, GOOD)
    with pytest.raises(ValueError, match="none of its 1 rows fits into 3 tokens"):
        list(instruction_rows(Source(str(file)), chat_tokenizer, RowCounts(), context_tokens=3, on_long_rows="drop"))
    with pytest.raises(ValueError, match="on_long_rows is 'cut'; use one of error, drop, truncate"):
        list(instruction_rows(Source(str(file)), chat_tokenizer, RowCounts(), context_tokens=3, on_long_rows="cut"))


@pytest.mark.parametrize("context_tokens, end", [(11, 6), (6, 6), (5, 3), (3, 3), (2, None), (12, 12)])
def test_a_cut_falls_after_the_last_answer_that_fits(context_tokens, end):
    labels = [IGNORED, 7, 2, IGNORED, 7, 2, IGNORED, IGNORED, 7, 7, 7, 2]  # answers end at 3, 6 and 12
    row = cut_to_context({"input_ids": list(range(12)), "labels": labels}, context_tokens)
    assert (row and (row["input_ids"], row["labels"])) == (end and (list(range(end)), labels[:end]))


def test_a_template_that_writes_a_prompt_differently_is_refused(chat_tokenizer, tmp_path):
    """This one says "now:" only before an answer that is still to come, so the prompt is no prefix of the whole."""
    tokenizer = copy.deepcopy(chat_tokenizer)
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{% if add_generation_prompt %}", "{% if add_generation_prompt %}{{ 'now:' }}"
    )
    with pytest.raises(
        ValueError, match="rows.jsonl:1: field 'messages': the tokens of what comes before message 2 are not a prefix"
    ):
        list(instruction_rows(Source(str(write(tmp_path, GOOD))), tokenizer, RowCounts(), context_tokens=40))


def test_a_document_is_learnt_whole_between_bos_and_eos(tokenizer):
    text = "The old sailor."
    ids = [1, *encode_text(tokenizer, text), 2]
    assert encode_document(text, tokenizer, 99) == [{"input_ids": ids, "labels": ids}]


def test_a_long_document_goes_in_pieces_that_join_to_the_whole(tokenizer):
    text = "When it rains, the children wait. " * 9
    pieces = encode_document(text, tokenizer, 16)
    joined = [token for piece in pieces for token in piece["input_ids"]]
    assert joined == [1, *encode_text(tokenizer, text), 2]
    assert {len(piece["input_ids"]) for piece in pieces[:-1]} == {16}


@pytest.mark.parametrize(
    "row, message",
    [
        ({"body": "a"}, "field 'text': is missing; expected text, the row has body"),
        ({"text": " "}, "only white space"),
        ({"text": 3}, "found int"),
    ],
)
def test_a_bad_document_is_one_line_naming_file_and_row(tokenizer, tmp_path, row, message):
    file = write(tmp_path, {"text": "good"}, row)
    with pytest.raises(ValueError) as caught:
        list(document_rows(Source(str(file)), tokenizer, RowCounts(), context_tokens=40))
    assert str(caught.value).startswith(f"{file}:2: ") and message in str(caught.value)


def test_a_share_of_documents_is_drawn_with_the_seed(tokenizer, tmp_path):
    file = write(tmp_path, *({"text": f"gate {i}"} for i in range(400)))

    def drawn(seed):
        rows = document_rows(Source(str(file)), tokenizer, RowCounts(), context_tokens=40, share=0.25, seed=seed)
        return [tokenizer.decode(row["input_ids"]) for row in rows]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 65 <= len(drawn(1)) <= 135  # 100 expected, standard deviation 8.7


def test_a_conversation_in_order_passes():
    check_conversation(
        [say("system", "s"), say("user", "u"), say("assistant", "a"), say("user", "u"), say("assistant", "a")]
    )


def test_real_alpaca_rows_are_read_by_column_mapping(chat_tokenizer, data_folder):
    """GPT-4's answers to Alpaca's instructions: a person's file as it is. Rows with an empty output are skipped by rule, not by chance."""
    columns = {"prompt": "instruction", "context": "input", "completion": "output"}
    file = data_folder / "alpaca_dolly" / "alpaca_gpt4_1k.jsonl.gz"
    with gzip.open(file, "rt") as stream:
        raw = [json.loads(line) for line in stream]
    counts = RowCounts()
    source = Source(str(file), columns=columns, on_bad_rows="skip")
    rows = list(instruction_rows(source, chat_tokenizer, counts, context_tokens=512, on_long_rows="drop"))
    unusable = sum(not row["output"].strip() or not row["instruction"].strip() for row in raw)
    assert (counts.read, counts.skipped) == (len(raw), unusable)
    assert len(rows) == counts.pieces == len(raw) - unusable - counts.dropped_long
    answer = chat_tokenizer.decode([token for token in rows[0]["labels"] if token != IGNORED])
    assert answer in {row["output"] + "<|eos|>" for row in raw}
