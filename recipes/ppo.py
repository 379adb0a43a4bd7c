"""PPO: the instruction-tuned model samples, a reward model scores, and the policy moves at a price per nat of KL.

    python -m recipes.ppo --config recipes/configs/tiny/ppo.yaml
    python -m recipes.ppo --config recipes/configs/tiny/ppo.yaml --kl_coef 0.1 --critic separate
    python -m recipes.ppo --config recipes/configs/tiny/ppo.yaml --use_peft --learning_rate 1e-3

Held-out prompts are judged while it trains (--judges: never trained on); alarms stand in the progress line, the record and the report,
and end the run with --alarm_action stop. What it gained is measured against its parent, at a stated KL, as it finishes.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from alignment.ppo.config import PPOConfig
from base_model.chat import check_prompt
from base_model.checkpoints import read_json_lines
from base_model.documents import Source, read_like, read_rows
from recipes.run.cli import command, parse
from recipes.run.finetune import DataConfig, load_tokenizer, save_trained
from recipes.run.run import Run, RunConfig
from recipes.run.stage import Stage
from sft.lora import LoRAConfig

STAGE = Stage("ppo", kind="alignment", purpose="the instruction-tuned model aligned by PPO", trains=True, own_loop=True)

SHOWN_PROMPTS = 4  # whose answers over time go into the record


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
    heldout_rows: int | None = None  # at most so many of them, the first ones
    judges: list[str] = field(default_factory=list, metadata={"help": "judges of the held-out answers, by name"})

    def __post_init__(self) -> None:
        if self.reward_model in self.judges:
            raise ValueError(f"{self.reward_model} is both reward_model and judge: what is trained on measures nothing")


@dataclass(frozen=True)
class PPOLoRAConfig(LoRAConfig):
    """Every weight unless an adapter is asked for."""

    use_peft: bool = False


CONFIG_TYPES = (PPORunConfig, PPOStageConfig, DataConfig, PPOLoRAConfig)


def main(argv: list[str] | None = None) -> Path:
    """Run the stage; returns its folder."""
    args, config, data, lora = parse(*CONFIG_TYPES, argv=argv)
    from alignment.ppo.trainer import PPOTrainer
    from recipes.judges.registry import resolve
    from reward.model import RewardModel
    from sft.lora import load_parent, peft_config

    files = [data.data, *([config.heldout] if config.heldout else [])]
    run = Run.start(STAGE, args, (config, data, lora, args), parents=[config.model, config.reward_model], data=files)
    with run.checking():
        tokenizer = load_tokenizer(config.model)
        reward = RewardModel.load(config.reward_model)
        prompts = read_prompts(data.source, tokenizer)
        held_out = read_like(data.source, config.heldout) if config.heldout else None
        heldout = read_prompts(held_out, tokenizer, config.heldout_rows) if held_out else None
        judges = resolve(config.judges)
    reward.cut_long_prompts()
    if not run.is_trained:
        trainer = PPOTrainer(
            load_parent(config.model, lora),
            reward_funcs=reward.score,
            args=dataclasses.replace(args, output_dir=str(run.checkpoints)),
            train_dataset=prompts,
            eval_dataset=heldout,
            processing_class=tokenizer,
            callbacks=run.callbacks,
            peft_config=peft_config(lora) if lora.use_peft else None,
            eval_judges=judges,
        )
        train(run, trainer, config.model, lora)
    return run.finish(judges={"reward_model": reward.score}, reference=config.model)


def read_prompts(source: Source, tokenizer: Any, at_most: int | None = None) -> list[dict[str, Any]]:
    """The rows of a source, the first `at_most` of them. Raises BadRows for a prompt that the chat template refuses."""
    rows = read_rows(source, ("prompt",), check=lambda fields: check_prompt(fields["prompt"], tokenizer=tokenizer))
    return [row.fields for row in islice(rows, at_most)]


def write_evidence(run: Run, trainer: Any) -> None:
    """What the run was like, for record and report: alarms, answers over time, the judges' paired verdicts on held-out prompts."""
    for alarm in {alarm.name: alarm for alarm in reversed(trainer.alarms)}.values():  # the first of each kind
        run.check(f"alarm: {alarm.name}", False, f"update {alarm.step}: {alarm.message}")
    run.check(
        "no alarm while training",
        not trainer.alarms,
        f"{len(trainer.alarms)} alarms in {trainer.state.global_step} updates",
    )
    run.note("skipped_prompts", trainer.prompts.skipped)
    run.note("evaluations", trainer.evaluations)
    run.note("answers_over_time", answers_over_time(run.checkpoints / "samples"))
    if not trainer.evaluations or trainer.evaluations[0]["step"] != 0:
        return
    first, last = trainer.evaluations[0], trainer.evaluations[-1]
    for name, before in first["judges"].items():
        verdict = against_start(last["judges"][name], before)
        run.note(f"{name}_against_parent", verdict)
        run.check(
            f"{name} prefers the result to its parent",
            verdict["low"] > 0.5,
            f"win rate {verdict['win_rate']:.3f} [{verdict['low']:.3f}, {verdict['high']:.3f}] over {verdict['n']} held-out "
            f"prompts, one sampled answer each, at {last['kl_nats']:.2f} nats",
        )


def against_start(after: Sequence[float], before: Sequence[float]) -> dict[str, float]:
    """Win rate of `after` over `before`, prompt by prompt, ties counting half, with its 95 % interval."""
    from eval.statistics import mean_interval

    estimate = mean_interval([0.5 if a == b else float(a > b) for a, b in zip(after, before, strict=True)])
    return {"win_rate": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def answers_over_time(folder: Path) -> list[dict[str, Any]]:
    """The first few held-out prompts, each with its answer at every evaluation."""
    table: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("step-*.jsonl")):
        for row in islice(read_json_lines(file), SHOWN_PROMPTS):
            table.setdefault(row.pop("prompt"), []).append(row)
    return [{"prompt": prompt, "answers": answers} for prompt, answers in table.items()]


def train(run: Run, trainer: Any, parent: str, lora: LoRAConfig) -> None:
    """Train; the plain model is then in the run folder (with LoRA `adapter/` too, and the merged model held to it), with its evidence."""
    with run.training():
        trainer.train(resume_from_checkpoint=run.resume_from)
    policy, weights = trainer.whole_policy()
    prompts = trainer.prompts.batch(range(min(4, len(trainer.prompts)))).ids
    save_trained(run, policy, weights, parent, trainer.processing_class, lora, prompts)
    write_evidence(run, trainer)
    run.trained(
        steps=trainer.state.global_step,
        tokens=trainer.state.num_input_tokens_seen,
        trained_parameters=sum(weight.numel() for weight in trainer.module.policy_parameters()),
    )


if __name__ == "__main__":
    command(main)
