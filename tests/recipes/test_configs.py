"""Every YAML that ships parses against the dataclasses of the recipe that its first line names."""

import dataclasses
import os
import re
from pathlib import Path

import pytest

from recipes.pipeline.fingerprint import ROOT
from recipes.run.cli import load_yaml, parse
from recipes.run.process import command_module

FILES = sorted(ROOT.glob("recipes/configs/**/*.yaml"))
OTHERS = ("accelerate", "tasks")  # folders of accelerate's configs and of lm-eval tasks
COMMAND = re.compile(r"^# (?:python -m|accelerate launch .*-m) (recipes\.[a-z_.]+) .*?--(?:config|suite)[ =](\S+)")


@pytest.mark.parametrize(
    "file", [f for f in FILES if f.parent.name not in OTHERS], ids=lambda f: str(f.relative_to(ROOT))
)
def test_the_yaml_parses_against_its_recipes_dataclasses(file: Path, monkeypatch):
    monkeypatch.setenv("PLUMBLINE_DATA", os.environ.get("PLUMBLINE_DATA", "/absent"))
    match = COMMAND.match(file.read_text(encoding="utf-8").splitlines()[0])
    assert match, f"{file.name}: the first line must be its command"
    assert ROOT / match[2] == file, "the command must name this very file"
    types = command_module(match[1]).CONFIG_TYPES
    given = load_yaml(file)
    required = [
        f"--{name}=x"
        for kind in types
        for name, field in kind.__dataclass_fields__.items()
        if field.default is field.default_factory is dataclasses.MISSING and name not in given
    ]
    parse(*types, argv=["--config", str(file), *required])


@pytest.mark.parametrize("file", [f for f in FILES if f.parent.name == "accelerate"], ids=lambda f: f.stem)
def test_accelerate_reads_its_configs_and_knows_every_key(file: Path):
    """Its loader refuses an unknown key at the top; those of fsdp_config and deepspeed_config are options of its launcher, or nothing."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    config = load_config_from_file(str(file))
    assert config.compute_environment.value == "LOCAL_MACHINE" and config.num_processes >= 2
    options = {action.dest for action in launch_command_parser()._actions}
    assert {*config.fsdp_config, *config.deepspeed_config} <= options
    assert COMMAND.match(file.read_text(encoding="utf-8").splitlines()[0])
    assert f"recipes/configs/accelerate/{file.name}" in file.read_text(encoding="utf-8").splitlines()[0]


def test_fsdp_splits_both_kinds_of_models_by_their_blocks():
    from transformers import GPT2LMHeadModel, LlamaForCausalLM, LlamaForSequenceClassification

    from base_model.gpt import GPT, Block

    assert tuple(GPT._no_split_modules) == (Block.__name__,)
    assert set(GPT2LMHeadModel._no_split_modules) == {"GPT2Block"}
    assert (
        set(LlamaForCausalLM._no_split_modules)
        == set(LlamaForSequenceClassification._no_split_modules)
        == {"LlamaDecoderLayer"}
    )


def test_there_are_configs_to_check():
    assert FILES
