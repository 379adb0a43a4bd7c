"""Splits by hand-made rows; the shipped config on the real files where there are any."""

import itertools
import json
import re

import pytest

from recipes.data.real_data import PARTS, RealDataConfig, Tally, main, passages, place, split_rows, write_parts
from recipes.pipeline.fingerprint import ROOT
from recipes.run.cli import load_yaml
from tests.recipes.shrunken import shorten_sources

CONFIG = ROOT / "recipes" / "configs" / "laptop" / "data.yaml"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(folder):
    return [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]


@pytest.fixture
def sources(tmp_path):
    """40 questions in every kind, the same ones, so that what is held out of one kind could be learnt from in another."""
    asked = [f"What is thing number {i}?" for i in range(40)]
    said = ["It is a small thing.", "I do not know what it is."]
    turns = "\n\nHuman: {}\n\nAssistant: {}"
    return {
        "general": {"books": write(tmp_path / "books.jsonl", [{"text": f"Book {i}. " + "Word. " * 9} for i in range(40)])},
        "domain": {"facts": write(tmp_path / "facts.jsonl", [{"prompt": q, "completion": said[0]} for q in asked])},
        "instructions": {
            "tasks": {
                "path": write(tmp_path / "tasks.jsonl", [{"q": q, "in": "", "a": said[0]} for q in asked]),
                "columns": {"prompt": "q", "context": "in", "completion": "a"},
            }
        },
        "preferences": {
            "choices": write(
                tmp_path / "choices.jsonl",
                [{"chosen": turns.format(q, said[0]), "rejected": turns.format(q, said[1])} for q in asked],
            )
        },
    }  # fmt: skip


def test_no_key_is_in_two_parts_and_none_is_held_out_here_and_learnt_there(sources, tmp_path):
    config = RealDataConfig(**sources, heldout_share=0.2, prompts_share=0.3)
    write_parts(tmp_path / "out", config, seed=1)
    found = {}
    for part in itertools.chain.from_iterable(PARTS.values()):
        texts = [json.dumps(row) for row in read(tmp_path / "out" / part)]
        found[part] = {re.search(r"(thing number|Book) \d+", text)[0] for text in texts}
        assert texts, part
    for kind in PARTS.values():
        parts = [found[part] for part in kind]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 40, kind
    held = set.union(*(found[part] for part in found if part.endswith("_heldout")))
    assert not held & set.union(*(found[part] for part in found if not part.endswith("_heldout")))


def test_a_row_keeps_its_side_when_the_source_grows_and_changes_it_with_the_seed():
    keys = [f"prompt {i}" for i in range(200)]
    assert place(1, "What is it?") == place(1, "what is it") != place(2, "What is it?")
    assert 0.35 < sum(place(1, key) < 0.5 for key in keys) / 200 < 0.65  # 4 standard errors
    assert [place(1, key) < 0.5 for key in keys] != [place(2, key) < 0.5 for key in keys]


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_split(sources, tmp_path):
    made = []
    for number, seed in enumerate((1, 1, 2)):
        write_parts(tmp_path / str(number), RealDataConfig(**sources, heldout_share=0.2, prompts_share=0.3), seed=seed)
        files = sorted((tmp_path / str(number)).rglob("*.jsonl"))
        made.append({str(file.relative_to(tmp_path / str(number))): file.read_bytes() for file in files})
    assert made[0] == made[1] != made[2]


