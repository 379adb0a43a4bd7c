"""Preferences: pairs of answers to one prompt, which of the two is better, and what is wrong with a set of them.

In memory a pair is a dict {"prompt": str or messages, "chosen": str, "rejected": str} with, where the data has them, "margin"
(how much better, in the raters' unit), "kind" (category) and "record" (JSON text for a rubric). On disk it is TRL's form: an answer
to a prompt of messages is a list of one assistant message. Rows are read in any of these forms:

    prompt, chosen, rejected            TRL's explicit form: strings, or lists of messages
    chosen, rejected                    two whole conversations that part at the last answer: messages, or HH-RLHF's "\n\nHuman: ..." text;
                                        with a `prompt` beside them that repeats their beginning as text (UltraFeedback), they say it
    prompt, ranked: [best, ..., worst]  a ranked list of k answers: the k(k-1)/2 pairs it implies (Ouyang et al. 2022, arXiv:2203.02155)
    prompt, responses, ratings          rated answers: a pair for every two with different ratings, margin = the difference
    ..., chosen_rating, rejected_rating a rated pair; `score_chosen`/`score_rejected` (UltraFeedback's names) mean the same

DIFFERENT_PROMPTS, IDENTICAL, ... are the keys of the counts that reading and checking leave behind.
"""

import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from base_model.chat import check_prompt, refuse_written_list
from base_model.checkpoints import write_text_atomically
from base_model.documents import Counts, Source, list_files, read_rows

Prompt = str | list[dict[str, str]]
Preference = dict[str, Any]

KEPT_COLUMNS = ("kind", "record")
_RATINGS = (("chosen_rating", "rejected_rating"), ("score_chosen", "score_rejected"))
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}

PAIRS, TIED, UNREADABLE = "pairs", "equal ratings", "unreadable row"
EMPTY, IDENTICAL, DIFFERENT_PROMPTS = "empty answer", "identical answers", "different prompts"
REPEATED, CONTRADICTED, IN_BOTH_SPLITS = "repeated", "contradicted (kept)", "prompt also held out"


class DifferentPrompts(ValueError):
    """The two conversations of a row part before their last answer: they are not answers to one prompt."""


def prompt_key(prompt: Prompt) -> str:
    """The text two prompts share exactly when they are the same prompt; splits, groups and clusters go by it."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return json.dumps([[m["role"], m["content"]] for m in messages])


# --- from a row to pairs -------------------------------------------------------------------------------------------------------


def parse_transcript(text: str) -> list[dict[str, str]]:
    """HH-RLHF's "\n\nHuman: ...\n\nAssistant: ..." as messages; contents stripped. Raises ValueError if it does not start with a turn."""
    parts = _TURN.split(text)
    if parts[0].strip() or len(parts) < 3:
        raise ValueError(f'a transcript starts with "\\n\\nHuman:", found {text[:40]!r}')
    return [{"role": _ROLES[who], "content": said.strip()} for who, said in zip(parts[1::2], parts[2::2], strict=True)]


def _prompt(value: Any) -> Prompt:
    check_prompt(value)
    return value if isinstance(value, str) else _check_messages(value, "prompt")


def _check_messages(messages: Any, field: str) -> list[dict[str, str]]:
    is_valid = isinstance(messages, list) and all(
        isinstance(m, Mapping) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
        for m in messages
    )
    if not is_valid or not messages:
        raise ValueError(f"{field} must be text or a list of {{role, content}} messages, got {str(messages)[:60]!r}")
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def _answer(value: Any, field: str) -> str:
    """The text of an answer given as a string or as a list of one assistant message."""
    if isinstance(value, str):
        refuse_written_list(value, field)
        return value
    messages = _check_messages(value, field)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        roles = ", ".join(m["role"] for m in messages)
        raise ValueError(f"{field} must be one assistant message after the prompt, got: {roles}")
    return messages[0]["content"]


def _conversation(value: Any, field: str) -> list[dict[str, str]]:
    messages = parse_transcript(value) if isinstance(value, str) else _check_messages(value, field)
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise ValueError(f"{field} without a prompt must be a whole conversation that ends with the assistant's answer")
    return messages


def _is_dialogue(said: Any) -> bool:
    """Is it more than an answer: messages of which the first is not the assistant's?"""
    return (
        isinstance(said, list) and len(said) > 1 and isinstance(said[0], Mapping) and said[0].get("role") != "assistant"
    )


def _required(fields: Mapping[str, Any], name: str) -> Any:
    if fields.get(name) is None:
        raise ValueError(f"missing field '{name}'; the row has: {', '.join(fields)}")
    return fields[name]


