"""The one-file loop: it learns, and its samples are of its text."""

from recipes.minimal import main


def test_it_learns_a_text_of_one_sentence_by_heart_and_says_it(tmp_path, capsys):
    """A text that repeats one sentence: the entropy of what follows is 0, so the loss must come close to it."""
    (tmp_path / "text.txt").write_text("\n\n".join(["The mill stands by the river."] * 200))
    assert main(["--text", str(tmp_path / "text.txt"), "--steps", "40"]) < 0.3
    assert "> The mill stands by the river." in capsys.readouterr().out
