"""Reading rows: every format gives the same rows, bad rows are named, memory stays put."""

import csv
import gzip
import itertools
import json
import os
import shutil
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base_model import documents, formats
from base_model.documents import BadRows, Counts, Source, list_files, read_rows, read_texts

ROWS = [
    {"text": "One line.", "id": "a"},
    {"text": 'Two "quoted"\nlines, and a comma; Ω 😀 ]', "id": "b"},
    {"text": " three ", "id": "c"},
]


def write(path, rows=ROWS):
    """Write rows in the format of the path's name, with Python's and Arrow's own writers."""
    plain = path.with_name(path.name.removesuffix(".gz"))
    if plain.suffix == ".jsonl":
        plain.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif plain.suffix == ".json":
        plain.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    elif plain.suffix == ".csv":
        with open(plain, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif plain.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), plain, row_group_size=1000)
    if path != plain:
        with open(plain, "rb") as source, gzip.open(path, "wb") as target:
            shutil.copyfileobj(source, target)
        plain.unlink()
    return path


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path, suffix, packed):
    path = write(tmp_path / f"rows{suffix}{packed}")
    assert [row.fields for row in read_rows(Source(str(path)))] == ROWS


@pytest.mark.parametrize(
    ("name", "locations"),
    [
        ("rows.jsonl", [":1", ":2", ":3"]),
        ("rows.json", [":2", ":6", ":10"]),  # indent=1: "[", then four lines an item
        ("rows.csv", [":2", ":3", ":5"]),  # a header, and one row of two lines
        ("rows.parquet", [" row 1", " row 2", " row 3"]),
    ],
)
def test_a_row_knows_where_it_stands(tmp_path, name, locations):
    path = write(tmp_path / name)
    assert [row.location for row in read_rows(Source(str(path)))] == [f"{path}{end}" for end in locations]


def test_json_may_also_hold_one_object_a_line(tmp_path):
    path = tmp_path / "lines.json"
    path.write_text('\n{"text": "a"}\n\n{"text": "b"}\n')
    assert [(row.location, row.fields["text"]) for row in read_rows(Source(str(path)))] == [
        (f"{path}:2", "a"),
        (f"{path}:4", "b"),
    ]


def test_a_json_item_longer_than_a_block_is_read(tmp_path):
    rows = [{"text": "x" * 300_000}, {"text": "y"}]
    assert [row.fields for row in read_rows(Source(str(write(tmp_path / "long.json", rows))))] == rows


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_text_is_split_at_its_separator_and_trimmed(tmp_path, packed):
    path = tmp_path / f"stories.txt{packed}"
    with (gzip.open if packed else open)(path, "wt") as file:
        file.write("\nOnce.\n\nTwice.\n<|endoftext|>\n<|endoftext|>\nThen.\n")
    rows = list(read_rows(Source(str(path), separator="<|endoftext|>")))
    assert [row.fields["text"] for row in rows] == ["Once.\n\nTwice.", "Then."]
    assert [row.location for row in rows] == [f"{path}:2", f"{path}:7"]


def test_a_separator_across_the_edge_of_a_block_is_found(tmp_path):
    path = tmp_path / "edge.txt"
    path.write_text("a" * ((1 << 16) - 5) + "<|endoftext|>" + "b")
    assert [len(text) for text in read_texts(Source(str(path), separator="<|endoftext|>"))] == [(1 << 16) - 5, 1]


def test_text_without_a_separator_is_whole_up_to_the_cut_at_a_line_end(tmp_path, monkeypatch):
    path = tmp_path / "book.txt"
    path.write_text("abc\r\ndef\nghi\n")
    assert list(read_texts(Source(str(path)))) == ["abc\ndef\nghi\n"]
    monkeypatch.setattr(formats, "DOCUMENT_CHARS", 5)
    assert [(r.location, r.fields["text"]) for r in read_rows(Source(str(path)))] == [
        (f"{path}:1", "abc\ndef\n"),
        (f"{path}:3", "ghi\n"),
    ]


