"""Stages side by side: who runs beside whom, with how many threads, and what a failure or Ctrl-C leaves."""

import dataclasses
import multiprocessing
import subprocess
import sys
import time

import psutil
import pytest
import yaml

from recipes.pipeline.fingerprint import ROOT
from recipes.pipeline.graph import PlannedStage, compare_with_disk
from recipes.pipeline.schedule import run_all, threads_of
from recipes.pipeline.table import StageTable, wall_s
from recipes.run.record import read_manifest


class Sleeper(PlannedStage):
    module = "tests.recipes.pipeline.sleeper"

    def inputs(self):
        return {"settings": str(self.settings)}


def stage(root, name, *parents, gib=0.1, **settings):
    folders = {parent: root / parent for parent in parents}
    return Sleeper(name, "dpo", None, settings, folders, root / name, expected_s=10.0, expected_gib=gib)


def run(root, stages, jobs):
    run_all(stages, compare_with_disk, root, jobs=jobs)
    return {one.name: read_manifest(one.folder) for one in stages}


def overlap(one, other):
    return one["began_s"] < other["ended_s"] and other["began_s"] < one["ended_s"]


def test_stages_apart_run_side_by_side_and_a_child_after_its_parents(tmp_path):
    stages = [stage(tmp_path, "a", takes_s=0.6), stage(tmp_path, "b", takes_s=0.6), stage(tmp_path, "child", "a", "b")]
    record = run(tmp_path, stages, jobs=2)
    assert overlap(record["a"], record["b"])
    assert record["child"]["began_s"] > max(record["a"]["ended_s"], record["b"]["ended_s"])


@pytest.mark.parametrize("jobs, gib", [(1, 0.1), (2, 100_000)])
def test_one_after_the_other_where_one_is_asked_for_or_memory_is_short(tmp_path, jobs, gib):
    record = run(tmp_path, [stage(tmp_path, "a", gib=gib), stage(tmp_path, "b", gib=gib)], jobs)
    assert not overlap(record["a"], record["b"])


def test_a_failure_begins_nothing_more_and_what_runs_is_kept(tmp_path, capsys):
    stages = [stage(tmp_path, "bad", fails=True, takes_s=0), stage(tmp_path, "good", takes_s=0.8)]
    stages += [stage(tmp_path, "after_bad", "bad"), stage(tmp_path, "after_good", "good")]
    with pytest.raises(
        ValueError, match="stage bad failed: it was told to, with other settings .its output: .*bad.txt"
    ):
        run(tmp_path, stages, jobs=2)
    assert "bad: failed (it was told to, with other settings); waiting for good" in capsys.readouterr().out
    assert [one.name for one in stages if read_manifest(one.folder)] == ["good"]
    assert not compare_with_disk(stages[1]).runs


def test_what_cannot_be_resumed_is_started_anew_by_the_class_of_the_error_and_not_by_its_words(tmp_path):
    stages = [
        stage(tmp_path, "other", takes_s=0, refuses="OtherSettings"),
        stage(tmp_path, "done", takes_s=0, refuses="AlreadyFinished"),
    ]
    for one in stages:
        one.folder.mkdir()
        (one.folder / "started.json").write_text("{}")
    record = run(tmp_path, stages, jobs=2)
    assert record["other"]["arguments"] == ["--overwrite"]
    assert record["done"] is None and stages[1].fingerprint_file.is_file()  # the stage itself had said that it is there
    bad = stage(tmp_path, "bad", takes_s=0, fails=True)
    bad.folder.mkdir()
    (bad.folder / "started.json").write_text("{}")
    with pytest.raises(ValueError, match="stage bad failed: it was told to, with other settings"):
        run(tmp_path, [bad], jobs=1)


def test_a_launched_stage_says_the_class_of_its_error_too(tmp_path):
    from recipes.run.process import LaunchedProcess, wait_for

    config = "recipes/configs/accelerate/ddp.yaml"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("")
    arguments = ["--output_dir", str(tmp_path / "out")]
    failure = wait_for(
        LaunchedProcess("recipes.tinytown", arguments, tmp_path / "log.txt", accelerate_config=config, processes=1)
    )
    assert failure.kind == "ValueError" and "holds files that no run made" in failure


