"""What a chat template refuses is one line that names file and row, in every stage, and a row that `on_bad_rows: skip` leaves out."""

import copy
import json

import pytest

from base_model.chat import check_template, set_chat_template
from base_model.documents import BadRows, Source

TOOL = [{"role": "user", "content": "Weather?"}, {"role": "tool", "content": "sun"}]
HUMAN = [{"from": "human", "value": "Hi"}]


@pytest.fixture(scope="module")
def chat(tokenizer):
    return set_chat_template(copy.deepcopy(tokenizer))


def instructions(source, tokenizer, folder):
    from sft.examples import RowCounts, instruction_rows

    return list(instruction_rows(source, tokenizer, RowCounts(), context_tokens=100))


def preferences(source, tokenizer, folder):
    from reward.preferences import read_preferences

    return read_preferences(source, tokenizer=tokenizer)


def ppo(source, tokenizer, folder):
    from recipes.ppo import read_prompts

    return read_prompts(source, tokenizer)


def sampling(source, tokenizer, folder):
    from recipes.preferences import PreferencesConfig, read_prompts
    from recipes.run.finetune import DataConfig
    from tests.conftest import write_checkpoint

    config = PreferencesConfig(model=str(write_checkpoint(folder / "model", tokenizer)), judge="person")
    return read_prompts(DataConfig(source.path, on_bad_rows=source.on_bad_rows), config, 1)


@pytest.mark.parametrize("bad", [TOOL, HUMAN], ids=["tool", "sharegpt"])
@pytest.mark.parametrize("stage", [instructions, preferences, ppo, sampling])
def test_a_prompt_that_the_template_refuses_is_named_or_left_out(chat, tmp_path, stage, bad):
    rows = [
        {"prompt": prompt, "completion": "a", "chosen": f"a{i}", "rejected": "b"}
        for i, prompt in enumerate(["x", bad, "y"])
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(BadRows, match=r"rows.jsonl:2: .*(role \W*tool|role).*; 0 more bad rows"):
        stage(Source(str(file)), chat, tmp_path)
    assert len(stage(Source(str(file), on_bad_rows="skip"), chat, tmp_path / "skip")) == 2


def test_a_broken_template_is_blamed_itself(tokenizer):
    broken = copy.deepcopy(tokenizer)
    broken.chat_template = "{% for m in messages %}\n{{ m['content' }}{% endfor %}"
    with pytest.raises(
        ValueError, match="the chat template of runs/mine has a syntax error in line 2: .*put the model's own back"
    ):
        check_template(broken, "runs/mine")
    broken.chat_template = "{{ today() }}"
    with pytest.raises(
        ValueError, match="the chat template of runs/mine cannot write a user's message: 'today' is undefined"
    ):
        check_template(broken, "runs/mine")
    broken.chat_template = "{{ raise_exception('a system message comes first') }}"
    check_template(broken, "runs/mine")  # the rows may have one
