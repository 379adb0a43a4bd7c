"""The expected score of best-of-n from more samples than n: unbiased, and using all of them.

Shapes: P prompts, N samples of each prompt, n <= N the number to choose among.

Of the C(N, n) subsets of n samples, the one of proxy rank i (1 = worst) is the best in C(i-1, n-1). Source: Nakano et al. 2021,
arXiv:2112.09332, appendix I.
"""

import math

import numpy as np


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
