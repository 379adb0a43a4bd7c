"""What a stage will see of a person's rows: held to transformers' own mask, to the stage's rows, and to hostile text."""

import json
import re

import pytest
import torch
from transformers import AutoTokenizer

from recipes.inspect import main
from tests.conftest import random_model
from tests.sft.test_families import CONVERSATIONS

MARKED = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}"
    "{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


@pytest.fixture
def chats(tmp_path):
    return write(tmp_path / "chats.jsonl", [{"messages": messages} for messages in CONVERSATIONS])


@pytest.fixture
def marked(foreign_parent, tmp_path):
    """A folder with the tokenizer and config of Qwen2, and a template that marks what the assistant says; no weights."""
    tokenizer = AutoTokenizer.from_pretrained(foreign_parent("qwen2"))
    tokenizer.chat_template = MARKED
    tokenizer.save_pretrained(tmp_path / "marked")
    for name in ("config.json", "generation_config.json"):
        (tmp_path / "marked" / name).write_bytes((foreign_parent("qwen2") / name).read_bytes())
    return tmp_path / "marked"


def test_the_trained_tokens_are_those_of_transformers_own_mask(marked, chats, capsys):
    rows = main([str(marked), chats, "--no_weights"])
    tokenizer = AutoTokenizer.from_pretrained(marked)
    for row, messages in zip(rows, CONVERSATIONS, strict=True):
        expected = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
        assert [token.id for token in row.tokens] == expected["input_ids"]
        assert [token.is_learnt for token in row.tokens] == [bool(mark) for mark in expected["assistant_masks"]]
        for message in messages:
            said = "".join(token.text for token in row.tokens if token.role == message["role"])
            assert message["content"].strip() in said
    assert re.search(r"assistant +trained +The baker keeps three loaves\.", capsys.readouterr().out)


def test_a_long_row_shows_what_is_cut_and_what_is_left_of_it(marked, chats):
    (_, row) = main([str(marked), chats, "--no_weights", "--on_long_rows", "truncate", "--context_length", "50"])
    tokenizer = AutoTokenizer.from_pretrained(marked)
    kept = tokenizer.apply_chat_template(CONVERSATIONS[1][:2], return_dict=False)[:-1]  # "\n" follows the answer's end
    assert [token.id for token in row.tokens if not token.is_cut] == kept
    assert row.notes == [
        f"{len(row.tokens) - len(kept)} of {len(row.tokens)} tokens are cut: the context has 50, and the last whole answer in it ends at "
        f"{len(kept)}"
    ]
    with pytest.raises(
        ValueError, match=r"chats.jsonl:2: the conversation has .* choose --on_long_rows drop or truncate"
    ):
        main([str(marked), chats, "--no_weights", "--context_length", "50"])


def test_a_token_that_the_parent_never_trained_is_named(tmp_path, tokenizer, chats):
    model = random_model("llama", len(tokenizer))
    unknown = tokenizer.convert_tokens_to_ids("Q")
    with torch.no_grad():
        model.get_input_embeddings().weight[unknown] = 0
    model.save_pretrained(tmp_path / "parent")
    tokenizer.save_pretrained(tmp_path / "parent")
    data = write(tmp_path / "rows.jsonl", [{"prompt": "Q?", "completion": "No."}])
    (row,) = main([str(tmp_path / "parent"), data])
    roles = "4 '<|user|>', 5 '<|assistant|>'"  # of the template that is put on
    assert row.notes == [f"never trained in the parent: {roles}, {unknown} 'Q'"]


def test_hostile_text_is_text_on_the_page_and_in_the_terminal(marked, tmp_path, capsys):
    said = "</span><script>alert(1)</script>\x1b[31m[red]\u202e<|im_end|>"
    talk = [{"role": "user", "content": said}, {"role": "assistant", "content": '" onmouseover="x'}]
    data = write(tmp_path / "rows.jsonl", [{"messages": talk}])
    (row,) = main([str(marked), data, "--no_weights", "--html", str(tmp_path / "page.html")])
    page, printed = (tmp_path / "page.html").read_text(encoding="utf-8"), capsys.readouterr().out
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert "<script" not in page and 'onmouseover="' not in page and "&lt;script" in re.sub("<[^>]*>", "", page)
    assert not {"\x1b", "\u202e"} & set(page + printed) and "[31m[red]" in printed.replace("\n", "")
    end = AutoTokenizer.from_pretrained(marked).convert_tokens_to_ids("<|im_end|>")
    assert f"control tokens in what a message says: {end} '<|im_end|>'" in row.notes


def test_pairs_prompts_and_texts_are_known_by_their_columns(marked, tmp_path):
    """What is learnt of a pair is what DPO's trainer gets; of a text all but the first token of each document; of a prompt nothing."""
    parent, no_weights = str(marked), "--no_weights"
    pairs = write(tmp_path / "pairs.jsonl", [{"prompt": "Hi?", "chosen": "Yes.", "rejected": "No."}])
    chosen, rejected = main([parent, pairs, no_weights])
    for row, answer in ((chosen, "Yes."), (rejected, "No.")):
        assert "".join(token.text for token in row.tokens if token.is_learnt) == f"{answer}<|im_end|>"
    scored, _ = main([parent, pairs, no_weights, "--stage", "reward_model"])
    assert [token.text for token in scored.tokens if token.is_learnt] == ["<|im_end|>"]
    (prompt,) = main([parent, write(tmp_path / "prompts.jsonl", [{"prompt": "Hi?"}]), no_weights])
    assert not any(token.is_learnt for token in prompt.tokens) and prompt.tokens[-1].text == "\n"
    notes = ["One.", "Two.", "A note that is longer than the two others are together."]
    (tmp_path / "notes.txt").write_text("\n---\n".join(notes), encoding="utf-8")
    packed = main([parent, str(tmp_path / "notes.txt"), no_weights, "--separator", "\n---\n"])
    texts = ["".join(token.text for token in row.tokens) for row in packed]
    assert texts == [f"{notes[2]}<|im_end|>", f"{notes[0]}<|im_end|>{notes[1]}<|im_end|>"]
    assert [sum(not token.is_learnt for token in row.tokens) for row in packed] == [1, 2]  # each document's first
    strange = write(tmp_path / "strange.jsonl", [{"a": 1}])
    with pytest.raises(ValueError, match="no stage reads the columns a; map them with --columns"):
        main([parent, strange, no_weights])
