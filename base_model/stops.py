"""Where an answer ends: the same ids for every stage that generates, and for the rows that preferences are learnt from.

A tokenizer names one end token, a checkpoint may list several (`generation_config.eos_token_id`), and a chat template may end a turn with
yet another; a model that learnt to say any of them has stopped, so generation stops at all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWER = "plumbline"  # looked for in what a template writes


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, model: Any = None) -> tuple[int, ...]:
    """The tokenizer's end, the end of the template's turns, and the model's own list, in ascending order; only ids that the tokenizer has.

    Raises ValueError if that leaves none: no answer could end itself."""
    listed = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = listed if isinstance(listed, (list, tuple)) else [listed]
    known = set(tokenizer.get_vocab().values())
    stops = {tokenizer.eos_token_id, template_end_id(tokenizer), *listed} & known
    if not stops:
        raise ValueError("the tokenizer has no end token (eos) and the model lists none, so no answer could end itself")
    return tuple(sorted(stops))


def answer_end_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id after an answer in a row: what the chat template writes there, else the tokenizer's end; None where it has none."""
    end = template_end_id(tokenizer)
    return tokenizer.eos_token_id if end is None else end


def template_end_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that the chat template writes behind what the assistant says; None where that is ordinary text, or nothing."""
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        return None
    turn = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": ANSWER}]
    try:
        text = tokenizer.apply_chat_template(turn, tokenize=False)
    except (TemplateError, ValueError, TypeError):
        return None  # a template that is broken, or wants other turns, says so where rows go through it
    written = tokenizer(text.rpartition(ANSWER)[2], add_special_tokens=False)["input_ids"]
    for place, token in enumerate(written):
        if token in tokenizer.added_tokens_decoder:
            return None if tokenizer.decode(written[:place]).strip() else token
    return None
