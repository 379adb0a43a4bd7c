"""What the assistant says, in other families' chat templates: held to the masks of TRL's own SFTTrainer, row by row."""

import re
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from base_model.conversation import encode_conversation, marked_template
from sft.examples import IGNORED, BadRow, encode_messages
from tests.conftest import TEXTS, random_model


def say(role, content):
    return {"role": role, "content": content}


CONVERSATIONS = [
    [say("user", "Who keeps the loaves?"), say("assistant", "The baker keeps three loaves.")],
    [say("user", " Hi "), say("assistant", "Yes. "), say("user", "No?"), say("assistant", "\nI do not know\n what.")],
]
# Families that TRL has a training template for; the text of theirs is read from TRL.
TRL_FAMILIES = ["qwen2_5", "qwen3", "llama3", "gemma", "gemma3", "phi3", "glm4moe", "lfm2", "deepseekv3", "cohere2"]
# Families that it has not, in their own layout. TRL masks their rows as prompt and completion.
TURN = "{% if message['role'] == 'assistant' %}"
OTHER_FAMILIES = {
    "SmolLM2": (
        "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "Zephyr": (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
    "Llama 2": (
        "{% for message in messages %}" + TURN + "{{ ' ' + message['content'] | trim + ' ' + eos_token }}"
        "{% else %}{{ bos_token + '[INST] ' + message['content'] | trim + ' [/INST]' }}{% endif %}{% endfor %}"
    ),
    "closed at the end": (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
    ),
    "marks without the end": (
        "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
        + TURN
        + "{% generation %}{{ message['content'] }}"
        "{% endgeneration %}{% else %}{{ message['content'] }}{% endif %}{{ '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    ),
}


def tokenizer_for(template):
    """A small byte-level BPE with every special token that a template spells."""
    special = [
        "<|bos|>",
        "<|eos|>",
        "<|pad|>",
        *sorted(set(re.findall(r"<[|\uff5c]?[\w\u2581]+[|\uff5c]?>|\[gMASK\]|<sop>", template))),
    ]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|bos|>", eos_token="<|eos|>", pad_token="<|pad|>"
    )
    tokenizer.chat_template = template
    return tokenizer


def rows_of_trl(tokenizer, rows, folder, **options):
    """(input_ids, labels) of each row as SFTTrainer makes them."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    args = SFTConfig(output_dir=str(folder), max_length=None, report_to="none", use_cpu=True, **options)
    model = random_model("gpt2", len(tokenizer))
    trainer = SFTTrainer(model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    batch = [trainer.data_collator([row]) for row in trainer.train_dataset]
    return [(row["input_ids"][0].tolist(), row["labels"][0].tolist()) for row in batch]


@pytest.mark.parametrize("family", TRL_FAMILIES)
def test_a_family_that_trl_knows_is_masked_as_trl_does(family, tmp_path):
    import trl

    template = (Path(trl.__file__).parent / "chat_templates" / f"{family}.jinja").read_text(encoding="utf-8")
    tokenizer = tokenizer_for(template)
    assert "generation %}" not in template and "generation" in marked_template(tokenizer)
    theirs = rows_of_trl(tokenizer, [{"messages": m} for m in CONVERSATIONS], tmp_path, assistant_only_loss=True)
    for messages, (ids, labels) in zip(CONVERSATIONS, theirs, strict=True):
        row = encode_messages(messages, tokenizer)
        assert row == {"input_ids": ids, "labels": labels}
    assert tokenizer.chat_template == template


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_any_other_family_is_masked_as_trl_masks_a_prompt_and_its_completion(family, tmp_path):
    tokenizer = tokenizer_for(OTHER_FAMILIES[family])
    assert marked_template(tokenizer) is None
    rows = [{"prompt": m[:-1], "completion": m[-1:]} for m in CONVERSATIONS]
    for messages, (ids, labels) in zip(CONVERSATIONS, rows_of_trl(tokenizer, rows, tmp_path), strict=True):
        row = encode_messages(messages, tokenizer)
        start = next(i for i, label in enumerate(labels) if label != IGNORED)  # TRL learns the last answer alone
        assert row["input_ids"] == ids and row["labels"][start:] == labels[start:]
    first = tokenizer.decode([label for label in row["labels"][:start] if label != IGNORED])
    assert first.strip().startswith("Yes.") and "No?" not in first


def test_a_template_that_rewrites_an_answer_later_is_refused_by_row():
    """An answer that later turns drop (as some drop what was thought) cannot be learnt there in silence."""
    tokenizer = tokenizer_for(
        "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
        + TURN
        + "{{ message['content'] if loop.last else '...' }}{% else %}{{ message['content'] }}{% endif %}{{ '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    assert any(encode_conversation(tokenizer, CONVERSATIONS[0])[1])
    with pytest.raises(BadRow, match="writes message 2 differently once the conversation goes on"):
        encode_messages(CONVERSATIONS[1], tokenizer)
