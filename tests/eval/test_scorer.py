"""Expected scores come from one plain transformers forward pass a request, batch of one, no padding."""

import copy
import random
import weakref

import pytest
import torch

from eval.scorer import NonFiniteError, Scorer, context_length, lay_out, pack
from tests.conftest import random_model

LENGTH = 128  # of the test models' context


def requests_like_a_benchmark(seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """Choices that share a context, minimal pairs that share a beginning, single tokens, the same request twice, one that is too long."""
    rng = random.Random(seed)
    words = lambda n: [rng.randrange(6, 400) for _ in range(n)]  # noqa: E731
    found = []
    for _ in range(6):
        context = words(rng.randrange(5, 40))
        found += [(context, words(rng.randrange(1, 12))) for _ in range(4)]
    for _ in range(5):
        start, rest = words(6), words(4)
        found += [([1], [*start, *words(2), *rest]), ([1], [*start, *words(3)])]
    found += [(words(20), [7]), (words(20), [7]), found[0], (words(150), words(30)), ([1], words(128))]
    return found


def one_by_one(model, context, continuation):
    """(log-probability, greedy) from transformers alone."""
    tokens = [*context, *continuation][-(LENGTH + 1) :]
    with torch.no_grad():
        logprobs = model(torch.tensor([tokens[:-1]])).logits[0].log_softmax(-1)
    wanted = torch.tensor(continuation)
    picked = logprobs[-len(continuation) :]
    return picked.gather(1, wanted[:, None]).sum().item(), bool((picked.argmax(1) == wanted).all())


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("batch_tokens", [1, 200, 5000])
def test_scores_equal_one_plain_pass_a_request(dialect, batch_tokens, share):
    model = random_model(dialect, 400)
    requests = requests_like_a_benchmark()
    scores = Scorer(model, batch_tokens=batch_tokens, share_beginnings=share).score(requests)
    expected = [one_by_one(model, *request) for request in requests]
    # float32: sums of up to 128 terms of size 6 computed in another order
    assert [s.logprob for s in scores] == pytest.approx([e[0] for e in expected], abs=2e-4)
    assert [s.is_greedy for s in scores] == [e[1] for e in expected]


def test_scores_are_the_same_from_two_processes(monkeypatch):
    scorer = Scorer(random_model("llama", 400), batch_tokens=200)
    one = scorer.score(requests_like_a_benchmark())
    monkeypatch.setattr("eval.scorer.processes_for", lambda pieces, device: 2)
    assert scorer.score(requests_like_a_benchmark()) == one


def test_a_request_that_greedy_decoding_writes_is_greedy(dialect):
    model = random_model(dialect, 400, seed=3)
    tokens = [1, 50, 60]
    with torch.no_grad():
        for _ in range(5):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    (score,) = Scorer(model).score([(tokens[:3], tokens[3:])])
    assert score.is_greedy
    other = [*tokens[3:-1], (tokens[-1] + 1) % 400]
    assert not Scorer(model).score([(tokens[:3], other)])[0].is_greedy


def test_of_tied_logits_greedy_decoding_writes_one(dialect):
    """A head of zeros ties the whole vocabulary: stock argmax writes token 0, so LAMBADA's accuracy is not 1."""
    model = copy.deepcopy(random_model(dialect, 400))
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    scores = Scorer(model).score([([1], [token]) for token in (0, 7, 399)])
    assert [s.is_greedy for s in scores] == [True, False, False]


def test_an_architecture_that_is_not_known_goes_the_plain_way_with_the_same_scores():
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=LENGTH, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config).eval()
    requests = requests_like_a_benchmark(1)
    scorer = Scorer(model, batch_tokens=700)
    assert scorer.is_plain
    expected = [one_by_one(model, *request)[0] for request in requests]
    assert [s.logprob for s in scorer.score(requests)] == pytest.approx(expected, abs=2e-4)


def test_choices_of_one_question_compute_their_context_once():
    rng = random.Random(2)
    context = [rng.randrange(6, 400) for _ in range(80)]
    requests = [(context, [rng.randrange(6, 400) for _ in range(5)]) for _ in range(4)]
    model = random_model("llama", 400)
    shared, separate = Scorer(model), Scorer(model, share_beginnings=False)
    shared.score(requests), separate.score(requests)
    assert separate.tokens_computed == 4 * 84
    assert shared.tokens_computed == 80 + 4 * 4  # the last token of a choice is predicted, never read


def test_every_request_is_scored_in_exactly_one_row():
    sequences = [
        ([*context, *continuation], len(continuation)) for context, continuation in requests_like_a_benchmark(4)
    ]
    counts = [0] * len(sequences)
    for group in pack(sequences):
        row = lay_out(sequences, group)
        assert len(row.tokens) == group.length
        for _, _, request in row.scored:
            counts[request] += 1
    assert counts == [scored for _, scored in sequences]


def test_unrelated_requests_do_not_share_a_row():
    rng = random.Random(5)
    sequences = [([1, *(rng.randrange(6, 400) for _ in range(20))], 20) for _ in range(50)]
    assert len(list(pack(sequences))) == 50  # a common bos saves nothing worth a wider mask


def test_out_of_memory_halves_the_batch_and_goes_on(monkeypatch):
    model = random_model("llama", 400)
    requests = requests_like_a_benchmark()
    expected = Scorer(model).score(requests)
    sizes, held, freed, real = [], [], [], model.base_model.forward

    def limited(*args, input_ids, **kwargs):
        tensors_of_the_batch = torch.zeros(1)
        held.append(weakref.ref(tensors_of_the_batch))
        if input_ids.numel() > 300:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(input_ids.numel())
        return real(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(model.base_model, "forward", limited)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(held[-1]() is None))
    scorer = Scorer(model, batch_tokens=4096)
    assert [s.logprob for s in scorer.score(requests)] == pytest.approx([s.logprob for s in expected], abs=2e-4)
    assert scorer.batch_tokens < 4096 and max(sizes) <= 300
    assert freed and all(freed)  # an error that is being handled holds what its frames held
    monkeypatch.setattr(model.base_model, "forward", lambda *a, **k: limited(*a, input_ids=torch.zeros(1, 301)))
    with pytest.raises(ValueError, match="out of memory on one row of"):
        scorer.score(requests[:1])


def test_a_model_of_nans_is_refused_by_name():
    model = copy.deepcopy(random_model("llama", 400))
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(
        NonFiniteError, match=r"2 of 2 scores are not finite \(the weights model.layers.1.mlp.up_proj.weight"
    ):
        Scorer(model).score([([1], [5, 6]), ([1], [7])])


def test_impossible_requests_are_refused():
    scorer = Scorer(random_model("gpt2", 400))
    with pytest.raises(ValueError, match="request 0 has 1 context and 0 continuation tokens"):
        scorer.score([([1], [])])
    with pytest.raises(ValueError, match="a continuation of 129 tokens exceeds the model's 128"):
        scorer.score([([1], [5] * 129)])
    assert context_length(scorer.model) == 128