def test_a_wrong_separator_is_noticed_before_memory_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "SEPARATOR_CHARS", 1 << 20)
    path = tmp_path / "big.txt"
    path.write_text("word " * 500_000)
    with pytest.raises(
        ValueError, match=r"big.txt: [\d,]+ characters without the separator '<doc>'; is it the right one"
    ):
        list(read_texts(Source(str(path), separator="<doc>")))


def test_a_folder_is_its_files_in_order_and_a_glob_what_it_matches(tmp_path):
    for name in ("b.jsonl", "a/1.csv.gz", ".hidden.jsonl", "a/2.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, [{"text": name}])
    (tmp_path / "README.md").write_text("not data")
    assert list(read_texts(Source(str(tmp_path)))) == ["a/1.csv.gz", "a/2.parquet", "b.jsonl"]
    assert list(read_texts(Source(str(tmp_path / "*.jsonl")))) == ["b.jsonl"]
    assert list(read_texts(Source(str(tmp_path / "**/*.parquet")))) == ["a/2.parquet"]


def test_a_folder_with_split_names_gives_the_split_asked_for(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("train-00000-of-00001", "test-00000-of-00001", "heldout"):
        write(tmp_path / "data" / f"{name}.parquet", [{"text": name}])
    assert list(read_texts(Source(str(tmp_path)))) == ["train-00000-of-00001"]
    assert list(read_texts(Source(str(tmp_path), split="heldout"))) == ["heldout"]
    with pytest.raises(FileNotFoundError, match="carries the split name 'dev': heldout.parquet, test-00000"):
        list(read_texts(Source(str(tmp_path), split="dev")))


@pytest.mark.parametrize(
    "name", ["how to train a puppy.txt", "the train to Leeds.txt", "train-spotting.txt", "Train.of.thought/a.txt"]
)
def test_a_word_in_a_title_is_no_split(tmp_path, name, caplog):
    for file in ("garden.txt", name, "2026-02.TXT"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(file)
    write(tmp_path / "old.jsonl.gz").rename(tmp_path / "old.Jsonl.GZ")
    texts = list(read_texts(Source(str(tmp_path))))
    assert sorted(texts) == sorted(["garden.txt", name, "2026-02.TXT", *(row["text"] for row in ROWS)])
    assert not caplog.records


def test_what_a_folder_holds_beside_is_said_once(tmp_path, caplog):
    for name in ("my-train.txt", "my-test.txt", "notes.md"):
        (tmp_path / name).write_text(name)
    for _ in range(2):
        assert list(read_texts(Source(str(tmp_path)))) == ["my-train.txt"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: 1 file of another split than 'train' left out: my-test.txt",
        f"{tmp_path}: 1 file of a kind that is not read left out: notes.md",
    ]


@pytest.mark.parametrize(
    ("names", "of_train"),
    [
        (["train.jsonl", "other.jsonl"], ["train.jsonl"]),
        (["train.jsonl.gz", "dev.jsonl.gz"], ["train.jsonl.gz"]),
        (["train/a.jsonl", "test/a.jsonl"], ["train/a.jsonl"]),
        (["qa_train_0.jsonl", "qa_train_1.jsonl", "qa_validation_0.jsonl"], ["qa_train_0.jsonl", "qa_train_1.jsonl"]),
        (["train-00000-of-00002-ab12.jsonl", "test-00000-of-00001-cd34.jsonl"], ["train-00000-of-00002-ab12.jsonl"]),
        (["qa-train.jsonl", "qa-extra.jsonl"], ["qa-extra.jsonl", "qa-train.jsonl"]),  # no other split beside it
    ],
)
def test_files_divide_into_splits_by_their_names(tmp_path, names, of_train):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, [{"text": name}])
    assert list(read_texts(Source(str(tmp_path)))) == of_train


def test_columns_rename_theirs_to_ours_and_leave_the_rest(tmp_path):
    path = write(tmp_path / "a.csv", [{"body": "x", "text": "title", "n": "1"}])
    (row,) = read_rows(Source(str(path), columns={"text": "body"}))
    assert row.fields == {"text": "x", "n": "1"}


def test_the_environment_fills_in_paths(tmp_path, monkeypatch):
    path = write(tmp_path / "a.jsonl")
    monkeypatch.setenv("SOME_DATA", str(tmp_path))
    assert list_files(Source("${SOME_DATA}/a.jsonl")) == [path]
    monkeypatch.delenv("SOME_DATA")
    with pytest.raises(ValueError, match=r"uses \$\{SOME_DATA\}, which is not set; export SOME_DATA="):
        list_files(Source("${SOME_DATA}/a.jsonl"))


def test_a_data_set_in_the_form_of_the_hub_streams_through_datasets(tmp_path, monkeypatch):
    """A local folder in the form of a hub repository: the loader, the streaming and the splits are the ones the hub uses."""
    import datasets

    (tmp_path / "owner" / "name" / "data").mkdir(parents=True)
    write(tmp_path / "owner" / "name" / "data" / "train-00000-of-00001.parquet")
    write(tmp_path / "owner" / "name" / "data" / "test-00000-of-00001.parquet", [{"text": "test"}])
    load = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda path, *args, **kw: load(str(tmp_path / path), *args, **kw))
    rows = list(read_rows(Source("owner/name")))
    assert [row.fields for row in rows] == ROWS and rows[1].location == "owner/name train row 2"
    assert list(read_texts(Source("owner/name", split="test"))) == ["test"]
    assert list(read_texts(Source("owner/name@test"))) == ["test"]
    assert list(read_texts(Source("owner/name:default@test"))) == ["test"]
    with pytest.raises(FileNotFoundError, match="owner/none is no local file or folder, and as a hub data set"):
        list(read_texts(Source("owner/none")))


def test_a_split_may_stand_behind_a_folder_unless_a_file_has_that_name(tmp_path):
    write(tmp_path / "train_prefs-00000-of-00001.parquet", [{"text": "learn"}])
    write(tmp_path / "test_prefs-00000-of-00001.parquet", [{"text": "measure"}])
    assert list(read_texts(Source(f"{tmp_path}@test"))) == ["measure"]
    assert list(read_texts(Source(f"{tmp_path}@test_prefs"))) == ["measure"]
    named = write(tmp_path / "at@home.jsonl", [{"text": "mail"}])
    assert list(read_texts(Source(str(named)))) == ["mail"]
    with pytest.raises(FileNotFoundError, match="carries the split name 'dev'"):
        list(read_texts(Source(f"{tmp_path}@dev")))


def parquet(path, **columns):
    pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), path)


