"""Cleaning: each filter on cases by hand, and whole runs on a corpus whose dirt is known."""

import csv
import json
import os
import random
import re
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import GopherRepetitionFilter
from hypothesis import example, given, settings
from hypothesis import strategies as st

from base_model.cleaning import CleaningConfig, clean
from base_model.cleaning_filters import (
    BoilerplateFilter,
    Decontaminate,
    EncodingFilter,
    LanguageFilter,
    PersonalData,
    RepetitionFilter,
    Words,
)
from base_model.cleaning_report import read_dropped, score_against_truth
from base_model.documents import BadRows, Source, read_rows

PROSE = "The old miller walked to the river with his dog. It was a cold morning, and the wheel did not turn."


def verdict(block, text):
    """(kept, reason, text afterwards)"""
    doc = Document(text, "a")
    result = block.filter(doc)
    return (*result, doc.text) if isinstance(result, tuple) else (bool(result), "", doc.text)


# ---- filters


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, ""),
        ("Où est l’été ? Ça va, « Zoë » — naïve Größe. Łódź, 東京, Привет!", ""),
        ("She said “It’s the café’s naïve idea”.".encode().decode("cp1252", errors="replace"), "replacement_character"),
        (
            "It’s a “caf锑 — naïve, they’d say: don’t.".replace("锑", "é").encode().decode("cp1252", "ignore"),
            "mojibake",
        ),
        ("Ã©tÃ© Ã  la plage, trÃ¨s tÃ´t", "mojibake"),
        ("a\x00b\x01c", "control_characters"),
        ("tab\tand\r\nline ends are fine", ""),
    ],
)
def test_text_decoded_wrongly_is_dropped(text, reason):
    assert verdict(EncodingFilter(), text)[:2] == (not reason, reason)


@pytest.mark.parametrize(
    ("text", "best"),
    [
        (PROSE, "en"),
        ("Der alte Müller ging mit seinem Hund zum Fluss. Es war ein kalter Morgen, und das Rad stand still.", "de"),
        ("Le vieux meunier marchait vers la rivière avec son chien, et la roue ne tournait pas.", "fr"),
        ("El viejo molinero caminaba hacia el río con su perro, y la rueda no giraba.", "es"),
        ("Старый мельник шёл к реке со своей собакой, и колесо не вращалось.", "ru"),
        ("老磨坊主带着他的狗走向河边,那是一个寒冷的早晨。", "zh"),
    ],
)
def test_language_is_told_offline(text, best):
    assert verdict(LanguageFilter([best]), text)[0]
    other = "en" if best != "en" else "de"
    assert verdict(LanguageFilter([other]), text)[:2] == (False, f"language_{best}")


def test_language_of_real_captions_is_told():
    """Multi30k: the same captions in English, German and French; ten together make a document."""
    data = os.environ.get("PLUMBLINE_DATA")
    if not data:
        pytest.skip("PLUMBLINE_DATA is not set")
    rows = [row.fields for row in read_rows(Source(f"{data}/multi30k/val.jsonl.gz"), required=("en", "de", "fr"))]
    block = LanguageFilter()
    for language, wanted in (("en", 1.0), ("de", 0.0), ("fr", 0.0)):
        documents = [" ".join(row[language] for row in rows[i : i + 10]) for i in range(0, 1000, 10)]
        kept = sum(verdict(block, text)[0] for text in documents) / len(documents)
        assert abs(kept - wanted) <= 0.01, (language, kept)


def test_an_unknown_language_backend_is_refused():
    with pytest.raises(ValueError, match="language backend is 'cld3'; use one of py3langid, ft176, glotlid"):
        LanguageFilter(backend="cld3")


def test_boilerplate_lines_go_and_prose_stays():
    page = f"Home | News | Contact\n{PROSE}\nRead more...\nAll rights reserved.\n{PROSE}"
    assert verdict(BoilerplateFilter(), page) == (True, "", f"{PROSE}\n{PROSE}")
    story = '"Follow us!" they cried. "Search the mill, then come home."\nNext morning he read more.\nHome at last.'
    assert verdict(BoilerplateFilter(), story) == (True, "", story)
    assert verdict(BoilerplateFilter(), "Log in\nSign up today!\nPage 1 of 12 | Next\nHello there.")[:2] == (
        False,
        "mostly_boilerplate",
    )
    assert verdict(BoilerplateFilter(max_share=1.0), "Log in\nHello there.") == (True, "", "Hello there.")


WORD = st.sampled_from(["a", "bb", "the", "mill", "river.", "\n", "\n\n", "A"])


