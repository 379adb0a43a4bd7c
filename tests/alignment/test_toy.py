"""The yardstick itself: the enumeration is complete and the optimum is the optimum. Tolerance 1e-6 (float32 model, 1,365 terms)."""

import pytest
import torch

from alignment import toy


def test_there_are_1365_distinct_answers():
    assert len(toy.answers()) == len(set(toy.answers())) == 1365


def test_the_answers_probabilities_sum_to_one(dialect):
    total = toy.answer_logprobs(toy.make_model(dialect)).exp().sum(1)
    torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_tilted_reference_reaches_the_optimum_and_others_do_not():
    task = toy.make_toy()
    reference = toy.answer_logprobs(toy.make_model())
    best = torch.log_softmax(reference + task.reward_XY / task.beta, 1)
    assert task.gap_closed(best, reference) == pytest.approx(1.0, abs=1e-6)
    assert task.gap_closed(reference, reference) == pytest.approx(0.0, abs=1e-6)
    for scale in (0.7, 1.3):
        other = torch.log_softmax(reference + scale * task.reward_XY / task.beta, 1)
        assert task.gap_closed(other, reference) < 0.999


def test_the_reference_is_neither_uniform_nor_already_best():
    task = toy.make_toy()
    reference = toy.answer_logprobs(toy.make_model())
    assert task.optimum(reference) - task.objective(reference, reference) > 0.3
    assert task.kl_nats(torch.log_softmax(reference + task.reward_XY / task.beta, 1), reference) > 0.5


def test_the_judge_reads_text_as_the_table_does():
    task, tokenizer = toy.make_toy(), toy.make_tokenizer()
    texts = [tokenizer.decode(list(answer), skip_special_tokens=True) for answer in toy.answers()]
    assert len(set(texts)) == 1365
    for x, prompt in enumerate(toy.PROMPTS):
        assert task.score([prompt] * 1365, texts) == task.reward_XY[x].tolist()
