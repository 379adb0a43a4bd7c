"""The transformer against known sizes, formulas worked by hand, and itself under other arrangements of the same tokens."""

import math

import pytest
import torch

from base_model.gpt import GPT, IGNORED_TARGET, PRESETS, GPTConfig, KVCache, preset, rotary_table, rotate

# Sums of float32 products in another order differ by about 1e-6 at logits of order 1; 1e-5 is safe and far below any real mistake.
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def model(dialect):
    torch.manual_seed(0)
    config = GPTConfig(
        dialect, 50, n_layer=2, n_head=4, n_kv_head=2 if dialect == "llama" else None, d_model=32, context_length=40
    )
    model = GPT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                0.3 * torch.randn_like(parameter)
            )  # biases and gains away from 0 and 1, attention away from uniform
    return model


@pytest.fixture
def tokens_BT():
    return torch.randint(50, (3, 12), generator=torch.Generator().manual_seed(1))


# Published counts: GPT-2's checkpoints, and meta-llama/Llama-3.2-1B.
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("gpt2-124m", 124_439_808),
        ("gpt2-350m", 354_823_168),
        ("gpt2-774m", 774_030_080),
        ("gpt2-1.5b", 1_557_611_200),
        ("llama-1b", 1_235_814_400),
    ],
)
def test_presets_have_the_published_number_of_parameters(name, count):
    assert preset(name).n_parameters == count


@pytest.mark.parametrize("name", PRESETS)
def test_n_parameters_counts_the_parameters_and_its_name_rounds_them(name):
    config = preset(name)
    with torch.device("meta"):
        model = GPT(config)
    assert config.n_parameters == sum(parameter.numel() for parameter in model.parameters())
    number, unit = float(name.split("-")[1][:-1]), {"m": 1e6, "b": 1e9}[name[-1]]
    assert config.n_parameters == pytest.approx(number * unit, rel=0.25)


def test_a_token_does_not_see_later_ones(model, tokens_BT):
    changed_BT = tokens_BT.clone()
    changed_BT[:, 7] = (changed_BT[:, 7] + 1) % 50
    before, after = model(tokens_BT), model(changed_BT)
    torch.testing.assert_close(before[:, :7], after[:, :7], **TOLERANCE)
    assert (before[:, 7:] - after[:, 7:]).abs().amax(dim=-1).min() > 1e-3


def test_packed_documents_are_answered_as_if_alone(model, tokens_BT):
    document_ids_BT = torch.tensor([[0] * 5 + [1] * 7, [4] * 12, [7] * 1 + [2] * 4 + [7] * 7])  # an id may come back
    packed = model(tokens_BT, document_ids_BT=document_ids_BT)
    spans = [(0, 0, 5), (0, 5, 12), (1, 0, 12), (2, 0, 1), (2, 1, 5)]
    for row, start, end in spans:
        alone = model(tokens_BT[row : row + 1, start:end])
        torch.testing.assert_close(packed[row : row + 1, start:end], alone, **TOLERANCE)


def test_a_packed_document_gets_no_gradient_from_its_neighbour(model, tokens_BT):
    document_ids_BT = torch.tensor([[0] * 5 + [1] * 7] * 3)
    embedded = {}
    model.embedding.register_forward_hook(lambda module, args, output: embedded.update(x=output))
    model(tokens_BT, document_ids_BT=document_ids_BT)[:, 5:].sum().backward(inputs=[embedded["x"]])
    assert embedded["x"].grad is None or not embedded["x"].grad[:, :5].any()
    assert embedded["x"].grad[:, 5:].any()


def test_two_answers_in_one_row_are_each_answered_as_if_alone(model, tokens_BT):
    """A row that branches: 5 tokens, 3 that follow, and 4 others that follow the same 5."""
    start, first, second = tokens_BT[:1].split([5, 3, 4], dim=1)
    is_seen = torch.ones(12, 12, dtype=torch.bool).tril()
    is_seen[8:, 5:8] = False
    positions = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 5, 6, 7, 8]])
    both = model(tokens_BT[:1], position_ids_BT=positions, is_seen_BTT=is_seen[None])
    torch.testing.assert_close(both[:, :8], model(torch.cat([start, first], dim=1)), **TOLERANCE)
    torch.testing.assert_close(both[:, 8:], model(torch.cat([start, second], dim=1))[:, 5:], **TOLERANCE)