@settings(max_examples=400, deadline=None)
@given(st.lists(WORD, max_size=60).map(" ".join), st.integers(1, 6))
@example("the mill " * 3, 1)
@example("", 1)
def test_the_quick_repetition_filter_decides_as_datatrove_does(text, copies):
    text = "\n".join([text] * copies)
    ours, theirs = RepetitionFilter(language=Words()), GopherRepetitionFilter(language=Words())
    assert verdict(ours, text) == verdict(theirs, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to jane.doe@mail.example.net now", "Write to email@example.com now"),
        ("from 8.8.8.8 today", "from 22.214.171.124 today"),
        ("from 192.168.0.1 today", "from 192.168.0.1 today"),  # private: nobody's
        ("Call +44 20 7946 0958.", "Call 202-555-0100."),
        ("Call (415) 555-2671 or 415-555-2671!", "Call 202-555-0100 or 202-555-0100!"),
        ("In 2019-2020 we sold 1,000,000 of 12 345 678.", "In 2019-2020 we sold 1,000,000 of 12 345 678."),
        ("On 2024-01-15 at 10:30, 387 mg (3 mg/kg) for 5 d.", "On 2024-01-15 at 10:30, 387 mg (3 mg/kg) for 5 d."),
    ],
)
def test_personal_data_is_replaced_and_other_numbers_are_not(text, expected):
    assert PersonalData().format(text) == expected


def test_personal_data_can_keep_phones():
    assert PersonalData(remove_phones=False).format("Call 415-555-2671") == "Call 415-555-2671"


@pytest.fixture
def heldout(tmp_path):
    path = tmp_path / "items.jsonl"
    rows = [
        {
            "question": "Which of the seven bridges over the river Alder did the old mayor of Kessin cross first?",
            "id": 1,
        },
        {
            "choices": ["the green lantern under the third stair burns", "a red hat", {"deep": ["No."]}]
        },  # 8 words, 3 words
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Source(str(path))


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("Q: which of the seven BRIDGES, over the river Alder, did the old mayor (of Kessin) cross first!", True),
        ("seven bridges over the river alder did the old mayor of kessin cross", True),  # 13 words of it
        ("seven bridges over the river alder did the old mayor of kessin", False),  # 12
        ("I wondered if the green lantern under the third stair burns still", True),
        ("the green lantern under the third stair", False),
        ("a red hat and No.", False),
    ],
)
def test_a_run_of_13_words_or_a_whole_item_of_8_is_contamination(heldout, text, shared):
    assert verdict(Decontaminate([heldout]), text)[:2] == ((False, "in_items.jsonl") if shared else (True, ""))


def test_the_length_of_the_run_can_be_set(heldout):
    assert not verdict(Decontaminate([heldout], words=5, least_words=5), "cross over the river alder did he")[0]
    with pytest.raises(ValueError, match="least_words 8 must be between 1 and words 5"):
        Decontaminate([heldout], words=5)


# ---- whole runs

NAMES = "Ada Bo Cleo Dov Esi Finn Gita Hal Ines Jun Kai Lena Mo Nia Otto Pia".split()  # noqa: SIM905
THINGS = "apple barrel candle drum egg fiddle glove hammer inkpot jar kettle lamp map needle oar pan".split()  # noqa: SIM905
PLACES = "attic barn cellar dock field garden harbour inn market mill orchard park quarry road school".split()  # noqa: SIM905
DEEDS = "carried dropped found hid kept lost mended painted polished sold stole swapped threw tied".split()  # noqa: SIM905
PATTERNS = (
    "{0} {3} the {2} in the {4}.",
    "In the {4} was a {2} that {0} had {3}.",
    "Have you seen the {2} of {1}?",
    "{0} and {1} went to the {4} together.",
    "Nobody at the {4} believed {0}.",
    "It was {1} who {3} a {2} there.",
    "Behind the {4}, and far from {0}, {1} {3} it.",
)


