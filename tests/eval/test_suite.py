import json

import pytest

from eval.suite import Suite, even_indices, read_set, sample_indices


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": f"t{i}", "body": f"b{i}"}) + "\n" for i in range(30)))
    return tmp_path / "t.jsonl"


def test_a_suite_is_read_from_yaml_and_named_by_its_file(tmp_path, texts):
    (tmp_path / "mine.yaml").write_text(
        f"likelihood:\n  a: {texts}\ngeneration:\n  g: {{path: {texts}, judges: [gold]}}\n"
    )
    suite = Suite.load(tmp_path / "mine.yaml")
    assert suite.name == "mine" and suite.judges == ["gold"] and suite.likelihood_sets["a"].path == str(texts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("likelyhood: {}", "unknown key 'likelyhood' in .*; did you mean 'likelihood'"),
        (
            "generation: {g: {path: x, max_tokens: 3}}",
            "unknown key 'max_tokens' in generation set 'g'; did you mean 'max_new_tokens'",
        ),
        (
            "generation: {g: {path: x, metrics: [rogue]}}",
            "generation set 'g': unknown metric 'rogue'; did you mean 'rouge'",
        ),
        ("generation: {g: {limit: 3}}", "generation set 'g': missing 1 required positional argument: 'path'"),
        ("likelihood: {g: 3}", "likelihood set 'g' must be 'key: value' settings, got 3"),
        ("benchmarks: [{task: a, where: b == 1}]", "benchmark 1: where says how rows of `path` are read; give a path"),
        ("name: empty", "suite 'empty' measures nothing"),
        ("{likelihood: {a: x}, generation: {a: y}}", "two sets named 'a'"),
        ("- 1", "must hold 'key: value' lines, found list"),
        ("a: [", "is not valid YAML"),
        ("likelihood: {a: {path: x, limit: 0}}", "likelihood set 'a': limit must be at least 1, found 0"),
        ("likelihood: {a: {path: x, limit: -3}}", "likelihood set 'a': limit must be at least 1, found -3"),
        ("likelihood: {a: {path: x, limit: 0.5}}", "likelihood set 'a': limit must be a whole number, found 0.5"),
        ("likelihood: {a: {path: x, limit: true}}", "likelihood set 'a': limit must be a whole number, found True"),
        ("likelihood: {a: {path: [x, y]}}", r"likelihood set 'a': path must be text, found \['x', 'y'\]"),
        ("benchmarks: [{task: a, limit: two}]", "benchmark 1: limit must be a whole number, found 'two'"),
        ("{likelihood: {a: x}, kl: {path: x, limit: 0}}", "kl: limit must be at least 1"),
        ("generation: {g: {path: x, max_new_tokens: 0}}", "generation set 'g': max_new_tokens must be at least 1"),
        (
            "generation: {g: {path: x, temperature: 1.0e-40}}",
            r"temperature must be 0 \(greedy\) or 0.001 to 1000, found 1e-40",
        ),
        ("generation: {g: {path: x, temperature: .nan}}", "temperature must be 0"),
        ("generation: {g: {path: x, top_p: 0}}", "top_p must be above 0 and at most 1, found 0"),
        (
            "generation: {g: {path: x, judges: gold}}",
            "generation set 'g': judges must be a list of names, found 'gold'",
        ),
        ("generation: {g: {path: x, columns: [a]}}", "generation set 'g': columns must be 'key: value' settings"),
        ("{likelihood: {a: x}, include_path: tasks}", "include_path must be a list, found 'tasks'"),
        ("{likelihood: [x]}", r"likelihood must be 'key: value' settings, found \['x'\]"),
    ],
)
def test_mistakes_in_a_suite_are_named(tmp_path, text, message):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        Suite.load(tmp_path / "s.yaml")


def test_a_suite_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no suite at"):
        Suite.load(tmp_path / "none.yaml")


def test_the_hash_follows_content_and_settings_and_not_places(tmp_path, texts):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "t.jsonl").write_bytes(texts.read_bytes())
    suite = Suite(likelihood={"a": str(texts)})
    assert suite.sha256 == Suite(likelihood={"a": str(moved / "t.jsonl")}, name="other", batch_tokens=7).sha256
    assert suite.sha256 != Suite(likelihood={"a": {"path": str(texts), "limit": 5}}).sha256
    assert suite.sha256 != Suite(likelihood={"a": str(texts)}, seed=2).sha256
    (moved / "t.jsonl").write_text('{"text": "changed"}\n')
    assert suite.sha256 != Suite(likelihood={"a": str(moved / "t.jsonl")}).sha256


def test_a_limit_is_a_seeded_sample_in_order_and_columns_are_mapped(texts):
    suite = Suite(likelihood={"a": {"path": str(texts), "limit": 6, "columns": {"text": "body"}}})
    rows = [row["text"] for row in read_set(suite.likelihood_sets["a"], suite.seed)]
    numbers = [int(text[1:]) for text in rows]
    assert len(rows) == 6 and rows[0].startswith("b") and numbers == sorted(numbers) and numbers != list(range(6))
    assert sample_indices(30, 6, 1) == numbers != sample_indices(30, 6, 2)
    assert sample_indices(3, 9, 0) == [0, 1, 2]


def test_environment_variables_in_paths_are_filled_in_and_leave_the_hash_alone(texts, monkeypatch):
    monkeypatch.setenv("SOME_FOLDER", str(texts.parent))
    suite = Suite(likelihood={"a": "${SOME_FOLDER}/t.jsonl"})
    assert len(read_set(suite.likelihood_sets["a"], 1)) == 30
    assert suite.sha256 == Suite(likelihood={"a": str(texts)}).sha256


def test_the_shortened_suite_asks_at_most_so_many_and_no_judge_over_a_network(texts):
    suite = Suite(
        likelihood={"a": {"path": str(texts), "limit": 3}},
        generation={"g": {"path": str(texts), "judges": ["gold", "https://x/v1#m"]}},
        benchmarks=["t"],
        kl={"path": str(texts)},
    )
    short = suite.shortened(5)
    assert (short.likelihood_sets["a"].limit, short.generation_sets["g"].limit, short.benchmark_sets[0].limit) == (
        3,
        5,
        5,
    )
    assert short.judges == ["gold"] and short.kl is None and short.random_init == 0


def test_a_limit_over_parts_draws_evenly_and_a_small_part_gives_all():
    """By hand: parts of 10, 3 and 7; 12 items are 4 + 3 + 4 and one more of a large part."""
    parts = ["a"] * 10 + ["b"] * 3 + ["c"] * 7
    drawn = even_indices(parts, 12, seed=1)
    assert drawn == sorted(set(drawn)) and len(drawn) == 12
    counts = sorted(sum(parts[i] == part for i in drawn) for part in "abc")
    assert counts == [3, 4, 5] and sum(parts[i] == "b" for i in drawn) == 3
    assert drawn == even_indices(parts, 12, seed=1) != even_indices(parts, 12, seed=2)
    assert even_indices(parts, None, seed=1) == list(range(20))


def test_two_benchmarks_of_one_task_are_told_apart_by_their_names():
    twice = [{"task": "a"}, {"task": "a", "name": "b"}]
    assert [b.name for b in Suite(benchmarks=twice).benchmark_sets] == [None, "b"]
    with pytest.raises(ValueError, match="two sets named 'b'"):
        Suite(benchmarks=[*twice, {"task": "b"}])
