"""lm-eval tasks at this project's speed: their prompts, filters and metrics, our scoring.

`BatchedLM` is an lm-eval `LM` and works in `lm_eval.simple_evaluate` too. `measure` drives tasks itself, one level lower,
because simple_evaluate reseeds every generator, takes the first N for a limit, and keeps ties and NaN from sight.

Requests are those of lm-eval's HFLM, token for token. Likelihood tasks run without a chat template at every stage; generated
ones use the checkpoint's template where it has one. A tie between choices scores 1/k for each of the k tied.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jinja2 import TemplateError
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from base_model.tokenizer import encode_texts, knows_escape
from eval.generation import Decoding, continue_ids
from eval.likelihood import prefix_token, windows
from eval.results import AGGREGATES as RESULT_AGGREGATES
from eval.results import Metric, clusters_of, finite, item_hash, statistics_of
from eval.scorer import Scorer
from eval.statistics import mean_interval, paired_difference
from eval.suite import Benchmark, even_indices, sample_indices
from eval.tasks import VERSION

FEWSHOT_SEED = (
    1234  # lm-eval's default: the examples of a few-shot prompt are those of stock runs, whatever the suite's seed
)
GENERATION_ROUND = 64  # tokens; outputs that met a stop string leave between rounds
TIED_METRICS = {"acc": None, "acc_norm": "characters", "acc_bytes": "bytes"}
AGGREGATES = {  # lm-eval's aggregation -> ours
    "mean": "mean",
    "perplexity": "perplexity",
    "weighted_perplexity": "perplexity",
    "bits_per_byte": "bits_per_unit",
}


class BatchedLM(TemplateLM):
    """lm-eval's interface over a `Scorer` and `base_model.generate`. backend, rank and world size are those of one causal process."""

    def __init__(self, scorer: Scorer, tokenizer) -> None:
        super().__init__()
        self.scorer, self.tokenizer = scorer, tokenizer
        self._device = scorer.device

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        return prefix_token(self.tokenizer)

    @property
    def tokenizer_name(self) -> str:
        return self.tokenizer.name_or_path.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs) -> list[int]:
        return self._encode([string], add_special_tokens)[0]

    def _encode(self, strings: Sequence[str], add_special_tokens: bool | None = None) -> list[list[int]]:
        """Ids as HFLM's: the tokenizer's own special tokens (none for this project's), text that spells one stays text."""
        if knows_escape(self.tokenizer):
            return encode_texts(self.tokenizer, list(strings))
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return self.tokenizer(list(strings), **options)["input_ids"] if strings else []

    def loglikelihood(self, requests, disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """(log-probability in nats, is greedy) of each (context, continuation); each distinct string is encoded once."""
        pairs = [request.args for request in requests]
        moved = []  # white space at a context's end belongs to the continuation, where the tokenizer puts it
        for context, continuation in pairs:
            stripped = context.rstrip() if context else ""
            moved.append((stripped, context[len(stripped) :] + continuation))
        strings = list(dict.fromkeys([c for c, _ in moved if c] + [c + t for c, t in moved if c]))
        encoded = dict(zip(strings, self._encode(strings), strict=True))
        bare = list(dict.fromkeys(t for c, t in moved if not c))
        alone = dict(zip(bare, self._encode(bare, add_special_tokens=False), strict=True))
        tokens = []
        for (context, continuation), (given, _) in zip(moved, pairs, strict=True):
            if context:
                ids = encoded[context]
                tokens.append((ids, encoded[context + continuation][len(ids) :]))
            elif given:  # nothing but white space
                tokens.append(self._encode_pair(given, continuation[len(given) :]))
            else:
                ids = alone[continuation]
                starts = bool(ids) and ids[0] == self.prefix_token_id
                tokens.append((ids[:1], ids[1:]) if starts else ([self.prefix_token_id], ids))
        return self._loglikelihood_tokens([(pair, *ids) for pair, ids in zip(pairs, tokens, strict=True)])

    def _loglikelihood_tokens(self, requests, **kwargs) -> list[tuple[float, bool]]:
        for (context, text), _, continuation in requests:
            if not continuation:
                raise ValueError(
                    f"the continuation {text!r} after ...{context[-40:]!r} has no tokens of its own, so it has no likelihood"
                )
        scores = self.scorer.score([(context, continuation) for _, context, continuation in requests])
        return [(score.logprob, score.is_greedy) for score in scores]

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = True) -> list[float]:
        """Log-probability of each whole text, in windows (see `eval.likelihood`).

        Where the tokenizer puts its own beginning-of-text token before a text, that one is predicted after the window's: twice the token,
        as HFLM has it, so that a task's number is lm-eval's. Likelihood sets (`eval.likelihood`) put one there."""
        pieces, owners = [], []
        for i, ids in enumerate(self._encode([request.args[0] for request in requests])):
            for piece in windows(ids, self.prefix_token_id, self.scorer.max_length):
                pieces.append(piece)
                owners.append(i)
        sums = [0.0] * len(requests)
        for owner, score in zip(owners, self.scorer.score(pieces), strict=True):
            sums[owner] += score.logprob
        return sums

    def generate_until(self, requests, disable_tqdm: bool = True) -> list[str]:
        """Text after each context up to the first stop string or eos, in rounds, so that a short answer costs little."""
        by_settings: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            by_settings.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(i)
        results = [""] * len(requests)
        for settings, members in by_settings.items():
            options = normalize_gen_kwargs(json.loads(settings), 256)
            eos = self.tokenizer.decode([self.tokenizer.eos_token_id], skip_special_tokens=False)
            until = handle_stop_sequences(options.get("until"), eos=eos)
            contexts = [self._encode_prompt(requests[i].args[0]) for i in members]
            for i, text in zip(members, self._generate(contexts, until, options), strict=True):
                results[i] = text
        return results

    def _encode_prompt(self, context: str) -> list[int]:
        """A rendered chat prompt holds control tokens; any other context is text."""
        bos = self.tokenizer.bos_token
        if self.tokenizer.chat_template is not None and bos and context.startswith(bos):
            return self.tokenizer(context, add_special_tokens=False)["input_ids"]
        return self._encode([context])[0] or [self.prefix_token_id]

    def _generate(self, contexts: list[list[int]], until: list[str], options: dict[str, Any]) -> list[str]:
        budget = options["max_gen_toks"]
        room = self.scorer.max_length - budget
        if room < 1:
            raise ValueError(
                f"the task asks for {budget} new tokens and the model reads {self.scorer.max_length}; "
                "set max_gen_toks in the task's generation_kwargs"
            )
        is_sampled = bool(options.get("do_sample")) and options["temperature"] > 0
        prompts = [ids[-room:] for ids in contexts]
        made: list[list[int]] = [[] for _ in contexts]
        waiting = list(range(len(contexts)))
        length = budget if is_sampled else GENERATION_ROUND
        for start in range(0, budget, length):
            decoding = Decoding(
                max_new_tokens=min(length, budget - start),
                temperature=options["temperature"] if is_sampled else 0.0,
                top_p=options.get("top_p", 1.0),
            )
            parts = continue_ids(self.scorer.model, self.tokenizer, [prompts[i] + made[i] for i in waiting], decoding)
            still = []
            for i, (ids, has_stopped) in zip(waiting, parts, strict=True):
                made[i] += ids
                if not has_stopped and not any(term and term in self._decode(made[i]) for term in until):
                    still.append(i)
            waiting = still
            if not waiting:
                break
        return [postprocess_generated_text(self._decode(ids), until, None) for ids in made]

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )


