"""What a person's rows must hold to be learnt from, and how they become ids and labels.

Three forms of an instruction row, told apart by their fields:

    messages             [{"role": "system"|"user"|"assistant", "content": str}, ...]
    prompt, completion   each a string, or a list of messages
    + context            optional beside a string prompt: what the instruction is about (Alpaca's `input`), put below it

so Alpaca's columns are `{"prompt": "instruction", "context": "input", "completion": "output"}`. A domain row holds `text`.

A row that breaks a rule is named by file and row with the reason; nothing is repaired in silence. Labels are the ids themselves where the
assistant speaks (its end token included) and IGNORED elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from base_model.chat import Message, encode_conversation, render_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # label of a token that is not learnt, as torch's cross_entropy has it
ROLES = ("system", "user", "assistant")
LONG_ROWS = ("error", "drop", "truncate")


class BadRow(ValueError):
    """One row breaks a rule: `field` says where, the message what is wrong and what was expected."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"field '{field}': {problem}")


def to_messages(fields: Mapping[str, Any]) -> list[Message]:
    """A row's conversation in the one form that training uses. Raises BadRow."""
    if "messages" in fields:
        messages, field = fields["messages"], "messages"
    elif "prompt" in fields and "completion" in fields:
        messages, field = _prompt_and_completion(fields), "completion"
    else:
        missing = "completion" if "prompt" in fields else "prompt" if "completion" in fields else "messages"
        raise BadRow(
            missing,
            f"is missing; expected 'messages', or 'prompt' and 'completion', found {', '.join(fields) or 'nothing'}",
        )
    check_conversation(messages, field)
    return list(messages)


def _prompt_and_completion(fields: Mapping[str, Any]) -> list[Message]:
    prompt, completion = fields["prompt"], fields["completion"]
    context = fields.get("context")
    if context and not (isinstance(context, str) and isinstance(prompt, str)):
        raise BadRow("context", "goes with a prompt that is a string; put it into the messages instead")
    if isinstance(prompt, str):
        text = f"{prompt}\n\n{context}" if context and context.strip() else prompt
        prompt = [{"role": "user", "content": text}]
    if isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    for name, value in (("prompt", prompt), ("completion", completion)):
        if not isinstance(value, (list, tuple)):
            raise BadRow(name, f"must be a string or a list of messages, found {_kind(value)}")
    if completion and isinstance(completion[0], Mapping) and completion[0].get("role") != "assistant":
        raise BadRow(
            "completion", f"must begin with what the assistant says, found the role {completion[0].get('role')!r}"
        )
    return [*prompt, *completion]


def check_conversation(messages: Any, field: str = "messages") -> None:
    """Raise BadRow unless `messages` is: perhaps one system message, then user and assistant in turn, an assistant last, none empty."""
    if not isinstance(messages, (list, tuple)) or not messages:
        raise BadRow(field, f"must be a list of messages with at least one of the assistant, found {_kind(messages)}")
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str) or "role" not in message:
            raise BadRow(field, f"message {number} must be {{'role': ..., 'content': text}}, found {_kind(message)}")
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise BadRow(field, f"message {number} has the role {role!r}; use system, user or assistant")
        expected = _expected_role([m["role"] for m in messages[: number - 1]])
        if role not in expected:
            raise BadRow(
                field,
                f"roles out of order: message {number} is from {role!r}, expected {' or '.join(map(repr, expected))}",
            )
        if not content.strip():
            raise BadRow(field, f"message {number} (from {role!r}) is {'empty' if not content else 'only white space'}")
    if messages[-1]["role"] != "assistant":
        raise BadRow(field, f"the assistant's turn is missing: the last message is from {messages[-1]['role']!r}")


def _expected_role(before: Sequence[str]) -> tuple[str, ...]:
    if not before:
        return ("system", "user")
    return ("assistant",) if before[-1] == "user" else ("user",)


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {type(item).__name__}' for key, item in value.items())}}}"
    return "an empty list" if isinstance(value, (list, tuple)) else type(value).__name__


def encode_messages(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """`input_ids` and `labels` of a conversation that passed `check_conversation`.

    Raises BadRow if the tokens of a prompt, as the model will meet it when it answers, do not begin the tokens of the whole: the model would be
    trained on contexts that it never sees."""
    ids, is_assistant = encode_conversation(tokenizer, messages)
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = render_prompt(tokenizer, messages[:turn])
        start = len(prompt)
        if ids[:start] != prompt or not is_assistant[start]:
            raise BadRow(
                "messages",
                f"the tokens of what comes before message {turn + 1} are not a prefix of the whole conversation's tokens; the chat template "
                "writes a prompt differently from a finished conversation",
            )
    return {
        "input_ids": ids,
        "labels": [token if said else IGNORED for token, said in zip(ids, is_assistant, strict=True)],
    }


def fit(row: dict[str, list[int]], context_tokens: int, eos_id: int) -> dict[str, list[int]] | None:
    """The row cut after the last whole assistant turn that ends within `context_tokens`; None if not one does.

    Cutting inside an answer would teach the model not to stop."""
    for end in range(min(context_tokens, len(row["labels"])), 0, -1):
        if row["labels"][end - 1] == eos_id:
            return {name: values[:end] for name, values in row.items()}
    return None


@dataclass
class RowCounts:
    """What became of the rows: goes into the run's record."""

    rows: int = 0  # read
    kept: int = 0
    truncated: int = 0  # of the kept: cut to the context after a whole assistant turn
    dropped_long: int = 0  # longer than the context
    skipped: int = 0  # broke a rule, under on_bad_rows="skip"
    tokens: int = 0  # of the kept
    learnt_tokens: int = 0  # of those, with a label
    reasons: Counter = field(default_factory=Counter)  # rule broken -> rows skipped
