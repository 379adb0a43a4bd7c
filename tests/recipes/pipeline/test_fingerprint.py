"""What a stage's fingerprint holds."""


def test_an_edited_metric_of_ones_own_is_seen_where_a_suite_names_it(tmp_path, monkeypatch):
    """Metrics are imported by name, so the fingerprint of the code does not hold them."""
    from recipes.judges import registry
    from recipes.pipeline.fingerprint import suite_sha256

    monkeypatch.setattr(registry, "METRICS", tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    hashes = {}
    for judges in ("[brevity]", "[tinytown_gold]"):
        suite = tmp_path / "suite.yaml"
        suite.write_text(f"generation: {{asked: {{path: {tmp_path}/rows.jsonl, judges: {judges}}}}}\n")
        for body in ("return [0.0]", "return [1.0]"):
            (tmp_path / "brevity.py").write_text(f"def score(prompts, completions, **columns): {body}\n")
            hashes[judges, body] = suite_sha256(str(suite))
    assert len(set(hashes.values())) == 3 and "not there yet" not in hashes.values()
    assert hashes["[tinytown_gold]", "return [0.0]"] == hashes["[tinytown_gold]", "return [1.0]"]
