"""Rows of ids as a person can read them: what each token says, who says it, whether it is learnt, where an answer stops, what is cut."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from base_model.chat import Message, apply_template, is_raw
from base_model.untrained import named

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATE = "template"  # role of what the chat template writes around the messages


@dataclass(frozen=True)
class Token:
    """One id in its row."""

    id: int
    text: str  # what it adds to the text before it; "" for the first bytes of a character
    name: str  # in the vocabulary
    role: str  # of the message that it is part of, else TEMPLATE
    is_learnt: bool
    is_cut: bool  # the stage leaves it out
    is_stop: bool  # generation ends at it
    is_special: bool  # a control token, whatever its text looks like
    is_untrained: bool  # the parent never trained it


@dataclass(frozen=True)
class ViewedRow:
    """A row and what a person should know of it."""

    title: str
    tokens: list[Token]
    notes: list[str]

    def runs(self) -> list[list[Token]]:
        """Its tokens, those together that stand side by side and are alike in role, learnt and cut."""
        alike = itertools.groupby(self.tokens, key=lambda token: (token.role, token.is_learnt, token.is_cut))
        return [list(run) for _, run in alike]


@dataclass(frozen=True)
class TokenView:
    """Makes a ViewedRow of ids."""

    tokenizer: PreTrainedTokenizerBase
    stop_ids: frozenset[int]
    untrained: frozenset[int] = field(default_factory=frozenset)

    def row(
        self,
        title: str,
        ids: Sequence[int],
        is_learnt: Sequence[bool],
        messages: Sequence[Message] = (),
        *,
        cut: range = range(0),
        notes: Sequence[str] = (),
    ) -> ViewedRow:
        """ids and is_learnt: of the whole row; cut: places that the stage leaves out, which are then not learnt either.
        messages: what the row was made from; without any all of it is text."""
        texts = token_texts(self.tokenizer, ids)
        roles = roles_of(self.tokenizer, texts, messages) if messages else ["text"] * len(ids)
        names, special = self.tokenizer.convert_ids_to_tokens(list(ids)), set(self.tokenizer.added_tokens_decoder)
        tokens = [
            Token(
                id=token,
                text=texts[place],
                name=str(names[place]),
                role=roles[place],
                is_learnt=bool(is_learnt[place]) and place not in cut,
                is_cut=place in cut,
                is_stop=token in self.stop_ids,
                is_special=token in special,
                is_untrained=token in self.untrained,
            )
            for place, token in enumerate(ids)
        ]
        return ViewedRow(title, tokens, [*notes, *self._findings(tokens, bool(messages))])

    def _findings(self, tokens: Sequence[Token], is_conversation: bool) -> Iterator[str]:
        if met := {token.id for token in tokens if token.is_untrained and not token.is_cut}:
            yield f"never trained in the parent: {named(met, self.tokenizer)}"
        if said := {token.id for token in tokens if is_conversation and token.is_special and token.role != TEMPLATE}:
            yield f"control tokens in what a message says: {named(said, self.tokenizer)}"
        if not is_conversation:
            return
        answers = [list(run) for learnt, run in itertools.groupby(tokens, key=lambda token: token.is_learnt) if learnt]
        if endless := sum(not any(token.is_stop for token in answer) for answer in answers):
            yield f"{endless} of {len(answers)} learnt answers have no stop token: the model would learn to run on"


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text; joined they are the row's text. The bytes of a character all stand with its last token."""

    def decode(start: int, end: int) -> str:
        return tokenizer.decode(list(ids[start:end]), clean_up_tokenization_spaces=False)

    texts, start, read = [], 0, 0  # a token is decoded behind the one before: alone it may lose its space
    for end in range(1, len(ids) + 1):
        text = decode(start, end)
        if text.endswith("\ufffd") and end < len(ids) and end - read < 4:  # a character has at most 4 bytes
            texts.append("")
        else:
            texts.append(text[len(decode(start, read)) :])
            start, read = read, end
    return texts


def roles_of(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], messages: Sequence[Message]) -> list[str]:
    """The role of each token: of the message whose content, as found in the row's text, it is part of; else TEMPLATE.

    A content that stands in the text more than once is looked for where the template puts it."""
    text, end, spans = "".join(texts), 0, []
    for message, before in zip(messages, _written_before(tokenizer, messages), strict=True):
        said = message["content"].strip()
        places = [found.start() for found in re.finditer(re.escape(said), text[end:])] if said else []
        if places:
            start = end + min(places, key=lambda place: abs(place - before))
            end = start + len(said)
            spans.append((start, end, message["role"]))
    roles, place = [], 0
    for token in texts:
        last = place + max(1, len(token))  # the first bytes of a character belong to where it stands
        roles.append(next((role for start, end, role in spans if max(start, place) < min(end, last)), TEMPLATE))
        place += len(token)
    return roles


def _written_before(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """How many characters the template writes between each message's content and the one before it; 0 where that can't be told."""
    unknown = [0] * len(messages)
    if tokenizer.chat_template is None or is_raw(messages):
        return unknown
    marks = [f"plumbline-{number}." for number in range(len(messages))]
    marked = [{**message, "content": mark} for message, mark in zip(messages, marks, strict=True)]
    try:
        text = apply_template(tokenizer, marked, tokenize=False)
    except ValueError:
        return unknown
    places = [text.find(mark) for mark in marks]
    ends = [0, *(place + len(mark) for place, mark in zip(places, marks, strict=True))]
    return [max(0, place - end) for place, end in zip(places, ends, strict=False)]