def twice_named(path):
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), path)


def not_utf8(path):
    bad = pa.array([b"good", b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"id": pa.array(["1", "2"]), "text": bad}), path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "text,id,text\nx,1,y\n", r"a.csv has two columns named 'text', and one would be lost"),
        ("a.jsonl", '{"text": "x", "text": "y"}\n', r"a.jsonl:1: the name 'text' stands twice in one object; 0 more"),
        ("a.json", '[{"id": 1, "text": "x"},\n{"text": "y", "m": {"a": 1, "a": 2}}]', r"a.json:2: the name 'a' stands twice"),
        ("a.parquet", twice_named, r"a.parquet has two columns named 'text'"),
        ("b.parquet", not_utf8, r"b.parquet row 2: field 'text' is not UTF-8 text: byte 0xe9; 0 more"),
        ("a.json", '[{"text": "x"}]\n\n{"text": "y"}', r"a.json:3: the list has ended, and '{\"text\": \"y\"}' follows"),
        ("a.json", '[{"text": "x"}] [{"text": "y"}]', r"a.json:1: the list has ended"),
        ("a.json", '[{"text": "x"}', r"a.json:1: not JSON: the list is not closed"),
        ("a.json", '{"data": [{"text": "x"}]}', r"a.json:1: the file is one object, with rows under 'data'"),
        ("a.json", '{\n"version": 2,\n"rows": [\n{"text": "x"}]}', r"a.json:1: the file is one object, with rows under 'rows'"),
        ("a.jsonl", '{\n"text": "x"\n}', r"a.jsonl:1: not JSON: .*; it does not end in its line, which a file named .json may"),
        ("a.jsonl", '{"text": "x"}'.encode("utf-16"), r"a.jsonl is not UTF-8 text but UTF-16, by its first bytes; save it"),
        ("a.csv", "text\nx\n".encode("utf-16-be"), r"a.csv is not UTF-8 text but UTF-16"),
        ("a.csv", 'text,"id\nx,1\n', r"a.csv:1: the header is not CSV: .*; is a quotation mark left open\?"),
        ("a.jsonl", '{"text": ' + "9" * 5000 + "}", r"a.jsonl:1: a whole number of too many digits"),
        ("a.json", '[{"text": ' + "9" * 5000 + "}]", r"a.json:1: .*a whole number of too many digits"),
        ("a.jsonl", "[" * 100_000 + "]" * 100_000, r"a.jsonl:1: lists or objects in each other, too deep to read"),
        ("a.json", "[" * 100_000 + "]" * 100_000, r"a.json:1: .*too deep to read"),
    ],
)  # fmt: skip
def test_what_would_be_lost_or_cannot_be_read_is_named_in_one_line(tmp_path, name, content, said):
    path = tmp_path / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=said) as raised:
        list(read_rows(Source(str(path))))
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400


