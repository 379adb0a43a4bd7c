"""A whole conversation as ids, and which of them the assistant says: for this project's chat template and any other.

Few templates on the hub mark what the assistant says. It is found, in this order:

1. by the template's own {% generation %} marks, if they hold the end of a turn too (else a model would never learn to stop);
2. by TRL's training template for the family (Qwen, Llama 3, Gemma, Phi, ...): the same text with marks, every turn written as it was said;
3. by rendering prefixes: an answer is what a conversation up to and with it has after the prompt that asks for it.

Whichever it is, on every row the prompt of each answer must begin the conversation's ids, as the model will meet it. With TRL's template
that is asked of the messages before the answer alone: some families' prompts open a thought that a row without thoughts does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from base_model.chat import Message, apply_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_marked: dict[str, str | None] = {}  # a chat template -> the one with marks, by its text


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> tuple[list[int], list[bool]]:
    """Ids of a whole conversation, and for each whether the assistant wrote it (the end of its turn included).

    Raises ValueError for a conversation that the template refuses, and where a prompt's ids do not begin the conversation's."""
    template = marked_template(tokenizer)
    if template is None:
        return _by_prefixes(tokenizer, messages)
    encoded = apply_template(
        tokenizer, messages, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, is_assistant = encoded["input_ids"], [bool(mark) for mark in encoded["assistant_masks"]]
    is_own = template == _default(tokenizer)
    for turn in _answers(messages):
        start = _prompt_tokens(tokenizer, messages, turn, ids, template, is_own=is_own)
        if not any(is_assistant[start:]) or (is_own and not is_assistant[start]):
            raise ValueError(f"the chat template does not mark what the assistant says in message {turn + 1}")
    return ids, is_assistant


def marked_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The template whose {% generation %} marks say what the assistant says: the tokenizer's own, or TRL's for its family; else None."""
    own = _default(tokenizer)
    if own not in _marked:
        _marked[own] = _find_marked(tokenizer, own)
    return _marked[own]


def _default(tokenizer: PreTrainedTokenizerBase) -> str:
    template = tokenizer.chat_template
    return template["default"] if isinstance(template, dict) else template


def _find_marked(tokenizer: PreTrainedTokenizerBase, own: str) -> str | None:
    from jinja2 import TemplateError
    from trl import chat_template_utils as trl_templates  # late: takes a second

    if trl_templates.has_generation_markers(own):
        return own if trl_templates.is_chat_template_stop_token_trained(tokenizer) else None
    try:
        return trl_templates.get_training_chat_template(tokenizer)
    except (TemplateError, TypeError, ValueError):  # a family that TRL does not have
        return None


def _answers(messages: Sequence[Message]) -> list[int]:
    """Places of the messages that answer something."""
    return [turn for turn, message in enumerate(messages) if turn and message.get("role") == "assistant"]


def _prompt_tokens(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    turn: int,
    ids: list[int],
    template: str | None,
    *,
    is_own: bool = True,
) -> int:
    """How many ids the prompt of an answer has; ValueError unless it begins the conversation's `ids` (see the module's text)."""
    for is_asked in (True,) if is_own else (True, False):
        prompt = apply_template(tokenizer, messages[:turn], add_generation_prompt=is_asked, chat_template=template)
        if ids[: len(prompt)] == prompt:
            return len(prompt)
    raise ValueError(
        f"the tokens of what comes before message {turn + 1} are not a prefix of the whole conversation's; the chat template "
        "writes a prompt differently from a finished conversation"
    )


def _by_prefixes(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
    ids = apply_template(tokenizer, messages)
    is_assistant = [False] * len(ids)
    for turn in _answers(messages):
        start = _prompt_tokens(tokenizer, messages, turn, ids, None)
        up_to = ids if turn == len(messages) - 1 else apply_template(tokenizer, messages[: turn + 1])
        end = next((i for i, pair in enumerate(zip(ids, up_to, strict=False)) if pair[0] != pair[1]), len(up_to))
        left = tokenizer.decode(up_to[end:], skip_special_tokens=True)  # such as an end of text after the last turn
        if end <= start or left.strip():
            raise ValueError(
                f"the chat template writes message {turn + 1} differently once the conversation goes on, so what the assistant says "
                "there cannot be told; leave the later messages out"
            )
        is_assistant[start:end] = [True] * (end - start)
    return ids, is_assistant