def _number(value: Any, name: str) -> float:
    """A number, or one written as text (a CSV cell). Raises ValueError, naming what it is, for anything else and for NaN and infinity."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        number = None
    if number is None:
        raise ValueError(f"{name} must be a number, found {'null' if value is None else repr(str(value)[:40])}")
    if not math.isfinite(number):
        raise ValueError(f"{name} is {'NaN' if math.isnan(number) else 'infinite'}; it must be a finite number")
    return number


def _is_given(value: Any) -> bool:
    """Is it there? A CSV file has an empty cell where there is nothing."""
    return value is not None and not (isinstance(value, str) and not value.strip())


def _margin(fields: Mapping[str, Any]) -> float | None:
    """The row's margin: its own column, or the difference of its two ratings. None where it has neither; 0.0 for equal ratings."""
    if _is_given(fields.get("margin")):
        return _number(fields["margin"], "margin")
    for better, worse in _RATINGS:
        if _is_given(fields.get(better)) and _is_given(fields.get(worse)):
            margin = _number(fields[better], better) - _number(fields[worse], worse)
            if margin < 0:
                raise ValueError(
                    f"{better} {fields[better]} is below {worse} {fields[worse]}: chosen and rejected are swapped"
                )
            return margin
    return None


def pairs_of(fields: Mapping[str, Any], counts: Counter[str]) -> list[Preference]:
    """The pairs one row states, in any form of this module's docstring; equal ratings state none and are counted.

    Raises ValueError naming the field, DifferentPrompts if the row's two conversations are not answers to one prompt."""
    kept = {name: fields[name] for name in KEPT_COLUMNS if fields.get(name) is not None}
    if "ranked" in fields or "responses" in fields:
        return [{**pair, **kept} for pair in _pairs_of_list(fields, counts)]
    said_twice = isinstance(fields.get("prompt"), str) and all(
        _is_dialogue(fields.get(side)) for side in ("chosen", "rejected")
    )
    if fields.get("prompt") is None or said_twice:
        chosen = _conversation(_required(fields, "chosen"), "chosen")
        rejected = _conversation(_required(fields, "rejected"), "rejected")
        if chosen[:-1] != rejected[:-1]:
            raise DifferentPrompts("chosen and rejected part before their last answer")
        prompt, better, worse = chosen[:-1], chosen[-1]["content"], rejected[-1]["content"]
    else:
        prompt = _prompt(fields["prompt"])
        better = _answer(_required(fields, "chosen"), "chosen")
        worse = _answer(_required(fields, "rejected"), "rejected")
    margin = _margin(fields)
    if margin == 0 and not _is_given(fields.get("margin")):
        counts[TIED] += 1
        return []
    return [
        {"prompt": prompt, "chosen": better, "rejected": worse, **kept} | ({} if margin is None else {"margin": margin})
    ]


def _list(fields: Mapping[str, Any], name: str, of: str) -> Sequence[Any]:
    value = _required(fields, name)
    if not isinstance(value, (list, tuple)):
        found = "text" if isinstance(value, str) else type(value).__name__
        raise ValueError(
            f"{name} must be a list of {of}, found {found} {str(value)[:40]!r} (a CSV file holds no lists: use JSON lines)"
        )
    return value


def _pairs_of_list(fields: Mapping[str, Any], counts: Counter[str]) -> list[Preference]:
    name = "ranked" if "ranked" in fields else "responses"
    prompt = _prompt(_required(fields, "prompt"))
    answers = [_answer(answer, name) for answer in _list(fields, name, "answers")]
    if len(answers) < 2:
        raise ValueError(f"{name} holds {len(answers)} answer; a preference needs at least 2")
    if name == "ranked":
        return [{"prompt": prompt, "chosen": a, "rejected": b} for a, b in itertools.combinations(answers, 2)]
    ratings = [
        _number(rating, f"rating {number}")
        for number, rating in enumerate(_list(fields, "ratings", "numbers"), start=1)
    ]
    if len(ratings) != len(answers):
        raise ValueError(f"{len(answers)} responses but {len(ratings)} ratings")
    rated = sorted(zip(ratings, answers, strict=True), key=lambda item: -item[0])
    pairs = []
    for (high, better), (low, worse) in itertools.combinations(rated, 2):
        if high == low:
            counts[TIED] += 1
        else:
            pairs.append({"prompt": prompt, "chosen": better, "rejected": worse, "margin": high - low})
    return pairs


