"""One TRL SFTTrainer for both stages: settings, precision, packed rows, a log that counts tokens truly.

Rows reach the trainer as `input_ids` and `labels`, made and checked in `sft/examples.py`; TRL neither tokenises nor cuts them. Its loss is
the sum over learnt tokens of -log p, divided by how many the whole batch has over all processes and accumulation steps, so that neither
padding, nor packing, nor the number of processes changes the gradient.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from base_model.batches import share_batch
from base_model.checkpoints import keep_newest
from sft.packing import RowCollator

if TYPE_CHECKING:
    import torch
    import transformers
    from datasets import Dataset
    from transformers import TrainingArguments
    from trl import SFTTrainer


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the optimisation, by transformers' names. `trainer` reaches every other field of `trl.SFTConfig`."""

    learning_rate: float = 1e-3  # peak
    batch_size: int | None = (
        None  # rows of an optimiser step, all processes together; None: what the next two make of it
    )
    per_device_train_batch_size: int = 16  # rows of one process at once; a packed row holds several sequences
    gradient_accumulation_steps: int = 1  # follows from batch_size where that is given
    num_train_epochs: float = 1.0
    max_steps: int = -1  # optimiser steps; -1: as num_train_epochs says
    warmup_steps: float = 0.05  # from 0 to the peak; below 1 a share of all steps
    lr_scheduler_type: str = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    context_length: int | None = None  # most tokens of a document or conversation; None: the model's context
    packing: bool = True  # several sequences in a row, isolated from each other
    precision: str = (
        "auto"  # of the forward pass: bf16, fp16, fp32; auto: what is fast on this machine. Weights stay fp32
    )
    gradient_checkpointing: bool = False  # less memory, about 20 % slower
    logging_steps: int = 10
    save_steps: int = 0  # checkpoint for --resume every so many steps; 0: never
    trainer: dict | str | None = None  # any other trl.SFTConfig field, e.g. '{"neftune_noise_alpha": 5}'

    def __post_init__(self):
        object.__setattr__(self, "trainer", trainer_fields(self.trainer))
        for name in ("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "logging_steps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        check_batch_size(self)
        if self.max_steps == 0 or (self.max_steps < 0 and self.num_train_epochs <= 0):
            raise ValueError(
                f"max_steps {self.max_steps} and num_train_epochs {self.num_train_epochs} leave nothing to train"
            )
        if self.context_length is not None and self.context_length < 2:
            raise ValueError(f"context_length must be at least 2 tokens, got {self.context_length}")


def check_batch_size(config: Any) -> None:
    """Raises ValueError for a batch_size below 1, or one beside a gradient_accumulation_steps that it decides."""
    if config.batch_size is None:
        return
    if config.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1 row, or left out, got {config.batch_size}")
    if config.gradient_accumulation_steps != 1:
        raise ValueError(
            f"gradient_accumulation_steps {config.gradient_accumulation_steps} follows from batch_size "
            f"{config.batch_size} where that is given; give one of the two"
        )


def trainer_fields(value: dict | str | None) -> dict[str, Any] | None:
    """A config's `trainer` as a mapping. Raises ValueError if a text is no JSON object."""
    why = ""
    found = value
    if isinstance(value, str):
        try:
            found = json.loads(value)
        except json.JSONDecodeError as error:
            why = f": {error}"
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"trainer must be a JSON object of the trainer's fields, got {value!r}{why}")
    return found


class Resumable:
    """Comes before a transformers trainer among a class's bases: killed at any moment and resumed, the run ends as if never killed."""

    def _run_epoch(self, *arguments: Any, **options: Any) -> None:
        # transformers looks whether a step is the last one after it, so from the last step's checkpoint it would train one more.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        if not self.control.should_training_stop:
            super()._run_epoch(*arguments, **options)

    def _maybe_log_save_evaluate(self, *arguments: Any, **options: Any) -> None:
        # What is averaged since the last log line is in no checkpoint: a resumed run must begin a line where the first one did.
        self.control.should_log |= self.control.should_save
        super()._maybe_log_save_evaluate(*arguments, **options)

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        # transformers removes those of the oldest time; after a clock was set back that is the one just written.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(*arguments, **options)
        finally:
            self.args.save_total_limit = limit
        if self.args.should_save and limit:
            keep_newest(self.args.output_dir, limit, self.state.global_step)


