"""Imports follow the pipeline: each package may import those before it, nothing after it. Read from the import statements."""

import ast
import re
from pathlib import Path

import pytest

from recipes.pipeline.fingerprint import PACKAGES, ROOT, imports


def violations(root: Path) -> list[str]:
    found = []
    for place, package in enumerate(PACKAGES):
        forbidden = (*PACKAGES[place + 1 :], "tests")
        for file in (root / package).rglob("*.py"):
            wrong = sorted(name for name in imports(file) if name.split(".")[0] in forbidden)
            found += [f"{file.relative_to(root)} imports {name}" for name in wrong]
    return found


def test_no_package_imports_one_that_comes_after_it():
    assert violations(ROOT) == []


@pytest.mark.parametrize("statement", ["import alignment.ppo", "def f():\n    from recipes.run import run\n"])
def test_a_wrong_import_is_seen_wherever_it_stands(tmp_path, statement):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "bad.py").write_text(statement)
    assert len(violations(tmp_path)) >= 1 and violations(tmp_path)[0].startswith("eval/bad.py imports")


def test_every_top_level_folder_of_code_is_a_layer():
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders == {*PACKAGES, "tests"}


def test_nothing_unpickles_or_runs_remote_code():
    """Weights are safetensors: torch.load only with weights_only=True (a trainer's own files), trust_remote_code never on."""
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            assert "import pickle" not in text and "trust_remote_code=True" not in text, file
            assert text.count("torch.load(") == text.count("weights_only=True"), file


def test_every_load_through_an_auto_class_refuses_a_checkpoints_own_code():
    """Left out, transformers asks on a terminal whether to run the code of a checkpoint with auto_map, and a "y" runs it."""
    asking = []
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                name = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
                if re.fullmatch(r"auto\w*\.from_pretrained", name, re.IGNORECASE):
                    refuses = any(k.arg == "trust_remote_code" and k.value.value is False for k in call.keywords)
                    asking += [] if refuses else [f"{file.relative_to(ROOT)}:{call.lineno}"]
    assert asking == []
