"""Held-out evaluation, alarms in a running trainer, callbacks and trackers."""

import json

import pytest
import torch
from transformers import TrainerCallback

from base_model.sequence import token_logprobs
from tests.alignment.ppo.ppo_setup import PROMPTS, trainer, vowels


def gold(prompts, completions, **columns):
    return [-len(text) / 10 for text in completions]


def heldout(n=5):
    return [{"prompt": f"{row['prompt']} {i}", "weight": 0.0} for i, row in enumerate(PROMPTS[:n])]


def evaluating(tmp_path, tokenizer, **settings):
    return trainer(
        tmp_path, tokenizer, eval_dataset=heldout(), eval_judges={"gold": gold}, eval_strategy="steps", eval_steps=2,
        max_steps=4, num_eval_samples=3, **settings,
    )  # fmt: skip


def test_held_out_prompts_are_judged_before_during_and_after_training(tmp_path, tokenizer):
    made = evaluating(tmp_path, tokenizer)
    made.train()
    rows = [row for row in made.state.log_history if "eval/score" in row]
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert set(rows[0]) == {"step", "eval/score", "eval/gold", "eval/kl_nats", "eval/length_tokens", "eval/eos_rate"}
    assert (
        rows[0]["eval/kl_nats"] == pytest.approx(0.0, abs=1e-5) and rows[2]["eval/kl_nats"] != rows[1]["eval/kl_nats"]
    )


def test_samples_of_the_same_prompts_are_kept_over_time(tmp_path, tokenizer):
    evaluating(tmp_path, tokenizer).train()
    files = sorted((tmp_path / "samples").iterdir())
    assert [file.name for file in files] == ["step-000000.jsonl", "step-000002.jsonl", "step-000004.jsonl"]
    samples = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    assert [[row["prompt"] for row in rows] for rows in samples] == [[row["prompt"] for row in heldout(3)]] * 3
    assert set(samples[0][0]) == {"step", "prompt", "completion", "score", "gold", "kl_nats", "tokens", "is_stopped"}
    assert samples[0] != samples[2]


def test_evaluation_measures_what_it_says(tmp_path, tokenizer):
    """Scores from the judges on the kept texts; KL from plain forwards of policy and reference."""
    made = trainer(tmp_path, tokenizer, eval_dataset=heldout(), eval_judges={"gold": gold}, num_eval_samples=5)
    made.train()
    metrics = made.evaluate()
    rows = [json.loads(line) for line in (tmp_path / "samples" / "step-000003.jsonl").read_text().splitlines()]
    texts = [row["completion"] for row in rows]
    assert metrics["eval/score"] == pytest.approx(sum(vowels(None, texts)) / 5, abs=1e-6)
    assert metrics["eval/gold"] == pytest.approx(sum(gold(None, texts)) / 5, abs=1e-6)
    for model in (made.policy, made.module.reference):
        model.eval()
    from alignment.ppo.rollout import sample_responses
    from alignment.ppo.trainer import mixed_seed

    batch = made.eval_prompts.batch(range(5))
    responses = sample_responses(made.policy, batch.ids, made.sampling, pad_id=0, seed=mixed_seed(made.args.seed, -1))
    kl = []
    for prompt, response in zip(batch.ids, responses, strict=True):
        row = torch.tensor([[*prompt, *response]])
        with torch.no_grad():
            ours, theirs = (
                token_logprobs(model(input_ids=row).logits, row)[0, len(prompt) - 1 :].sum()
                for model in (made.policy, made.module.reference)
            )
        kl.append((ours - theirs).item())
    assert metrics["eval/kl_nats"] == pytest.approx(sum(kl) / 5, abs=1e-4)


def test_evaluation_does_not_change_what_is_trained(tmp_path, tokenizer):
    looked = evaluating(tmp_path / "a", tokenizer)
    blind = trainer(tmp_path / "b", tokenizer, max_steps=4)
    looked.train()
    blind.train()
    assert all(a.equal(b) for a, b in zip(looked.policy.parameters(), blind.policy.parameters(), strict=True))


def test_evaluation_without_prompts_is_refused(tmp_path, tokenizer):
    with pytest.raises(ValueError, match="eval_strategy is 'steps' but there is no eval_dataset"):
        trainer(tmp_path, tokenizer, eval_strategy="steps")
    made = trainer(tmp_path, tokenizer)
    with pytest.raises(ValueError, match="no held-out prompts"):
        made.evaluate()
    assert "eval/score" in made.evaluate(heldout(2))


def test_an_alarm_is_in_the_log_and_the_record_and_can_stop_the_run(tmp_path, tokenizer):
    seen = []

    class Watch(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            seen.append(logs.get("alarms"))

    made = trainer(
        tmp_path,
        tokenizer,
        alarm_kl_nats=1e-6,
        alarm_action="stop",
        max_steps=9,
        critic_warmup_steps=0,
        callbacks=[Watch()],
    )
    made.train()
    assert made.state.global_step == 3, "the first three updates with KL above the limit"
    assert [alarm.name for alarm in made.alarms] == ["kl"] and seen == [None, None, "kl"]
    warned = trainer(tmp_path / "b", tokenizer, alarm_kl_nats=1e-6, max_steps=5, critic_warmup_steps=0)
    warned.train()
    assert warned.state.global_step == 5 and len(warned.alarms) == 3


def test_gold_falling_while_the_score_rises_stops_the_run(tmp_path, tokenizer):
    """The reward is the length, gold its opposite: over-optimization by construction."""

    def length(prompts, completions, **columns):
        return [len(text) / 10 for text in completions]

    made = trainer(
        tmp_path, tokenizer, rewards=length, eval_dataset=heldout() * 8, eval_judges={"gold": gold}, eval_strategy="steps",
        eval_steps=4, max_steps=24, kl_coef=0.0, learning_rate=3e-3, missing_eos_penalty=0.0, alarm_action="stop",
    )  # fmt: skip
    made.train()
    assert made.state.global_step < 24
    assert [alarm.name for alarm in made.alarms] == ["gold_gold"]
    assert "over-optimization" in made.alarms[0].message


def test_callbacks_see_the_run_and_can_end_it(tmp_path, tokenizer):
    events = []

    class Ender(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            events.append("begin")

        def on_step_end(self, args, state, control, **kwargs):
            events.append(state.global_step)
            control.should_training_stop = state.global_step == 2

        def on_train_end(self, args, state, control, **kwargs):
            events.append("end")

    trainer(tmp_path, tokenizer, max_steps=9, callbacks=[Ender]).train()
    assert events == ["begin", 1, 2, "end"]


def test_trackers_get_the_metrics(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    trainer(tmp_path, tokenizer, report_to=["tensorboard"], max_steps=2).train()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = {file.parent for file in tmp_path.rglob("events.out*")}
    board = EventAccumulator(str(folder))
    board.Reload()
    assert "train/objective/score" in board.Tags()["scalars"]


def test_the_progress_line_shows_score_and_alarms(tmp_path, tokenizer, capsys):
    trainer(tmp_path, tokenizer, disable_tqdm=False, alarm_kl_nats=1e-6, max_steps=4, critic_warmup_steps=0).train()
    shown = capsys.readouterr().err
    assert "score" in shown and "KL" in shown and "ALARM kl" in shown and "4/4" in shown
