"""Shards and loader: every token once an epoch, any step at once, damage named, memory fixed."""

import json
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from base_model import shards, untrained
from base_model.shards import (
    CurriculumLoader,
    ShardIndex,
    ShardLoader,
    SideBySide,
    permute,
    tokenizer_sha256,
    verify_shards,
    write_shards,
)
from base_model.tokenizer import encode_text, train_tokenizer

BOS, EOS = 1, 2
TEXTS = [f"Document {i} says {'so ' * (i % 7)}<|eos|> and ends." for i in range(60)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 300)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "out"
    write_shards(iter(TEXTS), tokenizer, folder, shard_tokens=400)
    return folder


def read_back(folder):
    """Tokens of each shard, read with numpy from the documented layout."""
    index = json.loads((folder / "index.json").read_text())
    return [np.fromfile(folder / shard["file"], dtype="<u2") for shard in index["shards"]]


def test_shards_hold_every_document_between_bos_and_eos(folder, tokenizer):
    expected = [token for text in TEXTS for token in (BOS, *encode_text(tokenizer, text), EOS)]
    parts = read_back(folder)
    assert np.concatenate(parts).tolist() == expected
    assert len(parts) > 2 and all(part[0] == BOS and part[-1] == EOS for part in parts)  # cut at document ends only


def test_the_index_counts_what_was_written(folder, tokenizer):
    index = ShardIndex.load(folder)
    assert index.documents == len(TEXTS) and index.bytes == sum(len(text.encode()) for text in TEXTS)
    assert index.tokens == sum(map(len, read_back(folder))) == sum(shard.tokens for shard in index.shards)
    assert (index.dtype, index.vocab_size, index.eos_token_id) == ("uint16", 300, EOS)
    assert index.tokenizer_sha256 == tokenizer_sha256(tokenizer)
    used = set(np.concatenate(read_back(folder)).tolist())
    assert untrained.read_back(index.unused_ids) == set(range(300)) - used


def test_a_tokenizers_hash_is_of_its_vocabulary_and_rules_not_of_its_padding(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    loaded(["a", "a b c"], padding=True, truncation=True, max_length=2)
    assert tokenizer_sha256(loaded) == tokenizer_sha256(tokenizer)
    assert tokenizer_sha256(train_tokenizer(TEXTS[:5], 270)) != tokenizer_sha256(tokenizer)


def test_a_big_vocabulary_is_kept_in_four_bytes(tmp_path):
    tokenizer = train_tokenizer(["a b"], 262)
    tokenizer.add_tokens([f"extra{i}" for i in range(65_536 - 261)])
    assert write_shards(["ab extra65270"], tokenizer, tmp_path / "s").dtype == "uint32"
    ids = np.fromfile(tmp_path / "s" / "00000.bin", dtype="<u4").tolist()
    assert ids == [BOS, *encode_text(tokenizer, "ab extra65270"), EOS] and max(ids) > 65_000


def test_batching_of_the_text_does_not_change_the_shards(folder, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "BATCH_CHARS", 1)
    write_shards(TEXTS, tokenizer, tmp_path / "s", shard_tokens=400)
    assert [p.read_bytes() for p in sorted((tmp_path / "s").iterdir())] == [
        p.read_bytes() for p in sorted(folder.iterdir())
    ]


def test_an_interrupted_write_leaves_nothing_and_keeps_what_was_there(folder, tokenizer, tmp_path):
    def broken():
        yield from TEXTS
        raise KeyboardInterrupt

    write_shards(TEXTS[:3], tokenizer, tmp_path / "s")
    with pytest.raises(KeyboardInterrupt):
        write_shards(broken(), tokenizer, tmp_path / "s")
    assert [p.name for p in tmp_path.iterdir()] == ["s"] and ShardIndex.load(tmp_path / "s").documents == 3


def test_no_text_and_no_eos_are_refused(tokenizer, tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    with pytest.raises(ValueError, match="there is no text to write shards of"):
        write_shards([], tokenizer, tmp_path / "s")
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0}, merges=[])))
    with pytest.raises(ValueError, match="the tokenizer has no eos token"):
        write_shards(["a"], bare, tmp_path / "s")
    assert not list(tmp_path.iterdir())


