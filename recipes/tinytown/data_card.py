"""The data card: README.md of a world's folder, made from its files and nothing else."""
# ruff: noqa: E501 - a paragraph of the card stays on its line

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from recipes.tinytown import dirt, lexicon
from recipes.tinytown.breadth import Breadth
from recipes.tinytown.facts import check

EXAMPLES = 20
CHECKED = 500  # documents whose facts are checked while the card is written
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")

ABOUT = {
    "general.jsonl": "stories, letters, dialogues, descriptions, how-tos: {id, text, kind}, dirt mixed in",
    "domain.jsonl": "texts of the animal clinic, the same",
    "dirt.jsonl": "the truth about the dirt, kept apart: {id, dirt, of}",
    "states.jsonl": "for each clean document its shape, who and what is in it, and the events it tells",
    "general_heldout.jsonl": "clean text to measure likelihood on: {text}",
    "domain_heldout.jsonl": "the same for the clinic",
    "instructions.jsonl": "for training: {messages, kind, record, demonstrator}; record is a JSON string for the rubric",
    "instructions_careful.jsonl": "those of them that a careful demonstrator answered",
    "rhymes.jsonl": "counting rhymes and memory games, for a base model to start with: {text}",
    "prompts.jsonl": "prompts to sample answers to: {prompt, kind, record}; none of them in instructions.jsonl",
    "instructions_heldout.jsonl": "to measure on: {prompt, completion, kind, record}",
    "prompts_heldout.jsonl": "to measure on: {prompt, kind, record}",
    "benchmarks/tinytown_qa": "a passage, a question, four answers (lm-eval task: .yaml and .jsonl)",
    "benchmarks/tinytown_facts": "an attribute of a resident, in words that no text uses",
    "benchmarks/tinytown_endings": "a story and four endings, three of them about somebody or something else",
    "benchmarks/tinytown_grammar": "minimal pairs",
    "benchmarks/clinic_qa": "drug, finding, diagnosis or dose of a case of the held-out side",
}


def write(out: Path, counts: dict[str, int], seed: int, breadth: Breadth) -> dict:
    """Write README.md into the world's folder; returns its numbers: vocabulary, lengths, kinds, dirt, checked facts."""
    numbers = {"rows": counts, **_text_numbers(out), "facts": _checked_facts(out)}
    (out / "README.md").write_text(_card(out, numbers, seed, breadth), encoding="utf-8")
    return numbers


def _rows(path: Path) -> Iterator[dict]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _text_numbers(out: Path) -> dict:
    """Distinct words, words per clean document and kinds, of the two corpora; kinds of dirt; kinds of tasks."""
    planted = {row["id"]: row["dirt"] for row in _rows(out / "dirt.jsonl")}
    vocabulary: set[str] = set()
    words, kinds = Counter(), Counter()
    for name in ("general", "domain"):
        for row in _rows(out / f"{name}.jsonl"):
            if row["id"] not in planted:
                found = _WORD.findall(row["text"])
                vocabulary.update(found)
                words[name] += len(found)
                kinds[row["kind"]] += 1
    tasks, demonstrators = Counter(), Counter()
    for row in _rows(out / "instructions.jsonl"):
        tasks[row["kind"]] += 1
        demonstrators[row["demonstrator"]] += 1
    return {
        "distinct_words": len({word.lower() for word in vocabulary}),
        "words": dict(words),
        "kinds": dict(kinds.most_common()),
        "dirt": dict(Counter(planted.values()).most_common()),
        "shapes": len({row["shape"] for row in _rows(out / "states.jsonl")}),
        "tasks": dict(tasks.most_common()),
        "demonstrators": dict(demonstrators.most_common()),
    }


def _sample(out: Path, count: int) -> list[tuple[dict, dict]]:
    """`count` clean documents with their states, spread evenly over the corpora."""
    states = sum(1 for _ in _rows(out / "states.jsonl"))
    every = max(1, states // count)
    chosen = {row["id"]: row for index, row in enumerate(_rows(out / "states.jsonl")) if index % every == 0}
    pairs = [
        (row, chosen[row["id"]])
        for name in ("general", "domain")
        for row in _rows(out / f"{name}.jsonl")
        if row["id"] in chosen
    ]
    return pairs[:count]


def _checked_facts(out: Path) -> dict[str, int]:
    reports = [check(row["text"], state) for row, state in _sample(out, CHECKED)]
    return {
        "documents": len(reports),
        "read": sum(len(report.claims) for report in reports),
        "wrong": sum(len(report.wrong) for report in reports),
    }


def _table(head: str, rows: dict) -> str:
    return "\n".join([f"| {head} |  |", "| --- | ---: |", *(f"| {key} | {value:,} |" for key, value in rows.items())])


def _card(out: Path, numbers: dict, seed: int, breadth: Breadth) -> str:
    examples = [row for row, _ in _sample(out, 10 * EXAMPLES)]
    Random(seed).shuffle(examples)
    clean = {
        name: sum(n for kind, n in numbers["kinds"].items() if (kind == "clinic") == (name == "domain"))
        for name in ("general", "domain")
    }
    lengths = ", ".join(f"{name} {numbers['words'][name] / max(1, clean[name]):.0f}" for name in clean)
    files = "\n".join(f"| `{name}` | {about} |" for name, about in ABOUT.items())
    hashes = "\n".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(out)}"
        for path in sorted(out.rglob("*.jsonl"))
    )
    told = "\n\n".join(
        f"**{row['kind']}** ({row['id']})\n\n" + "\n".join(f"> {line}" for line in row["text"].split("\n"))
        for row in examples[:EXAMPLES]
    )
    facts = numbers["facts"]
    return f"""# Tinytown

A small town, told in texts that are true in it: about {len(breadth.town().people)} residents, {len(breadth.things())} sorts of things and {len(breadth.places())} places. Generator, word lists and rules were written for this
project; nothing was taken from elsewhere. Seed {seed}; the same seed gives the same bytes.

| file | what is in it |
| --- | --- |
{files}

The benchmark tasks name their data file by its bare name: run `lm_eval --include_path .` in that folder, or this project's harness from anywhere.

{_table("rows", numbers["rows"])}

{numbers["distinct_words"]:,} distinct words in {numbers["shapes"]} shapes of text; words a clean document: {lengths}.

{_table("clean documents of a kind", numbers["kinds"])}

{_table("documents with planted dirt", numbers["dirt"])}

{_table("training instructions of a kind", numbers["tasks"])}

{_table("training instructions by demonstrator", numbers["demonstrators"])}

**Facts.** A checker that is not the generator read {facts["read"]:,} statements in {facts["documents"]} of these documents and held them against the states: {facts["wrong"]} wrong.

**Held out.** In the held-out files and benchmarks alone: {", ".join(lexicon.HELD_OUT_FEMALE_NAMES + lexicon.HELD_OUT_MALE_NAMES)}; one in 25 pairs of a resident and
a thing; six shapes; one in 8 pairs of a species and an illness; questions about one in 6 facts of the residents. No training text shares a run of
13 words with held-out text, but for the documents planted as leaks.

**Limits.** Simple, cheerful, pre-industrial English of one dialect; people do not age, and what happens in one text does not touch the next. Good for
trying methods, not for use as knowledge of the world. Kinds of dirt: {", ".join(dirt.KINDS).replace("_", " ")}.

## {EXAMPLES} documents, drawn at random

{told}

## SHA-256

```
{hashes}
```
"""
