"""`python -m recipes.compare`: reuse of evaluations, foreign models, the terminal's tables."""

import json

import pytest

from recipes.compare import main
from tests.conftest import TEXTS, write_checkpoint
from tests.eval.runs import write_run


def test_runs_are_compared_from_their_files_alone(tmp_path, capsys):
    base = write_run(tmp_path / "base", quality=0.3)
    better = write_run(tmp_path / "better", quality=0.6, parents=[base])
    html = main([str(base), str(better)])
    assert html == tmp_path / "report.html" and (tmp_path / "report.md").is_file()
    said = " ".join(capsys.readouterr().out.split())  # a narrow terminal breaks titles over lines
    for part in ("better is better than base", "bits_per_byte", "instructions/gold: row preferred"):
        assert part in said
    assert f"python -m recipes.compare {base} {better}" in html.read_text()


def test_with_a_suite_models_are_measured_where_they_were_not_and_never_twice(tmp_path, tokenizer, capsys):
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:6]))
    suite = tmp_path / "suite.yaml"
    suite.write_text(f"likelihood: {{texts: {tmp_path}/texts.jsonl}}\nrandom_init: 0\n")
    models = [write_checkpoint(tmp_path / name, tokenizer, seed=seed) for seed, name in enumerate(["one", "two"])]
    line = [*map(str, models), "--suite", str(suite), "--output", str(tmp_path / "out"), "--baseline", str(models[1])]
    main(line)
    kept = sorted((tmp_path / "out" / "evaluations").iterdir())
    assert len(kept) == 2 and not (models[0] / "eval.json").exists()  # a folder that is not ours is left as it is
    times = [(folder / "eval.json").stat().st_mtime_ns for folder in kept]
    main(line)
    assert [(folder / "eval.json").stat().st_mtime_ns for folder in kept] == times
    assert "texts" in capsys.readouterr().out


def test_models_of_different_folders_need_an_output(tmp_path):
    one, two = write_run(tmp_path / "a" / "x", quality=0.5), write_run(tmp_path / "b" / "y", quality=0.5)
    with pytest.raises(ValueError, match="lie in different folders; say where the report goes with --output"):
        main([str(one), str(two)])


def test_a_folder_without_an_evaluation_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="has neither eval.json nor manifest.json"):
        main([str(tmp_path / "empty")])
