"""Each alarm rings on its curve, and on no other. Numbers by hand."""

import pytest

from alignment.ppo.alarms import curve_alarms, gold_alarms
from alignment.ppo.config import PPOConfig
from alignment.ppo.progress_bar import ProgressLine, summary

ARGS = PPOConfig("out", alarm_kl_nats=20.0)
HEALTHY = {
    "objective/kl_nats": 5.0,
    "objective/entropy_nats": 2.0,
    "rollout/length_tokens": 30.0,
    "rollout/eos_rate": 0.9,
}


def history(n=10, **last):
    """n healthy updates, then 3 with some numbers changed (dots in names for slashes)."""
    changed = {name.replace("__", "/"): value for name, value in last.items()}
    rows = [dict(HEALTHY) for _ in range(n)] + [{**HEALTHY, **changed} for _ in range(3)]
    return [{"step": i + 1, **row} for i, row in enumerate(rows)]


def test_a_healthy_run_rings_nothing():
    assert curve_alarms(history(), ARGS) == []


@pytest.mark.parametrize(
    "last, name, message",
    [
        ({"objective__kl_nats": 21.0}, "kl", r"KL from the reference is 21.0 nats \(limit 20\); raise kl_coef"),
        ({"objective__entropy_nats": 0.3}, "entropy", "entropy fell from 2.000 to 0.300 nats a token"),
        ({"rollout__length_tokens": 61.0}, "length", "responses went from 30.0 to 61.0 tokens"),
        ({"rollout__length_tokens": 14.0}, "length", "responses went from 30.0 to 14.0 tokens"),
        ({"rollout__eos_rate": 0.4}, "eos_rate", r"only 40% of responses end themselves \(90% at first\)"),
    ],
)
def test_each_alarm_rings_on_its_own_curve(last, name, message):
    (alarm,) = curve_alarms(history(**last), ARGS)
    assert alarm.name == name and alarm.step == 13
    import re

    assert re.search(message, alarm.message)


def test_one_odd_update_rings_nothing():
    rows = history()
    rows[-1]["objective/kl_nats"] = 40.0
    assert curve_alarms(rows, ARGS) == []


def test_alarms_wait_for_enough_updates_and_skip_rows_of_other_kinds():
    rows = history(n=0, objective__kl_nats=99.0)
    assert curve_alarms(rows[:2], ARGS) == []
    assert [alarm.name for alarm in curve_alarms([{"step": 0, "eval/score": 1.0}, *rows], ARGS)] == ["kl"]


def test_an_alarm_can_be_switched_off():
    off = PPOConfig(
        "out", alarm_kl_nats=None, alarm_entropy_fraction=None, alarm_length_factor=None, alarm_eos_rate=None
    )
    bad = history(
        objective__kl_nats=99.0, objective__entropy_nats=0.0, rollout__length_tokens=999.0, rollout__eos_rate=0.0
    )
    assert curve_alarms(bad, off) == []


def evaluation(step, score, gold):
    return {"step": step, "score": score, "judges": {"gold": gold}}


def test_score_up_while_gold_falls_rings_with_both_numbers():
    # Falls of 0.1, 0.2, 0.3, 0.2: mean 0.2, standard error 0.0816 / 2 = 0.0408.
    rows = [evaluation(0, 0.0, [0.4] * 4), evaluation(10, 1.0, [0.8] * 4), evaluation(20, 2.0, [0.7, 0.6, 0.5, 0.6])]
    (alarm,) = gold_alarms(rows, ARGS)
    assert alarm.name == "gold_gold" and alarm.step == 20
    assert "gold fell by 0.200 +- 0.041 since step 10 while the score rose from 1.000 to 2.000" in alarm.message


@pytest.mark.parametrize(
    "last",
    [
        evaluation(20, 0.5, [0.1] * 4),  # the score fell as well: no over-optimization
        evaluation(20, 2.0, [0.9] * 4),  # gold rose
        evaluation(20, 2.0, [1.4, 0.0, 1.6, 0.1]),  # a fall within its noise
    ],
)
def test_other_turns_of_gold_ring_nothing(last):
    assert gold_alarms([evaluation(0, 0.0, [0.4] * 4), evaluation(10, 1.0, [0.8] * 4), last], ARGS) == []
    assert gold_alarms([last], ARGS) == []


def test_the_progress_line_shows_the_numbers_and_the_alarms():
    line = summary(
        {"objective/score": 0.4123, "objective/kl_nats": 3.2, "rollout/eos_rate": 1.0, "alarms": "kl, length"}
    )
    assert line == "score 0.412  KL 3.2  eos 1  ALARM kl, length"


def test_where_there_is_no_terminal_progress_is_a_line_at_each_tenth_and_at_each_new_alarm(capsys):
    from transformers import TrainerControl, TrainerState

    line, control = ProgressLine(), TrainerControl()
    state = TrainerState(max_steps=50, is_world_process_zero=True)
    line.on_train_begin(None, state, control)
    for state.global_step in range(1, 51):
        line.on_step_end(None, state, control)
        line.on_log(
            None,
            state,
            control,
            logs={"objective/score": 0.5} | ({"alarms": "kl"} if 12 <= state.global_step < 20 else {}),
        )
        if state.global_step == 31:
            line.on_log(None, state, control, logs={"eval/score": 0.25, "alarms": "gold"})
            line.on_log(None, state, control, logs={"eval/score": 0.5})
    line.on_train_end(None, state, control)
    printed = capsys.readouterr().err
    assert "\r" not in printed
    told = printed.splitlines()
    steps = [int(text.split()[1].split("/")[0]) for text in told]
    assert steps == [5, 10, 12, 15, 20, 25, 30, 31, 31, 35, 40, 45, 50]
    assert told[0] == "step 5/50: score 0.5" and told[2] == "step 12/50: score 0.5  ALARM kl"
    assert told[7] == "step 31/50: eval/score 0.25  ALARM gold" and told[8] == "step 31/50: eval/score 0.5"
