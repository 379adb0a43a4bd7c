"""PPO: the instruction-tuned model samples, a reward model scores, and the policy moves at a price per nat of KL.

    python -m recipes.ppo --config recipes/configs/tiny/ppo.yaml
    python -m recipes.ppo --config recipes/configs/tiny/ppo.yaml --kl_coef 0.1 --critic separate
    python -m recipes.ppo --config recipes/configs/tiny/ppo.yaml --use_peft --learning_rate 1e-3

Held-out prompts are judged while it trains (--judges: never trained on); alarms stand in the progress line, the record and the report,
and end the run with --alarm_action stop. What it gained is measured against its parent, at a stated KL, as it finishes.
"""

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path

from alignment.config import PPOConfig
from recipes.cli import command, parse
from recipes.run import Run, RunConfig
from recipes.tuning import DataConfig, load_tokenizer
from sft.lora import LoRAConfig


@dataclass(frozen=True)
class PPORunConfig(PPOConfig, RunConfig):
    """PPO's settings and where the run goes; both speak of output_dir and seed."""

    def __post_init__(self) -> None:
        PPOConfig.__post_init__(self)
        RunConfig.__post_init__(self)


@dataclass(frozen=True)
class PPOStageConfig:
    """Who learns, from whom, and who looks on. `data` holds the prompts."""

    model: str = field(metadata={"help": "checkpoint that is trained, and the reference"})
    reward_model: str = field(metadata={"help": "folder of a reward model"})
    heldout: str | None = None  # prompts that are judged while training, never trained on
    judges: list[str] = field(default_factory=list, metadata={"help": "judges of the held-out answers, by name"})


@dataclass(frozen=True)
class PPOLoRAConfig(LoRAConfig):
    """Every weight unless an adapter is asked for."""

    use_peft: bool = False


CONFIG_TYPES = (PPORunConfig, PPOStageConfig, DataConfig, PPOLoRAConfig)


def main(argv: list[str] | None = None) -> Path:
    """Run the stage; returns its folder."""
    args, config, data, lora = parse(*CONFIG_TYPES, argv=argv)
    from alignment.ppo import PPOTrainer
    from base_model.documents import Source, read_rows
    from recipes.judges import resolve
    from reward.model import RewardModel
    from sft.lora import load_parent, merge, peft_config, save_adapter

    files = [data.data, *([config.heldout] if config.heldout else [])]
    run = Run.start("ppo", args, (config, data, lora, args), parents=[config.model, config.reward_model], data=files)
    tokenizer = load_tokenizer(config.model)
    reward = RewardModel.load(config.reward_model)
    if reward.cut_to is None:  # an answer's text may be more tokens than were sampled: cut its prompt rather than stop the run
        reward.cut_to = reward.model.config.max_position_embeddings
    trainer = PPOTrainer(
        load_parent(config.model, lora),
        reward_funcs=reward.score,
        args=dataclasses.replace(args, output_dir=str(run.checkpoints)),
        train_dataset=[row.fields for row in read_rows(data.source, ("prompt",))],
        eval_dataset=[row.fields for row in read_rows(Source(config.heldout), ("prompt",))] if config.heldout else None,
        processing_class=tokenizer,
        callbacks=run.callbacks,
        peft_config=peft_config(lora) if lora.use_peft else None,
        eval_judges=resolve(config.judges),
    )
    began_s = time.monotonic()
    trainer.train(resume_from_checkpoint=run.resume_from)
    run.note("training_s", round(time.monotonic() - began_s, 2))
    run.note("evaluations", trainer.evaluations)
    for alarm in {alarm.name: alarm for alarm in reversed(trainer.alarms)}.values():  # the first of each kind
        run.check(f"alarm: {alarm.name}", False, f"update {alarm.step}: {alarm.message}")
    run.check(
        "no alarm while training",
        not trainer.alarms,
        f"{len(trainer.alarms)} alarms in {trainer.state.global_step} updates",
    )
    trained = sum(weight.numel() for weight in trainer.policy.parameters() if weight.requires_grad)
    model = trainer.policy
    if lora.use_peft:
        save_adapter(model, run.dir / "adapter", parent=config.model)
        model = merge(model)
    judges = {"reward_model": reward.score}
    facts = {"steps": trainer.state.global_step, "trained_parameters": trained}
    return run.finish(model, tokenizer, judges=judges, reference=config.model, **facts)


if __name__ == "__main__":
    command(main)
