"""Which items leaked is known because the test puts them into the training text."""

import json

import pytest

from eval.report import write_report
from eval.results import Evaluation
from recipes import contamination
from tests.eval.runs import write_manifest, write_run

LONG = "the grey heron stands on one leg beside the old stone bridge and waits for number {}"


@pytest.fixture
def run(tmp_path):
    """Sixty items of a benchmark whose prompts are 17 words long; items 3 and 40 stand in the training text, in other case and points."""
    folder = write_run(tmp_path / "ppo", quality=0.5, parents=[tmp_path / "sft"])
    found = Evaluation.load(folder)
    number = 0
    for item in found.items:
        if item["set"] == "town_qa":
            item["prompt"], number = LONG.format(f"{number} {number * 7}"), number + 1
    found.notes["town_qa"] = {"question_removed": {"metric": "acc", "value": 0.4321}}
    found.save(folder)
    texts = [f"As they say: {LONG.format(f'{i} {i * 7}').upper()}! So it is." for i in (3, 40)]
    rows = [{"text": text} for text in ["Nothing of the kind.", *texts]]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_manifest(tmp_path / "sft")
    return folder


def test_items_that_share_a_run_of_words_with_the_training_text_are_counted_per_task(run, tmp_path, capsys):
    # each prompt has 18 words, so runs of 17 hold its own number; runs of 13 also stand in every other prompt
    options = [str(run), "--training", str(tmp_path / "train.jsonl"), "--words", "18"]
    told = json.loads(contamination.main(options).read_text())
    items = Evaluation.load(run).items_of_set["town_qa"]
    task = told["tasks"]["town_qa"]
    assert task["items"] == sorted(items[i]["item"] for i in (3, 40)) and (task["contaminated"], task["n"]) == (2, 60)
    others = [item["scores"]["acc"] for i, item in enumerate(items) if i not in (3, 40)]
    assert task["on_the_others"]["acc"]["value"] == pytest.approx(sum(others) / 58)
    assert "town_qa: 2 of 60 items share a run of 18 words" in capsys.readouterr().out
    written = write_report([run], tmp_path)
    for text in (written.html.read_text(), written.markdown.read_text()):
        assert "items in training text" in text and "2 of 60" in text
        assert "question removed" in text and "0.432" in text


def test_a_shorter_run_finds_what_all_prompts_share(run, tmp_path):
    contamination.main([str(run), "--training", str(tmp_path / "train.jsonl")])
    assert json.loads((run / "contamination.json").read_text())["tasks"]["town_qa"]["contaminated"] == 60


def test_the_training_data_are_those_of_the_run_and_its_parents(run, tmp_path):
    for name, parents in (("ppo", [tmp_path / "sft"]), ("sft", [])):
        write_manifest(
            tmp_path / name, parents=parents, data=[{"path": str(tmp_path / f"{name}.jsonl"), "sha256": "0"}]
        )
        (tmp_path / f"{name}.jsonl").write_text('{"text": "x"}\n')
    assert contamination.training_files(run) == [str(tmp_path / "ppo.jsonl"), str(tmp_path / "sft.jsonl")]
    (tmp_path / "shards").mkdir()
    for name in ("shards/index.json", "shards/00000.bin", "pairs1.jsonl", "pairs2.jsonl"):
        (tmp_path / name).write_text('{"text": "x"}\n')
    more = [{"path": str(tmp_path / name), "sha256": "0"} for name in ("pairs*.jsonl", "shards")]
    write_manifest(tmp_path / "dpo", parents=[], data=more)
    assert contamination.training_files(tmp_path / "dpo") == [
        str(tmp_path / "pairs*.jsonl")
    ]  # shards hold text of a parent
    (tmp_path / "sft.jsonl").unlink()
    with pytest.raises(ValueError, match="sft.jsonl is not there any more"):
        contamination.training_files(run)
    with pytest.raises(ValueError, match="name no training data"):
        contamination.training_files(tmp_path / "elsewhere")