def test_only_the_logits_that_are_read_come_back(model, tokens_BT):
    is_read = tokens_BT % 3 == 0
    torch.testing.assert_close(model(tokens_BT, is_read_BT=is_read), model(tokens_BT)[is_read], **TOLERANCE)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_nothing(model, tokens_BT, side):
    n_pad = [0, 3, 9]
    padded_BT = torch.zeros(3, 21, dtype=torch.long)
    is_pad_BT = torch.ones(3, 21, dtype=torch.bool)
    for row, n in enumerate(n_pad):
        place = slice(9, 21) if side == "left" else slice(0, 12)
        place = slice(place.start, place.stop - n) if side == "right" else slice(place.start + n, place.stop)
        padded_BT[row, place], is_pad_BT[row, place] = tokens_BT[row, : 12 - n], False
    logits = model(padded_BT, is_pad_BT=is_pad_BT)
    assert logits.isfinite().all()
    for row, n in enumerate(n_pad):
        alone = model(tokens_BT[row : row + 1, : 12 - n])
        torch.testing.assert_close(logits[row][~is_pad_BT[row]][None], alone, **TOLERANCE)


def test_cached_equals_uncached(model, tokens_BT):
    cache = KVCache(model.config, batch_size=3, length=12)
    pieces = [model(piece, cache=cache) for piece in tokens_BT.split([5, 1, 4, 1, 1], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens_BT), **TOLERANCE)


def test_cached_equals_uncached_behind_left_padding(model, tokens_BT):
    is_pad_BT = torch.zeros(3, 12, dtype=torch.bool)
    is_pad_BT[0, :4] = is_pad_BT[2, :6] = True
    cache = KVCache(model.config, batch_size=3, length=12)
    pieces = [model(tokens_BT[:, :8], is_pad_BT=is_pad_BT[:, :8], cache=cache)]
    pieces += [model(tokens_BT[:, i : i + 1], cache=cache) for i in range(8, 12)]
    together = torch.cat(pieces, dim=1)
    torch.testing.assert_close(together[0:1, 4:], model(tokens_BT[0:1, 4:]), **TOLERANCE)
    torch.testing.assert_close(together[1:2], model(tokens_BT[1:2]), **TOLERANCE)
    torch.testing.assert_close(together[2:3, 6:], model(tokens_BT[2:3, 6:]), **TOLERANCE)


def test_the_loss_is_the_mean_over_targets_that_count(model, tokens_BT):
    targets_BT = tokens_BT.roll(-1, dims=1)
    targets_BT[:, -1] = IGNORED_TARGET
    targets_BT[1, :6] = IGNORED_TARGET
    nats = [
        -math.log(model(tokens_BT)[row, t].double().softmax(-1)[target].item())
        for row in range(3)
        for t, target in enumerate(targets_BT[row].tolist())
        if target != IGNORED_TARGET
    ]
    assert model(tokens_BT, targets_BT=targets_BT).item() == pytest.approx(sum(nats) / len(nats), rel=1e-5)


def test_gradient_checkpointing_gives_the_same_gradients(dialect, tokens_BT):
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        config = GPTConfig(dialect, 50, 2, 4, 32, context_length=40, gradient_checkpointing=checkpointing)
        model = GPT(config).train()
        n_saved = 0

        def count(tensor):
            nonlocal n_saved
            n_saved += 1
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = model(tokens_BT, targets_BT=tokens_BT)
        loss.backward()
        gradients.append(([parameter.grad for parameter in model.parameters()], n_saved))
    (plain, n_plain), (recomputed, n_recomputed) = gradients
    assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))
    assert n_recomputed < n_plain / 3


