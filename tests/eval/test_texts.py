"""Expected numbers come from rouge_score's aggregate, sacrebleu's command line, and by hand."""

import json
import subprocess
import sys

import numpy as np
import pytest

from eval.results import Metric, estimate
from eval.texts import TEXT_METRICS, Words, exact_match, normalise, repetition, rouge, token_f1

REFERENCES = [
    "The cat sat on the mat.\nIt was warm.",
    "Rain fell all day, and the river rose.",
    "Nora bought three red apples at the market.",
    "No.",
    "He did not know the answer to that.",
    "The doctor looked at the dog's paw and smiled.",
]
OUTPUTS = [
    "The cat sat on a mat.\nThe day was warm.",
    "Rain fell all day.",
    "At the market Nora bought three apples, red ones, and then went home.",
    "",
    "He did not know the answer to that.",
    "Completely different words here",
]


def items_of(family: str, outputs=OUTPUTS, references=REFERENCES) -> list[dict]:
    made = TEXT_METRICS[family]
    return [
        {"item": str(i), "scores": made.score(o, [r])} for i, (o, r) in enumerate(zip(outputs, references, strict=True))
    ]


def value_of(family: str, name: str, **data) -> float:
    aggregate, fields, _ = TEXT_METRICS[family].names[name]
    return estimate(Metric("s", name, aggregate, fields), items_of(family, **data)).value


@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL", "rougeLsum"])
def test_rouge_equals_rouge_scores_own_aggregate(name):
    from rouge_score import rouge_scorer
    from rouge_score.scoring import BootstrapAggregator

    scorer, aggregator = rouge_scorer.RougeScorer([name]), BootstrapAggregator()
    for output, reference in zip(OUTPUTS, REFERENCES, strict=True):
        aggregator.add_scores(scorer.score(reference, output))
    # its aggregate is the median of resampled means: compare with the mean that it resamples, and with it within its noise
    mean = np.mean([scorer.score(r, o)[name].fmeasure for o, r in zip(OUTPUTS, REFERENCES, strict=True)])
    assert value_of("rouge", name) == pytest.approx(mean, abs=1e-12)
    assert value_of("rouge", name) == pytest.approx(aggregator.aggregate()[name].mid.fmeasure, abs=0.03)


@pytest.mark.parametrize("family", ["bleu", "chrf"])
@pytest.mark.parametrize("kept", [6, 3, 1])
def test_bleu_and_chrf_equal_sacrebleus_command_line(family, kept, tmp_path):
    (tmp_path / "out.txt").write_text("".join(o.replace("\n", " ") + "\n" for o in OUTPUTS[-kept:]))
    (tmp_path / "ref.txt").write_text("".join(r.replace("\n", " ") + "\n" for r in REFERENCES[-kept:]))
    command = [sys.executable, "-m", "sacrebleu", "ref.txt", "-i", "out.txt", "-m", family, "-w", "10"]
    theirs = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    flat = {
        "outputs": [o.replace("\n", " ") for o in OUTPUTS[-kept:]],
        "references": [r.replace("\n", " ") for r in REFERENCES[-kept:]],
    }
    assert value_of(family, family, **flat) == pytest.approx(theirs["score"], abs=1e-9)
    assert TEXT_METRICS[family].signature() == theirs["signature"]


@pytest.mark.parametrize("outputs", [[""] * 6, ["x"] * 6, ["The cat"] * 6])
def test_degenerate_outputs_get_sacrebleus_score_and_no_warning(outputs, recwarn):
    from sacrebleu.metrics import BLEU, CHRF

    assert value_of("bleu", "bleu", outputs=outputs) == pytest.approx(
        BLEU().corpus_score(outputs, [REFERENCES]).score, abs=1e-9
    )
    assert value_of("chrf", "chrf", outputs=outputs) == pytest.approx(
        CHRF().corpus_score(outputs, [REFERENCES]).score, abs=1e-9
    )
    assert not recwarn.list


def test_exact_match_and_f1_by_hand():
    assert normalise("  The  Cat, sat!") == "cat sat"
    assert exact_match("The cat.", ["a cat"])["exact_match"] == 1
    assert exact_match("The cats.", ["a cat"])["exact_match"] == 0
    # "cat sat mat" against "cat sat": 2 common, F = 2*2/(3+2)
    assert token_f1("The cat sat, mat", ["a cat sat"])["f1"] == pytest.approx(0.8)
    assert token_f1("", ["the"])["f1"] == 1  # both are empty after normalisation
    assert token_f1("", ["cat"])["f1"] == 0


MORE = [
    "The cat sat there.\nWarm it was.",
    "All day rain fell.",
    "Nora went home with red apples.",
    "",
    "He knew not.",
    "A dog.",
]


@pytest.mark.parametrize("family", ["bleu", "chrf"])
def test_of_several_references_sacrebleu_is_asked(family):
    from sacrebleu.metrics import BLEU, CHRF

    made = TEXT_METRICS[family]
    items = [
        {"item": str(i), "scores": made.score(output, list(pair))}
        for i, (output, *pair) in enumerate(zip(OUTPUTS, REFERENCES, MORE, strict=True))
    ]
    metric = {"bleu": BLEU, "chrf": CHRF}[family]()
    expected = metric.corpus_score(OUTPUTS, [REFERENCES, MORE])
    assert estimate(Metric("s", family, family, (family,)), items).value == pytest.approx(expected.score, abs=1e-9)
    assert made.signature("2") == str(metric.get_signature())


def test_of_several_references_the_nearest_counts():
    from rouge_score.rouge_scorer import RougeScorer

    expected = RougeScorer(["rougeL"]).score_multi([REFERENCES[0], MORE[0]], OUTPUTS[0])["rougeL"].fmeasure
    assert TEXT_METRICS["rouge"].score(OUTPUTS[0], [REFERENCES[0], MORE[0]])["rougeL"] == expected
    assert exact_match("One cat.", ["A dog.", "one cat"])["exact_match"] == 1
    assert token_f1("cat sat mat", ["dog", "cat sat"])["f1"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Кошка сидит.", ["кошка", "сидит"]),
        ("猫坐在垫子上。", list("猫坐在垫子上")),
        ("القطة تجلس", ["القطة", "تجلس"]),
        ("बिल्ली बैठी है", ["बिल्ली", "बैठी", "है"]),
        ("고양이가 앉는다 24", ["고양이가", "앉는다", "24"]),
        ("แมว", ["แ", "ม", "ว"]),
    ],
)
def test_rouge_reads_every_script(text, words):
    assert Words().tokenize(text) == words
    assert set(rouge(text, [text]).values()) >= {1.0} and rouge(text, ["a cat"])["rougeL"] == 0
    half = f"{words[0]} zebra"
    assert rouge(half, [text])["rouge1"] == pytest.approx(2 / (2 + len(words)))  # 1 word of 2, of len(words)


def test_latin_text_has_the_words_of_rouge_score():
    from rouge_score.tokenizers import DefaultTokenizer

    theirs = DefaultTokenizer(use_stemmer=False)
    for text in [*OUTPUTS, *REFERENCES, "Crème brûlée, 3.5 kg; naïve_ÆØÅ don't Straße x²"]:
        assert Words().tokenize(text) == theirs.tokenize(text)


def test_a_repeated_phrase_has_few_distinct_bigrams():
    assert repetition("a b a b a b") == {"distinct_bigrams": 2, "bigrams": 5}
    assert repetition("one") == {"distinct_bigrams": 0, "bigrams": 0}
