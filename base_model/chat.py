"""The one chat template, and how prompts and conversations become ids.

Layout (no spaces or line ends of its own; one stop token, <|eos|>, for every stage):

    <|bos|><|system|>Be brief.<|user|>Hello<|assistant|>Hi there.<|eos|><|user|>Bye<|assistant|>Goodbye.<|eos|>

The model learns what stands between {% generation %} marks: what the assistant says and the <|eos|> after it. What a message
says is escaped by the template itself, so that a user who types "<|eos|>" gets those letters and no special token; the saved
tokenizer undoes the escape (see tokenizer.py), so any program that loads it gives the ids that training used.

Prompts without a template: a base model has seen no chat, so its checkpoint is saved without a template. A prompt that is a
string is then <|bos|> + its bytes; a prompt that is a list of messages is written out in PLAIN form,

    System: Be brief.

    User: Hello

    Assistant:

which every text model continues in a sensible way (the answer starts with a space).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from base_model.tokenizer import ASSISTANT, BOS, EOS, ESCAPE, SYSTEM, USER, encode_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": str}
PLAIN_NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}
_ESCAPED = f"message['content'] | replace('<{ESCAPE}', '<{ESCAPE}{ESCAPE}') | replace('<|', '<{ESCAPE}|')"
CHAT_TEMPLATE = (
    f"{{{{ '{BOS}' }}}}"
    "{% for message in messages %}"
    "{% if message['content'] is not string %}"
    "{{ raise_exception('message ' ~ loop.index ~ ' has no text: its content must be a string') }}"
    "{% endif %}"
    "{% if message['role'] == 'assistant' %}"
    f"{{{{ '{ASSISTANT}' }}}}{{% generation %}}{{{{ ({_ESCAPED}) ~ '{EOS}' }}}}{{% endgeneration %}}"
    "{% elif message['role'] == 'user' %}"
    f"{{{{ '{USER}' ~ ({_ESCAPED}) }}}}"
    "{% elif message['role'] == 'system' %}"
    f"{{{{ '{SYSTEM}' ~ ({_ESCAPED}) }}}}"
    "{% else %}"
    "{{ raise_exception('message ' ~ loop.index ~ ' has the unknown role ' ~ (message['role'] | string | tojson)"
    " ~ '; use system, user or assistant') }}"
    "{% endif %}"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{{{{ '{ASSISTANT}' }}}}{{% endif %}}"
)


def set_chat_template(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Give a tokenizer that has this project's special tokens the template; returns the same tokenizer.

    Raises ValueError for a tokenizer without the role tokens (it has a template of its own, or needs one made for it)."""
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in (BOS, EOS, SYSTEM, USER, ASSISTANT) if token not in vocabulary]
    if missing:
        raise ValueError(
            f"the tokenizer has no {', '.join(missing)}; keep its own chat template or train it with base_model.tokenizer"
        )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> tuple[list[int], list[bool]]:
    """Ids of a whole conversation, and for each whether the assistant wrote it (its <|eos|> included).

    These are the ids that `tokenizer.apply_chat_template(messages)` gives, because that is what is called.
    Raises jinja2.TemplateError for an unknown role or a message without text, ValueError for a template that does not mark
    what the assistant says."""
    encoded = tokenizer.apply_chat_template(
        list(messages), return_dict=True, return_assistant_tokens_mask=True, tokenizer_kwargs={"verbose": False}
    )  # not verbose: what is too long is the caller's to say
    is_assistant = [bool(mark) for mark in encoded["assistant_masks"]]
    if not any(is_assistant) and any(message["role"] == "assistant" for message in messages):
        raise ValueError(
            "the tokenizer's chat template does not mark what the assistant says; "
            "put {% generation %} ... {% endgeneration %} around it, or use base_model.chat.set_chat_template"
        )
    return encoded["input_ids"], is_assistant


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str | Sequence[Message]) -> list[int]:
    """Ids that a model continues: messages through the chat template with its generation prompt, text as <|bos|> + text.

    Messages for a tokenizer without a template go out in PLAIN form (see the module's text)."""
    if not isinstance(prompt, str):
        if tokenizer.chat_template is not None:
            return tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True, return_dict=False)
        prompt = plain_prompt(prompt)
    ids = encode_text(tokenizer, prompt)
    return ids if tokenizer.bos_token_id is None else [tokenizer.bos_token_id, *ids]


def check_prompt(prompt: object, name: str = "prompt") -> None:
    """Raise ValueError unless a prompt is text, or a list of messages with role and text, and not empty. A template may refuse more."""
    if not isinstance(prompt, (str, list, tuple)):
        raise ValueError(
            f"field '{name}' must be text or a list of messages, found {type(prompt).__name__} {str(prompt)[:40]}"
        )
    if not (prompt.strip() if isinstance(prompt, str) else prompt):
        raise ValueError(f"field '{name}' is empty")
    for number, message in enumerate([] if isinstance(prompt, str) else prompt, start=1):
        is_message = isinstance(message, Mapping) and {"role", "content"} <= message.keys()
        if not is_message or not all(isinstance(message[key], str) for key in ("role", "content")):
            raise ValueError(
                f"field '{name}': message {number} must be {{'role': ..., 'content': text}}, found {str(message)[:60]}"
            )


def plain_prompt(messages: Sequence[Message]) -> str:
    """Messages as text for a model that knows no chat template. Raises ValueError for an unknown role."""
    lines = []
    for number, message in enumerate(messages, start=1):
        if message["role"] not in PLAIN_NAMES:
            raise ValueError(
                f"message {number} has the unknown role {message['role']!r}; use system, user or assistant"
            )
        lines.append(f"{PLAIN_NAMES[message['role']]}: {message['content']}")
    return "\n\n".join([*lines, "Assistant:"])