# ---- checking them


def check_documents(benchmark: Benchmark, task: Any, docs: Any, seed: int) -> None:
    """Raise ValueError, naming task and document, where one that will be asked has no question, no choices or no right answer."""
    if not len(docs):
        raise ValueError(f"{task.config.task}: there are no documents to ask")
    chosen, _ = _chosen(docs, benchmark, seed)
    for i in chosen:
        try:
            _check_document(task, docs[i])
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, TemplateError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{task.config.task}, document {i + 1}: {what}") from None


def _check_document(task: Any, doc: dict) -> None:
    target = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if target is None or target == []:
        raise ValueError("the right answer (doc_to_target) is null or an empty list")
    if task.OUTPUT_TYPE != "multiple_choice":
        return
    choices = task.doc_to_choice(doc)
    if not choices or not all(isinstance(choice, str) and choice for choice in choices):
        raise ValueError(f"the choices must be texts, none of them empty, found {choices!r}")
    if not is_plain_choice(task):
        return
    for right in target if isinstance(target, list) else [target]:
        is_there = right in choices if isinstance(right, str) else right in range(len(choices))
        if not is_there:
            raise ValueError(f"the right answer {right!r} is none of the {len(choices)} choices")


# ---- running them


def measure(
    lm: BatchedLM, benchmark: Benchmark, task: Any, seed: int, docs: Any = None, *, control: bool = True
) -> tuple[list[dict], list[Metric], dict[str, Any]]:
    """Items, metrics and notes of one task. docs: its documents, where they are loaded. control: multiple choice is asked with its
    question removed, too. Raises NonFiniteError where the model gives NaN."""
    docs = task.eval_docs if docs is None else docs
    shots = benchmark.num_fewshot if benchmark.num_fewshot is not None else task.config.num_fewshot or 0
    task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)
    has_template = task.OUTPUT_TYPE == "generate_until" and lm.tokenizer.chat_template is not None
    chosen, parts = _chosen(docs, benchmark, seed)
    by_doc = []
    for i in chosen:
        by_doc.append((docs[i], _requests(task, docs[i], i, shots, lm.apply_chat_template if has_template else None)))
    requests = [request for _, made in by_doc for request in made]
    repeated = [request for request in requests for _ in range(request.repeats or 1)]
    for request, answer in zip(repeated, getattr(lm, requests[0].request_type)(repeated), strict=True):
        request.resps.append(answer)
    task._instances = requests
    task.apply_filters()
    items = [_item(task, doc, made, benchmark) for doc, made in by_doc]
    metrics = list(_metrics(task, items, benchmark.metrics))
    notes: dict[str, Any] = {"num_fewshot": shots, "chat_template": has_template, "version": task.VERSION}
    if parts:
        notes["parts"] = _values_of_parts(items, [parts[i] for i in chosen], metrics)
    if control and is_plain_choice(task) and not task.multiple_input:
        notes |= question_removed(lm, items, [made for _, made in by_doc], metrics)
    return items, metrics, notes | _choice_notes(items)