def test_a_transcript_becomes_messages_with_the_last_answer_apart(tmp_path):
    """Every form by hand: two turns of HH-RLHF, an Alpaca row with an input, a judged pair whose prompt is text."""
    start = "\n\nHuman: Which way is the sea?\n\nAssistant: Where are you?\n\nHuman: In town.\n\nAssistant:"
    path = write(
        tmp_path / "hh.jsonl",
        [
            {"chosen": f"{start} South. ", "rejected": f"{start} No idea."},
            {"prompt": "Say hi.", "chosen": "Hi.", "rejected": "Bye."},
            {"chosen": f"{start} South.", "rejected": "\n\nHuman: Else?\n\nAssistant: No."},  # other prompts
            {"chosen": f"{start}  ", "rejected": f"{start} No."},  # empty
            {"chosen": f"{start} No.", "rejected": f"{start} No."},  # identical
            {"prompt": "Long.", "chosen": "word " * 200, "rejected": "No."},
            {"prompt": "p " * 300, "chosen": "Yes.", "rejected": "No."},
        ],
    )
    tasks = write(tmp_path / "tasks.jsonl", [{"prompt": "Add.", "context": "1, 2", "completion": "3"}])
    config = RealDataConfig(instructions={"t": tasks}, preferences={"hh": path}, heldout_share=0.01, gold_share=0.01)
    tally = Tally("preferences", "hh", path, "MIT")
    rows = [row for _, row in split_rows(config, tally, {"path": path}, 1)]
    assert rows == [
        {
            "prompt": [
                {"role": "user", "content": "Which way is the sea?"},
                {"role": "assistant", "content": "Where are you?"},
                {"role": "user", "content": "In town."},
            ],
            "chosen": [{"role": "assistant", "content": "South."}],
            "rejected": [{"role": "assistant", "content": "No idea."}],
        },
        {
            "prompt": [{"role": "user", "content": "Say hi."}],
            "chosen": [{"role": "assistant", "content": "Hi."}],
            "rejected": [{"role": "assistant", "content": "Bye."}],
        },
    ]
    assert tally.read == 7
    assert tally.left_out == {"different prompts": 1, "empty answer": 1, "identical answers": 1, "too long": 2}
    ((_, row),) = split_rows(config, Tally("instructions", "t", tasks, ""), {"path": tasks}, 1)
    assert row["messages"] == [{"role": "user", "content": "Add.\n\n1, 2"}, {"role": "assistant", "content": "3"}]


def test_a_text_is_cut_at_the_first_paragraph_end_past_so_many_words():
    assert list(passages("a b\n\nc d\n\n\ne f g\n\nh", 3)) == ["a b\n\nc d", "e f g", "h"]


def test_rows_of_one_group_land_on_one_side(tmp_path):
    rows = [{"text": f"Chapter {i} of {book}.", "title": f"Book {book}"} for book in range(30) for i in range(5)]
    entry = {"path": write(tmp_path / "books.jsonl", rows), "group": "title"}
    write_parts(tmp_path / "out", RealDataConfig(general={"b": entry}, heldout_share=0.3), seed=1)
    sides = [{row["text"].split(" of ")[1] for row in read(tmp_path / "out" / part)} for part in PARTS["general"]]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 30


