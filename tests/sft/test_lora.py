"""Adapters: they start as nothing, leave the parent alone, and merge into what they were."""

import json

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from base_model import hf
from sft.lora import (
    LoRAConfig,
    add_rows,
    attach,
    finish_adapter,
    four_bit_config,
    load_adapted,
    load_parent,
    merge,
    save_adapter,
    token_layers,
    verify_merge,
)
from tests.conftest import random_model

KINDS = {
    "LoRA": LoRAConfig(lora_r=4),
    "rsLoRA": LoRAConfig(lora_r=4, use_rslora=True),
    "DoRA": LoRAConfig(lora_r=4, use_dora=True),
    "attention only": LoRAConfig(lora_r=4, lora_target_modules=["q_proj", "v_proj"]),
}
PROMPTS = [[1, 4, 50, 60, 5], [1, 4, 7, 5]]


def adapted(model, config, seed=3):
    """A fresh adapter pushed away from zero, as training would."""
    torch.manual_seed(seed)
    adapted = attach(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return adapted


def saved(tmp_path, config, parent):
    """The parent's adapter in `adapter/`, the merged model in `merged/`; returns both folders and the adapted model's logits."""
    model = adapted(load_parent(parent, config), config).eval()
    with torch.no_grad():
        logits = model(torch.tensor(PROMPTS[:1])).logits
    adapter = save_adapter(model, tmp_path / "adapter", parent=parent)
    merge(model).save_pretrained(tmp_path / "merged")
    return adapter, tmp_path / "merged", logits


def test_a_fresh_adapter_changes_no_logit_and_only_it_is_trained(dialect):
    model = random_model(dialect, 100)
    tokens = torch.tensor(PROMPTS[:1])
    before = model(tokens).logits
    model = attach(model, LoRAConfig(lora_r=4))
    assert torch.equal(model(tokens).logits, before)
    assert all("lora_" in name for name, parameter in model.named_parameters() if parameter.requires_grad)


def test_an_adapter_has_rank_times_inputs_plus_outputs_parameters_a_layer():
    model = attach(random_model("llama", 100), LoRAConfig(lora_r=4))
    # width 32, 2 of 4 heads for keys and values, feed-forward 64: q, k, v, o, gate, up, down
    one_layer = 4 * ((32 + 32) + (32 + 16) + (32 + 16) + (32 + 32) + (32 + 64) + (32 + 64) + (64 + 32))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 2 * one_layer


@pytest.mark.parametrize("use_rslora, scale", [(False, 32 / 4), (True, 32 / 2)])
def test_merging_adds_the_scaled_product_to_the_weight(use_rslora, scale):
    model = random_model("llama", 100)
    before = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    model = adapted(model, LoRAConfig(lora_r=4, lora_alpha=32, use_rslora=use_rslora))
    layer = model.base_model.model.model.layers[0].mlp.up_proj
    product = layer.lora_B["default"].weight.detach() @ layer.lora_A["default"].weight.detach()
    after = merge(model).model.layers[0].mlp.up_proj.weight
    torch.testing.assert_close(after, before + scale * product, atol=1e-6, rtol=0)  # one rounding of fp32


@pytest.mark.parametrize("kind", KINDS)
def test_the_saved_merged_model_is_the_saved_adapter_on_its_parent(tmp_path, llama_checkpoint, kind):
    adapter, merged, logits = saved(tmp_path, KINDS[kind], llama_checkpoint)
    check = verify_merge(llama_checkpoint, adapter, merged, PROMPTS)
    assert check.largest_difference <= 1e-4
    with torch.no_grad():
        parent = AutoModelForCausalLM.from_pretrained(llama_checkpoint)
        assert not torch.allclose(
            parent(torch.tensor(PROMPTS[:1])).logits, logits, atol=1e-2
        )  # the adapter does something
        read = AutoModelForCausalLM.from_pretrained(merged)(torch.tensor(PROMPTS[:1])).logits
    torch.testing.assert_close(read, logits, atol=1e-4, rtol=0)


def test_a_merged_gpt2_is_its_adapter_too(tmp_path, gpt2_checkpoint):
    """GPT-2 keeps its weights transposed (Conv1D)."""
    adapter, merged, _ = saved(tmp_path, KINDS["LoRA"], gpt2_checkpoint)
    assert verify_merge(gpt2_checkpoint, adapter, merged, PROMPTS).largest_difference <= 1e-4


def test_a_saved_adapter_finds_its_parent_by_itself(tmp_path, llama_checkpoint):
    adapter, _, logits = saved(tmp_path, KINDS["LoRA"], llama_checkpoint)
    with torch.no_grad():
        alone = AutoPeftModelForCausalLM.from_pretrained(adapter)(torch.tensor(PROMPTS[:1])).logits
        parent = AutoModelForCausalLM.from_pretrained(llama_checkpoint)
        on_parent = PeftModel.from_pretrained(parent, adapter)(torch.tensor(PROMPTS[:1])).logits
    assert torch.equal(alone, logits) and torch.equal(on_parent, logits)
    assert sorted(path.suffix for path in adapter.iterdir()) == [".json", ".md", ".safetensors"]  # nothing to unpickle
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(llama_checkpoint)


def test_a_merged_model_that_is_another_one_is_refused(tmp_path, llama_checkpoint):
    adapter, merged, _ = saved(tmp_path, KINDS["LoRA"], llama_checkpoint)
    model = AutoModelForCausalLM.from_pretrained(merged)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] += 0.05
    model.save_pretrained(merged)
    with pytest.raises(
        ValueError, match=r"the merged model .* on prompt 0 their logits differ by 0\.\d+, more than 0\.0001"
    ):
        verify_merge(llama_checkpoint, adapter, merged, PROMPTS)


