"""What a run was made with: versions, commit, hardware, peak memory, hashes of its parents and data. Facts only, no decisions."""

import json
import os
import platform
import resource
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from base_model.checkpoints import sha256_file, sha256_folder
from base_model.documents import Source, expand, list_files
from recipes.run.folder import OWN, is_interrupted

PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "lm_eval",
    "datatrove",
)
WEIGHTS = ("*.safetensors",)


def versions() -> dict[str, str]:
    """Python's and the packages' versions, from their metadata (nothing is imported)."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def git_commit() -> str | None:
    """The commit of the code that runs, with "+changes" if files differ from it; None outside a git checkout."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def hardware() -> dict[str, Any]:
    """Processor, cores, memory in bytes, accelerator names."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor)
    except OSError:
        pass  # not Linux: the platform's word stands
    facts: dict[str, Any] = {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_bytes"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    import torch

    facts["accelerators"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    facts["threads"] = torch.get_num_threads()
    return facts


def peak_memory_bytes() -> dict[str, int]:
    """Largest resident memory of this process so far, and of the accelerator where there is one, in bytes."""
    import torch

    unit = 1 if platform.system() == "Darwin" else 1024  # getrusage counts bytes on macOS and KiB on Linux
    peaks = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        peaks["accelerator"] = torch.cuda.max_memory_allocated()
    return peaks


def read_manifest(folder: Path | str) -> dict[str, Any] | None:
    """The record of a finished run; None where there is none (unfinished, or a checkpoint from elsewhere)."""
    path = Path(folder) / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def describe_parent(parent: Path | str) -> dict[str, Any]:
    """{path, stage, sha256} of a checkpoint's folder, or of a hub id, and then its {revision} too: the commit of what lies in the cache.

    sha256 is of the parent's weights, or of all its files where it has no weights (a data stage).
    Raises FileNotFoundError if the parent is nowhere, ValueError if it is a run that did not finish.
    """
    folder = Path(parent)
    revision = {}
    if not folder.is_dir():
        folder = hub_snapshot(parent)
        revision = {"revision": folder.name}
    manifest = read_manifest(folder)
    if manifest is None and is_interrupted(folder):
        raise ValueError(
            f"the parent {folder} has no manifest.json: its stage did not finish; run it again with --resume"
        )
    stage = manifest["stage"] if manifest else "external"
    return {"path": str(parent), "stage": stage, "sha256": weights_sha256(folder)} | revision


def parent_folder(described: dict[str, Any]) -> Path:
    """The folder on this disk of a parent as `describe_parent` told of it. Raises FileNotFoundError if it is no longer there."""
    if "revision" in described:
        return hub_snapshot(described["path"], described["revision"])
    folder = Path(described["path"])
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing")
    return folder


def hub_snapshot(name: Path | str, revision: str | None = None) -> Path:
    """The cached files of a hub model, in a folder named by their commit. `revision` None: main, fetched if it is not there.

    A given revision is only looked for in the cache. Raises FileNotFoundError, also where `name` can only be a missing folder."""
    first = Path(name).parts[0] if Path(name).parts else "."
    is_path = Path(name).is_absolute() or str(name).startswith(".") or ("/" in str(name) and Path(first).is_dir())
    why = "it can be no hub id"
    if not is_path:
        from huggingface_hub import snapshot_download

        try:
            return Path(
                snapshot_download(
                    str(name),
                    revision=revision,
                    local_files_only=revision is not None,
                    allow_patterns=["model*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"],
                    ignore_patterns=["*/*"],
                )
            )
        except (OSError, ValueError) as error:  # a ValueError says that the name is no hub id
            why = f"as a hub id: {' '.join(str(error).split())}"
    raise FileNotFoundError(f"the parent {name} is not there; run its stage first ({why})")


def weights_sha256(folder: Path | str) -> str:
    """One hash for a checkpoint's weights (or, for a run without weights, for all its files that the record lists)."""
    import hashlib

    folder = Path(folder)
    files = sorted(path for pattern in WEIGHTS for path in folder.glob(pattern))
    if files:
        digests = {path.name: sha256_file(path) for path in files}
    else:
        digests = run_files(folder)
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def run_files(folder: Path | str) -> dict[str, str]:
    """{name: sha256} of what a run leaves to its users: everything but training state, its own record and working files."""
    return {name: digest for name, digest in sha256_folder(folder).items() if name.split("/")[0] not in OWN}


def describe_data(path: Path | str) -> dict[str, Any]:
    """{path, sha256}: of a file, of the files of a folder or glob together; a hub id has sha256 None.

    Raises FileNotFoundError for what is neither here nor can be a hub id."""
    import hashlib

    source = Source(str(path))  # without a split behind it
    place = Path(expand(source.path))
    if place.is_file():
        return {"path": str(path), "sha256": sha256_file(place)}
    if place.is_dir():
        digests = sha256_folder(place)
    else:
        digests = {str(file): sha256_file(file) for file in list_files(source)}
    together = hashlib.sha256(json.dumps(digests).encode()).hexdigest()
    return {"path": str(path), "sha256": together if digests else None}


def data_problem(data: dict[str, Any]) -> str | None:
    """What is wrong with data as a record has it ({path, sha256}), if anything."""
    try:
        found = describe_data(data["path"])["sha256"]
    except (FileNotFoundError, ValueError):
        return f"{data['path']} is missing"
    if found == data["sha256"]:
        return None
    return f"{data['path']} is {'missing' if found is None else 'not what was trained on'}"


def weights_type(folder: Path | str) -> str | None:
    """The type of a checkpoint's weights by its config.json, such as bfloat16; None where it does not say."""
    file = Path(folder, "config.json")
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return config.get("dtype") or config.get("torch_dtype")


def tokenizer_hashes(folder: Path | str) -> dict[str, str | None]:
    """{tokenizer_sha256, template_sha256} of a checkpoint's tokenizer as it is loaded; None for what it has not."""
    if not any(Path(folder, name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        return {"tokenizer_sha256": None, "template_sha256": None}
    from transformers import AutoTokenizer

    from base_model.tokenizer_identity import template_sha256, tokenizer_sha256

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return {"tokenizer_sha256": tokenizer_sha256(tokenizer), "template_sha256": template_sha256(tokenizer)}
