"""Which benchmark items stood in the training text? Per task, by the n-gram check that cleaning uses (runs of 13 words).

    python -m recipes.contamination runs/tiny/ppo                                        # the training data of the run and its parents
    python -m recipes.contamination runs/other --training corpus/*.jsonl pairs.jsonl

Reads the run's samples.jsonl and the training text once; memory goes with the items, not with the corpus. Writes contamination.json into
the run's folder: for each benchmark how many items share a run of words with the training text, which, and the metrics on the others.
The report shows the numbers in its table. Cleaning (recipes.clean, `heldout`) takes such documents out beforehand.
"""

import argparse
import json
from collections import defaultdict
from glob import glob
from pathlib import Path
from typing import Any

from base_model.checkpoints import write_text_atomically
from recipes.run.cli import command

FILE = "contamination.json"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m recipes.contamination", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", help="folder with an evaluation")
    parser.add_argument("--training", nargs="+", metavar="PATH", help="training text; the manifests' by default")
    parser.add_argument("--words", type=int, default=13, help="length of a run that counts")
    parser.add_argument("--least-words", type=int, default=8, help="a shorter string counts whole from this length on")
    return parser.parse_args(argv)


def training_files(folder: Path) -> list[str]:
    """Data that the manifests of a run and of all its parents name. Raises ValueError where one is no longer there."""
    found: dict[str, None] = {}
    waiting, seen = [folder], set()
    while waiting:
        run = waiting.pop()
        path = run / "manifest.json"
        if run in seen or not path.is_file():
            continue
        seen.add(run)
        manifest = json.loads(path.read_text(encoding="utf-8"))
        paths = [Path(data["path"]) for data in manifest.get("data", [])]
        texts = [path for path in paths if "heldout" not in path.name and not is_shards(path)]
        found.update(dict.fromkeys(map(str, texts)))
        waiting += [Path(parent["path"]) for parent in manifest.get("parents", [])]
    if not found:
        raise ValueError(f"{folder} and its parents name no training data; give it with --training")
    if gone := [path for path in found if not Path(path).exists() and not glob(path)]:
        raise ValueError(f"the training data {gone[0]} is not there any more; give what there is with --training")
    return list(found)


def is_shards(path: Path) -> bool:
    """Token shards: their text is among the data of the tokenizer run that wrote them, a parent."""
    return (path / "index.json").is_file() and any(path.glob("*.bin"))


def contaminated(items: list[dict], training: list[str], words: int, least_words: int) -> dict[str, set[str]]:
    """{set: items that share a run of words with a training text}, over all strings of an item's prompt, choices and reference."""
    from base_model.cleaning_filters import Decontaminate, strings_of
    from base_model.documents import Source, read_rows

    check = Decontaminate([], words, least_words)
    index: dict[tuple[int, int], set[tuple[str, str]]] = defaultdict(set)
    for item in items:
        for text in strings_of([item["prompt"], item.get("choices"), item.get("reference")]):
            size, runs = check.runs_that_stand_for(text)
            for run in runs:
                index[size, hash(run)].add((item["set"], item["item"]))
    sizes, hits = {size for size, _ in index}, set()
    for path in training:
        for row in read_rows(Source(path), required=()):
            for text in strings_of(row.fields):
                for key in check.found_in(text, sizes):
                    hits |= index.get(key, set())
    found: dict[str, set[str]] = defaultdict(set)
    for set_name, item in hits:
        found[set_name].add(item)
    return found


def main(argv: list[str] | None = None) -> Path:
    """Returns the path of contamination.json."""
    from eval.results import Evaluation, as_metric, estimate, finite
    from eval.words import number

    options = arguments(argv)
    folder = Path(options.run)
    evaluation = Evaluation.load(folder)
    training = options.training or training_files(folder)
    sets = {name: found for name, found in evaluation.items_of_set.items() if found[0]["kind"] == "benchmark"}
    if not sets:
        raise ValueError(f"{folder} was measured on no benchmark")
    hits = contaminated(
        [item for found in sets.values() for item in found], training, options.words, options.least_words
    )
    tasks: dict[str, Any] = {}
    for name, found in sets.items():
        own = hits.get(name, set())
        clean = [item for item in found if item["item"] not in own]
        metrics = [
            as_metric(entry) for entry in evaluation.metrics if entry["set"] == name and entry["aggregate"] != "given"
        ]
        values = {metric.name: finite(estimate(metric, clean).as_dict()) for metric in metrics} if clean else {}
        tasks[name] = {"n": len(found), "contaminated": len(own), "items": sorted(own), "on_the_others": values}
        first = next(iter(values), None)
        beside = f"; {first} on the others {number(values[first]['value'])}" if first and own else ""
        print(
            f"{name}: {len(own)} of {len(found)} items share a run of {options.words} words with the training text{beside}"
        )
    told = {"words": options.words, "least_words": options.least_words, "training": training, "tasks": tasks}
    write_text_atomically(folder / FILE, json.dumps(told, indent=1) + "\n")
    return folder / FILE


if __name__ == "__main__":
    command(main)
