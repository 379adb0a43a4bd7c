"""Expected numbers: torch, numpy, rows worked by hand. Tolerance 1e-6: float32, V <= 11."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from base_model.sequence import (
    aligned_logprobs,
    entropy_nats,
    is_until_stop,
    masked_mean,
    masked_sum,
    masked_whiten,
    pad_left,
    pad_right,
    position_ids,
    round_up_eighth,
    shift,
    token_logprobs,
)


def test_shift_pairs_each_token_with_the_next():
    inputs, targets = shift(torch.tensor([[5, 6, 7]]))
    assert inputs.tolist() == [[5, 6]] and targets.tolist() == [[6, 7]]


def test_shift_refuses_rows_that_predict_nothing():
    with pytest.raises(ValueError, match=r"T >= 2, got \(3, 1\)"):
        shift(torch.zeros(3, 1))


def test_token_logprobs_equal_log_softmax_of_the_logits_before_each_token():
    torch.manual_seed(0)
    logits, tokens = torch.randn(3, 5, 11), torch.randint(11, (3, 5))
    expected = [[torch.log_softmax(logits[b, t], -1)[tokens[b, t + 1]].item() for t in range(4)] for b in range(3)]
    torch.testing.assert_close(token_logprobs(logits, tokens), torch.tensor(expected), atol=1e-6, rtol=0)


def test_logprobs_are_float32_even_from_bfloat16_logits():
    logits = torch.randn(2, 3, 7).bfloat16()
    got = aligned_logprobs(logits, torch.zeros(2, 3, dtype=torch.long))
    torch.testing.assert_close(got, torch.log_softmax(logits.float(), -1)[..., 0], atol=1e-6, rtol=0)


def test_aligned_logprobs_refuse_unshifted_targets():
    with pytest.raises(ValueError, match=r"targets of shape \(2, 4\), got \(2, 5\)"):
        aligned_logprobs(torch.zeros(2, 4, 7), torch.zeros(2, 5, dtype=torch.long))


def test_entropy_equals_torch_categorical_and_is_log_v_for_equal_logits():
    torch.manual_seed(0)
    logits = torch.randn(4, 9) * 3
    expected = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(entropy_nats(logits), expected, atol=1e-6, rtol=0)
    assert entropy_nats(torch.zeros(8)).item() == pytest.approx(np.log(8), abs=1e-6)


def test_entropy_of_forbidden_tokens_is_finite_with_finite_gradient():
    logits = torch.tensor([0.0, 0.0, -torch.inf], requires_grad=True)
    entropy = entropy_nats(logits)
    entropy.backward()
    assert entropy.item() == pytest.approx(np.log(2), abs=1e-6)
    assert torch.isfinite(logits.grad).all()


def test_masked_mean_and_sum_by_hand():
    values = torch.tensor([[1.0, 2.0, torch.nan], [3.0, torch.inf, torch.nan]])
    is_valid = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_sum(values, is_valid).item() == 6.0
    assert masked_mean(values, is_valid).item() == 2.0
    assert masked_mean(values, is_valid, dim=1).tolist() == [1.5, 3.0]


def test_masked_mean_of_nothing_is_zero():
    assert masked_mean(torch.full((2, 2), torch.nan), torch.zeros(2, 2, dtype=torch.bool)).item() == 0.0


def test_what_is_masked_gets_no_gradient():
    values = torch.tensor([1.0, 2.0, torch.nan], requires_grad=True)
    masked_mean(values, torch.tensor([True, True, False])).backward()
    assert values.grad.tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("mask", [torch.ones(2, 3), torch.ones(3, dtype=torch.bool)])
def test_a_mask_that_is_not_bool_of_equal_shape_is_refused(mask):
    with pytest.raises(ValueError, match=r"expected a bool mask of shape \(2, 3\)"):
        masked_mean(torch.zeros(2, 3), mask)


@given(st.lists(st.tuples(st.floats(-100, 100, width=32), st.booleans()), min_size=2, max_size=30))
def test_whitening_equals_numpy_on_the_valid_values_and_ignores_the_padding(places):
    values = torch.tensor([value for value, _ in places], dtype=torch.float64)
    is_valid = torch.tensor([valid for _, valid in places])
    got = masked_whiten(values, is_valid, eps=1e-8).numpy()
    kept = np.array([value for value, valid in places if valid])
    expected = np.zeros(len(places))
    if len(kept):
        expected[is_valid.numpy()] = (kept - kept.mean()) / np.sqrt(kept.var() + 1e-8)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_array_equal(got, masked_whiten(values.masked_fill(~is_valid, torch.nan), is_valid).numpy())


def test_whitening_gives_mean_0_and_std_1():
    torch.manual_seed(0)
    values, is_valid = torch.randn(6, 5) * 7 + 3, torch.rand(6, 5) < 0.6
    got = masked_whiten(values, is_valid)[is_valid]
    assert got.mean().abs() < 1e-6 and (got.std(correction=0) - 1).abs() < 1e-6


def test_whitening_over_two_processes_equals_whitening_of_their_rows_together():
    torch.manual_seed(0)
    values, is_valid = torch.randn(6, 5), torch.rand(6, 5) < 0.6
    whole = masked_whiten(values, is_valid)
    mean = values[is_valid].double().mean()
    shares = [
        iter([
            torch.stack([values[rows][is_valid[rows]].double().sum(), is_valid[rows].sum().double()]),
            (values[rows][is_valid[rows]].double() - mean).square().sum(),
        ])
        for rows in (slice(0, 2), slice(2, 6))
    ]  # fmt: skip
    first = masked_whiten(values[:2], is_valid[:2], sum_across=lambda tensor: tensor + next(shares[1]))
    torch.testing.assert_close(first, whole[:2], atol=1e-6, rtol=0)


def test_position_ids_count_real_tokens_and_are_0_on_left_padding():
    is_pad = torch.tensor([[True, True, False, False], [False, False, False, True]])
    assert position_ids(is_pad).tolist() == [[0, 0, 0, 1], [0, 1, 2, 2]]


def test_lengths_rounded_up_are_few_and_little_longer():
    assert [round_up_eighth(n) for n in (0, 1, 7, 15, 16, 17, 56, 57, 63, 65, 128, 129, 250)] == [
        0, 1, 7, 15, 16, 18, 56, 60, 64, 72, 128, 144, 256,
    ]  # fmt: skip
    rounded = {n: round_up_eighth(n) for n in range(1, 4097)}
    assert all(n <= longer <= 1.125 * n for n, longer in rounded.items())
    assert len({longer for longer in rounded.values() if 128 < longer <= 256}) == 8


def test_a_response_runs_to_its_first_stop_token_inclusive():
    tokens = torch.tensor([[4, 2, 2, 2], [4, 5, 6, 7], [2, 4, 2, 4], [4, 9, 2, 2]])
    assert is_until_stop(tokens, [2, 9]).tolist() == [
        [True, True, False, False],
        [True, True, True, True],
        [True, False, False, False],
        [True, True, False, False],
    ]


def test_padding_goes_to_the_named_side_and_is_marked():
    left, is_pad_left = pad_left([[1], [2, 3]], pad_id=0)
    right, is_pad_right = pad_right([[1], [2, 3]], pad_id=0)
    assert left.tolist() == [[0, 1], [2, 3]] and is_pad_left.tolist() == [[True, False], [False, False]]
    assert right.tolist() == [[1, 0], [2, 3]] and is_pad_right.tolist() == [[False, True], [False, False]]
