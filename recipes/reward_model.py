"""Reward model: from preference pairs to a score, and to a judgement on that score.

    python -m recipes.reward_model --config recipes/configs/tiny/reward_model.yaml
    python -m recipes.reward_model --config recipes/configs/tiny/reward_model.yaml --ensemble 3
    python -m recipes.reward_model --model runs/my/lora_sft --output_dir runs/my/reward_model --data pairs.jsonl --use_peft

The run folder is an AutoModelForSequenceClassification with one label; `RewardModel.load(folder).score(prompts, completions)` is centred
on answers from the training pairs. quality.json tells how good it is: accuracy on held-out pairs against baselines, calibration,
length bias, and, with --policy and --gold, agreement with a gold judge on a policy's answers. The tiny run takes under 45 s on 2 cores.
"""

import json
import random
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from recipes.run.cli import command, parse
from recipes.run.finetune import DataConfig, load_tokenizer
from recipes.run.run import Run, RunConfig
from recipes.run.stage import Stage
from reward.train import RewardTrainingConfig
from sft.lora import LoRAConfig

STAGE = Stage(
    "reward_model", kind="preferences", purpose="a reward model: one score for a prompt and an answer", trains=True
)


@dataclass(frozen=True)
class RewardModelConfig:
    """Where it starts, and what it is measured on. `data` holds the pairs to learn from."""

    model: str = field(metadata={"help": "checkpoint whose weights it starts from"})
    heldout: str | None = None  # pairs to measure on; None: a part of `data`, split off by prompt
    heldout_fraction: float = 0.2  # of the prompts, where `heldout` is None
    reference_answers: int = 512  # answers from the training pairs whose scores become mean 0 and standard deviation 1
    ensemble: int = 1  # models of so many seeds; the first is the run's model, the others go to ensemble/
    policy: str | None = None  # checkpoint whose answers the model will judge
    policy_prompts: str | None = None  # prompts for it, with the columns that `gold` wants
    policy_prompts_at_most: int = 64
    policy_answers: int = 8  # to each prompt; best-of-n is measured up to this n
    max_new_tokens: int = 64
    gold: str | None = field(
        default=None, metadata={"help": "judge of the policy's answers, by its name in recipes.judges"}
    )

    def __post_init__(self) -> None:
        if self.ensemble < 1:
            raise ValueError(f"ensemble must be at least 1, got {self.ensemble}")
        if self.heldout is None and not 0 < self.heldout_fraction < 1:
            raise ValueError(
                f"heldout_fraction must be in (0, 1) where no heldout pairs are given, got {self.heldout_fraction}"
            )
        if len({self.policy is None, self.policy_prompts is None, self.gold is None}) > 1:
            raise ValueError("policy, policy_prompts and gold go together: give all three, or none")


@dataclass(frozen=True)
class RewardLoRAConfig(LoRAConfig):
    """Every weight unless an adapter is asked for."""

    use_peft: bool = False


CONFIG_TYPES = (RunConfig, RewardModelConfig, DataConfig, RewardTrainingConfig, RewardLoRAConfig)


def main(argv: list[str] | None = None) -> Path:
    """Run the stage; returns its folder."""
    run_config, config, data, training, lora = parse(*CONFIG_TYPES, argv=argv)
    from base_model.checkpoints import write_text_atomically
    from reward.tables import tables
    from reward.verdict import checks, findings

    others = [path for path in (config.heldout, config.policy_prompts) if path]
    parents = dict.fromkeys(path for path in (config.model, config.policy) if path)
    settings = (config, data, training, lora)
    run = Run.start(STAGE, run_config, settings, parents=list(parents), data=[data.data, *others])
    with run.checking():
        tokenizer = load_tokenizer(config.model)
        train, heldout = read_pairs(run, data, config, training, tokenizer)
        asked = policy_prompts(data, config, run_config.seed)
    members = [train_member(run, config, training, lora, tokenizer, train, member) for member in range(config.ensemble)]
    if not run.is_main:
        return run.finish()
    quality = measure_quality(run, config, members, train, heldout, asked)
    write_text_atomically(run.out / "quality.json", json.dumps(quality, indent=1, allow_nan=False) + "\n")
    run.note("quality", quality)
    run.note("findings", findings(quality))
    run.note("tables", tables(quality))  # the report shows them
    for name, passed, detail in checks(quality):
        run.check(name, passed, detail)
    return run.finish()


