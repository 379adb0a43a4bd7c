"""Make the embedded world's data sets.

    python -m recipes.tinytown --out runs/tiny/data --documents 20000 --seed 1

With --careless 0.5 half of the instructions are answered by careless demonstrators (rude, rambling, broken off, said twice, helping with
mischief, made up); their column `demonstrator` says which, and instructions_careful.jsonl holds the other half alone.

Writes general and domain text with dirt (and the truth about it, kept apart), held-out text, instructions, prompts, benchmarks and a
data card, in about 20 s on one core. Same seed, same bytes. README.md in the folder describes every file.
"""

import sys
from pathlib import Path

from recipes.run.cli import command, parse
from recipes.run.run import Run, RunConfig
from recipes.run.stage import Stage
from recipes.tinytown.writing import WorldConfig, write_world

STAGE = Stage("tinytown", kind="data")

CONFIG_TYPES = (RunConfig, WorldConfig)


def main(argv: list[str] | None = None) -> Path:
    arguments = ["--output_dir" if a == "--out" else a for a in (sys.argv[1:] if argv is None else argv)]
    run_config, config = parse(*CONFIG_TYPES, argv=arguments)
    run = Run.start(STAGE, run_config, config)
    numbers = write_world(run.out, config, seed=run_config.seed, progress=run.progress)
    for key, value in numbers.items():
        run.note(key, value)
    facts = numbers["facts"]
    run.check(
        "facts hold",
        not facts["wrong"],
        f"{facts['wrong']} of {facts['read']} statements wrong in {facts['documents']} documents",
    )
    return run.finish()


if __name__ == "__main__":
    command(main)