def test_a_row_named_in_a_list_or_a_column_can_be_skipped(tmp_path):
    (tmp_path / "a.json").write_text('[{"text": "x", "text": "y"}, {"text": "z"}]')
    not_utf8(tmp_path / "b.parquet")
    counts = Counts()
    assert list(read_texts(Source(str(tmp_path), on_bad_rows="skip"), counts)) == ["z", "good"]
    assert counts.skipped == 2


def test_json_may_spread_objects_over_lines(tmp_path):
    path = tmp_path / "pretty.json"
    path.write_text("\n".join(json.dumps(row, indent=2) for row in ROWS) + "\n")
    rows = list(read_rows(Source(str(path))))
    assert [row.fields for row in rows] == ROWS
    assert [row.location for row in rows] == [f"{path}:1", f"{path}:5", f"{path}:9"]


BAD = [
    '{"text": "good"}',
    '{"text": "cut',
    '{"body": "x"}',
    '{"text": null}',
    '{"text": 5}',
    '["x"]',
    '{"text": "good"}',
]


def test_the_first_bad_row_is_named_with_how_many_more(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(BAD))
    rows = read_rows(Source(str(path)))
    assert next(rows).fields == {"text": "good"}
    with pytest.raises(
        BadRows, match=r"bad.jsonl:2: not JSON: Invalid control character .*; 4 more bad rows \(on_bad_rows: skip"
    ):
        next(rows)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (
            '{"body": "x"}',
            ":1: field 'text' is missing; the row has body; map another name to it with columns; 0 more bad rows",
        ),
        ('{"text": null, "id": 1}', ":1: field 'text' is null; the row has text, id"),
        ('{"text": 5}', ":1: field 'text' is int, not a string"),
        ('["x"]', ":1: a JSON list, not an object with fields"),
        ('{"text": "\\ud800 \\uD83D"}', ":1: not UTF-8 text: lone surrogate U\\+D800"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(tmp_path, line, complaint):
    path = tmp_path / "bad.jsonl"
    path.write_text(line)
    with pytest.raises(BadRows, match=complaint):
        list(read_rows(Source(str(path))))


def test_a_missing_mapped_column_is_named_by_both_names(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"story": "x"}])
    with pytest.raises(BadRows, match=r"field 'text' \(their column 'body'\) is missing; the row has story"):
        list(read_rows(Source(str(path), columns={"text": "body"})))


