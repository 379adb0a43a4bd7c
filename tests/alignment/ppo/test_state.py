"""Resuming: the same bits as a run that was never stopped, and a clear refusal of what would be another run."""

import contextlib
import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from base_model.checkpoints import damage
from tests.alignment.ppo.ppo_setup import lively, lora, trainer
from tests.conftest import random_model


def drawing_reward(prompts, completions, **columns):
    """A reward with noise from all three generators: their state must come back too."""
    noise = random.random() + np.random.rand() + torch.rand(()).item()
    return [noise + len(text) / 10 for text in completions]


def run(folder, tokenizer, *, until=None, resume=None, **settings):
    """A run of 4 updates saved after each; `until`: stop after that many, as if killed there."""
    settings = {
        "save_strategy": "steps",
        "save_steps": 1,
        "max_steps": 4,
        "kl_target": 0.5,
        "kl_horizon": 50,
        **settings,
    }
    made = trainer(folder, tokenizer, rewards=drawing_reward, **settings)
    if until is not None:
        step = made.step
        made.step = lambda: step() if made.state.global_step < until else (_ for _ in ()).throw(KeyboardInterrupt)
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(0)
    with contextlib.suppress(KeyboardInterrupt):
        made.train(resume_from_checkpoint=resume)
    return made


def everything(made):
    state = made.policy_optimizer.state_dict()["state"], made.critic_optimizer.state_dict()["state"]
    log = [
        {k: v for k, v in row.items() if not k.startswith(("time/", "throughput/"))} for row in made.state.log_history
    ]
    return made.module.state_dict(), state, made.kl_coef, log, made.evaluations


def assert_same(a, b):
    (weights_a, state_a, kl_a, log_a, eval_a), (weights_b, state_b, kl_b, log_b, eval_b) = everything(a), everything(b)
    assert weights_a.keys() == weights_b.keys()
    assert all(weights_a[name].equal(weights_b[name]) for name in weights_a)
    for one, other in zip(state_a, state_b, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[p][k], other[p][k]) for p in one for k in one[p])
    assert kl_a == kl_b and log_a == log_b and eval_a == eval_b


@pytest.mark.parametrize("critic", ["shared", "separate"])
@pytest.mark.parametrize("adapter", [None, lora], ids=["full", "lora"])
def test_a_resumed_run_ends_as_the_one_that_was_not_stopped_bit_for_bit(tmp_path, tokenizer, dialect, critic, adapter):
    def settings():
        return {"dialect": dialect, "critic": critic, "peft_config": adapter and adapter()}

    torch.manual_seed(9)
    start = random_model(dialect, len(tokenizer)).state_dict()

    def model():
        torch.manual_seed(9)
        fresh = random_model(dialect, len(tokenizer))
        fresh.load_state_dict(start)
        return lively(fresh)

    torch.manual_seed(1)
    whole = run(tmp_path / "whole", tokenizer, model=model(), **settings())
    torch.manual_seed(1)
    run(tmp_path / "parts", tokenizer, until=2, model=model(), **settings())
    torch.manual_seed(1)
    resumed = run(tmp_path / "parts", tokenizer, resume=True, model=model(), **settings())
    assert_same(whole, resumed)


def test_a_run_that_its_alarm_ended_stays_ended_when_resumed(tmp_path, tokenizer):
    """Killed in the final save, say: the newest checkpoint is of the update that raised the alarm."""
    settings = {"alarm_eos_rate": 2.0, "alarm_action": "stop"}  # no share is as high: raised as soon as it is looked at
    ended = run(tmp_path, tokenizer, **settings)
    assert ended.state.global_step == 3
    assert_same(ended, run(tmp_path, tokenizer, resume=True, **settings))


def test_a_checkpoint_is_sealed_has_no_pickle_and_old_ones_go(tmp_path, tokenizer):
    run(tmp_path, tokenizer)
    folders = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert folders == ["checkpoint-3", "checkpoint-4"]
    newest = tmp_path / "checkpoint-4"
    assert damage(newest) is None
    files = {path.name for path in newest.iterdir()}
    assert files == {"weights.safetensors", "optimizers.safetensors", "rng.json", "state.json", "sealed.json"}
    weights, state = load_file(newest / "weights.safetensors"), json.loads((newest / "state.json").read_text())
    assert "value_head.weight" in weights and any(name.startswith("policy.") for name in weights)
    optimizers = load_file(newest / "optimizers.safetensors")
    assert {"value_head.weight/exp_avg", "value_head.weight/exp_avg_sq", "value_head.weight/step"} <= optimizers.keys()
    assert any(name.startswith("policy.") for name in optimizers)
    assert state["step"] == 4 and state["next_episode"] == 64 and state["kl_coef"] != 0.05


def test_a_damaged_newest_checkpoint_is_passed_over_and_a_named_one_refused(tmp_path, tokenizer):
    whole = run(tmp_path / "whole", tokenizer)
    run(tmp_path / "parts", tokenizer, until=3)
    file = tmp_path / "parts" / "checkpoint-3" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"checkpoint-3 is damaged: weights.safetensors does not match"):
        run(tmp_path / "parts", tokenizer, resume=tmp_path / "parts" / "checkpoint-3")
    with pytest.warns(UserWarning, match="checkpoint-3 is damaged"):
        resumed = run(tmp_path / "parts", tokenizer, resume=True)
    assert_same(whole, resumed)


def test_nothing_to_resume_from_is_said(tmp_path, tokenizer):
    with pytest.raises(FileNotFoundError, match="no whole checkpoint to resume from"):
        run(tmp_path, tokenizer, resume=True)
    (tmp_path / "checkpoint-1").mkdir()
    with pytest.raises(FileNotFoundError, match="checkpoint-1 is no PPO checkpoint"):
        run(tmp_path, tokenizer, resume=tmp_path / "checkpoint-1")


def test_what_would_be_another_run_is_refused(tmp_path, tokenizer):
    run(tmp_path, tokenizer, until=1)
    with pytest.raises(ValueError, match=r"made with other settings \(kl_coef 0.05 -> 0.1\)"):
        run(tmp_path, tokenizer, resume=True, kl_coef=0.1)
    with pytest.raises(ValueError, match="trained against another reference"):
        run(tmp_path, tokenizer, resume=True, model=lively(random_model("gpt2", len(tokenizer), seed=5)))


def test_another_adapter_is_refused(tmp_path, tokenizer):
    run(tmp_path, tokenizer, until=1, peft_config=lora())
    with pytest.raises(
        ValueError, match="holds other trained parameters than this model .* same model, adapter and critic"
    ):
        run(tmp_path, tokenizer, resume=True, peft_config=lora(r=2))


def test_settings_that_only_watch_may_change(tmp_path, tokenizer):
    whole = run(tmp_path / "whole", tokenizer)
    run(tmp_path / "parts", tokenizer, until=2)
    resumed = run(tmp_path / "parts", tokenizer, resume=True, save_steps=2, run_name="again")
    assert all(a.equal(b) for a, b in zip(whole.policy.parameters(), resumed.policy.parameters(), strict=True))


def test_the_saved_model_is_an_ordinary_checkpoint(tmp_path, tokenizer, dialect):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = trainer(tmp_path, tokenizer, dialect)
    made.train()
    made.save_model(tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    ids = torch.tensor([[1, 5, 9]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=ids).logits, made.policy(input_ids=ids).logits, atol=1e-6, rtol=0)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "model")) == len(tokenizer)
