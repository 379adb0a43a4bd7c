"""Chat templates, and how a prompt becomes ids.

A prompt means one thing in every stage. With a chat template a prompt that is a string is what a user says, as the list
[{"role": "user", "content": it}] is. Text that goes in as it stands is asked for by name (`raw_prompts` of a source), and is then
[{"role": "raw", "content": it}] wherever it travels.

The project's own template (no spaces or line ends of its own; one stop token, <|eos|>, for every stage):

    <|bos|><|system|>Be brief.<|user|>Hello<|assistant|>Hi there.<|eos|><|user|>Bye<|assistant|>Goodbye.<|eos|>

The model learns what stands between {% generation %} marks: what the assistant says and the <|eos|> after it. What a message
says is escaped by the template itself, so that a user who types "<|eos|>" gets those letters and no special token; the saved
tokenizer undoes the escape (see tokenizer.py), so any program that loads it gives the ids that training used.

A parent without a template gets this one, with its own bos and eos and the role tokens added, or PLAIN_TEMPLATE, which adds no token.
A parent with a template keeps it (conversation.py finds what the assistant says in it).

Prompts without a template: a base model has seen no chat, so its checkpoint is saved without a template. A prompt that is a
string is then <|bos|> + its bytes; a prompt that is a list of messages is written out in PLAIN form,

    System: Be brief.

    User: Hello

    Assistant:

which every text model continues in a sensible way (the answer starts with a space).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from base_model.tokenizer import ASSISTANT, BOS, EOS, ESCAPE, SYSTEM, USER, encode_text, with_role_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": str}
RAW = "raw"  # role of the one message that is text to go on from, and no message at all
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

PLAIN_TEMPLATE = (
    "{{ bos_token | default('', true) }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ 'Assistant:' }}{% generation %}{{ ' ' ~ message['content'] ~ eos_token }}{% endgeneration %}"
    "{% elif message['role'] == 'user' or message['role'] == 'system' %}"
    "{{ message['role'] | capitalize ~ ': ' ~ message['content'] ~ '\n\n' }}"
    "{% else %}"
    "{{ raise_exception('message ' ~ loop.index ~ ' has the unknown role ' ~ (message['role'] | string | tojson)"
    " ~ '; use system, user or assistant') }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def set_chat_template(tokenizer: PreTrainedTokenizerBase, *, is_plain: bool = False) -> PreTrainedTokenizerBase:
    """A tokenizer without a template with one: this project's, or the plain one.

    Returns the same tokenizer where it has the role tokens or needs none; else a new one, which has them at its end and undoes the
    template's escape. Raises ValueError for the plain template where the tokenizer has no end token."""
    if is_plain:
        if tokenizer.eos_token is None:
            raise ValueError("the tokenizer has no end token (eos), so a plain template could not end an answer")
        tokenizer.chat_template = PLAIN_TEMPLATE
        return tokenizer
    tokenizer = with_role_tokens(tokenizer)
    tokenizer.chat_template = CHAT_TEMPLATE.replace(BOS, tokenizer.bos_token or "").replace(EOS, tokenizer.eos_token)
    return tokenizer


def apply_template(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], **options: Any) -> Any:
    """What `tokenizer.apply_chat_template` gives for a conversation: ids, or with return_dict more.

    Raises ValueError with the template's own words where it refuses the conversation or cannot write it."""
    from jinja2 import TemplateError

    options = {
        "return_dict": False,
        "tokenizer_kwargs": {"verbose": False},
    } | options  # too long is the caller's to say
    try:
        return tokenizer.apply_chat_template(list(messages), **options)
    except (TemplateError, TypeError, KeyError) as error:
        raise ValueError(f"the chat template refuses the conversation: {error}") from None


