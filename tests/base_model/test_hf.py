"""Our transformer and transformers' own on the same weights: logits, loss, gradients, greedy text; and checkpoints on disk."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, pipeline

from base_model.gpt import GPT, GPTConfig, KVCache
from base_model.hf import (
    config_from_hf,
    effective_parameter,
    export_checkpoint,
    from_hf,
    import_checkpoint,
    layout,
    shared_tensors,
    to_hf,
)
from tests.conftest import random_model

VOCABULARY = 61


def llama(**changes):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=64, **{**sizes, **changes})
    return LlamaForCausalLM(config).eval()


THEIR_MODELS = {
    "gpt2": lambda: random_model("gpt2", VOCABULARY),
    "llama": lambda: llama(rope_parameters={"rope_type": "default", "rope_theta": 500.0}, rms_norm_eps=1e-3),
    "llama with grouped queries and a tied head": lambda: random_model("llama", VOCABULARY),
    "llama with one key head and wide heads": lambda: llama(num_key_value_heads=1, head_dim=24),
}


@pytest.fixture(params=THEIR_MODELS)
def theirs(request):
    """A transformers model with weights far from their start, so that attention is not uniform and gains and biases count."""
    model = THEIR_MODELS[request.param]()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def tokens_BT():
    """Without token 0, the padding: transformers gives its embedding no gradient, and masks it in `generate`."""
    return torch.randint(1, VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(1))


def close(ours, theirs):
    """1e-5 in float32: rounding gives about 1e-6 at logits of a few units."""
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_weights_copied_in_give_transformers_logits(theirs, tokens_BT):
    close(from_hf(theirs)(tokens_BT), theirs(tokens_BT).logits)


def test_weights_copied_out_give_our_logits(theirs, tokens_BT):
    ours = from_hf(theirs)
    exported = to_hf(ours)
    assert type(exported) is type(theirs)
    close(exported(tokens_BT).logits, ours(tokens_BT))
    assert all(torch.equal(a, b) for a, b in zip(exported.parameters(), theirs.parameters(), strict=True))


def test_one_step_has_transformers_loss_and_gradients(theirs, tokens_BT):
    ours = from_hf(copy.deepcopy(theirs))
    our_loss = ours(tokens_BT[:, :-1], targets_BT=tokens_BT[:, 1:])
    their_loss = theirs(tokens_BT, labels=tokens_BT).loss
    our_loss.backward()
    their_loss.backward()
    close(our_loss, their_loss)
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    for name, source in layout(ours.config).items():
        parts = [theirs.get_parameter(part).grad for part in source.names]
        close(gradients.pop(name), torch.cat([part.t() if source.is_transposed else part for part in parts]))
    assert not gradients


def test_left_padded_batches_have_transformers_logits(theirs, tokens_BT):
    is_pad_BT = torch.arange(20) < torch.tensor([0, 4, 11])[:, None]
    position_ids_BT = ((~is_pad_BT).cumsum(dim=1) - 1).clamp(min=0)
    their_logits = theirs(tokens_BT, attention_mask=(~is_pad_BT).long(), position_ids=position_ids_BT).logits
    close(from_hf(theirs)(tokens_BT, is_pad_BT=is_pad_BT)[~is_pad_BT], their_logits[~is_pad_BT])


@torch.no_grad()
def test_greedy_continuations_are_transformers(theirs, tokens_BT):
    model = from_hf(theirs)
    cache = KVCache(model.config, batch_size=3, length=60)
    text_BT, new_BT = tokens_BT, tokens_BT
    for _ in range(30):
        new_BT = model(new_BT, cache=cache)[:, -1:].argmax(dim=-1)
        text_BT = torch.cat([text_BT, new_BT], dim=1)
    assert text_BT[:, 20:].unique().numel() > 5, "a constant continuation would prove little"
    assert torch.equal(
        text_BT, theirs.generate(tokens_BT, do_sample=False, max_new_tokens=30, eos_token_id=None, pad_token_id=0)
    )


def test_from_hf_shares_gpt2s_tensors(tokens_BT):
    theirs = random_model("gpt2", VOCABULARY)
    ours = from_hf(theirs)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(1.5)
    close(ours(tokens_BT), theirs(tokens_BT).logits)


def test_shared_tensors_are_the_models_own(theirs):
    addresses = {parameter.data_ptr() for parameter in theirs.parameters()}
    _, tensors = shared_tensors(theirs)
    assert {part.data_ptr() for parts in tensors.values() for part in parts} == addresses


def test_to_hf_draws_no_random_numbers_and_leaves_the_model_alone(dialect):
    torch.manual_seed(0)
    model = GPT(GPTConfig(dialect, VOCABULARY, 2, 4, 32, context_length=64)).train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    exported = to_hf(model)
    with torch.no_grad():
        for parameter in exported.parameters():
            parameter.zero_()
    assert torch.equal(torch.get_rng_state(), state) and model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


# ------------------------------------------------------------------------------------------------------- on disk


@pytest.fixture
def exported(tmp_path, dialect, tokenizer):
    torch.manual_seed(0)
    tied = dialect == "gpt2"
    model = GPT(GPTConfig(dialect, len(tokenizer) + 3, 2, 4, 32, context_length=64, tie_embeddings=tied))
    return model, export_checkpoint(model, tokenizer, tmp_path / "checkpoint")


def test_an_export_loads_through_the_auto_classes(exported, tokenizer):
    model, folder = exported
    loaded = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    ids = AutoTokenizer.from_pretrained(folder)("The baker waits.", return_tensors="pt").input_ids
    close(loaded(ids).logits, model(ids))
    assert "auto_map" not in json.loads((folder / "config.json").read_text())
    assert [path.suffix for path in folder.iterdir()].count(".safetensors") == 1 and not list(folder.glob("*.bin"))


def test_an_export_runs_in_the_text_generation_pipeline(exported, tokenizer):
    model, folder = exported
    (answer,) = pipeline("text-generation", model=str(folder), device="cpu")(
        "The baker", max_new_tokens=5, do_sample=False, return_full_text=False
    )
    ids = tokenizer("The baker", return_tensors="pt").input_ids
    for _ in range(5):
        next_id = model(ids)[:, -1:].argmax(dim=-1)
        if next_id.item() == tokenizer.eos_token_id:
            break
        ids = torch.cat([ids, next_id], dim=1)
    assert answer["generated_text"] == tokenizer.decode(ids[0], skip_special_tokens=True).removeprefix("The baker")


def test_an_export_names_pad_bos_and_eos(exported):
    _, folder = exported
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    for name in ("generation_config.json", "config.json"):
        assert ids.items() <= json.loads((folder / name).read_text()).items()


def test_an_export_comes_back_bit_exactly(exported):
    model, folder = exported
    again = import_checkpoint(folder)
    assert again.config == model.config
    assert list(again.state_dict()) == list(model.state_dict())
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_a_bf16_model_is_exported_and_comes_back_bit_exactly(tmp_path, tokenizer, dialect):
    model = GPT(GPTConfig(dialect, len(tokenizer), 2, 4, 32, context_length=64)).bfloat16()
    again = import_checkpoint(export_checkpoint(model, tokenizer, tmp_path))
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.bfloat16 and torch.equal(again.state_dict()[name], tensor)


def test_a_tied_head_stays_tied(theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    model = import_checkpoint(tmp_path)
    assert (model.head.weight is model.embedding.weight) == theirs.config.tie_word_embeddings


def test_a_bf16_checkpoint_comes_back_bit_exactly_in_bf16_and_in_fp32_on_request(theirs, tmp_path):
    theirs.bfloat16().save_pretrained(tmp_path)
    model = import_checkpoint(tmp_path)
    again = to_hf(model)
    assert all(
        a.dtype == torch.bfloat16 and torch.equal(a, b)
        for a, b in zip(again.parameters(), theirs.parameters(), strict=True)
    )
    assert import_checkpoint(tmp_path, dtype=torch.float32).embedding.weight.dtype == torch.float32


def test_a_sharded_checkpoint_is_read(theirs, tmp_path, tokens_BT):
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    close(import_checkpoint(tmp_path)(tokens_BT), theirs(tokens_BT).logits)


def rewrite_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    dropped = [name for name, value in changes.items() if value is None]
    config = {name: value for name, value in {**config, **changes}.items() if name not in dropped}
    (folder / "config.json").write_text(json.dumps(config))


def test_rotary_settings_are_read_as_older_transformers_wrote_them(tmp_path, tokens_BT):
    theirs = llama(rope_parameters={"rope_type": "default", "rope_theta": 500.0})
    theirs.save_pretrained(tmp_path)
    rewrite_config(tmp_path, rope_parameters=None, rope_theta=500.0)
    model = import_checkpoint(tmp_path)
    assert model.config.rope_theta == 500.0
    close(model(tokens_BT), theirs(tokens_BT).logits)


SCALED = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
        {
            "rope_parameters": None,
            "rope_scaling": {**SCALED, "original_max_position_embeddings": 32},
        },  # the older spelling
        {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}},  # the oldest
    ],
)
def test_rotary_scaling_is_refused(tmp_path, changes):
    llama().save_pretrained(tmp_path)
    rewrite_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=r"the checkpoint has rotary scaling, rope_parameters=.*factor"):
        import_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("dialect", "changes", "message"),
    [
        ("llama", {"attention_bias": True}, r"attention_bias=True \(only False\)"),
        ("llama", {"mlp_bias": True}, r"mlp_bias=True \(only False\)"),
        ("llama", {"hidden_act": "gelu"}, r"hidden_act='gelu' \(only 'silu' or 'swish'\)"),
        ("gpt2", {"activation_function": "relu"}, r"activation_function='relu' \(only 'gelu_new' or"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, r"scale_attn_by_inverse_layer_idx=True \(only False\)"),
        ("gpt2", {"scale_attn_weights": False}, r"scale_attn_weights=False \(only True\)"),
    ],
)
def test_settings_that_we_do_not_speak_are_refused_by_name(tmp_path, dialect, changes, message):
    random_model(dialect, VOCABULARY).save_pretrained(tmp_path)
    rewrite_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        import_checkpoint(tmp_path)


def test_another_architecture_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "mistral", "architectures": ["MistralForCausalLM"]})
    )
    with pytest.raises(ValueError, match="model_type is 'mistral'; only gpt2 and llama checkpoints can be read"):
        import_checkpoint(tmp_path)


def test_a_folder_without_a_config_or_without_safetensors_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no config.json; give the folder of a Hugging Face checkpoint"):
        import_checkpoint(tmp_path)
    AutoConfig.for_model("gpt2").save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="has no .safetensors weights"):
        import_checkpoint(tmp_path)


def test_a_checkpoint_that_lacks_a_weight_is_refused(gpt2_checkpoint, tmp_path):
    (tmp_path / "config.json").write_text((gpt2_checkpoint / "config.json").read_text())
    tensors = load_file(gpt2_checkpoint / "model.safetensors")
    del tensors["transformer.h.1.mlp.c_fc.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"lacks weights that its config.json names: transformer.h.1.mlp.c_fc.weight, 1 in all"
    ):
        import_checkpoint(tmp_path)


def test_a_checkpoint_named_as_openais_is_read(gpt2_checkpoint, tmp_path):
    """The published GPT-2 files: no `transformer.` before the names, and the causal mask kept beside the weights."""
    tensors = load_file(gpt2_checkpoint / "model.safetensors")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    tensors["h.0.attn.bias"] = torch.ones(128, 128).tril()[None, None]
    (tmp_path / "config.json").write_text((gpt2_checkpoint / "config.json").read_text())
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    expected = import_checkpoint(gpt2_checkpoint).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in import_checkpoint(tmp_path).state_dict().items())


def test_a_checkpoint_whose_weights_have_other_shapes_than_its_config_is_refused(llama_checkpoint, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((llama_checkpoint / name).read_bytes())
    rewrite_config(tmp_path, intermediate_size=72)
    with pytest.raises(
        ValueError, match=r"has weights of another shape than its config.json says: .*model.layers.0.mlp.*, 6 in all"
    ):
        import_checkpoint(tmp_path)


class Shifted(GPT):
    """A model that its exported weights do not describe."""

    def forward(self, tokens_BT, **arguments):
        return super().forward(tokens_BT, **arguments) + 0.25


class Broken(GPT):
    def forward(self, tokens_BT, **arguments):
        return super().forward(tokens_BT, **arguments) * float("nan")


@pytest.mark.parametrize(("kind", "difference"), [(Shifted, "0.25"), (Broken, "nan")])
def test_export_refuses_other_logits_names_the_difference_and_writes_nothing(
    tmp_path, tokenizer, dialect, kind, difference
):
    torch.manual_seed(0)
    model = kind(GPTConfig(dialect, len(tokenizer), 2, 4, 32, context_length=64))
    with pytest.raises(
        ValueError, match=rf"refusing to write .*: its logits .* differ by up to {difference} .*allowed: 0.0001"
    ):
        export_checkpoint(model, tokenizer, tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()


def test_import_refuses_other_logits(llama_checkpoint, monkeypatch):
    monkeypatch.setattr("base_model.gpt.rotate", lambda x, cos, sin: x)
    with pytest.raises(ValueError, match=r"refusing to read .*: its logits and the LlamaForCausalLM's differ by up to"):
        import_checkpoint(llama_checkpoint)


def test_export_refuses_a_tokenizer_that_is_too_large(tmp_path, tokenizer):
    model = GPT(GPTConfig("llama", len(tokenizer) - 1, 1, 2, 16, context_length=8))
    with pytest.raises(
        ValueError, match=f"the tokenizer has {len(tokenizer)} tokens, the model only vocab_size {len(tokenizer) - 1}"
    ):
        export_checkpoint(model, tokenizer, tmp_path)


def test_a_config_survives_the_way_out_and_back(dialect):
    config = GPTConfig(
        dialect, 70, 3, 4, 32, context_length=48, d_ff=40, norm_eps=1e-4, rope_theta=10000.0, init_std=0.03
    )
    assert config_from_hf(to_hf(GPT(config)).config) == config


# ----------------------------------------------------------------------------------------------------------- LoRA


@pytest.fixture
def lora(theirs):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    targets = ["c_attn", "c_fc"] if theirs.config.model_type == "gpt2" else ["q_proj", "v_proj", "down_proj"]
    model = get_peft_model(theirs, LoraConfig(r=4, lora_alpha=8, target_modules=targets, lora_dropout=0.5)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # zero at the start, which would hide the adapter
                parameter.normal_(std=0.2)
    return model


def test_a_lora_model_is_read_with_its_adapter(lora, tokens_BT):
    with lora.disable_adapter():
        plain = lora(tokens_BT).logits
    assert (lora(tokens_BT).logits - plain).abs().max() > 0.1
    close(from_hf(lora)(tokens_BT), lora(tokens_BT).logits)


def test_a_lora_model_with_its_adapter_off_is_the_base_model(lora, tokens_BT):
    with lora.disable_adapter():
        close(from_hf(lora)(tokens_BT), lora(tokens_BT).logits)


def test_a_merged_lora_model_is_read_once(lora, tokens_BT):
    before = lora(tokens_BT).logits
    lora.merge_adapter()
    close(from_hf(lora)(tokens_BT), before)


def test_only_adapted_layers_of_a_lora_model_are_new_tensors(lora):
    own = {parameter.data_ptr() for parameter in lora.parameters()}
    _, tensors = shared_tensors(lora)
    new = {name for name, parts in tensors.items() if any(part.data_ptr() not in own for part in parts)}
    adapted = (
        {"attention.qkv.weight", "mlp.inner.weight"}
        if lora.config.model_type == "gpt2"
        else {"attention.qkv.weight", "mlp.out.weight"}
    )
    assert new == {f"blocks.{layer}.{name}" for layer in range(2) for name in adapted}


def test_a_fully_trained_head_beside_an_adapter_is_read(tokens_BT):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"])
    model = get_peft_model(llama(), config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    close(from_hf(model)(tokens_BT), model(tokens_BT).logits)
    with model.disable_adapter():
        close(from_hf(model)(tokens_BT), model(tokens_BT).logits)


def test_dora_is_refused():
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(llama(), LoraConfig(r=2, target_modules=["q_proj"], use_dora=True))
    with pytest.raises(
        ValueError, match=r"model.layers.0.self_attn.q_proj has a LoRA variant .*; merge the adapter first"
    ):
        effective_parameter(model.get_base_model(), "model.layers.0.self_attn.q_proj.weight")
