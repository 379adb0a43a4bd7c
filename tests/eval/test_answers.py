"""Which answers the report begins with: chosen by the rule that it states, from the files of made-up runs."""

import hashlib

import pytest

from eval.answers import answers
from eval.compare import compare
from eval.report import prompt_text
from tests.eval.runs import write_run


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    kinds = {"story": 0.0, "list": 0.1, "decline": -0.1}
    base = write_run(root / "base", quality=0.2, kinds=kinds)
    tuned = write_run(root / "tuned", quality=0.4, parents=[base], kinds=kinds)
    return [base, tuned, *(write_run(root / n, quality=0.5, parents=[tuned], kinds=kinds) for n in ("dpo", "ppo"))]


def test_they_are_those_that_the_rule_names(folders):
    """By hand from the items: gains are the mean over both aligned models; lots are by the hash; no kind twice within two."""
    comparison = compare(folders, baseline=folders[1], aligned=folders[1:])
    found = answers(comparison, prompt_text)
    assert found["models"] == ["base", "tuned", "dpo", "ppo"] and found["judge"] == "instructions/gold"
    items = {
        m.name: {i["prompt"][0]["content"]: i for i in m.evaluation.items_of_set["instructions"]}
        for m in comparison.models
    }
    gold = {name: {prompt: item["scores"]["gold"] for prompt, item in of.items()} for name, of in items.items()}
    gains = {
        prompt: (gold["dpo"][prompt] + gold["ppo"][prompt]) / 2 - gold["tuned"][prompt] for prompt in gold["tuned"]
    }
    rows = {
        why: [row for row in found["rows"] if row["why"] == why] for why in ("gained most", "lost most", "drawn by lot")
    }
    assert [len(of) for of in rows.values()] == [2, 2, 4]
    assert rows["gained most"][0]["prompt"] == max(gains, key=gains.get)
    assert rows["lost most"][0]["prompt"] == min(
        (p for p in gains if p != rows["gained most"][1]["prompt"]), key=gains.get
    )
    assert all(gains[row["prompt"]] < 0 for row in rows["lost most"])
    assert len({row["kind"] for row in rows["gained most"]}) == 2
    hashes = {prompt: hashlib.sha256(item["item"].encode()).hexdigest() for prompt, item in items["tuned"].items()}
    taken = {row["prompt"] for why in ("gained most", "lost most") for row in rows[why]}
    assert {row["prompt"] for row in rows["drawn by lot"]} == set(sorted(set(hashes) - taken, key=hashes.get)[:4])
    for row in found["rows"]:
        assert [a["text"] for a in row["answers"]] == [items[name][row["prompt"]]["output"] for name in found["models"]]
        assert [a["score"] for a in row["answers"]] == [gold[name][row["prompt"]] for name in found["models"]]


def test_there_are_none_where_nothing_was_made_from_the_baseline(folders):
    assert answers(compare(folders[:1]), prompt_text) is None
    assert answers(compare(folders[:2], baseline=folders[1]), prompt_text) is None
