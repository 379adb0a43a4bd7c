import os
import subprocess
import sys

import pytest

from reward.journal import Journal


def test_entries_come_back_in_order_with_any_text(tmp_path):
    path = tmp_path / "deep" / "j.jsonl"
    Journal(path, total=9).append([{"a": "line\nend \u2028 ü"}, [1]])
    again = Journal(path, total=9)
    assert again.entries == [{"a": "line\nend \u2028 ü"}, [1]]
    again.append([2])
    assert again.entries == Journal(path, total=9).entries == [{"a": "line\nend \u2028 ü"}, [1], 2]


def test_a_line_cut_short_is_dropped_and_the_file_goes_on_clean(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text('1\n2\n{"half": ')
    journal = Journal(path, total=9)
    assert journal.entries == [1, 2]
    journal.append([3])
    assert path.read_text() == "1\n2\n3\n"


def test_what_follows_the_last_whole_batch_is_dropped(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text("1\n2\n3\n4\n5\n")
    assert Journal(path, total=6, batch=2).entries == [1, 2, 3, 4]
    assert path.read_text() == "1\n2\n3\n4\n"


def test_a_complete_journal_keeps_its_last_smaller_batch(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text("1\n2\n3\n4\n5\n")
    assert Journal(path, total=5, batch=2).entries == [1, 2, 3, 4, 5]


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text("1\nxx\n3\n")
    with pytest.raises(ValueError, match=r"j.jsonl:2 is damaged; remove the file to begin anew"):
        Journal(path, total=9)


def test_what_was_appended_outlives_a_kill(tmp_path):
    path = tmp_path / "j.jsonl"
    script = "import os, sys; from reward.journal import Journal; Journal(sys.argv[1], total=9).append([1, 2]); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", script, str(path)], env={**os.environ, "PYTHONPATH": "."})
    assert done.returncode == -9 and Journal(path, total=9).entries == [1, 2]
