"""PPO on two gloo processes against one process: the same run? Prints one line of JSON.

    python -m tests.alignment.ppo.distributed_worker FOLDER CASE...        cases: full, lora, separate, fsdp, fsdp_lora

Processes are forked from one that has done the imports. accelerate knows FSDP on accelerators only, so the fsdp cases tell its
state, after the processes have met over gloo, that this is FSDP 2; everything from `prepare` on is then its own."""

import json
import os
import socket
import sys
from pathlib import Path

import torch
from accelerate import DistributedType, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState, PartialState
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from alignment.ppo import state as training_state
from alignment.ppo import trainer as ppo
from alignment.ppo.distributed import own_shards
from tests.alignment.ppo.ppo_setup import PROMPTS, lively, lora, trainer, vowels
from tests.conftest import random_model

CASES = {
    "full": {},
    "lora": {"adapter": True, "dialect": "llama"},
    "separate": {"critic": "separate", "dialect": "llama"},
    "fsdp": {"critic": "separate"},
    "fsdp_lora": {"adapter": True, "dialect": "llama"},
}


def make_tokenizer():
    words = ["<pad>", "<bos>", "<eos>", *"abcdefghijklmnopqrstuvwxyz"]
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="a"))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<eos>", bos_token="<bos>", pad_token="<pad>")


def build(folder: Path, *, adapter=False, dialect="gpt2", **settings):
    torch.manual_seed(0)
    model = lively(random_model(dialect, 29))
    return trainer(
        folder, make_tokenizer(), model=model, peft_config=lora() if adapter else None, max_steps=2, save_strategy="steps", save_steps=1,
        stop_token_ids=[2, 9, 15, 21], eval_dataset=PROMPTS[:5], eval_judges={"again": vowels}, eval_strategy="steps",
        learning_rate=1e-2, adam_epsilon=1e-3, **settings,
    )  # fmt: skip


def tensors(made) -> dict[str, torch.Tensor]:
    """Weights and both optimizers' state, whole."""
    own_shards(made.wrapped)
    optimizers = training_state.collect_optimizers(
        made.module, [made.policy_optimizer.optimizer, made.critic_optimizer.optimizer]
    )
    return training_state.collect_weights(made.module) | optimizers


def run(folder: Path, **settings) -> dict:
    """Two updates, an evaluation and a checkpoint; the state goes to FOLDER/state.safetensors (process 0). Then another
    trainer resumes from the checkpoint."""
    made = build(folder, **settings)
    made.train()
    expected = tensors(made)
    if made.accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(expected, folder / "state.safetensors")
    made.save_model(folder / "model")
    again = build(folder, **settings)
    training_state.resume(again, True)
    got = tensors(again)
    assert got.keys() == expected.keys()
    row = {k: v for k, v in made.state.log_history[-1].items() if k.startswith("eval/")}
    return row | {
        "rollout_rows": len(made.rollout(2).tokens_BT),
        "kind": str(made.accelerator.distributed_type.value),
        "is_resumed": all(got[name].equal(expected[name]) for name in got),
    }


def go_on(folder: Path, checkpoint: Path, **settings) -> None:
    """From the checkpoint of the first update, in this number of processes; the state goes to FOLDER/state.safetensors."""
    made = build(folder, **settings)
    made.train(resume_from_checkpoint=str(checkpoint))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors(made), folder / "state.safetensors")


def as_fsdp(make_accelerator, block: str):
    """make_accelerator, and then accelerate told that the two gloo processes shard by FSDP 2."""

    def make(args):
        accelerator = make_accelerator(args)
        accelerator.state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, reshard_after_forward=True, auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=[block], cpu_ram_efficient_loading=False,
        )  # fmt: skip
        assert accelerator.is_fsdp2
        return accelerator

    return make


def pair(folder: Path, case: str) -> dict:
    """The case on two processes; process 0's answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings, pids = CASES[case], []
    reader, writer = os.pipe()
    for rank in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                where = {
                    "RANK": rank,
                    "LOCAL_RANK": rank,
                    "WORLD_SIZE": 2,
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": port,
                }
                os.environ.update({name: str(value) for name, value in where.items()}, ACCELERATE_USE_CPU="true")
                if case.startswith("fsdp"):
                    block = "LlamaDecoderLayer" if settings.get("dialect") == "llama" else "GPT2Block"
                    ppo.make_accelerator = as_fsdp(ppo.make_accelerator, block)
                answer = run(folder, **settings)
                if rank == 0:
                    os.write(writer, json.dumps(answer).encode())
                torch.distributed.destroy_process_group()
                os._exit(0)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
        pids.append(pid)
    os.close(writer)
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    answer = os.read(reader, 65536)
    os.close(reader)
    if any(statuses):
        raise RuntimeError(f"case {case}: exit statuses {statuses}")
    return json.loads(answer)


def main() -> None:
    folder, results = Path(sys.argv[1]), {}
    for case in sys.argv[2:]:
        two = pair(folder / case / "two", case)  # first: a process that has run autograd should not fork
        one_pid = os.fork()
        if one_pid == 0:
            answer = run(folder / case / "one", **CASES[case])
            (folder / case / "one.json").write_text(json.dumps(answer))
            go_on(folder / case / "on", folder / case / "two" / "checkpoint-1", **CASES[case])
            AcceleratorState._reset_state(True)
            os._exit(0)
        os.waitpid(one_pid, 0)
        one = json.loads((folder / case / "one.json").read_text())
        ours, theirs, on = (load_file(folder / case / n / "state.safetensors") for n in ("two", "one", "on"))
        assert ours.keys() == theirs.keys() == on.keys()
        (mine,), (yours,) = (
            [load_file(f) for f in (folder / case / n / "model").glob("*.safetensors")] for n in ("two", "one")
        )
        assert mine.keys() == yours.keys()
        results[case] = {
            "kind": two["kind"],
            "weights": max((ours[name] - theirs[name]).abs().max().item() for name in ours),
            "went_on_alone": max((on[name] - theirs[name]).abs().max().item() for name in on),
            "evaluation": max(abs(two[name] - one[name]) for name in one if name.startswith("eval/")),
            "saved_model": max((mine[name] - yours[name]).abs().max().item() for name in mine),
            "is_resumed": two["is_resumed"],
            "rollout_rows": [two["rollout_rows"], one["rollout_rows"]],
        }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
