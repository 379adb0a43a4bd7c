"""All that a suite will read, opened and checked before anything is measured, or trained: every set's rows, every task's documents."""

from __future__ import annotations

from typing import Any

from eval.suite import Benchmark, GenerationSet, KLSet, LikelihoodSet, Suite, read_set

Tasks = list[tuple[Benchmark, Any, Any]]  # (benchmark, lm-eval task, its documents)


def check_inputs(suite: Suite, tokenizer: Any = None, tasks: Tasks | None = None) -> Tasks:
    """Read every set and task of a suite as its evaluation will; returns the tasks, which may take long to load, for the evaluation.

    tokenizer: whose chat template the prompts go through, where it is known. tasks: what an earlier check returned.
    Raises FileNotFoundError or ValueError, naming the set and, where it is one, the row."""
    sets: dict[str, LikelihoodSet | GenerationSet | KLSet] = {**suite.likelihood_sets, **suite.generation_sets}
    if suite.kl_set:
        sets["kl"] = suite.kl_set
    for name, made in sets.items():
        rows = read_set(made, suite.seed)
        if isinstance(made, LikelihoodSet) or tokenizer is None:
            continue
        for row in rows:
            _check_rendering(tokenizer, name, row["prompt"])
    return load_documents(suite) if tasks is None else tasks


def load_documents(suite: Suite) -> Tasks:
    """The suite's tasks with their documents, those that will be asked checked."""
    if not suite.benchmark_sets:
        return []
    from eval import benchmarks, tasks  # late: lm-eval takes a second to import

    found = [(b, task, task.eval_docs) for b, task in tasks.load_tasks(suite.benchmark_sets, suite.include_path)]
    for benchmark, task, docs in found:
        benchmarks.check_documents(benchmark, task, docs, suite.seed)
    return found


def _check_rendering(tokenizer: Any, name: str, prompt: Any) -> None:
    from jinja2 import TemplateError

    from base_model.chat import render_prompt

    try:
        render_prompt(tokenizer, prompt)
    except (TemplateError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"set '{name}', prompt {str(prompt)[:80]!r}: the chat template refuses it: {error}") from None
