"""Best-of-n: sample n answers, keep the one the proxy likes best. The baseline that every alignment method must be compared with.

Shapes: P prompts, N samples of each prompt (from the reference policy), n <= N the number to choose among.

The estimator is `reward.best_of.expected_best`: from N samples, unbiased for every n up to N.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from eval.statistics import Estimate, bootstrap_mean
from reward.best_of import expected_best


def curve(proxy_PN: np.ndarray, score_PN: np.ndarray, ns: Sequence[int] | None = None) -> list[dict]:
    """One row a value of n: {n, kl_bound_nats, proxy, score}, the last two as `Estimate`s over prompts. ns default: powers of 2 up to N."""
    n_samples = np.asarray(proxy_PN).shape[1]
    ns = ns or [2**k for k in range(n_samples.bit_length()) if 2**k <= n_samples]
    rows = []
    for n in ns:
        proxy: Estimate = bootstrap_mean(expected_best(proxy_PN, proxy_PN, n))
        score: Estimate = bootstrap_mean(expected_best(proxy_PN, score_PN, n))
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
