"""Writing the world to a folder: documents with dirt, held-out text, tasks, benchmarks. Streamed: memory does not grow with the corpus."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from recipes.tinytown import benchmarks, clinic, dirt
from recipes.tinytown.instructions import Task, draw_task
from recipes.tinytown.overlap import HeldOutPhrases
from recipes.tinytown.shapes import SHAPES
from recipes.tinytown.telling import Scene

DOMAIN_SHARE = 0.2  # of the documents are clinic text
BUFFER = 400  # documents that a duplicate may be a copy of


@dataclass(frozen=True)
class WorldConfig:
    documents: int = 20_000  # rows of general.jsonl and domain.jsonl together, dirt included
    instructions: int = 7_000  # rows of instructions.jsonl
    prompts: int = 3_000  # rows of prompts.jsonl
    heldout_documents: int = 200  # rows of each of general_heldout.jsonl and domain_heldout.jsonl
    heldout_instructions: int = 300  # rows of instructions_heldout.jsonl
    heldout_prompts: int = 200  # rows of prompts_heldout.jsonl

    def __post_init__(self):
        for name in (
            "documents",
            "instructions",
            "prompts",
            "heldout_documents",
            "heldout_instructions",
            "heldout_prompts",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True)
class Document:
    text: str
    shape: str
    kind: str
    events: list[tuple[str, ...]]


def tell_document(rng: Random, *, is_domain: bool, is_held_out: bool) -> Document:
    """One clean document of either side."""
    while True:
        scene = Scene(rng, is_held_out=is_held_out)
        if is_domain:
            name = rng.choice(list(clinic.CLINIC_SHAPES))
            kind, tell = "clinic", clinic.CLINIC_SHAPES[name]
        else:
            name = rng.choice([shape.name for shape in SHAPES.values() if is_held_out or not shape.is_held_out])
            kind, tell = SHAPES[name].kind, SHAPES[name].tell
        tell(scene)
        if is_held_out and not is_domain and not scene.has_held_out and not SHAPES[name].is_held_out:
            continue
        return Document(scene.text(), name, kind, scene.world.events)


def write_world(
    out: Path, config: WorldConfig, *, seed: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, int]:
    """Write every file of the world into the folder `out`; returns the number of rows of each."""
    (out / "benchmarks").mkdir(parents=True, exist_ok=True)
    phrases = HeldOutPhrases()
    leaks = _write_held_out(config, seed, out, phrases)
    with (
        (out / "dirt.jsonl").open("w", encoding="utf-8") as truth,
        (out / "states.jsonl").open("w", encoding="utf-8") as states,
    ):
        for is_domain in (False, True):
            _write_documents(config, seed, out, is_domain, phrases, leaks, truth, states, progress)
    _write_tasks(config, seed, out, phrases)
    return {}


def _write_rows(path: Path, rows: Iterable[dict]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_held_out(config: WorldConfig, seed: int, out: Path, phrases: HeldOutPhrases) -> list[str]:
    """Write all held-out files, remember their phrases, and return the items that leaked documents will contain."""
    leaks = []
    for is_domain, name in ((False, "general_heldout"), (True, "domain_heldout")):
        rng = Random(f"{seed}/{name}")
        texts = [
            tell_document(rng, is_domain=is_domain, is_held_out=True).text for _ in range(config.heldout_documents)
        ]
        _write_rows(out / f"{name}.jsonl", ({"text": text} for text in texts))
        phrases.add(*texts)
        leaks += texts[:20]
    for name in benchmarks.TASKS:
        rows = benchmarks.make_task(name, seed)
        _write_rows(out / "benchmarks" / f"{name}.jsonl", rows)
        (out / "benchmarks" / f"{name}.yaml").write_text(benchmarks.task_yaml(name), encoding="utf-8")
        texts = [row["context"] + row["choices"][row["answer"]] for row in rows]
        phrases.add(*texts)
        leaks += [text for text in texts if len(text.split()) > 30][:60]
    for name, count in (
        ("instructions_heldout", config.heldout_instructions),
        ("prompts_heldout", config.heldout_prompts),
    ):
        rng = Random(f"{seed}/{name}")
        tasks = [draw_task(rng, is_held_out=True) for _ in range(count)]
        is_reference = name == "instructions_heldout"
        _write_rows(
            out / f"{name}.jsonl", (task.as_heldout_row() if is_reference else task.as_prompt_row() for task in tasks)
        )
        phrases.add(*(_task_text(task) for task in tasks))
    return leaks


def _task_text(task: Task) -> str:
    return "\n".join([message["content"] for message in task.prompt] + [task.completion])


def _write_documents(
    config: WorldConfig,
    seed: int,
    out: Path,
    is_domain: bool,
    phrases: HeldOutPhrases,
    leaks: list[str],
    truth,
    states,
    progress,
) -> None:
    """Stream one corpus, its states and its dirt."""
    name = "domain" if is_domain else "general"
    count = round(config.documents * (DOMAIN_SHARE if is_domain else 1 - DOMAIN_SHARE))

    def rows() -> Iterator[dict]:
        rng = Random(f"{seed}/{name}")
        buffer: list[tuple[str, str, str]] = []
        for index in range(count):
            identity = f"{name}-{index:07d}"
            progress(index + (config.documents - count if is_domain else 0), config.documents)
            document = tell_document(rng, is_domain=is_domain, is_held_out=False)
            while phrases.overlaps(document.text):
                document = tell_document(rng, is_domain=is_domain, is_held_out=False)
            kind = rng.choices((*dirt.KINDS, ""), weights=(*dirt.RATES.values(), 1 - sum(dirt.RATES.values())))[0]
            if not kind or (kind.endswith("duplicate") and not buffer):
                buffer.append((identity, document.text, document.kind))
                del buffer[:-BUFFER]
                states.write(json.dumps({"id": identity, "shape": document.shape, "events": document.events}) + "\n")
                yield {"id": identity, "text": document.text, "kind": document.kind}
                continue
            origin, original, original_kind = rng.choice(buffer) if buffer else ("", document.text, document.kind)
            text = {
                "exact_duplicate": lambda original=original: original,
                "near_duplicate": lambda original=original: dirt.near_duplicate(original, rng),
                "boilerplate": lambda: dirt.boilerplate(rng),
                "broken_encoding": lambda text=document.text: dirt.mojibake(text, rng),
                "other_language": lambda: dirt.other_language(rng),
                "gibberish": lambda: dirt.gibberish(rng),
                "repeated_lines": lambda text=document.text: dirt.repeated_lines(text, rng),
                "leaked": lambda text=document.text: dirt.leaked(text, leaks, rng),
            }[kind]()
            row = {"id": identity, "dirt": kind} | ({"of": origin} if kind.endswith("duplicate") else {})
            truth.write(json.dumps(row) + "\n")
            yield {"id": identity, "text": text, "kind": original_kind if kind.endswith("duplicate") else document.kind}

    _write_rows(out / f"{name}.jsonl", rows())


def _write_tasks(config: WorldConfig, seed: int, out: Path, phrases: HeldOutPhrases) -> None:
    """Write the training instructions and the prompts; no prompt occurs twice in the two files together."""
    seen: set[str] = set()
    for name, count in (("instructions", config.instructions), ("prompts", config.prompts)):
        rng = Random(f"{seed}/{name}")
        tasks = []
        while len(tasks) < count:
            task = draw_task(rng, is_held_out=False)
            key = json.dumps(task.prompt)
            if (key in seen and task.kind not in ("list",)) or phrases.overlaps(_task_text(task)):
                continue
            seen.add(key)
            tasks.append(task)
        _write_rows(
            out / f"{name}.jsonl",
            (task.as_training_row() if name == "instructions" else task.as_prompt_row() for task in tasks),
        )