def test_a_stage_with_processes_is_launched_on_so_many_where_it_has_the_cores(tmp_path, monkeypatch):
    started = []
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(
        "recipes.pipeline.schedule.LaunchedProcess", lambda *given, **how: started.append(how) or Ended()
    )
    for have, asked in ((4, 3), (2, 3), (1, 2)):
        monkeypatch.setattr("recipes.pipeline.schedule.cores", lambda: have)  # noqa: B023 - called in this turn
        one = dataclasses.replace(stage(tmp_path, f"on{have}", takes_s=0), processes=asked)
        run(tmp_path, [one], jobs=1)
    assert [how["processes"] for how in started] == [3, 2]  # on one core it is a process like any other
    assert all(how["accelerate_config"].endswith("recipes/configs/accelerate/ddp.yaml") for how in started)


class Ended:
    """A process that ended well."""

    is_running = failure = lambda self: None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_a_launched_stage_does_not_outlive_the_one_who_started_it(tmp_path):
    """kill -9 of the starter: launcher and processes are gone seconds later; without it they would train on, and nobody would know."""
    settings, log = tmp_path / "settings.yaml", tmp_path / "log.txt"
    settings.write_text(yaml.safe_dump({"output_dir": str(tmp_path / "out"), "takes_s": 60}))
    code = (
        "import time; from pathlib import Path; from recipes.run.process import LaunchedProcess\n"
        f"how = dict(accelerate_config='recipes/configs/accelerate/ddp.yaml', processes=1)\n"
        f"arguments = ['--config', {str(settings)!r}]\n"
        f"launched = LaunchedProcess('tests.recipes.pipeline.sleeper', arguments, Path({str(log)!r}), **how)\n"
        "print(launched.process.pid, flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    launcher = psutil.Process(int(starter.stdout.readline()))
    while not (tmp_path / "out").is_dir():
        time.sleep(0.1)
    running = [launcher, *launcher.children(recursive=True)]
    starter.kill()
    starter.wait()
    assert psutil.wait_procs(running, timeout=20)[1] == []


def test_ctrl_c_ends_every_stage_that_runs(tmp_path, monkeypatch):
    def stop(table):
        if len([one for one in stages if one.folder.is_dir()]) == 2:
            raise KeyboardInterrupt

    stages = [stage(tmp_path, "a", takes_s=60), stage(tmp_path, "b", takes_s=60)]
    monkeypatch.setattr(StageTable, "watch", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stages, jobs=2)
    assert multiprocessing.active_children() == []  # a minute before they would have ended


def test_threads_follow_from_the_graph_and_not_from_jobs(tmp_path, monkeypatch):
    monkeypatch.setattr("recipes.pipeline.schedule.cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS")
    graph = [
        ("base",),
        ("sft", "base"),
        ("reward", "sft"),
        ("ppo", "reward", "sft"),
        ("dpo", "sft"),
        ("last", "ppo", "dpo"),
    ]
    stages = [stage(tmp_path, *names, takes_s=0) for names in graph]
    wanted = {
        "base": 4,
        "sft": 4,
        "reward": 2,
        "ppo": 2,
        "dpo": 2,
        "last": 4,
    }  # dpo runs beside reward, then beside ppo
    assert {folder.name: threads for folder, threads in threads_of(stages).items()} == wanted
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [threads_of(stages)[tmp_path / name] for name in ("base", "dpo")] == [3, 2]
    record = run(tmp_path, stages[:2], jobs=1)
    assert record["base"]["threads"] == "3"


def test_the_time_left_is_that_of_the_longest_way_or_of_all_over_the_jobs(tmp_path):
    stages = [stage(tmp_path, "a"), stage(tmp_path, "b", "a"), stage(tmp_path, "c", "a"), stage(tmp_path, "d", "a")]
    seconds = {"a": 10.0, "b": 20.0, "c": 20.0, "d": 20.0}
    assert wall_s(stages, seconds, jobs=1) == 70
    assert wall_s(stages, seconds, jobs=2) == 35
    assert wall_s(stages, seconds, jobs=3) == 30  # a, then the three
