"""Has anything that a stage depends on changed? Its settings, its parents' files, and the source of the code that it runs."""

import ast
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from base_model.checkpoints import sha256_file
from recipes.run.record import read_manifest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("base_model", "eval", "sft", "reward", "alignment", "recipes")


def module_file(name: str) -> Path | None:
    """The source file of a project module ("eval.harness", or a package's __init__); None if the name is not one."""
    if name.split(".")[0] not in PACKAGES:
        return None
    path = ROOT.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def imports(file: Path) -> frozenset[str]:
    """Full names that a source file imports, wherever the statement stands (late imports count too); "from a import b" gives a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


@cache
def sources(module: str) -> tuple[Path, ...]:
    """Source files of a module and of every project module that it reaches by imports, sorted. Raises ValueError for an unknown module."""
    first = module_file(module)
    if first is None:
        raise ValueError(f"{module} is not a module of this project")
    entry = [first] + (
        [first.parent / "__main__.py"]
        if first.name == "__init__.py" and (first.parent / "__main__.py").is_file()
        else []
    )
    found, waiting = set(), entry
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        waiting.extend(source for name in imports(file) if (source := module_file(name)))
    return tuple(sorted(found))


def code_sha256(module: str) -> str:
    """One hash of the source that a stage's module runs on, in this project."""
    digest = hashlib.sha256()
    for file in sources(module):
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def suite_sha256(path: str) -> str:
    """Hash of a suite with the content of its files and of the metrics that it names; "not there yet" where a stage is to make one."""
    from eval.suite import Suite
    from recipes.judges import registry

    try:
        suite = Suite.load(path)
    except (OSError, ValueError):
        return "not there yet"
    # found by name as they are asked for, so no import statement tells of them
    own = set(suite.judges).intersection(registry.own_metrics())
    metrics = {name: sha256_file(registry.METRICS / f"{name}.py") for name in sorted(own)}
    return hashlib.sha256(json.dumps([suite.sha256, metrics]).encode()).hexdigest()


def stage_inputs(module: str, settings: Mapping[str, Any], parents: Mapping[str, Path]) -> dict[str, str]:
    """{what: hash} of everything that decides a stage's result but its data: "settings" (with what the YAML files say that they name),
    "code", "suite" where it is measured on one, and one entry per parent stage (its files' hashes)."""
    others = [value for key, value in settings.items() if key != "evaluation" and isinstance(value, str)]
    said = {name: sha256_file(name) for name in others if name.endswith((".yaml", ".yml")) and Path(name).is_file()}
    inputs = {
        "settings": hashlib.sha256(json.dumps([settings, said], sort_keys=True, default=str).encode()).hexdigest(),
        "code": code_sha256(module),
    }
    if settings.get("evaluation"):
        inputs["suite"] = suite_sha256(settings["evaluation"])
    for name, folder in parents.items():
        manifest = read_manifest(folder)
        files = json.dumps(manifest["files"], sort_keys=True) if manifest else "unfinished"
        inputs[f"parent {name}"] = hashlib.sha256(files.encode()).hexdigest()
    return inputs
