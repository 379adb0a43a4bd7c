"""Training a reward model on preference pairs with TRL's RewardTrainer.

    loss = mean over pairs of  -log sigmoid(r_chosen - r_rejected - margin)  +  c * mean of (r_chosen + r_rejected)^2

the Bradley-Terry likelihood (Ouyang et al. 2022, arXiv:2203.02155), with the margins of Touvron et al. 2023 (arXiv:2307.09288) where
raters gave them, and the centring term of Eisenstein et al. 2023 (arXiv:2312.09244), which keeps scores near 0.

Pairs reach the trainer as ids (`reward.model.encode_answers`, the same that scoring uses) in an order fixed beforehand: batches of
about equal length, shuffled, all epochs one after another. So TRL neither tokenises, nor drops long pairs in silence, nor
shuffles; and a run that is resumed, or split over processes, meets the same batches.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reward.preferences import Preference
from sft import training
from sft.training import check_batch_size, rows_per_step, trainer_fields

if TYPE_CHECKING:  # torch and trl take seconds; `--help` does without
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments
    from trl import RewardTrainer

    from reward.model import RewardModel
    from sft.lora import LoRAConfig

TOO_LONG = "longer than max_length"
PAIRS_AT_ONCE = 512  # whose ids are in memory; as Python lists they take 40 bytes a token
GROUPED_BATCHES = (
    32  # pairs of so many batches are sorted by length together: enough to pad little, few enough to stay random
)


@dataclass(frozen=True)
class PairTrainingConfig:
    """Settings of an optimisation over pairs, by transformers' names. `trainer` reaches every other field of the trainer's config."""

    learning_rate: float = 1e-4  # peak
    batch_size: int | None = (
        None  # pairs of an optimiser step, all processes together; None: what the next two make of it
    )
    per_device_train_batch_size: int = 32  # pairs of one process at once
    gradient_accumulation_steps: int = 1  # follows from batch_size where that is given
    num_train_epochs: float = 1.0
    warmup_steps: float = 0.05  # from 0 to the peak; below 1 a share of all steps
    lr_scheduler_type: str = "linear"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int | None = (
        None  # tokens of prompt + answer; longer pairs are left out and counted; None: the model's context
    )
    pad_to_multiple_of: int = 16  # tokens; rows of few lengths keep memory flat and save time on a CPU
    precision: str = (
        "auto"  # bf16, fp16 or fp32 in the forward pass (weights stay fp32); auto: what is fast on this machine
    )
    gradient_checkpointing: bool = False  # less memory, about 20 % slower
    logging_steps: int = 10
    save_steps: int = 0  # checkpoint for --resume every so many steps; 0: never
    trainer: dict | str | None = None  # any other field of the TRL trainer's config, e.g. '{"adam_beta2": 0.95}'

    def __post_init__(self) -> None:
        object.__setattr__(self, "trainer", trainer_fields(self.trainer))
        positive = (
            "learning_rate",
            "per_device_train_batch_size",
            "gradient_accumulation_steps",
            "num_train_epochs",
            "logging_steps",
            "pad_to_multiple_of",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        check_batch_size(self)
        if self.max_length is not None and self.max_length < 2:
            raise ValueError(f"max_length must be at least 2 tokens, got {self.max_length}")


@dataclass(frozen=True)
class RewardTrainingConfig(PairTrainingConfig):
    """Settings of a reward model's training."""

    center_rewards_coefficient: float = 0.01  # weight of the squared sum of a pair's two scores
    margin_coefficient: float = (
        0.0  # margin in the loss per unit of rating difference; 0: margins only sort the breakdown
    )
    cut_long_prompts: bool = False  # too long: the prompt's oldest tokens go instead of the pair, here and in scoring

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("center_rewards_coefficient", "margin_coefficient"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")


def length_grouped_order(lengths: Sequence[int], batch_size: int, epochs: float, seed: int) -> list[int]:
    """Row numbers in training order, whole batches only: each epoch is a fresh shuffle whose batches hold rows of about equal length.

    Rows that fill no batch are left out of that epoch (a partial batch has another gradient scale). A fractional epoch is cut at a batch.
    Raises ValueError if there are fewer rows than one batch."""
    batches_per_epoch = len(lengths) // batch_size
    if batches_per_epoch == 0:
        raise ValueError(
            f"{len(lengths)} pairs do not fill one batch of {batch_size}; lower the batch size or bring more pairs"
        )
    order: list[int] = []
    wanted_batches = max(1, round(epochs * batches_per_epoch))
    for epoch in range(-(-wanted_batches // batches_per_epoch)):
        shuffler = random.Random(f"{seed}/{epoch}")
        rows = shuffler.sample(range(len(lengths)), batches_per_epoch * batch_size)
        span = GROUPED_BATCHES * batch_size
        rows = [
            row for i in range(0, len(rows), span) for row in sorted(rows[i : i + span], key=lambda row: lengths[row])
        ]
        batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        shuffler.shuffle(batches)
        order.extend(row for batch in batches for row in batch)
    return order[: wanted_batches * batch_size]


def fitting_pairs(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Preference],
    max_length: int,
    counts: Counter[str],
    *,
    cut_long_prompts: bool = False,
) -> Iterator[tuple[Preference, list[int], list[int]]]:
    """The pairs that fit into max_length tokens, each with the ids of its chosen and of its rejected answer; the others are counted.

    cut_long_prompts: the beginning of a prompt may go (see `encode_answers`); a pair whose answer alone is too long is still left out.
    Raises ValueError if none fits."""
    from reward.model import encode_answers

    cut_to, fitting = max_length if cut_long_prompts else None, 0
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        some = pairs[start : start + PAIRS_AT_ONCE]
        prompts = [pair["prompt"] for pair in some]
        chosen, rejected = (
            encode_answers(tokenizer, prompts, [pair[side] for pair in some], max_length=cut_to)
            for side in ("chosen", "rejected")
        )
        for pair, good, bad in zip(some, chosen, rejected, strict=True):
            if max(len(good), len(bad)) <= max_length:
                fitting += 1
                yield pair, good, bad
            else:
                counts[TOO_LONG] += 1
    if pairs and not fitting:
        hint = "" if cut_long_prompts else "; raise max_length where the model reads more, or shorten the prompts"
        raise ValueError(f"all {len(pairs)} pairs are longer than {max_length} tokens with their prompt{hint}")


def load_for_reward(
    folder: Path | str, seed: int = 0, lora: LoRAConfig | None = None, pad_id: int | None = None
) -> PreTrainedModel:
    """A causal (or reward) checkpoint as a one-label classification model in float32; a new head is drawn from `seed`.

    pad_id: the score is read at the last token that is another (None: as the checkpoint's config says).

    Raises ValueError for a checkpoint with a head of several labels, one that lacks other weights than a new head's, an architecture
    that has no scalar head in transformers, and for layers in `lora` that it can't adapt."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification
    from transformers.utils import logging

    from base_model.loading import load_model
    from sft.lora import check_targets

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    has_head = any("SequenceClassification" in name for name in config.architectures or [])
    if has_head and config.num_labels != 1:
        raise ValueError(
            f"{folder} has a head of {config.num_labels} labels, a reward model one; start from a causal checkpoint or a reward model"
        )
    if lora is not None and lora.load_in_4bit:
        raise ValueError("a reward model is not trained in 4 bits; leave load_in_4bit out")
    torch.manual_seed(seed)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # that the head is new and the language-model head unused is the purpose here
    try:
        model = load_model(
            AutoModelForSequenceClassification,
            folder,
            is_new=lambda name: not has_head and name.startswith(("score.", "classifier.")),
            num_labels=1,
            dtype=torch.float32,
        )
    finally:
        logging.set_verbosity(verbosity)
    if lora is not None:
        check_targets(model, lora)
    if pad_id is not None:
        model.config.get_text_config().pad_token_id = pad_id
    return model


def trainer_arguments(
    config_class: type, config: PairTrainingConfig, *, context: int, output_dir: Path | str, seed: int, **decided: Any
) -> Any:
    """`sft.training.trainer_arguments` for pairs that come cut and in the order of all epochs, for a model of `context` tokens."""
    return training.trainer_arguments(
        config_class,
        config,
        output_dir=output_dir,
        seed=seed,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        dataloader_drop_last=True,
        max_length=None,
        pad_to_multiple_of=math.gcd(config.pad_to_multiple_of, context),  # a row that fits is never padded past the end
        **decided,
    )


def order_rows(rows: Dataset, lengths: Sequence[int], args: TrainingArguments, epochs: float) -> Dataset:
    """The rows in training order: see `length_grouped_order`; a batch is that of all processes and accumulation steps.

    args: the trainer's arguments, whose epoch is all `epochs` of these rows."""
    return rows.select(length_grouped_order(lengths, rows_per_step(args), epochs, args.seed))


def make_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Preference],
    config: RewardTrainingConfig,
    *,
    output_dir: Path | str,
    seed: int,
    lora: LoRAConfig | None = None,
    counts: Counter[str] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> RewardTrainer:
    """A RewardTrainer ready to `.train()`. With `lora` (and its use_peft) adapters and the head are trained, else every weight.

    Raises ValueError if too few pairs fit into max_length; the pairs that do not fit are counted in `counts`."""
    from transformers import PrinterCallback, ProgressCallback
    from trl import RewardConfig, RewardTrainer

    from base_model.loading import context_length
    from base_model.precision import find_precision, keep_freed_memory
    from reward.model import scoring_tokenizer
    from sft.arrow import token_counts, write_dataset
    from sft.forward import ease_forward
    from sft.lora import peft_config

    keep_freed_memory()
    padded = scoring_tokenizer(tokenizer)
    model.config.get_text_config().pad_token_id = padded.pad_token_id
    context = context_length(model.config, unstated=config.max_length)
    counts = Counter() if counts is None else counts
    limit, cut = config.max_length or context, config.cut_long_prompts

    def rows() -> Iterator[dict[str, Any]]:
        for pair, good, bad in fitting_pairs(tokenizer, pairs, limit, counts, cut_long_prompts=cut):
            margin = config.margin_coefficient * pair.get("margin", 0.0)
            yield {"chosen_ids": good, "rejected_ids": bad} | ({"margin": margin} if config.margin_coefficient else {})

    columns = ("chosen_ids", "rejected_ids")
    others = {"margin": "float64"} if config.margin_coefficient else {}
    dataset = write_dataset(rows, Path(output_dir, "pairs.arrow"), columns, others)
    lengths = list(map(max, *(token_counts(dataset, column) for column in columns)))
    adapter = None
    if lora is not None and lora.use_peft:
        adapter = peft_config(lora)
        adapter.task_type = "SEQ_CLS"
        adapter.modules_to_save = ["score"]  # the new head has no pretrained part to adapt
    args = trainer_arguments(RewardConfig, config, context=context, output_dir=output_dir, seed=seed)
    ease_forward(model, find_precision(config.precision), has_pairs=True)

    class PairRewardTrainer(training.Resumable, RewardTrainer):
        """TRL's, going on from a checkpoint as if it had never stopped."""

    trainer = PairRewardTrainer(
        model=model,
        args=args,
        train_dataset=order_rows(dataset, lengths, args, config.num_train_epochs),
        processing_class=padded,
        peft_config=adapter,
        callbacks=list(callbacks),
    )
    if adapter is not None and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise ValueError(
            "a reward model's adapter is merged by one process, and FSDP and DeepSpeed split it over all; "
            "launch with ddp.yaml, or train every weight (no_use_peft)"
        )
    if callbacks:  # they say what there is to say
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
    return trainer


def finished(
    trained: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Preference],
    reference_answers: int,
    seed: int,
    *,
    cut_to: int | None = None,
) -> RewardModel:
    """The trained model, any adapter merged, centred on at most `reference_answers` answers of the pairs, drawn by `seed`.

    cut_to: the tokens that long prompts were cut to in training. Raises ValueError for a pair that does not fit the model."""
    from reward.model import RewardModel

    sides = [(pair["prompt"], pair[side]) for pair in pairs for side in ("chosen", "rejected")]
    drawn = random.Random(seed).sample(sides, min(reference_answers, len(sides)))
    prompts, answers = zip(*drawn, strict=True)
    reward = RewardModel(trained.eval(), tokenizer, cut_to=cut_to)
    reward.centre(prompts, answers)
    return reward
