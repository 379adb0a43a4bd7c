"""What a recipe declares of itself, once; and the list of commands, read from the recipes' files without importing them.

    STAGE = Stage("ppo", kind="alignment", purpose="the instruction-tuned model aligned by PPO", trains=True, own_loop=True)

Pipeline, run record, model card and `plumbline --help` read it, so a further alignment method adds its recipe and edits no list of stages.
"""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

RECIPES = Path(__file__).resolve().parents[1]
KINDS = ("data", "base model", "fine-tuning", "preferences", "alignment", "studies")  # in the order of the pipeline
FIRST, MEASUREMENT = "start here", "evaluation"  # kinds of commands that are no stage
FOLDERS = {"data": "data", "studies": "studies", "bench": "studies", "pipeline": FIRST}  # where it is not declared


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline. Its name is the recipe's in a pipeline's YAML, the record's `stage`, and the command's."""

    name: str
    kind: str = ""  # one of KINDS
    purpose: str = ""  # what its checkpoint is; the model card says "This is ..."
    trains: bool = False  # it can be launched on many processes
    own_loop: bool = (
        False  # not transformers' Trainer: checkpoints hold whole tensors, whatever split them; no DeepSpeed
    )


@dataclass(frozen=True)
class Command:
    """A recipe as a command: `plumbline NAME`, or `python -m MODULE`."""

    name: str
    module: str
    kind: str
    summary: str  # the first line of its docstring
    stage: Stage | None  # None: it is no stage of a pipeline


@cache
def commands() -> dict[str, Command]:
    """{name: command}: every file of recipes/, recipes/data/ and recipes/studies/ with a `main`, and every package with a __main__.py."""
    files = [*RECIPES.glob("*.py"), *RECIPES.glob("data/*.py"), *RECIPES.glob("studies/*.py")]
    files += RECIPES.glob("*/__main__.py")
    found = [command for file in files if (command := _command(file)) is not None]
    order = [FIRST, *KINDS[:-1], MEASUREMENT, KINDS[-1]]
    found.sort(key=lambda command: (order.index(command.kind), command.name))
    return {command.name: command for command in found}


def stages() -> dict[str, Command]:
    """{stage's name: its command}: what a pipeline may run. Names, not import paths, so that a YAML cannot run code."""
    return {name: command for name, command in commands().items() if command.stage}


def _command(file: Path) -> Command | None:
    """A file's command; None for a file without a `main`. Raises ValueError where the file calls its stage by another name than its own."""
    parts = file.relative_to(RECIPES).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__main__" else parts
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    has_main = any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
    if not parts or not has_main:
        return None
    stage = next((made for node in tree.body if (made := _declared(node)) is not None), None)
    if stage and (stage.name != parts[-1] or stage.kind not in KINDS):
        raise ValueError(
            f"{file} declares {stage}; the name must be '{parts[-1]}', the file's, and the kind one of {', '.join(KINDS)}"
        )
    kind = stage.kind if stage else FOLDERS.get(parts[0], FIRST if parts == ("minimal",) else MEASUREMENT)
    summary = (ast.get_docstring(tree) or "").split("\n")[0]
    return Command(parts[-1], ".".join(("recipes", *parts)), kind, summary, stage)


def _declared(node: ast.stmt) -> Stage | None:
    """The stage of a statement `STAGE = Stage(...)`, whose arguments are literals; None for any other statement."""
    if not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STAGE"):
        return None
    given = [ast.literal_eval(value) for value in node.value.args]
    named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.value.keywords}
    return Stage(*given, **named)
