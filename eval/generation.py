"""What a model says to held-out prompts: similarity to references, judges, stopping, length, repetition.

Prompts go through the checkpoint's own chat template; a checkpoint without one gets the plain form of `base_model.chat`. The
output that is scored is what follows the prompt, without special tokens and without white space at either end. Decoding is
greedy unless the set says otherwise. Per set: metrics against the reference (`eval.texts`), one mean a judge, and

    stop_rate          outputs that end themselves (with the stop token) within the budget; a model that never stops has 0
    response_tokens    mean length, the stop token included
    empty_rate         outputs without a letter or digit
    distinct_2         distinct word bigrams of an output over its bigrams, summed over outputs
    unique_outputs     different outputs over outputs (1 answer to every prompt: collapse)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from base_model.chat import render_prompt
from eval.results import Metric, item_hash
from eval.scorer import context_length
from eval.suite import references_of
from eval.texts import TEXT_METRICS, repetition

CPU_CACHE_BYTES = 2**29  # keys and values held at once while generating on a CPU
CPU_ROWS = 64  # more at once are no faster there, and all are padded to the longest prompt among them
FOREIGN_ROWS = 32  # generated at once by transformers, for models that the own decoder does not run

# judge(prompts, completions, **columns) -> one score a completion, None where it does not apply. Its attribute `higher_is_better`
# (True where it has none) says how to read it.
Judge = Callable[..., list[float | None]]


@dataclass(frozen=True)
class Decoding:
    """How outputs are made."""

    max_new_tokens: int = 64
    temperature: float = 0.0  # 0: greedy
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Output:
    text: str
    tokens: int  # the stop token included
    has_stopped: bool
    special_tokens: int  # role and other special tokens inside the output; the text leaves them out


def respond(model, tokenizer, prompts: Sequence[Any], decoding: Decoding) -> tuple[list[Output], int]:
    """One output a prompt (text or messages), and how many prompts lost their beginning to fit the model's context.

    Raises ValueError when max_new_tokens leaves no room for a prompt.
    """
    room = context_length(model) - decoding.max_new_tokens
    if room < 1:
        raise ValueError(
            f"max_new_tokens {decoding.max_new_tokens} leaves no room for a prompt in a context of {context_length(model)}"
        )
    encoded = [render_prompt(tokenizer, prompt) for prompt in prompts]
    cut = sum(len(ids) > room for ids in encoded)
    special = set(tokenizer.all_special_ids)
    outputs = []
    for ids, has_stopped in continue_ids(model, tokenizer, [ids[-room:] for ids in encoded], decoding):
        body = ids[:-1] if has_stopped else ids
        outputs.append(
            Output(
                tokenizer.decode(body, skip_special_tokens=True).strip(),
                len(ids),
                has_stopped,
                sum(token in special for token in body),
            )
        )
    return outputs, cut


def continue_ids(
    model, tokenizer, prompts: Sequence[Sequence[int]], decoding: Decoding
) -> list[tuple[list[int], bool]]:
    """(response ids, ended itself) of each prompt, by `base_model.generate`, up to one of `base_model.stops.stop_token_ids`."""
    from base_model.generate import SamplingConfig, generate, supports
    from base_model.stops import stop_token_ids
    from base_model.tokenizer import padding_id

    stops = stop_token_ids(tokenizer, model)
    longest = max(map(len, prompts)) + decoding.max_new_tokens
    sampling = SamplingConfig(
        max_new_tokens=decoding.max_new_tokens,
        greedy=decoding.temperature == 0,
        temperature=decoding.temperature or 1.0,
        top_p=decoding.top_p,
        stop_token_ids=stops,
    )
    rows, pad_id = rows_at_once(model, longest) if supports(model) else FOREIGN_ROWS, padding_id(tokenizer, stops)
    while True:
        try:
            made = generate(model, prompts, sampling, pad_id=pad_id, seed=decoding.seed, batch_size=rows)
            return list(zip(made.responses(), made.stopped_B.tolist(), strict=True))
        except torch.OutOfMemoryError:
            if rows == 1:
                raise ValueError(f"out of memory on one prompt and answer of {longest} tokens") from None
        # Only here is the failed batch free: while the error is handled, its traceback holds the tensors.
        rows = max(1, min(rows, len(prompts)) // 2)
        torch.cuda.empty_cache()


def rows_at_once(model, longest: int) -> int:
    """Prompts answered together where the longest has `longest` tokens with its answer; on a CPU those of like length."""
    rows = max(1, cache_tokens(model) // longest)
    return min(rows, CPU_ROWS) if next(model.parameters()).device.type == "cpu" else rows


def cache_tokens(model) -> int:
    """Tokens whose keys and values are held at once: CPU_CACHE_BYTES of them, on an accelerator a quarter of its free memory."""
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    bytes_per_token = 2 * config.num_hidden_layers * heads * width * 4
    device = next(model.parameters()).device
    budget = torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else CPU_CACHE_BYTES
    return max(1, budget // bytes_per_token)


def judge_outputs(
    judges: Mapping[str, Judge], prompts: Sequence[Any], outputs: Sequence[str], columns: Mapping[str, list]
) -> dict[str, list[float | None]]:
    """Scores of each judge, None for an output that it does not judge.

    Raises ValueError for a judge that gives another number of scores, or one that is not finite."""
    scores = {}
    for name, judge in judges.items():
        given = [None if score is None else float(score) for score in judge(list(prompts), list(outputs), **columns)]
        if len(given) != len(outputs):
            raise ValueError(f"judge {name} gave {len(given)} scores for {len(outputs)} outputs")
        if bad := [i for i, score in enumerate(given) if score is not None and not math.isfinite(score)]:
            raise ValueError(f"judge {name} gave {given[bad[0]]} for output {bad[0]}: {outputs[bad[0]][:80]!r}")
        scores[name] = given
    return scores


def measure(
    name: str,
    model,
    tokenizer,
    rows: Sequence[Mapping[str, Any]],
    decoding: Decoding,
    *,
    metrics: Sequence[str] = tuple(TEXT_METRICS),
    judges: Mapping[str, Judge] | None = None,
    optimised: Sequence[str] = (),
    cluster: str | None = None,
    answer: Callable[..., tuple[list[Output], int]] = respond,
) -> tuple[list[dict], list[Metric], dict[str, Any]]:
    """Items, metrics and notes of one generation set.

    rows: {"prompt": text or messages, "completion": its references (`eval.suite.references_of`; metrics against them are over the rows
    that have some), any other column}. Columns are those of all rows; a row without one has None there. cluster: a column whose equal
    values mark items that belong together. optimised: judges that a training stage maximised. answer: how prompts are answered.
    """
    prompts = [row["prompt"] for row in rows]
    references = [references_of(row) for row in rows]
    first_references = [texts[0] if texts else None for texts in references]
    outputs, cut = answer(model, tokenizer, prompts, decoding)
    texts = [output.text for output in outputs]
    names = dict.fromkeys(name for row in rows for name in row if name not in ("prompt", "completion"))
    others = {name: [row.get(name) for row in rows] for name in names}
    told = {"reference": first_references} | ({"references": references} if max(map(len, references)) > 1 else {})
    judged = judge_outputs(judges or {}, prompts, texts, {**others, **told})
    items = []
    for i, (row, output) in enumerate(zip(rows, outputs, strict=True)):
        scores = {
            "stop_rate": float(output.has_stopped),
            "response_tokens": output.tokens,
            "empty_rate": float(not any(c.isalnum() for c in output.text)),
            **repetition(output.text),
            **{judge: given[i] for judge, given in judged.items() if given[i] is not None},
        }
        if references[i]:
            for metric in metrics:
                scores.update(TEXT_METRICS[metric].score(output.text, references[i]))
        asked = references[i] if len(references[i]) > 1 else first_references[i]
        item = {
            "set": name,
            "kind": "generation",
            "item": item_hash(prompts[i], asked, {key: row[key] for key in others if key in row}),
            "prompt": prompts[i],
            "output": output.text,
            "reference": first_references[i],
            "scores": scores,
        }
        item |= {"other_references": references[i][1:]} if len(references[i]) > 1 else {}
        item |= {"special_tokens": output.special_tokens} if output.special_tokens else {}
        item |= {"label": row["kind"]} if isinstance(row.get("kind"), str) else {}
        item |= {"cluster": str(row[cluster])} if cluster else {}
        items.append(item)
    directions = {
        judge: getattr(judges[judge], "higher_is_better", True)
        for judge, given in judged.items()
        if any(score is not None for score in given)
    }
    found = _metrics(name, metrics if any(references) else (), directions, optimised, {len(r) for r in references if r})
    if sum(item["scores"]["bigrams"] for item in items):
        found.append(Metric(name, "distinct_2", "ratio", ("distinct_bigrams", "bigrams"), higher_is_better=None))
    found.append(Metric(name, "unique_outputs", "given", (), higher_is_better=None, given=len(set(texts)) / len(texts)))
    notes = {"prompts_cut": cut, "special_tokens": sum(o.special_tokens > 0 for o in outputs)}
    without = sum(not texts for texts in references) if any(references) else 0
    return items, found, notes | ({"without_reference": without} if without else {})


def _metrics(
    name: str, families: Sequence[str], judges: Mapping[str, bool], optimised: Sequence[str], reference_counts: set[int]
) -> list[Metric]:
    nrefs = str(*reference_counts) if len(reference_counts) == 1 else "var"
    found = [
        Metric(
            name,
            judge,
            "mean",
            (judge,),
            higher_is_better=higher_is_better,
            is_headline=judge not in optimised and higher_is_better,
            is_optimised=judge in optimised,
            signature="judge; training maximised this score" if judge in optimised else "judge",
        )
        for judge, higher_is_better in judges.items()
    ]
    for family in families:
        made = TEXT_METRICS[family]
        for metric, (aggregate, fields, unit) in made.names.items():
            is_headline = metric in ("rougeL", "bleu")
            found.append(
                Metric(
                    name, metric, aggregate, fields, unit=unit, is_headline=is_headline, signature=made.signature(nrefs)
                )
            )
    found += [
        Metric(name, "stop_rate", "proportion", ("stop_rate",), is_headline=True),
        Metric(name, "response_tokens", "mean", ("response_tokens",), higher_is_better=None, unit="tokens"),
        Metric(name, "empty_rate", "proportion", ("empty_rate",), higher_is_better=False),
    ]
    return found
