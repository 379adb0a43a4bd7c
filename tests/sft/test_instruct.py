"""Instruction rows kept apart from those trained on, and whether answers stop."""

import copy
import json

import pytest
import torch

from base_model.chat import render_prompt, set_chat_template
from base_model.documents import Source
from sft.examples import IGNORED, encode_messages
from sft.instruct import first_answer, heldout_loss, instruction_data, stop_rate
from tests.conftest import TEXTS, random_model


@pytest.fixture(scope="module")
def chat_tokenizer(tokenizer):
    return set_chat_template(copy.deepcopy(tokenizer))


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"{i} {TEXTS[i % 4]}", "completion": TEXTS[(i + 1) % 4][: 10 + i]} for i in range(50)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Source(str(file))


def conversations(dataset):
    """The sequences of a dataset, packed or not."""
    found = []
    for row in dataset:
        start = 0
        for length in row.get("seq_lengths") or [len(row["input_ids"])]:
            found.append(tuple(row["input_ids"][start : start + length]))
            start += length
    return found


@pytest.mark.parametrize("packing", [True, False])
def test_rows_held_out_are_not_trained_on_and_none_is_lost(chat_tokenizer, source, tmp_path, packing):
    training, heldout, counts = instruction_data(
        source, chat_tokenizer, tmp_path / "data", context_tokens=128, heldout_rows=7, packing=packing
    )
    ours, theirs = conversations(training), conversations(heldout)
    assert (len(ours), len(theirs), counts.pieces) == (43, 7, 50)
    assert not set(ours) & set(theirs) and len(set(ours) | set(theirs)) == 50


def test_which_rows_are_held_out_depends_on_the_seed_alone(chat_tokenizer, source, tmp_path):
    def held(seed, folder):
        return instruction_data(
            source, chat_tokenizer, tmp_path / folder, context_tokens=128, heldout_rows=7, seed=seed
        )[1].to_dict()

    assert held(1, "a") == held(1, "b") != held(2, "c")


def test_nothing_left_to_train_on_is_refused(chat_tokenizer, source, tmp_path):
    with pytest.raises(ValueError, match="has 50 usable rows, and heldout_rows 50 leaves none to train on"):
        instruction_data(source, chat_tokenizer, tmp_path, context_tokens=128, heldout_rows=50)


def test_of_few_rows_a_tenth_is_held_out_where_nobody_says_how_many(chat_tokenizer, source, tmp_path):
    training, heldout, _ = instruction_data(
        source, chat_tokenizer, tmp_path, context_tokens=128, heldout_rows=None, packing=False
    )
    assert (len(training), len(heldout)) == (45, 5)


def test_the_first_answer_begins_where_the_rendered_prompt_ends(chat_tokenizer, source, tmp_path):
    _, heldout, _ = instruction_data(source, chat_tokenizer, tmp_path / "data", context_tokens=128, heldout_rows=5)
    for row in heldout:
        start = first_answer(row["labels"])
        prompt = chat_tokenizer.decode(row["input_ids"][:start])
        question = prompt.removeprefix("<|bos|><|user|>").removesuffix("<|assistant|>")
        assert render_prompt(chat_tokenizer, [{"role": "user", "content": question}]) == row["input_ids"][:start]


def always_says(token, vocab_size):
    """A model whose head gives one token all the probability, whatever stood before."""
    model = random_model("gpt2", vocab_size)
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.copy_(model.transformer.wte.weight[token] * 1e6)
        model.transformer.wte.weight[token] *= 10
    return model


def heldout_rows(tokenizer):
    row = [1, 4, 60, 61, 5, 70, 2]
    return [{"input_ids": row, "labels": [IGNORED] * 5 + [70, 2]}] * 3


def test_a_model_that_says_the_end_token_stops_and_one_that_never_does_does_not(chat_tokenizer):
    rows, size = heldout_rows(chat_tokenizer), len(chat_tokenizer)
    stops = stop_rate(always_says(2, size), chat_tokenizer, rows, max_new_tokens=8)
    runs_on = stop_rate(always_says(70, size), chat_tokenizer, rows, max_new_tokens=8)
    assert (stops.stopped, stops.sampled, stops.rate, stops.within_tokens) == (3, 3, 1.0, 8)
    assert (runs_on.stopped, runs_on.sampled, runs_on.rate) == (0, 3, 0.0)


def test_prompts_that_leave_no_room_are_left_out_and_none_left_counts_as_not_stopping(chat_tokenizer):
    long = {"input_ids": [5] * 100 + [70, 2], "labels": [IGNORED] * 100 + [70, 2]}
    model = always_says(2, len(chat_tokenizer))  # 128 positions
    mixed = stop_rate(model, chat_tokenizer, [*heldout_rows(chat_tokenizer), long], max_new_tokens=64)
    assert (mixed.sampled, mixed.within_tokens) == (3, 64)
    alone = stop_rate(model, chat_tokenizer, [long], max_new_tokens=999)
    assert (alone.sampled, alone.rate, alone.within_tokens) == (0, 0.0, 64)


def test_the_heldout_loss_is_the_mean_over_what_the_assistant_says(chat_tokenizer, dialect):
    talks = [
        [{"role": "user", "content": "how"}, {"role": "assistant", "content": TEXTS[i % 4][: 5 + 4 * i]}] * (1 + i % 2)
        for i in range(5)
    ]
    rows = [encode_messages(talk, chat_tokenizer) for talk in talks]
    model = random_model(dialect, len(chat_tokenizer))
    nats, learnt = 0.0, 0
    for row in rows:
        with torch.no_grad():
            logits_TV = model(torch.tensor([row["input_ids"]])).logits[0]
        labels_T = torch.tensor(row["labels"])[1:]
        nats += torch.nn.functional.cross_entropy(
            logits_TV[:-1], labels_T, reduction="sum", ignore_index=IGNORED
        ).item()
        learnt += int((labels_T != IGNORED).sum())
    assert heldout_loss(model, rows) == pytest.approx(nats / learnt, abs=1e-5)  # float32 sums in another order
