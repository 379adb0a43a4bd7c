import numpy as np

from reward.quality import ensemble_report, measure, on_policy_report
from reward.tables import interval, tables


def quality():
    rng = np.random.default_rng(0)
    pairs = [
        {"prompt": f"p{i}", "chosen": "yes " * (1 + i % 3), "rejected": "no no", "kind": "ab"[i % 2], "margin": i % 5}
        for i in range(40)
    ]
    return measure(rng.normal(1, 1, 40), rng.normal(0, 1, 40), pairs, pairs)


def test_every_table_is_whole_and_holds_text_alone():
    measured = quality()
    gold = np.random.default_rng(1).normal(size=(12, 4))
    measured["on_policy"] = on_policy_report(gold + 1, gold, [["a b", "a", "a b c", "b"]] * 12)
    measured["ensemble"] = ensemble_report(np.random.default_rng(2).normal(1, 1, (3, 40)), [f"p{i}" for i in range(40)])
    made = tables(measured)
    assert len(made) == 5
    for table in made:
        assert set(table) == {"title", "text", "columns", "rows"} and table["rows"]
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
        assert all(isinstance(cell, str) for row in table["rows"] for cell in row)


def test_the_first_table_sets_the_model_beside_its_baselines():
    measured = quality()
    first = tables(measured)[0]
    assert [row[0] for row in first["rows"]] == ["this reward model", "longer wins", "random", "bag of words"]
    assert first["rows"][0][1] == interval(measured["accuracy"])
    assert first["title"] == "Accuracy on 40 held-out pairs of 40 prompts"


def test_a_missing_interval_is_not_made_up():
    assert interval({"value": 0.5, "low": None, "high": None}) == "0.500"
    assert interval({"value": 0.5, "low": 0.25, "high": 0.75}) == "0.500 [0.250, 0.750]"
