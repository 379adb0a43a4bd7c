"""The record of a cleaning: what datatrove's stages left in the work folder, put into cleaning.json, dropped.csv and the result's folder.

Runs as the last stage of the pipeline, wherever that runs; the work folder's layout is set by cleaning.py.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from base_model.checkpoints import write_atomically


def publish(data: Any = None, rank: int = 0, world_size: int = 1, *, work: str, out: str) -> None:
    """A datatrove stage of one task: move the cleaned files to `out`, with their record beside them."""
    folder = Path(work)
    record = build_record(folder)
    with write_atomically(out) as partial:
        for path in sorted((folder / "out").glob("*")):
            os.replace(path, partial / path.name)
        with open(partial / "dropped.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "step", "reason"])
            for step in record["steps"]:
                writer.writerows([row["id"], step["step"], row["reason"]] for row in _dropped(folder, step["step"]))
        (partial / "cleaning.json").write_text(
            json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def build_record(work: Path) -> dict[str, Any]:
    """What cleaning.json holds, from the stages' own counts."""
    about = json.loads((work / "about.json").read_text(encoding="utf-8"))
    read = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((work / "read").glob("*.json"))]
    steps = [*_steps(work, "filter", about["filters"]), *_steps(work, "write", about["deduplication"])]
    for step in steps:
        step["examples"] = _examples(_dropped(work, step["step"]), about["examples"])
    documents_in, documents_out = sum(part["documents"] for part in read), steps[-1]["kept"]
    return {
        "source": about["source"],
        "heldout": about["heldout"],
        "documents_in": documents_in,
        "characters_in": sum(part["characters"] for part in read),
        "bad_rows": {
            "skipped": sum(part["skipped"] for part in read),
            "examples": [text for part in read for text in part["examples"]][:5],
        },
        "documents_out": documents_out,
        "kept_share": documents_out / documents_in if documents_in else None,
        "steps": steps,
        "wall_s": round(time.time() - about["began_s"], 2),
        "config": about["config"],
    }


def score_against_truth(dropped: Mapping[str, str], truth: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """How well cleaning found dirt that was planted. dropped: id -> step; truth: id -> kind of dirt.

    For each kind: `recall`, the share of its documents that some step dropped; `step`, the one that dropped most of them; and
    `precision`, the share of that step's drops that are dirt of any kind (a clean document dropped lowers it).
    "clean" holds how many documents were dropped that nobody planted."""
    by_step: dict[str, list[bool]] = {}
    for identity, step in dropped.items():
        by_step.setdefault(step, []).append(identity in truth)
    scores: dict[str, dict[str, Any]] = {}
    for kind, planted in sorted(Counter(truth.values()).items()):
        found = Counter(dropped[identity] for identity, its in truth.items() if its == kind and identity in dropped)
        step = found.most_common(1)[0][0] if found else None
        scores[kind] = {
            "planted": planted,
            "found": found.total(),
            "recall": found.total() / planted,
            "step": step,
            "precision": sum(by_step[step]) / len(by_step[step]) if step else None,
            "by_step": dict(found),
        }
    scores["clean"] = {"dropped": sum(identity not in truth for identity in dropped)}
    return scores


def read_dropped(folder: Path | str) -> dict[str, str]:
    """id -> step of the documents that a cleaning dropped."""
    with open(Path(folder) / "dropped.csv", encoding="utf-8", newline="") as file:
        return {row["id"]: row["step"] for row in csv.DictReader(file)}


def filter_record(work: Path) -> list[dict[str, Any]]:
    """What the filters did, before duplicates are looked for."""
    return _steps(work, "filter", json.loads((work / "about.json").read_text(encoding="utf-8"))["filters"])


def _steps(work: Path, stage: str, names: list[str]) -> list[dict[str, Any]]:
    """What the steps of a stage did, from datatrove's counters: a stage's blocks are its reader, then these steps."""
    totals: list[Counter] = [Counter() for _ in names]
    for path in sorted((work / "logs" / stage / "stats").glob("*.json")):
        blocks = json.loads(path.read_text(encoding="utf-8"))
        for total, block in zip(totals, blocks[1:], strict=False):
            total.update({label: _total(value) for label, value in block["stats"].items()})
            total["spent_s"] += _total(block["time_stats"])
    return [
        {
            "step": name,
            "came_in": total["total"],
            "dropped": total["dropped"],
            "kept": total["total"] - total["dropped"],
            "changed": total["changed"],
            "reasons": {
                key.removeprefix("dropped_"): n for key, n in total.most_common() if key.startswith("dropped_")
            },
            "spent_s": round(total["spent_s"], 2),
        }
        for name, total in zip(names, totals, strict=True)
    ]


def _total(value: Any) -> float:
    return value["total"] if isinstance(value, dict) else value  # datatrove writes a plain 0 for what never happened


def _dropped(work: Path, step: str) -> Iterator[dict[str, Any]]:
    for path in sorted((work / "dropped" / step).glob("*.jsonl")):
        with open(path, encoding="utf-8") as file:
            yield from map(json.loads, file)


def _examples(rows: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """A few dropped documents, of as many reasons as there are."""
    first: dict[str, dict[str, Any]] = {}
    rest: list[dict[str, Any]] = []
    for row in rows:
        if row["reason"] not in first:
            first[row["reason"]] = row
        elif len(rest) < count:
            rest.append(row)
    return [*first.values(), *rest][:count]
