"""Known truth: annotators of known noise and length bias label tinytown answers; the reward model must come as near to them as can be.

Answers to a prompt are its reference, with a rude word, cut off in the middle, and with polite words more; a model of
2 layers learns them from nothing in seconds. The annotators' noise bounds every judge: the best there is always names the likelier
winner, and is right with probability max(p, 1 - p) (the Bayes accuracy).
"""

import itertools
import random
from functools import lru_cache

import numpy as np
import pytest
import torch

from recipes.tinytown.annotators import Annotators
from recipes.tinytown.instructions import Tasker, decline, rewrite_polite, town_question
from recipes.tinytown.lexicon import RUDE_WORDS
from recipes.tinytown.rubric import gold_judge
from reward.on_policy import judge_policy
from reward.quality import measure
from reward.train import RewardTrainingConfig, finished, make_trainer
from reward.verdict import findings

KINDS = (decline, rewrite_polite, town_question)  # short prompts
EXTRA = ["Thank you for asking.", "I hope that this helps you today.", "Please ask me again if you want to know more."]


def variants(rng, completion):
    """Four answers: the reference, with more polite sentences, with a rude word, cut off in the middle; the last two may be longer, too."""

    def longer(text, most):
        return " ".join([text, *rng.sample(EXTRA, rng.randint(0, most))])

    words = completion.split()
    cut = " ".join(words[: max(1, len(words) * 2 // 3)]).rstrip(".!?")
    rude = f"{completion} You {rng.choice(RUDE_WORDS)}!"
    return [completion, longer(completion, 3), longer(rude, 3), " ".join([*rng.sample(EXTRA, rng.randint(0, 2)), cut])]


@lru_cache
def tasks(count, seed):
    """(row, answers) of `count` different prompts."""
    rng, found = random.Random(seed), {}
    while len(found) < count:
        task = rng.choice(KINDS)(Tasker(rng, is_held_out=False))
        found[task.prompt[-1]["content"]] = (task.as_prompt_row(), variants(rng, task.completion))
    return list(found.values())


def labelled(annotators, chosen_tasks):
    """Every pair of a prompt's answers with a label drawn by the annotators, and the probability with which each winner won."""
    pairs, probability_of_winner = [], []
    for row, answers in chosen_tasks:
        for a, b in itertools.combinations(dict.fromkeys(answers), 2):
            winner, probability_a = annotators.prefer(row["record"], a, b)
            chosen, rejected = (a, b) if winner == 0 else (b, a)
            pairs.append({**row, "chosen": chosen, "rejected": rejected})
            probability_of_winner.append(probability_a if winner == 0 else 1 - probability_a)
    return pairs, np.array(probability_of_winner)


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """An untrained 2-layer model over a tokenizer of the world's words."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    from base_model.chat import set_chat_template
    from base_model.tokenizer import train_tokenizer

    texts = [text for row, answers in tasks(900, 1) for text in (row["prompt"][-1]["content"], *answers)]
    tokenizer = set_chat_template(train_tokenizer(texts, 1024))

    def make():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=256,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            num_labels=1,
        )
        return LlamaForSequenceClassification(config)

    return make, tokenizer


def learnt(blank, annotators, tmp_path):
    """(quality, reached accuracy, Bayes accuracy) of a reward model trained on 700 prompts' pairs, on 200 other prompts' pairs.

    Both accuracies are expected over the annotators' draws, so that the luck of the labels is not in their difference."""
    make, tokenizer = blank
    known, new = tasks(900, 1)[:700], tasks(900, 1)[700:]
    train, _ = labelled(annotators, known)
    heldout, probability_N = labelled(annotators, new)
    config = RewardTrainingConfig(learning_rate=4e-3, num_train_epochs=2, precision="fp32", logging_steps=1000)
    trainer = make_trainer(make(), tokenizer, train, config, output_dir=tmp_path, seed=1)
    trainer.train()
    reward = finished(trainer.model, tokenizer, train, 256, seed=1)
    prompts = [pair["prompt"] for pair in heldout]
    chosen, rejected = (
        np.array(reward.score(prompts, [pair[side] for pair in heldout])) for side in ("chosen", "rejected")
    )
    quality = measure(chosen, rejected, heldout, train, raw_std=reward.std)
    quality["on_policy"] = judge_policy(reward, gold_judge, [row for row, _ in new], [answers for _, answers in new])
    reached = np.where(chosen > rejected, probability_N, 1 - probability_N).mean()
    return quality, reached, np.maximum(probability_N, 1 - probability_N).mean()


def test_accuracy_comes_within_3_points_of_what_the_noise_allows_and_the_length_bias_is_named(blank, tmp_path):
    quality, reached, bayes = learnt(blank, Annotators(noise=0.3, length_bias=0.8, seed=1), tmp_path)
    assert 0.7 < bayes < 0.95
    assert bayes - 0.03 < reached <= bayes
    assert quality["on_policy"]["length_effect"]["low"] > 0.4  # planted: 0.8 log-odds for ten words
    assert any(line.startswith("length bias towards longer answers") for line in findings(quality))


@pytest.mark.slow
def test_without_a_planted_length_bias_none_is_named(blank, tmp_path):
    quality, reached, bayes = learnt(blank, Annotators(noise=0.3, length_bias=0.0, seed=1), tmp_path)
    assert bayes - 0.03 < reached <= bayes
    assert abs(quality["on_policy"]["length_effect"]["value"]) < 0.1
    assert not any(line.startswith("length bias towards") for line in findings(quality))
