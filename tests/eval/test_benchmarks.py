"""Expected answers come from lm-eval itself: its HFLM under `simple_evaluate`, item by item, on real data and on made-up tasks."""

import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from eval import benchmarks
from eval.benchmarks import BatchedLM
from eval.results import estimate
from eval.scorer import Scorer
from eval.suite import Benchmark
from eval.tasks import load_tasks, stock_yaml
from tests.conftest import TEXTS, random_model

ITEMS = 60


def rows_of(path: Path, count: int) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in itertools.islice(file, count)]


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def as_hellaswag(row: dict) -> dict:
    activity, _, context = row["query"].partition(": ")
    return {
        "activity_label": activity,
        "ctx_a": context,
        "ctx_b": "",
        "endings": row["choices"],
        "label": str(row["gold"]),
    }


def as_arc(row: dict) -> dict:
    labels = "ABCDE"[: len(row["choices"])]
    return {
        "question": row["query"].removeprefix("Question: "),
        "choices": {"text": row["choices"], "label": list(labels)},
        "answerKey": labels[row["gold"]],
    }


REAL = {  # stock task -> (file under $PLUMBLINE_DATA, its rows as the hub's, evaluated split)
    "blimp_adjunct_island": ("blimp/blimp.jsonl.gz", lambda row: row, "train"),
    "hellaswag": ("olmo_mc/hellaswag.jsonl.gz", as_hellaswag, "validation"),
    "arc_easy": ("gauntlet/arc_easy.jsonl.gz", as_arc, "test"),
    "lambada_openai": (
        "gauntlet/lambada_openai.jsonl.gz",
        lambda row: {"text": f"{row['context']} {row['continuation']}"},
        "test",
    ),
}


@pytest.fixture(scope="module")
def english(data_folder):
    """A tokenizer of English, so that a choice of HellaSwag fits the test models' 128 tokens."""
    from base_model.tokenizer import train_tokenizer

    texts = [json.dumps(row) for source, _, _ in REAL.values() for row in rows_of(data_folder / source, 400)]
    return train_tokenizer(texts, 3000)


