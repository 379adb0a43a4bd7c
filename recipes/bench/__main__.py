"""`python -m recipes.bench NAME [options]`: runs `recipes/bench/NAME.py`, which prints ratios taken in alternation."""

import importlib
import sys
from pathlib import Path

NOT_BENCHES = {"__init__", "__main__", "timing"}


def main(argv: list[str]) -> None:
    names = sorted({path.stem for path in Path(__file__).parent.glob("*.py")} - NOT_BENCHES)
    if not argv or argv[0] not in names:
        given = f"unknown benchmark {argv[0]!r}; " if argv and argv[0] not in ("-h", "--help") else ""
        sys.exit(f"{given}usage: python -m recipes.bench {'|'.join(names)} [options]")
    importlib.import_module(f"recipes.bench.{argv[0]}").main(argv[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