def test_a_damaged_shard_is_named(tokenizer, tmp_path):
    folder = tmp_path / "s"
    write_shards(TEXTS, tokenizer, folder, shard_tokens=400)
    verify_shards(folder)
    data = bytearray((folder / "00001.bin").read_bytes())
    data[100] ^= 1
    (folder / "00001.bin").write_bytes(data)
    with pytest.raises(ValueError, match="s: 00001.bin does not match the checksum in index.json"):
        verify_shards(folder)
    (folder / "00001.bin").write_bytes(data[:-2])
    with pytest.raises(ValueError, match=r"00001.bin has \d+ bytes instead of \d+; write the shards again"):
        ShardLoader(folder, 8, 2)
    (folder / "00001.bin").unlink()
    with pytest.raises(FileNotFoundError, match="00001.bin is missing"):
        ShardLoader(folder, 8, 2)
    with pytest.raises(ValueError, match="00001.bin does not match"):
        verify_shards(folder)
    (folder / "index.json").write_text('{"dtype": 1}')
    with pytest.raises(ValueError, match="index.json is not an index of token shards"):
        ShardIndex.load(folder)
    with pytest.raises(FileNotFoundError, match="has no index.json, so it holds no token shards"):
        ShardIndex.load(tmp_path)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 1000, 4097])
def test_permute_visits_every_place_once(n):
    for keys in ((0,) * 6, tuple(range(7, 13))):
        assert sorted(permute(i, n, keys) for i in range(n)) == list(range(n))


