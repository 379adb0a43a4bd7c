"""How well a model predicts text: bits per byte, and the perplexities that follow from the same sums.

Each document is scored by itself after one prefix token (bos, else eos), in windows of the model's length L: the first
predicts L tokens after the prefix, each next one the following L tokens after one token of context, and the last one is moved
left so that it has full context. Token perplexity depends on the tokenizer; bits per byte does not, and is the headline.

    bits_per_byte = -sum LL / (ln 2 * sum bytes)      word_perplexity = exp(-sum LL / sum words)      byte_ likewise

LL in nats, bytes of UTF-8, words = parts of re.split(r"\\s+", text). Equal to lm-eval's `loglikelihood_rolling`
metrics for tokenizers that add no special tokens. Where one adds a bos (Llama's, Gemma's), lm-eval scores that bos after another as a
token of every document; here one bos is context, and nothing else changes. lm-eval's own tasks are run as lm-eval runs them (`BatchedLM`).
What the tokenizer has no token for counts its bits and not its bytes: a model that need not say which character it was would look the
better the less of the text it can write.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from base_model.tokenizer import encode_texts, escape_special, knows_escape
from eval.results import Metric, item_hash
from eval.scorer import Scorer

METRICS = (
    ("bits_per_byte", "bits_per_unit", "bytes", "bits/byte"),
    ("byte_perplexity", "perplexity", "bytes", ""),
    ("word_perplexity", "perplexity", "words", ""),
    ("token_perplexity", "perplexity", "tokens", ""),
)


def windows(tokens: Sequence[int], prefix: int, max_length: int) -> list[tuple[list[int], list[int]]]:
    """(context, continuation) requests that predict each token once; see the module's text."""
    everything = [prefix, *tokens]
    requests = []
    for start in range(0, len(tokens), max_length):
        end = min(start + max_length, len(tokens))  # predicts tokens[start:end], read from everything[..end]
        first_read = max(0, end - max_length)
        requests.append((everything[first_read : start + 1], everything[start + 1 : end + 1]))
    return requests


def prefix_token(tokenizer) -> int:
    """What stands before a document: bos, else eos. Raises ValueError where there is neither."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    raise ValueError("the tokenizer has neither a bos nor an eos token, so nothing can stand before a document")


def score_texts(scorer: Scorer, tokenizer, texts: Sequence[str]) -> list[dict[str, float]]:
    """{loglikelihood (nats), bytes, words, tokens} of each text. Raises ValueError for an empty text."""
    prefix = prefix_token(tokenizer)
    encoded = encode_texts(tokenizer, texts)
    requests, owners = [], []
    for i, tokens in enumerate(encoded):
        if not tokens:
            raise ValueError(f"text {i} is empty; a likelihood set holds documents with at least one token")
        for request in windows(tokens, prefix, scorer.max_length):
            requests.append(request)
            owners.append(i)
    sums = [0.0] * len(texts)
    for owner, score in zip(owners, scorer.score(requests), strict=True):
        sums[owner] += score.logprob
    unknown = [unknown_text(tokenizer, text, tokens) for text, tokens in zip(texts, encoded, strict=True)]
    return [
        {
            "loglikelihood": total,
            "bytes": len(text.encode("utf-8")) - len(lost.encode("utf-8")),
            "words": len(re.split(r"\s+", text)),
            "tokens": len(tokens),
            **({"unknown_characters": len(lost)} if lost else {}),
        }
        for total, text, tokens, lost in zip(sums, texts, encoded, unknown, strict=True)
    ]


def unknown_text(tokenizer, text: str, tokens: Sequence[int]) -> str:
    """The parts of a text that became unknown tokens, joined. "" for a tokenizer that can write everything."""
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown in (tokenizer.bos_token_id, tokenizer.eos_token_id) or unknown not in tokens:
        return ""
    written = escape_special(text) if knows_escape(tokenizer) else text
    encoding = tokenizer.backend_tokenizer.encode(written, add_special_tokens=False)
    return "".join(
        written[start:end] for id_, (start, end) in zip(encoding.ids, encoding.offsets, strict=True) if id_ == unknown
    )


def measure(name: str, scorer: Scorer, tokenizer, texts: Sequence[str]) -> tuple[list[dict], list[Metric]]:
    """Items and metrics of one likelihood set."""
    items = [
        {"set": name, "kind": "likelihood", "item": item_hash(text), "prompt": text, "scores": scores}
        for text, scores in zip(texts, score_texts(scorer, tokenizer, texts), strict=True)
    ]
    metrics = [
        Metric(
            name,
            metric,
            aggregate,
            ("loglikelihood", per),
            higher_is_better=False,
            unit=unit,
            is_headline=metric == "bits_per_byte",
        )
        for metric, aggregate, per, unit in METRICS
    ]
    return items, metrics
