"""Text to token ids: a byte-level BPE (or one token a character) behind the ordinary Hugging Face tokenizer class.

Special tokens have the ids 0..5, in the order of SPECIAL_TOKENS, and are all distinct: with pad == eos a model whose padding
is masked out of the loss never learns to stop. The tokenizer adds none of them by itself, so the ids of a prompt are a
prefix of the ids of prompt + completion; what needs them (chat.py, shards.py) puts them in.

Text that spells a special token ("<|eos|>" typed by a user) must not become one. Two things see to that:

* `encode_texts` is how content is encoded: it never looks for special tokens.
* Where only a string reaches the tokenizer (a rendered chat template, in any program that loads the saved files), content is
  first passed through `escape_special`, which puts the Unicode noncharacter U+FDD0 between "<" and "|". No special token
  matches that, and the tokenizer's normaliser, which runs after special tokens were taken out, removes the mark again; so the
  model sees the ordinary bytes "<", "|", "eos", "|", ">". A "<" that is followed by U+FDD0 in the text itself gets a second mark and
  so comes back whole: escaping is one-to-one. U+FDD0 is reserved by Unicode for a program's own use and stands for no text.

The pre-tokeniser cuts between letters and other characters, so no merge can build the string of a special token either.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, SYSTEM, USER, ASSISTANT = SPECIAL_TOKENS = (
    "<|pad|>",
    "<|bos|>",
    "<|eos|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
)
UNKNOWN = "<|unknown|>"  # character tokenizers only: a character that the training text did not hold
ESCAPE = "\ufdd0"
LONGEST_WORD = 256  # bytes of a word that merges are learnt from at once; a longer one is learnt from in pieces
TEXTS_AT_ONCE = 512  # encoded together: the library keeps offsets and masks of all of them beside the ids
# Words with one leading space or mark, digits in pairs at most (so that 1, 12 and 99 are one token each and a small vocabulary is not
# spent on numbers), runs of marks, runs of white space.
WORD_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, *, model_max_length: int = 1024, show_progress: bool = False
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on a stream of texts, which is read once and never held whole.

    vocab_size counts the special tokens and the 256 bytes, so the least is 262; a small text may end below what was asked for.
    Raises ValueError when vocab_size is too small to encode every byte."""
    least = len(SPECIAL_TOKENS) + 256
    if vocab_size < least:
        raise ValueError(
            f"vocab_size {vocab_size} cannot hold the {least} special and byte tokens; use {least} or more"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(Regex("(?<=<)" + ESCAPE), "")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),  # every byte, seen or not
        show_progress=show_progress,
    )
    # Learning takes the square of the longest word's length (a run of letters: DNA, base64, text without spaces); cut, it is linear.
    words = tokenizer.pre_tokenizer
    pieces = pre_tokenizers.Split(Regex(f".{{1,{LONGEST_WORD}}}"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pieces])
    tokenizer.train_from_iterator((escape_special(text) for text in texts), trainer)
    tokenizer.pre_tokenizer = words
    return _as_pretrained(tokenizer, model_max_length)


def character_tokenizer(texts: Iterable[str], *, model_max_length: int = 1024) -> PreTrainedTokenizerFast:
    """One token for each distinct character of `texts`, in code-point order after the special tokens and "<|unknown|>" (id 6).

    A character that `texts` did not hold becomes "<|unknown|>" and is lost; everything else comes back as it was."""
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    vocabulary = {token: i for i, token in enumerate((*SPECIAL_TOKENS, UNKNOWN, *sorted(characters)))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Replace(Regex("(?<=<)" + ESCAPE), "")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([*SPECIAL_TOKENS, UNKNOWN])
    return _as_pretrained(tokenizer, model_max_length, unk_token=UNKNOWN)


def escape_special(text: str) -> str:
    """`text` with a mark in everything that could spell a special token; one-to-one, undone by the tokenizer's normaliser."""
    return text.replace("<" + ESCAPE, "<" + ESCAPE + ESCAPE).replace("<|", "<" + ESCAPE + "|")


def with_role_tokens(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A tokenizer with the role tokens, an end and a padding token, and the normaliser that undoes `escape_special`.

    Itself if it has all that; else a new one, whose tokenizer.json says everything about it: missing tokens stand at its end, every
    other id is as it was."""
    names = {name: getattr(tokenizer, name) for name in ("bos_token", "unk_token")}
    names |= {"eos_token": tokenizer.eos_token or EOS, "pad_token": tokenizer.pad_token or PAD}
    wanted = [names["pad_token"], names["eos_token"], SYSTEM, USER, ASSISTANT]
    if knows_escape(tokenizer) and tokenizer.get_vocab().keys() >= set(wanted):
        return tokenizer
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    undo = normalizers.Replace(Regex("(?<=<)" + ESCAPE), "")
    backend.normalizer = normalizers.Sequence([undo, backend.normalizer]) if backend.normalizer else undo
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in wanted])
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        clean_up_tokenization_spaces=False,
        **{name: token for name, token in names.items() if token is not None},
    )


def encode_texts(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text as content: no special token is added, and none is recognised in the text.

    Works with any fast tokenizer; those made here also bring back every character (see the module's text)."""
    is_escaped, backend = knows_escape(tokenizer), tokenizer.backend_tokenizer
    if is_escaped:
        backend.no_truncation()  # a trainer may have left these on; content is always whole here
        backend.no_padding()
    ids: list[list[int]] = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        batch = list(texts[start : start + TEXTS_AT_ONCE])
        if is_escaped:
            encodings = backend.encode_batch_fast([escape_special(text) for text in batch], add_special_tokens=False)
            ids += [encoding.ids for encoding in encodings]
        else:
            ids += tokenizer(batch, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def encode_text(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Ids of one text as content; see `encode_texts`."""
    return encode_texts(tokenizer, [text])[0]


def knows_escape(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Does this tokenizer undo `escape_special`? True for the ones made in this file, saved and loaded again or not."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    return normalizer is not None and normalizer.normalize_str("<" + ESCAPE + "|") == "<|"


def padding_id(tokenizer: PreTrainedTokenizerFast, ends: Collection[int] = ()) -> int:
    """An id to pad with that ends nothing: the padding token's, or where there is none or it is among `ends` (GPT-2 has none, SmolLM2
    pads with its end), a token that is kept for such uses, else any. For rows whose padding is masked; the tokenizer is left alone."""
    ends = {*ends, tokenizer.eos_token_id}
    spare = [i for i, token in tokenizer.added_tokens_decoder.items() if re.search("pad|reserved", str(token), re.I)]
    candidates = [tokenizer.pad_token_id, *spare, tokenizer.unk_token_id, *range(len(tokenizer))]
    return next(i for i in candidates if i is not None and i not in ends)


def with_padding(tokenizer: PreTrainedTokenizerFast, pad_id: int) -> PreTrainedTokenizerFast:
    """A copy whose padding token is `pad_id`, for trainers that take it from the tokenizer, or write another into it."""
    padded = copy.deepcopy(tokenizer)
    padded.pad_token = tokenizer.convert_ids_to_tokens(pad_id)
    return padded


def _as_pretrained(tokenizer: Tokenizer, model_max_length: int, **names: str) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast  # late: takes seconds

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=model_max_length,
        padding_side="left",  # generation continues the right end
        clean_up_tokenization_spaces=False,
        **names,
    )
