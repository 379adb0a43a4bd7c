"""Scores of one output against its reference: ROUGE, BLEU and chrF statistics, exact match, token F1, repetition.

A scorer takes (output, references) and returns named numbers (or lists of summed statistics) for one item; `TEXT_METRICS` says
which metrics follow from them. Of several references ROUGE, exact match and F1 take the one that gives the highest value, as rouge_score
and SQuAD do; BLEU and chrF take them as sacrebleu does. rouge_score's argument order is (target, prediction).
"""

from __future__ import annotations

import itertools
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")

Scores = dict[str, float | list[float]]


@dataclass(frozen=True)
class TextMetric:
    """A family of metrics made by one scorer: `names` maps each metric to (aggregate, item scores, unit)."""

    score: Callable[[str, Sequence[str]], Scores]
    names: dict[str, tuple[str, tuple[str, ...], str]]
    signature: Callable[..., str]  # of how many references an item has, as sacrebleu writes it: "1", "3", "var"


class Words:
    """rouge_score's words (runs of a-z and 0-9 in lower case), and those of scripts that it has no words for: runs of other letters,
    marks and digits, a character each where a script does not write spaces. Latin text has rouge_score's own words, é being none."""

    OTHER = r"[\p{L}\p{Nd}--\p{Latin}--[0-9]][\p{L}\p{M}\p{Nd}--\p{Latin}--[0-9]]*"
    UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*"

    def __init__(self) -> None:
        import regex

        self._word = regex.compile(rf"[a-z0-9]+|{self.UNSPACED}|{self.OTHER}", regex.VERSION1)

    def tokenize(self, text: str) -> list[str]:
        """The words of a text."""
        return self._word.findall(text.lower())


@cache
def _rouge_scorer():
    from rouge_score.rouge_scorer import RougeScorer  # late: imports nltk and scipy, a second

    return RougeScorer(list(ROUGE_TYPES), split_summaries=False, tokenizer=Words())


def rouge(output: str, references: Sequence[str]) -> Scores:
    """F-measures in [0, 1], no stemming; rougeLsum takes each line as a sentence. Words: see `Words`."""
    found = _rouge_scorer().score_multi(targets=references, prediction=output)
    return {name: found[name].fmeasure for name in ROUGE_TYPES}


@cache
def _sacrebleu(name: str):
    from sacrebleu.metrics import BLEU, CHRF

    return {"bleu": BLEU, "chrf": CHRF}[name]()


def bleu_statistics(output: str, references: Sequence[str]) -> Scores:
    """sacrebleu's counts of one segment: lengths, matching n-grams, n-grams; see `results.bleu`."""
    score = _sacrebleu("bleu").corpus_score([output], [[reference] for reference in references])
    return {"bleu": [score.sys_len, score.ref_len, *score.counts, *score.totals]}


def chrf_statistics(output: str, references: Sequence[str]) -> Scores:
    """sacrebleu's counts of one segment for chrF2; see `results.chrf`."""
    streams = [[reference] for reference in references]
    return {"chrf": list(_sacrebleu("chrf")._extract_corpus_statistics([output], streams)[0])}


def normalise(answer: str) -> str:
    """SQuAD's: lower case, no punctuation, no articles, single spaces."""
    answer = "".join(c for c in answer.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", answer).split())


def exact_match(output: str, references: Sequence[str]) -> Scores:
    return {"exact_match": float(normalise(output) in map(normalise, references))}


def token_f1(output: str, references: Sequence[str]) -> Scores:
    """SQuAD's F1 of normalised words; 1 where both are empty, 0 where one is."""
    said = normalise(output).split()
    return {"f1": max(_f1(said, normalise(reference).split()) for reference in references)}


def _f1(said: list[str], wanted: list[str]) -> float:
    if not said or not wanted:
        return float(said == wanted)
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted))


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


def _signature(name: str, nrefs: str = "1") -> str:
    metric = _sacrebleu(name)
    metric.corpus_score(["a"], [["a"]])  # the signature learns the number of references here
    return str(metric.get_signature()).replace("nrefs:1", f"nrefs:{nrefs}")


def _best_of(nrefs: str) -> str:
    return "" if nrefs == "1" else f", the best of an item's references (nrefs:{nrefs})"


def _rouge_signature(nrefs: str = "1") -> str:
    return f"rouge_score {_version('rouge_score')}, F-measure, no stemming, Lsum by line, words of every script{_best_of(nrefs)}"


def _squad(nrefs: str = "1") -> str:
    return f"SQuAD normalisation{_best_of(nrefs)}"


TEXT_METRICS: dict[str, TextMetric] = {
    "rouge": TextMetric(
        rouge,
        _means(ROUGE_TYPES),
        _rouge_signature,
    ),
    "bleu": TextMetric(bleu_statistics, {"bleu": ("bleu", ("bleu",), "0-100")}, partial(_signature, "bleu")),
    "chrf": TextMetric(chrf_statistics, {"chrf": ("chrf", ("chrf",), "0-100")}, partial(_signature, "chrf")),
    "exact_match": TextMetric(exact_match, {"exact_match": ("proportion", ("exact_match",), "")}, _squad),
    "f1": TextMetric(token_f1, _means(["f1"]), _squad),
}
