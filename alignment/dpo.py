"""Direct preference optimisation on TRL's DPOTrainer: the reference given, its log-probabilities computed once, the start checked.

    loss = -log sigmoid( beta [ (log pi(y+) - log ref(y+)) - (log pi(y-) - log ref(y-)) ] )      Rafailov et al. 2023, arXiv:2305.18290

and TRL's other losses by name. What is added to TRL's trainer:
  - the reference is always passed in: TRL, given a model object alone, reloads `config._name_or_path`, which may be another model;
  - its log-probabilities are computed once for each distinct pair and kept in a file named by what they depend on;
  - before the first step every margin must be 0, or the reference is not where the policy starts;
  - likelihood displacement (chosen answers grow LESS likely, Razin et al. 2024, arXiv:2410.08847) is watched; an SFT term is one setting;
  - that term is a mean over the tokens of the whole batch: TRL takes it over each pass of each process, so that another number of them
    would weigh the tokens differently. (The losses aot and aot_unpaired sort the pairs of a pass, and stay TRL's.)

Pairs reach the trainer as ids, the same that generation and reward models use, in an order fixed beforehand (`reward/train.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reward.train import PairTrainingConfig, fitting_pairs

if TYPE_CHECKING:  # torch and trl take seconds; `--help` does without
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
    from trl import DPOTrainer

    from reward.preferences import Preference
    from sft.lora import LoRAConfig

START_MARGIN_NATS = {
    "no": 1e-3,
    "fp16": 0.1,
    "bf16": 0.5,
}  # largest at step 0: rounding of a sum over an answer's tokens


@dataclass(frozen=True)
class DPOTrainingConfig(PairTrainingConfig):
    """Settings of a DPO training. The optimisation's own are those of every training on pairs."""

    learning_rate: float = 5e-5  # peak; TRL's 1e-6 does not move a small model
    beta: float = 0.1  # strength of the pull to the reference
    loss_type: list[str] = field(default_factory=lambda: ["sigmoid"])  # any of TRL's; several are summed
    loss_weights: list[float] | None = None  # one for each loss_type; None: 1 each
    label_smoothing: float = 0.0  # share of pairs believed swapped; for loss_type robust or exo_pair
    sft_weight: float = 0.0  # of the mean log-likelihood of chosen answers in the loss: a cure for displacement
    displacement_limit_nats: float = 20.0  # alarm when chosen answers have lost so much log-likelihood on average
    stop_on_alarm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta <= 0:
            raise ValueError(f"beta must be above 0, got {self.beta}: at 0 the loss is log 2 whatever the policy does")
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise ValueError(f"loss_weights has {len(self.loss_weights)} values for {len(self.loss_type)} loss_type")
        if self.label_smoothing and not {"robust", "exo_pair"} & set(self.loss_type):
            raise ValueError(
                f"label_smoothing does nothing for loss_type {self.loss_type}; use robust (conservative DPO) or exo_pair"
            )
        if self.sft_weight < 0:
            raise ValueError(f"sft_weight must be >= 0, got {self.sft_weight}")

    def losses(self) -> dict[str, list]:
        """TRL's loss_type and loss_weights, with the SFT term."""
        types, weights = list(self.loss_type), list(self.loss_weights or [1.0] * len(self.loss_type))
        if self.sft_weight:
            types, weights = [*types, "sft"], [*weights, self.sft_weight]
        return {"loss_type": types, "loss_weights": weights}


