"""Prompts: the bad ones are named, the order is a function of seed and position."""

import copy

import pytest

from alignment.ppo.prompts import PromptSet, as_text


def make(rows, tokenizer, room_tokens=20, **options):
    return PromptSet(rows, tokenizer, room_tokens=room_tokens, name="train_dataset", **options)


@pytest.mark.parametrize(
    "row, message",
    [
        ({"text": "x", "id": 3}, "train_dataset, row 1: there is no 'prompt' column, only id, text"),
        ({"prompt": 7}, "row 1: a prompt is text or a list of messages, got int"),
        ({"prompt": "  "}, "row 1: the prompt is empty"),
        ({"prompt": []}, "row 1: the prompt is empty"),
        ({"prompt": [{"role": "judge", "content": "x"}]}, "row 1: the prompt cannot be rendered: .*unknown role"),
    ],
)
def test_a_bad_prompt_is_named_with_its_row(tokenizer, row, message):
    with pytest.raises(ValueError, match=message):
        make([{"prompt": "fine"}, row], tokenizer)


def test_overlong_prompts_are_an_error_that_counts_them_or_are_skipped_and_counted(tokenizer):
    rows = [{"prompt": "The baker"}, {"prompt": "The baker " * 30}, {"prompt": "The baker " * 20}]
    with pytest.raises(
        ValueError, match=r"2 of 3 prompts are longer than 20 tokens \(row 1 has \d+\).*overlong_prompts to 'skip'"
    ):
        make(rows, tokenizer)
    prompts = make(rows, tokenizer, overlong="skip")
    assert len(prompts) == 1 and prompts.skipped == 2 and prompts.batch([0]).prompts == ["The baker"]
    with pytest.raises(ValueError, match=r"no usable prompt \(2 are too long\)"):
        make(rows[1:], tokenizer, overlong="skip")


def test_a_row_that_lacks_a_column_has_none_there_whichever_row_comes_first(tokenizer):
    rows = [
        {"prompt": "one"},
        {"prompt": "two", "source": "ticket 7"},
        {"prompt": "three", "kind": "a", "source": None},
    ]
    prompts = make(rows, tokenizer)
    for places in ([0, 1, 2], [2, 1, 0], [0]):
        batch = prompts.batch(places)
        assert batch.columns == {name: [rows[place].get(name) for place in places] for name in ("source", "kind")}


@pytest.mark.parametrize("name", ["completions", "prompts"])
def test_a_column_named_as_what_reward_functions_are_called_with_is_refused(tokenizer, name):
    with pytest.raises(
        ValueError, match=f"train_dataset has a column '{name}', a name that reward functions are called with"
    ):
        make([{"prompt": "one"}, {"prompt": "two", name: "x"}], tokenizer)


def test_a_stream_without_length_is_refused(tokenizer):
    with pytest.raises(ValueError, match="must be a datasets.Dataset or a list of rows, got generator"):
        make(({"prompt": "x"} for _ in range(3)), tokenizer)
    with pytest.raises(ValueError, match="no usable prompt"):
        make([], tokenizer)


def test_every_prompt_comes_once_a_round_in_another_order_each_round(tokenizer):
    prompts = make([{"prompt": f"w{i}"} for i in range(7)], tokenizer)
    stream = prompts.places(0, 21, seed=1)
    rounds = [stream[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(one) == list(range(7)) for one in rounds) and len({tuple(one) for one in rounds}) == 3


def test_the_stream_can_be_read_from_any_place(tokenizer):
    prompts = make([{"prompt": f"w{i}"} for i in range(7)], tokenizer)
    whole = prompts.places(0, 40, seed=1)
    for start in (0, 3, 7, 20):
        assert prompts.places(start, 11, seed=1) == whole[start : start + 11]
    assert prompts.places(0, 40, seed=2) != whole


def test_a_batch_has_ids_and_the_other_columns(tokenizer):
    from datasets import Dataset

    rows = [{"prompt": "The", "kind": "a"}, {"prompt": "baker", "kind": "b"}]
    for dataset in (rows, Dataset.from_list(rows)):
        batch = make(dataset, tokenizer).batch([1, 0, 1])
        assert batch.prompts == ["baker", "The", "baker"] and batch.columns == {"kind": ["b", "a", "b"]}
        assert batch.ids[1] == [tokenizer.bos_token_id, *tokenizer("The", add_special_tokens=False).input_ids]


def test_messages_become_ids_by_the_tokenizers_template(tokenizer):
    from base_model.chat import set_chat_template

    chat = set_chat_template(copy.deepcopy(tokenizer))
    row = {"prompt": [{"role": "user", "content": "Hello"}]}
    ids = make([row], chat).batch([0]).ids[0]
    assert ids == chat.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)


def test_prompts_are_written_for_people():
    assert as_text("plain") == "plain"
    assert (
        as_text([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}])
        == "user: Hi\nassistant: Yes"
    )
