"""`python -m recipes.evaluation`: what it writes, what it reuses, what it refuses."""

import json

import pytest

from eval.results import Evaluation
from recipes.evaluation import main
from tests.conftest import TEXTS, write_checkpoint


@pytest.fixture
def suite(tmp_path):
    """A suite YAML over a few texts and prompts, judged by this project's example metric."""
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:6]))
    rows = [{"prompt": text, "completion": TEXTS[-1 - i]} for i, text in enumerate(TEXTS[:6])]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "suite.yaml").write_text(
        f"name: small\nlikelihood: {{texts: {tmp_path}/texts.jsonl}}\nrandom_init: 2\n"
        f"generation: {{prompts: {{path: {tmp_path}/prompts.jsonl, max_new_tokens: 8, judges: [politeness]}}}}\n"
    )
    return tmp_path / "suite.yaml"


def test_the_command_writes_both_files_and_prints_the_table(suite, tmp_path, tokenizer, capsys):
    model = write_checkpoint(tmp_path / "model", tokenizer)
    assert main(["--config", str(suite), "--model", str(model)]) == model
    found = Evaluation.load(model)
    assert len(found.items) == 12 and found.suite["name"] == "small"
    assert found.metric("prompts/politeness")["random_init"]["n"] == 2
    said = capsys.readouterr().out
    assert "texts/bits_per_byte" in said and "failed check: " in said


def test_the_same_evaluation_is_kept_and_another_suite_or_other_weights_are_measured_anew(suite, tmp_path, tokenizer):
    model = write_checkpoint(tmp_path / "model", tokenizer)
    line = ["--config", str(suite), "--model", str(model)]
    main(line)
    first = (model / "eval.json").stat().st_mtime_ns
    main(line)
    assert (model / "eval.json").stat().st_mtime_ns == first
    main([*line, "--batch_tokens", "64"])  # changes no score
    assert (model / "eval.json").stat().st_mtime_ns == first
    main([*line, "--seed", "2"])
    second = (model / "eval.json").stat().st_mtime_ns
    assert second > first
    write_checkpoint(tmp_path / "model", tokenizer, seed=9)
    main([*line, "--seed", "2"])
    third = (model / "eval.json").stat().st_mtime_ns
    assert third > second
    main([*line, "--seed", "2", "--overwrite"])
    assert (model / "eval.json").stat().st_mtime_ns > third


def test_results_can_go_elsewhere_and_mistakes_are_named(suite, tmp_path, tokenizer):
    model = write_checkpoint(tmp_path / "model", tokenizer)
    assert main(["--config", str(suite), "--model", str(model), "--output", str(tmp_path / "out")]) == tmp_path / "out"
    assert (tmp_path / "out" / "samples.jsonl").is_file() and not (model / "eval.json").exists()
    with pytest.raises(ValueError, match="no/such is no folder to write into; say where the results go with --output"):
        main(["--config", str(suite), "--model", "no/such"])
    with pytest.raises(ValueError, match="unknown key 'modle' in the command line; did you mean 'model'"):
        main(["--config", str(suite), "--modle", str(model)])


def test_the_tiny_suite_is_read_and_names_judges_that_there_are():
    from eval.suite import Suite
    from recipes.judges.registry import resolve
    from recipes.tinytown.behaviours import BEHAVIOURS

    suite = Suite.load("recipes/configs/tiny/evaluation.yaml")
    assert len(suite.benchmark_sets) == 5 and suite.kl_set
    assert set(resolve(suite.judges)) == {"tinytown_gold", *(f"tinytown_{name}" for name in BEHAVIOURS)}
    assert suite.generation["sampled"]["judges"][0] == "tinytown_gold"  # the one that the verdict is on
