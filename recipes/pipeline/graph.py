"""The graph of stages: what a pipeline's YAML says, in which order its stages run, and whether each of them has to."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from recipes.pipeline.fingerprint import stage_inputs
from recipes.run.cli import load_yaml, reject_unknown
from recipes.run.folder import is_interrupted
from recipes.run.record import data_problem, read_manifest
from recipes.run.run import require_deepspeed
from recipes.run.stage import stages

SELF = "self"
REFERENCE = re.compile(r"\{(\w+)\}")
STAGE_KEYS = ("recipe", "config", "set", "after", "seeded", "expected_s", "expected_gib", "compared", "processes")


@dataclass(frozen=True)
class PipelineConfig:
    """The graph and which part of it to run."""

    output_dir: str = field(metadata={"help": "folder of all runs, e.g. runs/tiny"})
    stages: dict = field(
        default_factory=dict,
        metadata={
            "help": "name -> {recipe, config, set, after, seeded, expected_s, expected_gib, compared, processes}"
        },
    )
    baseline: str | None = field(default=None, metadata={"help": "stage that aligned variants are compared with"})
    seed: int = 1
    seeds: str | None = field(
        default=None, metadata={"help": "comma-separated: repeat the seeded stages with each, e.g. 1,2,3"}
    )
    from_stage: str | None = field(
        default=None, metadata={"aliases": ["--from"], "help": "run this stage and all after it again"}
    )
    only: str | None = field(default=None, metadata={"help": "run this stage alone, even if nothing changed"})
    dry_run: bool = field(default=False, metadata={"help": "say what would run, and run nothing"})
    accelerate: str | None = field(
        default=None, metadata={"help": "accelerate config file: training stages are launched with it"}
    )
    num_processes: int | None = field(default=None, metadata={"help": "so many processes instead of the file's"})
    jobs: int | None = field(
        default=None,
        metadata={"help": "stages side by side, as memory allows; None: one a core (on a GPU, or with accelerate: 1)"},
    )

    def __post_init__(self) -> None:
        if self.accelerate and not Path(self.accelerate).is_file():
            raise FileNotFoundError(
                f"there is no accelerate config {self.accelerate}; the ones that ship are under recipes/configs/accelerate/"
            )
        if self.accelerate and load_yaml(self.accelerate).get("distributed_type") == "DEEPSPEED":
            require_deepspeed(self.accelerate)  # before a stage does: the launcher would end in a traceback of its own
        if self.num_processes is not None and (self.accelerate is None or self.num_processes < 1):
            raise ValueError(f"num_processes is {self.num_processes}; it is at least 1, and goes with accelerate")
        if self.jobs is not None and (self.jobs < 1 or (self.accelerate and self.jobs > 1)):
            raise ValueError(
                f"jobs is {self.jobs}; it is at least 1, and with accelerate no more: its processes take the machine"
            )
        if self.from_stage and self.only:
            raise ValueError("--from and --only exclude each other")
        if self.seeds is not None and not re.fullmatch(r"\d+(,\d+)*", self.seeds):
            raise ValueError(f"--seeds must be numbers with commas between, e.g. 1,2,3; got {self.seeds!r}")


CONFIG_TYPES = (PipelineConfig,)


@dataclass(frozen=True)
class PlannedStage:
    """One node of the graph, for one seed: its folder, what it runs and from which stages."""

    name: str  # "ppo", or "seed-2/ppo" where there are several seeds
    recipe: str
    config: str | None
    settings: dict[str, Any]  # overrides, references replaced by folders
    parents: dict[str, Path]
    folder: Path
    expected_s: float | None = None
    expected_gib: float | None = None
    compared: bool = False
    processes: int = 1  # that it trains on where this many cores are its own; 2 of one thread do more than 1 of two

    @property
    def module(self) -> str:
        return stages()[self.recipe].module

    def merged(self) -> dict[str, Any]:
        """All settings of the stage: its config file, what the pipeline sets in it, where it goes."""
        return {**(load_yaml(self.config) if self.config else {}), **self.settings, "output_dir": str(self.folder)}

    @property
    def is_training(self) -> bool:
        """Does it run on many processes where a launcher is given?"""
        return stages()[self.recipe].stage.trains

    @property
    def is_data(self) -> bool:
        """Does it need no model?"""
        return stages()[self.recipe].stage.kind == "data"

    @property
    def fingerprint_file(self) -> Path:
        """Where the inputs of its last finished run are kept."""
        return self.folder.parent / ".inputs" / f"{self.folder.name}.json"

    def is_of_a_parent(self, path: str) -> bool:
        """Does it lie in a parent's folder, whose own record tells of it?"""
        return any(Path(path).absolute().is_relative_to(folder.absolute()) for folder in self.parents.values())

    def inputs(self) -> dict[str, str]:
        """Hashes of all that decides the result."""
        return stage_inputs(self.module, self.merged(), self.parents)


@dataclass(frozen=True)
class Decision:
    """Whether a stage will run, and why."""

    stage: PlannedStage
    runs: bool
    why: str
    resume: bool = False


def _parents(entry: Mapping[str, Any]) -> set[str]:
    """The stages that a stage needs: those its settings refer to, and those it is to come after."""
    return (_references(entry.get("set", {})) | set(entry.get("after", []))) - {SELF}


def _references(value: Any) -> set[str]:
    if isinstance(value, (list, tuple)):
        return set().union(*(map(_references, value)), set())
    if isinstance(value, dict):
        return _references(list(value.values()))
    return set(REFERENCE.findall(value)) if isinstance(value, str) else set()