def read_preferences(
    source: Source | str, *, counts: Counter[str] | None = None, tokenizer: Any = None
) -> list[Preference]:
    """All sound pairs of a source (a path will do), in order; what was left out is in `counts`, under this module's names.

    Where there are several files, a row that names no kind has its file's name for one.
    tokenizer: whose chat template a prompt must pass, else the row is a bad one.
    Raises BadRows for a row in no form (file, line, what is wrong, how many more), unless the source skips bad rows;
    FileNotFoundError if there is nothing there; ValueError if no pair is left."""
    source = Source(source) if isinstance(source, str) else source
    counts = Counter() if counts is None else counts
    met = Counts()
    pairs: list[Preference] = []

    def check(fields: Mapping[str, Any]) -> None:
        with suppress(DifferentPrompts):  # counted below: a fact about the data, not a row that cannot be read
            for pair in pairs_of(fields, Counter())[:1]:  # all have one prompt
                check_prompt(pair["prompt"], tokenizer=tokenizer)

    files = list_files(source)
    parts = [(replace(source, path=str(file)), {"kind": file.name.split(".")[0]}) for file in files if len(files) > 1]
    for part, kind in parts or [(source, {})]:
        for row in read_rows(part, required=(), check=check, counts=met):
            try:
                pairs.extend({**kind, **pair} for pair in pairs_of(row.fields, counts))
            except DifferentPrompts:
                counts[DIFFERENT_PROMPTS] += 1
    counts[UNREADABLE] += met.skipped
    kept = check_pairs(pairs, counts)
    if not kept:
        raise ValueError(f"{source.path} holds no pair to learn from: {dict(+counts)}")
    return kept


# --- is the set sound? ---------------------------------------------------------------------------------------------------------


def check_pairs(pairs: Iterable[Preference], counts: Counter[str]) -> list[Preference]:
    """The pairs worth training on, in order. Left out and counted: an empty answer, identical answers, a pair seen before.

    A pair whose opposite is in the set is counted too, but kept: disagreeing raters are what a Bradley-Terry loss averages over."""
    kept, seen = [], set()
    for pair in pairs:
        key = (prompt_key(pair["prompt"]), pair["chosen"], pair["rejected"])
        if not pair["chosen"].strip() or not pair["rejected"].strip():
            counts[EMPTY] += 1
        elif pair["chosen"].strip() == pair["rejected"].strip():
            counts[IDENTICAL] += 1
        elif key in seen:
            counts[REPEATED] += 1
        else:
            counts[CONTRADICTED] += (key[0], key[2], key[1]) in seen
            seen.add(key)
            kept.append(pair)
    counts[PAIRS] += len(kept)
    return kept


def split_by_prompt(
    pairs: Sequence[Preference], heldout_fraction: float, seed: int
) -> tuple[list[Preference], list[Preference]]:
    """(train, heldout), order kept: all pairs of a prompt land on one side, decided by a hash of (seed, prompt).

    The side of a prompt does not depend on what else is in the set, so a set that grows keeps its split. Raises ValueError unless
    0 <= heldout_fraction < 1."""
    if not 0 <= heldout_fraction < 1:
        raise ValueError(f"heldout_fraction must be in [0, 1), got {heldout_fraction}")

    def is_heldout(pair: Preference) -> bool:
        digest = hashlib.sha256(f"{seed}\n{prompt_key(pair['prompt'])}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < heldout_fraction * 2**64

    marks = [is_heldout(pair) for pair in pairs]
    return [p for p, m in zip(pairs, marks, strict=True) if not m], [p for p, m in zip(pairs, marks, strict=True) if m]


def without_heldout(
    train: Sequence[Preference], heldout: Sequence[Preference], counts: Counter[str]
) -> list[Preference]:
    """The training pairs whose prompt is not among the held-out ones; the others are counted."""
    prompts = {prompt_key(pair["prompt"]) for pair in heldout}
    kept = [pair for pair in train if prompt_key(pair["prompt"]) not in prompts]
    counts[IN_BOTH_SPLITS] += len(train) - len(kept)
    return kept


# --- to disk -------------------------------------------------------------------------------------------------------------------


def to_trl(pair: Preference) -> Preference:
    """The pair as TRL's trainers read it: answers to a prompt of messages become lists of one assistant message."""
    if isinstance(pair["prompt"], str):
        return pair
    sides = {side: [{"role": "assistant", "content": pair[side]}] for side in ("chosen", "rejected")}
    return {**pair, **sides}


def write_preferences(path: Path | str, pairs: Iterable[Preference]) -> None:
    """Write pairs as JSON lines in TRL's form, atomically."""
    write_text_atomically(path, "".join(json.dumps(to_trl(pair), ensure_ascii=False) + "\n" for pair in pairs))
