"""The plan's counts against torch's own FLOP counter, a real model and a real process's memory."""

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from base_model import plan
from base_model.attention import attend_by_products
from base_model.gpt import GPT, GPTConfig, preset
from base_model.plan import activation_bytes, describe, describe_on, flops_per_token, memory, probe, shard
from base_model.pretrain_config import PretrainConfig

SMALL = {
    "gpt2": GPTConfig("gpt2", vocab_size=50, n_layer=2, n_head=4, d_model=32, context_length=24),
    "llama": GPTConfig("llama", vocab_size=50, n_layer=3, n_head=4, n_kv_head=2, d_model=32, context_length=24),
}


def test_flops_are_those_that_torch_counts_but_for_the_unseen_half_of_attention(dialect, monkeypatch):
    """torch counts all T x T pairs of q k^T and its product with v; causal attention needs T (T + 1) / 2 of them. It does not know
    SDPA's CPU kernel, so attention runs as plain products in one block."""
    monkeypatch.setattr("base_model.gpt.attend", attend_by_products)
    config, n_rows = SMALL[dialect], 2
    model = GPT(config)
    tokens = torch.zeros(n_rows, config.context_length, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(tokens, targets_BT=tokens).backward()
    pairs_unseen = config.context_length - (config.context_length + 1) / 2
    unseen = 3 * 4 * config.n_layer * config.n_head * config.head_dim * pairs_unseen
    expected = counter.get_total_flops() / tokens.numel() - unseen
    assert flops_per_token(config) == pytest.approx(expected, rel=1e-9)


def test_gpt2_124m_has_the_known_size():
    """124,439,808 parameters (transformers' gpt2), 16 bytes each for weights, gradients and AdamW in fp32."""
    needed = memory(preset("gpt2-124m"), PretrainConfig(batch_size=1, precision="fp32"))
    assert needed.weights == needed.gradients == 4 * 124_439_808
    assert needed.optimizer == 8 * 124_439_808
    assert needed.logit_gradients == 2 * 4 * 1024 * 50257
    assert needed.total == 16 * 124_439_808 + needed.activations + needed.logit_gradients


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_optimizer_memory_is_what_the_optimizers_hold(optimizer):
    from base_model.optim import make_optimizers

    config = SMALL["llama"]
    model = GPT(config)
    optimizers = make_optimizers(model, optimizer, lr=1e-3)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for one in optimizers:
        one.step()
    held = [v for one in optimizers for state in one.state.values() for v in state.values() if v.ndim]
    expected = sum(v.numel() * v.element_size() for v in held)
    assert memory(config, PretrainConfig(batch_size=1, optimizer=optimizer)).optimizer == expected


def test_activations_are_read_off_without_using_memory_and_equal_a_real_process():
    """Growth of resident memory over a forward pass in a fresh process; 25 %, as the allocator keeps and rounds."""
    code = """
import resource, torch
from base_model.gpt import GPT, preset
torch.set_num_threads(1)
model = GPT(preset("gpt2-1m", n_layer=6))
tokens = torch.zeros(16, 256, dtype=torch.long)
model(tokens[:1, :8], targets_BT=tokens[:1, :8]).backward()
def resident(): return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before = resident()
loss = model(tokens, targets_BT=tokens)
print(resident() - before)
"""
    if sys.platform != "linux":
        pytest.skip("needs /proc")
    grown = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert activation_bytes(preset("gpt2-1m", n_layer=6), 16, "fp32") == pytest.approx(grown, rel=0.25)


def test_the_peak_of_a_real_step_is_what_the_plan_adds_up():
    """Growth of a fresh process's largest resident memory over forward and backward pass with a wide vocabulary, where the logits decide;
    gradients are there before. 25 %, as the allocator keeps and rounds."""
    code = """
import re, torch
from base_model.gpt import GPT, preset
torch.set_num_threads(1)
model = GPT(preset("gpt2-1m", vocab_size=32768, n_layer=2))
tokens = torch.zeros(8, 256, dtype=torch.long)
model(tokens[:1, :8], targets_BT=tokens[:1, :8]).backward()
def kib(name): return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1])
before = kib("VmRSS")
model(tokens, targets_BT=tokens).backward()
print(1024 * (kib("VmHWM") - before))  # getrusage's peak would be at least that of the process that started this one
"""
    if sys.platform != "linux":
        pytest.skip("needs /proc")
    grown = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    config = preset("gpt2-1m", vocab_size=32768, n_layer=2)
    needed = memory(config, PretrainConfig(batch_size=8, precision="fp32"))
    assert needed.activations + needed.logit_gradients == pytest.approx(grown, rel=0.25)


def test_fsdp_splits_what_is_kept_and_holds_whole_what_is_at_work():
    """gpt2-124m on 8 GPUs. A block has 4 x 768^2 + 8 x 768^2 matrix entries, 4 x 768 + 5 x 768 biases and 4 x 768 in its norms:
    7,087,872; outside of the 12 blocks 124,439,808 - 12 x 7,087,872 = 39,385,344. Whole in bf16: 39,385,344 + 2 x 7,087,872."""
    training = PretrainConfig(batch_size=8, precision="bf16")
    copied = memory(preset("gpt2-124m"), training, world_size=8)
    split = shard(copied, preset("gpt2-124m"), 8, "bf16")
    assert split.weights == 4 * 124_439_808 // 8 + 2 * (39_385_344 + 2 * 7_087_872)
    assert split.gradients == 4 * 124_439_808 // 8 and split.optimizer == 8 * 124_439_808 // 8
    assert (split.activations, split.logit_gradients) == (copied.activations, copied.logit_gradients)


def test_the_plan_for_gpus_that_are_not_here_says_memory_and_hours(monkeypatch):
    """10 Gtokens (19,073 x 512 x 1,024 = 9,999,745,024) x 797,870,592 FLOP / (8 x 0.4 x 989.4e12 FLOP/s) = 2,520 s = 42.0 minutes."""
    monkeypatch.setattr(plan, "activation_bytes", lambda config, rows, precision, device_type: 3 * 10**9)
    training = PretrainConfig(steps=19_073, batch_size=512, per_device_train_batch_size=32, precision="bf16")
    text = describe_on("h100", preset("gpt2-124m"), training, gpus=8)
    # DDP: 16 x 124,439,808 + 3e9 + 8 x 32 x 1,024 x 50,257 = 18.17e9; FSDP: 0.356 + 3 + 13.17 = 16.53e9
    for part in (
        "32 rows at once x 2 passes x 8 GPUs = 512 rows a step, bf16",
        "DDP           18.17 GB: weights 498 MB",
        "logits' gradients 13.17 GB: fits into 80.00 GB",
        "FSDP          16.53 GB: weights 169 MB",
        "10 Gtokens: about 42.0 minutes on 8 x H100 SXM",
        "assuming 40% of 989 TFLOP/s each",
    ):
        assert part in text, text
    slower = describe_on("a100", preset("gpt2-124m"), training, gpus=1, mfu=0.2)
    assert "about 35.5 hours on 1 x A100 80 GB" in slower  # 42 minutes x 8 x 2 x 989.4 / 312 = 35.5 hours
    small = describe_on("4090", preset("gpt2-124m"), PretrainConfig(batch_size=64, precision="bf16"))
    assert (
        "does not fit into 24.00 GB; lower per_device_train_batch_size" in small
    )  # the logits' gradients alone: 26 GB


def test_a_plan_that_cannot_be_made_says_why():
    training = PretrainConfig(batch_size=6)
    with pytest.raises(ValueError, match="unknown plan_device 'h10'; there are h100, h200"):
        describe_on("h10", SMALL["gpt2"], training)
    with pytest.raises(ValueError, match="plan_mfu is a share"):
        describe_on("h100", SMALL["gpt2"], training, mfu=40)
    with pytest.raises(ValueError, match=r"batch_size 6 does not divide into 4 process\(es\)"):
        describe_on("h100", SMALL["gpt2"], training, gpus=4)


def test_activations_grow_with_rows_and_shrink_with_checkpointing():
    config = SMALL["gpt2"]
    one, two = (activation_bytes(config, rows, "fp32") for rows in (1, 2))
    assert 1.9 < two / one < 2.1
    checkpointed = GPTConfig(
        "gpt2", 50, n_layer=2, n_head=4, d_model=32, context_length=24, gradient_checkpointing=True
    )
    assert activation_bytes(checkpointed, 2, "fp32") < 0.6 * two


def test_the_probe_predicts_the_time_of_real_steps():
    """Probed in 2 s and compared with steps of the whole model; a factor of 2 either way, as both are timed on a shared machine."""
    import time

    config, training = preset("llama-1m", context_length=128), PretrainConfig(batch_size=8, precision="fp32")
    model = GPT(config)
    tokens = torch.zeros(8, 128, dtype=torch.long)
    steps_s = []
    for _ in range(6):
        began = time.perf_counter()
        model(tokens, targets_BT=tokens).backward()
        steps_s.append(time.perf_counter() - began)
    speed = probe(config, training, budget_s=2.0)
    assert 0.5 < speed.s_per_token * tokens.numel() / sorted(steps_s)[2] < 2.0


def test_the_plan_says_all_that_is_asked_of_it(monkeypatch):
    monkeypatch.setattr(plan, "probe", lambda config, training, budget_s: plan.Speed(1e-4, 0.5))
    text = describe(preset("gpt2-124m"), PretrainConfig(steps=1000, batch_size=8, precision="fp32"), budget_s=10)
    # 8 x 1024 tokens x 0.1 ms + 0.5 s = 1.3192 s a step; 3 x 2 x 123,532,032 matrix entries + attention = 797.8 MFLOP a token
    for part in (
        "124,439,808",
        "798 MFLOP a token",
        "weights 498 MB",
        "8.19 Mtokens",
        "about 22.0 minutes",
        "7.98 TFLOP/s",
    ):
        assert part in text, text
