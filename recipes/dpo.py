"""DPO: preference pairs straight into the policy, no reward model and no sampling in the loop.

    python -m recipes.dpo --config recipes/configs/tiny/dpo.yaml
    python -m recipes.dpo --config recipes/configs/tiny/dpo.yaml --loss_type ipo --beta 0.2
    python -m recipes.dpo --config recipes/configs/tiny/dpo.yaml --output_dir runs/tiny/iterated --rounds 3

The reference is the model that training starts from (or --reference), its log-probabilities computed once and cached; the first margin
must be 0. KL to the reference is measured by sampling. With --rounds the later rounds ask for new pairs: the model of the round before
answers, the judge of --preferences_config orders, and each round is a run with its parents. The tiny run takes under 45 s on 2 cores.
"""

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from alignment.dpo import DPOTrainingConfig
from recipes.run.cli import command, parse
from recipes.run.finetune import DataConfig, load_tokenizer, save_trained
from recipes.run.run import Run, RunConfig
from recipes.run.stage import Stage
from sft.lora import LoRAConfig

STAGE = Stage("dpo", kind="alignment", purpose="the instruction-tuned model aligned by DPO", trains=True)


@dataclass(frozen=True)
class DPOStageConfig:
    """What is trained against what. `data` holds the pairs."""

    model: str = field(metadata={"help": "checkpoint that is trained: the instruction-tuned one"})
    reference: str | None = None  # checkpoint whose neighbourhood it stays in; None: `model` as it is
    heldout: str | None = None  # pairs to measure the margin's accuracy on
    rounds: int = 1  # iterated DPO: rounds after the first train on fresh pairs of the model's own answers
    preferences_config: str | None = field(
        default=None, metadata={"help": "config of recipes.preferences for later rounds"}
    )

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")
        if self.rounds > 1 and self.preferences_config is None:
            raise ValueError("rounds above 1 need preferences_config: who judges the new answers, and on which prompts")


@dataclass(frozen=True)
class DPOLoRAConfig(LoRAConfig):
    """Every weight unless an adapter is asked for."""

    use_peft: bool = False


CONFIG_TYPES = (RunConfig, DPOStageConfig, DataConfig, DPOTrainingConfig, DPOLoRAConfig)


