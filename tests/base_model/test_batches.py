"""The same global batch, shared out over any number of processes."""

import pytest

from base_model.batches import share_batch
from base_model.pretrain_config import PretrainConfig


@pytest.mark.parametrize(
    "processes, rows, passes",
    [(1, 16, 4), (2, 16, 2), (4, 16, 1), (8, 8, 1)],  # 64 rows, at most 16 at once: 64 = 1x16x4 = 2x16x2 = 4x16 = 8x8
)
def test_sixty_four_rows_are_sixty_four_on_any_number_of_processes(processes, rows, passes):
    assert share_batch(64, processes, at_most=16) == (rows, passes)
    config = PretrainConfig(batch_size=64, per_device_train_batch_size=16)
    assert config.for_processes(processes).accumulation == passes
    assert config.rows_per_micro_batch(processes) == rows


def test_without_a_limit_each_process_takes_its_share_at_once():
    assert share_batch(24, 3) == (8, 1)


@pytest.mark.parametrize(
    "batch_size, processes, at_most, message",
    [
        (10, 4, 8, r"batch_size 10 does not divide into 4 process\(es\); give a multiple of 4"),
        (2, 4, 8, r"batch_size 2 does not divide into 4 process\(es\)"),
        (
            96,
            2,
            20,
            "is 48 rows each, which does not divide into passes of per_device_train_batch_size 20; give a divisor",
        ),
    ],
)
def test_a_batch_that_does_not_divide_is_refused(batch_size, processes, at_most, message):
    with pytest.raises(ValueError, match=message):
        share_batch(batch_size, processes, at_most)


def test_pretraining_takes_either_accumulation_or_the_rows_it_follows_from():
    with pytest.raises(
        ValueError, match="accumulation 2 follows from per_device_train_batch_size 4 where that is given"
    ):
        PretrainConfig(accumulation=2, per_device_train_batch_size=4)
    with pytest.raises(ValueError, match="per_device_train_batch_size is 0; it must be at least 1"):
        PretrainConfig(per_device_train_batch_size=0)
