"""The mix of domain and replayed general text."""

import json

import pytest

from base_model.documents import Source
from sft.domain import count_bytes, domain_data


def write(file, texts):
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return Source(str(file))


@pytest.fixture
def sources(tmp_path):
    domain = write(tmp_path / "domain.jsonl", (f"The dog {i} has a sore paw." for i in range(300)))
    general = write(
        tmp_path / "general.jsonl", (f"The old sailor {i} keeps loaves by the harbour bridge." for i in range(900))
    )
    return domain, general


def test_without_replay_only_the_domain_is_read(tokenizer, tmp_path, sources):
    rows, counts = domain_data(sources[0], tokenizer, tmp_path / "rows", context_tokens=64)
    assert set(counts) == {"domain"} and counts["domain"].read == 300
    assert sum(map(len, rows["input_ids"])) == counts["domain"].tokens == counts["domain"].learnt_tokens


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_replay_makes_up_its_share_of_the_bytes(tokenizer, tmp_path, sources, share):
    rows, counts = domain_data(
        sources[0], tokenizer, tmp_path / "rows", context_tokens=64, replay=sources[1], replay_share=share, seed=3
    )
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in rows["input_ids"]]
    replayed = sum(text.count("sailor") for text in texts)
    assert sum(text.count("paw") for text in texts) == 300
    bytes_each = count_bytes(sources[1]) / 900
    got = replayed * bytes_each / (replayed * bytes_each + count_bytes(sources[0]))
    assert got == pytest.approx(share, abs=0.05)  # documents are drawn: standard deviation 0.02
    assert counts["replay"].pieces == replayed


def test_replay_of_less_text_than_asked_for_takes_all_of_it(tokenizer, tmp_path, sources):
    small = write(tmp_path / "small.jsonl", ["The gate."])
    _, counts = domain_data(sources[0], tokenizer, tmp_path / "rows", context_tokens=64, replay=small, replay_share=0.5)
    assert counts["replay"].pieces == 1


def test_a_share_of_0_is_no_replay(tokenizer, tmp_path, sources):
    mixed, counts = domain_data(
        sources[0], tokenizer, tmp_path / "mixed", context_tokens=64, replay=sources[1], replay_share=0.0
    )
    alone, _ = domain_data(sources[0], tokenizer, tmp_path / "alone", context_tokens=64)
    assert counts["replay"].tokens == 0 and mixed["input_ids"] == alone["input_ids"]


def test_a_share_out_of_range_is_refused(tokenizer, tmp_path, sources):
    with pytest.raises(
        ValueError, match="replay_share is a share of the training text, at least 0 and below 1, got 1.0"
    ):
        domain_data(sources[0], tokenizer, tmp_path, context_tokens=64, replay=sources[1], replay_share=1.0)


def test_bytes_are_counted_in_utf_8(tmp_path):
    assert count_bytes(write(tmp_path / "a.jsonl", ["é", "ab"])) == 4
