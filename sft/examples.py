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

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from base_model.chat import RAW, Message, answer_text, is_raw, render_prompt
from base_model.conversation import encode_conversation
from base_model.documents import Counts, Row, Source, read_rows
from base_model.tokenizer import encode_text

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
        raise BadRow(missing, _missing("'messages', or 'prompt' and 'completion'", fields))
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
    roles = (RAW, *ROLES) if len(messages) == 2 else ROLES
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str) or "role" not in message:
            raise BadRow(field, f"message {number} must be {{'role': ..., 'content': text}}, found {_kind(message)}")
        role, content = message["role"], message["content"]
        if role not in roles:
            raise BadRow(field, f"message {number} has the role {role!r}; use system, user or assistant")
        expected = _expected_role([m["role"] for m in messages[: number - 1]])
        if role not in expected and role != RAW:
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
    return ("assistant",) if before[-1] in ("user", RAW) else ("user",)


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {type(item).__name__}' for key, item in value.items())}}}"
    return "an empty list" if isinstance(value, (list, tuple)) else type(value).__name__


def encode_messages(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """`input_ids` and `labels` of a conversation that passed `check_conversation`.

    Raises BadRow if the chat template refuses it, or if the tokens of a prompt, as the model will meet it when it answers, do not begin
    the tokens of the whole: the model would be trained on contexts that it never sees."""
    if is_raw(messages):
        prompt = render_prompt(tokenizer, messages)
        answer = encode_text(tokenizer, answer_text(tokenizer, messages, messages[1]["content"]))
        ids = [*prompt, *answer, tokenizer.eos_token_id]
        is_assistant = [False] * len(prompt) + [True] * (len(answer) + 1)
    else:
        try:
            ids, is_assistant = encode_conversation(tokenizer, messages)
        except ValueError as error:
            raise BadRow("messages", str(error)) from None
    return {
        "input_ids": ids,
        "labels": [token if said else IGNORED for token, said in zip(ids, is_assistant, strict=True)],
    }


def encode_document(text: str, tokenizer: PreTrainedTokenizerBase, context_tokens: int) -> list[dict[str, list[int]]]:
    """<|bos|> text <|eos|>, every token learnt, as pretraining has it; in pieces of at most `context_tokens`."""
    ids = [*encode_text(tokenizer, text), tokenizer.eos_token_id]
    if tokenizer.bos_token_id is not None:
        ids.insert(0, tokenizer.bos_token_id)
    pieces = [ids[start : start + context_tokens] for start in range(0, len(ids), context_tokens)]
    return [
        {"input_ids": piece, "labels": piece} for piece in pieces if len(piece) > 1
    ]  # one token alone teaches nothing


def cut_to_context(row: dict[str, list[int]], context_tokens: int) -> dict[str, list[int]] | None:
    """The row cut after the last whole assistant turn that ends within `context_tokens`; None if no turn does.

    A cut inside an answer would teach the model not to stop."""
    labels = row["labels"]
    for end in range(min(context_tokens, len(labels)), 0, -1):
        if labels[end - 1] != IGNORED and (end == len(labels) or labels[end] == IGNORED):
            return {name: values[:end] for name, values in row.items()}
    return None


@dataclass
class RowCounts:
    """What became of a source's rows; goes into the run's record."""

    read: int = 0
    skipped: int = 0  # broke a rule, under on_bad_rows="skip"
    dropped_long: int = 0  # longer than the context, under on_long_rows="drop", or nothing left under "truncate"
    truncated: int = 0  # cut to the context after a whole assistant turn
    pieces: int = 0  # documents longer than the context give several
    tokens: int = 0  # of what is kept
    learnt_tokens: int = 0  # of those, with a label
    first_problems: list[str] = field(default_factory=list)  # of skipped rows

    def add(self, row: dict[str, list[int]]) -> dict[str, list[int]]:
        """Count a kept row; returns it."""
        self.pieces += 1
        self.tokens += len(row["input_ids"])
        self.learnt_tokens += sum(label != IGNORED for label in row["labels"])
        return row


@dataclass(frozen=True)
class Conversation:
    """One row of a source: where it stands, what it says, its ids and labels, and what of them is kept (None: left out)."""

    location: str
    messages: list[Message]
    whole: dict[str, list[int]]
    kept: dict[str, list[int]] | None


def instruction_rows(
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    counts: RowCounts,
    *,
    context_tokens: int,
    on_long_rows: str = "error",
) -> Iterator[dict[str, list[int]]]:
    """`input_ids` and `labels` of each conversation of a source, in order. Raises ValueError naming file and row; see `read_rows`."""
    for row in conversations(source, tokenizer, counts, context_tokens=context_tokens, on_long_rows=on_long_rows):
        if row.kept is not None:
            yield row.kept


def conversations(
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    counts: RowCounts,
    *,
    context_tokens: int,
    on_long_rows: str = "error",
) -> Iterator[Conversation]:
    """Every conversation that `instruction_rows` reads, those included that are too long and left out. Raises ValueError as it does."""
    if on_long_rows not in LONG_ROWS:
        raise ValueError(f"on_long_rows is {on_long_rows!r}; use one of {', '.join(LONG_ROWS)}")

    def check(fields: dict[str, Any]) -> None:
        messages = fields["messages"] = to_messages(fields)
        row = fields["row"] = encode_messages(messages, tokenizer)
        if on_long_rows == "error" and len(row["input_ids"]) > context_tokens:
            raise ValueError(
                f"the conversation has {len(row['input_ids'])} tokens, more than the context of {context_tokens}; shorten it, or choose "
                "--on_long_rows drop or truncate"
            )

    for row in _checked(source, check, counts):
        whole = kept = row.fields["row"]
        if len(whole["input_ids"]) > context_tokens:
            kept = cut_to_context(whole, context_tokens) if on_long_rows == "truncate" else None
            counts.truncated += kept is not None
        if kept is None:
            counts.dropped_long += 1
        else:
            counts.add(kept)
        yield Conversation(row.location, row.fields["messages"], whole, kept)
    if not counts.pieces:
        raise ValueError(f"{source.path}: none of its {counts.read} rows fits into {context_tokens} tokens")


def document_rows(
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    counts: RowCounts,
    *,
    context_tokens: int,
    share: float = 1.0,
    seed: int = 1,
) -> Iterator[dict[str, list[int]]]:
    """`input_ids` and `labels` of a source's documents, in order, long ones in pieces; of all, or of a `share` drawn with `seed`.

    Raises ValueError naming file and row; see `read_rows`."""
    chance = random.Random(seed)
    for row in _checked(source, check_text, counts):
        if share < 1 and chance.random() >= share:
            continue
        for piece in encode_document(row.fields["text"], tokenizer, context_tokens):
            yield counts.add(piece)


def check_text(fields: Mapping[str, Any]) -> None:
    """Raise BadRow unless the row holds a `text` with something in it."""
    if not isinstance(fields.get("text"), str):
        raise BadRow(
            "text", f"must be a string, found {_kind(fields['text'])}" if "text" in fields else _missing("text", fields)
        )
    if not fields["text"].strip():
        raise BadRow("text", "is empty or only white space")


def _missing(expected: str, fields: Mapping[str, Any]) -> str:
    return f"is missing; expected {expected}, the row has {', '.join(fields) or 'nothing'} (map other names with --columns)"


def _checked(source: Source, check: Callable[[dict[str, Any]], None], counts: RowCounts) -> Iterator[Row]:
    reading = Counts()
    try:
        yield from read_rows(source, required=(), check=check, counts=reading)
    finally:  # also where no more rows are asked for
        counts.read, counts.skipped = reading.read + reading.skipped, reading.skipped
        counts.first_problems = reading.examples
    if not counts.read:
        raise ValueError(f"{source.path} holds no rows")
