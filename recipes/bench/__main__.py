"""Speed and memory beside the libraries that people use, in ratios taken in alternation.

python -m recipes.bench NAME [options]        runs recipes/bench/NAME.py
"""

import importlib
import sys
from pathlib import Path

from recipes.run.cli import command


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    names = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if path.stem != "timing")
    usage = f"usage: python -m recipes.bench {'|'.join(names)} [options]"
    if argv[:1] in (["-h"], ["--help"]):
        print(usage)
    elif not argv or argv[0] not in names:
        raise ValueError(f"{f'unknown benchmark {argv[0]!r}' if argv else 'no benchmark was named'}; {usage}")
    else:
        importlib.import_module(f"recipes.bench.{argv[0]}").main(argv[1:])


if __name__ == "__main__":
    command(main)
