"""Simulated annotators: their noise and length bias are those configured, as a logistic regression of their choices finds."""

import itertools
import json
import math
from random import Random

import numpy as np
import pytest
import statsmodels.api as sm

from recipes.tinytown.annotators import Annotators
from recipes.tinytown.rubric import score

RECORD = {"expect": "answer", "must": [["kite"], ["Nora"], ["well"]], "words": [1, 60]}
PARTS = [
    *(
        "Nora had a kite.",
        "It was by the well.",
        "She was happy",
        "the sun shone",
        "Nora sang a song.",
        "at the market",
    ),
    *("A kite.", "an kite", "The bird sang in the old tree by the water."),
]
KEY = json.dumps(RECORD)
PAIRS = 20_000
VOTES = 4  # annotators a pair: one vote each tells a coefficient to 1.1 % at best, four to 0.55 %


@pytest.fixture(scope="module")
def responses():
    rng = Random(5)
    made = {" ".join(rng.choices(PARTS, k=rng.randint(1, 6))) for _ in range(400)}
    made = sorted(text for text in made if score(RECORD, text).total > 0)
    golds = [score(RECORD, text).total for text in made]
    assert len(set(golds)) > 10 and max(golds) - min(golds) > 0.5
    return made


@pytest.mark.parametrize(("noise", "length_bias"), [(0.15, 0.3), (0.3, 0.8)])
def test_noise_and_length_bias_are_recovered_within_2_percent(responses, noise, length_bias):
    """An independent fit (statsmodels' Logit) to 20,000 pairs; seeds are the first ones tried."""
    annotators, rng = Annotators(noise, length_bias, seed=1), Random(1)
    gold = {text: score(RECORD, text).total for text in responses}
    rows, chosen = [], []
    for _ in range(PAIRS):
        a, b = rng.sample(responses, 2)
        difference = [gold[a] - gold[b], (len(a.split()) - len(b.split())) / 10]
        for annotator in range(VOTES):
            rows.append(difference)
            chosen.append(annotators.prefer(KEY, a, b, annotator=annotator)[0] == 0)
    fitted = sm.Logit(np.array(chosen, float), np.array(rows)).fit(disp=False).params
    assert 1 / fitted[0] == pytest.approx(noise, rel=0.02)
    assert fitted[1] == pytest.approx(length_bias, rel=0.02)


def test_agreement_with_gold_is_as_configured(responses):
    """Share of choices of the better answer against the formula's mean probability; 4 standard errors of 20,000 are 0.014."""
    annotators, rng = Annotators(seed=2), Random(2)
    gold = {text: score(RECORD, text).total for text in responses}
    agreed, expected = 0, 0.0
    for _ in range(PAIRS):
        a, b = rng.sample(responses, 2)
        gold_a, gold_b = gold[a], gold[b]
        winner, _ = annotators.prefer(KEY, a, b)
        logit = (gold_a - gold_b) / 0.15 + 0.3 * (len(a.split()) - len(b.split())) / 10
        probability = 1 / (1 + math.exp(-logit))
        agreed += (winner == 0) == (gold_a >= gold_b)
        expected += probability if gold_a >= gold_b else 1 - probability
    assert agreed / PAIRS == pytest.approx(expected / PAIRS, abs=0.014)


def test_the_same_question_gets_the_same_answer_either_way_round(responses):
    annotators = Annotators(noise=0.5, seed=3)
    for a, b in itertools.pairwise(responses):
        winner, probability = annotators.prefer(KEY, a, b)
        other_winner, other_probability = annotators.prefer(KEY, b, a)
        assert (a, b)[winner] == (b, a)[other_winner]
        assert probability == pytest.approx(1 - other_probability)


def test_a_bias_of_nought_and_little_noise_choose_the_better_answer(responses):
    annotators = Annotators(noise=0.001, length_bias=0.0)
    for a, b in itertools.pairwise(responses):
        gold_a, gold_b = score(RECORD, a).total, score(RECORD, b).total
        if abs(gold_a - gold_b) > 0.05:
            assert annotators.prefer(KEY, a, b)[0] == (0 if gold_a > gold_b else 1)


def test_noise_of_nought_is_refused_with_advice():
    with pytest.raises(ValueError, match=r"noise is 0; it must be above 0 \(0.001 makes"):
        Annotators(noise=0)
