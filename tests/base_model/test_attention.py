"""`attend_by_products` against PyTorch's SDPA: values and gradients, causal and masked, grouped heads, blocks that do not divide.

In fp32 both sum the same terms in another order: 1e-5. In bf16 scores and weights are rounded to 8 bits (2^-8 each), where SDPA keeps
them in fp32; outputs are means of unit normal values: 2e-2.
"""

import shutil

import pytest
import torch
import torch.nn.functional as F

from base_model.attention import QUERY_BLOCK, attend, attend_by_products, attention_mask
from base_model.gpt import GPT, GPTConfig


def heads(n_tokens, n_head=6, n_kv_head=2, dtype=torch.float32):
    torch.manual_seed(0)
    shapes = [(2, n, n_tokens, 8) for n in (n_head, n_kv_head, n_kv_head)]
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


def value_and_gradients(function, inputs):
    y = function(*inputs)
    weights = torch.arange(y.numel()).view_as(y).cos().to(y.dtype)  # a gradient that differs at every place
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), inputs)]


def sdpa(mask):
    is_causal = mask is None
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal, enable_gqa=True)


@pytest.mark.parametrize("n_tokens", [5, QUERY_BLOCK, 2 * QUERY_BLOCK + 3])
@pytest.mark.parametrize("n_kv_head", [1, 2, 6])
def test_products_equal_sdpa_with_all_gradients(n_tokens, n_kv_head):
    inputs = heads(n_tokens, n_kv_head=n_kv_head)
    ours = value_and_gradients(lambda q, k, v: attend_by_products(q, k, v, None), inputs)
    for mine, theirs in zip(ours, value_and_gradients(sdpa(None), inputs), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["documents", "padding"])
def test_products_equal_sdpa_under_a_mask(kind):
    n_tokens = QUERY_BLOCK + 20
    inputs = heads(n_tokens)
    if kind == "documents":
        documents_BT = (torch.arange(n_tokens) // 50).expand(2, -1)
        mask = attention_mask(n_tokens, None, documents_BT)
    else:
        is_pad_BT = torch.arange(n_tokens) < torch.tensor([[0], [30]])
        mask = attention_mask(n_tokens, is_pad_BT, None)
    ours = value_and_gradients(lambda q, k, v: attend_by_products(q, k, v, mask), inputs)
    for mine, theirs in zip(ours, value_and_gradients(sdpa(mask), inputs), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_in_bf16_on_a_cpu_short_rows_take_the_products_and_agree_with_sdpa():
    inputs = heads(2 * QUERY_BLOCK, dtype=torch.bfloat16)
    y = attend(*inputs, None)
    assert torch.equal(y, attend_by_products(*inputs, None))
    torch.testing.assert_close(y, sdpa(None)(*inputs), atol=2e-2, rtol=0)


def test_compiled_on_a_cpu_short_rows_take_the_products_in_fp32_too():
    inputs = heads(2 * QUERY_BLOCK)
    products, by_sdpa = attend_by_products(*inputs, None), sdpa(None)(*inputs)
    assert not torch.equal(products, by_sdpa)  # they round differently, so equality tells which of them was taken
    assert torch.equal(attend(*inputs, None), by_sdpa)
    assert torch.equal(torch.compile(attend, backend="eager")(*inputs, None), products)


def test_values_and_gradients_in_bf16_are_those_of_fp64_to_one_percent():
    """Norm of the difference over the norm: rounding to bf16 makes 0.4 to 0.6 %."""
    inputs = heads(2 * QUERY_BLOCK, dtype=torch.bfloat16)
    exact = value_and_gradients(sdpa(None), [x.detach().double().requires_grad_() for x in inputs])
    ours = value_and_gradients(lambda q, k, v: attend_by_products(q, k, v, None), inputs)
    for mine, true in zip(ours, exact, strict=True):
        assert mine.dtype == torch.bfloat16
        assert (mine.double() - true).norm() < 0.01 * true.norm()


def test_a_second_derivative_is_an_error_not_a_wrong_number():
    q, k, v = heads(5)
    (dq,) = torch.autograd.grad(attend_by_products(q, k, v, None).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dq.sum().backward()


def test_a_query_never_sees_a_later_token():
    q, k, v = heads(QUERY_BLOCK + 9)
    before = attend_by_products(q, k, v, None)
    with torch.no_grad():
        v[:, :, -1] += 100.0
        k[:, :, -1] -= 5.0
    torch.testing.assert_close(attend_by_products(q, k, v, None)[:, :, :-1], before[:, :, :-1], atol=0, rtol=0)


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_has_the_loss_and_gradients_of_one_that_is_not():
    """fp32, by torch's own compiler; products and SDPA sum in another order: 1e-5 of the largest."""
    torch.manual_seed(0)
    config = GPTConfig("llama", 64, n_layer=1, n_head=4, n_kv_head=2, d_model=32, context_length=2 * QUERY_BLOCK)
    model = GPT(config)
    tokens_BT = torch.randint(0, 64, (2, QUERY_BLOCK + 6))
    documents_BT = (torch.arange(QUERY_BLOCK + 5) // 30).expand(2, -1)
    found = []
    for forward in (model, torch.compile(model)):
        loss = forward(tokens_BT[:, :-1], targets_BT=tokens_BT[:, 1:], document_ids_BT=documents_BT)
        found.append([loss, *torch.autograd.grad(loss, [*model.parameters()])])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5 * theirs.abs().max().item(), rtol=0)