def test_a_merged_model_with_nan_is_refused(tmp_path, llama_checkpoint):
    adapter, merged, _ = saved(tmp_path, KINDS["LoRA"], llama_checkpoint)
    model = AutoModelForCausalLM.from_pretrained(merged)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    model.save_pretrained(merged)
    with pytest.raises(ValueError, match="their logits differ by nan"):
        verify_merge(llama_checkpoint, adapter, merged, PROMPTS)


def test_a_merged_model_that_continues_otherwise_is_refused(tmp_path, llama_checkpoint):
    """With the logits let through: the unadapted parent stands in for the merged model."""
    adapter, _, _ = saved(tmp_path, KINDS["LoRA"], llama_checkpoint)
    with pytest.raises(ValueError, match="does not continue prompt 0 as the adapter .* does: greedy tokens"):
        verify_merge(llama_checkpoint, adapter, llama_checkpoint, PROMPTS, tolerance=1e9)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"lora_r": 0}, "lora_r is a rank and must be at least 1, got 0"),
        ({"lora_alpha": 0}, "lora_alpha must be above 0"),
        ({"lora_dropout": 1.0}, r"lora_dropout is a probability in \[0, 1\), got 1.0"),
        ({"use_peft": False, "use_dora": True}, "use_dora needs use_peft"),
        ({"use_peft": False, "load_in_4bit": True}, "load_in_4bit needs use_peft"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LoRAConfig(**settings)


def test_4_bit_weights_are_refused_where_they_cannot_be_had(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"load_in_4bit \(QLoRA\) needs a CUDA device, and this machine has none"):
        four_bit_config()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package bitsandbytes: pip install bitsandbytes"):
        four_bit_config()


def one_layer_model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        initializer_range=0.5,  # the frozen head must be able to say something
    )
    return LlamaForCausalLM(config)