def read_pairs(run, data: DataConfig, config: RewardModelConfig, training, tokenizer) -> tuple[list[dict], list[dict]]:
    """(train, held-out) pairs that fit the model, no prompt in both; what was left out goes into the record."""
    from base_model.documents import read_like
    from reward.preferences import read_preferences, split_by_prompt, without_heldout
    from reward.quality import check_prompts
    from reward.train import fitting_pairs

    counts: dict[str, Counter[str]] = {"data": Counter(), "train": Counter(), "heldout": Counter()}
    pairs = read_preferences(data.source, counts=counts["data"], tokenizer=tokenizer)
    if config.heldout is None:
        train, heldout = split_by_prompt(pairs, config.heldout_fraction, run.config.seed)
    else:
        heldout = read_preferences(
            read_like(data.source, config.heldout), counts=counts["heldout"], tokenizer=tokenizer
        )
        train = without_heldout(pairs, heldout, counts["train"])
    limit, cut = longest_row(config, training), training.cut_long_prompts
    train, heldout = (
        [pair for pair, *_ in fitting_pairs(tokenizer, some, limit, counts[name], cut_long_prompts=cut)]
        for name, some in (("train", train), ("heldout", heldout))
    )
    check_prompts(heldout)
    counts["train"]["pairs"], counts["heldout"]["pairs"] = len(train), len(heldout)
    if not heldout:
        raise ValueError(
            f"no held-out pair is left to measure on, of {len(pairs)} in {data.data} ({dict(+counts['heldout'])}): raise "
            "heldout_fraction, or give heldout"
        )
    run.note("pair_counts", {name: dict(+counted) for name, counted in counts.items()})
    return train, heldout


def longest_row(config: RewardModelConfig, training) -> int:
    """Tokens of prompt and answer: what is asked for, else the model's context."""
    from transformers import AutoConfig

    from base_model.loading import context_length

    return training.max_length or context_length(AutoConfig.from_pretrained(config.model, trust_remote_code=False))


def train_member(run, config, training, lora, tokenizer, train: list[dict], member: int) -> Any:
    """The member's centred RewardModel, saved (None but on the main process).

    The first member is the run's model, and goes on from its newest checkpoint; one that is done is read back from its folder."""
    from base_model.precision import find_device
    from recipes.run.run import save_checkpoint
    from reward.model import RewardModel, encode_answers, readers_tokenizer
    from reward.train import finished, load_for_reward, make_trainer
    from sft.lora import finish_adapter
    from sft.training import whole_model

    seed = run.config.seed + member
    folder = run.out / "ensemble" / f"seed-{seed}" if member else run.out
    is_whole = (folder / "config.json").is_file() and not (folder / ".checkpoint.partial").exists()
    if is_whole if member else run.is_trained:  # one that was killed as it was saved is made again
        return RewardModel.load(folder)
    trainer = make_trainer(
        load_for_reward(config.model, seed, lora),
        tokenizer,
        train,
        training if member == 0 else replace(training, save_steps=0),
        output_dir=run.checkpoints / (f"seed-{seed}" if member else ""),
        seed=seed,
        lora=lora,
        callbacks=run.callbacks if member == 0 else (),
    )
    trained = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
    with run.training():
        trainer.train(resume_from_checkpoint=run.resume_from if member == 0 else None)
    model, weights = whole_model(trainer)
    if not run.is_main:
        return None
    cut_to = longest_row(config, training) if training.cut_long_prompts else None

    def centred_and_saved(plain: Any) -> RewardModel:
        reward = finished(plain.to(find_device()), tokenizer, train, config.reference_answers, seed, cut_to=cut_to)
        if member:
            folder.mkdir(parents=True, exist_ok=True)
            save_checkpoint(reward.model, readers_tokenizer(tokenizer), folder)
        else:
            run.save(reward.model, readers_tokenizer(tokenizer))
        return reward

    if lora.use_peft:
        rewards: list[RewardModel] = []
        some = encode_answers(
            tokenizer, [pair["prompt"] for pair in train[:4]], [pair["chosen"] for pair in train[:4]], max_length=cut_to
        )
        _, check = finish_adapter(
            model, folder, parent=config.model, prompts=some, weights=weights,
            load=partial(load_for_reward, pad_id=trainer.processing_class.pad_token_id),
            save=lambda plain: rewards.append(centred_and_saved(plain)),
        )  # fmt: skip
        run.note("merge", asdict(check))
        (reward,) = rewards
    else:
        reward = centred_and_saved(model)
    run.note("scale", {"reward_mean": reward.mean, "reward_std": reward.std})
    if not member:
        run.trained(steps=trainer.state.global_step, trained_parameters=trained)
    return reward


