"""Files as other harnesses write them: lm-eval's by lm-eval itself, inspect's and lighteval's laid out as their documentation says."""

import csv
import json
import math
import zipfile

import pytest

from eval.item_scores import choose, of_metric, read
from tests.conftest import TEXTS, random_model
from tests.eval.runs import write_run


def test_lm_evals_own_samples_are_read_as_lm_eval_scored_them(tmp_path, tokenizer):
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    from eval.benchmarks import BatchedLM
    from eval.scorer import Scorer

    rows = [{"q": f"{text} Is it so?", "choices": [" yes", " no"], "answer": i % 2} for i, text in enumerate(TEXTS)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))  # one item twice
    task = {
        "task": "own_choice", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "q.jsonl")}},
        "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_choice": "choices",
        "doc_to_target": "answer", "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    tracker = EvaluationTracker(output_path=str(tmp_path / "out"))
    model = BatchedLM(Scorer(random_model("llama", len(tokenizer))), tokenizer)
    found = simple_evaluate(
        model=model, tasks=[task], task_manager=TaskManager(include_defaults=False), bootstrap_iters=0
    )
    tracker.general_config_tracker.model_name_sanitized = "m"
    tracker.date_id = "2026-01-01T00-00-00.000000"
    tracker.save_results_samples("own_choice", found["samples"]["own_choice"])
    read_back = read(tmp_path / "out")
    assert read_back.metrics == ["own_choice/acc"] and len(read_back.rows) == len(TEXTS) + 1
    assert len({row.item for row in read_back.rows}) == len(TEXTS) + 1
    mean = sum(row.score for row in read_back.rows) / len(read_back.rows)
    assert mean == pytest.approx(found["results"]["own_choice"]["acc,none"])


def test_filters_of_lm_eval_are_metrics_of_their_own(tmp_path):
    lines = [
        {"doc_id": i, "doc_hash": f"h{i}", "filter": name, "metrics": ["exact_match"], "exact_match": float(i == 0)}
        for i in range(2)
        for name in ("strict-match", "flexible-extract")
    ]
    path = tmp_path / "samples_gsm8k_2026-01-01T00-00-00.000000.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert read(path).metrics == ["gsm8k/exact_match,strict-match", "gsm8k/exact_match,flexible-extract"]


def inspect_samples():
    return [
        {"id": 1, "epoch": 1, "scores": {"match": {"value": "C"}, "judge": {"value": {"style": 0.5, "facts": True}}}},
        {"id": 1, "epoch": 2, "scores": {"match": {"value": "I"}, "judge": {"value": {"style": 1, "facts": False}}}},
        {"id": "b", "epoch": 1, "scores": {"match": {"value": "P"}}},
        {"id": "c", "epoch": 1, "error": {"message": "timeout"}},
    ]


@pytest.mark.parametrize("kind", ["eval", "json"])
def test_inspect_logs_give_graded_samples_and_say_what_was_not_scored(tmp_path, kind):
    header, path = {"version": 2, "status": "success", "eval": {"task": "arc"}}, tmp_path / f"log.{kind}"
    if kind == "json":
        path.write_text(json.dumps(header | {"samples": inspect_samples()}))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("header.json", json.dumps(header))
            for sample in inspect_samples():
                archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
    model = read(path)
    assert {(row.item, row.sample): row.score for row in of_metric(model, "match")} == {
        ("arc:1", "1"): 1.0, ("arc:1", "2"): 0.0, ("arc:b", "1"): 0.5,
    }  # fmt: skip
    assert model.metrics == ["arc/match", "arc/judge.style", "arc/judge.facts"]
    assert model.left_out == [f"1 samples of log.{kind} have no score"]


@pytest.mark.parametrize("is_new", [True, False])
def test_lighteval_details_of_both_layouts_pair_by_what_was_asked(tmp_path, is_new):
    import pyarrow
    import pyarrow.parquet

    def row(i):
        if is_new:
            return {
                "doc": {"query": f"Q{i}", "choices": ["a", "b"]},
                "metric": {"acc": i % 2},
                "model_response": {"text": ["a"]},
            }
        return {"example": f"Q{i}", "full_prompt": f"Q{i}", "choices": ["a", "b"], "metrics": {"acc": i % 2}}

    path = tmp_path / "details_leaderboard|arc:challenge|0_2026-01-01T00-00-00.000000.parquet"
    for order, folder in ((range(4), "a"), (reversed(range(4)), "b")):
        (tmp_path / folder).mkdir()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row(i) for i in order]), tmp_path / folder / path.name)
    a, b = ({r.item: r.score for r in read(tmp_path / name).rows} for name in "ab")
    assert a == b and sorted(a.values()) == [0, 0, 1, 1]
    assert read(tmp_path / "a").metrics == ["leaderboard|arc:challenge|0/acc"]


