"""The README's commands exist and their settings parse; the two long ones run, shrunken, in tests/recipes/test_make_run.py."""

import dataclasses
import json
import re
import shlex
import sys

import pytest

from recipes.pipeline.fingerprint import ROOT, module_file
from recipes.run.cli import parse
from recipes.run.process import command_module

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
    types = getattr(command_module(module), "CONFIG_TYPES", None)
    if (
        not types
        or any(a.endswith(".yaml") and not a.startswith("recipes/") for a in arguments)  # of one's own
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


def test_the_readmes_own_data_goes_from_file_to_compared_model(tmp_path, monkeypatch, llama_checkpoint, capsys):
    """Its five YAML files as they are, its commands, on a person's files: .txt, CSV, parquet, JSON; a tiny model is the base."""
    import csv
    from importlib import import_module

    import pyarrow as pa
    import pyarrow.parquet

    files = re.findall(r"```yaml\n(# (\w+\.yaml):  python -m (recipes\.\w+)([^\n#]*).*?)```", README, re.S)
    assert [name for _, name, _, _ in files] == [
        "notes.yaml",
        "answers.yaml",
        "chats.yaml",
        "choices.yaml",
        "suite.yaml",
    ]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    for i in range(6):
        (tmp_path / "notes" / f"{i}.txt").write_text(f"Note {i}. " + "The ship came in at noon. " * 4, encoding="utf-8")
    (tmp_path / "notes_heldout.txt").write_text("The ship left at noon.", encoding="utf-8")
    for name in ("answers.csv", "answers_heldout.csv"):
        with open(name, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("question", "answer"), *((f"What is {i}?", f"It is {i}.") for i in range(80))])
    talk = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]
    (tmp_path / "chats").mkdir()
    table = pa.table({"conversation": [talk] * 80})
    pyarrow.parquet.write_table(table, tmp_path / "chats" / "train-00000-of-00001.parquet")
    pairs = [{"asked": f"What is {i}?", "better": f"It is {i}.", "worse": f"No {i}."} for i in range(40)]
    (tmp_path / "choices.json").write_text(json.dumps(pairs), encoding="utf-8")
    for text, name, recipe, arguments in files:
        assert len(text.strip().splitlines()) <= 15
        (tmp_path / name).write_text(text.replace("runs/tiny/base", str(llama_checkpoint)), encoding="utf-8")
        arguments = arguments.replace("runs/tiny/base", str(llama_checkpoint)).split()
        import_module(recipe).main([*arguments, *(["--max_steps", "2"] if recipe.endswith("_sft") else [])])
    assert (tmp_path / "runs" / "mine" / "report.html").is_file() and "bits_per_byte" in capsys.readouterr().out
    assert all(
        (tmp_path / "runs" / "mine" / name / "model.safetensors").is_file() for name in ("answers", "chats", "choices")
    )


def test_the_readmes_own_metric_and_task_are_measured_with_nothing_else_touched(
    tmp_path, monkeypatch, llama_checkpoint, capsys
):
    """The three files as the README has them, in an empty folder; the metric's folder stands in for recipes/metrics."""
    import recipes.judges.registry
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
    monkeypatch.setattr(recipes.judges.registry, "METRICS", tmp_path / "recipes" / "metrics")
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