def check_template(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise ValueError if the chat template (of `name`) is broken: no row is to blame for that. A refusal of the probe is none."""
    from jinja2 import TemplateSyntaxError, UndefinedError

    if tokenizer.chat_template is None:
        return
    cure = "put the model's own back, or correct it"
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)
    except TemplateSyntaxError as error:
        raise ValueError(
            f"the chat template of {name} has a syntax error in line {error.lineno}: {error.message}; {cure}"
        ) from None
    except UndefinedError as error:
        raise ValueError(f"the chat template of {name} cannot write a user's message: {error}; {cure}") from None
    except Exception:
        return


def is_raw(prompt: str | Sequence[Message]) -> bool:
    """Is it text to go on from, asked for by name?"""
    return not isinstance(prompt, str) and len(prompt) > 0 and prompt[0].get("role") == RAW


def raw_prompt(text: str) -> list[Message]:
    """Text to go on from, in the form in which it travels."""
    return [{"role": RAW, "content": text}]


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str | Sequence[Message]) -> list[int]:
    """Ids that a model continues: the prompt through the chat template with its generation prompt; raw text as <|bos|> + text.

    For a tokenizer without a template a string is raw text, and messages go out in PLAIN form (see the module's text).
    Raises ValueError where the template refuses the prompt."""
    if is_raw(prompt):
        prompt = prompt[0]["content"]
    elif tokenizer.chat_template is not None:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return apply_template(tokenizer, messages, add_generation_prompt=True)
    elif not isinstance(prompt, str):
        prompt = plain_prompt(prompt)
    ids = encode_text(tokenizer, prompt)
    return ids if tokenizer.bos_token_id is None else [tokenizer.bos_token_id, *ids]


_WRITTEN_MESSAGES = re.compile(r"""\s*\[\s*\{\s*["'](role|content|from|value)["']\s*:""")


def refuse_written_list(text: object, name: str) -> None:
    """Raise ValueError for text that is a list of messages written out, as a CSV cell holds one: it would be learnt as it stands."""
    if isinstance(text, str) and _WRITTEN_MESSAGES.match(text):
        raise ValueError(
            f"field '{name}' must be text or a list of messages, found such a list as text ({text.strip()[:40]!r}); a CSV file holds no "
            "lists: use JSON lines or Parquet"
        )


def check_prompt(prompt: object, name: str = "prompt", tokenizer: PreTrainedTokenizerBase | None = None) -> None:
    """Raise ValueError unless a prompt is text, or a list of messages with role and text, and not empty; with a tokenizer also where its
    chat template refuses the prompt."""
    if not isinstance(prompt, (str, list, tuple)):
        raise ValueError(
            f"field '{name}' must be text or a list of messages, found {type(prompt).__name__} {str(prompt)[:40]}"
        )
    if not (prompt.strip() if isinstance(prompt, str) else prompt):
        raise ValueError(f"field '{name}' is empty")
    refuse_written_list(prompt, name)
    for number, message in enumerate([] if isinstance(prompt, str) else prompt, start=1):
        is_message = isinstance(message, Mapping) and {"role", "content"} <= message.keys()
        if not is_message or not all(isinstance(message[key], str) for key in ("role", "content")):
            raise ValueError(
                f"field '{name}': message {number} must be {{'role': ..., 'content': text}}, found {str(message)[:60]}"
            )
    if tokenizer is not None:
        try:
            render_prompt(tokenizer, prompt)
        except ValueError as error:
            raise ValueError(f"field '{name}': {error}") from None


def answer_text(tokenizer: PreTrainedTokenizerBase, prompt: str | Sequence[Message], answer: str) -> str:
    """An answer as it is written behind `render_prompt`: after the PLAIN form's "Assistant:", templated or not, with a space."""
    is_plain = (tokenizer.chat_template or PLAIN_TEMPLATE) == PLAIN_TEMPLATE
    is_text = is_raw(prompt) or (isinstance(prompt, str) and tokenizer.chat_template is None)
    return f" {answer.lstrip()}" if is_plain and not is_text else answer


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