def _replace(value: Any, folders: Mapping[str, Path]) -> Any:
    if isinstance(value, list):
        return [_replace(item, folders) for item in value]
    if isinstance(value, dict):
        return {key: _replace(item, folders) for key, item in value.items()}
    return REFERENCE.sub(lambda match: str(folders[match[1]]), value) if isinstance(value, str) else value


def ordered(config: PipelineConfig) -> list[str]:
    """Stage names, parents before children; among equals, as the YAML lists them. Raises ValueError naming a bad stage, key or cycle."""
    graph: dict[str, set[str]] = {}
    for name, entry in config.stages.items():
        if not isinstance(entry, dict) or "recipe" not in entry:
            raise ValueError(f"stage '{name}' must be a mapping with a 'recipe'")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ValueError(f"stage name '{name}' must be letters, digits, _ and - (it names a folder)")
        reject_unknown(list(entry), STAGE_KEYS, f"stage '{name}'")
        reject_unknown([entry["recipe"]], list(stages()), f"stage '{name}', recipe")
        processes = entry.get("processes", 1)
        if type(processes) is not int or processes < 1:
            raise ValueError(f"stage '{name}': processes is {processes!r}; it must be a whole number of at least 1")
        if processes > 1 and not stages()[entry["recipe"]].stage.trains:
            raise ValueError(f"stage '{name}' has processes, but its recipe {entry['recipe']} runs on one alone")
        graph[name] = _parents(entry)
        reject_unknown(sorted(graph[name]), list(config.stages), f"stage '{name}', a reference to a stage")
    for chosen in (config.from_stage, config.only, config.baseline):
        if chosen:
            reject_unknown([chosen], list(config.stages), "the command line or baseline, a stage name")
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(f"stages depend on each other in a circle: {' -> '.join(error.args[1])}") from None
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=list(config.stages).index)
        order += ready
        sorter.done(*ready)
    return order


def build(config: PipelineConfig) -> list[PlannedStage]:
    """The stages to consider, in order. With --seeds, seeded stages repeat under seed-N/; the others (data) run once for all."""
    root = Path(config.output_dir)
    seeds = [int(seed) for seed in config.seeds.split(",")] if config.seeds else [config.seed]
    several = config.seeds is not None
    order, stages, folders = ordered(config), [], {seed: {} for seed in seeds}
    for seed in seeds:
        for name in order:
            entry = config.stages[name]
            seeded = entry.get("seeded", True)
            folder = root / f"seed-{seed}" / name if several and seeded else root / name
            folders[seed][name] = folder
            if any(stage.folder == folder for stage in stages):
                continue
            settings = _replace(entry.get("set", {}), {**folders[seed], SELF: folder})
            parents = {parent: folders[seed][parent] for parent in sorted(_parents(entry))}
            settings.setdefault("seed", seed if seeded else config.seed)
            stages.append(
                PlannedStage(
                    name=str(folder.relative_to(root)),
                    recipe=entry["recipe"],
                    config=entry.get("config"),
                    settings=settings,
                    parents=parents,
                    folder=folder,
                    expected_s=entry.get("expected_s"),
                    expected_gib=entry.get("expected_gib"),
                    compared=entry.get("compared", False),
                    processes=entry.get("processes", 1),
                )
            )
    return stages


def decider(config: PipelineConfig) -> Callable[[PlannedStage], Decision]:
    """What says of a stage whether it runs and why. To be asked once of each, when its parents have run (and may be as before)."""
    again: set[Path] = set()  # --from STAGE and all that descends from it
    running: set[Path] = set()

    def decide(stage: PlannedStage) -> Decision:
        parents = [name for name, folder in stage.parents.items() if folder in running]
        if config.only and stage.folder.name != config.only:
            decision = Decision(stage, False, "not chosen (--only)")
        elif stage.folder.name in (config.from_stage, config.only):
            again.add(stage.folder)
            decision = Decision(stage, True, "asked for")
        elif again.intersection(stage.parents.values()):
            again.add(stage.folder)
            decision = Decision(stage, True, f"follows {', '.join(parents)}")
        else:
            decision = compare_with_disk(stage)
            if config.dry_run and parents and not decision.runs:
                decision = Decision(stage, True, f"follows {', '.join(parents)} (not if that comes out the same)")
        if decision.runs:
            running.add(stage.folder)
        return decision

    return decide


def compare_with_disk(stage: PlannedStage) -> Decision:
    """Does it run, as far as its own folder and its inputs tell?"""
    if is_interrupted(stage.folder):
        return Decision(stage, True, "interrupted: goes on", resume=True)
    manifest = read_manifest(stage.folder)
    if manifest is None:
        return Decision(stage, True, "not there yet")
    file = stage.fingerprint_file
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    changed = [what for what, digest in stage.inputs().items() if before.get(what) != digest]
    made_here = [data for data in manifest.get("data", []) if not stage.is_of_a_parent(data["path"])]
    if any(map(data_problem, made_here)):
        changed.append("data")
    if changed:
        return Decision(stage, True, f"changed: {', '.join(changed)}")
    return Decision(stage, False, "unchanged")


def estimate(stage: PlannedStage) -> tuple[float | None, float | None]:
    """(seconds, GiB) that a stage will take: what its last run took on this disk, else what the YAML expects."""
    manifest = read_manifest(stage.folder)
    if manifest:
        seconds = manifest["wall_s"] + manifest["evaluation_s"]
        return seconds, manifest["peak_memory_bytes"]["host"] / 2**30
    return stage.expected_s, stage.expected_gib
