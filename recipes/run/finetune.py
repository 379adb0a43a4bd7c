"""What the two fine-tuning recipes share: the parent's tokenizer, the training run, adapter and merged model checked against each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from base_model.checkpoints import sha256_file
from base_model.documents import Source
from recipes.run.record import peak_memory_bytes, read_manifest
from recipes.run.run import Run
from sft.lora import LoRAConfig
from sft.training import TrainingConfig

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class DataConfig:
    """Where the rows are; see `base_model/documents.py` for what a path may be."""

    data: str  # file, folder, glob or hub id
    split: str = "train"  # of a hub data set, or of a folder whose files carry split names
    columns: dict | str | None = (
        None  # our name -> theirs, e.g. '{"prompt": "instruction", "context": "input", "completion": "output"}'
    )
    separator: str | None = None  # between the documents of a .txt file
    on_bad_rows: str = "error"  # error names the first; skip leaves them out and counts them
    raw_prompts: bool = False  # prompts that are strings are text to go on from, and not what a user says

    def __post_init__(self) -> None:
        if isinstance(self.columns, str):
            try:
                object.__setattr__(self, "columns", json.loads(self.columns))
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"columns must be a JSON object, our name to theirs, got {self.columns!r}: {error}"
                ) from None
        _ = self.source  # an impossible value fails here

    @property
    def source(self) -> Source:
        """These settings as the library has them."""
        return Source(self.data, self.split, self.columns, self.separator, self.on_bad_rows, self.raw_prompts)


def load_tokenizer(parent: str) -> PreTrainedTokenizerBase:
    """The parent's tokenizer. Raises ValueError if it is not the one that the parent's record names, has ids that its model lacks, or
    would not be itself in the child's folder."""
    from transformers import AutoConfig, AutoTokenizer

    from base_model.chat import check_template
    from base_model.tokenizer_identity import reloaded, tokenizer_difference, tokenizer_sha256

    tokenizer = AutoTokenizer.from_pretrained(parent, trust_remote_code=False)
    check_template(tokenizer, parent)
    manifest, vocabulary_file = read_manifest(parent), Path(parent, "tokenizer.json")
    is_as_it_was = manifest and manifest["files"].get("tokenizer.json") == sha256_file(vocabulary_file)
    if manifest and not is_as_it_was and manifest["tokenizer_sha256"] != tokenizer_sha256(tokenizer):
        raise ValueError(
            f"{vocabulary_file} is not the tokenizer that {parent} was trained with; put the parent's own back"
        )
    vocabulary = AutoConfig.from_pretrained(parent, trust_remote_code=False).get_text_config().vocab_size
    if len(tokenizer) > vocabulary:
        raise ValueError(
            f"the tokenizer in {parent} has {len(tokenizer)} tokens, its model only {vocabulary}: it is not the model's own; put that back"
        )
    if difference := tokenizer_difference(tokenizer, reloaded(tokenizer)):
        raise ValueError(
            f"the {difference.what} of {parent} is another one once it is saved ({difference.why}): no model trained with it could be used"
        )
    return tokenizer


def context_tokens(parent: str, training: TrainingConfig) -> int:
    """Tokens of a row: what is asked for, else the parent's context. Raises ValueError if the parent cannot see so far."""
    from transformers import AutoConfig

    from base_model.loading import context_length

    longest = context_length(
        AutoConfig.from_pretrained(parent, trust_remote_code=False), unstated=training.context_length
    )
    if (training.context_length or 0) > longest:
        raise ValueError(f"context_length {training.context_length} is more than the {longest} positions of {parent}")
    return training.context_length or longest


