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

RECORD = {"expect": "answer", "must": [["kite"], ["Nora"], ["well"], ["Felix"]], "words": [1, 200]}
KEY = json.dumps(RECORD)
ASKED_FOR = ["A kite flew up.", "Nora was there.", "It was by the well.", "Then Felix came."]
FILLING = [
    *(
        "The sun shone over the roofs.",
        "Rain drummed on the windows all day.",
        "Somebody played the piano.",
        "The bells had just rung.",
    ),
    *(
        "A cart went by.",
        "Children drew on the stones with chalk.",
        "There was a smell of bread and soup.",
        "The wind came from the north.",
    ),
    *(
        "It was warm enough to sit outside.",
        "The town was busy in the morning.",
        "Bees hummed in the garden.",
        "An owl called at night.",
    ),
    *(
        "Frost sparkled on the grass and every puddle had turned to ice.",
        "Washing hangs from one side of the street to the other.",
    ),
]
PAIRS = 20_000
VOTES = (
    12  # annotators a pair, so that 2 % is more than three standard errors of each coefficient (checked in the test)
)


@pytest.fixture(scope="module")
def responses():
    """Answers with nought to four of the things asked for, and up to fourteen sentences more: gold and length vary apart."""
    rng = Random(5)
    made = {
        " ".join(rng.sample(ASKED_FOR, rng.randint(1, 4)) + rng.sample(FILLING, rng.randint(0, len(FILLING))))
        for _ in range(400)
    }
    return sorted(made)


@pytest.mark.parametrize(("noise", "length_bias"), [(0.15, 0.3), (0.3, 0.6)])
def test_noise_and_length_bias_are_recovered_within_2_percent(responses, noise, length_bias):
    """An independent fit (statsmodels' binomial GLM) to 20,000 pairs, each asked of 12 annotators; the seed is the first one tried."""
    annotators, rng = Annotators(noise, length_bias, seed=1), Random(1)
    gold = {text: score(RECORD, text).total for text in responses}
    differences, votes = [], []
    for _ in range(PAIRS):
        a, b = rng.sample(responses, 2)
        differences.append([gold[a] - gold[b], (len(a.split()) - len(b.split())) / 10])
        for_a = sum(annotators.prefer(KEY, a, b, annotator=annotator)[0] == 0 for annotator in range(VOTES))
        votes.append([for_a, VOTES - for_a])
    fit = sm.GLM(np.array(votes), np.array(differences), family=sm.families.Binomial()).fit()
    assert 3 * fit.bse[0] * noise < 0.02 and 3 * fit.bse[1] / length_bias < 0.02
    assert 1 / fit.params[0] == pytest.approx(noise, rel=0.02)
    assert fit.params[1] == pytest.approx(length_bias, rel=0.02)


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


def test_answers_whose_gold_is_close_are_a_tie_either_way_round(responses):
    annotators = Annotators(ties_below=0.1)
    ties = [annotators.is_tie(KEY, a, b) for a, b in itertools.combinations(responses, 2)]
    far = [abs(score(RECORD, a).total - score(RECORD, b).total) >= 0.1 for a, b in itertools.combinations(responses, 2)]
    assert ties == [not is_far for is_far in far] and len(set(ties)) == 2
    assert ties == [annotators.is_tie(KEY, b, a) for a, b in itertools.combinations(responses, 2)]
    assert not any(Annotators().is_tie(KEY, a, b) for a, b in itertools.combinations(responses, 2))
