"""How every recipe reads its settings and ends: YAML by `--config`, flags on top (TRL's convention), one clear line for a mistake.

CONFIG_TYPES = (Config,)
def main(argv=None): (config,) = parse(*CONFIG_TYPES, argv=argv) ...
if __name__ == "__main__": command(main)
"""

import difflib
import json
import os
import platform
import signal
import sys
import tempfile
import typing
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from recipes.run.disk import full_disk

FAILURE_FILE = (
    "PLUMBLINE_FAILURE_FILE"  # environment variable: where a command that fails writes [message, class of the error]
)


def expand_environment(value: Any, where: str) -> Any:
    """Replace ${NAME} in every string of a YAML value. Raises ValueError naming the variable when it is not set."""
    if isinstance(value, dict):
        return {key: expand_environment(item, where) for key, item in value.items()}
    if isinstance(value, list):
        return [expand_environment(item, where) for item in value]
    if isinstance(value, str) and "${" in value:
        expanded = os.path.expandvars(value)
        if "${" in expanded:
            name = expanded.split("${", 1)[1].split("}", 1)[0]
            raise ValueError(f"{where} uses ${{{name}}}, which is not set; export {name}=... first")
        return expanded
    return value


def load_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML mapping with ${ENV} expanded. Raises FileNotFoundError, or ValueError naming the file and, where known, the line."""
    import yaml

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no config file {path}; the ones that ship are under recipes/configs/")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ValueError(
            f"{path}{f', line {mark.line + 1}' if mark else ''}: not valid YAML: {error.problem}"
        ) from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold 'key: value' lines, found {type(values).__name__}")
    return expand_environment(values, str(path))


def reject_unknown(keys: Sequence[str], known: Sequence[str], where: str) -> None:
    """Raise ValueError for the first key that is not known, with the nearest known one."""
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(sorted(known))}"
            raise ValueError(f"unknown key '{key}' in {where}; {hint}")


def parse(*dataclass_types: type, argv: Sequence[str] | None = None) -> tuple[Any, ...]:
    """One instance of each dataclass from `--config FILE.yaml` and `--key value` flags; flags win. argv None means the command line.

    Raises ValueError for unknown keys (with the nearest known one), missing values and values that a dataclass refuses.
    """
    import yaml
    from trl import TrlParser

    arguments = list(sys.argv[1:] if argv is None else argv)
    fields = [item for kind in dataclass_types for item in kind.__dataclass_fields__.items() if item[1].init]
    known = [name for name, _ in fields]
    aliases = [alias.lstrip("-") for _, field in fields for alias in field.metadata.get("aliases", ())]
    # A line that sys.argv did not bring is parsed for a caller in this process: argparse must not name this process's script.
    parser = TrlParser(dataclass_types, prog=None if argv in (None, sys.argv[1:]) else "recipe", allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE.yaml", help="settings file; flags given beside it win")
    if {"-h", "--help"} & set(arguments):
        _explain(parser, dataclass_types)
    flags = [item.split("=", 1)[0][2:].replace("-", "_") for item in arguments if item.startswith("--")]
    reject_unknown(
        [f for f in flags if f not in ("help", "config", "no_config")],
        _spellings([*known, *aliases]),
        "the command line",
    )
    if "--config" not in arguments:
        joined = [item for item in arguments if item.startswith("--config=")]
        if not joined:
            return _instances(parser, arguments)
        arguments = [item for item in arguments if item not in joined] + ["--config", joined[-1].split("=", 1)[1]]
    position = arguments.index("--config")
    if position + 1 >= len(arguments):
        raise ValueError("--config needs a file after it")
    source = arguments[position + 1]
    values = load_yaml(source)
    reject_unknown([key for key in values if key != "env"], known, source)
    _reject_collections(values, dataclass_types, source)
    with tempfile.NamedTemporaryFile(
        "w", suffix=".yaml"
    ) as expanded:  # TrlParser reads a file; give it the expanded one
        yaml.safe_dump(values, expanded, sort_keys=False)  # the order of stages is the file's
        expanded.flush()
        arguments[position + 1] = expanded.name
        return _instances(parser, arguments)


def _reject_collections(values: dict[str, Any], dataclass_types: Sequence[type], source: str) -> None:
    """Raise ValueError for a list or a mapping where a field holds one value: the parser would hand it on as it is."""
    for kind in dataclass_types:
        hints = typing.get_type_hints(kind)
        for name in values.keys() & kind.__dataclass_fields__.keys():
            taken = [typing.get_origin(hint) or hint for hint in (*typing.get_args(hints[name]), hints[name])]
            value = values[name]
            is_taken = any(hint is typing.Any or (isinstance(hint, type) and isinstance(value, hint)) for hint in taken)
            if isinstance(value, (list, dict)) and not is_taken:
                found = "a list" if isinstance(value, list) else "key: value lines"
                said = "a list" if any(hint in (list, Sequence) for hint in taken) else "one value"
                raise ValueError(f"{source}: {name} must be {said}, found {found}: {str(value)[:60]}")


def field_comments(kind: type) -> dict[str, str]:
    """{field: the comment beside it} of a dataclass and of those that it inherits from, read from their source; {} where there is none."""
    import ast
    import io
    import tokenize

    comments: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        try:
            source = Path(sys.modules[owner.__module__].__file__).read_text(encoding="utf-8")
        except (KeyError, AttributeError, TypeError, OSError):  # built in, or typed by hand
            continue
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
        of_line = {
            token.start[0]: token.string.lstrip("# ")
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
        for node in (node for node in nodes if node.name == owner.__name__):
            for item in (item for item in node.body if isinstance(item, ast.AnnAssign)):
                found = [of_line[line] for line in range(item.lineno, item.end_lineno + 1) if line in of_line]
                if found:
                    comments[item.target.id] = " ".join(found)
    return comments


def _explain(parser: Any, dataclass_types: Sequence[type]) -> None:
    """Give every option of `--help` its field's comment and its default (or that it has none), where it has no help text of its own."""
    import argparse

    comments = {name: text for kind in dataclass_types for name, text in field_comments(kind).items()}
    for action in parser._actions:
        if action.dest == "help":
            continue
        if action.option_strings[0].startswith("--no_"):
            action.help, action.default = f"not --{action.dest}", argparse.SUPPRESS
            continue
        text = action.help or comments.get(action.dest, "").replace("%", "%%")
        if action.required or action.dest == "config":  # there is no default to print
            text, action.default = text + " (required)" * action.required, argparse.SUPPRESS
        action.help = (
            text.strip() or "(default: %(default)s)"
        )  # argparse adds the default only where there is some help