def write_story(rng):
    pools = (NAMES, NAMES, THINGS, DEEDS, PLACES)
    patterns = rng.sample(PATTERNS * 2, 14)  # each twice, in any order
    return " ".join(pattern.format(*map(rng.choice, pools)) for pattern in patterns)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """300 stories, dirt among them; the truth; and an item that some stories leak."""
    rng, folder = random.Random(1), tmp_path_factory.mktemp("corpus")
    item = "On the last day of the fair the blind clockmaker from Ostrel sold seven silver keys to a child."
    rows, truth = [], {}
    for i in range(300):
        text, kind = write_story(rng), None
        if i % 10 == 5:
            kind = ("exact", "near", "leaked", "mojibake", "repeated")[i // 10 % 5]
            words = rows[i - 5]["text"].split()
            words[rng.randrange(len(words))] = "truly"
            text = {
                "exact": rows[i - 5]["text"],
                "near": " ".join(words),
                "leaked": f"{text} {item}",
                "mojibake": text.replace("the", "thé").encode().decode("cp1252"),
                "repeated": "\n".join([text] + ["The wheel of the old mill does not turn."] * 12),
            }[kind]
            truth[f"d{i}"] = kind
        rows.append({"id": f"d{i}", "text": text, "page": i})
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "items.jsonl").write_text(json.dumps({"query": item}) + "\n")
    return folder, rows, truth


STEPS = [
    "encoding",
    "boilerplate",
    "quality",
    "repetition",
    "personal_data",
    "decontamination",
    "exact_duplicates",
    "near_duplicates",
]
BY_STEP = {
    "exact": "exact_duplicates",
    "near": "near_duplicates",
    "leaked": "decontamination",
    "mojibake": "encoding",
    "repeated": "repetition",
}


def run(corpus, out, **settings):
    source, items = (Source(str(corpus[0] / name)) for name in ("corpus.jsonl", "items.jsonl"))
    return clean(source, out, CleaningConfig(**{"steps": STEPS, **settings}), [items])


def read_out(out):
    return [
        json.loads(line) for path in sorted(Path(out).glob("train-*.jsonl")) for line in path.read_text().splitlines()
    ]


@pytest.mark.parametrize("tasks", [1, 3])
def test_planted_dirt_is_dropped_by_its_step_and_nothing_else_is(corpus, tmp_path, tasks):
    _, rows, truth = corpus
    record = run(corpus, tmp_path / "out", tasks=tasks)
    dropped = read_dropped(tmp_path / "out")
    assert dropped == {identity: BY_STEP[kind] for identity, kind in truth.items()}
    kept = read_out(tmp_path / "out")
    assert sorted(row["page"] for row in kept) == [row["page"] for row in rows if row["id"] not in truth]
    assert all(row == rows[row["page"]] for row in kept)  # text and other fields as they came
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert record["documents_in"] == 300 and record["documents_out"] == len(kept)


def test_the_record_adds_up_and_shows_examples(corpus, tmp_path):
    _, rows, truth = corpus
    record = run(corpus, tmp_path / "out")
    assert record == json.loads((tmp_path / "out" / "cleaning.json").read_text())
    assert record["characters_in"] == sum(len(row["text"]) for row in rows)
    steps = {step["step"]: step for step in record["steps"]}
    assert list(steps) == ["empty", *STEPS]
    came_in = 300
    for step in record["steps"]:
        assert step["came_in"] == came_in and step["kept"] == came_in - step["dropped"]
        came_in = step["kept"]
    assert came_in == record["documents_out"]
    for kind, name in BY_STEP.items():
        planted = [identity for identity, its in truth.items() if its == kind]
        assert steps[name]["dropped"] == len(planted)
        assert len(steps[name]["examples"]) == 3 and {row["id"] for row in steps[name]["examples"]} <= set(planted)
    assert record["heldout"] == [str(corpus[0] / "items.jsonl")]
    assert steps["decontamination"]["reasons"] == {"in_items.jsonl": 6}
    assert steps["decontamination"]["examples"][0]["shared"].startswith("on the last day of the fair")


def test_the_first_copy_stays_however_many_tasks_there_are(tmp_path):
    rng = random.Random(2)
    first = write_story(rng)
    near = [first.replace(".", f" {word}.", 1) for word in ("today", "again", "there")]
    others = [write_story(rng) for _ in range(20)]
    texts = [others[0], first, *near[:2], first, *others[1:10], near[2], first, *others[10:]]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    for tasks in (1, 3):
        clean(
            Source(str(path)),
            tmp_path / "out",
            CleaningConfig(steps=["exact_duplicates", "near_duplicates"], tasks=tasks),
        )
        dropped = read_dropped(tmp_path / "out")
        assert dropped == {f"{path}:{line}": "near_duplicates" for line in (3, 4, 15)} | {
            f"{path}:{line}": "exact_duplicates" for line in (5, 16)
        }


