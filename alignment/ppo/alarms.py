"""Alarms: what a person watching the curves would stop for, as functions of the logged numbers alone.

A curve counts as the mean of its last `WINDOW` logged updates, and its beginning as the mean of its first `WINDOW`, so that one
odd batch raises nothing. Because they read the log, alarms need no state of their own and survive a resume.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignment.ppo.config import PPOConfig

WINDOW = 3  # logged updates


@dataclass(frozen=True)
class Alarm:
    """name: short, for a progress line; message: the numbers, and what they suggest."""

    step: int
    name: str
    message: str


def curve_alarms(history: Sequence[Mapping[str, Any]], args: PPOConfig) -> list[Alarm]:
    """Alarms on the training curves; `history` is the log so far, oldest first. A limit of None is never crossed."""
    rows = [row for row in history if "objective/kl_nats" in row]
    if len(rows) < WINDOW:
        return []
    step = rows[-1]["step"]

    def ends(name: str) -> tuple[float, float]:
        values = [row[name] for row in rows]
        return statistics.fmean(values[:WINDOW]), statistics.fmean(values[-WINDOW:])

    found = []
    _, kl_nats = ends("objective/kl_nats")
    if args.alarm_kl_nats is not None and kl_nats > args.alarm_kl_nats:
        detail = f"KL from the reference is {kl_nats:.1f} nats (limit {args.alarm_kl_nats:g}); raise kl_coef or lower the rate"
        found.append(Alarm(step, "kl", detail))
    first, entropy = ends("objective/entropy_nats")
    if args.alarm_entropy_fraction is not None and entropy < args.alarm_entropy_fraction * first:
        detail = f"entropy fell from {first:.3f} to {entropy:.3f} nats a token; the policy repeats itself"
        found.append(Alarm(step, "entropy", detail))
    first, length = ends("rollout/length_tokens")
    factor = args.alarm_length_factor
    if factor is not None and not first / factor <= length <= first * factor:
        detail = f"responses went from {first:.1f} to {length:.1f} tokens; the score may pay for length"
        found.append(Alarm(step, "length", detail))
    first, eos_rate = ends("rollout/eos_rate")
    if args.alarm_eos_rate is not None and eos_rate < args.alarm_eos_rate:
        detail = f"only {eos_rate:.0%} of responses end themselves ({first:.0%} at first)"
        found.append(Alarm(step, "eos_rate", detail))
    return found


def gold_alarms(evaluations: Sequence[Mapping[str, Any]], args: PPOConfig) -> list[Alarm]:
    """Score up while gold falls: over-optimization, on the same held-out prompts.

    evaluations: oldest first, each {"step", "score": mean of what is trained on, "judges": {name: [a number a prompt]}}. A
    judge's latest numbers are compared, prompt by prompt, with those of its best evaluation before."""
    if args.alarm_gold_drop_se is None or len(evaluations) < 2:
        return []
    latest, found = evaluations[-1], []
    for name, gold in latest["judges"].items():
        best = max(evaluations[:-1], key=lambda evaluation: statistics.fmean(evaluation["judges"][name]))
        falls = [before - after for before, after in zip(best["judges"][name], gold, strict=True)]
        fall = statistics.fmean(falls)
        error = statistics.stdev(falls) / math.sqrt(len(falls)) if len(falls) > 1 else math.inf
        if latest["score"] > best["score"] and fall > args.alarm_gold_drop_se * error:
            detail = (
                f"{name} fell by {fall:.3f} +- {error:.3f} since step {best['step']} while the score rose from "
                f"{best['score']:.3f} to {latest['score']:.3f}: over-optimization; take an earlier checkpoint or raise kl_coef"
            )
            found.append(Alarm(latest["step"], f"gold_{name}", detail))
    return found
