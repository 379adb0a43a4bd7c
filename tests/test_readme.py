"""The README's commands exist and their settings parse; the two long ones run, shrunken, in tests/recipes/test_make_run.py."""

import dataclasses
import importlib
import json
import re
import shlex
import sys

import pytest

from recipes.cli import parse
from recipes.fingerprint import ROOT, module_file

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"python -m (recipes\.[a-z_.]+[^`#\n]*)", README)))


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_names_a_recipe_and_settings_it_has(line):
    module, *arguments = shlex.split(line)
    file = module_file(module)
    assert file is not None, f"there is no {module}"
    for argument in arguments:
        if argument.startswith("recipes/"):
            assert (ROOT / argument).is_file(), argument
    types = getattr(importlib.import_module(module), "CONFIG_TYPES", None)
    if types is None and (file.parent / "__main__.py").is_file():
        types = getattr(importlib.import_module(f"{module}.__main__"), "CONFIG_TYPES", None)
    if (
        not types
        or any(a.startswith("mine") for a in arguments)
        or not any(argument.startswith("--") for argument in arguments)
    ):
        return
    arguments = ["--output_dir" if argument == "--out" else argument for argument in arguments]
    given = {argument[2:] for argument in arguments if argument.startswith("--")}
    needed = [
        f.name for t in types for f in dataclasses.fields(t) if f.default is f.default_factory is dataclasses.MISSING
    ]
    if "config" not in given:
        arguments += [f"--{name}=x" for name in needed if name not in given]
    parse(*types, argv=arguments)


def test_the_yaml_of_the_readme_parses_against_its_recipe(tmp_path):
    block = re.search(r"```yaml\n(# mine.yaml.*?)```", README, re.S)[1]
    (tmp_path / "mine.yaml").write_text(block, encoding="utf-8")
    from recipes.lora_sft import CONFIG_TYPES

    parse(*CONFIG_TYPES, argv=["--config", str(tmp_path / "mine.yaml")])


def test_the_readmes_own_metric_and_task_are_measured_with_nothing_else_touched(
    tmp_path, monkeypatch, llama_checkpoint, capsys
):
    """The three files as the README has them, in an empty folder; the metric's folder stands in for recipes/metrics."""
    import recipes.judges
    import recipes.metrics
    from recipes.evaluation import main

    files = dict(re.findall(r"```(?:python|yaml)\n# ([\w/]+\.\w+)[^\n]*\n(.*?)```", README, re.S))
    rows = {
        "mine/colours.jsonl": [{"sky": sky, "colours": ["red", "blue"], "right": 1} for sky in ("clear", "dark")],
        "runs/tiny/data/instructions_heldout.jsonl": [{"prompt": f"Say {i}.", "completion": "No."} for i in range(4)],
    }
    files |= {name: "".join(json.dumps(row) + "\n" for row in of_file) for name, of_file in rows.items()}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipes.judges, "METRICS", tmp_path / "recipes" / "metrics")
    monkeypatch.setattr(recipes.metrics, "__path__", [str(tmp_path / "recipes" / "metrics")])
    monkeypatch.delitem(sys.modules, "recipes.metrics.brevity", raising=False)
    command = shlex.split(re.search(r"# mine/suite.yaml:  python -m recipes.evaluation (.*)", README)[1])
    main([argument.replace("runs/tiny/lora_sft", str(llama_checkpoint)) for argument in command])
    printed = capsys.readouterr().out
    assert "instructions/brevity" in printed and "colours/acc" in printed
    measured = json.loads((tmp_path / "runs" / "mine" / "eval.json").read_text())["metrics"]
    brevity, accuracy = (next(m for m in measured if m["name"] == name) for name in ("brevity", "acc"))
    samples = [json.loads(line) for line in (tmp_path / "runs" / "mine" / "samples.jsonl").read_text().splitlines()]
    short = [len(sample["output"].split()) <= 10 for sample in samples if sample["set"] == "instructions"]
    assert brevity["value"] == sum(short) / 4 and brevity["n"] == 4
    assert accuracy["n"] == 2 and accuracy["chance"] == 0.5
    assert [str(sample["reference"]).strip() for sample in samples if sample["set"] == "colours"] == ["blue"] * 2


def test_every_file_that_the_tree_names_is_there():
    tree = re.search(r"```\nMakefile(.*?)```", README, re.S)[1]
    folder = ROOT
    for line in tree.splitlines()[1:]:
        if match := re.match(r"^([a-z_]+)/ ", line):
            folder = ROOT / match[1]
            assert folder.is_dir()
        elif match := re.match(r"^  ([a-z_]+\.py|[a-z_]+/) ", line):
            assert (folder / match[1]).exists(), line


def test_the_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^make ([a-z-]+)", README, re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), target
