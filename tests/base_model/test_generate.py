"""Generation against transformers' `generate` and against plain forward passes over what was generated."""

import copy

import pytest
import torch

import base_model.generate
from base_model.cuda_graphs import GraphDecoder
from base_model.decoder import Decoder
from base_model.generate import SamplingConfig, generate, supports
from base_model.gpt import GPT, GPTConfig
from base_model.hf import from_hf, to_hf
from tests.conftest import random_model

VOCABULARY = 61
PROMPTS = [[5, 9, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [60], [17, 18, 19, 20], [33, 5, 40, 5, 2, 51]]
LONGEST = 11


@pytest.fixture(autouse=True)
def nan_in_fresh_memory():
    """torch.empty gives NaN, so that reading a slot of the cache that was never written shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def theirs(dialect):
    """A transformers model with weights far from their start: its distributions are neither uniform nor all in one token."""
    model = random_model(dialect, VOCABULARY)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def lora(theirs):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    targets = "all-linear" if theirs.config.model_type == "llama" else ["c_attn", "c_proj"]
    fan = theirs.config.model_type == "gpt2"
    model = get_peft_model(copy.deepcopy(theirs), LoraConfig(r=4, target_modules=targets, fan_in_fan_out=fan)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return model


def their_generate(model, prompts=PROMPTS, n_new=40, **settings):
    """transformers' new tokens, its prompts padded on the left with a token that is in no prompt and out of the answer's way."""
    longest = max(map(len, prompts))
    tokens_BT = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    is_token_BT = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    settings = {"eos_token_id": None, "pad_token_id": 0, "max_new_tokens": n_new, "do_sample": False, **settings}
    return model.generate(input_ids=tokens_BT, attention_mask=is_token_BT, **settings)[:, longest:]


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("kind", ["transformers", "ours", "lora"])
def test_greedy_tokens_are_transformers(theirs, lora, kind, penalty):
    model = {"transformers": theirs, "ours": from_hf(theirs), "lora": lora}[kind]
    reference = lora if kind == "lora" else theirs
    expected = torch.cat([their_generate(reference, [prompt], repetition_penalty=penalty) for prompt in PROMPTS])
    sampling = SamplingConfig(40, greedy=True, repetition_penalty=penalty)
    assert expected.unique().numel() > 10, "a constant continuation would prove little"
    assert torch.equal(generate(model, PROMPTS, sampling, pad_id=0).tokens_BR, expected)


def test_greedy_tokens_stop_where_transformers_stops(theirs):
    stop = their_generate(theirs)[1, 12].item()
    expected = their_generate(theirs, eos_token_id=stop)
    generation = generate(theirs, PROMPTS, SamplingConfig(40, greedy=True, stop_token_ids=(stop,)), pad_id=0)
    assert torch.equal(generation.tokens_BR, expected)
    assert generation.stopped_B.any()


STOPS = (5, 17, 29, 44)


def test_stopping_cuts_each_row_after_its_first_stop_token(theirs):
    whole = generate(theirs, PROMPTS, SamplingConfig(50), pad_id=0, seed=1).tokens_BR.tolist()
    cut = [row[: min((i + 1 for i, token in enumerate(row) if token in STOPS), default=50)] for row in whole]
    assert len({len(row) for row in cut}) > 2, "rows must end at different steps"
    generation = generate(theirs, PROMPTS, SamplingConfig(50, stop_token_ids=STOPS), pad_id=3, seed=1)
    assert generation.responses() == cut
    longest = max(map(len, cut))
    assert generation.tokens_BR.tolist() == [row + [3] * (longest - len(row)) for row in cut]
    assert generation.is_response_BR.tolist() == [[i < len(row) for i in range(longest)] for row in cut]
    assert generation.stopped_B.tolist() == [row[-1] in STOPS for row in cut]


def test_rows_that_ended_leave_the_batch(theirs, monkeypatch):
    sizes = []
    step = Decoder.step
    monkeypatch.setattr(Decoder, "step", lambda self, token_B: sizes.append(len(token_B)) or step(self, token_B))
    generation = generate(theirs, PROMPTS, SamplingConfig(50, stop_token_ids=STOPS), pad_id=0, seed=1)
    lengths = [len(row) for row in generation.responses()]
    assert sizes == [sum(length > i for length in lengths) for i in range(1, max(lengths))]


@pytest.mark.parametrize("make_decoder", [Decoder, GraphDecoder])
def test_equal_prompts_are_read_once_and_answered_apart(theirs, monkeypatch, make_decoder):
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[0], PROMPTS[0], PROMPTS[4]]
    sampling = SamplingConfig(20, stop_token_ids=(5, 17), repetition_penalty=1.2)
    responses = generate(theirs, prompts, sampling, pad_id=0, seed=1).responses()
    read = []
    prefill = Decoder.prefill
    monkeypatch.setattr(
        Decoder, "prefill", lambda self, *arguments: read.append(len(arguments[0])) or prefill(self, *arguments)
    )
    monkeypatch.setattr(base_model.generate, "Decoder", make_decoder)
    assert generate(theirs, prompts, sampling, pad_id=0, seed=1).responses() == responses
    assert read == [3]
    assert responses[0] != responses[2] != responses[3]
    for row in range(5):  # each as if its prompt were the only one of its kind
        others = [[7]] * row + [prompts[row]] + [[8, 9]] * (4 - row)
        assert generate(theirs, others, sampling, pad_id=0, seed=1).responses()[row] == responses[row]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_a_forward_pass_over_the_answer(theirs, temperature):
    sampling = SamplingConfig(30, temperature=temperature, top_k=20, repetition_penalty=1.2, stop_token_ids=STOPS)
    generation = generate(theirs, PROMPTS, sampling, pad_id=0, seed=2, want_logprobs=True)
    for prompt, response, logprobs in zip(PROMPTS, generation.responses(), generation.logprobs_BR, strict=True):
        logits = theirs(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        expected = (logits / temperature).log_softmax(dim=-1).gather(1, torch.tensor(response)[:, None])[:, 0]
        torch.testing.assert_close(logprobs[: len(response)], expected, atol=1e-5, rtol=1e-5)
        assert not logprobs[len(response) :].any()


def test_the_first_token_is_distributed_as_the_softmax_says(theirs):
    from scipy.stats import chisquare

    n = 4000
    tokens = generate(theirs, [[5, 9]] * n, SamplingConfig(1, temperature=2.0), pad_id=0, seed=0).tokens_BR
    expected = n * (theirs(torch.tensor([[5, 9]])).logits[0, -1] / 2).softmax(-1).double().detach().numpy()
    observed = torch.bincount(tokens[:, 0], minlength=VOCABULARY).numpy()
    assert expected.min() > 5, "the test's approximation needs a few of each"
    assert chisquare(observed, expected, sum_check=False).pvalue > 0.001  # seed 0 is fixed: this cannot flicker


def responses(model, prompts=PROMPTS, **arguments):
    return generate(model, prompts, SamplingConfig(25, stop_token_ids=(5,)), pad_id=0, **arguments).responses()


def test_the_same_seed_gives_the_same_bits(theirs):
    first, second = (
        generate(theirs, PROMPTS, SamplingConfig(25), pad_id=0, seed=7, want_logprobs=True) for _ in range(2)
    )
    assert torch.equal(first.tokens_BR, second.tokens_BR) and torch.equal(first.logprobs_BR, second.logprobs_BR)
    assert responses(theirs, seed=7) != responses(theirs, seed=8)


def test_a_rows_draws_depend_on_neither_its_neighbours_nor_the_batch_size(theirs):
    together = responses(theirs, seed=7)
    assert responses(theirs, seed=7, batch_size=2) == together
    assert responses(theirs, [PROMPTS[0], [8], [9, 9], PROMPTS[3], [1]], seed=7)[3] == together[3]


def test_a_generator_continues_from_call_to_call_and_a_seed_leaves_the_global_one_alone(theirs):
    generator = torch.Generator().manual_seed(7)
    first = responses(theirs, generator=generator)
    assert first == responses(theirs, seed=7) != responses(theirs, generator=generator)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    responses(theirs, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert responses(theirs) == first  # torch's global generator, seeded with 7


def test_left_padding_changes_nothing(theirs):
    sampling = SamplingConfig(25)
    for length in (1, 4, LONGEST):
        alone = generate(theirs, [[7] * length], sampling, pad_id=0, seed=3, want_logprobs=True)
        padded = generate(theirs, [[7] * length, [9] * LONGEST], sampling, pad_id=0, seed=3, want_logprobs=True)
        assert padded.responses()[0] == alone.responses()[0]
        torch.testing.assert_close(padded.logprobs_BR[0], alone.logprobs_BR[0], atol=1e-5, rtol=1e-5)


def test_training_steps_between_calls_show(theirs):
    before = responses(theirs, seed=0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(1.3)
    after = responses(theirs, seed=0)
    assert before != after == responses(copy.deepcopy(theirs), seed=0)


def test_dropout_is_off_and_the_mode_is_left_alone(theirs):
    expected = responses(theirs, seed=0)
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    theirs.train()
    assert responses(theirs, seed=0) == expected and theirs.training


def test_the_result_can_enter_a_training_step(theirs):
    generation = generate(theirs, PROMPTS, SamplingConfig(5), pad_id=0, seed=0, want_logprobs=True)
    loss = from_hf(theirs)(generation.tokens_BR, targets_BT=generation.tokens_BR) + generation.logprobs_BR.mean()
    loss.backward()
    assert not generation.logprobs_BR.requires_grad


def test_a_lora_models_adapter_can_be_switched_off(theirs, lora):
    assert responses(lora, seed=0) != responses(theirs, seed=0)
    with lora.disable_adapter():
        assert responses(lora, seed=0) == responses(theirs, seed=0)


def test_another_precision_is_that_of_a_converted_model(theirs):
    assert responses(theirs, seed=0, dtype=torch.bfloat16) == responses(copy.deepcopy(theirs).bfloat16(), seed=0)
    assert next(theirs.parameters()).dtype == torch.float32


def test_autocast_around_it_has_no_effect(theirs):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = generate(theirs, PROMPTS, SamplingConfig(9), pad_id=0, seed=0, want_logprobs=True)
    outside = generate(theirs, PROMPTS, SamplingConfig(9), pad_id=0, seed=0, want_logprobs=True)
    assert torch.equal(inside.logprobs_BR, outside.logprobs_BR)


def test_the_decoder_for_cuda_does_the_same_without_a_graph(theirs, monkeypatch):
    """70 steps pass from a window of 64 slots to 128, and rows end between its checks."""
    sampling = SamplingConfig(70, stop_token_ids=(5, 17), repetition_penalty=1.1)
    expected = generate(theirs, PROMPTS, sampling, pad_id=0, seed=4, want_logprobs=True)
    assert expected.tokens_BR.shape[1] + LONGEST > 64 and expected.stopped_B.any()
    monkeypatch.setattr(base_model.generate, "Decoder", GraphDecoder)
    fixed = generate(theirs, PROMPTS, sampling, pad_id=0, seed=4, want_logprobs=True)
    assert torch.equal(fixed.tokens_BR, expected.tokens_BR)
    torch.testing.assert_close(fixed.logprobs_BR, expected.logprobs_BR, atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_graphs_on_cuda_give_the_cpus_tokens(theirs):
    sampling = SamplingConfig(70, greedy=True, stop_token_ids=(5, 17))
    expected = generate(theirs, PROMPTS, sampling, pad_id=0)
    for model in (theirs.cuda(), from_hf(theirs).cuda()):
        generation = generate(model, PROMPTS, sampling, pad_id=0)
        assert torch.equal(generation.tokens_BR.cpu(), expected.tokens_BR)


def test_a_padded_vocabulary_and_an_untied_head_are_no_matter():
    torch.manual_seed(0)
    model = GPT(
        GPTConfig("llama", VOCABULARY, 2, 4, 32, context_length=64, n_kv_head=1, head_dim=12, tie_embeddings=False)
    )
    expected = torch.cat([their_generate(to_hf(model), [prompt]) for prompt in PROMPTS])
    assert torch.equal(generate(model, PROMPTS, SamplingConfig(40, greedy=True), pad_id=0).tokens_BR, expected)


def test_supported_models_are_known(theirs, lora):
    from transformers import MistralConfig, MistralForCausalLM

    assert supports(theirs) and supports(lora) and supports(from_hf(theirs))
    assert not supports(torch.nn.Linear(2, 2))
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    mistral = MistralForCausalLM(MistralConfig(vocab_size=20, num_key_value_heads=1, **small))
    assert not supports(mistral)


@pytest.mark.parametrize(
    ("prompts", "arguments", "message"),
    [
        ([], {}, "no prompts were given"),
        ([[1], []], {}, "prompt 1 is empty; start it with the bos token"),
        (
            [[1] * 100],
            {},
            "a prompt of 100 tokens and max_new_tokens 40 do not fit the model's context of 128; shorten one",
        ),
        ([[1]], {"seed": 0, "generator": torch.Generator()}, "both seed and generator were given"),
    ],
)
def test_impossible_requests_are_refused(theirs, prompts, arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(theirs, prompts, SamplingConfig(40), pad_id=0, **arguments)
