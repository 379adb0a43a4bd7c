"""Work shared out over processes: the same answers for any number of them, and nothing lost or left behind."""

import os
import signal

import pytest
import torch

from base_model import forks
from base_model.forks import processes_for, share_out
from base_model.generate import SamplingConfig, generate
from tests.conftest import random_model

CPU = torch.device("cpu")


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(forks, "cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")


def test_results_come_in_order_from_processes_of_one_thread():
    def work(item):
        return torch.tensor([item, os.getpid(), torch.get_num_threads()]), None

    made = [tensor.tolist() for tensor, nothing in share_out(work, range(8), 2)]
    assert [item for item, _, _ in made] == list(range(8))
    assert os.getpid() not in {pid for _, pid, _ in made} and {threads for *_, threads in made} == {1}


def test_what_the_work_raises_is_raised_here():
    def work(item):
        raise ValueError(f"item {item} is bad")

    with pytest.raises(ValueError, match="item 0 is bad"):
        list(share_out(work, range(4), 2))
    assert list(share_out(torch.tensor, range(2), 2)) == [0, 1]  # and the next work is done


def test_a_killed_process_is_an_error_and_no_endless_wait():
    with pytest.raises(OSError, match="was killed; if nobody did, the machine ran out of memory"):
        list(share_out(lambda item: os.kill(os.getpid(), signal.SIGKILL), range(4), 2))


def test_how_many_processes(two_cores, monkeypatch):
    assert [processes_for(pieces, CPU) for pieces in (1, 2, 9)] == [1, 2, 2]
    assert processes_for(9, torch.device("cuda")) == 1
    assert [made.item() for made in share_out(lambda _: torch.tensor(processes_for(9, CPU)), range(2), 2)] == [1, 1]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes_for(9, CPU) == 1
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert processes_for(9, CPU) == 1


def test_generation_gives_the_same_answers_from_two_processes_even_after_training(monkeypatch, two_cores):
    model = random_model("llama", 90)
    model(input_ids=torch.arange(6)[None], labels=torch.arange(6)[None]).loss.backward()
    prompts = [[5 + i % 7] * (1 + i % 5) for i in range(12)]
    sampling = SamplingConfig(8, temperature=1.0, stop_token_ids=(2,))
    asked = {"pad_id": 0, "seed": 3, "batch_size": 4, "want_logprobs": True}
    two = generate(model, prompts, sampling, **asked)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one = generate(model, prompts, sampling, **asked)
    assert torch.equal(one.tokens_BR, two.tokens_BR) and torch.equal(one.logprobs_BR, two.logprobs_BR)