def test_a_source_with_its_own_held_out_file_keeps_it_and_loses_what_is_in_both(tmp_path):
    train = write(tmp_path / "train.jsonl", [{"text": f"Story {i}."} for i in range(30)])
    valid = write(tmp_path / "valid.jsonl", [{"text": "STORY 3"}, {"text": "Another."}])
    config = RealDataConfig(general={"s": {"path": train, "heldout": valid}}, heldout_share=0.5, gold_share=0.1)
    (tally,) = write_parts(tmp_path / "out", config, seed=1)
    assert [row["text"] for row in read(tmp_path / "out" / "general_heldout")] == ["STORY 3", "Another."]
    assert tally.rows == {"general": 29, "general_heldout": 2} and tally.left_out == {"also held out": 1}


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("instructions", {"prompt": "a", "completion": " "}, r"bad\.jsonl:2: field 'completion': message 2 .* only white space"),
        ("instructions", {"prompt": "a"}, r"bad\.jsonl:2: field 'completion': is missing"),
        ("preferences", {"chosen": "b", "rejected": "c"}, r"bad\.jsonl:2: a transcript starts with"),
        ("preferences", {"prompt": "a", "chosen": "b"}, r"bad\.jsonl:2: missing field 'rejected'"),
        ("domain", {"prompt": "a", "answer": "b"}, r"bad\.jsonl:2: field 'completion': must be text, the row has prompt, answer"),
        ("general", {"text": 3}, r"bad\.jsonl:2: field 'text': must be a string, found int"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_by_file_row_and_field(tmp_path, kind, row, message):
    good = {"text": "a", "prompt": "b", "completion": "c", "chosen": "d", "rejected": "e"}
    path = write(tmp_path / "bad.jsonl", [good, row])
    with pytest.raises(ValueError, match=message):
        write_parts(tmp_path / "out", RealDataConfig(**{kind: {"bad": path}}), seed=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "there is no source; name at least one under general, domain"),
        ({"domain": {"d": {"pth": "x"}}}, "unknown key 'pth' in domain.d; did you mean 'path'"),
        ({"domain": {"d": {"licence": "MIT"}}}, "domain.d names no path"),
        ({"domain": {"d": "x"}, "gold_share": 0.95}, "heldout_share 0.06 and gold_share 0.95 must be above 0, and together"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RealDataConfig(**settings)


def test_a_part_that_nothing_came_to_is_an_error(tmp_path):
    path = write(tmp_path / "few.jsonl", [{"text": "Only one."}])
    with pytest.raises(ValueError, match="no row of general came to general_heldout; bring more rows"):
        write_parts(tmp_path / "out", RealDataConfig(general={"few": path}), seed=1)


def test_the_card_names_counts_licences_and_what_forbids_commercial_use(sources, tmp_path):
    sources["domain"] = {"facts": {"path": sources["domain"]["facts"], "licence": "CC BY-NC 4.0"}}
    settings = tmp_path / "data.yaml"
    settings.write_text(json.dumps({**sources, "heldout_share": 0.2, "prompts_share": 0.3}))
    main(["--config", str(settings), "--output_dir", str(tmp_path / "run")])
    text = (tmp_path / "run" / "README.md").read_text()
    assert "**Not for commercial use**, nor is what is trained on it: facts (CC BY-NC 4.0)." in text
    assert re.search(r"\| domain \| facts \| .*/facts.jsonl \| CC BY-NC 4.0 \| 40 \| .*domain_heldout \d+", text)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["notes"]["sources"]["domain.facts"]["read"] == 40 and len(manifest["data"]) == 4


@pytest.fixture(scope="module")
def shortened(data_folder, tmp_path_factory):
    """The shipped config on the first rows of its real files: (folder of the parts, tallies)."""
    folder = tmp_path_factory.mktemp("real")
    config = RealDataConfig(**shorten_sources(load_yaml(CONFIG), folder / "sources"), heldout_share=0.15)
    return folder / "out", write_parts(folder / "out", config, seed=1)


def test_the_shipped_sources_give_every_part_and_share_no_prompt(shortened):
    out, tallies = shortened
    assert {tally.kind for tally in tallies} == set(PARTS) and all(tally.rows for tally in tallies)

    def openings(part):
        rows = read(out / part)
        messages = [row.get("messages") or row["prompt"] for row in rows]
        return {place(0, found[0]["content"]) for found in messages}

    kinds = (PARTS["instructions"], PARTS["preferences"])
    for kind in kinds:
        for a, b in itertools.combinations(kind, 2):
            assert not openings(a) & openings(b), (a, b)
    held = openings("instructions_heldout") | openings("pairs_heldout")
    assert held and not held & (openings("instructions") | openings("pairs") | openings("gold_pairs"))


def test_no_held_out_question_is_asked_in_the_training_text(shortened):
    out, _ = shortened
    asked = [{row["text"].split("\n\n")[0] for row in read(out / part)} for part in ("domain", "domain_heldout")]
    assert asked[1] and not asked[0] & asked[1]
