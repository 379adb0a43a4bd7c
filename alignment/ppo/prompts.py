"""A data set of prompts: checked when the trainer is built, read in a seeded order that knows its place by the update's number alone.

Rows are mappings with a `prompt` column, text or messages; every other column goes to the reward functions as it is, None for a row
that lacks it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from base_model.chat import render_prompt

RESERVED = frozenset({"prompts", "completions"})  # reward functions are called with these beside the columns


@dataclass(frozen=True)
class PromptBatch:
    """Prompts as the data set has them, their token ids, and the other columns as lists."""

    prompts: list[Any]
    ids: list[list[int]]
    columns: dict[str, list]

    def __len__(self) -> int:
        return len(self.prompts)


class PromptSet:
    """dataset: a datasets.Dataset or any sequence of mappings. room_tokens: the longest prompt that leaves room for an answer.

    Every prompt is tokenised once here, to find the bad ones, and again when it is used, so memory does not grow with the
    data. Raises ValueError, naming the row, for a missing column, an empty or malformed prompt, and (unless
    overlong="skip", which counts them in `skipped`) one longer than room_tokens."""

    def __init__(self, dataset: Any, tokenizer: Any, *, room_tokens: int, overlong: str = "error", name: str) -> None:
        self.dataset, self.tokenizer = dataset, tokenizer
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise ValueError(
                f"{name} must be a datasets.Dataset or a list of rows, got {type(dataset).__name__}; "
                "a stream has no length and no position to resume from"
            )
        self.rows, self.skipped, longest = [], 0, (0, 0)
        columns: dict[str, None] = {}  # of all rows, in order
        for i in range(len(dataset)):
            columns |= dict.fromkeys(dataset[i])
            tokens = len(self._checked_ids(dataset[i], f"{name}, row {i}"))
            if tokens <= room_tokens:
                self.rows.append(i)
            else:
                self.skipped += 1
                longest = max(longest, (tokens, i))
        if self.skipped and overlong == "error":
            raise ValueError(
                f"{name}: {self.skipped} of {len(dataset)} prompts are longer than {room_tokens} tokens (row {longest[1]} "
                f"has {longest[0]}) and leave no room for max_completion_length in the model's context; shorten them, or set "
                "overlong_prompts to 'skip'"
            )
        if taken := RESERVED.intersection(columns):
            raise ValueError(
                f"{name} has a column '{min(taken)}', a name that reward functions are called with; rename the column"
            )
        self.columns = [column for column in columns if column != "prompt"]
        if not self.rows:
            raise ValueError(f"{name} has no usable prompt ({self.skipped} are too long)")

    def __len__(self) -> int:
        return len(self.rows)

    def _checked_ids(self, row: Any, where: str) -> list[int]:
        if "prompt" not in row:
            raise ValueError(f"{where}: there is no 'prompt' column, only {', '.join(sorted(row)) or 'nothing'}")
        prompt = row["prompt"]
        is_text = isinstance(prompt, str)
        if not is_text and not isinstance(prompt, (list, tuple)):
            raise ValueError(f"{where}: a prompt is text or a list of messages, got {type(prompt).__name__}")
        if not (prompt.strip() if is_text else prompt):
            raise ValueError(f"{where}: the prompt is empty")
        try:
            ids = render_prompt(self.tokenizer, prompt)
        except Exception as error:  # jinja's and the tokenizer's own errors do not say which row
            raise ValueError(f"{where}: the prompt cannot be rendered: {error}") from error
        if not ids:
            raise ValueError(f"{where}: the prompt has no tokens")
        return ids

    def batch(self, places: Sequence[int]) -> PromptBatch:
        """The prompts at these places of the usable rows."""
        rows = [self.dataset[self.rows[place]] for place in places]
        return PromptBatch(
            prompts=[row["prompt"] for row in rows],
            ids=[render_prompt(self.tokenizer, row["prompt"]) for row in rows],
            columns={name: [row.get(name) for row in rows] for name in self.columns},
        )

    def places(self, start: int, count: int, seed: int) -> list[int]:
        """Places of the episodes start .. start + count - 1 of an endless stream that reads all prompts in a new order each
        time round. A function of its arguments: a resumed run reads on where the other stopped."""
        found: list[int] = []
        while len(found) < count:
            epoch, offset = divmod(start + len(found), len(self))
            order = np.random.default_rng([seed, epoch]).permutation(len(self))
            found += order[offset : offset + count - len(found)].tolist()
        return found


def as_text(prompt: Any) -> str:
    """A prompt for people to read: text as it is, messages as role: content lines."""
    if isinstance(prompt, str):
        return prompt
    try:
        return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
    except (KeyError, TypeError):
        return json.dumps(prompt)
