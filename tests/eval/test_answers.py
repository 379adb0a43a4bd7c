"""What the report begins with: answers chosen by the rule that it states, and what alignment changed in words; from made-up runs."""

import hashlib

import pytest

from eval.answers import answers
from eval.behaviours import in_words
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


def test_an_item_that_the_judge_does_not_apply_to_is_not_among_them(folders):
    comparison = compare(folders, baseline=folders[1], aligned=folders[1:])
    first = answers(comparison, prompt_text)["rows"][0]["prompt"]
    for item in comparison.by_name["dpo"].evaluation.items_of_set["instructions"]:
        if item["prompt"][0]["content"] == first:
            del item["scores"]["gold"]
    assert first not in {row["prompt"] for row in answers(comparison, prompt_text)["rows"]}


def test_there_are_none_where_nothing_was_made_from_the_baseline(folders):
    assert answers(compare(folders[:1]), prompt_text) is None
    assert answers(compare(folders[:2], baseline=folders[1]), prompt_text) is None


def test_what_alignment_changed_is_told_by_behaviour_and_kind(tmp_path):
    """Of the 59 answers that are judged 20 were rude and 3 are; 0 rambled and 15 do; one is broken off as before. Stories gain, lists
    stay, mischief loses."""
    before = {"town_rude": 20, "town_rambling": 0, "town_broken_off": 1}
    after = {"town_rude": 3, "town_rambling": 15, "town_broken_off": 1}
    kinds = {"story": 0.0, "list": 0.0, "decline": 0.0}
    tuned = write_run(tmp_path / "tuned", quality=0.5, kinds=kinds, faults=before)
    dpo = write_run(
        tmp_path / "dpo", quality=0.5, kinds={"story": 0.4, "list": 0.0, "decline": -0.4}, parents=[tuned], faults=after
    )
    found = compare([tuned, dpo], baseline=tuned)
    assert in_words(found) == [
        "dpo against tuned: less often rude 33.9 → 5.1 %; more often rambling 0.0 → 25.4 %; "
        "no detectable difference: broken off 1.7 → 1.7 %; better at story; worse at decline."
    ]
    assert {table["key"] for table in found.by_kind} == {"instructions/gold"}  # faults have no table of kinds


def test_there_is_nothing_to_say_in_words_without_judges_or_aligned_models(folders):
    assert in_words(compare(folders[:1])) == []
    said = in_words(compare(folders, baseline=folders[1], aligned=folders[1:]))
    assert [sentence.split(":")[0] for sentence in said] == ["dpo against tuned", "ppo against tuned"]
