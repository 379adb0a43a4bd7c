"""Kill a PPO run with -9 at random moments, resume it each time, and print what came of it as one line of JSON.

    python -m tests.alignment.ppo.kill_worker FOLDER KILLS SEED

The imports happen once; every run is a forked child, so that ten kills take seconds and can hit any moment of a run: the
rollout, an optimizer step, the middle of writing a checkpoint. A run that is killed has to end up with the weights of the one that
never was, and no checkpoint folder may be there that is neither whole nor hidden."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from base_model.checkpoints import damage, newest_sealed, remove_partials, sha256_folder
from tests.alignment.ppo.ppo_setup import lively, trainer
from tests.conftest import random_model

STEPS = 12


def build(folder: Path):
    words = ["<pad>", "<bos>", "<eos>", *"abcdefghijklmnopqrstuvwxyz"]
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="a"))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<eos>", bos_token="<bos>", pad_token="<pad>")
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(0)
    return trainer(
        folder, tokenizer, model=lively(random_model("llama", len(words))), rewards=noisy, max_steps=STEPS,
        save_strategy="steps", save_steps=1, stop_token_ids=[2, 9, 15, 21], critic="separate", kl_target=0.5,
    )  # fmt: skip


def noisy(prompts, completions, **columns):
    """A reward that draws from Python's generator, whose state must survive as well."""
    return [random.random() + len(text) / 10 for text in completions]


def child(folder: Path) -> int:
    """Start a life of the run; returns its process id once its training has begun."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_partials(folder)
            made = build(folder)
            os.write(writer, b"b")
            made.train(resume_from_checkpoint=newest_sealed(folder))
        finally:
            os._exit(0)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    return pid


def newest_step(folder: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*")), default=0)


def final(folder: Path) -> dict[str, str]:
    newest = folder / f"checkpoint-{STEPS}"
    assert damage(newest) is None, damage(newest)
    state = json.loads((newest / "state.json").read_text())
    log = [{k: v for k, v in row.items() if not k.startswith(("time/", "throughput/"))} for row in state["log"]]
    hashes = sha256_folder(newest)
    return {name: hashes[name] for name in ("weights.safetensors", "optimizers.safetensors", "rng.json")} | {"log": log}


def main() -> None:
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    pid = child(folder / "whole")
    began_s = time.monotonic()
    os.waitpid(pid, 0)
    step_s = (time.monotonic() - began_s) / STEPS
    dice, reached = random.Random(seed), []
    while len(reached) < kills:
        pid = child(folder / "killed")
        while newest_step(folder / "killed") < (STEPS - 3) * (len(reached) + 1) // kills:  # each life gets its share
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 1) * step_s)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):  # it had just ended by itself
            break
        reached.append(newest_step(folder / "killed"))
    os.waitpid(child(folder / "killed"), 0)
    same = final(folder / "whole") == final(folder / "killed")
    print(json.dumps({"kills": len(reached), "reached": reached, "same": same, "step_s": round(step_s, 3)}))


if __name__ == "__main__":
    main()
