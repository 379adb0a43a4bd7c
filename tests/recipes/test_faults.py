"""What goes wrong in real life: Ctrl-C, kill -9, a full disk, a folder one may not write, a stage that crashes, two pipelines at once.

Each must end in one clear line, lose nothing that was finished, and leave nothing half-written that looks finished.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recipes.pipeline.fingerprint import ROOT
from recipes.run.record import read_manifest

SMALL = {
    "documents": 300,
    "instructions": 60,
    "prompts": 30,
    "heldout_documents": 20,
    "heldout_instructions": 20,
    "heldout_prompts": 20,
}


def graph(folder: Path, **stages) -> Path:
    """A pipeline file of data stages (they need no model): {"data": settings, ...}."""
    path = folder / "pipeline.yaml"
    graph = {name: {"recipe": "tinytown", "set": {**SMALL, **settings}} for name, settings in stages.items()}
    path.write_text(json.dumps({"output_dir": str(folder / "runs"), "stages": graph}))
    return path


def command(path: Path, jobs: int = 1) -> list[str]:
    return [sys.executable, "-m", "recipes.pipeline", "--config", str(path), "--jobs", str(jobs)]


def take_ctrl_c() -> None:
    """A shell's background jobs, and so a test run among them, ignore Ctrl-C and hand that on: a terminal's command does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(path: Path, **options) -> subprocess.Popen:
    options.setdefault("preexec_fn", take_ctrl_c)
    return subprocess.Popen(
        command(path), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def wait_for(path: Path, limit_s: float = 240) -> None:
    """Until a file is there."""
    began_s = time.monotonic()
    while not path.exists():
        assert time.monotonic() - began_s < limit_s, f"{path} did not appear"
        time.sleep(0.05)


def one_line(stderr: str, said: str) -> None:
    lines = [line for line in stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and said in lines[0], stderr


def files_of(run: Path) -> dict:
    return read_manifest(run)["files"]


def test_ctrl_c_is_one_line_and_the_same_command_goes_on_to_the_same_bytes(tmp_path):
    slow = {"documents": 6000}
    path = graph(tmp_path, data={}, more=slow)
    process = start(path, start_new_session=True)
    wait_for(tmp_path / "runs" / "more" / "started.json")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
    _, stderr = process.communicate(timeout=240)
    assert process.returncode == 130
    one_line(stderr, "stopped by Ctrl-C")
    assert read_manifest(tmp_path / "runs" / "data") is not None
    assert read_manifest(tmp_path / "runs" / "more") is None
    again = subprocess.run(command(path), cwd=ROOT, capture_output=True, text=True)
    assert "data: kept (unchanged" in again.stdout
    (tmp_path / "fresh").mkdir()
    subprocess.run(command(graph(tmp_path / "fresh", more=slow)), cwd=ROOT, capture_output=True)
    assert files_of(tmp_path / "runs" / "more") == files_of(tmp_path / "fresh" / "runs" / "more")


def test_killed_outright_the_same_command_goes_on(tmp_path):
    path = graph(tmp_path, data={"documents": 4000})
    process = start(path, start_new_session=True)
    wait_for(tmp_path / "runs" / "data" / "started.json")
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert read_manifest(tmp_path / "runs" / "data") is None
    again = subprocess.run(command(path), cwd=ROOT, capture_output=True, text=True)
    assert "interrupted: goes on" in again.stdout
    assert read_manifest(tmp_path / "runs" / "data") is not None


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_pipeline_that_is_ended_takes_its_stage_along(tmp_path, number, status):
    """`kill` reaches the pipeline alone. Its stage of 20 s would go on, and the same command would be refused meanwhile."""
    path = graph(tmp_path, data={"documents": 20_000})
    process = start(path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))  # as a background job
    wait_for(tmp_path / "runs" / "data" / "started.json")
    os.kill(process.pid, number)
    _, stderr = process.communicate(timeout=5)
    assert process.returncode == status
    if number == signal.SIGTERM:
        one_line(stderr, "stopped by SIGTERM")
    time.sleep(1)
    again = subprocess.run([*command(path), "--dry_run"], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0 and "interrupted" in again.stdout, again
    with (tmp_path / "runs" / "data" / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: the stage still holds it


def test_a_stage_that_fails_is_named_with_its_reason_and_what_was_finished_stays(tmp_path):
    path = graph(tmp_path, data={}, broken={"heldout_prompts": -1})
    done = subprocess.run(command(path), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    one_line(done.stderr, "stage broken failed")
    assert read_manifest(tmp_path / "runs" / "data") is not None
    assert read_manifest(tmp_path / "runs" / "broken") is None


def test_a_stage_killed_by_the_system_says_so(tmp_path):
    path = graph(tmp_path, data={"documents": 20_000})
    process = start(path)
    wait_for(tmp_path / "runs" / "data" / "started.json")
    lock = (tmp_path / "runs" / "data" / ".lock").stat()
    holders = [
        int(line.split()[4]) for line in Path("/proc/locks").read_text().splitlines() if f":{lock.st_ino} " in line
    ]
    os.kill(holders[0], signal.SIGKILL)  # the stage's own process, as the out-of-memory killer does
    _, stderr = process.communicate(timeout=240)
    assert process.returncode == 1
    one_line(stderr, "ran out of memory")


def test_two_pipelines_in_one_folder_are_refused(tmp_path):
    path = graph(tmp_path, data={"documents": 6000})
    first = start(path)
    wait_for(tmp_path / "runs" / "data" / "started.json")
    second = subprocess.run(command(path), cwd=ROOT, capture_output=True, text=True)
    assert second.returncode == 1
    one_line(second.stderr, "another process is working in")
    first.communicate(timeout=120)
    assert read_manifest(tmp_path / "runs" / "data") is not None


def test_a_full_disk_is_one_line_and_nothing_looks_finished(tmp_path):
    """A limit on the size of files stands in for the disk: the write fails in the same place, with "File too large"."""
    path = graph(tmp_path, data={})
    limited = f"ulimit -f 8; exec {' '.join(command(path))}"
    done = subprocess.run(["bash", "-c", limited], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    one_line(done.stderr, "File too large")
    assert read_manifest(tmp_path / "runs" / "data") is None


@pytest.fixture
def unwritable(tmp_path):
    """A folder that even this user may not write: read-only by its mode, or, for root, by its mount."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    is_mounted = False
    if os.getuid() == 0:
        is_mounted = (
            subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], capture_output=True).returncode
            == 0
        )
        if not is_mounted:
            pytest.skip("root may write everywhere, and may not mount a read-only folder here")
    yield folder
    if is_mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_folder_one_may_not_write_is_one_line(unwritable, tmp_path):
    path = graph(tmp_path, data={})
    done = subprocess.run(
        [*command(path), "--output_dir", str(unwritable / "runs")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    one_line(done.stderr, "Read-only file system" if os.getuid() == 0 else "Permission denied")
