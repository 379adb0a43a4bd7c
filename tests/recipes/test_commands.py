"""`plumbline`: every recipe by its short name, and what a recipe declares of itself."""

import importlib
import subprocess
import sys
import tomllib

import pytest

from recipes import __main__ as entry
from recipes.pipeline.fingerprint import ROOT
from recipes.run import stage
from recipes.run.process import command_module

COMMANDS = stage.commands()


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["plumbline", *arguments])
    entry.main()


def test_help_lists_every_command_with_the_first_line_of_its_docstring_and_imports_nothing_slow():
    program = (
        "import sys; sys.argv = ['plumbline', '--help']; from recipes.__main__ import main; main(); "
        "print([name for name in ('torch', 'transformers', 'trl', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    *shown, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    for module in ("recipes.ppo", "recipes.compare", "recipes.pipeline", "recipes.data.real_data", "recipes.bench"):
        first = command_module(module).__doc__.split("\n")[0]
        assert any(line.split() == [module.split(".")[-1], *first.split()] for line in shown), module


def test_every_command_can_be_called_without_arguments_of_python():
    """Its module has a `main` whose arguments may be left out, so that sys.argv is read, and a line for the overview."""
    for command in COMMANDS.values():
        assert callable(command_module(command.module).main), command
        assert command.summary.endswith((".", "?")), command


def test_what_is_declared_is_what_the_module_holds():
    declared = {name: command.stage for name, command in COMMANDS.items()}
    held = {name: getattr(command_module(command.module), "STAGE", None) for name, command in COMMANDS.items()}
    assert declared == held
    assert sorted(name for name, one in held.items() if one and one.trains) == [
        "domain_sft", "dpo", "lora_sft", "ppo", "pretrain", "reward_model",
    ]  # fmt: skip


def test_a_stage_under_another_name_than_its_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "RECIPES", tmp_path)
    (tmp_path / "kto.py").write_text('STAGE = Stage("ktoo", kind="alignment")\ndef main(): ...\n')
    with pytest.raises(ValueError, match=r"kto\.py declares .*ktoo.*the name must be 'kto'"):
        stage.commands.__wrapped__()


def test_the_entry_point_of_the_package_is_this_function():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, function = scripts["plumbline"].split(":")
    assert getattr(importlib.import_module(module), function) is entry.plumbline


@pytest.mark.parametrize(
    ("asked", "said"),
    [("pppo", "unknown command 'pppo'; did you mean 'ppo'?"), ("zzzz", "'zzzz'; plumbline --help lists the commands")],
)
def test_an_unknown_command_is_one_line_with_the_nearest_name(asked, said):
    done = subprocess.run([sys.executable, "-m", "recipes", asked], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and said in done.stderr and done.stderr.count("\n") == 1


def test_a_command_gets_its_arguments_and_its_usage_names_it(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, "best-of-n", "--help")
    assert ended.value.code == 0 and capsys.readouterr().out.startswith("usage: plumbline best_of_n")
    with pytest.raises(SystemExit):
        call(monkeypatch, "pretrain", "--help")  # it looks at its arguments itself first
    assert capsys.readouterr().out.startswith("usage: plumbline pretrain")
    with pytest.raises(ValueError, match="unknown key 'kl_coeff' in the command line; did you mean 'kl_coef'"):
        call(monkeypatch, "ppo", "--kl_coeff", "1")


def test_run_is_the_pipeline_and_alone_the_tiny_one(monkeypatch):
    from recipes.pipeline import __main__ as pipeline

    seen = []
    monkeypatch.setattr(pipeline, "main", lambda: seen.append(sys.argv[1:]))
    call(monkeypatch, "run")
    call(monkeypatch, "run", "--dry_run")
    call(monkeypatch, "run", "--config", "mine.yaml")
    tiny = ["--config", "recipes/configs/tiny/pipeline.yaml"]
    assert seen == [tiny, [*tiny, "--dry_run"], ["--config", "mine.yaml"]]


def test_an_exit_status_of_a_command_is_the_programs(monkeypatch):
    from recipes import verdict

    monkeypatch.setattr(verdict, "main", lambda: 3)
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, "verdict")
    assert ended.value.code == 3
