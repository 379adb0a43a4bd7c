"""`plumbline COMMAND ...` and `python -m recipes COMMAND ...`: every recipe by its short name."""

import difflib
import importlib
import sys
from itertools import groupby

from recipes.run.cli import command
from recipes.run.stage import commands

ALIASES = {"run": "pipeline"}  # as in `make run`
CONFIGS = {"run": "recipes/configs/tiny/pipeline.yaml"}  # of a command that is given no --config
USAGE = """usage: plumbline COMMAND [--config FILE.yaml] [--setting value ...]
       plumbline COMMAND --help        the settings of one command

plumbline run is the whole tiny pipeline, or that of --config FILE.yaml. `python -m recipes COMMAND` is the same.
"""


def overview() -> str:
    """Every command with its line, by kind, in the order of the pipeline."""
    lines = [USAGE]
    for kind, group in groupby(commands().values(), key=lambda one: one.kind):
        lines += [f"{kind}:", *(f"  {one.name:<18}{one.summary}" for one in group), ""]
    return "\n".join(lines)


def main() -> None:
    """Run the command that sys.argv names, as `python -m` of its module would. Raises ValueError for an unknown one."""
    asked, *rest = sys.argv[1:] or ["--help"]
    if asked in ("-h", "--help", "help"):
        print(overview(), end="")
        return
    name = asked.replace("-", "_")
    chosen = commands().get(ALIASES.get(name, name))
    if chosen is None:
        near = difflib.get_close_matches(name, [*commands(), *ALIASES], n=1)
        hint = f"did you mean '{near[0]}'?" if near else "plumbline --help lists the commands"
        raise ValueError(f"unknown command '{asked}'; {hint}")
    if name in CONFIGS and not any(word.split("=")[0] == "--config" for word in rest):
        rest = ["--config", CONFIGS[name], *rest]
    sys.argv = [f"plumbline {name}", *rest]
    module = importlib.import_module(chosen.module)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{chosen.module}.__main__")
    status = module.main()
    if isinstance(status, int):
        sys.exit(status)


def plumbline() -> None:
    """The entry point of the installed package."""
    command(main, owns_process=True)


if __name__ == "__main__":
    plumbline()
