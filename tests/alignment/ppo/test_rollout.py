"""Episodes: packing by hand, and generation against re-forwards. Tolerance 1e-5 for log-probabilities (float32)."""

import pytest
import torch

from alignment.ppo.rollout import by_length, measure_episodes, pack, sample_responses
from base_model.generate import SamplingConfig, generate
from base_model.sequence import round_up_eighth, token_logprobs
from tests.alignment.ppo.ppo_setup import lively, trainer
from tests.conftest import random_model

V = 60
PROMPTS = [[1, 5, 6, 7], [1, 9], [1, 8, 8, 8, 8, 3], [1]]
SAMPLING = SamplingConfig(max_new_tokens=8, temperature=0.8, stop_token_ids=(2, 10, 20, 30))


@pytest.fixture
def model(dialect):
    return lively(random_model(dialect, V))


def test_pack_by_hand():
    # Row 0: a prompt of 14 tokens, response 7 8 9. Row 1: prompt 5, response 7. Padded with 0 to 20; the longest has 17.
    tokens_BT = torch.tensor([[5] * 14 + [7, 8, 9] + [0] * 3, [5, 7] + [0] * 18])
    packed = pack(tokens_BT, torch.tensor([14, 1]), torch.tensor([3, 1]))
    assert packed.tokens_BT.shape == (2, 18), "cut to the longest row, rounded up"
    assert packed.place_N.tolist() == [13, 14, 15, 18], "the token before each response token, rows of width 18"
    assert packed.target_N.tolist() == [7, 8, 9, 7]
    assert packed.is_response_BR.tolist() == [[True, True, True], [True, False, False]]
    assert packed.spread(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist() == [[1, 2, 3], [4, 0, 0]]


def test_rows_are_not_made_longer_than_they_came():
    tokens_BT = torch.tensor([[5] * 14 + [7, 8, 9], [5, 7] + [0] * 15])
    packed = pack(tokens_BT, torch.tensor([14, 1]), torch.tensor([3, 1]))
    assert packed.tokens_BT.shape == (2, 17) and packed.place_N.tolist() == [13, 14, 15, 17]


def test_batches_by_length_hold_every_row_once_and_neighbours_in_length():
    assert by_length([5, 1, 9, 2, 7], 2) == [[1, 3], [0, 4], [2]]


def test_cached_generation_has_the_logprobs_of_a_re_forward(model):
    made = generate(model, PROMPTS, SAMPLING, pad_id=0, seed=1, want_logprobs=True)
    for prompt, tokens, is_response, logprobs in zip(
        PROMPTS, made.tokens_BR, made.is_response_BR, made.logprobs_BR, strict=True
    ):
        response = tokens[is_response]
        row = torch.tensor([[*prompt, *response.tolist()]])
        with torch.no_grad():
            expected = token_logprobs(model(input_ids=row).logits / 0.8, row)[0, len(prompt) - 1 :]
        torch.testing.assert_close(logprobs[is_response], expected, atol=1e-5, rtol=0)


def test_a_response_ends_with_its_first_stop_token_or_at_the_limit(model):
    responses = sample_responses(model, PROMPTS * 8, SAMPLING, pad_id=0, seed=1)
    assert len(responses) == 32 and {len(response) for response in responses} >= {1, 8}
    for response in responses:
        stops = [i for i, token in enumerate(response) if token in SAMPLING.stop_token_ids]
        assert stops in ([], [len(response) - 1]) and (stops or len(response) == 8)


def test_the_same_seed_samples_the_same_and_leaves_torchs_own_stream_alone(model):
    options = {"pad_id": 0}
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = sample_responses(model, PROMPTS, SAMPLING, seed=7, **options)
    assert torch.get_rng_state().equal(before)
    assert sample_responses(model, PROMPTS, SAMPLING, seed=7, **options) == first
    assert sample_responses(model, PROMPTS, SAMPLING, seed=8, **options) != first


def test_a_share_of_the_rows_samples_what_all_rows_would(model):
    options = {"pad_id": 0, "seed": 5}
    whole = sample_responses(model, PROMPTS, SAMPLING, **options)
    halves = [sample_responses(model, PROMPTS[i : i + 2], SAMPLING, first_row=i, **options) for i in (0, 2)]
    assert halves[0] + halves[1] == whole


def test_an_episodes_numbers_do_not_depend_on_its_neighbours(tmp_path, tokenizer, dialect):
    made = trainer(tmp_path, tokenizer, dialect)
    prompts, responses = [[1, 5, 6], [1], [1, *[9] * 27]], [[7, 8, 2], [4], [5, 5, 5, 5, 5]]
    options = {"stop_token_ids": [2], "pad_id": 0, "device": "cpu"}
    together = measure_episodes(made.wrapped, prompts, responses, batch_size=3, context_tokens=35, **options)
    assert together.is_stopped_B.tolist() == [True, False, False]
    assert together.tokens_BT.shape == (3, 35), "a longest row of 33 goes up to 36, but not past the context"
    for row in range(3):
        alone = measure_episodes(
            made.wrapped, prompts[row : row + 1], responses[row : row + 1], batch_size=1, context_tokens=64, **options
        )
        for name in ("logprob_BR", "reference_BR", "value_BR", "entropy_BR"):
            expected = getattr(alone, name)[0]
            torch.testing.assert_close(getattr(together, name)[row, : len(expected)], expected, atol=1e-5, rtol=0)


def test_rows_are_padded_to_no_more_than_the_shortest_context_of_all_that_read_them(tmp_path, tokenizer):
    longest = int(trainer(tmp_path, tokenizer, max_completion_length=12).rollout(0).tokens_B.max())
    assert round_up_eighth(longest) > longest, "or padding would have nothing to do"
    reference = random_model("gpt2", len(tokenizer), seed=1)
    reference.config.n_positions = longest
    reference.transformer.wpe = torch.nn.Embedding.from_pretrained(reference.transformer.wpe.weight[:longest].detach())
    rollout = trainer(tmp_path, tokenizer, max_completion_length=12, ref_model=reference).rollout(0)
    assert rollout.tokens_BT.shape[1] == longest