def test_rotation_is_multiplication_by_a_unit_complex_number():
    config = GPTConfig("llama", 50, 1, 2, 16, context_length=40, rope_theta=100.0)  # pairs (x_i, x_{i+4}), i = 0..3
    x = torch.randn(1, 1, 40, 8, generator=torch.Generator().manual_seed(0))
    turned = rotate(x, *rotary_table(config)[:, None, None])
    angle = torch.arange(40)[:, None] * torch.tensor([1.0, 100**-0.25, 100**-0.5, 100**-0.75], dtype=torch.float64)
    expected = torch.complex(x[..., :4].double(), x[..., 4:].double()) * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(turned.double(), torch.cat([expected.real, expected.imag], dim=-1), **TOLERANCE)


def test_the_rotary_table_survives_a_change_of_precision_and_the_meta_device():
    config = GPTConfig("llama", 50, 1, 2, 16, context_length=40)
    with torch.device("meta"):
        unmade = GPT(config)
    for model in (GPT(config).bfloat16().float(), unmade.to_empty(device="cpu")):
        assert torch.equal(model.rotary, rotary_table(config))


def test_weights_that_write_into_the_residual_stream_start_smaller(dialect):
    torch.manual_seed(0)
    model = GPT(GPTConfig(dialect, 500, n_layer=8, n_head=4, d_model=128, context_length=256))
    for name, parameter in model.named_parameters():
        if (
            parameter.dim() == 2
        ):  # at least 16,000 numbers: their standard deviation is known to 2 % (4 standard errors)
            expected = 0.02 / 4 if name.endswith("out.weight") else 0.02  # sqrt(2 * 8 layers) = 4
            assert parameter.std().item() == pytest.approx(expected, rel=0.03), name
        else:
            assert parameter.eq(0 if name.endswith("bias") else 1).all(), name


def test_a_new_model_is_as_unsure_as_a_uniform_guess(dialect, tokens_BT):
    torch.manual_seed(0)
    model = GPT(GPTConfig(dialect, 50, 2, 4, 32, context_length=40))
    assert model(tokens_BT, targets_BT=tokens_BT.roll(-1, 1)).item() == pytest.approx(math.log(50), abs=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dialect": "bert"}, "dialect is 'bert'; it must be 'gpt2' or 'llama'"),
        ({"n_layer": 0}, "n_layer is 0; it must be at least 1"),
        ({"d_model": 30}, "d_model 30 does not divide into n_head 4 heads; set head_dim"),
        ({"n_kv_head": 3}, "n_head 4 is not a multiple of n_kv_head 3"),
        ({"d_model": 36}, "head_dim is 9; rotary positions turn pairs, so it must be even"),
        ({"dialect": "gpt2", "n_kv_head": 2}, "the gpt2 dialect needs n_kv_head = n_head"),
    ],
)
def test_an_impossible_config_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        GPTConfig(
            **{
                "dialect": "llama",
                "vocab_size": 50,
                "n_layer": 2,
                "n_head": 4,
                "d_model": 32,
                "context_length": 40,
                **changes,
            }
        )


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(ValueError, match="unknown preset 'gpt3'; there are llama-1m, "):
        preset("gpt3")


def test_too_many_tokens_are_refused(model):
    with pytest.raises(ValueError, match="41 tokens are more than the context_length of 40; cut the input"):
        model(torch.zeros(1, 41, dtype=torch.long))
    with pytest.raises(ValueError, match="7 tokens do not fit the cache of 6"):
        model(torch.zeros(1, 7, dtype=torch.long), cache=KVCache(model.config, 1, 6))


def test_packing_with_padding_or_a_cache_is_refused(model, tokens_BT):
    with pytest.raises(ValueError, match="document_ids_BT goes with neither is_pad_BT nor a cache"):
        model(tokens_BT, document_ids_BT=torch.zeros_like(tokens_BT), is_pad_BT=tokens_BT < 0)
