"""The base model: a GPT from random weights, trained to predict the next token.

    python -m recipes.pretrain --config recipes/configs/tiny/pretrain.yaml
    python -m recipes.pretrain --preset gpt2-124m --plan               (parameters, FLOPs, memory, time on this machine; trains nothing)
    python -m recipes.pretrain --config recipes/configs/gpu/llama-350m/pretrain.yaml --plan_device h100 --plan_gpus 8    (on those)
    accelerate launch --config_file recipes/configs/accelerate/ddp.yaml -m recipes.pretrain --config ...

`python -m recipes.tokenizer` writes the tokenizer and token shards that this reads. Every preset's sizes can be changed (--d_model 256).
"""

import sys
from dataclasses import dataclass, field, fields
from pathlib import Path

from base_model.pretrain_config import PretrainConfig
from recipes.run.cli import command, parse
from recipes.run.run import Run, RunConfig
from recipes.run.stage import Stage

STAGE = Stage("pretrain", kind="base model", purpose="a GPT pretrained from scratch", trains=True, own_loop=True)

SAMPLE_TOKENS = 64


@dataclass(frozen=True)
class TextConfig:
    """What to learn from: the folder of a tokenizer, and its shards."""

    tokenizer: str | None = field(
        default=None, metadata={"help": "folder of a tokenizer, as recipes.tokenizer writes it"}
    )
    shards: str | None = field(default=None, metadata={"help": "training shards, else <tokenizer>/shards"})
    validation_shards: str | None = field(
        default=None, metadata={"help": "else <tokenizer>/validation where there is one"}
    )
    lead_in_steps: int = field(
        default=0, metadata={"help": "steps on the lead-in shards (<tokenizer>/lead_in) before all others"}
    )
    lead_in_share: float = field(
        default=0.0,
        metadata={
            "help": "of the rows of all later steps, which go on with the lead-in: what is not practised is forgotten"
        },
    )
    conversation_steps: int = field(
        default=0,
        metadata={"help": "last steps, in which part of each batch is conversations (<tokenizer>/conversations)"},
    )
    conversation_share: float = 0.5  # of the rows of those steps
    sample_prompts: list[str] = field(
        default_factory=list, metadata={"help": "texts that samples continue; none: one sample from the start"}
    )

    def __post_init__(self) -> None:
        if min(self.lead_in_steps, self.conversation_steps) < 0:
            raise ValueError("lead_in_steps and conversation_steps must not be negative")
        if not 0 < self.conversation_share <= 1 - self.lead_in_share <= 1:
            raise ValueError(
                f"lead_in_share {self.lead_in_share} must not be negative, conversation_share {self.conversation_share} must be above 0, "
                "and both together at most 1"
            )


@dataclass(frozen=True)
class PlanConfig:
    """What the run would take, said instead of running it."""

    plan: bool = field(default=False, metadata={"help": "say what the run would take, and train nothing"})
    plan_device: str | None = field(
        default=None,
        metadata={"help": "the same for a GPU that need not be here: h100, h200, a100, a100-40gb, l40s, 4090"},
    )
    plan_gpus: int = 1  # how many of them
    plan_mfu: float = 0.4  # share of their FLOP/s that training is assumed to reach

    def __post_init__(self) -> None:
        if self.plan_gpus < 1:
            raise ValueError(f"plan_gpus must be at least 1, got {self.plan_gpus}")


@dataclass(frozen=True)
class ShapeConfig:
    """The model: a preset, and what differs from it."""

    preset: str = "llama-2m"  # base_model.gpt.PRESETS
    context_length: int | None = None  # tokens
    n_layer: int | None = None
    n_head: int | None = None
    n_kv_head: int | None = None
    head_dim: int | None = None
    d_model: int | None = None
    d_ff: int | None = None
    tie_embeddings: bool | None = None
    gradient_checkpointing: bool | None = None

    def model_config(self, **more):
        """The `GPTConfig`; `more` goes on top."""
        from base_model.gpt import preset

        changes = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "preset"}
        return preset(self.preset, **{name: value for name, value in changes.items() if value is not None}, **more)


