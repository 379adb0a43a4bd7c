"""A disk without room: one line, and the same command goes on once there is some. The disk is a real one, of 1 MiB."""

import gc
import os
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from recipes import domain_sft
from recipes.run.cli import command
from tests.conftest import TEXTS


@pytest.fixture
def small_disk(tmp_path):
    """resize(size) mounts a file system in memory, or gives the mounted one that size; returns its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def resize(size):
        is_mounted = os.path.ismount(folder)
        options = ["-o", f"remount,size={size}"] if is_mounted else ["-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
        if subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode:
            pytest.skip("this user may not mount a disk")
        return folder

    yield resize
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("size", ["1m", "600k", "300k"])
def test_a_full_disk_is_one_line_and_with_room_the_same_command_goes_on(
    small_disk, llama_checkpoint, tmp_path, capsys, size
):
    """In a checkpoint, the first one, or the rows: Arrow, safetensors and torch.save each say it in words of their own."""
    data = tmp_path / "text.txt"
    data.write_text("\n\n".join(TEXTS * 40))
    arguments = ["--model", str(llama_checkpoint), "--data", str(data), "--precision", "fp32", "--max_steps", "4"]
    arguments += ["--save_steps", "1", "--per_device_train_batch_size", "2", "--separator", "\n\n"]
    folder = small_disk(size)
    line = [*arguments, "--output_dir", str(folder / "run")]
    try:
        command(lambda: domain_sft.main(line))
    except SystemExit as ended:
        assert ended.code == 1
    gc.collect()  # of the first life, which holds the folder's lock
    said = [text for text in capsys.readouterr().err.splitlines() if "error" in text]
    assert len(said) == 1, said
    assert f"the disk tmpfs at {folder} is full" in said[0] and "make room" in said[0] and "--resume" in said[0]
    small_disk("50m")
    domain_sft.main([*line, "--resume"])
    whole = domain_sft.main([*arguments, "--output_dir", str(tmp_path / "whole")])
    ours, theirs = load_file(folder / "run" / "model.safetensors"), load_file(whole / "model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