def test_an_own_run_gives_its_means_and_ratios_and_a_folder_of_runs_its_seeds(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / f"s{seed}" / "ppo", quality=0.5, seed=seed)
    one, both = read(tmp_path / "s1" / "ppo"), read(tmp_path)
    assert "instructions/gold" in one.metrics and one.is_lower_better("general/bits_per_byte")
    bits = of_metric(one, "general/bits_per_byte")
    raw = [json.loads(line) for line in (tmp_path / "s1" / "ppo" / "samples.jsonl").read_text().splitlines()]
    sums = [i["scores"] for i in raw if i["set"] == "general"]
    expected = -sum(s["loglikelihood"] for s in sums) / math.log(2) / sum(s["bytes"] for s in sums)
    assert sum(r.score for r in bits) / sum(r.weight for r in bits) == pytest.approx(expected)
    assert len({row.seed for row in both.rows}) == 2 and len(both.rows) == 2 * len(one.rows)
    joined = read(f"{tmp_path / 's1' / 'ppo'},{tmp_path / 's2' / 'ppo'}")
    assert len({row.seed for row in joined.rows}) == 2


def test_an_own_runs_judge_that_applies_to_some_items_gives_those(tmp_path):
    read_back = read(write_run(tmp_path / "ppo", quality=0.5, faults={"town_rude": 7}))  # of 60, the last is not judged
    rude = of_metric(read_back, "instructions/town_rude")
    assert [len(rude), sum(row.score for row in rude)] == [59, 7] and read_back.is_lower_better(
        "instructions/town_rude"
    )


def test_an_own_runs_ledger_stands_beside_its_held_out_data_and_not_among_them(tmp_path):
    (tmp_path / "data" / "tasks").mkdir(parents=True)
    folder = write_run(tmp_path / "runs" / "ppo", quality=0.5)
    assert read(folder).home == tmp_path / "runs"
    values = json.loads((folder / "eval.json").read_text())
    values["suite"]["settings"] = {"benchmarks": ["own"], "include_path": [str(tmp_path / "data" / "tasks")]}
    (folder / "eval.json").write_text(json.dumps(values))
    assert read(folder).home == tmp_path / "data"  # a file inside would change the suite's hash


def write_csv(path, rows, columns=("item", "score")):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([columns, *rows])
    return path


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([["a", "1"]], ("name", "score"), "has no column 'item', only name, score"),
        ([["a", "1"], ["b", "high"]], ("item", "score"), "line 3: score is 'high'; give a number"),
        ([["a", "nan"]], ("item", "score"), "line 2: score is nan; every score is a finite number"),
        ([["a", "1"], ["a", "0"]], ("item", "score"), "line 3: item 'a' is there a second time"),
        ([], ("item", "score"), "holds no scores"),
    ],
)
def test_mistakes_in_a_csv_are_named_with_their_line(tmp_path, rows, columns, message):
    with pytest.raises(ValueError, match=message):
        read(write_csv(tmp_path / "x.csv", rows, columns))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", "1", "results are .jsonl"),
        ("x.jsonl", '{"doc_id": 1', "line 1: not valid JSON"),
        ("x.jsonl", '{"item": 1}', "line 1: no 'doc_id'"),
        ("x.json", "[]", "has no 'samples'"),
        ("x.eval", "PK", "neither a zip nor JSON"),
        ("x.parquet", "PAR1", "can't be read as parquet"),
    ],
)
def test_files_of_another_kind_are_named_with_what_is_wrong(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="there are no results at"):
        read(tmp_path / "nowhere.csv")


def test_the_metric_is_the_only_one_or_the_preferred_one_or_must_be_named(tmp_path):
    columns = ("item", "score", "metric")
    one = read(write_csv(tmp_path / "a.csv", [["x", "1", "t/acc"], ["x", "1", "t/acc_norm"]], columns))
    two = read(write_csv(tmp_path / "b.csv", [["x", "1", "t/acc"], ["y", "1", "u/acc"]], columns))
    assert choose([one, one], None) == "t/acc_norm" and choose([one, two], None) == "t/acc"
    assert choose([two, two], "acc") == "acc" and len(of_metric(two, "acc")) == 2
    with pytest.raises(ValueError, match="say which metric with --metric; there are: t/acc, u/acc"):
        choose([two, two], None)
    with pytest.raises(ValueError, match="no metric 'f1' in all of them; there are: t/acc"):
        choose([one, two], "f1")