def test_permute_is_spread_evenly_and_pulls_neighbours_apart():
    """Over many keys, where place 0 goes, and how far from it place 1 goes, fall evenly into 10 bins.

    Chi-square, 9 degrees of freedom, p = 0.001: 27.9. n = 300 is far below any real corpus (at a few dozen it is less even)."""
    keys = np.random.default_rng(0).integers(0, 1 << 63, (20_000, shards.ROUNDS)).tolist()
    places = np.array([(permute(0, 300, tuple(k)), permute(1, 300, tuple(k))) for k in keys])
    for values in (places[:, 0], (places[:, 1] - places[:, 0] - 1) % 300):
        counts = np.bincount(values // 30, minlength=10)
        assert ((counts - 2000) ** 2 / 2000).sum() < 27.9 + 5, counts  # + 5: the distance has 299 values, not 300


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_reads_every_window_once_and_no_token_twice(folder, shuffle):
    loader = ShardLoader(folder, 16, 4, shuffle=shuffle)
    rows = np.concatenate([loader.batch(step)["tokens_BT"] for step in range(-(-loader.windows // 4))])[
        : loader.windows
    ]
    predicted = Counter(rows[:, 1:].flatten().tolist())
    available = Counter(np.concatenate([part[1:] for part in read_back(folder)]).tolist())
    assert all(count <= available[token] for token, count in predicted.items())
    # at most a window's worth at either end of each of the shards is left out
    ends = (2 if shuffle else 1) * 16 * len(read_back(folder))
    assert predicted.total() >= available.total() - ends


def test_without_shuffle_windows_come_in_file_order_and_overlap_by_one_token(folder):
    loader = ShardLoader(folder, 16, 3, shuffle=False)
    first = read_back(folder)[0].astype(np.int64)
    tokens = loader.batch(0)["tokens_BT"]
    assert tokens.dtype == torch.int64 and tokens.shape == (3, 17)
    assert tokens.tolist() == [first[16 * row : 16 * row + 17].tolist() for row in range(3)]


def test_every_row_is_a_piece_of_one_shard(folder):
    text = [part.astype(np.int64).tobytes() for part in read_back(folder)]
    for step in range(20):
        for row in ShardLoader(folder, 16, 2, seed=3).batch(step)["tokens_BT"].numpy():
            assert any(row.tobytes() in part for part in text)


def test_epochs_differ_in_order_and_in_cut(tokenizer, tmp_path):
    letters = np.random.default_rng(0).choice(list("abcdefghij"), 3000)
    write_shards(["".join(letters[:2000]), "".join(letters[2000:])], tokenizer, tmp_path / "s", shard_tokens=500)
    loader = ShardLoader(tmp_path / "s", 16, 1, seed=5)
    windows = [tuple(loader.batch(step)["tokens_BT"][0].tolist()) for step in range(6 * loader.windows)]
    epochs = [windows[i : i + loader.windows] for i in range(0, len(windows), loader.windows)]
    assert all(len(set(epoch)) == loader.windows > 100 for epoch in epochs)
    # 16 possible cuts of each of two shards: 6 epochs share a few of them, never most
    assert len(set(windows)) > 4 * loader.windows


def test_the_same_seed_gives_the_same_batch_at_any_step_in_any_order(folder):
    ahead, fresh = ShardLoader(folder, 16, 4, seed=1), ShardLoader(folder, 16, 4, seed=1)
    in_order = {step: ahead.batch(step)["tokens_BT"] for step in range(30)}
    for step in (29, 3, 1_000_000, 17):
        assert torch.equal(fresh.batch(step)["tokens_BT"], in_order.get(step, ahead.batch(step)["tokens_BT"]))
    assert not torch.equal(ShardLoader(folder, 16, 4, seed=2).batch(3)["tokens_BT"], in_order[3])
    assert torch.equal(pickle.loads(pickle.dumps(ahead)).batch(3)["tokens_BT"], in_order[3])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 200))
def test_the_ranks_together_read_what_one_process_reads(folder, world_size, batch_size, step):
    whole = ShardLoader(folder, 16, batch_size * world_size, seed=1).batch(step)["tokens_BT"]
    parts = [
        ShardLoader(folder, 16, batch_size, seed=1, rank=rank, world_size=world_size).batch(step)["tokens_BT"]
        for rank in range(world_size)
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_document_ids_count_up_after_each_end_token(folder):
    batch = ShardLoader(folder, 60, 4, seed=1).batch(0)
    assert batch["document_ids_BT"].max() > 0
    for tokens, documents in zip(batch["tokens_BT"].tolist(), batch["document_ids_BT"].tolist(), strict=True):
        seen = 0
        for token, document in zip(tokens, documents, strict=True):
            assert document == seen
            seen += token == EOS


def test_a_corpus_of_one_window_is_read_whole_and_a_shorter_one_refused(tokenizer, tmp_path):
    tokens = write_shards(["abcdefgh"], tokenizer, tmp_path / "s").tokens
    batch = ShardLoader(tmp_path / "s", tokens - 1, 3).batch(7)["tokens_BT"]
    assert batch.tolist() == [read_back(tmp_path / "s")[0].tolist()] * 3
    with pytest.raises(ValueError, match=f"has {tokens} tokens and no shard with {tokens + 1} in a row; use a shorter"):
        ShardLoader(tmp_path / "s", tokens, 1)


def test_impossible_sizes_are_refused(folder):
    with pytest.raises(ValueError, match="context_length 0, batch_size 1 and world_size 1 must be at least 1"):
        ShardLoader(folder, 0, 1)
    with pytest.raises(ValueError, match="and rank below world_size|rank 2 below world_size"):
        ShardLoader(folder, 8, 1, rank=2, world_size=2)


def test_maps_are_opened_anew_so_that_resident_memory_stays_fixed(folder, monkeypatch):
    monkeypatch.setattr(shards, "MAPPED_ROWS", 5)
    loader, reference = ShardLoader(folder, 16, 4, seed=1), ShardLoader(folder, 16, 4, seed=1)
    for step in range(10):
        assert torch.equal(loader.batch(step)["tokens_BT"], reference.batch(step)["tokens_BT"])
        assert loader._rows_mapped <= 5


def test_phases_of_a_curriculum_are_read_in_turn_each_from_its_start(folder):
    first, then, last = (ShardLoader(folder, 8, 2, seed=seed) for seed in (1, 2, 3))
    loader = CurriculumLoader(((first, 3), (then, 2), (last, 1)), main=1)
    expected = [*map(first.batch, range(3)), *map(then.batch, range(2)), *map(last.batch, range(3))]
    for step in (4, 0, 7, 3, 2, 6, 1, 5):  # any step at once; the last phase has no end
        assert torch.equal(loader.batch(step)["tokens_BT"], expected[step]["tokens_BT"])
    assert (loader.batch_size, loader.windows) == (2, then.windows)
    with pytest.raises(ValueError, match=r"\(2, 8\) and \(3, 8\)"):
        CurriculumLoader(((first, 1), (ShardLoader(folder, 8, 3), 1)))


def test_two_corpora_side_by_side_give_each_their_rows_and_every_number_of_ranks_the_same(folder):
    first, second = ShardLoader(folder, 8, 4, seed=1), ShardLoader(folder, 8, 2, seed=2)
    whole = SideBySide((first, second))
    assert (whole.batch_size, whole.context_length, whole.windows) == (6, 8, first.windows + second.windows)
    for name, rows in whole.batch(5).items():
        assert torch.equal(rows, torch.cat([first.batch(5)[name], second.batch(5)[name]]))
        for ranks in (2, 3):
            shared = [SideBySide((first, second), rank, ranks).batch(5)[name] for rank in range(ranks)]
            assert torch.equal(rows, torch.cat(shared))
    with pytest.raises(ValueError, match="6 rows side by side do not divide by 4 processes"):
        SideBySide((first, second), 0, 4)