class OwnPadding:
    """Comes first among a trainer's bases: trained, the model's configs pad as before. A trainer writes its tokenizer's padding token
    into them, and what only fills rows would never be trained again there (the embedding's `padding_idx`)."""

    def __init__(self, *arguments: Any, model: Any, **options: Any) -> None:
        configs = (model.config.get_text_config(), model.generation_config)
        self._own_pads = [(config, config.pad_token_id) for config in configs]
        super().__init__(*arguments, model=model, **options)

    def train(self, *arguments: Any, **options: Any) -> Any:
        for config, _ in self._own_pads:
            config.pad_token_id = self.processing_class.pad_token_id
        done = super().train(*arguments, **options)
        for config, pad_id in self._own_pads:
            config.pad_token_id = pad_id
        return done


def make_trainer(
    model: transformers.PreTrainedModel,
    tokenizer: transformers.PreTrainedTokenizerBase,
    dataset: Dataset,
    config: TrainingConfig,
    *,
    output_dir: Path | str,
    seed: int,
    callbacks: Sequence[transformers.TrainerCallback] = (),
) -> SFTTrainer:
    """A trainer on rows of `input_ids` and `labels` (packed ones with `seq_lengths`).

    Raises ValueError for a name in `config.trainer` that `trl.SFTConfig` does not have."""
    from torch.utils.data import RandomSampler
    from transformers import PrinterCallback, ProgressCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from base_model.hf import unwrap
    from base_model.precision import find_precision, keep_freed_memory
    from base_model.tokenizer import padding_id, with_padding
    from sft.forward import ease_forward, ease_head

    class WholeBatchesTrainer(OwnPadding, Resumable, SFTTrainer):
        """An epoch is whole global batches, so that any number of processes makes the same steps."""

        def _get_train_sampler(self, train_dataset=None):
            sampler = super()._get_train_sampler(train_dataset)
            rows, batch = len(self.train_dataset), rows_per_step(self.args)
            if isinstance(sampler, RandomSampler) and rows > batch:
                return RandomSampler(sampler.data_source, num_samples=rows - rows % batch)  # the same order, cut
            return sampler

        def _prepare_for_training(self, *arguments):
            with seen_as_tied(self.model):
                return super()._prepare_for_training(*arguments)

    class TrueTokenCount(TrainerCallback):
        """TRL counts one row's positions where there are B; the state's own count is right, and survives a resume."""

        def on_log(self, args, state, control, logs=None, **kwargs):
            for name in {"num_tokens", "eval_num_tokens"} & set(logs or ()):
                logs[name] = state.num_input_tokens_seen

    keep_freed_memory()
    padded = with_padding(tokenizer, padding_id(tokenizer))  # tokens are counted by what is not padding
    flash = "flash" in (getattr(model.config, "_attn_implementation", None) or "")
    args = trainer_arguments(
        SFTConfig,
        config,
        output_dir=output_dir,
        seed=seed,
        max_length=None,  # rows come cut, and packed
        packing=False,
        padding_free=flash,
        include_num_input_tokens_seen="non_padding",
        ddp_find_unused_parameters=False,  # every trained weight takes part in every step
    )
    ease_forward(unwrap(model), find_precision(config.precision))
    # Several processes would fill an epoch's last, partial batch with rows that they have seen already.
    args.dataloader_drop_last = len(dataset) >= rows_per_step(args)
    trainer = WholeBatchesTrainer(
        model=model,
        args=args,
        data_collator=None if flash else RowCollator(padded.pad_token_id),
        train_dataset=dataset,
        processing_class=padded,
        callbacks=[TrueTokenCount(), *callbacks],
    )
    ease_head(trainer.model)
    if callbacks:  # they say what there is to say
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
    return trainer


