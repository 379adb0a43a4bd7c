"""A stage for tests of the schedule: it takes its time, says when, and can fail."""

import json
import os
import sys
import time
from pathlib import Path

import yaml

import recipes.run.folder


def main(arguments: list[str]) -> None:
    settings = yaml.safe_load(Path(arguments[1]).read_text())
    folder = Path(settings["output_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    began_s = time.monotonic()
    time.sleep(settings.get("takes_s", 0.2))
    if settings.get("fails"):
        raise ValueError("it was told to, with other settings")
    if "--resume" in arguments and settings.get("refuses"):
        raise getattr(recipes.run.folder, settings["refuses"])("whatever it says")
    torch = sys.modules.get("torch")  # loaded before, where another stage of this process asked for it
    record = {
        "files": {},
        "arguments": arguments[2:],
        "began_s": began_s,
        "ended_s": time.monotonic(),
        "threads": str(torch.get_num_threads()) if torch else os.environ["OMP_NUM_THREADS"],
        "wall_s": 1,
        "evaluation_s": 0,
        "peak_memory_bytes": {"host": 2**20},
    }
    (folder / "manifest.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main(sys.argv[1:])
