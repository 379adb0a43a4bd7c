"""Are two tokenizers one? Decided by what the loaded tokenizers do, since one tokenizer has many files.

`save_pretrained` writes another tokenizer.json than the one it read (merges as pairs instead of strings, keys that were not there, another
class), and every text still has the same ids. So what is compared, and hashed into a run's record, is the vocabulary, the special tokens,
and the ids of texts: a few that are known to divide tokenizers, and the text of every token of the vocabulary, which tells merges apart.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAMED = ("bos_token", "eos_token", "unk_token")  # the padding token is how a caller batches: it makes no ids of a text
PROBES = (
    "Who goes there? The king's 12,345 men, and 7 more.",
    " a leading space, a trailing one \n\n  two  spaces\tand a tab\r\n",
    "H\u00e4user, cafe\u0301 and caf\u00e9, \u0130stanbul, \ufb01ne \u2014 \u201cquoted\u201d\u2026",
    "\u4f60\u597d\uff0c\u4e16\u754c \u0645\u0631\u062d\u0628\u0627 \u043f\u0440\u0438\u0432\u0435\u0442 \U0001f468\u200d\U0001f469",
    "def f(x):\n    return {'a': x ** 2}  # <b>&amp;</b> </s><s> <|endoftext|>",
)
TOKENS_A_PROBE = 256


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """One hash for how a tokenizer turns text into ids; the same before and after `save_pretrained`."""
    about = [tokenizer.get_vocab(), special_tokens(tokenizer), probe_ids(tokenizer, probes(tokenizer))]
    return _sha256(about)


def template_sha256(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """One hash for the chat template, or for the named ones together; None without any."""
    return _sha256(tokenizer.chat_template) if tokenizer.chat_template else None


class Difference(NamedTuple):
    what: str  # tokenizer, or chat template
    why: str


def tokenizer_difference(parent: PreTrainedTokenizerBase, child: PreTrainedTokenizerBase) -> Difference | None:
    """What `child` does otherwise than `parent`; None where it can go on in its place.

    A child may have more (tokens with new ids, a special token or a chat template where the parent had none) and pad otherwise."""
    known = child.get_vocab()
    moved = [token for token, number in parent.get_vocab().items() if known.get(token) != number]
    if moved:
        return Difference("tokenizer", f"{len(moved)} tokens have another id or none, such as {min(moved)!r}")
    mine = special_tokens(child)
    for name, token in special_tokens(parent).items():
        if token is not None and mine[name] != token:
            return Difference("tokenizer", f"its {name} is {mine[name]!r}, the parent's {token!r}")
    texts = probes(parent)
    for text, *ids in zip(texts, probe_ids(parent, texts), probe_ids(child, texts), strict=True):
        if ids[0] != ids[1]:
            return Difference("tokenizer", f"it encodes {text[:40]!r} differently")
    if parent.chat_template and parent.chat_template != child.chat_template:
        return Difference("chat template", "it is another text")
    return None


def reloaded(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer as a reader of its saved files gets it."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, str | None]:
    """The tokens that have a name, by name."""
    return {name: None if (token := getattr(tokenizer, name)) is None else str(token) for name in NAMED}


def probes(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Texts whose ids tell this tokenizer from others: PROBES, and the text of every token, TOKENS_A_PROBE of them to a text."""
    ids = sorted(tokenizer.get_vocab().values())
    spelt = tokenizer.batch_decode([[i] for i in ids], clean_up_tokenization_spaces=False)
    joined = (" ".join(spelt[i : i + TOKENS_A_PROBE]) for i in range(0, len(spelt), TOKENS_A_PROBE))
    return [*PROBES, *joined]


def probe_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[list[int]]]:
    """The ids of each text with the tokens that the tokenizer adds by itself, and without."""
    quiet = {"verbose": False}  # a probe is longer than a model's context
    both = [tokenizer(texts, add_special_tokens=adds, **quiet)["input_ids"] for adds in (True, False)]
    return [list(pair) for pair in zip(*both, strict=True)]


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
