"""Scores of one output against its reference: ROUGE, BLEU and chrF statistics, exact match, token F1, repetition.

A scorer takes (output, reference) and returns named numbers (or lists of summed statistics) for one item; `TEXT_METRICS` says
which metrics follow from them. rouge_score's argument order is (target, prediction).
"""

from __future__ import annotations

import itertools
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")

Scores = dict[str, float | list[float]]


@dataclass(frozen=True)
class TextMetric:
    """A family of metrics made by one scorer: `names` maps each metric to (aggregate, item scores, unit)."""

    score: Callable[[str, str], Scores]
    names: dict[str, tuple[str, tuple[str, ...], str]]
    signature: Callable[[], str]


@cache
def _rouge_scorer():
    from rouge_score.rouge_scorer import RougeScorer  # late: imports nltk and scipy, a second

    return RougeScorer(list(ROUGE_TYPES), use_stemmer=False, split_summaries=False)


def rouge(output: str, reference: str) -> Scores:
    """F-measures in [0, 1], no stemming; rougeLsum takes each line as a sentence."""
    found = _rouge_scorer().score(target=reference, prediction=output)
    return {name: found[name].fmeasure for name in ROUGE_TYPES}


@cache
def _sacrebleu(name: str):
    from sacrebleu.metrics import BLEU, CHRF

    return {"bleu": BLEU, "chrf": CHRF}[name]()


def bleu_statistics(output: str, reference: str) -> Scores:
    """sacrebleu's counts of one segment: lengths, matching n-grams, n-grams; see `results.bleu`."""
    score = _sacrebleu("bleu").corpus_score([output], [[reference]])
    return {"bleu": [score.sys_len, score.ref_len, *score.counts, *score.totals]}


def chrf_statistics(output: str, reference: str) -> Scores:
    """sacrebleu's counts of one segment for chrF2; see `results.chrf`."""
    return {"chrf": list(_sacrebleu("chrf")._extract_corpus_statistics([output], [[reference]])[0])}


def normalise(answer: str) -> str:
    """SQuAD's: lower case, no punctuation, no articles, single spaces."""
    answer = "".join(c for c in answer.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", answer).split())


def exact_match(output: str, reference: str) -> Scores:
    return {"exact_match": float(normalise(output) == normalise(reference))}


def token_f1(output: str, reference: str) -> Scores:
    """SQuAD's F1 of normalised words; 1 where both are empty, 0 where one is."""
    said, wanted = normalise(output).split(), normalise(reference).split()
    if not said or not wanted:
        return {"f1": float(said == wanted)}
    common = sum((Counter(said) & Counter(wanted)).values())
    return {"f1": 2 * common / (len(said) + len(wanted))}


def repetition(output: str) -> Scores:
    """Word bigrams of an output, and how many are different."""
    words = output.split()
    bigrams = list(itertools.pairwise(words))
    return {"distinct_bigrams": len(set(bigrams)), "bigrams": len(bigrams)}


def _means(names: Sequence[str]) -> dict[str, tuple[str, tuple[str, ...], str]]:
    return {name: ("mean", (name,), "") for name in names}


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


TEXT_METRICS: dict[str, TextMetric] = {
    "rouge": TextMetric(
        rouge,
        _means(ROUGE_TYPES),
        lambda: f"rouge_score {_version('rouge_score')}, F-measure, no stemming, Lsum by line",
    ),
    "bleu": TextMetric(bleu_statistics, {"bleu": ("bleu", ("bleu",), "0-100")}, lambda: str(_signature("bleu"))),
    "chrf": TextMetric(chrf_statistics, {"chrf": ("chrf", ("chrf",), "0-100")}, lambda: str(_signature("chrf"))),
    "exact_match": TextMetric(
        exact_match, {"exact_match": ("proportion", ("exact_match",), "")}, lambda: "SQuAD normalisation"
    ),
    "f1": TextMetric(token_f1, _means(["f1"]), lambda: "SQuAD normalisation"),
}


def _signature(name: str) -> str:
    metric = _sacrebleu(name)
    metric.corpus_score(["a"], [["a"]])  # the signature learns the number of references here
    return str(metric.get_signature())