@contextmanager
def seen_as_tied(model: torch.nn.Module) -> Iterator[None]:
    """Within it, embedding and head with trained rows (PEFT's wrappers) show their own weight, and so that it is one where it is tied.

    accelerate splits tied layers together for FSDP, and tells them by that; the wrappers give a new tensor each time they are asked."""
    wrappers = [module for module in model.modules() if type(module).__name__ == "TrainableTokensWrapper"]
    for wrapper in wrappers:
        wrapper._disable_adapters = True
    try:
        yield
    finally:
        for wrapper in wrappers:
            wrapper._disable_adapters = False


def trainer_arguments(config_class: type, config: Any, *, output_dir: Path | str, seed: int, **decided: Any) -> Any:
    """TRL's `config_class` for a stage's settings on this machine: bf16 where it is fast, and nothing that reaches out of it.

    The fields of `config` that the class has go in by name; `decided` overrules them; `config.trainer` reaches every other field.
    A batch_size of all processes is shared out here, where their number is known.
    Raises ValueError for a name in `config.trainer` that the class does not have, or that has an option of its own, and for a
    batch_size that does not divide."""
    from base_model.precision import find_device, find_precision

    precision = find_precision(config.precision)
    known = {field.name for field in dataclasses.fields(config_class) if field.init}
    own = {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name != "trainer"}
    if "activation_checkpointing" in known:  # its name from transformers 5.23 on
        own["activation_checkpointing"] = own["gradient_checkpointing"]
    settings = {
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "use_cpu": find_device().type == "cpu",
        "per_device_eval_batch_size": config.per_device_train_batch_size,
        "save_strategy": "steps" if config.save_steps > 0 else "no",
        "save_total_limit": 2,  # the newest, and one to fall back on if it is damaged
        "report_to": "none",
        "push_to_hub": False,
    }
    decided |= {"output_dir": str(output_dir), "seed": seed, "save_steps": config.save_steps or 500}
    more = config.trainer or {}
    for name in more:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(
                f"trainer: trl.{config_class.__name__} has no field '{name}'"
                + (f"; did you mean '{near[0]}'?" if near else "")
            )
        if name in decided or name in own:
            raise ValueError(f"trainer: '{name}' is set by its own option, not through trainer")
    own = {name: value for name, value in own.items() if name in known}
    if "activation_checkpointing" in own:
        own.pop("gradient_checkpointing", None)
    args = config_class(**own | settings | decided | more)
    if config.batch_size is not None:
        devices = args.world_size * max(1, args.n_gpu)  # several GPUs of one process share its batch
        args.per_device_train_batch_size, args.gradient_accumulation_steps = share_batch(
            config.batch_size, devices, config.per_device_train_batch_size
        )
    return args


def rows_per_step(args: TrainingArguments) -> int:
    """Rows that an optimiser step sees: all processes and accumulation steps together."""
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size


def whole_model(trainer: SFTTrainer) -> tuple[transformers.PreTrainedModel, dict[str, torch.Tensor] | None]:
    """The trained model without the trainer's wrappers, and where FSDP or DeepSpeed have split an adapted one, its full weights.

    A split model without adapter is put together on the CPU. Every process must call this; only the main one gets what was split.
    Training is over then: models made afterwards are whole, with DeepSpeed too."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    accelerator = trainer.accelerator
    # without the precision wrapper, which would go on computing in bf16
    model = accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        return model, None
    weights = accelerator.get_state_dict(trainer.model_wrapped)
    unset_hf_deepspeed_config()  # or transformers would split each one that it makes, with processes that are not there
    if hasattr(model, "peft_config") or not accelerator.is_main_process:
        return model, weights
    whole = type(model)(model.config)
    whole.load_state_dict(weights, strict=False)  # a tied head has no entry of its own
    if model.can_generate():
        whole.generation_config = model.generation_config
    return whole, None
