import json
import os
import signal
import subprocess
import sys
import time

import pytest

from base_model import checkpoints


def fill(folder, text="weights"):
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(text)
    checkpoints.seal(folder)
    return folder


def test_sha256_of_a_file_is_the_published_digest_of_abc(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert checkpoints.sha256_file(tmp_path / "f") == expected
    assert checkpoints.sha256_folder(tmp_path) == {"f": expected}


def test_newest_means_the_largest_step_and_not_the_last_name(tmp_path):
    for step in (9, 100, 20):
        fill(tmp_path / f"checkpoint-{step}")
    assert checkpoints.newest_sealed(tmp_path).name == "checkpoint-100"


@pytest.mark.parametrize(
    "harm, named",
    [
        (lambda c: (c / "sealed.json").unlink(), "sealed.json is missing"),
        (lambda c: (c / "model.safetensors").write_text("weightz"), "model.safetensors does not match"),
        (lambda c: (c / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda c: (c / "sealed.json").write_text("{"), "sealed.json is not readable"),
    ],
)
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(tmp_path, harm, named):
    fill(tmp_path / "checkpoint-1")
    harm(fill(tmp_path / "checkpoint-2"))
    with pytest.warns(UserWarning, match=named):
        assert checkpoints.newest_sealed(tmp_path).name == "checkpoint-1"


def test_no_checkpoint_gives_none(tmp_path):
    assert checkpoints.newest_sealed(tmp_path / "absent") is None


def test_a_failed_write_leaves_the_old_folder_and_nothing_else(tmp_path):
    with checkpoints.write_atomically(tmp_path / "c") as partial:
        (partial / "a").write_text("old")
    with pytest.raises(RuntimeError), checkpoints.write_atomically(tmp_path / "c") as partial:
        (partial / "a").write_text("new")
        raise RuntimeError("disk full")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert (tmp_path / "c" / "a").read_text() == "old"


def test_a_write_that_succeeds_replaces_the_whole_folder(tmp_path):
    for name in ("old", "new"):
        with checkpoints.write_atomically(tmp_path / "c") as partial:
            (partial / name).write_text(name)
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["new"]


def test_killed_at_any_moment_a_folder_is_whole_or_absent(tmp_path):
    script = (
        "import sys; from pathlib import Path; from base_model.checkpoints import seal, write_atomically\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        f"    with write_atomically(Path({str(tmp_path)!r}) / f'checkpoint-{{n}}') as partial:\n"
        "        [(partial / f'{k}.bin').write_bytes(bytes(200_000)) for k in range(4)]; seal(partial)\n"
        "    print(n, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=os.getcwd())
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = checkpoints.checkpoints(tmp_path)
    assert found and all(checkpoints.damage(folder) is None for folder in found)


def test_keep_newest_removes_the_oldest(tmp_path):
    for step in (1, 2, 3):
        fill(tmp_path / f"checkpoint-{step}")
    checkpoints.keep_newest(tmp_path, 2)
    assert [path.name for path in checkpoints.checkpoints(tmp_path)] == ["checkpoint-3", "checkpoint-2"]


def test_text_is_replaced_whole(tmp_path):
    target = tmp_path / "manifest.json"
    checkpoints.write_text_atomically(target, json.dumps({"a": 1}))
    checkpoints.write_text_atomically(target, json.dumps({"a": 2}))
    assert json.loads(target.read_text()) == {"a": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
