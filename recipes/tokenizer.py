"""The tokenizer, and the text as token shards.

    python -m recipes.tokenizer --config recipes/configs/tiny/tokenizer.yaml
    python -m recipes.tokenizer --config recipes/configs/shakespeare_char/tokenizer.yaml        (one token a character)

Trains a byte-level BPE on the text (or takes the text's characters, or a tokenizer that exists), saves it to output_dir, and writes the
text as shards for pretraining. On the embedded world: 2,048 tokens, 4 characters a token, in about 5 s.
"""

import copy
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from base_model.checkpoints import write_text_atomically
from base_model.documents import Counts, Source, list_files, read_like, read_rows, read_texts
from recipes.run.cli import command, parse
from recipes.run.finetune import DataConfig
from recipes.run.run import Run, RunConfig
from recipes.run.stage import Stage

STAGE = Stage("tokenizer", kind="data")

KINDS = ("bpe", "characters")


@dataclass(frozen=True)
class TokenizerConfig:
    """Which tokenizer, and where its shards go."""

    kind: str = field(default="bpe", metadata={"help": "bpe, characters, or the folder of a tokenizer to use as it is"})
    vocab_size: int = 2048  # tokens, special ones and the 256 bytes among them (bpe)
    model_max_length: int = 1024  # tokens; what the saved tokenizer says of its model
    validation_data: str | None = field(default=None, metadata={"help": "text kept for validation"})
    validation_share: float = field(
        default=0.0, metadata={"help": "or: the last share of the training text's characters, e.g. 0.1"}
    )
    validation_documents: int = field(
        default=0,
        metadata={
            "help": "or: so many first documents, in one pass over a large text; also as <output_dir>/validation.jsonl"
        },
    )
    tokenizer_documents: int | None = field(
        default=None, metadata={"help": "documents that the tokenizer is learnt from, the first to train on; none: all"}
    )
    tokenizer_data: list[str] = field(
        default_factory=list,
        metadata={"help": "more text that the tokenizer is learnt from, such as a later stage's; it makes no shards"},
    )
    conversations: str | None = field(
        default=None,
        metadata={
            "help": "conversations that pretraining may end with, as lora_sft takes them: the tokenizer is learnt from them as well, "
            "and their shards go to <output_dir>/conversations"
        },
    )
    lead_in_data: str | None = field(
        default=None, metadata={"help": "text that pretraining may start with; its shards go to <output_dir>/lead_in"}
    )
    shards: str | None = field(
        default=None, metadata={"help": "folder of the training shards, else <output_dir>/shards"}
    )
    validation_shards: str | None = field(default=None, metadata={"help": "else <output_dir>/validation"})
    shard_tokens: int = 1 << 26  # a shard is closed at the first document end past this

    def __post_init__(self) -> None:
        if self.kind not in KINDS and not Path(self.kind).is_dir():
            raise ValueError(f"kind is {self.kind!r}; use bpe, characters, or the folder of a tokenizer")
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"validation_share is {self.validation_share}; it must be at least 0 and below 1")
        if sum(map(bool, (self.validation_data, self.validation_share, self.validation_documents))) > 1:
            raise ValueError(
                "validation_data, validation_share and validation_documents exclude each other: give one of them"
            )
        if self.validation_documents < 0:
            raise ValueError(f"validation_documents is {self.validation_documents}; it must not be negative")
        if self.tokenizer_documents is not None and self.tokenizer_documents < 1:
            raise ValueError(f"tokenizer_documents is {self.tokenizer_documents}; it must be at least 1, or left out")


CONFIG_TYPES = (RunConfig, TokenizerConfig, DataConfig)


