"""The cleaning stage as a command: folders, record, planted dirt, and what it refuses."""

import json
import random

import pytest

from recipes.clean import CONFIG_TYPES, main
from recipes.run.cli import parse

WORDS = "the river mill and wheel of stone turned to old grey mornings that have kept a dog with me".split()  # noqa: SIM905


@pytest.fixture
def world(tmp_path):
    """Two sources; of the first, rows 7 and 8 are planted dirt."""
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=80)).capitalize() + "." for _ in range(9)]
    texts[7], texts[8] = (
        texts[2],
        f"{texts[8]} What does the clockmaker of Ostrel sell on the very last day of the fair?",
    )
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"id": f"a{i}", "text": text}) + "\n" for i, text in enumerate(texts))
    )
    (tmp_path / "b.csv").write_text("body\n" + "".join(f"{text}\n" for text in texts[:3]) + "Too short.\n")
    question = "What does the clockmaker of Ostrel sell on the very last day of the fair?"
    (tmp_path / "items.jsonl").write_text(json.dumps({"question": question}) + "\n")
    truth = [
        {"id": "a7", "dirt": "exact_duplicate"},
        {"id": "a8", "dirt": "leaked"},
        {"id": "elsewhere", "dirt": "leaked"},
    ]
    (tmp_path / "dirt.jsonl").write_text("".join(json.dumps(row) + "\n" for row in truth))
    config = {
        "output_dir": str(tmp_path / "cleaned"),
        "sources": {
            "a": str(tmp_path / "a.jsonl"),
            "b": {
                "path": str(tmp_path / "b.csv"),
                "columns": {"text": "body"},
                "options": {"quality": {"min_doc_words": 5}},
            },
        },
        "heldout": [str(tmp_path / "items.jsonl")],
        "truth": str(tmp_path / "dirt.jsonl"),
        "steps": ["quality", "decontamination", "exact_duplicates"],
        "options": {"quality": {"min_doc_words": 20}},
    }
    path = tmp_path / "clean.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return path


def test_each_source_gets_a_folder_and_the_record_its_counts(world, capsys):
    folder = main(["--config", str(world)])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["notes"]["a"] == {"empty": 0, "quality": 0, "decontamination": 1, "exact_duplicates": 1, "kept": 7}
    assert manifest["notes"]["b"] == {"empty": 0, "quality": 1, "decontamination": 0, "exact_duplicates": 0, "kept": 3}
    assert {"a/cleaning.json", "a/dropped.csv", "a/train-00000.jsonl", "b/train-00000.jsonl"} <= set(manifest["files"])
    assert {data["path"].rsplit("/", 1)[-1] for data in manifest["data"]} == {"a.jsonl", "b.csv", "items.jsonl"}
    said = capsys.readouterr().out
    assert "a: 9 documents, 7 kept (77.8 %)" in said and "dropped: decontamination 1, exact_duplicates 1" in said
    assert "exact_duplicate  1 of 1 found, recall 1.000, precision 1.000 (exact_duplicates)" in said


def test_planted_dirt_becomes_checks_of_the_run(world):
    manifest = json.loads((main(["--config", str(world)]) / "manifest.json").read_text())
    assert [(check["name"], check["passed"]) for check in manifest["checks"]] == [
        ("a: exact_duplicate", True),
        ("a: leaked", True),
    ]
    assert manifest["notes"]["planted_dirt"]["a"]["clean"] == {"dropped": 0}


def test_a_check_fails_where_dirt_was_missed(world):
    folder = main(["--config", str(world), "--steps", "quality", "exact_duplicates"])
    checks = {check["name"]: check for check in json.loads((folder / "manifest.json").read_text())["checks"]}
    assert (
        not checks["a: leaked"]["passed"] and "0 of 1 found, recall 0.000, precision -" in checks["a: leaked"]["detail"]
    )


def test_what_was_cleaned_is_read_as_a_source(world):
    from base_model.documents import Source, read_rows

    folder = main(["--config", str(world)])
    assert [row.fields["id"] for row in read_rows(Source(str(folder / "a")))] == [
        "a0",
        "a2",
        "a4",
        "a6",
        "a1",
        "a3",
        "a5",
    ]


def test_resume_goes_on_after_the_sources_that_are_done(world, monkeypatch):
    import recipes.clean

    real, cleaned = recipes.clean.clean, []

    def killed_at_b(source, folder, *args, **options):
        cleaned.append(folder.name)
        if cleaned == ["a", "b"]:
            raise KeyboardInterrupt
        return real(source, folder, *args, **options)

    monkeypatch.setattr(recipes.clean, "clean", killed_at_b)
    with pytest.raises(KeyboardInterrupt):
        main(["--config", str(world)])
    folder = main(["--config", str(world), "--resume"])
    assert cleaned == ["a", "b", "b"]
    assert json.loads((folder / "manifest.json").read_text())["notes"]["a"]["kept"] == 7


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sources": {}}, "sources names nothing to clean"),
        ({"sources": {"a": {"pth": "x"}}}, "unknown key 'pth' in sources.a; did you mean 'path'"),
        ({"sources": {"a": "none.jsonl"}}, "no file or folder at none.jsonl"),
        ({"steps": ["qualty"]}, "unknown cleaning step 'qualty'; did you mean 'quality'"),
    ],
)
def test_a_config_that_cannot_work_is_refused_before_anything_is_written(world, change, complaint):
    world.write_text(json.dumps({**json.loads(world.read_text()), **change}))
    with pytest.raises((ValueError, FileNotFoundError), match=complaint):
        main(["--config", str(world)])
    assert not (world.parent / "cleaned").exists()


def test_the_options_of_a_source_go_on_top_of_the_common_ones(world):
    from recipes.clean import _job

    _, config, cleaning = parse(*CONFIG_TYPES, argv=["--config", str(world)])
    source, settings = _job({**config.sources["b"], "options": {"quality": {"min_stop_words": 0}}}, cleaning)
    assert settings.options == {"quality": {"min_doc_words": 20, "min_stop_words": 0}} and source.columns == {
        "text": "body"
    }
