"""Public data sets as a pipeline's files: text, instructions, prompts and preferences, each prompt on one side of every split.

    python -m recipes.data.real_data --config recipes/configs/laptop/data.yaml

A source is what `base_model/documents.py` reads (files or a hub id), with its licence. Which side a row goes to is decided by a hash of
the seed and the row's key: the title of a book, a question, the opening message of a dialogue. A key is on one side in all sources, and a
source that grows keeps its split. Rows are streamed; those too long for a small context are left out and counted. README.md in the folder
says what came of every source. The laptop's 60,000 rows take about 10 s on one core.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TextIO

from base_model.documents import Counts, Source, list_files, read_rows
from recipes.run.cli import command, parse, reject_unknown
from recipes.run.run import Run, RunConfig
from recipes.run.stage import Stage
from reward.preferences import DIFFERENT_PROMPTS as DIFFERENT
from reward.preferences import EMPTY, IDENTICAL, DifferentPrompts, pairs_of, to_trl
from sft.examples import BadRow, check_conversation, check_text, to_messages

STAGE = Stage("real_data", kind="data")

OWN_KEYS = ("licence", "group", "heldout")  # of a source's entry, beside those of documents.Source
PARTS = {  # kind -> part (a folder) -> what its rows are
    "general": {
        "general": "text: {text}",
        "general_heldout": "text to measure likelihood on",
    },
    "domain": {
        "domain": "a question and its answer as one text: {text}",
        "domain_heldout": "the same, to measure likelihood on",
    },
    "instructions": {
        "instructions": "to learn from: {messages}",
        "prompts": "to sample answers to; nobody learns theirs: {prompt}",
        "instructions_heldout": "to measure on: {prompt, completion}",
    },
    "preferences": {
        "pairs": "preferences to learn from: {prompt, chosen, rejected}",
        "gold_pairs": "preferences on other prompts, for a second reward model",
        "pairs_heldout": "preferences to measure on",
    },
}
NON_COMMERCIAL = re.compile(r"\bNC\b|non-?commercial", re.IGNORECASE)
TOO_LONG, OUT_OF_ORDER, ALSO_HELD_OUT = "too long", "roles out of order", "also held out"


@dataclass(frozen=True)
class RealDataConfig:
    """The sources of each kind by name, and how they are split. A source is a path, or {path, columns, ..., licence, group, heldout}."""

    general: dict = field(default_factory=dict, metadata={"help": "name -> source with rows of `text`"})
    domain: dict = field(default_factory=dict, metadata={"help": "name -> source with `prompt` and `completion`"})
    instructions: dict = field(default_factory=dict, metadata={"help": "name -> source, as recipes.lora_sft reads it"})
    preferences: dict = field(
        default_factory=dict, metadata={"help": "name -> source, as recipes.reward_model reads it"}
    )
    heldout_share: float = 0.06  # of the keys; a source with a `heldout` source of its own has all of that instead
    prompts_share: float = 0.2  # of the instructions' keys
    gold_share: float = 0.5  # of the preferences' keys
    passage_words: int = 400  # general texts are cut at the first end of a paragraph past this
    most_document_characters: int = 1500  # of a domain text
    most_characters: int = 900  # of a prompt with its (longer) answer: about 220 tokens of English
    most_prompt_characters: int = 500  # of a prompt alone, so that there is room for an answer

    def __post_init__(self) -> None:
        if not any(getattr(self, kind) for kind in PARTS):
            raise ValueError(f"there is no source; name at least one under {', '.join(PARTS)}")
        known = [*(item.name for item in fields(Source)), *OWN_KEYS]
        for kind, name, entry in self.sources():
            reject_unknown(list(entry), known, f"{kind}.{name}")
            if "path" not in entry:
                raise ValueError(f"{kind}.{name} names no path")
        for name in ("prompts_share", "gold_share"):
            share = getattr(self, name)
            if min(self.heldout_share, share) <= 0 or self.heldout_share + share >= 1:
                raise ValueError(
                    f"heldout_share {self.heldout_share} and {name} {share} must be above 0, and together below 1"
                )

    def sources(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """(kind, name, entry) of every source; a bare path becomes an entry."""
        for kind in PARTS:
            for name, entry in getattr(self, kind).items():
                yield kind, name, entry if isinstance(entry, dict) else {"path": entry}


CONFIG_TYPES = (RunConfig, RealDataConfig)


def main(argv: list[str] | None = None) -> Path:
    """Run the stage; returns its folder."""
    run_config, config = parse(*CONFIG_TYPES, argv=argv)
    sources = [source for _, _, entry in config.sources() for source in _sources_of(entry).values()]
    files = [path for source in sources for path in list_files(source) or [source.path]]
    run = Run.start(STAGE, run_config, config, data=files)
    tallies = write_parts(run.out, config, seed=run_config.seed, progress=run.progress)
    for tally in tallies:
        print(tally.told())
    run.note("sources", {f"{t.kind}.{t.name}": {"read": t.read, **t.rows, **t.left_out} for t in tallies})
    (run.out / "README.md").write_text(card(run.out, tallies, config, run_config.seed), encoding="utf-8")
    return run.finish()


def _sources_of(entry: Mapping[str, Any]) -> dict[str, Source]:
    """What an entry reads, in this order: its `heldout` where it has one, its `path`; the same form for both."""
    form = {key: value for key, value in entry.items() if key not in OWN_KEYS}
    return {key: Source(**(form | {"path": entry[key]})) for key in ("heldout", "path") if key in entry}


# ---- writing


@dataclass
class Tally:
    """What came of one source."""

    kind: str
    name: str
    path: str
    licence: str
    read: int = 0
    rows: Counter = field(default_factory=Counter)  # part -> rows written
    words: Counter = field(default_factory=Counter)  # part -> their words
    left_out: Counter = field(default_factory=Counter)  # why -> rows

    def told(self) -> str:
        """One line for the terminal."""
        told = f"{self.kind}.{self.name}: {self.read:,} rows read -> {_counts(self.rows)}"
        return f"{told}; left out: {_counts(self.left_out)}" if self.left_out else told


def write_parts(
    out: Path, config: RealDataConfig, *, seed: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Tally]:
    """Write <out>/<part>/<source>.jsonl for every part and source; returns what came of each source.

    Raises BadRows naming file, row and field of a row that cannot be used; ValueError for a part that nothing came to."""
    sources = list(config.sources())
    tallies = []
    for done, (kind, name, entry) in enumerate(sources):
        progress(done, len(sources))
        tally = Tally(kind, name, "/".join(Path(entry["path"]).parts[-2:]), entry.get("licence", "not stated"))
        with ExitStack() as stack:
            files: dict[str, TextIO] = {}
            for part, row in split_rows(config, tally, entry, seed):
                if part not in files:
                    (out / part).mkdir(parents=True, exist_ok=True)
                    files[part] = stack.enter_context((out / part / f"{name}.jsonl").open("w", encoding="utf-8"))
                row = {"id": f"{name}-{tally.rows.total():07d}", **row, "kind": name}
                files[part].write(json.dumps(row, ensure_ascii=False) + "\n")
                tally.rows[part] += 1
                tally.words[part] += _words(row)
        tallies.append(tally)
    written = sum((tally.rows for tally in tallies), Counter())
    for kind in {tally.kind for tally in tallies}:
        if empty := [part for part in PARTS[kind] if not written[part]]:
            raise ValueError(f"no row of {kind} came to {empty[0]}; bring more rows, or change the shares")
    progress(len(sources), len(sources))
    return tallies


def split_rows(
    config: RealDataConfig, tally: Tally, entry: Mapping[str, Any], seed: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(part, row) of everything that one source gives. What is read and left out is counted in `tally`."""
    check, make = CHECKS[tally.kind], MAKERS[tally.kind]
    group, share = entry.get("group"), config.heldout_share
    own_heldout: set[float] = set()  # places of the keys in the source's own held-out file
    for which, source in _sources_of(entry).items():
        met = Counts()
        for row in read_rows(source, [group] if group else [], check=check, counts=met):
            for key, made in make(config, row.fields, tally.left_out):
                at = place(seed, str(row.fields[group]) if group else key)
                if which == "heldout":
                    own_heldout.add(at)
                    at = 0.0
                elif at in own_heldout:
                    tally.left_out[ALSO_HELD_OUT] += 1
                    continue
                elif own_heldout:  # nothing more is held out
                    at = share + (1 - share) * at
                part = part_of(config, tally.kind, at)
                yield part, in_form(part, made)
        tally.read += met.read + met.skipped
        tally.left_out.update({"bad row": met.skipped} if met.skipped else {})