def question_removed(
    lm: BatchedLM, items: Sequence[dict], asked: Sequence[Sequence[Any]], metrics: Sequence[Metric]
) -> dict[str, Any]:
    """{"question_removed": the headline accuracy where the choices stand alone, with its interval, and what the question adds (paired)}.

    A task whose choices give the answer away measures something else than reading: input-only baselines, Gururangan et al. 2018,
    arXiv:1803.02324. Nothing where choices have no question before them (BLiMP). asked: each item's requests."""
    name = next(metric.name for metric in metrics if metric.is_headline)
    if name not in TIED_METRICS or not any(item["prompt"].strip() for item in items):
        return {}
    texts = [
        [request.args[1] for request in made[: len(item["choices"])]] for item, made in zip(items, asked, strict=True)
    ]
    requests = [Instance("loglikelihood", {}, ("", text), 0) for own in texts for text in own]
    answers = iter(lm.loglikelihood(requests))
    alone = [
        _share_right([next(answers)[0] for _ in own], item["choices"], item["right"], name)
        for item, own in zip(items, texts, strict=True)
    ]
    clusters = clusters_of(items)
    added = paired_difference([item["scores"][name] for item in items], alone, clusters=clusters)
    value = mean_interval(alone, clusters=clusters)
    return {"question_removed": finite({"metric": name, **value.as_dict(), "added": added.as_dict()})}