def fitted_loss(model, steps=600):
    """Training loss in nats after Adam on 12 random sequences, the same for every model. Its rate falls to 0: at a constant one the
    last loss is where a bounce happened to end (0.25 or 0.30 on two machines)."""
    tokens = torch.randint(0, 40, (12, 10), generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in range(steps):
        loss = model(tokens, labels=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return loss.item()


def test_lora_at_full_rank_reaches_the_loss_of_full_fine_tuning():
    """All matrices are 16 x 16, so rank 16 can express any change of them; rank 1 cannot. The rest of the model is frozen in each."""
    full = one_layer_model()
    for name, parameter in full.named_parameters():
        parameter.requires_grad_("_proj" in name)
    losses = {
        rank: fitted_loss(attach(one_layer_model(), LoRAConfig(lora_r=rank, lora_alpha=rank))) for rank in (1, 16)
    }
    full_loss = fitted_loss(full)
    assert full_loss < 0.5  # of log(40) = 3.7 at first
    assert losses[16] <= full_loss * 1.05  # seen: 0.217 and 0.228
    assert losses[1] > full_loss * 2  # seen: 1.92


@pytest.mark.parametrize("is_tied", [True, False])
def test_rows_of_new_tokens_are_trained_merged_and_read_back(tmp_path, llama_checkpoint, tokenizer, is_tied):
    """Two tokens of the parent's vocabulary and two that are added: their rows move, all others stay, and the merge is the adapter."""
    from transformers import AutoConfig

    parent = tmp_path / "parent"
    config = AutoConfig.from_pretrained(llama_checkpoint, tie_word_embeddings=is_tied)
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(parent)
    new = [4, 5, len(tokenizer), len(tokenizer) + 1]
    model = load_parent(parent)
    assert add_rows(model, len(tokenizer) + 2) == 2
    old = model.get_input_embeddings().weight.detach().clone()
    torch.testing.assert_close(old[-1], old[:-2].mean(0), atol=1e-6, rtol=0)  # one order of summation or another
    model = attach(model, KINDS["LoRA"], new)
    tokens = torch.tensor([[1, 50, *new, 60]])
    model(input_ids=tokens, labels=tokens).loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=10.0).step()
    with torch.no_grad():
        logits = model.eval()(tokens).logits
    adapter = save_adapter(model, tmp_path / "adapter", parent=parent)
    merge(load_adapted(parent, adapter)).save_pretrained(tmp_path / "merged")
    assert verify_merge(parent, adapter, tmp_path / "merged", [[1, 50, *new]]).largest_difference <= 1e-4
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(merged(tokens).logits, logits, atol=1e-4, rtol=0)
    source = load_parent(parent)
    for layer in ("get_input_embeddings", "get_output_embeddings"):
        before, after = (getattr(each, layer)().weight.detach()[: len(tokenizer)] for each in (source, merged))
        assert (after != before).any(1).nonzero()[:, 0].tolist() == new[:2]


def test_a_head_with_a_bias_is_left_out():
    """PEFT's wrapper would compute without the bias."""
    from transformers import PhiConfig, PhiForCausalLM

    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    phi = PhiForCausalLM(PhiConfig(vocab_size=40, **size))
    assert phi.lm_head.bias is not None and token_layers(phi) == ["model.embed_tokens"]
    assert token_layers(random_model("gpt2", 40)) == ["transformer.wte"]


@pytest.mark.parametrize(
    "family, targets, message",
    [
        ("llama2", ["q_proj", "nonsense"], "LlamaForCausalLM has no layer 'nonsense' that LoRA can adapt; it has down_proj"),
        ("llama2", ["q_porj"], "no layer 'q_porj' that LoRA can adapt; did you mean 'q_proj'"),
        ("llama2", ["input_layernorm"], "no layer 'input_layernorm' that LoRA can adapt"),
        ("gpt2", ["c_attn", "wte"], r"'wte' of GPT2LMHeadModel is tied \(embedding and output head are one matrix\)"),
        ("smollm2", ["lm_head"], "'lm_head' of LlamaForCausalLM is tied"),
    ],
)  # fmt: skip
def test_layers_that_can_not_be_adapted_are_refused_as_the_parent_is_loaded(foreign_parent, family, targets, message):
    with pytest.raises(ValueError, match=message):
        load_parent(foreign_parent(family), LoRAConfig(lora_target_modules=targets))


@pytest.mark.parametrize("targets", [["all-linear"], ["embed_tokens", "lm_head", "q_proj"]])
def test_layers_that_can_be_adapted_are(foreign_parent, tmp_path, targets):
    """An embedding and a head of its own too: merged they are one model."""
    parent, config = foreign_parent("llama2"), LoRAConfig(lora_r=4, lora_target_modules=targets)
    adapter, merged, _ = saved(tmp_path, config, parent)
    assert verify_merge(parent, adapter, merged, PROMPTS).largest_difference <= 1e-4


def test_an_ending_writes_adapter_and_merged_model_and_holds_them_to_each_other(tmp_path, llama_checkpoint):
    config = LoRAConfig(lora_r=4)
    model = adapted(load_parent(llama_checkpoint, config), config)
    logits = model.eval()(torch.tensor(PROMPTS[:1])).logits
    options = {"parent": llama_checkpoint, "prompts": PROMPTS}
    plain, check = finish_adapter(model, tmp_path, save=lambda m: m.save_pretrained(tmp_path), **options)
    assert check.greedy_tokens_compared > 0 and (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    torch.testing.assert_close(plain(torch.tensor(PROMPTS[:1])).logits, logits, atol=1e-4, rtol=0)

    def save_another(merged):
        with torch.no_grad():
            merged.model.norm.weight.add_(0.1)
        merged.save_pretrained(tmp_path)

    with pytest.raises(ValueError, match="is not the adapter"):
        finish_adapter(model, tmp_path, save=save_another, **options)


@pytest.mark.parametrize("is_tied", [True, False])
def test_trained_rows_of_tokens_are_read_with_their_gradient(dialect, is_tied):
    """PEFT's trainable_token_indices beside LoRA: on, off and merged the logits are transformers', and the rows' gradient too."""
    plain = random_model(dialect, 100)
    plain.config.tie_word_embeddings = is_tied
    torch.manual_seed(0)
    model = attach(type(plain)(plain.config).eval(), LoRAConfig(lora_r=2), [5, 7])
    deltas = [p for name, p in model.named_parameters() if "trainable_tokens_delta" in name]
    with torch.no_grad():
        for delta in deltas:
            delta.normal_()
    tokens = torch.tensor([[5, 9, 7, 5, 50]])
    base, config = model.get_base_model(), hf.shared_tensors(model)[0]
    loss = model(tokens).logits.square().sum()
    theirs = torch.autograd.grad(loss, deltas)
    gpt = hf.from_hf(model)
    head = hf.effective_parameter(base, "lm_head.weight", trained=True)
    tensors = {**hf.trained_tensors(base, config), "head.weight": head}
    ours = torch.autograd.grad(torch.func.functional_call(gpt, tensors, (tokens,)).square().sum(), deltas)
    for mine, yours in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, yours, atol=1e-4, rtol=1e-4)  # float32, summed in another order
    with torch.no_grad():
        torch.testing.assert_close(gpt(tokens), model(tokens).logits, atol=1e-4, rtol=1e-4)
        with model.disable_adapter():
            torch.testing.assert_close(hf.from_hf(model)(tokens), model(tokens).logits, atol=1e-4, rtol=1e-4)
        model.merge_adapter()
        torch.testing.assert_close(hf.from_hf(model)(tokens), gpt(tokens), atol=1e-4, rtol=1e-4)
