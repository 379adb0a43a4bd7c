"""The main job: from nothing to a compared, aligned model with one command.

    python -m recipes.pipeline --config recipes/configs/tiny/pipeline.yaml            (this is `make run`)
    python -m recipes.pipeline --config ... --dry_run                                   what would run, why, for how long
    python -m recipes.pipeline --config ... --from ppo | --only dpo | --seeds 1,2,3 | --jobs 2
    python -m recipes.pipeline --config ... --accelerate recipes/configs/accelerate/ddp.yaml --num_processes 8     on eight GPUs

The YAML is a graph. Each stage names a recipe, its config file and what to `set` in it; "{base}" in a value stands for the folder of
the stage `base`, and makes it a parent ("{self}" is the stage's own); `after: [gold_model]` makes a parent of what only the suite names.
A stage runs as soon as its parents are there, beside others where cores (--jobs) and memory allow, to the same bits as alone; each in a
process of its own (peak memory and failures are its own), each evaluated as it finishes. A stage whose settings, code and parents' files
are unchanged is not run again; one that was interrupted goes on from its newest checkpoint. At the end: the verdict, and the path of
report.html.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from recipes.pipeline.graph import CONFIG_TYPES, PipelineConfig, PlannedStage, build, decider, estimate
from recipes.reference import PUBLISHED
from recipes.run.cli import command, parse
from recipes.run.folder import FolderLock
from recipes.run.record import read_manifest


def main(argv: list[str] | None = None) -> Path | None:
    """Run the graph; returns the report's path, or None after a dry run."""
    from recipes.pipeline.schedule import default_jobs, run_all
    from recipes.pipeline.table import print_plan
    from recipes.run.process import preload_training_packages

    arguments = list(sys.argv[1:] if argv is None else argv)
    (config,) = parse(*CONFIG_TYPES, argv=arguments)
    stages = build(config)
    if not stages:
        raise ValueError("the pipeline has no stages; give --config recipes/configs/tiny/pipeline.yaml")
    jobs = config.jobs or (1 if config.accelerate else default_jobs())
    if config.dry_run:
        print_plan([(decision, *estimate(decision.stage)) for decision in map(decider(config), stages)], jobs)
        return None
    root = Path(config.output_dir)
    root.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(root)
    began_s = time.monotonic()
    if not all(stage.is_data for stage in stages):
        preload_training_packages()
    run_all(stages, decider(config), root, jobs=jobs, launch=_launcher(config))
    measured = [
        stage.folder for stage in stages if (stage.folder / "eval.json").is_file() and read_manifest(stage.folder)
    ]
    if not measured:
        print("no stage with a measured model has run yet, so there is nothing to compare")
        return None
    report = compare_all(config, stages, root)
    lock.close()
    print(f"{report}  ({(time.monotonic() - began_s) / 60:.1f} minutes)")
    return report


def _launcher(config: PipelineConfig) -> Callable | None:
    """How training stages are started where several processes are asked for."""
    from recipes.run.process import LaunchedProcess

    if config.accelerate is None:
        return None
    return partial(LaunchedProcess, accelerate_config=config.accelerate, processes=config.num_processes)


def compare_all(config: PipelineConfig, stages: list[PlannedStage], root: Path) -> Path:
    """Write report.html and report.md over every finished stage, and print the verdict."""
    from eval.report import write_report

    folders = [stage.folder for stage in stages if read_manifest(stage.folder) is not None]
    baseline = next((s.folder for s in stages if s.folder.name == config.baseline), None)
    aligned = [stage.folder for stage in stages if stage.compared and read_manifest(stage.folder) is not None]
    written = write_report(
        folders,
        root,
        baseline=baseline,
        aligned=aligned,
        command=" ".join(["python -m recipes.pipeline", *sys.argv[1:]]),
        published=PUBLISHED,
    )
    print("\n".join([written.verdict, *written.in_words]))
    return written.html


if __name__ == "__main__":
    command(main)
