"""The benchmarks' arithmetic by hand, and that the generation benchmark runs."""

import time
from types import SimpleNamespace

import psutil
import pytest

from recipes.bench import competitor, finetuning, generation, statistics
from recipes.bench.__main__ import main
from recipes.bench.timing import Timings, alternate, matmul_ceiling
from recipes.pipeline.fingerprint import ROOT


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    timings = Timings({"ours": [1.0, 10.0, 2.0], "theirs": [3.0, 20.0, 8.0]})  # a busy second round: 3, 2, 4
    assert timings.ratio("theirs", "ours") == 3.0
    assert timings.median_s("theirs") == 8.0


def test_functions_take_turns_and_the_warm_up_is_not_counted():
    calls = []
    timings = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, warmup=1)
    assert "".join(calls) == "ababab"
    assert [len(seconds) for seconds in timings.seconds.values()] == [2, 2]


def test_the_ceiling_is_a_rate_of_multiplications():
    assert 0.1 < matmul_ceiling(size=64, duration_s=0.05) < 100_000  # GFLOP/s: no machine is outside


def test_the_generation_benchmark_prints_a_ratio_for_each_batch(capsys):
    generation.main(["--preset", "llama-1m", "--batch", "1", "2", "--new_tokens", "3", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert "GFLOP/s fp32" in lines[0] and lines[2].split()[-1] == "ratio"
    assert [float(line.split()[0]) for line in lines[3:]] == [1, 2] and all(
        float(line.split()[-1]) > 0 for line in lines[3:]
    )


def test_a_competitor_runs_beside_the_work_and_stands_still_between():
    def used_s() -> float:
        return sum(psutil.Process(pid).cpu_times().user for pid in pids)

    before = {child.pid for child in psutil.Process().children()}  # servers of other tests in this process
    with competitor.paused_competitors(1, nice=19) as run_beside:
        pids = {child.pid for child in psutil.Process().children()} - before
        run_beside(lambda: time.sleep(0.3))
        time.sleep(0.1)  # until the signal has come
        during_s = used_s()
        time.sleep(0.1)
        assert 0 < during_s == used_s()
    assert pids and not any(map(psutil.pid_exists, pids))


@pytest.mark.slow
@pytest.mark.parametrize("packing", [[], ["--no_packing"]], ids=["packed", "padded"])
def test_fine_tuning_has_trls_losses_and_prints_a_ratio_for_each_stage(capsys, packing):
    finetuning.main(["--steps", "2", "--check_steps", "3", "--rounds", "1", *packing])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[-4:]]
    assert [line[0] for line in lines] == list(finetuning.STAGES)
    assert all(float(line[3]) > 0 and float(line[4]) <= 1e-4 for line in lines)


def test_losses_that_are_not_trls_are_an_error(tmp_path, monkeypatch):
    bench = finetuning.Bench(tmp_path, "llama-1m", packing=True)
    monkeypatch.setattr(bench, "trainers", lambda *_: [_Logged([2.0, 1.0]), _Logged([2.0, 1.0002])])
    monkeypatch.setattr(finetuning, "seconds_a_step", lambda trainer: 0.0)
    with pytest.raises(ValueError, match=r"dpo: losses differ by 0.0002 from TRL's, more than 0.0001"):
        bench.loss_difference("dpo", 2)


class _Logged:
    """A trainer that has trained."""

    def __init__(self, losses):
        self.state = SimpleNamespace(log_history=[{"loss": loss} for loss in losses])


def test_a_benchmark_that_is_not_there_names_those_that_are(capsys):
    with pytest.raises(ValueError, match=r"unknown benchmark 'speed'; usage: python -m recipes.bench .*generation"):
        main(["speed"])
    main(["--help"])
    assert capsys.readouterr().out.startswith("usage: python -m recipes.bench ")


def test_the_words_of_the_ppo_benchmark_come_back_from_text_as_they_went_in():
    from recipes.bench._ppo_trainer import make_tokenizer

    tokenizer = make_tokenizer(50)
    (text,) = tokenizer.batch_decode([[5, 49, 3, 2]], skip_special_tokens=True)
    assert text == "w5 w49 w3"
    assert tokenizer(text, add_special_tokens=False).input_ids == [5, 49, 3]


def test_the_statistics_benchmark_prints_every_table_of_its_page(capsys):
    """The page's headings, in order, and as many rows below each: nothing of it is made elsewhere."""
    statistics.main(["--simulations", "2"])
    page = (ROOT / "recipes" / "results" / "statistics.md").read_text(encoding="utf-8")

    def tables(text: str) -> list[tuple[str, int]]:
        sections = text.split("\n## ")[1:]
        return [(section.split("\n")[0], section.count("\n| ")) for section in sections]

    printed = capsys.readouterr().out
    assert tables(printed) == tables(page) and len(tables(page)) == 6
    assert "2 sweeps on 100 items" in printed
