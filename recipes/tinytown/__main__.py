"""Make the embedded world's data sets.

    python -m recipes.tinytown --out runs/tiny/data --documents 20000 --seed 1

Writes general and domain text with dirt (and the truth about it), held-out text, instructions, prompts, benchmarks and a data card, in
about 15 s a core. Same seed, same bytes. README.md in the folder describes every file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recipes.tinytown.writing import WorldConfig, write_world


def main(argv: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.tinytown", description="Make the embedded world's data sets."
    )
    defaults = WorldConfig(out="")
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument(
        "--documents", type=int, default=defaults.documents, help="documents in general.jsonl and domain.jsonl together"
    )
    parser.add_argument("--instructions", type=int, default=defaults.instructions, help="rows of instructions.jsonl")
    parser.add_argument("--prompts", type=int, default=defaults.prompts, help="rows of prompts.jsonl")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    folder = write_world(WorldConfig(**vars(parser.parse_args(argv))))
    print(f"wrote {folder}: see {folder / 'README.md'}")
    return folder


if __name__ == "__main__":
    main()
