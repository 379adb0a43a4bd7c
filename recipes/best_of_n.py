"""Best-of-n: no training; the model answers n times, the reward model keeps one answer. What every aligned model must be held against.

    python -m recipes.best_of_n --config recipes/configs/tiny/best_of_n.yaml
    python -m recipes.compare runs/tiny/lora_sft runs/tiny/ppo runs/tiny/dpo runs/tiny/best_of_n

The run folder holds no weights, but an evaluation on the suite's prompts as any model's: `recipes.compare` shows its win rates, raw and
at equal length, beside the others', its KL as the bound that it is (kl_nats_bound), and what an answer costs (sampled_tokens).
"""

from dataclasses import dataclass, field
from pathlib import Path

from recipes.run.cli import command, parse
from recipes.run.run import Run, RunConfig
from recipes.run.stage import Stage

STAGE = Stage("best_of_n", kind="alignment")


@dataclass(frozen=True)
class BestOfNConfig:
    """Who answers, and who chooses."""

    model: str = field(metadata={"help": "checkpoint that answers"})
    reward_model: str = field(metadata={"help": "folder of the reward model that keeps one answer"})
    n: int = 8  # answers to a prompt

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n must be at least 1, got {self.n}")


CONFIG_TYPES = (RunConfig, BestOfNConfig)


def main(argv: list[str] | None = None) -> Path:
    """Measure it; returns the run folder."""
    run_config, config = parse(*CONFIG_TYPES, argv=argv)
    if run_config.evaluation is None:
        raise ValueError("best-of-n is measured, not trained: say on what with --evaluation SUITE.yaml")
    from alignment.best_of_n import evaluate_best_of_n
    from eval.suite import Suite
    from recipes.judges.registry import judges_of
    from reward.model import RewardModel

    suite = Suite.load(run_config.evaluation)
    run = Run.start(STAGE, run_config, config, parents=[config.model, config.reward_model])
    reward = RewardModel.load(config.reward_model)
    reward.cut_long_prompts()
    result = evaluate_best_of_n(config.model, suite, reward.score, config.n, judges=judges_of(suite))
    result.save(run.out)
    run.note("seconds_per_prompt", result.cost["seconds_per_prompt"])
    return run.finish()


if __name__ == "__main__":
    command(main)
