"""Writing the world to a folder: documents with dirt, held-out text, tasks, benchmarks. Streamed: memory does not grow with the corpus."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from random import Random
from zlib import crc32

from recipes.tinytown import benchmarks, clinic, data_card, dirt
from recipes.tinytown.breadth import BREADTHS, FULL, Breadth
from recipes.tinytown.demonstrators import CAREFUL, demonstrate
from recipes.tinytown.instructions import Task, draw_task
from recipes.tinytown.overlap import HeldOutPhrases
from recipes.tinytown.rhymes import memory_games, rhymes
from recipes.tinytown.shapes import Shape, shapes_of
from recipes.tinytown.telling import Scene

DOMAIN_SHARE = 0.2  # of the documents are clinic text
RECENT = 400  # documents that a duplicate may be a copy of
LEAKS_PER_FILE = 60  # held-out items of each file that leak
LEAST_LEAK_WORDS = 30  # shorter items say too little to be called leaked


@dataclass(frozen=True)
class WorldConfig:
    documents: int = 20_000  # rows of general.jsonl and domain.jsonl together, dirt included
    instructions: int = 7_000  # rows of instructions.jsonl
    careless: float = 0.0  # share of them that a careless demonstrator answered; the careful ones are in instructions_careful.jsonl too
    prompts: int = 3_000  # rows of prompts.jsonl
    rhymes: int = 12_000  # rows of rhymes.jsonl, half of them memory games
    heldout_documents: int = 200  # rows of general_heldout.jsonl, and of domain_heldout.jsonl
    heldout_instructions: int = 300  # rows of instructions_heldout.jsonl
    heldout_prompts: int = 600  # rows of prompts_heldout.jsonl
    breadth: str = "full"  # full: 40 residents, 24 illnesses, 80 shapes, 2,400 words; small: 16, 8, 41, 1,300, stories of 4 sentences

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "careless":
                if not 0 <= value <= 1:
                    raise ValueError(f"careless is {value}; it is a share of the instructions, from 0 to 1")
            elif name == "breadth":
                if value not in BREADTHS:
                    raise ValueError(f"breadth is '{value}'; there are {' and '.join(BREADTHS)}")
            elif value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")


@dataclass(frozen=True)
class Document:
    """A clean document, the shape it was told in and the events that it tells."""

    text: str
    shape: str
    kind: str
    state: dict


def tell_document(rng: Random, *, is_domain: bool, is_held_out: bool, breadth: Breadth = FULL) -> Document:
    """One clean document of either side. Held-out ones are about held-out people, pairs or cases, or of a held-out shape."""
    while True:
        scene = Scene(rng, is_held_out=is_held_out, breadth=breadth)
        if is_domain:
            name = rng.choice(tuple(clinic.CLINIC_SHAPES))
            clinic.CLINIC_SHAPES[name](scene)
            return Document(scene.text(), name, "clinic", scene.state())
        shape = rng.choice(_weighted_shapes(is_held_out, breadth))
        shape.tell(scene)
        if not is_held_out or scene.has_held_out or shape.is_held_out:
            return Document(scene.text(), shape.name, shape.kind, scene.state())


@cache
def _weighted_shapes(is_held_out: bool, breadth: Breadth) -> tuple[Shape, ...]:
    """Shapes as often as their weight says; held-out ones only on that side."""
    shapes = [shape for shape in shapes_of(breadth) if is_held_out or not shape.is_held_out]
    return tuple(shape for shape in shapes for _ in range(shape.weight))


def write_world(
    out: Path, config: WorldConfig, *, seed: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict:
    """Write every file of the world into the folder `out`; returns what the data card says of them in numbers."""
    (out / "benchmarks").mkdir(parents=True, exist_ok=True)
    breadth = BREADTHS[config.breadth]
    phrases = HeldOutPhrases()
    held_out: set[str] = set()  # prompts
    leaks = _write_held_out(out, config, seed, phrases, held_out)
    counts = [round(config.documents * (1 - DOMAIN_SHARE)), 0]
    counts[1] = config.documents - counts[0]
    with (
        (out / "dirt.jsonl").open("w", encoding="utf-8") as truth,
        (out / "states.jsonl").open("w", encoding="utf-8") as states,
    ):
        for is_domain, name in enumerate(("general", "domain")):
            rows = _documents(bool(is_domain), counts[is_domain], seed, phrases, leaks, breadth)
            with (out / f"{name}.jsonl").open("w", encoding="utf-8") as file:
                for done, (row, state, dirt_row) in enumerate(rows, start=1):
                    file.write(_line(row))
                    if dirt_row:
                        truth.write(_line(dirt_row))
                    else:
                        states.write(_line({"id": row["id"], **state}))
                    progress(done + is_domain * counts[0], config.documents)
    _write_tasks(out, config, seed, phrases, held_out)
    games = memory_games(seed, config.rhymes // 2, breadth)
    counted = rhymes(seed, config.rhymes - config.rhymes // 2, breadth)
    _write_rows(out / "rhymes.jsonl", ({"text": text} for text in chain(games, counted)))
    rows = {
        **dict(zip(("general", "domain"), counts, strict=True)),
        "rhymes": config.rhymes,
        "instructions": config.instructions,
        "prompts": config.prompts,
    }
    return data_card.write(out, rows, seed, breadth)


def _line(row: dict) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _write_rows(path: Path, rows: Iterable[dict]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(map(_line, rows))


def _write_held_out(out: Path, config: WorldConfig, seed: int, phrases: HeldOutPhrases, seen: set[str]) -> list[str]:
    """Write all held-out files, remember their phrases, and return the items that leaked documents will contain."""
    breadth = BREADTHS[config.breadth]
    leaks: list[str] = []

    def leak(texts: Iterable[str]) -> None:
        leaks.extend([text for text in texts if len(text.split()) >= LEAST_LEAK_WORDS][:LEAKS_PER_FILE])

    for is_domain, name in ((False, "general_heldout"), (True, "domain_heldout")):
        rng = Random(f"{seed}/{name}")
        texts = [
            tell_document(rng, is_domain=is_domain, is_held_out=True, breadth=breadth).text
            for _ in range(config.heldout_documents)
        ]
        _write_rows(out / f"{name}.jsonl", ({"text": text} for text in texts))
        phrases.add(texts)
        leak(texts)
    for name in benchmarks.TASKS:
        rows = benchmarks.make_task(name, seed, breadth=breadth)
        _write_rows(out / "benchmarks" / f"{name}.jsonl", rows)
        (out / "benchmarks" / f"{name}.yaml").write_text(benchmarks.task_yaml(name), encoding="utf-8")
        phrases.add(rows)
        phrases.add([row["context"] + row["choices"][row["answer"]] for row in rows])
        leak(row["context"] + row["choices"][row["answer"]] for row in rows)
    for name, count in (
        ("instructions_heldout", config.heldout_instructions),
        ("prompts_heldout", config.heldout_prompts),
    ):
        rng = Random(f"{seed}/{name}")
        tasks = [_unseen_task(rng, seen, breadth) for _ in range(count)]
        has_reference = name == "instructions_heldout"
        _write_rows(
            out / f"{name}.jsonl", (task.as_heldout_row() if has_reference else task.as_prompt_row() for task in tasks)
        )
        phrases.add([[_told(task), task.completion] for task in tasks])
    return leaks


def _told(task: Task) -> list[str]:
    """The texts in a task: its turns, and the answer where that is a text of its own and no stock phrase."""
    turns = [message["content"] for message in task.prompt]
    return [*turns, task.completion] if task.kind in ("story", "continue") else turns


def _unseen_task(rng: Random, seen: set[str], breadth: Breadth) -> Task:
    """A held-out task whose prompt was not seen before; it is seen now."""
    while (key := _asked(task := draw_task(rng, is_held_out=True, breadth=breadth))) in seen:
        pass
    seen.add(key)
    return task


def _asked(task: Task) -> str:
    return "\n".join(message["content"] for message in task.prompt)


def _documents(
    is_domain: bool, count: int, seed: int, phrases: HeldOutPhrases, leaks: list[str], breadth: Breadth
) -> Iterator[tuple[dict, dict, dict | None]]:
    """Rows of a corpus: (row, its state, None) for a clean document, (row, {}, {"id", "dirt", ...}) for dirt."""
    name = "domain" if is_domain else "general"
    rng = Random(f"{seed}/{name}")
    recent: deque[tuple[str, str, str]] = deque(maxlen=RECENT)  # (id, text, kind) of clean documents
    kinds, weights = (*dirt.RATES, ""), (*dirt.RATES.values(), 1 - sum(dirt.RATES.values()))
    for index in range(count):
        identity = f"{name}-{index:07d}"
        dirt_kind = rng.choices(kinds, weights)[0] if recent else ""
        if dirt_kind in dirt.COPIES:
            origin, text, kind = rng.choice(recent)
            text = dirt.COPIES[dirt_kind](text, rng)
            yield {"id": identity, "text": text, "kind": kind}, {}, {"id": identity, "dirt": dirt_kind, "of": origin}
            continue
        document = tell_document(rng, is_domain=is_domain, is_held_out=False, breadth=breadth)
        while phrases.overlap(document.text):
            document = tell_document(rng, is_domain=is_domain, is_held_out=False, breadth=breadth)
        row = {"id": identity, "text": document.text, "kind": document.kind}
        if dirt_kind:
            text = dirt.spoil(dirt_kind, document.text, leaks, rng)
            yield row | {"text": text}, {}, {"id": identity, "dirt": dirt_kind}
        else:
            recent.append((identity, document.text, document.kind))
            yield row, {"shape": document.shape, **document.state}, None


def _write_tasks(out: Path, config: WorldConfig, seed: int, phrases: HeldOutPhrases, held_out: set[str]) -> None:
    """Write the training instructions as their demonstrators answered them, those of careful ones once more alone, and the prompts.

    A prompt is of one file, by its hash, so that kinds with few questions are in both; in the instructions such questions come again."""
    rng, whims = Random(f"{seed}/tasks"), Random(f"{seed}/demonstrators")
    share_of_prompts = config.prompts / (config.prompts + config.instructions)
    instructions_left, prompts_left = config.instructions, config.prompts
    written: set[str] = set()  # of prompts.jsonl

    def is_apart(task: Task) -> bool:
        return _asked(task) not in held_out and not phrases.overlap(_told(task))

    with (
        (out / "instructions.jsonl").open("w", encoding="utf-8") as everyone,
        (out / "instructions_careful.jsonl").open("w", encoding="utf-8") as careful,
        (out / "prompts.jsonl").open("w", encoding="utf-8") as prompts,
    ):
        while instructions_left or prompts_left:
            task = draw_task(rng, is_held_out=False, breadth=BREADTHS[config.breadth], is_fit=is_apart)
            asked = _asked(task)
            if crc32(asked.encode()) < share_of_prompts * 2**32:
                if prompts_left and asked not in written:
                    written.add(asked)
                    prompts.write(_line(task.as_prompt_row()))
                    prompts_left -= 1
            elif instructions_left:
                shown = demonstrate(task, whims, careless=config.careless)
                line = _line(shown.as_training_row())
                everyone.write(line)
                if shown.demonstrator == CAREFUL:
                    careful.write(line)
                instructions_left -= 1
