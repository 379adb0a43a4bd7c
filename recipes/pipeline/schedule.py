"""A pipeline's stages, side by side where none waits for the other, as far as `jobs` and memory allow.

What a stage computes is the same for any number of jobs: its threads follow from the graph and the cores (`threads_of`), never from what
else is running.
"""

import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from base_model.checkpoints import write_text_atomically
from base_model.forks import cores
from recipes.pipeline.fingerprint import ROOT
from recipes.pipeline.graph import Decision, PlannedStage, compare_with_disk, estimate
from recipes.pipeline.table import StageTable
from recipes.run.folder import AlreadyFinished, OtherSettings
from recipes.run.process import POLL_S, LaunchedProcess, RecipeProcess, end_all

DDP = ROOT / "recipes" / "configs" / "accelerate" / "ddp.yaml"  # of a stage with `processes`
USUAL_GIB = 2.0  # of a stage whose memory nobody has measured or told


def default_jobs() -> int:
    """As many stages as there are cores; one on an accelerator, whose memory a stage may want for itself."""
    return cores() if _on_cpu() else 1


def _on_cpu() -> bool:
    from base_model.precision import find_device  # late: loads torch

    return find_device().type == "cpu"


def threads_of(stages: Sequence[PlannedStage]) -> dict[Path, int]:
    """{folder: threads}: the cores shared between a stage and those that the graph lets run beside it, whether or not they will.

    Two processes of one thread do more than one of two (1.3 to 1.6 times on two cores), so a stage that can have company has its share
    and a lone one has all cores. How many run beside it: the most stages of one depth that are neither before nor after it.
    A person's OMP_NUM_THREADS is the most that a stage gets."""
    before: dict[Path, set[Path]] = {}
    depth: dict[Path, int] = {}
    for stage in stages:  # parents come first
        inside = [folder for folder in stage.parents.values() if folder in before]
        before[stage.folder] = set(inside).union(*(before[folder] for folder in inside))
        depth[stage.folder] = 1 + max((depth[folder] for folder in inside), default=0)
    most = int(os.environ.get("OMP_NUM_THREADS") or cores())
    threads = {}
    for one in before:
        apart = (depth[other] for other in before if other not in before[one] | {one} and one not in before[other])
        threads[one] = min(most, max(1, cores() // (1 + max(Counter(apart).values(), default=0))))
    return threads


def run_all(
    stages: Sequence[PlannedStage],
    decide: Callable[[PlannedStage], Decision],
    root: Path,
    *,
    jobs: int,
    launch: Callable[[str, list[str], Path], LaunchedProcess] | None = None,
) -> None:
    """Run the stages that `decide` says run, each as soon as its parents are there; settings and logs of each go below `root`.

    launch: starts training stages on several processes. Where a stage fails no other is begun, those that run are waited for, and
    ValueError tells of the failure. Ctrl-C ends all.
    """
    estimates = {stage.name: estimate(stage) for stage in stages}
    with StageTable(stages, {name: seconds for name, (seconds, _) in estimates.items()}, jobs) as table:
        gib = {name: gib or USUAL_GIB for name, (_, gib) in estimates.items()}
        schedule = _Schedule(list(stages), decide, gib, root, jobs, launch, table)
        try:
            while schedule.waiting or schedule.ready or schedule.running:
                schedule.advance()
                table.watch()
        except BaseException:
            end_all([job.process for job in schedule.running])
            raise
    if schedule.failures:
        raise ValueError("; ".join(schedule.failures))


def run_stages(stages: list[PlannedStage], root: Path, progress: Callable[[int, int], None]) -> None:
    """Run those of the stages that are not there yet, have changed, or were interrupted, with a table of how far they are.

    Settings and logs of each go below `root`; progress(begun, of all) is called before each. Raises ValueError with the failure of the
    first that fails."""
    begun = itertools.count()

    def decide(stage: PlannedStage) -> Decision:
        progress(next(begun), len(stages))
        return compare_with_disk(stage)

    run_all(stages, decide, root, jobs=default_jobs())


@dataclass
class _Job:
    """A stage that runs, what it was made from, and where it says what."""

    decision: Decision
    inputs: dict[str, str]
    arguments: list[str]
    log: Path
    process: RecipeProcess | LaunchedProcess


class _Schedule:
    """Which stages wait for parents, which are ready, which run."""

    def __init__(
        self, stages: list[PlannedStage], decide, gib: dict[str, float], root: Path, jobs: int, launch, table
    ) -> None:
        self.waiting, self.decide, self.gib, self.root = stages, decide, gib, root
        self.jobs, self.launch, self.table = jobs, launch, table
        self.free_gib = psutil.virtual_memory().available / 2**30
        self.threads = threads_of(stages)
        self.ready: list[Decision] = []
        self.running: list[_Job] = []
        self.failures: list[str] = []

    def advance(self) -> None:
        """Decide on the stages whose parents are there, begin what has room, and see what has ended."""
        absent = {stage.folder for stage in self.waiting}
        absent |= {decision.stage.folder for decision in self.ready}
        absent |= {job.decision.stage.folder for job in self.running}
        for stage in list(self.waiting):
            if not absent.intersection(stage.parents.values()):
                self.waiting.remove(stage)
                decision = self.decide(stage)
                if decision.runs:
                    self.ready.append(decision)
                else:
                    self.table.decided(decision)
                    absent.discard(stage.folder)
        for decision in list(self.ready):
            if self._has_room(decision.stage):
                self.ready.remove(decision)
                self._begin(decision)
        if self.running:
            time.sleep(POLL_S)
        for job in list(self.running):
            if not job.process.is_running():
                self.running.remove(job)
                self._end(job)

    def _has_room(self, stage: PlannedStage) -> bool:
        taken_gib = sum(self.gib[job.decision.stage.name] for job in self.running)
        fits = taken_gib + self.gib[stage.name] <= self.free_gib
        return not self.running or (len(self.running) < self.jobs and fits)

    def _begin(self, decision: Decision) -> None:
        stage, label = decision.stage, decision.stage.name.replace("/", "-")
        log, settings = self.root / "logs" / f"{label}.txt", self.root / "configs" / f"{label}.yaml"
        settings.parent.mkdir(parents=True, exist_ok=True)
        command = f"# python -m {stage.module} --config {settings}\n"
        write_text_atomically(settings, command + yaml.safe_dump(stage.merged()))
        self.table.decided(decision)
        arguments = ["--config", str(settings), "--resume" if decision.resume else "--overwrite"]
        inputs = stage.inputs()
        self.running.append(_Job(decision, inputs, arguments, log, self._process(stage, arguments, log)))

    def _process(self, stage: PlannedStage, arguments: list[str], log: Path) -> RecipeProcess | LaunchedProcess:
        if self.launch and stage.is_training:
            return self.launch(stage.module, arguments, log)
        processes = min(stage.processes, self.threads[stage.folder])
        if processes > 1 and _on_cpu():
            return LaunchedProcess(stage.module, arguments, log, accelerate_config=str(DDP), processes=processes)
        return RecipeProcess(stage.module, arguments, log, threads=self.threads[stage.folder])

    def _end(self, job: _Job) -> None:
        stage, failure = job.decision.stage, job.process.failure()
        resumed = "--resume" in job.arguments
        if (
            failure and resumed and failure.kind == AlreadyFinished.__name__
        ):  # killed as it took its place: it has it now
            failure = None
        if failure and resumed and failure.kind == OtherSettings.__name__:  # out of date: start it anew
            job.arguments[-1] = "--overwrite"
            job.process = self._process(stage, job.arguments, job.log)
            self.running.append(job)
        elif failure:
            self.table.failed(stage, failure)
            self.failures.append(
                f"stage {stage.name} failed: {failure} (its output: {job.log}). The same command goes on from there"
            )
            self.waiting, self.ready = [], []
        else:
            stage.fingerprint_file.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomically(stage.fingerprint_file, json.dumps(job.inputs, indent=1) + "\n")
            self.table.finished(stage)
