"""Best-of-n: sample n answers, keep the one the proxy likes best. The baseline that every alignment method must be compared with.

Shapes: P prompts, N samples of each prompt (from the reference policy), n <= N the number to choose among.

From N samples the expected score of the best of n has an unbiased estimator that uses all of them: of the C(N, n) subsets, the sample of
proxy rank i (1 = worst) is the best in C(i-1, n-1). Source: Nakano et al. 2021, arXiv:2112.09332, appendix I.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from eval.statistics import Estimate, bootstrap_mean


def weights(n_samples: int, n: int) -> np.ndarray:
    """(N,) probability that the sample of proxy rank 1..N (worst first) is the best of n drawn without replacement. Sums to 1.

    Raises ValueError unless 1 <= n <= N."""
    if not 1 <= n <= n_samples:
        raise ValueError(f"best of {n} needs n between 1 and the number of samples, {n_samples}")
    total = math.comb(n_samples, n)
    return np.array([math.comb(rank - 1, n - 1) / total for rank in range(1, n_samples + 1)])


def expected_best(proxy_PN: np.ndarray, score_PN: np.ndarray, n: int) -> np.ndarray:
    """(P,) unbiased estimate, a prompt, of E[score of the sample with the highest proxy among n].

    Samples of equal proxy are equally likely to be kept, so their scores are averaged. Raises ValueError for shapes that differ or
    scores that are not finite."""
    proxy_PN, score_PN = np.asarray(proxy_PN, dtype=np.float64), np.asarray(score_PN, dtype=np.float64)
    if proxy_PN.shape != score_PN.shape or proxy_PN.ndim != 2:
        raise ValueError(f"proxy and score must both be (prompts, samples); got {proxy_PN.shape} and {score_PN.shape}")
    if not (np.isfinite(proxy_PN).all() and np.isfinite(score_PN).all()):
        raise ValueError("best-of-n needs finite scores; the judge gave NaN or infinity")
    weight_N = weights(proxy_PN.shape[1], n)
    return np.array(
        [weight_N @ _ties_averaged(proxy_N, score_N) for proxy_N, score_N in zip(proxy_PN, score_PN, strict=True)]
    )


def _ties_averaged(proxy_N: np.ndarray, score_N: np.ndarray) -> np.ndarray:
    """Scores in order of proxy, each replaced by the mean over the samples of its proxy value."""
    order = np.argsort(proxy_N, kind="stable")
    _, group_N, counts = np.unique(proxy_N[order], return_inverse=True, return_counts=True)
    return (np.bincount(group_N, weights=score_N[order]) / counts)[group_N]


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
