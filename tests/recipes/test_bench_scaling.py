"""The scaling benchmark's arithmetic by hand, its verdicts, and that it runs, each stage in a process of its own."""

import json
import math
import subprocess
import sys

import pytest

from recipes.bench import scaling
from recipes.bench.scaling import Measured


def test_the_exponent_does_not_see_the_start_up():
    # 5 + 2 n^1.5 at 1, 4, 16: 7, 21, 133; increments 14 and 112; 112 / 14 = 8 = 4^1.5
    assert scaling.exponent([1, 4, 16], [7, 21, 133]) == pytest.approx(1.5)
    # 10 + 3 n; log seconds on log sizes, start-up and all, would say 0.54
    assert scaling.exponent([1, 4, 16], [13, 22, 58]) == pytest.approx(1.0)
    assert scaling.start_up_s([1, 4, 16], [13, 22, 58]) == pytest.approx(10)


def test_the_exponent_of_four_sizes_is_a_least_squares_slope():
    # increments 1, 2, 8 at 1, 2, 4: log2 0, 1, 3 over 0, 1, 2; slope (3 - 0) / 2
    assert scaling.exponent([1, 2, 4, 8], [1, 2, 4, 12]) == pytest.approx(1.5)


def test_seconds_and_peaks_have_a_median_each():
    assert scaling.median([Measured(1, 30), Measured(2, 10), Measured(9, 20)]) == Measured(2, 20)


def test_seconds_that_do_not_grow_have_no_exponent():
    assert math.isnan(scaling.exponent([1, 4, 16], [5, 5, 6]))


@pytest.mark.parametrize("sizes", [[1, 4], [1, 4, 8], [4, 2, 1], [1, 1, 1]])
def test_sizes_must_be_three_in_equal_steps(sizes):
    with pytest.raises(ValueError, match=r"give three or more, each the same times the one before: 1 4 16"):
        scaling.check_sizes(sizes)


def test_the_table_says_what_is_not_linear_and_what_grows():
    def runs(seconds, peaks):
        return {size: Measured(s, p) for size, s, p in zip((1, 4, 16), seconds, peaks, strict=True)}

    found = {
        "cleaning": runs((13, 22, 58), (500, 520, 540)),  # 10 + 3 n; 1.08 times
        "tokenising": runs((2, 17, 257), (500, 600, 1000)),  # 1 + n^2; twice
        "loading": runs((5, 5, 6), (500, 500, 500)),
    }
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in scaling.table(found, 3, "a machine").splitlines()
        if line.startswith("| ")
    ]
    assert ";".join(rows[2]) == "cleaning;documents;13.0;22.0;58.0;10.0;1.00;yes;500;520;540;1.08;yes"
    assert rows[3][6:8] == ["2.00", "no"] and rows[3][-2:] == ["2.00", "no"]
    assert rows[4][6:8] == ["nan", "no"] and rows[4][-2:] == ["1.00", "yes"]
    assert scaling.figure_svg(found) == scaling.figure_svg(found), "same numbers, same bytes"


def test_every_size_gets_the_rows_with_most_tokens_of_the_largest(tmp_path):
    from base_model.tokenizer import character_tokenizer

    def pair(prompt, chosen, rejected):
        return json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected}) + "\n"

    long, even = pair("p", "b" * 90, ""), pair("p", "b" * 60, "c" * 60)  # an answer of 90 and two of 60
    for name, first, count in (("large", even + long, 98), ("small", "", 20)):
        (tmp_path / name).mkdir()
        rows = [pair("a" * (i % 7), "bb", "cc") for i in range(count)]
        (tmp_path / name / "pairs.jsonl").write_text(first + "".join(rows))
    scaling.share_longest(character_tokenizer([long, even, *rows]), tmp_path / "large", tmp_path / "small")
    lines = (tmp_path / "small" / "pairs.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 20 and lines[-2:] == [even, long]
    assert lines[:4] == [pair("a" * i, "bb", "cc") for i in range(4)]


def test_the_process_that_starts_the_stages_is_small():
    """A child's peak is never below the size of the process that started it: torch in here would hide every small stage."""
    code = "import sys, recipes.bench.scaling; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=scaling.ROOT).returncode == 0


def test_a_stage_that_fails_is_told_with_its_output():
    with pytest.raises(RuntimeError, match=r"check_sizes\(\[1\],\) ended with status 1(.|\n)*give three or more"):
        scaling.call_apart("check_sizes", [1])


def ran(folder, *stages):
    few = ["--sizes", "1", "2", "4", "--runs", "1", "--share", "0.03"]
    scaling.main([*few, "--stages", *stages, "--out", str(folder)])
    text = (folder / "scaling.md").read_text()
    assert "<svg" in (folder / "scaling.svg").read_text()
    return {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_benchmark_leaves_a_table_and_a_figure(tmp_path):
    rows = ran(tmp_path, "loading")
    assert [name for name in rows if name in scaling.STAGES] == ["loading"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_stage_runs_on_growing_data(tmp_path):
    assert set(scaling.STAGES) <= set(ran(tmp_path, *scaling.STAGES))
