"""What PPOTrainer is given, checked and loaded: model and tokenizer, special tokens, room for an answer, judges, the critic's start."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignment.ppo.config import PPOConfig
from alignment.ppo.scoring import Reward, build_rewards
from base_model import loading
from base_model.stops import stop_token_ids
from base_model.tokenizer import padding_id


def load_model(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """(model, tokenizer), loaded where a path or name is given. Raises ValueError where the tokenizer cannot be known."""
    if isinstance(model, (str, Path)):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = tokenizer or AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        model = loading.load_model(AutoModelForCausalLM, model, dtype=torch.float32)
    if tokenizer is None:
        name = getattr(model.config, "_name_or_path", "")
        if not name:
            raise ValueError(
                "processing_class is missing and the model has no name to load a tokenizer from; pass the tokenizer"
            )
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    return model, tokenizer


def special_ids(tokenizer: Any, args: PPOConfig, model: Any = None) -> tuple[list[int], int]:
    """(stop token ids: those of the config, else all of `base_model.stops`; pad id, which is never one of them: masks come from lengths,
    so it matters to nothing). Raises ValueError if there is no stop token."""
    stops = args.stop_token_ids or stop_token_ids(tokenizer, model)
    outside = [stop for stop in stops if not 0 <= stop < len(tokenizer)]
    if outside:
        raise ValueError(f"stop_token_ids {outside} are not ids of the tokenizer (0 to {len(tokenizer) - 1})")
    return list(stops), padding_id(tokenizer, stops)


def context_tokens(model: Any) -> int:
    """Tokens of the longest row that the model reads; 2**31 where it has no learned or stated limit."""
    return loading.context_length(model.config, unstated=2**31)


def room_tokens(model: Any, args: PPOConfig) -> int:
    """The longest prompt that leaves room for max_completion_length in the model's context. Raises ValueError if none does."""
    context = context_tokens(model)
    if args.max_completion_length >= context:
        raise ValueError(
            f"max_completion_length {args.max_completion_length} leaves no room for a prompt in the model's context of {context}"
        )
    return context - args.max_completion_length


def build_judges(judges: Mapping[str, Any] | None, device: Any) -> list[Reward]:
    """Judges for held-out prompts, each under the name it was given."""
    return [Reward(name, build_rewards(judge, device=device)[0].function) for name, judge in (judges or {}).items()]


def critic_start(rewards: Sequence[Reward], policy: Any) -> Any:
    """The first reward model that reads the policy's tokens, to start a separate critic from; None if there is none."""
    for reward in rewards:
        if (found := reward.model) is not None:
            sizes = {model.config.get_text_config().vocab_size for model in (found.model, policy)}
            if len(sizes) == 1:
                found.model.config.reward_mean, found.model.config.reward_std = found.mean, found.std
                return found.model
    return None
