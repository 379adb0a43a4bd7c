"""The loading benchmark runs; and the peak memory of tokenising, writing and reading does not depend on how much text there is."""

import pytest

from recipes.bench import loading


def test_the_loading_benchmark_prints_rates_ratios_and_memory(capsys):
    loading.main(["--megabytes", "1", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert "GFLOP/s fp32" in lines[0] and lines[2].endswith("MiB")
    assert [line.split(":")[0].strip() for line in lines[3:]] == [
        "a batch of 32 x 256 tokens",
        "at step 1,000,000,000",
        "datasets and DataLoader",
        "share of a training step (llama-2m, fp32, " + lines[-1].split("fp32, ")[1].split(":")[0],
    ]


def test_made_up_text_has_the_size_asked_for():
    characters = sum(map(len, loading.made_up_text(2)))
    assert 1.8e6 < characters < 2.2e6


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_peak_memory_is_the_same_for_10_megabytes_and_for_a_gigabyte():
    """In processes of their own. 1.1: the allocator's own growth, and pages of shards read since the maps were last opened anew."""
    peaks_mib = [loading.measure_apart(megabytes)[-1] for megabytes in (10, 1000)]
    assert peaks_mib[1] < 1.1 * peaks_mib[0], peaks_mib
