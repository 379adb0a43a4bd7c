"""Domain fine-tuning: the base model reads on, in a domain's text.

    python -m recipes.domain_sft --config recipes/configs/tiny/domain_sft.yaml
    python -m recipes.domain_sft --config recipes/configs/tiny/domain_sft.yaml --use_peft --learning_rate 2e-3
    python -m recipes.domain_sft --config recipes/configs/tiny/domain_sft.yaml --replay_data general.jsonl --replay_share 0.2

Causal language modelling on packed documents that do not see each other; every weight, or LoRA with --use_peft. What was gained is the
domain's bits per byte, what it cost the general text's, both beside the parent's in the record; replayed general text lowers the cost.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from base_model.documents import read_like
from recipes.run.cli import command, parse
from recipes.run.finetune import DataConfig, context_tokens, load_tokenizer, tune
from recipes.run.run import Run, RunConfig
from recipes.run.stage import Stage
from sft.lora import LoRAConfig
from sft.training import TrainingConfig

STAGE = Stage("domain_sft", kind="fine-tuning", purpose="the base model continued on domain text", trains=True)


@dataclass(frozen=True)
class DomainConfig:
    """The parent, and the general text replayed against forgetting."""

    model: str  # parent checkpoint
    replay_data: str | None = None  # general text
    replay_share: float = 0.2  # of all training text, in bytes, where there is replay_data; 0: none of it


@dataclass(frozen=True)
class DomainLoRAConfig(LoRAConfig):
    """Every weight unless an adapter is asked for."""

    use_peft: bool = False


CONFIG_TYPES = (RunConfig, DomainConfig, DataConfig, TrainingConfig, DomainLoRAConfig)


def main(argv: list[str] | None = None) -> Path:
    """Run the stage; returns its folder."""
    run_config, config, data, training, lora = parse(*CONFIG_TYPES, argv=argv)
    from sft.domain import domain_data

    replay = None
    if config.replay_data and config.replay_share:
        replay = read_like(data.source, config.replay_data)
    sources = [data.data, *([replay.path] if replay else [])]
    run = Run.start(STAGE, run_config, (config, data, training, lora), parents=[config.model], data=sources)
    with run.checking():
        tokenizer = load_tokenizer(config.model)
        rows, counts = domain_data(
            data.source,
            tokenizer,
            run.checkpoints / "data",
            context_tokens=context_tokens(config.model, training),
            packing=training.packing,
            replay=replay,
            replay_share=config.replay_share,
            seed=run_config.seed,
        )
    run.note("rows", {name: asdict(count) for name, count in counts.items()})
    run.note(
        "replayed_tokens_share",
        counts["replay"].tokens / sum(c.tokens for c in counts.values()) if len(counts) > 1 else 0.0,
    )
    if not run.is_trained:
        tune(run, config.model, tokenizer, rows, training, lora)
    return run.finish()


if __name__ == "__main__":
    command(main)
