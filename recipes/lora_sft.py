"""Instruction tuning: the model learns to answer, and to stop, with LoRA on what the assistant says.

    python -m recipes.lora_sft --config recipes/configs/tiny/lora_sft.yaml
    python -m recipes.lora_sft --config recipes/configs/tiny/lora_sft.yaml --no_use_peft --learning_rate 3e-4      (every weight)
    python -m recipes.lora_sft --model runs/my/base --output_dir runs/my/alpaca --data alpaca.jsonl --on_long_rows drop \
        --columns '{"prompt": "instruction", "context": "input", "completion": "output"}'

Rows are `messages`, or `prompt` and `completion`; --use_dora, --use_rslora and --load_in_4bit (QLoRA: CUDA and bitsandbytes) are PEFT's.
The run folder is the merged model, and `adapter/` the adapter alone; the run fails if the two are not one model.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recipes.run.cli import command, parse
from recipes.run.finetune import DataConfig, context_tokens, load_tokenizer, tune
from recipes.run.run import Run, RunConfig
from recipes.run.stage import Stage
from sft.lora import LoRAConfig
from sft.training import TrainingConfig

STAGE = Stage(
    "lora_sft", kind="fine-tuning", purpose="the model tuned to follow instructions with LoRA, merged", trains=True
)

STOP_RATE_FLOOR = 0.9  # below it the model has not learnt to stop


@dataclass(frozen=True)
class InstructionConfig:
    """The parent, and what is kept from training to measure on."""

    model: str  # parent checkpoint
    chat_template: str = (
        "own"  # for a parent without one: our own, its tokens added; or plain: text, and no token added
    )
    on_long_rows: str = "error"  # conversations longer than the context: error, drop, or truncate after a whole answer
    heldout_rows: int | None = None  # kept from training for held-out loss and stop rate; None: 64, but at most a tenth
    stop_within_tokens: int = 128  # an answer that has not ended by then has not stopped

    def __post_init__(self) -> None:
        if self.chat_template not in ("own", "plain"):
            raise ValueError(f"chat_template is {self.chat_template!r}; use own or plain")


CONFIG_TYPES = (RunConfig, InstructionConfig, DataConfig, TrainingConfig, LoRAConfig)


def main(argv: list[str] | None = None) -> Path:
    """Run the stage; returns its folder."""
    run_config, config, data, training, lora = parse(*CONFIG_TYPES, argv=argv)
    from sft.instruct import instruction_data

    run = Run.start(STAGE, run_config, (config, data, training, lora), parents=[config.model], data=[data.data])
    with run.checking():
        tokenizer, role_ids = with_template(load_tokenizer(config.model), config)
        rows, heldout, counts = instruction_data(
            data.source,
            tokenizer,
            run.checkpoints / "data",
            context_tokens=context_tokens(config.model, training),
            packing=training.packing,
            on_long_rows=config.on_long_rows,
            heldout_rows=config.heldout_rows,
            seed=run_config.seed,
        )
    run.note("rows", asdict(counts))
    if 2 * len(heldout) > counts.pieces and not run.is_trained:
        said = f"{len(heldout)} of {counts.pieces} conversations are held out, and the others trained on (heldout_rows)"
        run.check("most conversations are trained on", False, said)
        print(said, file=sys.stderr)
    if not run.is_trained:
        tune(run, config.model, tokenizer, rows, training, lora, role_ids=role_ids)
    if run.is_main:
        measure_heldout(run, heldout, config.stop_within_tokens)
    return run.finish()


def measure_heldout(run: Run, heldout: Any, stop_within_tokens: int) -> None:
    """The saved model's loss on the conversations kept from training, and how many of its answers to them end by themselves."""
    from eval.harness import load_checkpoint
    from sft.instruct import heldout_loss, stop_rate

    model, tokenizer = load_checkpoint(run.out)
    if len(heldout):
        run.note("heldout_loss_nats", heldout_loss(model, heldout))
    stops = stop_rate(model, tokenizer, heldout, max_new_tokens=stop_within_tokens, seed=run.config.seed)
    run.note("stop_rate", stops.rate)
    detail = f"{stops.stopped} of {stops.sampled} sampled answers end by themselves within {stops.within_tokens} tokens"
    run.check("answers stop", stops.rate >= STOP_RATE_FLOOR, detail)


def with_template(tokenizer: Any, config: InstructionConfig) -> tuple[Any, list[int]]:
    """The tokenizer with a chat template, the parent's if it has one, and the ids that only a new template made conversation tokens."""
    from base_model.chat import set_chat_template
    from base_model.tokenizer import ASSISTANT, SYSTEM, USER

    is_plain = config.chat_template == "plain"
    if tokenizer.chat_template is not None:
        if is_plain:
            raise ValueError(f"{config.model} has a chat template of its own and keeps it; leave --chat_template out")
        return tokenizer, []
    known = len(tokenizer)
    tokenizer = set_chat_template(tokenizer, is_plain=is_plain)
    roles = [] if is_plain else tokenizer.convert_tokens_to_ids([SYSTEM, USER, ASSISTANT])
    return tokenizer, sorted({*roles, *range(known, len(tokenizer))})


if __name__ == "__main__":
    command(main)