def tune(
    run: Run,
    parent: str,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    training: TrainingConfig,
    lora: LoRAConfig,
    *,
    role_ids: Sequence[int] = (),
) -> None:
    """Train the parent on `rows`; the plain (merged) model is then in the run folder.

    With LoRA the adapter is kept in `adapter/`, and the merged model, saved and read back, must be the adapted one, else ValueError.
    role_ids: tokens of a chat template that the parent did not have; rows that it lacks are added, and they count as never trained."""
    from sft.lora import add_rows, attach, load_parent
    from sft.training import make_trainer, whole_model

    model = load_parent(parent, lora)
    new_ids = check_tokens(run, parent, model, tokenizer, rows, lora, role_ids)
    add_rows(model, len(tokenizer))
    name_tokens(model, tokenizer)
    if lora.use_peft:
        model = attach(model, lora, new_ids if lora.train_new_tokens else ())
    trained, total = (sum(p.numel() for p in model.parameters() if p.requires_grad or every) for every in (False, True))
    trainer = make_trainer(
        model,
        tokenizer,
        rows,
        training,
        output_dir=run.checkpoints,
        seed=run.config.seed,
        callbacks=run.callbacks,
    )
    with run.training():
        trainer.train(resume_from_checkpoint=run.resume_from)
    run.note("training_peak_bytes", peak_memory_bytes())
    run.note("parameters", {"trained": trained, "total": total})
    model, weights = whole_model(trainer)
    prompts = [row["input_ids"][:32] for row in rows.select(range(min(4, len(rows))))]
    save_trained(run, model, weights, parent, tokenizer, lora, prompts)
    run.trained(steps=trainer.state.global_step, tokens=trainer.state.num_input_tokens_seen, trained_parameters=trained)


def name_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Put the ids of special tokens that only a new chat template brought into the model's configs."""
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        for settings in (model.config, model.generation_config):
            if getattr(settings, name, None) is None:
                setattr(settings, name, getattr(tokenizer, name))


def check_tokens(
    run: Run,
    parent: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    lora: LoRAConfig,
    role_ids: Sequence[int] = (),
) -> list[int]:
    """Ids of `rows` that the parent never trained (by its record, else by its weights) with all `role_ids`; the record says what
    becomes of them, and which tokens are still untrained after this stage."""
    from base_model.untrained import named, untrained_ids, written_out
    from sft.arrow import ids_in

    untrained = recorded_untrained(parent)
    source = "by its record"
    if untrained is None:
        untrained, source = untrained_ids(model, tokenizer), "by the look of its weights"
    untrained |= set(role_ids)
    met = untrained & ids_in(rows)
    new_ids = sorted(met | set(role_ids))
    is_trained = not lora.use_peft or lora.train_new_tokens
    run.note("untrained_token_ids", written_out(untrained - met if is_trained else untrained))
    detail = f"all were trained in {parent}, {source}"
    if met:
        what_now = "their rows are trained here" if is_trained else "leave train_new_tokens on, or train every weight"
        detail = f"{len(met)} were never trained in {parent}, {source}: {named(met, tokenizer)}; {what_now}"
    run.check("the data's tokens are trained", is_trained or not met, detail)
    return new_ids


def recorded_untrained(parent: str) -> set[int] | None:
    """Ids that a checkpoint never trained, as its record or that of the nearest one above it says; None where none does."""
    from base_model.untrained import read_back

    manifest = read_manifest(parent)
    while manifest is not None:
        if (text := manifest["notes"].get("untrained_token_ids")) is not None:
            return read_back(text)
        manifest = read_manifest(manifest["parents"][0]["path"]) if manifest["parents"] else None
    return None


def save_trained(
    run: Run,
    model: PreTrainedModel | PeftModel,
    weights: dict[str, Tensor] | None,
    parent: str,
    tokenizer: PreTrainedTokenizerBase,
    lora: LoRAConfig,
    prompts: Sequence[Sequence[int]],
) -> None:
    """Put the trained model into the run's folder; an adapter, and the plain model that it makes of its parent, where there is one: the
    two are held to each other on `prompts`, ids (`sft.lora.finish_adapter`, where `weights` are told of too)."""
    from sft.lora import finish_adapter

    if not lora.use_peft:
        run.save(model, tokenizer)
        return
    if not run.is_main:
        return

    def save(plain: PreTrainedModel) -> None:
        name_tokens(plain, tokenizer)
        run.save(plain, tokenizer)

    _, check = finish_adapter(model, run.out, parent=parent, prompts=prompts, save=save, weights=weights)
    run.note("merge", asdict(check))
    run.check(
        "merged model is the adapted one",
        True,
        f"largest logit difference {check.largest_difference:.2g} (allowed {check.tolerance:g}), "
        f"{check.greedy_tokens_compared} greedy tokens equal",
    )