def main(argv: list[str] | None = None) -> Path:
    """Run the stage, or its rounds; returns the (last) run folder."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    run_config, config, data, training, lora = parse(*CONFIG_TYPES, argv=arguments)
    if config.rounds > 1:
        return iterate(arguments, run_config, config)
    from base_model.documents import read_like
    from reward.preferences import read_preferences

    files = [data.data, *([config.heldout] if config.heldout else [])]
    parents = [config.model, *([config.reference] if config.reference else [])]
    run = Run.start(STAGE, run_config, (config, data, training, lora), parents=parents, data=files)
    counts: Counter[str] = Counter()
    with run.checking():
        tokenizer = load_tokenizer(config.model)
        pairs = read_preferences(data.source, counts=counts, tokenizer=tokenizer)
        held_out = read_like(data.source, config.heldout) if config.heldout else None
        heldout = read_preferences(held_out, tokenizer=tokenizer) if held_out else []
    if not run.is_trained:
        train(run, config, training, lora, pairs, counts)
    if heldout and run.is_main:
        measure_heldout(run, config, heldout)
    return run.finish(reference=config.reference or config.model)


def train(
    run: Run,
    config: DPOStageConfig,
    training: DPOTrainingConfig,
    lora: LoRAConfig,
    pairs: list[dict],
    counts: Counter[str],
) -> None:
    """Train on the pairs; the model, merged, is then in the run folder."""
    from alignment.dpo import check_start, displacement_watch, make_trainer
    from reward.preferences import PAIRS
    from reward.train import TOO_LONG
    from sft.lora import load_parent
    from sft.training import whole_model

    tokenizer = load_tokenizer(config.model)
    is_own_reference = config.reference is None
    reference = None if is_own_reference and lora.use_peft else load_parent(config.reference or config.model)
    watch = displacement_watch(training)
    trainer = make_trainer(
        load_parent(config.model, lora),
        reference,
        tokenizer,
        pairs,
        training,
        output_dir=run.checkpoints,
        seed=run.config.seed,
        lora=lora,
        cache=run.dir.parent / ".cache",
        counts=counts,
        callbacks=[watch, *run.callbacks],
    )
    if is_own_reference and run.resume_from is None:
        run.note("largest_start_margin_nats", check_start(trainer))
    counts[PAIRS] -= counts[TOO_LONG]  # what is trained on
    run.note("pair_counts", dict(+counts))
    trained = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
    with run.training():
        trainer.train(resume_from_checkpoint=run.resume_from)
    run.note("displacement_nats", {"lowest": watch.lowest_nats, "last": watch.last_nats})
    run.check(
        "chosen answers stay likely",
        watch.last_nats >= -training.displacement_limit_nats,
        f"they ended {watch.last_nats:+.1f} nats from the reference (limit -{training.displacement_limit_nats:g}); "
        "where they fall, --sft_weight is the usual cure",
    )
    model, weights = whole_model(trainer)
    prompts = [trainer.train_dataset[i]["prompt_ids"][-32:] for i in range(min(4, len(trainer.train_dataset)))]
    save_trained(run, model, weights, config.model, tokenizer, lora, prompts)
    run.trained(steps=trainer.state.global_step, trained_parameters=trained)


def measure_heldout(run: Run, config: DPOStageConfig, pairs: list[dict]) -> None:
    """Share of held-out pairs whose chosen answer gained more log-likelihood than the rejected one, with its interval, into the record."""
    from alignment.dpo import margins_nats
    from base_model.precision import find_device
    from eval.statistics import wilson
    from sft.lora import load_parent

    tokenizer = load_tokenizer(config.model)
    pair = load_parent(run.out), load_parent(config.reference or config.model)
    margins = margins_nats(*(each.to(find_device()) for each in pair), tokenizer, pairs)
    right = sum((m > 0) + 0.5 * (m == 0) for m in margins)
    run.note("heldout_accuracy", wilson(right, len(margins)).as_dict())


def iterate(arguments: list[str], run_config: RunConfig, config: DPOStageConfig) -> Path:
    """Rounds of sample, judge, train. Round r is `<output_dir>-r`, its new pairs `<output_dir>-r-preferences`; the last is `output_dir`."""
    from recipes import preferences
    from recipes.run.record import read_manifest

    # What is wrong with the config of later rounds is not to be found out after the first.
    line = ["--config", str(config.preferences_config), "--model", config.model, "--output_dir", "unused"]
    preferences.check_judge(parse(*preferences.CONFIG_TYPES, argv=line)[1].judge)
    mode = [flag for flag, wanted in (("--resume", run_config.resume), ("--overwrite", run_config.overwrite)) if wanted]
    inherited = _without(arguments, ("rounds", "output_dir", "model", "data", "resume", "overwrite", "seed"))
    model, folder = config.model, Path(run_config.output_dir)
    for number in range(1, config.rounds + 1):
        target = folder if number == config.rounds else folder.with_name(f"{folder.name}-{number}")
        seed = str(run_config.seed + number - 1)
        line = [*inherited, "--rounds", "1", "--seed", seed, "--model", model, "--output_dir", str(target), *mode]
        if number > 1:
            pairs = folder.with_name(f"{folder.name}-{number}-preferences")
            if run_config.overwrite or read_manifest(pairs) is None:
                asked = [
                    "--config",
                    str(config.preferences_config),
                    "--model",
                    model,
                    "--output_dir",
                    str(pairs),
                    "--seed",
                    seed,
                ]
                preferences.main([*asked, *mode])
            line += ["--data", str(pairs / "train.jsonl"), "--heldout", str(pairs / "heldout.jsonl")]
        elif (own := _values(arguments, "data")) is not None:
            line += ["--data", own]
        if run_config.overwrite or read_manifest(target) is None:
            main(line)
        model = str(target)
    return folder


def _values(arguments: list[str], name: str) -> str | None:
    """The value of `--name value` or `--name=value`."""
    for place, item in enumerate(arguments):
        if item == f"--{name}":
            return arguments[place + 1]
        if item.startswith(f"--{name}="):
            return item.split("=", 1)[1]
    return None


def _without(arguments: list[str], names: tuple[str, ...]) -> list[str]:
    """The command line without some flags and their value."""
    kept, skipping = [], False
    for item in arguments:
        if item.startswith("--"):
            skipping = item[2:].split("=", 1)[0] in names
            if not skipping:
                kept.append(item)
        elif not skipping:
            kept.append(item)
    return kept


if __name__ == "__main__":
    command(main)