def _chosen(docs, benchmark: Benchmark, seed: int) -> tuple[list[int], list[str] | None]:
    """The documents that are asked, and the part that each of all belongs to."""
    parts = _parts(docs, benchmark)
    if parts:
        return even_indices(parts, benchmark.limit, seed), parts
    return sample_indices(len(docs), benchmark.limit, seed), None


def _parts(docs, benchmark: Benchmark) -> list[str] | None:
    """The part that each document belongs to, None where they are not divided."""
    if benchmark.by is None:
        return None
    if benchmark.by not in docs[0]:
        raise ValueError(f"{benchmark.task}: documents have no field '{benchmark.by}' (by), only {', '.join(docs[0])}")
    return [str(doc[benchmark.by]) for doc in docs]


def _values_of_parts(items: list[dict], parts: list[str], metrics: list[Metric]) -> dict[str, dict[str, float]]:
    """{part: {n, metric: value}}, without intervals: what an aggregate is made of."""
    values: dict[str, dict[str, float]] = {}
    for part in dict.fromkeys(parts):
        own = [item for item, of in zip(items, parts, strict=True) if of == part]
        values[part] = {"n": len(own)}
        for metric in metrics:
            if metric.aggregate != "given":
                sums_1K = statistics_of(metric, own).sum(axis=0, keepdims=True)
                values[part][metric.name] = float(RESULT_AGGREGATES[metric.aggregate](sums_1K)[0])
    return values


def _requests(task, doc, index: int, shots: int, chat_template) -> list:
    context = task.fewshot_context(
        doc,
        num_fewshot=shots,
        apply_chat_template=chat_template is not None,
        fewshot_as_multiturn=chat_template is not None,
        chat_template=chat_template,
        gen_prefix=task.doc_to_prefix(doc),
    )
    made = task.construct_requests(
        doc=doc,
        ctx=context,
        metadata=(task.config.task, index, task.config.repeats),
        apply_chat_template=chat_template is not None,
        chat_template=chat_template,
    )
    return made if isinstance(made, list) else [made]


def _item(task, doc: dict, requests: list, benchmark: Benchmark) -> dict:
    """What one document was asked, what came, and lm-eval's metrics of it."""
    scores: dict[str, Any] = {}
    for filter_name in requests[0].filtered_resps:
        found = task.process_results(doc, [request.filtered_resps[filter_name] for request in requests])
        suffix = "" if filter_name == "none" else f",{filter_name}"
        scores |= {metric + suffix: value for metric, value in found.items()}
    if benchmark.metrics is not None:
        scores = {name: value for name, value in scores.items() if name.split(",")[0] in benchmark.metrics}
    first = requests[0]
    item = {
        "set": task.config.task,
        "kind": "benchmark",
        "item": item_hash(task.config.task, [request.args for request in requests]),
        "prompt": first.args[0],
    }
    if task.OUTPUT_TYPE == "multiple_choice":
        item |= _choices(task, doc, requests, scores)
    elif task.OUTPUT_TYPE == "generate_until":
        item |= {"output": first.resps[0], "reference": str(task.doc_to_target(doc))}
    elif task.OUTPUT_TYPE == "loglikelihood":
        item |= {"reference": first.args[1], "logprobs": [first.resps[0][0]]}
    if benchmark.cluster:
        item["cluster"] = str(doc[benchmark.cluster])
    return item | {"scores": {name: _plain(value) for name, value in scores.items()}}


