"""Packed rows: nothing is lost, and no sequence sees another."""

import pytest
import torch

from sft.arrow import write_dataset
from sft.examples import IGNORED
from sft.packing import RowCollator, pack
from tests.conftest import random_model

TOLERANCE = 1e-5  # logits of size 1 in float32: different mask shapes add up in another order, seen 5e-7
LENGTHS = (30, 17, 9, 25, 3, 12, 31, 2)


def sequences(seed=0, lengths=LENGTHS):
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for length in lengths:
        ids = torch.randint(3, 100, (length,), generator=generator).tolist()
        learnt = torch.rand(length, generator=generator) < 0.6
        labels = [token if is_learnt else IGNORED for token, is_learnt in zip(ids, learnt.tolist(), strict=True)]
        rows.append({"input_ids": ids, "labels": labels})
    return rows


def packed_dataset(tmp_path, rows, row_tokens=40):
    dataset = write_dataset(lambda: rows, tmp_path / "rows.arrow")
    return pack(dataset, tmp_path / "packed.arrow", row_tokens=row_tokens)


def separate(packed):
    """(row number, start, ids, labels) of each packed sequence."""
    for number, row in enumerate(packed):
        start = 0
        for length in row["seq_lengths"]:
            yield number, start, row["input_ids"][start : start + length], row["labels"][start : start + length]
            start += length


def test_packing_keeps_every_token_with_its_label(tmp_path):
    rows = sequences()
    packed = packed_dataset(tmp_path, rows)
    assert len(packed) < len(rows)
    assert max(map(len, packed["input_ids"])) <= 40
    found = sorted((ids, labels) for _, _, ids, labels in separate(packed))
    assert found == sorted((row["input_ids"], row["labels"]) for row in rows)


def test_packing_the_same_rows_twice_gives_the_same_bytes(tmp_path):
    first, second = (packed_dataset(tmp_path / name, sequences()) for name in "ab")
    assert first.to_dict() == second.to_dict()


def test_rows_written_again_replace_the_old_ones(tmp_path):
    """Nothing is taken from a cache that a former run left in the same place."""
    packed_dataset(tmp_path, sequences(seed=0))
    again = packed_dataset(tmp_path, sequences(seed=1))
    assert sorted(ids for _, _, ids, _ in separate(again)) == sorted(row["input_ids"] for row in sequences(seed=1))


def test_a_sequence_longer_than_a_row_is_refused_not_cut(tmp_path):
    with pytest.raises(ValueError, match="a sequence of 31 tokens does not fit into rows of 30"):
        packed_dataset(tmp_path, sequences(), row_tokens=30)


def test_rows_are_no_longer_than_the_longest_sequence_needs(tmp_path):
    rows = packed_dataset(tmp_path, sequences(), row_tokens=None)
    assert max(map(len, rows["input_ids"])) == max(LENGTHS)


def test_positions_restart_and_the_first_token_of_a_sequence_is_not_learnt():
    rows = [
        {"input_ids": [5, 6, 7, 8, 9], "labels": [5, 6, 7, 8, 9], "seq_lengths": [3, 2]},
        {"input_ids": [4, 3], "labels": [4, 3], "seq_lengths": [2]},
    ]
    batch = RowCollator(pad_token_id=0)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [4, 3, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7, -100, 9], [-100, 3, -100, -100, -100]]


def test_a_packed_sequence_gives_the_logits_of_the_sequence_alone(tmp_path, dialect):
    model = random_model(dialect, 100)
    packed = packed_dataset(tmp_path, sequences())
    batch = RowCollator(pad_token_id=0)(list(packed))
    with torch.no_grad():
        logits_BTV = model(batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        for number, start, ids, _ in separate(packed):
            alone_TV = model(torch.tensor([ids])).logits[0]
            torch.testing.assert_close(logits_BTV[number, start : start + len(ids)], alone_TV, atol=TOLERANCE, rtol=0)


def trainer_on(tmp_path, model, tokenizer, packed, flatten=False):
    from trl import SFTConfig, SFTTrainer

    from sft.training import TrainingConfig, trainer_arguments

    layout = {"max_length": None, "packing": False, "padding_free": flatten}
    args = trainer_arguments(SFTConfig, TrainingConfig(precision="fp32"), output_dir=tmp_path / "out", seed=1, **layout)
    collator = None if flatten else RowCollator(0)
    return SFTTrainer(model=model, args=args, data_collator=collator, train_dataset=packed, processing_class=tokenizer)


@pytest.mark.parametrize("flatten", [False, True], ids=["rows", "flattened by TRL"])
def test_the_loss_of_a_packed_batch_is_the_mean_over_the_separate_sequences_learnt_tokens(
    tmp_path, dialect, tokenizer, flatten
):
    """Both layouts that the trainer may use: rows with positions, and (with flash attention) TRL's one flat row."""
    model = random_model(dialect, 100)
    packed = packed_dataset(tmp_path, sequences())
    total, n = 0.0, 0
    with torch.no_grad():
        for _, _, ids, labels in separate(packed):
            logprobs_TV = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            for position in range(1, len(ids)):
                if labels[position] != IGNORED:
                    total, n = total - logprobs_TV[position - 1, ids[position]].item(), n + 1
    trainer = trainer_on(tmp_path, model, tokenizer, packed, flatten)
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(list(packed)))
    assert loss.item() == pytest.approx(total / n, abs=TOLERANCE)