CONFIG_TYPES = (RunConfig, TextConfig, ShapeConfig, PretrainConfig, PlanConfig)


def main(argv: list[str] | None = None) -> Path | None:
    """Run the stage; returns its folder (None after a plan)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if any(item.startswith("--plan") for item in arguments):
        arguments += ["--output_dir", "unused"]
    run_config, text, shape, training, plan = parse(*CONFIG_TYPES, argv=arguments)
    if plan.plan or plan.plan_device:
        print(planned(text, shape, training, plan))
        return None
    if text.tokenizer is None:
        raise ValueError("--tokenizer is needed: the folder that `python -m recipes.tokenizer` wrote")

    from transformers import AutoTokenizer

    from base_model.chat import set_chat_template
    from base_model.gpt import GPT
    from base_model.plan import flops_per_token
    from base_model.pretrain import join_processes, pretrain
    from base_model.shards import ShardIndex, ShardLoader
    from base_model.untrained import read_back, written_out
    from base_model.validation import token_bytes

    shards = Path(text.shards or Path(text.tokenizer, "shards"))
    validation_shards = Path(text.validation_shards or Path(text.tokenizer, "validation"))
    corpora = [shards, *(Path(text.tokenizer, name) for name, steps in side_corpora(text).items() if steps)]
    settings = (text, shape, training)
    run = Run.start(STAGE, run_config, settings, parents=[text.tokenizer], data=corpora)
    if run.is_trained:
        return run.finish()
    tokenizer = AutoTokenizer.from_pretrained(text.tokenizer, trust_remote_code=False)
    config = shape.model_config(vocab_size=len(tokenizer))
    tokenizer.model_max_length = config.context_length
    if text.conversation_steps:
        set_chat_template(tokenizer)  # the one that its conversations were written in
    encode_prompts(tokenizer, text.sample_prompts, config.context_length)  # one that is too long is refused here
    unused = [ShardIndex.load(folder).unused_ids for folder in corpora]

    processes = join_processes()
    training = training.for_processes(processes.num_processes)
    rows = training.rows_per_micro_batch(processes.num_processes)
    place = {"seed": run_config.seed, "rank": processes.process_index, "world_size": processes.num_processes}
    validation = None
    if text.validation_shards or validation_shards.is_dir():
        validation = ShardLoader(validation_shards, config.context_length, rows, shuffle=False, **place)
    loader = curriculum(text, shards, training, config.context_length, rows, place)
    with run.training():
        result = pretrain(
            GPT(config),
            loader,
            training,
            validation=validation,
            token_bytes_V=token_bytes(tokenizer),
            sample=lambda model: sample(model, tokenizer, text.sample_prompts, run_config.seed),
            checkpoints=run.checkpoints,
            resume_from=run.resume_from,
            mark=run.mark,
            log=run.log,
            progress=run.progress,
            tracker_dir=run.out / "tensorboard",
        )
    run.note("precision", result.precision)
    run.note("flops", flops_per_token(config) * result.tokens)
    run.note("validation", result.metrics)
    if None not in unused:  # what later stages look up: see base_model/untrained.py
        run.note("untrained_token_ids", written_out(set.intersection(*map(read_back, unused))))
    return run.finish(
        result.model, tokenizer, steps=result.steps, tokens=result.tokens, trained_parameters=config.n_parameters
    )


def side_corpora(text: TextConfig) -> dict[str, bool]:
    """Folder of shards beside the main ones, below the tokenizer's -> whether the run reads it."""
    return {"lead_in": text.lead_in_steps > 0 or text.lead_in_share > 0, "conversations": text.conversation_steps > 0}


