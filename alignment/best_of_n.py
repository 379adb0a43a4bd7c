"""Best-of-n: sample n answers, keep the one the proxy likes best. The baseline that every alignment method must be compared with.

Shapes: P prompts, N samples of each prompt (from the reference policy), n <= N the number to choose among.

The estimator is `reward.best_of.expected_best`: from N samples, unbiased for every n up to N. `evaluate_best_of_n` puts the kept answers
beside those of trained models: the same prompts and judges, the same files.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.results import Evaluation, Metric, measured
from eval.statistics import Estimate, mean_interval
from reward.best_of import expected_best


def curve(proxy_PN: np.ndarray, score_PN: np.ndarray, ns: Sequence[int] | None = None) -> list[dict]:
    """One row a value of n: {n, kl_bound_nats, proxy, score}, the last two as `Estimate`s over prompts. ns default: powers of 2 up to N."""
    n_samples = np.asarray(proxy_PN).shape[1]
    ns = ns or [2**k for k in range(n_samples.bit_length()) if 2**k <= n_samples]
    rows = []
    for n in ns:
        proxy: Estimate = mean_interval(expected_best(proxy_PN, proxy_PN, n))
        score: Estimate = mean_interval(expected_best(proxy_PN, score_PN, n))
        rows.append({"n": n, "kl_bound_nats": kl_bound_nats(n), "proxy": proxy, "score": score})
    return rows


def kl_bound_nats(n: int) -> float:
    """log n - (n-1)/n: an upper BOUND on KL(best-of-n || reference), equal to it only where no answer is likely to come twice.

    Source: Beirami et al. 2024, arXiv:2401.01879, theorem 1."""
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1")
    return math.log(n) - (n - 1) / n


def choose(
    prompts: Sequence,
    samples: Sequence[Sequence[str]],
    score: Callable[..., list[float]],
    columns: dict[str, list] | None = None,
) -> tuple[list[str], np.ndarray]:
    """The kept answer of each prompt (the first of those that score highest) and all scores, (P, N).

    score: called once as score(prompts, completions, **columns) on the flat list, each prompt's samples beside each other."""
    widths = {len(answers) for answers in samples}
    if len(widths) != 1 or len(samples) != len(prompts):
        raise ValueError(
            f"each of the {len(prompts)} prompts needs the same number of samples; got {len(samples)} lists of {sorted(widths)}"
        )
    n = widths.pop()
    flat = {name: [value for value in values for _ in range(n)] for name, values in (columns or {}).items()}
    repeated = [prompt for prompt in prompts for _ in range(n)]
    scores_PN = np.asarray(
        score(repeated, [a for answers in samples for a in answers], **flat), dtype=np.float64
    ).reshape(-1, n)
    return [answers[best] for answers, best in zip(samples, scores_PN.argmax(axis=1), strict=True)], scores_PN


def evaluate_best_of_n(
    checkpoint: Path | str, suite: Any, proxy: Callable[..., list[float]], n: int, *, judges: Mapping[str, Callable]
) -> Evaluation:
    """The generation sets of a suite, each prompt answered by the best of n samples (temperature 1) under `proxy`.

    As a trained model's, with the proxy marked as optimised ("reward_model", as PPO names it), and three things on top: `sampled_tokens`,
    what an answer cost, all n counted; `kl/kl_nats_bound`, the bound, in a metric of its own because the others' KL is measured; and
    the seconds a prompt under `cost`. Likelihood and benchmarks are no matter of best-of-n: it has no probabilities to ask for.
    Raises ValueError for a suite without generation sets, or n < 1."""
    from eval import generation
    from eval.checks import checks_of
    from eval.harness import environment_of, load_checkpoint
    from eval.suite import read_set

    bound = Metric(
        "kl", "kl_nats_bound", "given", (), None, "nats/response", is_headline=True, given=kl_bound_nats(n),
        signature=f"upper bound log n - (n-1)/n for n = {n}, not measured; arXiv:2401.01879",
    )  # fmt: skip
    if not suite.generation_sets:
        raise ValueError(f"suite '{suite.name}' has no generation set, and best-of-n answers prompts")
    model, tokenizer = load_checkpoint(checkpoint)
    result = Evaluation(f"best of {n} of {checkpoint}", suite.describe(), [], environment=environment_of(model))
    result.loaded_items = []
    began_s, asked = time.monotonic(), 0
    for name, made in suite.generation_sets.items():
        tokens: list[int] = []

        def answer(model, tokenizer, prompts, decoding, tokens=tokens):
            repeated = [prompt for prompt in prompts for _ in range(n)]
            flat, cut = generation.respond(model, tokenizer, repeated, decoding)
            samples = [flat[i : i + n] for i in range(0, len(flat), n)]
            tokens += [sum(output.tokens for output in of_prompt) for of_prompt in samples]
            kept, _ = choose(prompts, samples, lambda prompts, outputs: proxy(prompts, [o.text for o in outputs]))
            return kept, cut // n

        items, metrics, notes = generation.measure(
            name,
            model,
            tokenizer,
            read_set(made, suite.seed),
            generation.Decoding(made.max_new_tokens, 1.0, 1.0, suite.seed),
            metrics=made.metrics,
            judges={**{judge: judges[judge] for judge in made.judges}, "reward_model": proxy},
            optimised=["reward_model"],
            cluster=made.cluster,
            answer=answer,
        )
        for item, count in zip(items, tokens, strict=True):
            item["scores"]["sampled_tokens"] = count
        metrics.append(Metric(name, "sampled_tokens", "mean", ("sampled_tokens",), False, "tokens"))
        result.loaded_items += items
        result.metrics += [measured(metric, items) for metric in metrics]
        result.notes[name] = notes
        asked += len(items)
    result.metrics.append(measured(bound, []))
    result.checks = checks_of(result)
    result.cost = {"seconds_per_prompt": round((time.monotonic() - began_s) / asked, 4)}
    return result