def _choices(task, doc: dict, requests: list, scores: dict[str, Any]) -> dict[str, Any]:
    """Choices, the picked and the right one; replaces accuracies in `scores` by shares where choices tie."""
    choices = task.doc_to_choice(doc)
    logprobs = [request.resps[0][0] for request in requests[: len(choices)]]
    target = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    right = [
        choices.index(t) if isinstance(t, str) and t in choices else t
        for t in (target if isinstance(target, list) else [target])
    ]
    for metric in TIED_METRICS:
        if (
            metric in scores
            and is_plain_choice(task)
            and 0 < (share := _share_right(logprobs, choices, right, metric)) < 1
        ):
            scores[metric] = share
    picked = int(np.argmax(logprobs))
    return {
        "choices": choices,
        "logprobs": logprobs,
        "picked": picked,
        "right": right,
        "output": choices[picked],
        "reference": choices[right[0]] if isinstance(right[0], int) and 0 <= right[0] < len(choices) else str(target),
        **({"prompt": requests[picked].args[0]} if task.multiple_input else {}),
    }


def _share_right(logprobs: Sequence[float], choices: Sequence[str], right: Sequence[Any], metric: str) -> float:
    """1 where the choice that an accuracy takes is a right one, else 0; of tied choices the share that is right."""
    size = {None: lambda choice: 1, "characters": len, "bytes": lambda choice: len(choice.encode())}[
        TIED_METRICS[metric]
    ]
    values = np.array(logprobs) / np.array([size(choice) for choice in choices], float)
    return float(np.isin(np.flatnonzero(values == values.max()), right).mean())


def is_plain_choice(task) -> bool:
    """Whether `acc` means that the likeliest choice is the right one: not where a task works out its scores itself."""
    return task.OUTPUT_TYPE == "multiple_choice" and not callable(task.config.process_results)


def _metrics(task, items: list[dict], kept: Sequence[str] | None) -> Iterator[Metric]:
    names = list(items[0]["scores"])
    if kept is not None:
        if missing := [name for name in kept if name not in {found.split(",")[0] for found in names}]:
            raise ValueError(f"{task.config.task} has no metric '{missing[0]}'; it has {', '.join(task.aggregation())}")
        names.sort(key=lambda name: list(kept).index(name.split(",")[0]))
    headline = names[0] if kept else next((m for m in ("acc_norm", "acc") if m in names), names[0])
    higher, aggregation = task.higher_is_better(), task.aggregation()
    chance = _chance(items) if is_plain_choice(task) else None
    for name in names:
        base = name.split(",")[0]
        made = getattr(aggregation.get(base), "__name__", "mean")
        aggregate = AGGREGATES.get(made, "given")
        values = [item["scores"][name] for item in items]
        if aggregate == "mean" and ((chance is not None and base in TIED_METRICS) or set(values) <= {0, 1}):
            aggregate = "proportion"
        given = float(aggregation[base](values)) if aggregate == "given" else None
        if aggregate == "perplexity" and made == "perplexity":
            for item in items:
                item["scores"][name] = [item["scores"][name], 1]
        yield Metric(
            task.config.task,
            name,
            aggregate,
            (name,),
            higher_is_better=higher.get(base, True),
            chance=chance if base in TIED_METRICS else None,
            is_headline=name == headline,
            signature=f"lm-eval {VERSION}, task version {task.VERSION}, {task.config.num_fewshot}-shot",
            given=given,
        )


def _chance(items: list[dict]) -> float:
    """Accuracy of guessing: the mean of right choices over choices."""
    return sum(len(item["right"]) / len(item["choices"]) for item in items) / len(items)


def _choice_notes(items: list[dict]) -> dict[str, Any]:
    """How often each position was picked and right: a model that always takes the first choice shows here."""
    if "choices" not in items[0]:
        return {}
    places = max(len(item["choices"]) for item in items)
    picked = [sum(item["picked"] == k for item in items) / len(items) for k in range(places)]
    right = [sum(k in item["right"] for item in items) / len(items) for k in range(places)]
    ties = sum(len(set(item["logprobs"])) < len(item["logprobs"]) for item in items)
    return {"picked_share": picked, "right_share": right, "items_with_ties": ties}


def _plain(value: Any) -> Any:
    """lm-eval's item score as JSON: a number or a list of numbers."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value