def curriculum(text: TextConfig, shards: Path, training: PretrainConfig, context_length: int, rows: int, place: dict):
    """The loader of a run: the lead-in, then the text, then text and conversations, each with the lead-in's share; the text's own loader
    where there is neither.

    rows: of a micro-batch in this process; place: seed, rank and world_size. Raises ValueError if no step is left for the text alone, or
    if a share of a micro-batch's rows, those of all processes together, is no whole number."""
    from base_model.shards import CurriculumLoader, ShardLoader, SideBySide

    alone = training.steps - text.lead_in_steps - text.conversation_steps
    if alone < 1:
        raise ValueError(
            f"lead_in_steps {text.lead_in_steps} and conversation_steps {text.conversation_steps} leave none of {training.steps} steps"
        )
    folders = {"text": shards, **{name: Path(text.tokenizer, name) for name in side_corpora(text)}}
    of_all = rows * place["world_size"]

    def mixed(phase: int, **shares: float):
        """Rows of several corpora, in each phase in another order; the text has what the others leave."""
        counts = {name: round(of_all * share) for name, share in shares.items() if share}
        if any(abs(of_all * shares[name] - count) > 1e-6 for name, count in counts.items()):
            told = ", ".join(f"{name} {share}" for name, share in shares.items() if share)
            raise ValueError(
                f"a batch of {of_all} rows has no whole number of rows for the shares {told}; change one of them"
            )
        counts["text"] = of_all - sum(counts.values())
        present = {name: count for name, count in counts.items() if count}
        seed = place["seed"] + phase
        if len(present) == 1:
            return ShardLoader(folders[next(iter(present))], context_length, rows, **{**place, "seed": seed})
        loaders = (ShardLoader(folders[name], context_length, count, seed=seed) for name, count in present.items())
        return SideBySide(tuple(loaders), place["rank"], place["world_size"])

    phases = [(mixed(0, lead_in=text.lead_in_share), alone)]
    if text.lead_in_steps:
        phases.insert(0, (mixed(0, lead_in=1.0), text.lead_in_steps))
    if text.conversation_steps:
        last = mixed(1, lead_in=text.lead_in_share, conversations=text.conversation_share)
        phases.append((last, text.conversation_steps))
    if len(phases) == 1:
        return phases[0][0]
    main = 1 if text.lead_in_steps else 0
    return CurriculumLoader(tuple((loader, steps * training.accumulation) for loader, steps in phases), main)


def planned(text: TextConfig, shape: ShapeConfig, training: PretrainConfig, plan: PlanConfig) -> str:
    """What the run would take. The vocabulary is the tokenizer's where it is there, else the preset's."""
    from base_model.plan import describe, describe_on

    size = {}
    if text.tokenizer and Path(text.tokenizer, "tokenizer.json").is_file():
        from transformers import AutoTokenizer

        size = {"vocab_size": len(AutoTokenizer.from_pretrained(text.tokenizer, trust_remote_code=False))}
    config = shape.model_config(**size)
    if plan.plan_device is None:
        return describe(config, training)
    return describe_on(plan.plan_device, config, training, gpus=plan.plan_gpus, mfu=plan.plan_mfu)


def sample(model, tokenizer, prompts: list[str], seed: int) -> list[str]:
    """What the model writes after each prompt (with none: from the start of a document), the prompt included."""
    from base_model.generate import SamplingConfig, generate

    ids = encode_prompts(tokenizer, prompts, model.config.context_length)
    room = model.config.context_length - max(map(len, ids))
    stops = (tokenizer.eos_token_id,)
    sampling = SamplingConfig(min(SAMPLE_TOKENS, room), temperature=0.8, top_p=0.95, stop_token_ids=stops)
    pad_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    answers = generate(model, ids, sampling, pad_id=pad_id, seed=seed).responses()
    return [
        tokenizer.decode(start + answer, skip_special_tokens=True) for start, answer in zip(ids, answers, strict=True)
    ]


def encode_prompts(tokenizer, prompts: list[str], context_length: int) -> list[list[int]]:
    """Ids of the prompts of samples. Raises ValueError for one that leaves no room for an answer."""
    from base_model.tokenizer import encode_texts

    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    ids = [begin + content for content in encode_texts(tokenizer, prompts or [""])]
    for prompt, of_prompt in zip(prompts, ids, strict=False):
        if len(of_prompt) >= context_length:
            raise ValueError(
                f"sample_prompts: {prompt[:40]!r} is {len(of_prompt)} tokens, and the model reads {context_length}; shorten it"
            )
    return ids


if __name__ == "__main__":
    command(main)
