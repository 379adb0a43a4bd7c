"""A string prompt means one thing: the ids that each stage makes of the same question and answer, beside those of the chat template."""

import copy
import json
from collections import Counter

import pytest

from base_model.chat import set_chat_template
from base_model.documents import Source, read_rows
from base_model.tokenizer import encode_text
from tests.conftest import random_model

QUESTION, ANSWER = "Who keeps the loaves?", "The baker."
MESSAGES = [{"role": "user", "content": QUESTION}]


class Asked(Exception):
    """Carries the prompts that a stage would generate from."""


def ids_of_stages(tokenizer, rows, monkeypatch):
    """(prompt ids, prompt + answer ids or None) of the first row, by stage."""
    from alignment.dpo import preference_rows
    from alignment.ppo.prompts import PromptSet
    from eval import generation, preference
    from eval.generation import Decoding
    from reward.model import encode_answers
    from reward.on_policy import sample_answers
    from sft.examples import IGNORED, encode_messages, to_messages

    model = random_model("llama", len(tokenizer))

    def asked(model, tokenizer, prompts, decoding, **options):
        raise Asked(prompts[0])

    monkeypatch.setattr(generation, "continue_ids", asked)
    monkeypatch.setattr(preference, "continue_ids", asked)
    prompt, found = rows[0]["prompt"], {}
    for name, ask in {
        "evaluation, best-of-n": lambda: generation.respond(model, tokenizer, [prompt], Decoding(8)),
        "preferences": lambda: sample_answers(
            model, tokenizer, [prompt], 2, max_new_tokens=8, temperature=1.0, top_p=1.0, seed=0
        ),
        "kl": lambda: preference.measure_kl(model, model, tokenizer, rows, 8, 0),
    }.items():
        with pytest.raises(Asked) as caught:
            ask()
        found[name] = (list(caught.value.args[0]), None)
    row = encode_messages(to_messages(rows[0]), tokenizer)
    start = next(i for i, label in enumerate(row["labels"]) if label != IGNORED)
    found["sft"] = (row["input_ids"][:start], row["input_ids"])
    found["ppo"] = (PromptSet(rows, tokenizer, room_tokens=100, name="rows").batch([0]).ids[0], None)
    found["reward model"] = (None, encode_answers(tokenizer, [prompt], [ANSWER])[0])
    pair = {"prompt": prompt, "chosen": ANSWER, "rejected": "No."}
    dpo = next(preference_rows(tokenizer, [pair], 100, Counter()))
    found["dpo"] = (dpo["prompt_ids"], [*dpo["prompt_ids"], *dpo["chosen_ids"]])
    return found


@pytest.mark.parametrize("form", ["text", "messages", "raw"])
def test_every_stage_makes_the_same_ids_of_the_same_row(tokenizer, tmp_path, monkeypatch, form):
    chat = set_chat_template(copy.deepcopy(tokenizer))
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": MESSAGES if form == "messages" else QUESTION, "completion": ANSWER}))
    rows = [row.fields for row in read_rows(Source(str(file), raw_prompts=form == "raw"), ("prompt",))]
    prompt = chat.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
    if form == "raw":  # asked for by name
        prompt = [chat.bos_token_id, *encode_text(chat, QUESTION)]
    whole = [*prompt, *encode_text(chat, ANSWER), chat.eos_token_id]
    for stage, (asked, learnt) in ids_of_stages(chat, rows, monkeypatch).items():
        assert asked in (None, prompt), stage
        assert learnt in (None, whole), stage


def test_a_prompt_as_text_and_as_a_message_is_one_prompt():
    from base_model.chat import raw_prompt
    from reward.preferences import prompt_key, without_heldout

    assert prompt_key(QUESTION) == prompt_key(MESSAGES) != prompt_key(raw_prompt(QUESTION))
    pair, counts = {"chosen": "a", "rejected": "b"}, Counter()
    assert without_heldout([pair | {"prompt": QUESTION}], [pair | {"prompt": MESSAGES}], counts) == []
