"""Checkpoints from anywhere, read with no weight made up: `load_model`; and what their configs say under many names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")


def context_length(config: Any, *, unstated: int | None = None) -> int:
    """Tokens that a model reads at once, from its transformers config; `unstated` where it has no limit or does not say.

    Raises ValueError if it does not say and `unstated` is None."""
    text_config = config.get_text_config()
    for name in CONTEXT_NAMES:
        value = getattr(text_config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    if unstated is None:
        raise ValueError(
            f"the config of a {config.model_type} model does not say how many tokens it reads at once; set a limit"
        )
    return unstated


def load_model(
    auto_class: Any, checkpoint: Path | str, *, is_new: Callable[[str], bool] = lambda name: False, **options: Any
) -> Any:
    """`auto_class.from_pretrained(checkpoint, **options)`, from safetensors alone, with every weight from the file.

    is_new: which weights may be missing, by name (a head that is trained from here on). Raises ValueError, naming one, if others are
    missing or have another shape than config.json says, and for an architecture that the class does not have."""
    from safetensors import SafetensorError

    try:
        model, loading = auto_class.from_pretrained(
            checkpoint,
            trust_remote_code=False,
            use_safetensors=True,  # other formats can run code
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
            **options,
        )
    except SafetensorError as error:
        raise ValueError(f"the weights of {checkpoint} are damaged: {error}") from None
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        raise ValueError(f"transformers has no {auto_class.__name__} for the kind of model in {checkpoint}") from None
    missing = sorted(str(name) for name in loading["missing_keys"] if not is_new(str(name)))
    other_shape = sorted(str(key[0] if isinstance(key, tuple) else key) for key in loading["mismatched_keys"])
    for names, what in (
        (missing, "lacks weights that its config.json names"),
        (other_shape, "has weights of another shape than its config.json says"),
    ):
        if names:
            raise ValueError(f"{checkpoint} {what}: {names[0]}, {len(names)} in all")
    return model