def make_trainer(
    model: PreTrainedModel,
    reference: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Preference],
    config: DPOTrainingConfig,
    *,
    output_dir: Path | str,
    seed: int,
    lora: LoRAConfig | None = None,
    cache: Path | str | None = None,
    counts: Counter[str] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> DPOTrainer:
    """A DPOTrainer ready to `.train()`; call `check_start` first.

    reference: another model than the start of `model` (it is left unchanged, and not needed in training). None, with `lora` alone: the
    model with its adapter switched off. cache: folder for reference log-probabilities. counts: pairs left out, by reason.
    Raises ValueError if there is no reference, or too few pairs fit into max_length."""
    from transformers import PrinterCallback, ProgressCallback
    from trl import DPOConfig

    from base_model.loading import context_length
    from base_model.precision import find_precision, keep_freed_memory
    from reward.model import scoring_tokenizer
    from reward.train import order_rows, trainer_arguments
    from sft.arrow import token_counts, write_dataset
    from sft.forward import ease_forward, ease_head
    from sft.lora import peft_config

    adapter = peft_config(lora) if lora is not None and lora.use_peft else None
    if reference is None and adapter is None:
        raise ValueError("full DPO needs the reference as a model of its own; pass reference, or train with LoRA")
    if reference is model:
        raise ValueError("the reference is the very model that is trained; load it a second time")
    keep_freed_memory()
    context = context_length(model.config, unstated=config.max_length)
    counts = Counter() if counts is None else counts
    columns = ("prompt_ids", "chosen_ids", "rejected_ids")
    for left in Path(output_dir).glob(
        "cache-*.arrow"
    ):  # by a life of this run before, under a name that no later one finds
        left.unlink(missing_ok=True)
    rows = write_dataset(
        lambda: preference_rows(tokenizer, pairs, config.max_length or context, counts),
        Path(output_dir, "pairs.arrow"),
        columns,
        {"row": "int64"},
    )
    tokens = zip(*(token_counts(rows, column) for column in columns), strict=True)
    lengths = [prompt + max(chosen, rejected) for prompt, chosen, rejected in tokens]
    arguments = trainer_arguments(
        DPOConfig,
        config,
        context=context,
        output_dir=output_dir,
        seed=seed,
        precompute_ref_log_probs=True,
        **config.losses(),
    )
    for each in filter(None, (model, reference)):
        ease_forward(each, find_precision(config.precision), has_pairs=True)
    trainer = _trainer_class()(
        model=model,
        ref_model=reference,
        args=arguments,
        train_dataset=order_rows(rows, lengths, arguments, config.num_train_epochs),
        processing_class=scoring_tokenizer(tokenizer),
        peft_config=adapter,
        callbacks=list(callbacks),
        cache=cache,
    )
    if not trainer.use_weighting:
        ease_head(trainer.model, has_mean_logits=True)
    if callbacks:  # they say what there is to say
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
    return trainer


def preference_rows(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Preference], max_length: int, counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """{prompt_ids, chosen_ids, rejected_ids, row} of each pair that fits into max_length tokens; the others are counted."""
    from base_model.chat import render_prompt

    for number, (pair, good, bad) in enumerate(fitting_pairs(tokenizer, pairs, max_length, counts)):
        start = len(render_prompt(tokenizer, pair["prompt"]))
        yield {"prompt_ids": good[:start], "chosen_ids": good[start:], "rejected_ids": bad[start:], "row": number}


