"""The command as a person or a CI job calls it: files in, a sentence, an exit status and JSON out."""

import json
import subprocess
import sys

import numpy as np
import pytest

from recipes import verdict
from tests.eval.runs import write_run


def write_csv(path, scores, header="item,score", extra=lambda i: ""):
    path.write_text(header + "\n" + "".join(f"q{i},{x}{extra(i)}\n" for i, x in enumerate(scores)))
    return str(path)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    old = (rng.random(300) < 0.6).astype(int)
    up, down = old.copy(), old.copy()
    up[np.flatnonzero(old == 0)[:50]], down[np.flatnonzero(old == 1)[:50]] = 1, 0
    return {
        name: write_csv(tmp_path / f"{name}.csv", x)
        for name, x in (("old", old), ("up", up), ("down", down), ("same", old))
    }


def test_exit_status_says_better_worse_or_cannot_tell_and_the_worst_counts(files, capsys):
    assert verdict.main([files["old"], files["up"]]) == 0
    assert "up.csv is better than" in capsys.readouterr().out
    assert verdict.main([files["old"], files["down"]]) == 3
    assert verdict.main([files["old"], files["same"]]) == 4
    assert verdict.main([files["old"], files["same"], "--margin", "0.05"]) == 0
    assert verdict.main([files["old"], files["up"], files["same"], files["down"]]) == 3
    assert "costs nothing" in capsys.readouterr().out  # up, same and down were all judged before


def test_json_holds_every_number_and_the_ledger_stands_beside_the_items(files, tmp_path, capsys):
    verdict.main([files["old"], files["up"], "--json", "-"])
    told = capsys.readouterr()
    (found,) = json.loads(told.out)
    assert (found["verdict"], found["exit_code"], found["n"]) == ("better", 0, 300)
    assert found["difference"] == pytest.approx(50 / 300) and found["sentence"] in told.err
    assert set(found["variance"]) == {"items", "seeds", "sampling", "total"}
    assert found["ledger"]["file"] == str(tmp_path / "verdicts.ledger") and (tmp_path / "verdicts.ledger").is_file()
    verdict.main([files["old"], files["down"], "--ledger", "none", "--json", str(tmp_path / "out.json")])
    assert json.loads((tmp_path / "out.json").read_text())[0]["ledger"] is None
    assert len((tmp_path / "verdicts.ledger").read_text().splitlines()) == 1


def test_own_runs_are_judged_in_the_direction_of_their_metric(tmp_path, capsys):
    for name, quality in (("sft", 0.4), ("ppo", 0.6)):
        write_run(tmp_path / name, quality=quality)
    two = [str(tmp_path / "sft"), str(tmp_path / "ppo")]
    assert verdict.main([*two, "--metric", "general/bits_per_byte"]) == 0
    assert verdict.main([*two, "--metric", "instructions/gold"]) == 0
    with pytest.raises(
        ValueError, match="say which metric with --metric; there are: general/bits_per_byte, instructions/gold"
    ):
        verdict.main(two)


def test_mistakes_are_one_line_and_status_1(tmp_path, files):
    run = subprocess.run(
        [sys.executable, "-m", "recipes.verdict", files["old"], str(tmp_path / "nowhere.csv")],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1 and run.stderr == f"error: there are no results at {tmp_path / 'nowhere.csv'}\n"
    with pytest.raises(ValueError, match="name a baseline and at least one model"):
        verdict.main([files["old"]])
    with pytest.raises(ValueError, match="a reserve needs a ledger"):
        verdict.main([files["old"], files["up"], "--ledger", "none", "--reserve", "0.2"])


def test_the_command_ends_with_the_status(files):
    run = subprocess.run(
        [sys.executable, "-m", "recipes.verdict", files["old"], files["down"]], capture_output=True, text=True
    )
    assert run.returncode == 3 and "is worse than" in run.stdout