def by_lm_eval(model, tokenizer, task: str, file: Path, split: str):
    """lm-eval's samples and results of a stock task on a local file, by its own loader, HFLM and evaluator."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    splits = {f"{name}_split": None for name in ("training", "validation", "test", "fewshot")}
    kind = {"train": "validation"}.get(split, split)
    config = load_yaml(stock_yaml(task)) | splits | {f"{kind}_split": split}
    config |= {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": {split: str(file)}}}
    config.pop("tag", None)
    results = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=7, device="cpu"),
        tasks=[config],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )
    return results["samples"][task], results["results"][task]


@pytest.mark.parametrize("task", REAL)
def test_stock_tasks_equal_hflm_item_by_item(task, dialect, english, data_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    source, convert, split = REAL[task]
    file = write_rows(tmp_path / f"{task}.jsonl", [convert(row) for row in rows_of(data_folder / source, ITEMS)])
    model = random_model(dialect, len(english), seed=5)
    ((benchmark, loaded),) = load_tasks([Benchmark(task, path=str(file))])
    items, metrics, _ = benchmarks.measure(BatchedLM(Scorer(model), english), benchmark, loaded, seed=1)
    samples, results = by_lm_eval(model, english, task, file, split)
    assert len(items) == len(samples) == ITEMS
    for item, sample in zip(items, sorted(samples, key=lambda s: s["doc_id"]), strict=True):
        theirs = [response[0][0] for response in sample["resps"]]
        # float32 sums over up to 128 tokens in another order
        assert item["logprobs"] == pytest.approx([float(x) for x in theirs], abs=5e-4)
        for metric in sample["metrics"]:
            ours = item["scores"][metric]
            assert (ours[0] if isinstance(ours, list) else ours) == pytest.approx(sample[metric], abs=5e-4), metric
    for metric in metrics:
        # perplexity is exp of a mean of about 60 nats: 1e-4 relative
        assert estimate(metric, items).value == pytest.approx(results[f"{metric.name},none"], rel=1e-3)


@pytest.fixture
def own_tasks(tmp_path):
    """A folder with two tasks of a person's own: multiple choice (answers spread) and generation."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    questions = [
        {"q": f"{text} Is it so?", "choices": [" yes", " no", " I do not know"], "answer": i % 3}
        for i, text in enumerate(TEXTS)
    ]
    write_rows(folder / "choice.jsonl", questions)
    write_rows(folder / "open.jsonl", [{"q": text[:30], "a": "yes"} for text in TEXTS[:6]])
    common = "dataset_path: json\ntest_split: test\n"
    (folder / "choice.yaml").write_text(
        f"task: own_choice\n{common}dataset_kwargs: {{data_files: {{test: choice.jsonl}}}}\noutput_type: multiple_choice\n"
        'doc_to_text: "{{q}}"\ndoc_to_choice: choices\ndoc_to_target: answer\ntarget_delimiter: ""\n'
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    (folder / "open.yaml").write_text(
        f"task: own_open\n{common}dataset_kwargs: {{data_files: {{test: open.jsonl}}}}\noutput_type: generate_until\n"
        'doc_to_text: "{{q}}"\ndoc_to_target: a\ngeneration_kwargs: {until: ["."], max_gen_toks: 80}\n'
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    return folder


def run(model, tokenizer, task_name, folder, **options):
    ((benchmark, task),) = load_tasks([Benchmark(task_name, **options)], [str(folder)])
    return benchmarks.measure(BatchedLM(Scorer(model), tokenizer), benchmark, task, seed=1)


def test_our_lm_works_inside_simple_evaluate(own_tasks, tokenizer):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    model = random_model("llama", len(tokenizer))
    items, _, _ = run(model, tokenizer, "own_choice", own_tasks)
    results = simple_evaluate(
        model=BatchedLM(Scorer(model), tokenizer),
        tasks=[load_tasks([Benchmark("own_choice")], [str(own_tasks)])[0][1]],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )
    assert results["results"]["own_choice"]["acc,none"] == np.mean([item["scores"]["acc"] for item in items])


def test_generated_answers_equal_hflms(own_tasks, tokenizer):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = random_model("llama", len(tokenizer), seed=2)
    items, _, _ = run(model, tokenizer, "own_open", own_tasks)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu")
    settings = {"until": ["."], "max_gen_toks": 40}  # HFLM goes on to the end of 128 tokens and no further
    requests = [Instance("generate_until", {}, (text[:30], settings), 0) for text in TEXTS[:6]]
    theirs = lm.generate_until(requests, disable_tqdm=True)
    ours = BatchedLM(Scorer(model), tokenizer).generate_until(requests)
    assert ours == theirs
    assert [item["output"][: len(t)] for item, t in zip(items, theirs, strict=True)] == theirs


def test_chat_template_is_used_for_generated_tasks_and_for_no_other(own_tasks, tokenizer):
    import copy

    from base_model.chat import render_prompt, set_chat_template

    chatty = set_chat_template(copy.deepcopy(tokenizer))
    model = random_model("llama", len(tokenizer))
    plain = run(model, tokenizer, "own_choice", own_tasks)[0]
    assert [i["logprobs"] for i in run(model, chatty, "own_choice", own_tasks)[0]] == [i["logprobs"] for i in plain]
    items, _, notes = run(model, chatty, "own_open", own_tasks)
    assert notes["chat_template"]
    lm = BatchedLM(Scorer(model), chatty)
    expected = render_prompt(chatty, [{"role": "user", "content": TEXTS[0][:30]}])
    assert lm._encode_prompt(items[0]["prompt"]) == expected


def test_a_tie_between_all_choices_scores_one_over_their_number(own_tasks, tokenizer):
    import torch

    model = random_model("gpt2", len(tokenizer))
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    task_file = own_tasks / "choice.jsonl"
    rows = [json.loads(line) | {"choices": [" a", " b", " c"]} for line in task_file.read_text().splitlines()]
    write_rows(task_file, rows)  # choices of one token each: equal under uniform weights
    items, metrics, notes = run(model, tokenizer, "own_choice", own_tasks)
    assert {item["scores"]["acc"] for item in items} == {1 / 3}
    assert notes["items_with_ties"] == len(items)
    assert metrics[0].chance == pytest.approx(1 / 3)


def test_limit_takes_a_seeded_sample_and_not_the_first(own_tasks, tokenizer):
    model = random_model("llama", len(tokenizer))
    everything = [i["item"] for i in run(model, tokenizer, "own_choice", own_tasks)[0]]
    some = [i["item"] for i in run(model, tokenizer, "own_choice", own_tasks, limit=8)[0]]
    assert len(some) == 8 and set(some) <= set(everything) and some != everything[:8]
    assert some == [i["item"] for i in run(model, tokenizer, "own_choice", own_tasks, limit=8)[0]]


def test_few_shot_prompts_are_lm_evals_own_whatever_the_suites_seed(own_tasks, tokenizer):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    model = random_model("llama", len(tokenizer))
    items = run(model, tokenizer, "own_choice", own_tasks, num_fewshot=2)[0]  # with a suite's seed of 1
    samples = simple_evaluate(
        model=BatchedLM(Scorer(model), tokenizer),
        tasks=[load_tasks([Benchmark("own_choice")], [str(own_tasks)])[0][1]],
        num_fewshot=2,
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )["samples"]["own_choice"]
    stock = [sample["arguments"][0][0] for sample in sorted(samples, key=lambda sample: sample["doc_id"])]
    assert [item["prompt"] for item in items] == stock and stock[0].count("Is it so?") == 3


def test_with_the_question_removed_the_choices_are_scored_as_lm_eval_scores_them_after_nothing(own_tasks, tokenizer):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = random_model("llama", len(tokenizer), seed=4)
    items, _, notes = run(model, tokenizer, "own_choice", own_tasks, metrics=["acc"])
    alone = notes["question_removed"]
    hflm = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu")
    texts = items[0]["choices"]  # every item has the same
    requests = [Instance("loglikelihood", {}, ("", text), i) for i, text in enumerate(texts)]
    best = int(np.argmax([answer[0] for answer in hflm.loglikelihood(requests, disable_tqdm=True)]))
    expected = [float(item["right"] == [best]) for item in items]
    assert alone["value"] == pytest.approx(np.mean(expected)) and alone["metric"] == "acc" and alone["n"] == len(items)
    assert alone["added"]["mean"] == pytest.approx(
        np.mean([item["scores"]["acc"] for item in items]) - np.mean(expected)
    )


def test_choices_that_give_the_answer_away_fail_the_check_that_the_question_is_needed():
    from eval.checks import _question_check
    from eval.statistics import mean_interval, paired_difference

    items = [{"right": [0], "choices": ["a", "b"]}] * 100
    full, leaked, fair = (np.repeat([1, 0], [right, 100 - right]) for right in (88, 85, 52))
    for alone, passes in ((leaked, False), (fair, True)):
        added = paired_difference(full, alone).as_dict()
        check = _question_check("t", mean_interval(alone).as_dict() | {"metric": "acc", "added": added}, items)
        assert check["passed"] is passes and f"acc {alone.mean():.3f} with the question removed" in check["detail"]


def test_unknown_tasks_and_splits_that_no_file_gives_are_refused_by_name(own_tasks):
    with pytest.raises(ValueError, match="'no_such_task_anywhere' is no task, group or tag of lm-eval"):
        load_tasks([Benchmark("no_such_task_anywhere")], [str(own_tasks)])
    text = (own_tasks / "choice.yaml").read_text()
    (own_tasks / "choice.yaml").write_text(text.replace("data_files: {test:", "data_files: {other:"))
    with pytest.raises(ValueError, match=r"task own_choice evaluates none of the splits \['other'\]"):
        load_tasks([Benchmark("own_choice")], [str(own_tasks)])


def test_too_long_answers_are_refused_with_what_to_set(own_tasks, tokenizer):
    text = (own_tasks / "open.yaml").read_text().replace("max_gen_toks: 80", "max_gen_toks: 200")
    (own_tasks / "open.yaml").write_text(text)
    with pytest.raises(ValueError, match="asks for 200 new tokens and the model reads 128; set max_gen_toks"):
        run(random_model("llama", len(tokenizer)), tokenizer, "own_open", own_tasks)


# ---- stock tasks on files with other columns


@pytest.fixture
def other_columns(own_tasks):
    """The questions of own_choice under other names, every third one of kind `left out`; and the same as the task has them."""
    rows = [json.loads(line) for line in (own_tasks / "choice.jsonl").read_text().splitlines()]
    others = [
        {"Question Text": row["q"], "options": row["choices"][1:], "first": row["choices"][0], "gold": row["answer"] + 1}
        | {"kind": ("a", "b", "left out")[i % 3]}
        for i, row in enumerate(rows)
    ]  # fmt: skip
    return str(write_rows(own_tasks / "other.jsonl", others))


MAPPED = {"q": "q", "choices": "[first] + options", "answer": "gold - 1"}


def test_fields_make_what_a_task_reads_from_another_files_columns(own_tasks, other_columns, tokenizer):
    model = random_model("llama", len(tokenizer))
    plain, _, _ = run(model, tokenizer, "own_choice", own_tasks)
    rows = [json.loads(line) for line in Path(other_columns).read_text().splitlines()]
    write_rows(Path(other_columns), [{**row, "q": row["Question Text"]} for row in rows])
    options = {"path": other_columns, "name": "mine", "fields": MAPPED, "where": "kind != 'left out'", "by": "kind"}
    items, metrics, notes = run(model, tokenizer, "own_choice", own_tasks, **options)
    questions = [json.loads(line) for line in (own_tasks / "choice.jsonl").read_text().splitlines()]
    kept = write_rows(own_tasks / "kept.jsonl", [row for i, row in enumerate(questions) if i % 3 != 2])
    expected, _, _ = run(
        model, tokenizer, "own_choice", own_tasks, path=str(kept)
    )  # in the same batches: the same bits
    assert [item["logprobs"] for item in items] == [item["logprobs"] for item in expected]
    assert {item["set"] for item in items} == {metrics[0].set} == {"mine"}
    for part, remainder in (("a", 0), ("b", 1)):
        of_part = [item["scores"]["acc"] for i, item in enumerate(plain) if i % 3 == remainder]
        assert notes["parts"][part] == {"n": len(of_part), "acc": pytest.approx(np.mean(of_part))}
    limited, _, notes = run(model, tokenizer, "own_choice", own_tasks, **options, limit=7)
    assert sorted(part["n"] for part in notes["parts"].values()) == [3, 4] and len(limited) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": {"q": "qq"}}, r"other\.jsonl:1: own_choice, fields\.q: 'qq': 'qq' is undefined; the row has Question Text"),
        ({"fields": {"answer": "gold / 0"}}, r"other\.jsonl:1: own_choice, fields\.answer: .*division"),
        ({"where": "kind =="}, "own_choice has an expression that Jinja cannot read"),
        ({"fields": {"q": "''.__class__.__mro__"}}, r"other\.jsonl:1: own_choice, fields\.q: .*unsafe"),
        ({"fields": MAPPED | {"q": "first"}, "by": "sort"}, r"documents have no field 'sort' \(by\), only Question Text"),
        ({"fields": MAPPED | {"q": "first"}, "metrics": ["bleu"]}, "own_choice has no metric 'bleu'; it has acc"),
    ],
)  # fmt: skip
def test_an_expression_that_fails_is_named_with_its_row(own_tasks, other_columns, tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        run(random_model("llama", len(tokenizer)), tokenizer, "own_choice", own_tasks, path=other_columns, **options)
