"""Token shards on disk, and the loader that finds the batch of any step at once.

A shard folder holds `00000.bin`, `00001.bin`, ... (token ids one after another, uint16 or uint32 by vocabulary) and `index.json` (what
made them, how many tokens each holds, and its sha256). A document is <|bos|> + its ids + <|eos|> (no <|bos|> where the tokenizer
has none) and lies in one shard. The folder appears whole or not at all.

The loader reads windows of T + 1 tokens that step by T, so every token but a shard's very first is predicted once an epoch. Which
window stands at place i of an epoch is a pseudo-random permutation computed from (seed, epoch, i) alone: a Feistel network (Black
and Rogaway 2002), whose domain is a power of 4 and which is applied again while it lands past the end. So there is no list of
windows in memory, and no state to save: `batch(step)` costs the same for every step.

Shapes: B rows of a rank's batch, T + 1 tokens a window (T = context_length).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from base_model.checkpoints import sha256_file, write_atomically
from base_model.tokenizer import encode_texts
from base_model.untrained import written_out

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

INDEX = "index.json"
BATCH_CHARS = 1 << 19  # text handed to the tokenizer at once
ROUNDS = 6  # of the Feistel network
MAPPED_ROWS = 512  # rows read before the maps are opened anew; what was read through them stays in resident memory


@dataclass(frozen=True)
class Shard:
    """One file of tokens."""

    file: str
    tokens: int
    sha256: str


@dataclass(frozen=True)
class ShardIndex:
    """What a shard folder holds."""

    dtype: str  # "uint16" or "uint32", little-endian
    vocab_size: int
    eos_token_id: int
    tokenizer_sha256: str  # of tokenizer.json
    documents: int
    tokens: int  # bos and eos of each document included
    bytes: int  # of the texts, in UTF-8: what bits per byte divides by
    shards: tuple[Shard, ...]
    unused_ids: str | None = (
        None  # tokens that no document holds, as base_model.untrained writes them; None: not counted
    )

    @classmethod
    def load(cls, folder: Path | str) -> ShardIndex:
        """Read index.json; raises FileNotFoundError when the folder is no shard folder."""
        path = Path(folder) / INDEX
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} has no {INDEX}, so it holds no token shards; `python -m recipes.tokenizer` writes them"
            )
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**values, "shards": tuple(Shard(**shard) for shard in values["shards"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is not an index of token shards ({error}); write the shards again") from error


def write_shards(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerFast, folder: Path | str, *, shard_tokens: int = 1 << 26
) -> ShardIndex:
    """Tokenise a stream of documents into `folder` (which appears when all is written, replacing what was there).

    shard_tokens: a shard is closed at the first document end past this. Special strings in a text stay text.
    Raises ValueError when the tokenizer has no eos token or there is no text at all."""
    return write_token_shards(encode_documents(tokenizer, texts), tokenizer, folder, shard_tokens=shard_tokens)


def write_token_shards(
    documents: Iterable[tuple[list[int], int]],
    tokenizer: PreTrainedTokenizerFast,
    folder: Path | str,
    *,
    shard_tokens: int = 1 << 26,
) -> ShardIndex:
    """As `write_shards`, of documents that are ids already: (ids with whatever begins and ends them, bytes of their text)."""
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "the tokenizer has no eos token, so nothing would mark the end of a document; set tokenizer.eos_token"
        )
    dtype = np.dtype("uint16" if len(tokenizer) <= 1 << 16 else "uint32").newbyteorder("<")
    count = byte_count = 0
    with write_atomically(folder) as partial:
        writer = _Writer(partial, shard_tokens, len(tokenizer))
        for ids, text_bytes in documents:
            writer.add(np.array(ids, dtype=dtype))
            count += 1
            byte_count += text_bytes
        writer.close_shard()
        if count == 0:
            raise ValueError("there is no text to write shards of; look at the source and at what cleaning dropped")
        index = ShardIndex(
            dtype=dtype.name,
            vocab_size=len(tokenizer),
            eos_token_id=tokenizer.eos_token_id,
            tokenizer_sha256=tokenizer_sha256(tokenizer),
            documents=count,
            tokens=sum(shard.tokens for shard in writer.shards),
            bytes=byte_count,
            shards=tuple(writer.shards),
            unused_ids=written_out(np.flatnonzero(~writer.is_used_V).tolist()),
        )
        (partial / INDEX).write_text(json.dumps(asdict(index), indent=1) + "\n", encoding="utf-8")
    return index


def verify_shards(folder: Path | str) -> None:
    """Raise ValueError naming every shard whose bytes are not those that were written."""
    folder = Path(folder)
    bad = [shard.file for shard in ShardIndex.load(folder).shards if _is_damaged(folder / shard.file, shard.sha256)]
    if bad:
        raise ValueError(
            f"{folder}: {', '.join(bad)} {'does' if len(bad) == 1 else 'do'} not match the checksum in {INDEX}; write the shards again"
        )


def tokenizer_sha256(tokenizer: PreTrainedTokenizerFast) -> str:
    """What tells one tokenizer from another: the sha256 of what tokenizer.json holds, padding and truncation (a caller's) left out."""
    values = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {name: value for name, value in values.items() if name not in ("padding", "truncation")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode("utf-8")).hexdigest()


class ShardLoader:
    """Batches of token windows: the same for the same seed, at any step at once, and each rank its own rows.

    rank r of world_size reads rows [r * batch_size, (r + 1) * batch_size) of the global batch, so the ranks together read
    what one process reads with batch_size * world_size. With shuffle each epoch has its own order and its own cut into windows (a
    random start of up to T tokens a shard); without, windows come in file order from each shard's first token on.

    Raises FileNotFoundError for a missing folder or shard, ValueError for a shard of the wrong size or when no shard holds a window."""

    def __init__(
        self,
        folder: Path | str,
        context_length: int,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
    ) -> None:
        if min(context_length, batch_size, world_size) < 1 or not 0 <= rank < world_size:
            raise ValueError(
                f"context_length {context_length}, batch_size {batch_size} and world_size {world_size} must be at least 1, "
                f"and rank {rank} below world_size"
            )
        self.folder, self.index = Path(folder), ShardIndex.load(folder)
        self.context_length, self.batch_size, self.seed = context_length, batch_size, seed
        self.rank, self.world_size, self.shuffle = rank, world_size, shuffle
        self._dtype = np.dtype(self.index.dtype).newbyteorder("<")
        for shard in self.index.shards:
            self._check_size(shard)
        tokens = np.array([shard.tokens for shard in self.index.shards])
        whole = np.maximum((tokens - 1) // context_length, 0)
        # one window less leaves room for a random start; a shard with a single window keeps it
        windows = np.where(whole > 1, (tokens - context_length) // context_length, whole) if shuffle else whole
        self._slack = np.where(windows > 0, tokens - 1 - windows * context_length, 0)
        self._ends = np.cumsum(windows)
        self.windows = int(self._ends[-1])  # of one epoch, all ranks together
        if self.windows == 0:
            raise ValueError(
                f"{folder} has {self.index.tokens} tokens and no shard with {context_length + 1} in a row; "
                "use a shorter context_length or more text"
            )
        self._maps: dict[int, np.memmap] = {}
        self._rows_mapped = 0

    @property
    def steps_per_epoch(self) -> float:
        """Steps after which every window was read once (a batch may hold the end of one epoch and the start of the next)."""
        return self.windows / (self.batch_size * self.world_size)

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        """Rows of step 0, 1, ...: tokens_BT (batch_size, context_length + 1) int64, inputs [:, :-1] and targets [:, 1:]; and
        document_ids_BT of the same shape, which counts up after each end-of-document token."""
        import torch

        first = (step * self.world_size + self.rank) * self.batch_size
        tokens = np.empty((self.batch_size, self.context_length + 1), dtype=np.int64)
        for row, (shard, start) in enumerate(self._places(np.arange(first, first + self.batch_size))):
            tokens[row] = self._map(shard)[start : start + self.context_length + 1]
        documents = np.zeros_like(tokens)
        np.cumsum(tokens[:, :-1] == self.index.eos_token_id, axis=1, out=documents[:, 1:])
        return {"tokens_BT": torch.from_numpy(tokens), "document_ids_BT": torch.from_numpy(documents)}

    def _places(self, samples: np.ndarray) -> Iterator[tuple[int, int]]:
        """(shard, first token) of each sample of the endless stream of epochs."""
        started = None
        for epoch, place in zip(*np.divmod(samples, self.windows), strict=True):
            if epoch != started:
                started, (keys, starts) = epoch, self._start_epoch(int(epoch))
            window = permute(int(place), self.windows, keys) if self.shuffle else int(place)
            shard = int(np.searchsorted(self._ends, window, side="right"))
            before = int(self._ends[shard - 1]) if shard else 0
            yield shard, int(starts[shard]) + (window - before) * self.context_length

    def _start_epoch(self, epoch: int) -> tuple[tuple[int, ...], np.ndarray]:
        """The keys of an epoch's permutation, and where in each shard its first window starts."""
        generator = np.random.default_rng([self.seed, epoch])
        keys = tuple(int(key) for key in generator.integers(0, 1 << 63, ROUNDS))
        return keys, generator.integers(0, self._slack + 1) if self.shuffle else np.zeros_like(self._slack)

    def _map(self, shard: int) -> np.memmap:
        self._rows_mapped += 1
        if self._rows_mapped > MAPPED_ROWS:
            self._maps.clear()
            self._rows_mapped = 1
        if shard not in self._maps:
            self._maps[shard] = np.memmap(self.folder / self.index.shards[shard].file, dtype=self._dtype, mode="r")
        return self._maps[shard]

    def _check_size(self, shard: Shard) -> None:
        path = self.folder / shard.file
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; write the shards again")
        expected = shard.tokens * self._dtype.itemsize
        if path.stat().st_size != expected:
            raise ValueError(f"{path} has {path.stat().st_size} bytes instead of {expected}; write the shards again")


@dataclass(frozen=True)
class CurriculumLoader:
    """Batches of several loaders in turn: `phases` are (loader, batches), each read from its first batch; the last has no end.

    As seekable as its loaders; batch_size and windows are the main phase's (`main`, an index). Raises ValueError where a batch of one
    phase differs in shape from another's."""

    phases: tuple[tuple[ShardLoader | SideBySide, int], ...]
    main: int = 0

    def __post_init__(self) -> None:
        shapes = sorted({(loader.batch_size, loader.context_length) for loader, _ in self.phases})
        if len(shapes) > 1:
            raise ValueError(f"phases of a curriculum have batches of {shapes[0]} and {shapes[1]}; they must be alike")

    @property
    def batch_size(self) -> int:
        return self.phases[self.main][0].batch_size

    @property
    def windows(self) -> int:
        return self.phases[self.main][0].windows

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        for loader, batches in self.phases[:-1]:
            if step < batches:
                return loader.batch(step)
            step -= batches
        return self.phases[-1][0].batch(step)


@dataclass(frozen=True)
class SideBySide:
    """Batches whose rows come from several loaders, in their order: corpora at the ratio of the loaders' batch sizes.

    The loaders read the rows of all ranks; rank r of world_size keeps its share of them, in order, so the ranks together have the same
    rows whatever their number. Raises ValueError where the rows do not divide by world_size."""

    loaders: tuple[ShardLoader, ...]
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        rows = sum(loader.batch_size for loader in self.loaders)
        if rows % self.world_size:
            raise ValueError(f"{rows} rows side by side do not divide by {self.world_size} processes")

    @property
    def batch_size(self) -> int:
        return sum(loader.batch_size for loader in self.loaders) // self.world_size

    @property
    def context_length(self) -> int:
        return self.loaders[0].context_length

    @property
    def windows(self) -> int:
        return sum(loader.windows for loader in self.loaders)

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        import torch

        batches = [loader.batch(step) for loader in self.loaders]
        own = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        return {name: torch.cat([batch[name] for batch in batches])[own] for name in batches[0]}


def permute(i: int, n: int, keys: tuple[int, ...]) -> int:
    """Place of i in a pseudo-random permutation of 0..n-1: a Feistel network over the next power of 4, walked back into range.

    Each round is a bijection whatever its mixing function; splitmix64's last step mixes. About 4 walks at most on average, O(1) memory."""
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = i >> half, i & mask
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        i = left << half | right
        if i < n:
            return i


def _mix(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    x = (x ^ x >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return x ^ x >> 31


class _Writer:
    """Documents to shard files, one open at a time."""

    def __init__(self, folder: Path, shard_tokens: int, vocab_size: int) -> None:
        self.folder, self.shard_tokens = folder, shard_tokens
        self.shards: list[Shard] = []
        self.is_used_V = np.zeros(vocab_size, dtype=bool)
        self.file: BinaryIO | None = None

    def add(self, ids: np.ndarray) -> None:
        if self.file is None:
            self.file = open(self.folder / f"{len(self.shards):05d}.bin", "wb")  # noqa: SIM115 - open until it is full
            self.digest, self.tokens = hashlib.sha256(), 0
        self.is_used_V[ids] = True
        data = ids.tobytes()
        self.file.write(data)
        self.digest.update(data)
        self.tokens += len(ids)
        if self.tokens >= self.shard_tokens:
            self.close_shard()

    def close_shard(self) -> None:
        if self.file is not None:
            self.file.close()
            self.shards.append(Shard(Path(self.file.name).name, self.tokens, self.digest.hexdigest()))
            self.file = None


def encode_documents(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> Iterator[tuple[list[int], int]]:
    """(<|bos|> + ids + <|eos|>, bytes in UTF-8) of each text, encoded as content."""
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    for batch in _batches(texts):
        for text, ids in zip(batch, encode_texts(tokenizer, batch), strict=True):
            yield [*begin, *ids, tokenizer.eos_token_id], len(text.encode("utf-8"))


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch, characters = [], 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= BATCH_CHARS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _is_damaged(path: Path, sha256: str) -> bool:
    return not path.is_file() or sha256_file(path) != sha256
