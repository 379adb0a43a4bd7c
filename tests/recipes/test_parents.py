"""Parents from elsewhere go through the stages: see tests/parents.py for what they are."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from recipes import domain_sft, dpo, lora_sft, ppo, preferences, reward_model
from recipes.run.record import read_manifest
from tests.conftest import TEXTS
from tests.parents import FAMILIES


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "domain.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return file


def arguments(parent, data, folder, *more):
    settings = {"model": parent, "data": data, "output_dir": folder, "per_device_train_batch_size": 2}
    return [*(item for name, value in settings.items() for item in (f"--{name}", str(value))), *more]


@pytest.mark.parametrize("family", ["gpt2", "llama2", "qwen2"])
def test_domain_tuning_of_a_published_parent(family, foreign_parent, texts, tmp_path):
    """GPT-2 has no padding token; the tokenizer.json of each is rewritten when it is saved."""
    folder = domain_sft.main(arguments(foreign_parent(family), texts, tmp_path / "run", "--max_steps", "1"))
    record = read_manifest(folder)
    assert record["steps"] == 1
    told = [check["detail"] for check in record["checks"] if check["name"] == "weights' type"]
    assert [detail.partition(":")[0] for detail in told] == (
        ["float32, as they were trained; the parent's are bfloat16"] if family == "qwen2" else []
    )
    listed = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    parents = json.loads((foreign_parent(family) / "generation_config.json").read_text())["eos_token_id"]
    assert listed == parents, "the parent's own stop tokens are kept"


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "chats.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": f"Yes, of course {i}."}]}
        for i, text in enumerate(TEXTS[:12])
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def marked(parent, folder):
    """The parent with a ChatML template that marks what the assistant says."""
    folder = shutil.copytree(parent, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
        "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
        "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_instruction_tuning_of_an_architecture_that_the_own_decoder_does_not_run(foreign_parent, chats, tmp_path):
    """Qwen2: trained, merged, and its stop rate sampled by transformers, in which its repetition penalty has no part."""
    parent = marked(foreign_parent("qwen2"), tmp_path / "parent")
    options = ["--max_steps", "1", "--heldout_rows", "4", "--stop_within_tokens", "8"]
    folder = lora_sft.main(arguments(parent, chats, tmp_path / "run", *options))
    record = read_manifest(folder)
    assert record["notes"]["merge"]["largest_difference"] <= 1e-4
    (detail,) = [check["detail"] for check in record["checks"] if check["name"] == "answers stop"]
    assert "of 4 sampled answers end by themselves within 8 tokens" in detail
    kept = json.loads((folder / "generation_config.json").read_text())
    assert kept["repetition_penalty"] == 1.05 and len(kept["eos_token_id"]) == 2


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [
        {"prompt": [{"role": "user", "content": f"{text} {i}"}], "chosen": f"Yes, of course {i}.", "rejected": "No"}
        for i, text in enumerate(TEXTS[:24])
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize("family", ["gpt2", "smollm2"])
def test_a_reward_model_of_a_parent_that_has_no_padding_token_or_pads_with_its_end(
    family, foreign_parent, pairs, tmp_path
):
    """Trained with an adapter; the scores are those of transformers on single rows, where nothing is padded."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from reward.model import RewardModel, encode_answers

    folder = reward_model.main(arguments(foreign_parent(family), pairs, tmp_path / "run", "--use_peft"))
    assert read_manifest(folder)["notes"]["merge"]["largest_difference"] <= 1e-4
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    reward, plain = RewardModel.load(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    prompts, answers = ["What?", "A much longer question, is it not?"], ["Yes.", "No, it is not."]
    scores = reward.raw_scores(prompts, answers)
    with torch.no_grad():
        rows = encode_answers(reward.tokenizer, prompts, answers)
        alone = [plain(torch.tensor([row])).logits.item() for row in rows]
    assert scores.tolist() == pytest.approx(alone, abs=1e-5)  # float32 sums in another order
    unused = reward.tokenizer.pad_token_id
    assert unused is None or unused != reward.tokenizer.eos_token_id, "or a reader's batches would be scored wrongly"


def test_held_out_pairs_that_give_no_interval_are_refused_before_training(foreign_parent, pairs, tmp_path):
    lines = pairs.read_text().splitlines()[:1] * 2
    (tmp_path / "heldout.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="on 1 prompt give no interval; hold out more prompts"):
        options = arguments(foreign_parent("gpt2"), pairs, tmp_path / "run")
        reward_model.main([*options, "--heldout", str(tmp_path / "heldout.jsonl")])
    assert not list((tmp_path / "run").rglob("*.safetensors")), "nothing was trained"


def test_dpo_of_a_parent_without_a_padding_token_leaves_its_configs_and_tokenizer_alone(
    foreign_parent, pairs, tmp_path
):
    parent = foreign_parent("gpt2")
    folder = dpo.main(arguments(parent, pairs, tmp_path / "run", "--use_peft"))
    assert read_manifest(folder)["notes"]["merge"]["greedy_tokens_compared"] > 0
    full = dpo.main(arguments(parent, pairs, tmp_path / "full"))
    for run in (folder, full):
        config, before = (json.loads((place / "config.json").read_text()) for place in (run, parent))
        assert config.get("pad_token_id") == before.get("pad_token_id")
        assert json.loads((run / "tokenizer_config.json").read_text()).get("pad_token") is None


def test_a_parent_that_lacks_weights_is_refused_before_training(foreign_parent, texts, tmp_path):
    parent = shutil.copytree(foreign_parent("llama2"), tmp_path / "parent")
    weights = load_file(parent / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, parent / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="parent lacks weights that its config.json names: lm_head.weight"):
        domain_sft.main(arguments(parent, texts, tmp_path / "run", "--max_steps", "1"))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_goes_through_every_stage(family, foreign_parent, texts, pairs, chats, tmp_path):
    """From the published parent to PPO, with adapters (merged and held to them) and with every weight; each is evaluated, KL included."""
    parent = foreign_parent(family)
    suite = tmp_path / "suite.yaml"
    sets = {
        "generation": {"answers": {"path": str(pairs), "max_new_tokens": 8}},
        "likelihood": {"text": {"path": str(texts)}},
        "kl": {"path": str(pairs), "max_new_tokens": 8},
        "random_init": 0,
    }
    suite.write_text(json.dumps(sets))
    two, lora, measured = ["--max_steps", "2"], ["--use_peft"], ["--evaluation", str(suite)]
    small = ["--max_steps", "1", "--rollout_batch_size", "8", "--max_completion_length", "8", "--num_ppo_epochs", "1"]

    def run(stage, model, data, name, *more):
        return stage.main(arguments(model, data, tmp_path / name, *more))

    domain = run(domain_sft, parent, texts, "domain", *two, *measured)
    run(domain_sft, parent, texts, "domain_lora", *two, *lora)
    scorer = run(reward_model, domain, pairs, "reward")
    run(reward_model, domain, pairs, "reward_lora", *lora)
    sampled = ["--judge", str(scorer), "--answers", "2", "--pairs_per_prompt", "1", "--max_new_tokens", "8"]
    preferences.main(["--model", str(domain), "--data", str(pairs), "--output_dir", str(tmp_path / "asked"), *sampled])
    run(dpo, domain, pairs, "dpo", *lora, *measured)
    run(dpo, domain, pairs, "dpo_full")
    last = run(ppo, domain, pairs, "ppo", "--reward_model", str(scorer), *small, *lora, *measured)
    run(ppo, domain, pairs, "ppo_full", "--reward_model", str(scorer), *small, "--critic", "separate")
    evaluation = read_manifest(last)["evaluation"]
    assert evaluation is not None and read_manifest(last)["notes"]["merge"]["largest_difference"] <= 1e-4
