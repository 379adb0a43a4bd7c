"""The file as it stands, and its rows in a report: numbers by hand from the file's sources."""

import pytest

from eval import references
from eval.report import write_report
from recipes.reference import PUBLISHED, as_markdown, table_of
from tests.eval.runs import write_run


def test_every_published_score_names_its_protocol_and_source():
    found = references.load(PUBLISHED)
    assert len(found) > 120 and all(r.protocol and r.source and r.parameters > 1e7 for r in found)
    assert all(0 < r.value < (1 if r.metric in references.PERCENT else 1000) for r in found)
    families = {"GPT-2", "Pythia", "OPT", "SmolLM2", "T5"}
    assert all(any(r.model.startswith(family) for r in found) for family in families)
    tasks = {"lambada_openai", "hellaswag", "arc_easy", "arc_challenge", "piqa", "winogrande", "blimp", "wikitext"}
    assert tasks <= {r.task for r in found}


def test_the_nearest_in_size_are_shown_each_protocol_in_a_row_of_its_own():
    known = references.load(PUBLISHED)
    rows = references.nearest(known, {"k": ({"arc_easy"}, "acc")}, 135e6)
    assert rows[0]["model"] == "SmolLM2-135M-Instruct" and {r["model"] for r in rows[:2]} == {"SmolLM2-135M-Instruct"}
    assert {r["cells"]["k"]["value"] for r in rows[:2]} == {0.5850, 0.5412}  # 4.4 points between two protocols
    assert [r["cells"]["k"]["metric"] for r in rows if r["cells"]["k"]["value"] == 0.5850] == ["score"]
    assert references.nearest(known, {"k": ({"my_task"}, "acc")}, 1e8) == []


def test_the_report_shows_them_as_published_and_pairs_them_with_nothing(tmp_path):
    write_run(tmp_path / "base", quality=0.3, task="lambada_openai")
    write_run(tmp_path / "sft", quality=0.5, task="lambada_openai", parents=[tmp_path / "base"])
    written = write_report([tmp_path / "base", tmp_path / "sft"], tmp_path, published=PUBLISHED)
    page, text = written.html.read_text(), written.markdown.read_text()
    assert "<small title=" in page and "published, lm-eval of early 2023, 0-shot" in page
    assert "| Pythia-70M, published, lm-eval of early 2023, 0-shot |" in text and " 0.185 |" in text
    assert not [c for c in written.comparison.to_baseline.values() if "Pythia" in c.other + c.model]
    assert "published," not in write_report([tmp_path / "base"], tmp_path / "alone").markdown.read_text()


def test_a_known_models_own_measurement_stands_beside_what_was_published_of_it(tmp_path):
    from eval.results import Evaluation

    write_run(tmp_path / "pythia-70m", quality=0.3, task="lambada_openai")
    rows = table_of({"EleutherAI/pythia-70m": Evaluation.load(tmp_path / "pythia-70m")}, PUBLISHED)
    (row,) = [row for row in rows if row["task"] == "lambada_openai"]
    assert [p["value"] for p in row["published"]] == [0.185] and row["low"] < row["value"] < row["high"]
    assert "0.185 (lm-eval of early 2023, 0-shot)" in as_markdown(rows)
    assert references.is_same_model("gpt2", "GPT-2 124M") and not references.is_same_model(
        "pythia-70m-deduped", "Pythia-70M"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: []", "must hold 'protocols' and 'models'"),
        ("protocols: {}\nmodels: [{name: x, scores: {}}]", "x has no parameters"),
        ("protocols: {}\nmodels: [{name: x, parameters: 1, scores: {p: {}}}]", "no protocol 'p'"),
        (
            "protocols: {p: {text: t, source: s}}\nmodels: [{name: x, parameters: 1, scores: {p: {piqa: {acc: 620}}}}]",
            "acc is 620; accuracies are percent",
        ),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        references.load(tmp_path / "r.yaml")


def test_the_command_measures_models_once_and_writes_its_table(tmp_path, tokenizer, capsys):
    import json

    from recipes import reference
    from tests.conftest import TEXTS, random_model

    model = tmp_path / "known"
    random_model("gpt2", len(tokenizer)).save_pretrained(model)
    tokenizer.save_pretrained(model)
    (tasks := tmp_path / "tasks").mkdir()
    rows = [{"q": text, "choices": [" yes", " no"], "answer": i % 2} for i, text in enumerate(TEXTS)]
    (tasks / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tasks / "own.yaml").write_text(
        "task: own\ndataset_path: json\ntest_split: test\ndataset_kwargs: {data_files: {test: rows.jsonl}}\n"
        'output_type: multiple_choice\ndoc_to_text: "{{q}}"\ndoc_to_choice: choices\ndoc_to_target: answer\n'
    )
    suite = tmp_path / "suite.yaml"
    suite.write_text(f"benchmarks: [own]\ninclude_path: ['{tasks}']\nrandom_init: 0\n")
    options = [str(model), "--suite", str(suite), "--output", str(tmp_path / "out")]
    written = reference.main(options)
    assert "| own | acc |" in written.read_text() and "lm-eval" not in written.read_text()
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/eval.json")}
    reference.main(options)
    assert (
        first == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/eval.json")} and len(first) == 1
    )