def test_near_duplicates_are_those_of_brute_force(tmp_path):
    """300 texts of one pattern, similarity 0.2 to 1 to each other: buckets alone pair thousands, the verified threshold takes the close.

    Similarity by brute force over sets of word triples; what MinHash estimates differs from it by 4 standard deviations at most."""
    rng = random.Random(3)
    frame = "Take the {} and the {} to the {} before noon, wash the {} with care, and give the {} to {} by the {}. Then rest a while."
    pools = (THINGS[:3], THINGS[:4], PLACES[:3], THINGS[:3], THINGS[:4], NAMES[:4], PLACES)
    texts = list(dict.fromkeys(frame.format(*(rng.choice(pool) for pool in pools)) for _ in range(300)))
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(texts)))
    sets = [
        set(zip(words, words[1:], words[2:], strict=False))
        for words in (re.findall(r"\w+", text.lower()) for text in texts)
    ]
    similarity = np.array([[len(a & b) / len(a | b) for b in sets] for a in sets])
    config = CleaningConfig(steps=["near_duplicates"], options={"near_duplicates": {"threshold": 0.8, "n_grams": 3}})
    clean(Source(str(path)), tmp_path / "out", config)
    dropped = {int(i) for i in read_dropped(tmp_path / "out")}
    kept = [i for i in range(len(texts)) if i not in dropped]
    slack = 4 * (0.8 * 0.2 / 112) ** 0.5
    assert 20 < len(dropped) < 280
    for i in range(len(texts)):
        others = np.delete(similarity[i], i)
        if i in dropped:
            assert others.max() >= 0.8 - slack
        else:
            assert similarity[i, [j for j in kept if j != i]].max() <= 0.8 + slack


def test_rows_that_are_empty_or_fewer_than_tasks_are_no_trouble(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in ("", "   \n", "", "", PROSE, "", PROSE + " So."))
    )
    steps = ["exact_duplicates", "near_duplicates"]
    record = clean(Source(str(path)), tmp_path / "out", CleaningConfig(steps=steps, tasks=4))
    assert record["documents_in"] == 7 and record["steps"][0]["dropped"] == 5
    assert len(read_out(tmp_path / "out")) == record["documents_out"]


def test_c4_and_fineweb_are_to_be_had(tmp_path):
    path = tmp_path / "in.jsonl"
    page = f"{PROSE}\nno full stop here\n{PROSE.upper()}\nThis page needs javascript to be shown."
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in (page, "- a\n- b\n- c", "only {code} here.")))
    config = CleaningConfig(steps=["c4", "fineweb"], options={"c4": {"min_num_sentences": 2}})
    record = clean(Source(str(path)), tmp_path / "out", config)
    assert [row["text"] for row in read_out(tmp_path / "out")] == [f"{PROSE}\n{PROSE.upper()}"]
    reasons = {reason for step in record["steps"] for reason in step["reasons"]}
    assert reasons == {"too_few_sentences", "curly_bracket"}


def test_bad_rows_are_named_and_leave_what_was_there(corpus, tmp_path):
    run(corpus, tmp_path / "out", steps=["quality"])
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "fine"}\n{"body": 1}\n{"body": 2}\n')
    with pytest.raises(BadRows, match=r"bad.jsonl:2: field 'text' is missing; .*; 1 more bad row \(on_bad_rows"):
        clean(Source(str(path)), tmp_path / "out", CleaningConfig(steps=["encoding"]))
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl", "out"]
    record = clean(Source(str(path), on_bad_rows="skip"), tmp_path / "out", CleaningConfig(steps=["encoding"]))
    assert record["bad_rows"]["skipped"] == 2
    assert all("field 'text' is missing" in complaint for complaint in record["bad_rows"]["examples"])