def measure_quality(
    run: Run, config, members: list, train: list[dict], heldout: list[dict], asked: list[dict]
) -> dict[str, Any]:
    """All that held-out pairs tell, the ensemble's agreement, and how the policy's answers fare: `reward/quality.py` says what is in it."""
    from reward.on_policy import judge_policy
    from reward.preferences import prompt_key
    from reward.quality import ensemble_report, measure

    prompts = [pair["prompt"] for pair in heldout]
    scores = [
        [member.score(prompts, [pair[side] for pair in heldout]) for side in ("chosen", "rejected")]
        for member in members
    ]
    quality = measure(*scores[0], heldout, train, raw_std=members[0].std)
    if len(members) > 1:
        differences = [[good - bad for good, bad in zip(*of_member, strict=True)] for of_member in scores]
        quality["ensemble"] = ensemble_report(differences, [prompt_key(prompt) for prompt in prompts])
    if config.policy:
        from recipes.judges.registry import resolve

        answers = sample_policy(run, config, asked)
        quality["on_policy"] = judge_policy(members[0], resolve([config.gold])[config.gold], asked, answers)
    return quality


def policy_prompts(data: DataConfig, config: RewardModelConfig, seed: int) -> list[dict]:
    """Rows drawn from the policy's prompts, none without a policy; the judge of its answers is looked for too."""
    from base_model.chat import check_prompt
    from base_model.documents import read_like, read_rows
    from recipes.judges.registry import check_judges

    if not config.policy:
        return []
    check_judges([config.gold])
    source = read_like(data.source, config.policy_prompts)
    rows = [row.fields for row in read_rows(source, ("prompt",), check=lambda fields: check_prompt(fields["prompt"]))]
    if not rows:
        raise ValueError(f"{config.policy_prompts} holds no prompts")
    return random.Random(seed).sample(rows, min(config.policy_prompts_at_most, len(rows)))


def sample_policy(run: Run, config: RewardModelConfig, rows: list[dict]) -> list[list[str]]:
    """The policy's answers to each row's prompt."""
    from transformers import AutoTokenizer

    from base_model.precision import find_device
    from reward.on_policy import sample_answers
    from sft.lora import load_parent

    sampled = sample_answers(
        load_parent(config.policy).to(find_device()).eval(),
        AutoTokenizer.from_pretrained(config.policy, trust_remote_code=False),
        [row["prompt"] for row in rows],
        config.policy_answers,
        max_new_tokens=config.max_new_tokens,
        temperature=1.0,
        top_p=1.0,
        seed=run.config.seed,
    )
    return [[answer["text"] for answer in of_prompt] for of_prompt in sampled]


if __name__ == "__main__":
    command(main)