@pytest.mark.parametrize("name", ["bytes.jsonl", "bytes.csv", "bytes.txt", "bytes.jsonl.gz"])
def test_bytes_that_are_not_utf8_are_named_and_can_be_skipped(tmp_path, name):
    good, bad = (b'{"text": "good"}\n', b'{"text": "caf\xe9"}\n') if "json" in name else (b"good\n", b"caf\xe9\n")
    with (gzip.open if name.endswith(".gz") else open)(tmp_path / name, "wb") as file:
        file.write((b"text\n" if "csv" in name else b"") + bad + good)
    source = Source(str(tmp_path / name), separator="\n")
    with pytest.raises(BadRows, match=f"{name}:{2 if 'csv' in name else 1}: not UTF-8 text: byte 0xe9 after '.*caf'"):
        list(read_texts(source))
    counts = Counts()
    assert list(read_texts(Source(source.path, separator="\n", on_bad_rows="skip"), counts)) == ["good"]
    assert (counts.read, counts.skipped) == (1, 1) and "byte 0xe9" in counts.examples[0]


def test_a_csv_row_of_the_wrong_width_or_quoting_is_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,a,b\n2,"x"y\n3,fine\n')
    with pytest.raises(BadRows, match=r"a.csv:2: 3 cells under a header of 2; 1 more bad row \(on_bad"):
        list(read_texts(Source(str(path))))
    assert list(read_texts(Source(str(path), on_bad_rows="skip"))) == ["fine"]


def test_a_json_list_that_breaks_off_says_where_even_when_skipping(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"text": "a"},\n {"text": "b"')
    rows = read_rows(Source(str(path), on_bad_rows="skip"))
    assert next(rows).fields["text"] == "a"
    with pytest.raises(BadRows, match="a.json:2: not JSON: Expecting ',' delimiter; what follows in this file cannot"):
        next(rows)
    path.write_text('[{"text": "a"}')
    with pytest.raises(BadRows, match="a.json:1: not JSON: the list is not closed"):
        list(read_rows(Source(str(path))))


def test_skipping_every_row_is_an_error(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"body": "x"}, {"body": "y"}])
    with pytest.raises(
        BadRows, match="none of the 2 rows can be used; the first: .*a.jsonl:1: field 'text' is missing"
    ):
        list(read_rows(Source(str(path), on_bad_rows="skip")))


def test_a_check_of_the_callers_own_becomes_the_complaint(tmp_path):
    def no_short_text(fields):
        if len(fields["text"]) < 9:
            raise ValueError(f"field 'text' has {len(fields['text'])} characters")

    path = write(tmp_path / "a.jsonl")
    with pytest.raises(BadRows, match="a.jsonl:3: field 'text' has 7 characters; 0 more bad rows"):
        list(read_rows(Source(str(path)), check=no_short_text))


@pytest.mark.parametrize("name", ["cut.jsonl.gz", "cut.parquet.gz", "cut.parquet", "not.csv.gz"])
def test_a_damaged_file_is_named(tmp_path, name):
    path = write(tmp_path / name, ROWS * 99)
    path.write_bytes(b"junk" * 99 if name.startswith("not") else path.read_bytes()[:-60])
    with pytest.raises(ValueError, match=f"{name} is (a damaged or cut-off gzip|not a readable parquet) file"):
        list(read_texts(Source(str(path))))


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("none.jsonl", "no file or folder at .*none.jsonl"),
        ("none/deeper/still", "no file or folder at"),
        ("no*.csv", r"nothing matches .*no\*.csv"),
        ("empty", "the folder .*empty has no .jsonl, .json, .csv, .parquet, .txt file"),
    ],
)
def test_nothing_at_a_path_is_said(tmp_path, path, complaint):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=complaint):
        list(read_texts(Source(str(tmp_path / path))))


