"""Cleaning: raw text in, clean text and a record of what was dropped out.

    python -m recipes.clean --config recipes/configs/tiny/clean.yaml

Each source goes to a folder of its own, <output_dir>/<name>, which later stages read as it is; cleaning.json beside it says what each
step dropped, kept and changed, with examples, and dropped.csv names every document. On the embedded world's 20,000 documents expect
about 15 s on 2 cores, 89 of 100 documents kept, and with `truth` 95 % or more of each kind of planted dirt found.
With `executor: slurm` the command submits the jobs and ends; when they are done, the same command with --resume finishes the record.
"""

import json
import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from base_model.cleaning import CleaningConfig, clean
from base_model.cleaning_report import read_dropped, score_against_truth
from base_model.documents import Source, list_files, read_rows
from recipes.run.cli import command, parse, reject_unknown
from recipes.run.run import Run, RunConfig
from recipes.run.stage import Stage

STAGE = Stage("clean", kind="data")

CHECKED = ("exact_duplicate", "near_duplicate", "broken_encoding", "other_language", "leaked")


@dataclass(frozen=True)
class CleanConfig:
    """What is cleaned, and what it must not contain."""

    sources: dict = field(
        default_factory=dict,
        metadata={"help": "name -> path, or {path, split, columns, separator, on_bad_rows, options}"},
    )
    heldout: list[str] = field(
        default_factory=list,
        metadata={"help": "files whose text must not be in the result: evaluation items, held-out text"},
    )
    truth: str | None = field(
        default=None, metadata={"help": "rows {id, dirt} of dirt that was planted: precision and recall are reported"}
    )
    least_found: float = 0.95  # precision and recall that the checks ask of the kinds in CHECKED

    def __post_init__(self) -> None:
        if not 0 <= self.least_found <= 1:
            raise ValueError(f"least_found is {self.least_found}; it is a share, from 0 to 1")
        if not self.sources:
            raise ValueError("sources names nothing to clean; give {name: path}")
        for name, entry in self.sources.items():
            if isinstance(entry, dict):
                reject_unknown(list(entry), [item.name for item in fields(Source)] + ["options"], f"sources.{name}")


CONFIG_TYPES = (RunConfig, CleanConfig, CleaningConfig)


def main(argv: list[str] | None = None) -> Path:
    """Run the stage; returns its folder."""
    run_config, config, cleaning = parse(*CONFIG_TYPES, argv=argv)
    jobs = {name: _job(entry, cleaning) for name, entry in config.sources.items()}
    heldout = [Source(path) for path in config.heldout]
    files = [path for source in (*heldout, *(source for source, _ in jobs.values())) for path in list_files(source)]
    run = Run.start(STAGE, run_config, (config, cleaning), data=files)
    scores: dict[str, Any] = {}
    for name, (source, settings) in jobs.items():
        folder = run.out / name
        if run_config.resume and (folder / "cleaning.json").is_file():  # whole, or it would not be there
            record = json.loads((folder / "cleaning.json").read_text(encoding="utf-8"))
        else:
            record = clean(source, folder, settings, heldout, progress=_show if sys.stderr.isatty() else None)
        if record is None:
            print(f"{name}: jobs submitted; when they are done, run this again with --resume")
            continue
        run.note(name, {step["step"]: step["dropped"] for step in record["steps"]} | {"kept": record["documents_out"]})
        print(f"{name}: {_summary(record)}")
        if config.truth:
            scores[name] = _score(run, name, source, Path(folder), Source(config.truth), config.least_found)
    if len(run.notes) < len(jobs):
        return run.dir
    if scores:
        run.note("planted_dirt", scores)
    return run.finish()


def _job(entry: Any, cleaning: CleaningConfig) -> tuple[Source, CleaningConfig]:
    """A source as the YAML has it, and the cleaning settings with its own options on top."""
    values = dict(entry) if isinstance(entry, dict) else {"path": entry}
    own = values.pop("options", {})
    merged = {step: {**cleaning.options.get(step, {}), **own.get(step, {})} for step in {**cleaning.options, **own}}
    return Source(**values), replace(cleaning, options=merged)


def _summary(record: dict[str, Any]) -> str:
    drops = ", ".join(f"{step['step']} {step['dropped']:,}" for step in record["steps"] if step["dropped"])
    kept = f"{record['documents_out']:,} kept ({100 * record['kept_share']:.1f} %)"
    return f"{record['documents_in']:,} documents, {kept} in {record['wall_s']:.0f} s; dropped: {drops or 'none'}"


def _score(run: Run, name: str, source: Source, folder: Path, truth: Source, least: float) -> dict[str, Any]:
    """Print, check and return precision and recall of what was planted in this source."""
    ours = {str(row.fields.get("id", row.location)) for row in read_rows(source)}
    planted = {str(row.fields["id"]): row.fields["dirt"] for row in read_rows(truth, required=("id", "dirt"))}
    scores = score_against_truth(read_dropped(folder), {i: kind for i, kind in planted.items() if i in ours})
    for kind, score in scores.items():
        if kind == "clean":
            continue
        precision = "-" if score["precision"] is None else f"{score['precision']:.3f}"
        detail = f"{score['found']} of {score['planted']} found, recall {score['recall']:.3f}, precision {precision} ({score['step']})"
        print(f"  {kind:16} {detail}")
        if kind in CHECKED:
            run.check(f"{name}: {kind}", min(score["recall"], score["precision"] or 0.0) >= least, detail)
    return scores


def _show(stage: str, number: int, stages: int, documents: int) -> None:
    end = "\n" if number == stages and stage == "publish" else ""
    print(f"\r\033[K{number}/{stages} {stage}: {documents:,} documents read", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    command(main)
