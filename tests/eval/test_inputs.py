"""What a suite will read is looked at before anything is measured; what is wrong is one line that names file, row and field."""

import json

import pytest

from eval.harness import evaluate
from eval.inputs import check_inputs
from eval.suite import Suite

GOOD = {"prompt": [{"role": "user", "content": "Name an animal."}], "completion": "A cat."}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def generation(path, **settings):
    return Suite(generation={"g": {"path": str(path), "max_new_tokens": 4, **settings}}, random_init=0)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": 7}, "field 'prompt' must be text or a list of messages, found int 7"),
        ({"prompt": ""}, "field 'prompt' is empty"),
        ({"prompt": []}, "field 'prompt' is empty"),
        ({"prompt": ["Hi"]}, "field 'prompt': message 1 must be .* found Hi"),
        ({"prompt": [{"from": "human", "value": "Hi"}]}, "field 'prompt': message 1 must be"),
        ({"prompt": [{"role": "user", "content": None}]}, "field 'prompt': message 1 must be"),
        ({"completion": 7}, "field 'completion' must be a text, a list of texts"),
        ({"completion": []}, "field 'completion' must be"),
        ({"completion": ["A cat.", 7]}, "field 'completion' must be"),
        ({"completion": [{"role": "user", "content": "x"}]}, "field 'completion' must be"),
        ({"completions": ["A", "B"]}, "field 'completions' has a name that judges are called with"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(tmp_path, row, said):
    path = write(tmp_path / "g.jsonl", [GOOD, {**GOOD, **row}, GOOD])
    with pytest.raises(ValueError, match=rf"g.jsonl:2: {said}.*; 0 more bad rows") as raised:
        check_inputs(generation(path))
    assert "\n" not in str(raised.value)


def test_a_prompt_that_the_template_refuses_is_named_before_anything_is_measured(tmp_path, llama_checkpoint):
    refused = {"prompt": [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "x"}]}
    path = write(tmp_path / "g.jsonl", [GOOD, refused])
    with pytest.raises(ValueError, match="set 'g', prompt .*'tool'.*: the chat template refuses it: message 2 has the"):
        evaluate(llama_checkpoint, generation(path), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_metrics_are_over_the_rows_that_have_a_reference(tmp_path, llama_checkpoint):
    rows = [{**GOOD, "prompt": [{"role": "user", "content": f"Name {i}."}], "extra": i} for i in range(5)]
    some = [*rows[:2], {"prompt": "Say what you like."}, *rows[2:]]
    with_gap = evaluate(llama_checkpoint, generation(write(tmp_path / "a.jsonl", some)))
    without = evaluate(llama_checkpoint, generation(write(tmp_path / "b.jsonl", rows)))
    for name in ("rougeL", "bleu", "chrf", "exact_match", "f1"):
        ours, expected = with_gap.metric(f"g/{name}"), without.metric(f"g/{name}")
        assert (ours["value"], ours["n"]) == (expected["value"], 5)
    assert with_gap.metric("g/stop_rate")["n"] == 6 and with_gap.notes["g"]["without_reference"] == 1


def test_of_several_references_the_judges_hear_all(tmp_path, llama_checkpoint):
    heard = {}

    def judge(prompts, completions, **columns):
        heard.update(columns)
        return [0.0] * len(prompts)

    rows = [GOOD, {**GOOD, "completion": ["A cat.", "One cat."], "topic": "animals"}]
    suite = generation(write(tmp_path / "g.jsonl", rows), judges=["mine"])
    found = evaluate(llama_checkpoint, suite, judges={"mine": judge})
    assert heard["references"] == [["A cat."], ["A cat.", "One cat."]] and heard["reference"] == ["A cat."] * 2
    assert heard["topic"] == [None, "animals"]
    assert "nrefs:var" in found.metric("g/bleu")["signature"]


TASK = """task: mine
dataset_path: json
dataset_kwargs: {data_files: {test: mine.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: choices
doc_to_target: answer
"""


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"answer": None}, r"mine, document 2: the right answer \(doc_to_target\) is null"),
        ({"answer": 2}, "mine, document 2: the right answer 2 is none of the 2 choices"),
        (
            {"answer": "three"},
            "mine.jsonl:2: field 'answer' is of another type than in the rows before, or too large a number",
        ),
        ({"choices": []}, "mine, document 2: the choices must be texts, none of them empty, found "),
        ({"choices": ["one", ""]}, "mine, document 2: the choices must be texts"),
        ({"choices": "one or two"}, "mine.jsonl:2: field 'choices' is of another type"),
        ({"q": 10**30}, "mine.jsonl:2: field 'q' is of another type"),
    ],
)
def test_a_document_of_a_task_that_cannot_be_asked_is_named(tmp_path, row, said):
    good = {"q": "How many?", "choices": ["one", "two"], "answer": 1}
    write(tmp_path / "mine.jsonl", [good, {**good, **row}, good])
    (tmp_path / "mine.yaml").write_text(TASK)
    with pytest.raises(ValueError, match=said) as raised:
        check_inputs(Suite(benchmarks=["mine"], include_path=[str(tmp_path)]))
    assert "\n" not in str(raised.value)