def test_a_file_of_an_unknown_kind_is_refused(tmp_path):
    (tmp_path / "a.xml").write_text("x")
    with pytest.raises(ValueError, match="cannot tell how to read .*a.xml; its name should end in .jsonl"):
        list_files(Source(str(tmp_path / "a.xml")))


def test_impossible_sources_are_refused():
    with pytest.raises(ValueError, match="on_bad_rows is 'ignore'; use 'error' or 'skip'"):
        Source("x", on_bad_rows="ignore")
    with pytest.raises(ValueError, match="separator is empty"):
        Source("x", separator="")


@pytest.mark.parametrize("files", [1, 2, 5])
def test_the_shares_of_all_ranks_are_the_whole_once(tmp_path, files):
    for i in range(files):
        write(tmp_path / f"{i}.jsonl", [{"text": f"{i}-{j}"} for j in range(7)])
    source = Source(str(tmp_path))
    shares = [[row.fields["text"] for row in read_rows(source, rank=rank, world_size=3)] for rank in range(3)]
    assert sorted(itertools.chain(*shares)) == sorted(read_texts(source))
    assert all(shares)


def test_every_rank_names_all_bad_rows_and_counts_its_own(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(BAD))  # rows 1 to 5 are bad
    for rank in range(2):
        with pytest.raises(BadRows, match=r"bad.jsonl:2: .*; 4 more bad rows"):
            list(read_rows(Source(str(path)), rank=rank, world_size=2))
    skipped = [Counts(), Counts()]
    for rank in range(2):
        list(read_rows(Source(str(path), on_bad_rows="skip"), counts=skipped[rank], rank=rank, world_size=2))
    assert [counts.skipped for counts in skipped] == [2, 3]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json", "a.csv", "a.parquet", "a.txt"])
def test_memory_does_not_grow_with_the_file(tmp_path, name, monkeypatch):
    """Peak of Python's own allocations plus Arrow's, for once and for four times the rows."""
    monkeypatch.setattr(documents, "COUNTED_ROWS", 10)

    def peak(count):
        path = tmp_path / f"{count}{name}"
        if name.endswith(".txt"):
            path.write_text("a long line of text " * 50 + "\n" + "a line\n" * count * 4)
        else:
            write(path, [{"text": f"{i} " * 200} for i in range(count)])
        pool, arrow_bytes = pa.default_memory_pool(), 0
        before = pool.bytes_allocated()
        tracemalloc.start()
        for i, _ in enumerate(read_texts(Source(str(path), separator="\n"))):
            if i % 100 == 0:
                arrow_bytes = max(arrow_bytes, pool.bytes_allocated() - before)
        python_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return python_bytes + arrow_bytes

    peak(4000)  # imports and caches
    assert peak(16_000) < 1.3 * peak(4000)  # 1.3: blocks end elsewhere in the rows


@pytest.mark.parametrize(
    ("name", "settings", "rows"),
    [
        ("tinystories/tinystories_v1_head.txt.gz", {"separator": "<|endoftext|>"}, 2316),
        ("wikitext2/valid.txt.gz", {"separator": "\n"}, None),
        ("gsm8k/test.jsonl.gz", {"columns": {"text": "question"}}, 1319),
        ("raschka/instruction-data.jsonl.gz", {"columns": {"text": "instruction"}}, 1100),
        ("classic_books/children.jsonl.gz", {}, 54),
    ],
)
def test_real_data_sets_are_read_whole(name, settings, rows):
    """Rows as the sets' own descriptions count them; of wikitext its lines that hold something, counted here by zcat's rules."""
    data = os.environ.get("PLUMBLINE_DATA")
    if not data:
        pytest.skip("PLUMBLINE_DATA is not set")
    if rows is None:
        with gzip.open(f"{data}/{name}", "rt", encoding="utf-8") as file:
            rows = sum(1 for line in file if line.strip())
    assert sum(1 for text in read_texts(Source("${PLUMBLINE_DATA}/" + name, **settings)) if text) == rows
