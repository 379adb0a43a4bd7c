"""Where a checkpoint comes from, back to the data, with every hash on the way checked.

    python -m recipes.lineage runs/tiny/ppo

prints the tree of parents and data; exit status 1, and the changed or missing file named, if anything is not what was recorded.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.run.cli import command
from recipes.run.record import data_problem, parent_folder, read_manifest, run_files, weights_sha256


@dataclass(frozen=True)
class Node:
    """A run, a checkpoint from elsewhere, or a data file; `problems` are what its hashes say."""

    label: str
    problems: tuple[str, ...]
    children: tuple["Node", ...] = ()

    def all_problems(self) -> list[str]:
        """Its own problems and those of everything below it, each once."""
        return list(dict.fromkeys([*self.problems, *(p for child in self.children for p in child.all_problems())]))


def trace(folder: Path | str, expected_sha256: str | None = None) -> Node:
    """The lineage of a run folder. `expected_sha256`: the weights hash that a child recorded for it."""
    folder = Path(folder)
    if not folder.is_dir():
        return Node(f"{folder} (missing)", (f"{folder} is missing",))
    manifest = read_manifest(folder)
    problems = []
    if expected_sha256 is not None and weights_sha256(folder) != expected_sha256:
        problems.append(f"{folder}: the weights are not those that its child was made from")
    if manifest is None:
        return Node(f"{folder}  (a checkpoint without a record)", tuple(problems))
    now = run_files(folder)
    for name, digest in manifest["files"].items():
        if name not in now:
            problems.append(f"{folder / name} is missing")
        elif now[name] != digest:
            problems.append(f"{folder / name} was changed after the run")
    children = [
        trace_hub(parent) if "revision" in parent else trace(parent["path"], parent["sha256"])
        for parent in manifest["parents"]
    ]
    for data in manifest["data"]:
        state = "from a hub" if data["sha256"] is None else data["sha256"][:12]
        children.append(Node(f"data {data['path']}  {state}", tuple(filter(None, [data_problem(data)]))))
    label = f"{folder}  [{manifest['stage']}, seed {manifest['seed']}]  {weights_sha256(folder)[:12]}"
    return Node(label, tuple(problems), tuple(children))


def trace_hub(parent: dict[str, Any]) -> Node:
    """A parent from the hub: its weights in the cache are checked; where it is not in this machine's cache, that is said."""
    label = f"{parent['path']} at {parent['revision'][:12]}, from a hub"
    try:
        folder = parent_folder(parent)
    except FileNotFoundError:
        return Node(f"{label}  (not in the cache: not checked)", ())
    is_same = weights_sha256(folder) == parent["sha256"]
    wrong = f"{parent['path']}: the weights in the cache are not those that its child was made from"
    return Node(f"{label}  {parent['sha256'][:12]}", () if is_same else (wrong,))


def lines(node: Node, prefix: str = "", branch: str = "") -> list[str]:
    """The tree as text, a line each, failed ones marked."""
    mark = "CHANGED  " if node.problems else ""
    out = [f"{prefix}{branch}{mark}{node.label}"]
    below = prefix + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
    for number, child in enumerate(node.children):
        out += lines(child, below, "└─ " if number == len(node.children) - 1 else "├─ ")
    return out


def main(argv: list[str] | None = None) -> None:
    """Print the tree of each folder; raise ValueError naming what was changed."""
    folders = sys.argv[1:] if argv is None else argv
    if not folders or folders[0] in ("-h", "--help"):
        print(__doc__)
        return
    problems: list[str] = []
    for folder in folders:
        if read_manifest(folder) is None:
            raise FileNotFoundError(f"{folder} has no manifest.json: no finished run is there")
        node = trace(folder)
        print("\n".join(lines(node)))
        problems += node.all_problems()
    if problems:
        raise ValueError("; ".join(dict.fromkeys(problems)))
    print("every hash is as recorded")


if __name__ == "__main__":
    command(main)
