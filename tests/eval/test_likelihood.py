"""Expected numbers come from lm-eval: HFLM's loglikelihood_rolling, and its own aggregations."""

import math

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import bits_per_byte, weighted_perplexity
from lm_eval.api.task import Task
from lm_eval.models.huggingface import HFLM

from eval import likelihood
from eval.results import estimate
from eval.scorer import Scorer
from tests.conftest import TEXTS, random_model

TEXT_LIST = [
    TEXTS[0],
    " ".join(TEXTS[:4] * 3),  # longer than the context of 128 tokens: several windows, the last one overlapping
    "Zwei Wörter,  zwei\n\nAbsätze. ",  # bytes are not characters; runs of white space are one gap
    "x",
    " ".join(TEXTS[1:4] * 5),
]


def rolling(model, tokenizer, texts, batch_size):
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device="cpu")
    requests = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts]
    return lm.loglikelihood_rolling(requests, disable_tqdm=True)


@pytest.mark.parametrize("batch_tokens", [1, 150, 4096])
def test_bits_per_byte_and_perplexities_equal_lm_evals_at_any_batch_size(dialect, tokenizer, batch_tokens):
    model = random_model(dialect, len(tokenizer))
    items, metrics = likelihood.measure("set", Scorer(model, batch_tokens=batch_tokens), tokenizer, TEXT_LIST)
    loglikelihoods = rolling(model, tokenizer, TEXT_LIST, batch_size=3)
    sizes = [Task.count_bytes(text) for text in TEXT_LIST]
    words = [Task.count_words(text) for text in TEXT_LIST]
    values = {m.name: estimate(m, items).value for m in metrics}
    # 1e-6 relative: float32 log-probabilities, summed here in float64 and there in float32
    assert values["bits_per_byte"] == pytest.approx(
        bits_per_byte(list(zip(loglikelihoods, sizes, strict=True))), rel=1e-6
    )
    assert values["byte_perplexity"] == pytest.approx(
        weighted_perplexity(list(zip(loglikelihoods, sizes, strict=True))), rel=1e-6
    )
    # exp multiplies a relative error by the exponent, here about 25
    assert math.log(values["word_perplexity"]) == pytest.approx(
        math.log(weighted_perplexity(list(zip(loglikelihoods, words, strict=True)))), rel=1e-6
    )


def test_each_documents_loglikelihood_equals_lm_evals(dialect, tokenizer):
    model = random_model(dialect, len(tokenizer), seed=1)
    ours = [s["loglikelihood"] for s in likelihood.score_texts(Scorer(model), tokenizer, TEXT_LIST)]
    assert ours == pytest.approx(rolling(model, tokenizer, TEXT_LIST, batch_size=2), rel=1e-6)


def test_of_a_tokenizer_that_adds_a_bos_lm_eval_scores_the_bos_too_and_we_do_not(tokenizer):
    import copy

    import torch
    from tokenizers.processors import TemplateProcessing

    adding = copy.deepcopy(tokenizer)
    bos = adding.bos_token_id
    adding.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{adding.bos_token} $A", special_tokens=[(adding.bos_token, bos)]
    )
    model = random_model("llama", len(tokenizer), seed=2)
    texts = [TEXT_LIST[0], TEXT_LIST[3]]
    plain, added = (likelihood.score_texts(Scorer(model), tok, texts) for tok in (tokenizer, adding))
    assert plain == added  # what is measured does not depend on what a tokenizer adds
    for text, theirs in zip(texts, rolling(model, adding, texts, batch_size=1), strict=True):
        ids = torch.tensor([[bos, bos, *tokenizer(text, add_special_tokens=False)["input_ids"]]])
        with torch.no_grad():
            logprobs_BTV = model(ids[:, :-1]).logits.log_softmax(-1)
        assert theirs == pytest.approx(float(logprobs_BTV[0].gather(1, ids[0, 1:, None]).sum()), rel=1e-5)


def test_windows_by_hand():
    # L = 4, ten tokens: the picture in lm-eval's docstring. Context is what is read and not scored.
    assert likelihood.windows(list(range(10)), 99, 4) == [
        ([99], [0, 1, 2, 3]),
        ([3], [4, 5, 6, 7]),
        ([5, 6, 7], [8, 9]),
    ]
    assert likelihood.windows([5], 99, 4) == [([99], [5])]


def test_uniform_weights_cost_log2_of_the_vocabulary_a_token(tokenizer):
    import torch

    model = random_model("gpt2", len(tokenizer))
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    (scores,) = likelihood.score_texts(Scorer(model), tokenizer, [TEXTS[0]])
    assert -scores["loglikelihood"] / math.log(2) == pytest.approx(
        scores["tokens"] * math.log2(len(tokenizer)), rel=1e-6
    )


def test_text_that_spells_a_control_token_is_text(tokenizer):
    scores = likelihood.score_texts(Scorer(random_model("llama", len(tokenizer))), tokenizer, ["end <|eos|> here"])
    assert scores[0]["tokens"] > 6  # "<|eos|>" alone would be one token of four


def test_an_empty_text_is_refused(tokenizer):
    with pytest.raises(ValueError, match="text 1 is empty"):
        likelihood.score_texts(Scorer(random_model("llama", len(tokenizer))), tokenizer, ["a", ""])


def test_a_character_without_a_token_counts_its_bits_and_not_its_bytes():
    """Two texts that differ in unknown characters alone are the same ids: the one with more bytes must not look better."""
    from base_model.tokenizer import character_tokenizer

    characters = character_tokenizer(["the baker bakes"])
    scorer = Scorer(random_model("llama", len(characters)))
    short, long = likelihood.score_texts(scorer, characters, ["the b#ker", "the b\N{GRINNING FACE}ker"])
    assert short == long and short["bytes"] == 8 and short["unknown_characters"] == 1
    assert "unknown_characters" not in likelihood.score_texts(scorer, characters, ["the baker"])[0]
