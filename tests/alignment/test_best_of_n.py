import json
import math

import numpy as np
import pytest

from alignment.best_of_n import choose, curve, evaluate_best_of_n, kl_bound_nats
from eval.generation import Decoding, respond
from eval.harness import load_checkpoint
from eval.suite import Suite


def test_the_kl_of_best_of_n_among_distinct_answers_is_under_the_bound():
    """Exact KL by enumeration: m equally likely answers; P(best is of rank i) = (i/m)^n - ((i-1)/m)^n."""
    for m, n in [(4, 2), (10, 4), (1000, 8)]:
        p = np.array([(i / m) ** n - ((i - 1) / m) ** n for i in range(1, m + 1)])
        exact = float(np.sum(p * np.log(p * m)))
        assert exact <= kl_bound_nats(n) + 1e-12
    assert exact == pytest.approx(kl_bound_nats(8), abs=0.01), "with many answers the bound is nearly reached"


def test_the_bound_is_the_formula():
    assert kl_bound_nats(1) == 0
    assert kl_bound_nats(4) == pytest.approx(math.log(4) - 0.75)
    with pytest.raises(ValueError, match="n is 0"):
        kl_bound_nats(0)


def test_the_curve_has_powers_of_two_and_rising_proxy():
    proxy = np.random.default_rng(2).normal(size=(50, 8))
    rows = curve(proxy, -proxy)
    assert [row["n"] for row in rows] == [1, 2, 4, 8]
    values = [row["proxy"].value for row in rows]
    assert values == sorted(values)
    assert all(row["score"].value == pytest.approx(-row["proxy"].value) for row in rows)
    assert all(row["proxy"].low <= row["proxy"].value <= row["proxy"].high for row in rows)


def test_choose_keeps_the_best_of_each_prompt_and_passes_its_columns():
    def score(prompts, completions, *, want, **columns):
        return [float(c == w) for c, w in zip(completions, want, strict=True)]

    kept, scores = choose(["p", "q"], [["a", "b"], ["c", "d"]], score, {"want": ["b", "c"]})
    assert kept == ["b", "c"]
    assert scores.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ValueError, match="the same number of samples"):
        choose(["p", "q"], [["a"], ["c", "d"]], score)


@pytest.fixture
def suite(tmp_path):
    """A suite of one generation set with a judge, and the prompts that it asks."""
    prompts = ["The baker", "When it rains", "Please write"]
    rows = [{"prompt": prompt, "completion": "a note", "want": i} for i, prompt in enumerate(prompts)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = {"path": str(tmp_path / "rows.jsonl"), "max_new_tokens": 6, "judges": ["wanted"]}
    return Suite(generation={"asked": made}, random_init=0), prompts


def test_the_kept_answer_is_the_proxys_favourite_and_every_sample_is_paid_for(llama_checkpoint, suite):
    suite, prompts = suite
    proxy = lambda prompts, completions, **columns: [float(text.count("e")) for text in completions]  # noqa: E731
    wanted = lambda prompts, completions, *, want, **columns: [float(w) for w in want]  # noqa: E731
    result = evaluate_best_of_n(llama_checkpoint, suite, proxy, 5, judges={"wanted": wanted})
    model, tokenizer = load_checkpoint(llama_checkpoint)
    repeated = [prompt for prompt in prompts for _ in range(5)]
    samples, _ = respond(model, tokenizer, repeated, Decoding(6, 1.0, 1.0, suite.seed))
    for i, item in enumerate(result.items):
        own = samples[5 * i : 5 * i + 5]
        best = max(output.text.count("e") for output in own)
        first = next(output for output in own if output.text.count("e") == best)
        assert item["output"] == first.text and item["scores"]["response_tokens"] == first.tokens
        assert item["scores"]["reward_model"] == best and item["scores"]["wanted"] == i
        assert item["scores"]["sampled_tokens"] == sum(output.tokens for output in own)
    bound = result.metric("kl/kl_nats_bound")
    assert bound["value"] == pytest.approx(math.log(5) - 0.8) and "upper bound" in bound["signature"]
    assert result.metric("asked/reward_model")["is_optimised"] and not result.metric("asked/wanted")["is_optimised"]


def test_best_of_1_is_the_model_itself_at_no_distance(llama_checkpoint, suite):
    flat = lambda prompts, completions, **columns: [0.0] * len(completions)  # noqa: E731
    result = evaluate_best_of_n(llama_checkpoint, suite[0], flat, 1, judges={"wanted": flat})
    assert result.metric("kl/kl_nats_bound")["value"] == 0
    assert all(item["scores"]["sampled_tokens"] == item["scores"]["response_tokens"] for item in result.items)


def test_a_suite_that_asks_no_prompts_is_refused(llama_checkpoint, tmp_path):
    suite = Suite(name="text only", likelihood={"texts": "texts.jsonl"})
    with pytest.raises(ValueError, match="'text only' has no generation set, and best-of-n answers prompts"):
        evaluate_best_of_n(llama_checkpoint, suite, None, 4, judges={})
