import pytest

from recipes.lineage import main, trace
from recipes.run.run import Run, RunConfig
from recipes.run.stage import Stage
from tests.conftest import put_in_hub_cache, random_model, write_checkpoint


@pytest.fixture
def family(tmp_path, tokenizer):
    """A base trained on a file, and its child."""
    data = tmp_path / "corpus.txt"
    data.write_text("once upon a time")
    base = Run.start(Stage("base"), RunConfig(output_dir=str(tmp_path / "base")), data=[data])
    base.finish(random_model("llama", len(tokenizer)), tokenizer)
    child = Run.start(Stage("ppo"), RunConfig(output_dir=str(tmp_path / "ppo")), parents=[base.dir])
    child.finish(random_model("llama", len(tokenizer), seed=1), tokenizer)
    return tmp_path


def test_the_tree_goes_back_to_the_data(family, capsys):
    main([str(family / "ppo")])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"{family}/ppo  [ppo, seed 1]")
    assert printed[1].startswith(f"└─ {family}/base  [base, seed 1]")
    assert printed[2].startswith(f"   └─ data {family}/corpus.txt")
    assert printed[3] == "every hash is as recorded"


@pytest.mark.parametrize(
    "changed, said",
    [
        ("corpus.txt", "corpus.txt is not what was trained on"),
        ("base/config.json", "base/config.json was changed after the run"),
        ("base/model.safetensors", "base: the weights are not those that its child was made from"),
        ("ppo/tokenizer.json", "ppo/tokenizer.json was changed after the run"),
    ],
)
def test_a_changed_file_is_named(family, changed, said):
    path = family / changed
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match=said):
        main([str(family / "ppo")])


def test_a_removed_file_is_named(family):
    (family / "corpus.txt").unlink()
    assert trace(family / "ppo").all_problems() == [f"{family}/corpus.txt is missing"]


def test_a_folder_without_a_record_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no manifest.json"):
        main([str(tmp_path)])


def test_a_parent_from_the_hub_is_checked_where_the_cache_has_it(tmp_path, tokenizer, monkeypatch, capsys):
    commit = "0123456789abcdef0123456789abcdef01234567"
    checkpoint = write_checkpoint(tmp_path / "local", tokenizer)
    snapshot = put_in_hub_cache(tmp_path / "hub", "someone/tiny", checkpoint, commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    child = Run.start(Stage("ppo"), RunConfig(output_dir=str(tmp_path / "ppo")), parents=["someone/tiny"])
    child.finish(random_model("llama", len(tokenizer), seed=1), tokenizer)
    main([str(tmp_path / "ppo")])
    assert capsys.readouterr().out.splitlines()[1].startswith("└─ someone/tiny at 0123456789ab, from a hub  ")
    weights = snapshot / "model.safetensors"
    weights.resolve().write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(
        ValueError, match="someone/tiny: the weights in the cache are not those that its child was made from"
    ):
        main([str(tmp_path / "ppo")])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    assert trace(tmp_path / "ppo").all_problems() == []
    assert "not in the cache: not checked" in trace(tmp_path / "ppo").children[0].label