def _spellings(known: Sequence[str]) -> list[str]:
    return [*known, *(f"no_{name}" for name in known)]


def _instances(parser: Any, arguments: list[str]) -> tuple[Any, ...]:
    parsed = parser.parse_args_and_config(arguments)
    return tuple(item for item in parsed if type(item).__name__ != "Namespace")


def command(main: Callable[[], Any], *, owns_process: bool = False) -> None:
    """Run a recipe's `main` as a command. A person's mistake (ValueError, OSError, Ctrl-C) is one line on stderr, no traceback.

    Exit status: 0 well, 1 a mistake or an unusable machine, 130 Ctrl-C, 143 SIGTERM. PLUMBLINE_TRACEBACK=1 shows the traceback.
    """
    if owns_process or main.__module__ == "__main__":  # not where a test calls it
        _start_anew_for_shared_machines()
        _take_sigterm_as_ctrl_c()
    try:
        main()
    except KeyboardInterrupt as stop:
        by, status = ("SIGTERM", 143) if stop.args == (signal.SIGTERM,) else ("Ctrl-C", 130)
        print(f"stopped by {by}; what was finished is kept, --resume goes on from the last checkpoint", file=sys.stderr)
        sys.exit(status)
    except Exception as error:
        message = one_line(error)
        if message is None or os.environ.get("PLUMBLINE_TRACEBACK"):
            raise
        if os.environ.get(FAILURE_FILE):
            Path(os.environ[FAILURE_FILE]).write_text(json.dumps([message, type(error).__name__]), encoding="utf-8")
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)


def one_line(error: Exception) -> str | None:
    """What a person is told of an error: a mistake, a full disk or another limit of the machine. None for a defect of ours."""
    full = full_disk(error)
    if full is None and not isinstance(error, (ValueError, OSError)):
        return None
    return " ".join((full or str(error)).split())


def _take_sigterm_as_ctrl_c() -> None:
    """By itself SIGTERM would end this process alone, and a stage that it started would train on with nobody to hear of it.

    Not where a launcher started this as one of several: it may be waiting for the others, where Python hears no signal.
    """

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt(number)

    if "LOCAL_RANK" not in os.environ:
        signal.signal(signal.SIGTERM, stop)
        end_at_once = partial(signal.signal, signal.SIGTERM, signal.SIG_DFL)  # a pool ends its workers by SIGTERM
        os.register_at_fork(after_in_child=end_at_once)


def _start_anew_for_shared_machines() -> None:
    """Start this command anew with two settings that its libraries read as they are loaded; once. A person's own settings stay.

    OpenMP's threads sleep while they wait for each other. By themselves they spin, and then two of them do a tenth of their work as soon
    as another program takes a core: generation on two cores fell from 300 answers/s to between 12 and 110, asleep it does 150 to 170.

    glibc's per-thread list of freed small blocks (tcache) is off. A block in that list never joins its free neighbours. Small ones lie
    between a training step's tensors, so the heap falls to pieces that the tensors of the next row length do not fit: DPO held 1.4 and
    PPO 1.6 times what was in use. Without the list no stage is slower.
    """
    wanted = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc.tcache_count" not in tunables and platform.libc_ver()[0] == "glibc":
        wanted["GLIBC_TUNABLES"] = ":".join(filter(None, [tunables, "glibc.malloc.tcache_count=0"]))
    if sys.executable and any(os.environ.get(name) != value for name, value in wanted.items()):
        os.environ.update(wanted)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