def test_a_run_that_drops_everything_says_which_steps_did(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"text": "Too short."}) + "\n" + json.dumps({"text": ""}) + "\n")
    with pytest.raises(ValueError, match="cleaning kept no document \\(empty 1, quality 1\\); look at the source"):
        clean(Source(str(path)), tmp_path / "out", CleaningConfig(steps=["quality", "near_duplicates"]))
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"steps": ["qualty"]}, "unknown cleaning step 'qualty'; did you mean 'quality'"),
        ({"steps": ["near_duplicates", "quality"]}, "each step once, and exact_duplicates, near_duplicates last"),
        ({"steps": ["quality", "quality"]}, "each step once"),
        ({"steps": ["near_duplicates", "exact_duplicates"]}, "exact_duplicates comes before near_duplicates"),
        ({"steps": ["quality"], "options": {"c4": {}}}, "options for c4, which steps does not name"),
        ({"executor": "spark"}, "executor is 'spark'; use local, slurm or ray"),
        ({"tasks": 0}, "tasks 0 and workers 2 must be at least 1"),
        ({"options": {"quality": {"min_doc_word": 3}}}, "'quality' has no setting 'min_doc_word'; did you mean 'min_doc_words'"),
        ({"options": {"near_duplicates": {"bands": 3}}}, "'near_duplicates' has no setting 'bands'; it has "),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(corpus, tmp_path, settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        clean(Source(str(corpus[0] / "corpus.jsonl")), tmp_path / "out", CleaningConfig(**settings))
    assert not list(tmp_path.iterdir())


def test_a_missing_source_or_held_out_file_is_told_before_any_work(corpus, tmp_path):
    source = Source(str(corpus[0] / "corpus.jsonl"))
    with pytest.raises(FileNotFoundError, match="no file or folder at none.jsonl"):
        clean(Source("none.jsonl"), tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no file or folder at none.jsonl"):
        clean(source, tmp_path / "out", heldout=[Source("none.jsonl")])


def test_progress_ends_with_every_stage_and_document(corpus, tmp_path):
    told = []
    clean(
        Source(str(corpus[0] / "corpus.jsonl")),
        tmp_path / "out",
        CleaningConfig(steps=["quality"]),
        progress=lambda *stage: told.append(stage),
    )
    assert ("filter", 1, 3, 300) in told and told[-1] == ("publish", 3, 3, 300)


def test_slurm_runs_the_stages_as_a_chain_of_jobs(corpus, tmp_path, monkeypatch):
    """datatrove's own Slurm executor, against an sbatch that runs the job's script at once, task by task."""
    programs = tmp_path / "bin"
    programs.mkdir()
    scripts = {
        "sbatch": 'script="${@: -1}"; echo "$@" >> "$JOBS"\n'
        'last=$(sed -n "s/#SBATCH --array=0-\\([0-9]*\\).*/\\1/p" "$script")\n'
        "export SLURM_NODELIST=here SLURM_CPUS_PER_TASK=1 SLURM_MEM_PER_CPU=2048\n"
        'for i in $(seq 0 "${last:-0}"); do SLURM_ARRAY_TASK_ID=$i bash "$script" >> "$JOBS.log" 2>&1; done\n'
        'echo "Submitted batch job $RANDOM"\n',
        "srun": 'while [[ "$1" == -* ]]; do [[ "$1" == -n ]] && shift; shift; done; exec "$@"\n',
        "scontrol": "echo here\n",
    }
    for name, text in scripts.items():
        (programs / name).write_text("#!/bin/bash\n" + text)
        (programs / name).chmod((programs / name).stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("JOBS", str(tmp_path / "jobs"))
    options = {"time": "1:00:00", "partition": "cpu", "requeue_signals": None}
    record = run(
        corpus,
        tmp_path / "out",
        executor="slurm",
        executor_options=options,
        steps=["quality", "repetition", "exact_duplicates"],
    )
    assert record is None  # the jobs write it
    dropped = read_dropped(tmp_path / "out")
    assert dropped == {i: BY_STEP[kind] for i, kind in corpus[2].items() if kind in ("exact", "repeated")}
    assert "afterok" in (tmp_path / "jobs").read_text()


# ---- scores


def test_precision_and_recall_against_planted_dirt():
    truth = {"a": "exact", "b": "exact", "c": "leaked", "d": "near", "e": "near"}
    dropped = {
        "a": "exact_duplicates",
        "b": "quality",
        "d": "near_duplicates",
        "e": "near_duplicates",
        "x": "near_duplicates",
        "y": "quality",
    }
    scores = score_against_truth(dropped, truth)
    assert scores["exact"]["recall"] == 1.0 and scores["exact"]["by_step"] == {"exact_duplicates": 1, "quality": 1}
    assert scores["leaked"] == {"planted": 1, "found": 0, "recall": 0.0, "step": None, "precision": None, "by_step": {}}
    assert scores["near"]["step"] == "near_duplicates" and scores["near"]["precision"] == pytest.approx(2 / 3)
    assert scores["clean"] == {"dropped": 2}


def test_dropped_csv_holds_id_step_and_reason(corpus, tmp_path):
    record = run(corpus, tmp_path / "out", steps=["encoding"])
    assert record["heldout"] == []  # nothing was looked for
    with open(tmp_path / "out" / "dropped.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["reason"] for row in rows} == {"mojibake"} and {row["id"] for row in rows} == {
        i for i, kind in corpus[2].items() if kind == "mojibake"
    }