def place(seed: int, key: str) -> float:
    """Where a key stands in [0, 1): a hash of the seed and its words, whatever else there is. Case and punctuation do not count."""
    words = " ".join(re.findall(r"\w+", key.lower()))
    return int.from_bytes(hashlib.sha256(f"{seed}\n{words}".encode()).digest()[:8], "big") / 2**64


def part_of(config: RealDataConfig, kind: str, at: float) -> str:
    """The part that a place in [0, 1] belongs to. The lowest places are held out in every kind, so that what is held out of one is not
    learnt from another."""
    shares = {"prompts": config.prompts_share, "gold_pairs": config.gold_share}
    train, *others = PARTS[kind]
    bound = 0.0
    for part in reversed(others):  # the held-out one first
        bound += shares.get(part, config.heldout_share)
        if at < bound:
            return part
    return train


def in_form(part: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row as its part has it: only instructions that are not learnt from differ from what was read."""
    if part not in ("prompts", "instructions_heldout"):
        return row
    *prompt, answer = row["messages"]
    return {"prompt": prompt} | ({"completion": answer["content"]} if part == "instructions_heldout" else {})


# ---- from a source's row to rows with a key


Made = Iterator[tuple[str, dict[str, Any]]]


def general_rows(config: RealDataConfig, fields: Mapping[str, Any], left_out: Counter) -> Made:
    """A text in passages; the key is the whole text."""
    for passage in passages(fields["text"], config.passage_words):
        yield fields["text"], {"text": passage}


def passages(text: str, words: int) -> Iterator[str]:
    """The text in pieces of whole paragraphs, each closed as soon as it has so many words."""
    piece: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        piece.append(paragraph)
        if sum(len(part.split()) for part in piece) >= words:
            yield "\n\n".join(piece)
            piece = []
    if piece:
        yield "\n\n".join(piece)


def domain_rows(config: RealDataConfig, fields: Mapping[str, Any], left_out: Counter) -> Made:
    """Question and answer as one text; the key is the question."""
    text = f"{fields['prompt'].strip()}\n\n{fields['completion'].strip()}"
    if len(text) > config.most_document_characters:
        left_out[TOO_LONG] += 1
    else:
        yield fields["prompt"], {"text": text}


def instruction_rows(config: RealDataConfig, fields: Mapping[str, Any], left_out: Counter) -> Made:
    """A conversation as messages; the key is what the user opens with."""
    messages = [{**message, "content": message["content"].strip()} for message in to_messages(fields)]
    if is_too_long(config, messages[:-1], messages[-1]["content"]):
        left_out[TOO_LONG] += 1
    else:
        yield opening(messages), {"messages": messages}


def preference_rows(config: RealDataConfig, fields: Mapping[str, Any], left_out: Counter) -> Made:
    """The pairs that a row states, prompts as messages; the key is what the user opens with."""
    try:
        pairs = pairs_of(fields, left_out)
    except DifferentPrompts:
        left_out[DIFFERENT] += 1
        return
    for pair in pairs:
        prompt = [{"role": "user", "content": pair["prompt"]}] if isinstance(pair["prompt"], str) else pair["prompt"]
        better, worse = pair["chosen"].strip(), pair["rejected"].strip()
        if not better or not worse:
            left_out[EMPTY] += 1
        elif better == worse:
            left_out[IDENTICAL] += 1
        elif not is_conversation([*prompt, {"role": "assistant", "content": better}]):
            left_out[OUT_OF_ORDER] += 1
        elif is_too_long(config, prompt, max(better, worse, key=len)):
            left_out[TOO_LONG] += 1
        else:
            yield opening(prompt), to_trl({**pair, "prompt": prompt, "chosen": better, "rejected": worse})


def is_conversation(messages: list[dict[str, str]]) -> bool:
    """Whether roles alternate and nobody says nothing."""
    try:
        check_conversation(messages)
    except BadRow:
        return False
    return True


def is_too_long(config: RealDataConfig, prompt: list[dict[str, str]], answer: str) -> bool:
    asked = sum(len(message["content"]) for message in prompt)
    return asked > config.most_prompt_characters or asked + len(answer) > config.most_characters


def opening(messages: list[dict[str, str]]) -> str:
    """The first message of the user: the turns of one dialogue, cut off at different answers, share it."""
    return next(message["content"] for message in messages if message["role"] == "user")


def check_question(fields: Mapping[str, Any]) -> None:
    """Raise BadRow unless `prompt` and `completion` are texts with something in them."""
    for name in ("prompt", "completion"):
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise BadRow(name, f"must be text, the row has {', '.join(fields)} (map other names with columns)")


def check_preference(fields: Mapping[str, Any]) -> None:
    """Raise ValueError for a row in no form of `reward/preferences.py`."""
    with suppress(DifferentPrompts):  # a fact about the data, counted
        pairs_of(fields, Counter())


MAKERS = {
    "general": general_rows,
    "domain": domain_rows,
    "instructions": instruction_rows,
    "preferences": preference_rows,
}
CHECKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "general": check_text,
    "domain": check_question,
    "instructions": to_messages,
    "preferences": check_preference,
}


# ---- the data card


def card(out: Path, tallies: list[Tally], config: RealDataConfig, seed: int) -> str:
    """README.md of the folder: sources, licences, counts, hashes."""
    restricted = [f"{t.name} ({t.licence})" for t in tallies if NON_COMMERCIAL.search(t.licence)]
    terms = (
        f"**Not for commercial use**, nor is what is trained on it: {', '.join(restricted)}."
        if restricted
        else "No source is marked as non-commercial."
    )
    sources = [
        f"| {t.kind} | {t.name} | {t.path} | {t.licence} | {t.read:,} | {_counts(t.rows)} | {_counts(t.left_out)} |"
        for t in tallies
    ]
    parts = [
        f"| `{part}/` | {about} | {sum(t.rows[part] for t in tallies):,} | {sum(t.words[part] for t in tallies):,} |"
        for of_kind in PARTS.values()
        for part, about in of_kind.items()
        if (out / part).is_dir()
    ]
    hashes = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(out)}"
        for path in sorted(out.glob("*/*.jsonl"))
    ]
    return f"""# Data of public sources

{terms}

| kind | source | file | licence | rows read | rows written | rows left out |
| --- | --- | --- | --- | ---: | --- | --- |
{_lines(sources)}

| folder | its rows | rows | words |
| --- | --- | ---: | ---: |
{_lines(parts)}

Every row has `id` and `kind`, its source's name. Seed {seed}; the same seed and sources give the same bytes.

**Splits.** By a hash of the seed and a key: a text (or what its source groups by), a question, the opening message of a dialogue; case
and punctuation do not count. {config.heldout_share:.0%} of the keys are held out, the same ones in every source; a source with held-out
files of its own keeps those. No part holds a key of another part of its kind, and no prompt is held out of one kind and learnt from in
another. Texts that tell the same under two titles are left to the cleaning stage.

**Left out.** Prompts of more than {config.most_prompt_characters:,} characters, prompts with an answer of more than
{config.most_characters:,}, domain texts of more than {config.most_document_characters:,}: long answers are under-represented. General
texts are cut into passages of at least {config.passage_words} words.

## SHA-256

```
{_lines(hashes)}
```
"""


def _lines(lines: list[str]) -> str:
    return "\n".join(lines)


def _counts(counts: Counter) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _words(value: Any) -> int:
    """Words in a row's texts, roles and ids apart."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, dict):
        return sum(_words(item) for key, item in value.items() if key not in ("id", "kind", "role"))
    return sum(map(_words, value)) if isinstance(value, list) else 0


if __name__ == "__main__":
    command(main)