def main(argv: list[str] | None = None) -> Path:
    """Run the stage; returns its folder."""
    run_config, config, data = parse(*CONFIG_TYPES, argv=argv)
    from base_model.shards import encode_documents, write_token_shards

    run = Run.start(
        STAGE,
        run_config,
        (config, data),
        data=[
            *filter(None, (data.data, config.validation_data, config.lead_in_data, config.conversations)),
            *config.tokenizer_data,
        ],
    )
    others = (config.validation_data, config.lead_in_data, *config.tokenizer_data)
    with run.checking():
        for source in (data.source, *(read_like(data.source, path) for path in others if path)):
            if next(read_texts(source), None) is None:
                raise ValueError(f"{source.path} holds no texts")
        if config.conversations:
            list_files(read_like(data.source, config.conversations))
    counts = Counts()
    cut = None
    if config.validation_share:
        cut = int((1 - config.validation_share) * sum(map(len, read_texts(data.source))))
    first = config.validation_documents
    end = first + config.tokenizer_documents if config.tokenizer_documents else None
    learnt_from = chain(islice(read_texts(data.source, counts), first, end), more_texts(config, data.source))
    tokenizer = make_tokenizer(config, _shown(learnt_from, "tokenizer"))
    tokenizer.save_pretrained(run.out)
    texts = read_texts(data.source)
    kept_back = list(islice(texts, first))
    parts = {"training": (config.shards or run.dir / "shards", until(texts, cut))}
    if config.validation_data:
        validation = read_texts(read_like(data.source, config.validation_data))
    elif cut is not None:
        validation = since(read_texts(data.source), cut)
    elif kept_back:
        lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in kept_back)
        write_text_atomically(run.out / "validation.jsonl", "".join(lines))  # what a suite measures bits per byte on
        validation = iter(kept_back)
    if config.lead_in_data:
        lead_in = read_texts(read_like(data.source, config.lead_in_data))
        parts["lead-in"] = (run.dir / "lead_in", lead_in)
    if config.validation_data or cut is not None or kept_back:
        parts["validation"] = (config.validation_shards or run.dir / "validation", validation)
    run.note("bad_rows_skipped", counts.skipped)
    encoded = {part: (folder, encode_documents(tokenizer, texts)) for part, (folder, texts) in parts.items()}
    if config.conversations:
        source = read_like(data.source, config.conversations)
        encoded["conversations"] = (run.dir / "conversations", encoded_conversations(tokenizer, source, config))
    for part, (folder, documents) in encoded.items():
        shown = _shown(documents, f"{part} shards")
        index = write_token_shards(shown, tokenizer, run.inside(folder), shard_tokens=config.shard_tokens)
        facts = {name: getattr(index, name) for name in ("documents", "tokens", "bytes", "vocab_size", "dtype")}
        run.note(part, {**facts, "folder": str(folder)})
        rate = index.bytes / index.tokens
        print(f"{part}: {index.documents:,} documents, {index.tokens:,} tokens, {rate:.2f} bytes a token -> {folder}")
    return run.finish()


def make_tokenizer(config: TokenizerConfig, texts: Iterator[str]):
    """The tokenizer that the settings ask for."""
    from base_model.tokenizer import character_tokenizer, train_tokenizer

    if config.kind == "bpe":
        return train_tokenizer(texts, config.vocab_size, model_max_length=config.model_max_length)
    if config.kind == "characters":
        return character_tokenizer(texts, model_max_length=config.model_max_length)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(config.kind, trust_remote_code=False)


def more_texts(config: TokenizerConfig, source: Source) -> Iterator[str]:
    """What the tokenizer is learnt from beside the text of the shards: text of later stages, and what is said in conversations."""
    for path in config.tokenizer_data:
        yield from read_texts(read_like(source, path))
    if config.conversations:
        from sft.examples import to_messages

        for row in read_rows(read_like(source, config.conversations), required=()):
            yield from (message["content"] for message in to_messages(row.fields))


def encoded_conversations(tokenizer: Any, source: Source, config: TokenizerConfig) -> Iterator[tuple[list[int], int]]:
    """Conversations in the chat template, as documents of token shards; those longer than a model's context are left out."""
    from base_model.chat import set_chat_template
    from sft.examples import RowCounts, instruction_rows

    chat = set_chat_template(copy.deepcopy(tokenizer))  # the base model's own tokenizer has no template
    limits = {"context_tokens": config.model_max_length, "on_long_rows": "drop"}
    for row in instruction_rows(source, chat, RowCounts(), **limits):
        ids = row["input_ids"]
        yield ids, len(tokenizer.decode(ids, skip_special_tokens=True).encode("utf-8"))


def until(texts: Iterator[str], cut: int | None) -> Iterator[str]:
    """The texts' first `cut` characters (all without a cut); the text that the cut falls into is cut in two."""
    for text in texts:
        if cut is not None and len(text) >= cut:
            if cut:
                yield text[:cut]
            return
        yield text
        cut = None if cut is None else cut - len(text)


def since(texts: Iterator[str], cut: int) -> Iterator[str]:
    """What `until` leaves."""
    for text in texts:
        if len(text) > cut:
            yield text[cut:]
        cut = max(0, cut - len(text))


def _shown(texts: Iterator[Any], what: str) -> Iterator[Any]:
    from tqdm import tqdm

    return iter(tqdm(texts, what, unit=" documents", unit_scale=True, disable=not sys.stderr.isatty(), leave=False))


if __name__ == "__main__":
    command(main)