def _trainer_class() -> type:
    """The trainer, made late: importing TRL's takes seconds."""
    import torch
    from datasets import Dataset, concatenate_datasets
    from trl import DPOTrainer

    from sft.training import OwnPadding, Resumable

    def _chosen_tokens(batch: dict[str, Any]) -> torch.Tensor:
        """How many tokens the chosen answers of one pass have; they are the batch's first half."""
        return batch["completion_mask"].chunk(2)[0].sum()

    class PairDPOTrainer(OwnPadding, Resumable, DPOTrainer):
        """Takes pairs as ids, in the order given; reference log-probabilities once for each distinct pair."""

        def __init__(self, *arguments: Any, cache: Path | str | None, **options: Any) -> None:
            self._cache = None if cache is None else Path(cache)
            self._tokens_of_a_pass: torch.Tensor | None = (
                None  # chosen ones, mean over the step's passes on all processes
            )
            super().__init__(*arguments, **options)

        def _prepare_dataset(self, dataset, *arguments: Any) -> Dataset:
            return dataset

        def get_batch_samples(self, iterator: Any, num_batches: int, device: Any) -> tuple[list, Any]:
            batches, items = super().get_batch_samples(iterator, num_batches, device)
            if "sft" in self.loss_types and batches:
                counts = torch.stack([_chosen_tokens(batch) for batch in batches]).to(self.accelerator.device)
                self._tokens_of_a_pass = self.accelerator.gather(counts).float().mean()
            return batches, items

        def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False) -> Any:
            share = _chosen_tokens(inputs) / self._tokens_of_a_pass if self._tokens_of_a_pass is not None else 1.0
            weights = self.args.loss_weights or [1.0] * len(self.loss_types)
            self.loss_weights = [
                weight * share if kind == "sft" and model.training else weight
                for kind, weight in zip(self.loss_types, weights, strict=True)
            ]
            return super()._compute_loss(model, inputs, return_outputs)

        def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
            first_of = {row: place for place, row in reversed(list(enumerate(dataset["row"])))}
            distinct = dataset.select(sorted(first_of.values()))
            chosen, rejected = self._reference_of(distinct, batch_size)
            place_of = {row: place for place, row in enumerate(distinct["row"])}
            places = [place_of[row] for row in dataset["row"]]
            columns = {"ref_chosen_logps": chosen[places].tolist(), "ref_rejected_logps": rejected[places].tolist()}
            return concatenate_datasets([dataset, Dataset.from_dict(columns)], axis=1)

        def _reference_of(self, distinct: Dataset, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
            """(pairs,) float32 log-probabilities of chosen and of rejected answers under the reference; from the cache if it has them."""
            from safetensors.torch import load_file, save_file

            digest = hashlib.sha256(
                json.dumps([self._precompute_model_hash, self.accelerator.mixed_precision, self.ld_alpha]).encode()
            )
            for row in distinct:
                digest.update(json.dumps([row[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")]).encode())
            file = self._cache and self._cache / f"reference-{digest.hexdigest()[:24]}.safetensors"
            if file and file.is_file():
                found = load_file(file)
                return found["chosen"], found["rejected"]
            model = (self.ref_model or self.model).to(self.accelerator.device).eval()
            parts = []
            for start in range(0, len(distinct), batch_size):
                rows = [distinct[i] for i in range(start, min(start + batch_size, len(distinct)))]
                batch = {k: v.to(self.accelerator.device) for k, v in self.data_collator(rows).items()}
                parts.append(torch.stack(self.compute_ref_log_probs(model, batch)).float().cpu())
            chosen, rejected = torch.cat(parts, dim=1)
            if file and self.accelerator.is_main_process:
                file.parent.mkdir(parents=True, exist_ok=True)
                partial = file.with_suffix(".partial")
                save_file({"chosen": chosen.contiguous(), "rejected": rejected.contiguous()}, partial)
                partial.rename(file)
            return chosen, rejected

    return PairDPOTrainer


def check_start(trainer: DPOTrainer) -> float:
    """The largest |margin| in nats over the first batch, before any step: 0 but for rounding, since the policy starts at the reference.

    Raises ValueError if it is larger: then the reference is another model, or its cached log-probabilities are of other pairs."""
    import torch

    count = min(trainer.args.per_device_train_batch_size, len(trainer.train_dataset))
    rows = [trainer.train_dataset[i] for i in range(count)]
    batch = {name: value.to(trainer.accelerator.device) for name, value in trainer.data_collator(rows).items()}
    reference = batch.pop("ref_chosen_logps") - batch.pop("ref_rejected_logps")
    mask = batch.pop("completion_mask")
    model = trainer.model.to(trainer.accelerator.device)
    was_training = model.training
    model.eval()
    with torch.no_grad(), trainer.accelerator.autocast(), _not_split_yet(trainer):
        labels = batch["input_ids"].masked_fill(mask == 0, -100)
        logprobs = model(**batch, labels=labels, use_cache=False, fused_lm_head=True).log_probs.sum(dim=1)
    model.train(was_training)
    chosen, rejected = logprobs.float().chunk(2)
    margin = (chosen - rejected - reference).abs().max().item()
    allowed = START_MARGIN_NATS[trainer.accelerator.mixed_precision]
    if not margin <= allowed:  # also true for NaN
        raise ValueError(
            f"before the first step the margin to the reference is {margin:.3g} nats, above {allowed:g}: "
            "the reference is not the model that training starts from"
        )
    return margin


@contextmanager
def _not_split_yet(trainer: DPOTrainer) -> Iterator[None]:
    """For the model before training: TRL takes each for split by DeepSpeed's ZeRO 3 as soon as that is configured."""
    if not trainer.is_deepspeed_enabled:
        yield
        return
    from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        set_hf_deepspeed_config(trainer.accelerator.state.deepspeed_plugin.hf_ds_config)


def displacement_watch(config: DPOTrainingConfig) -> TrainerCallback:
    """A callback that follows what chosen answers have lost: `.lowest_nats`, `.last_nats`, and an alarm past the limit."""
    from transformers import TrainerCallback

    class DisplacementWatch(TrainerCallback):
        lowest_nats = 0.0
        last_nats = 0.0

        def on_train_begin(self, args, state, control, **kwargs):
            for logs in state.log_history:  # of the lives before this one; empty in a first one
                self.on_log(args, state, control, dict(logs))

        def on_log(self, args, state, control, logs=None, **kwargs):
            if not logs or "rewards/chosen" not in logs:
                return
            self.last_nats = logs["rewards/chosen"] / config.beta
            self.lowest_nats = min(self.lowest_nats, self.last_nats)
            logs["displacement_nats"] = self.last_nats
            if self.last_nats < -config.displacement_limit_nats:
                logs["alarm"] = f"chosen answers lost {-self.last_nats:.1f} nats"
                if config.stop_on_alarm:
                    control.should_training_stop = True

    return DisplacementWatch()


def margins_nats(
    model: PreTrainedModel, reference: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Preference]
) -> list[float]:
    """(log pi - log ref)(chosen) - (log pi - log ref)(rejected) of each pair, in nats. Pairs longer than the context are left out."""
    from base_model.loading import context_length

    gains = []
    rows = list(preference_rows(tokenizer, pairs, context_length(model.config, unstated=2**31), Counter()))
    for side in ("chosen_ids", "rejected_ids"):
        prompts, answers = [row["prompt_ids"] for row in rows], [row[side] for row in rows]
        mine, theirs = (answer_logprobs(m, prompts, answers) for m in (model, reference))
        gains.append(mine - theirs)
    return (gains[0] - gains[1]).tolist()


def answer_logprobs(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], *, batch_size: int = 64
) -> torch.Tensor:
    """log p(answer | prompt) of each row, summed over the answer's tokens, (N,) float32 on the CPU. Right padding, masked."""
    import torch

    from base_model.sequence import pad_right, token_logprobs

    device = next(model.parameters()).device
    out = torch.empty(len(prompts))
    model.eval()
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(answers[i]))
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            tokens_BT, is_pad_BT = pad_right([[*prompts[i], *answers[i]] for i in chosen], 0, device=device)
            logits_BTV = model(input_ids=tokens_BT, attention_mask=(~is_pad_BT).long(), use_cache=False).logits
            logprobs_BS = token_logprobs(logits_BTV, tokens_BT).float()
            starts = torch.tensor([len(prompts[i]) for i in chosen], device=device)
            is_answer_BS = (torch.arange(1, tokens_BT.shape[1], device=device) >= starts[:, None]) & ~is_pad_BT[:, 1:]
            out[chosen] = logprobs_BS.masked_fill(~is_answer_BS, 0).sum(dim=1).cpu()
    return out
