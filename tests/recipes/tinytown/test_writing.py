"""The files of the world: formats, determinism, splits, and what the cleaning step makes of the dirt."""

import json
import re
from random import Random

import pytest

from base_model.chat import plain_prompt, render_prompt
from base_model.cleaning import CleaningConfig, clean
from base_model.cleaning_filters import Decontaminate
from base_model.cleaning_report import read_dropped, score_against_truth
from base_model.documents import Source
from base_model.tokenizer import train_tokenizer
from recipes.clean import _job
from recipes.run.cli import load_yaml
from recipes.tinytown import benchmarks, lexicon
from recipes.tinytown.clinic import BY_NAME, is_held_out_case
from recipes.tinytown.demonstrators import DEMONSTRATORS
from recipes.tinytown.instructions import KINDS, draw_task
from recipes.tinytown.shapes import SHAPES
from recipes.tinytown.world import is_reserved_pair, the_town
from recipes.tinytown.writing import WorldConfig, write_world

SMALL = {
    "documents": 4000, "instructions": 500, "prompts": 150, "heldout_documents": 60, "heldout_instructions": 100, "heldout_prompts": 50,
}  # fmt: skip
TRAINING = ("general", "domain", "instructions", "prompts")
HELD_OUT = ("general_heldout", "domain_heldout", "instructions_heldout", "prompts_heldout")


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, WorldConfig(**SMALL), seed=1)
    return folder


@pytest.fixture(scope="module")
def planted(world):
    return {row["id"]: row["dirt"] for row in read(world / "dirt.jsonl")}


@pytest.fixture(scope="module")
def training_texts(world, planted):
    """Every clean training text: documents, and the turns of instructions and prompts."""
    documents = [
        row["text"]
        for name in ("general", "domain")
        for row in read(world / f"{name}.jsonl")
        if row["id"] not in planted
    ]
    turns = [m["content"] for row in read(world / "instructions.jsonl") for m in row["messages"]]
    return documents + turns + [m["content"] for row in read(world / "prompts.jsonl") for m in row["prompt"]]


def test_same_seed_gives_same_bytes(tmp_path):
    tiny = WorldConfig(**{**dict.fromkeys(SMALL, 20), "documents": 200, "careless": 0.5})
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_world(tmp_path / name, tiny, seed=1)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 23  # 12 .jsonl, 5 benchmarks in two files each, the data card
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_another_seed_gives_other_items():
    assert benchmarks.make_task("clinic_qa", 1) != benchmarks.make_task("clinic_qa", 2)


def test_every_document_is_told_or_is_known_dirt(world, planted):
    ids = [row["id"] for name in ("general", "domain") for row in read(world / f"{name}.jsonl")]
    told = {row["id"] for row in read(world / "states.jsonl")}
    assert len(ids) == len(set(ids)) == SMALL["documents"]
    assert not planted.keys() & told and planted.keys() | told == set(ids)


def test_rows_have_the_columns_that_the_stages_read(world):
    assert read(world / "general.jsonl")[0].keys() == {"id", "text", "kind"}
    assert read(world / "general_heldout.jsonl")[0].keys() == {"text"}
    row = read(world / "instructions.jsonl")[0]
    assert row.keys() == {"messages", "kind", "record", "demonstrator"} and row["messages"][-1]["role"] == "assistant"
    assert read(world / "prompts.jsonl")[0].keys() == {"prompt", "kind", "record"}
    row = read(world / "instructions_heldout.jsonl")[0]
    assert row.keys() == {"prompt", "completion", "kind", "record"} and row["prompt"][-1]["role"] == "user"
    assert isinstance(json.loads(row["record"]), dict)


def test_no_prompt_is_in_two_files(world):
    prompts = list({json.dumps(row["messages"][:-1]) for row in read(world / "instructions.jsonl")})
    for name in ("prompts", "instructions_heldout", "prompts_heldout"):
        prompts += [json.dumps(row["prompt"]) for row in read(world / f"{name}.jsonl")]
    assert len(prompts) == len(set(prompts))


def test_prompts_leave_room_for_an_answer(world, planted):
    """In a context of 256 tokens 72 are for the answer, whether a prompt goes through the chat template or out as plain text."""
    texts = (row["text"] for row in read(world / "general.jsonl") if row["id"] not in planted)
    tokenizer = train_tokenizer(texts, 2048)
    for number in range(6000):
        prompt = draw_task(Random(number), is_held_out=number % 2 == 0).prompt
        for form in (prompt, plain_prompt(prompt)):
            assert len(render_prompt(tokenizer, form)) <= 256 - 72, prompt


def test_held_out_people_are_in_no_training_text(training_texts):
    strangers = re.compile("|".join(lexicon.HELD_OUT_FEMALE_NAMES + lexicon.HELD_OUT_MALE_NAMES))
    assert not [text for text in training_texts if strangers.search(text)]


def test_reserved_pairs_shapes_and_cases_are_in_no_training_document(world):
    for row in read(world / "states.jsonl"):
        assert row["shape"] not in SHAPES or not SHAPES[row["shape"]].is_held_out
        assert not any(is_reserved_pair(name, thing) for name in row["people"].values() for thing in row["things"])
        for verb, *args in row["events"]:
            assert verb != "case" or not is_held_out_case(args[1], args[3])


def test_no_training_instruction_is_about_a_held_out_case_or_a_reserved_pair(world):
    names = [person.name for person in the_town()]
    for row in read(world / "instructions.jsonl"):
        text = " ".join(message["content"] for message in row["messages"])
        words = set(re.findall(r"\w+", text))
        if row["kind"].startswith("clinic"):
            found = [
                (species, name)
                for name, rule in BY_NAME.items()
                for species in rule.species
                if species in words and name in text
            ]
            assert not [pair for pair in found if is_held_out_case(*pair) and pair[1] != "worms"], text
        if row["kind"] == "story":
            told = [
                (name, thing)
                for name in names
                if name in words
                for thing in lexicon.THINGS
                if re.search(rf"\b{thing}\b", text)
            ]
            assert not [pair for pair in told if is_reserved_pair(*pair)], text


def test_decontamination_finds_nothing_in_the_training_files_but_the_planted_leaks(world, planted):
    """The cleaning step itself, against every held-out file and benchmark, on documents and on the prompts of the tasks."""
    from datatrove.data import Document

    step = Decontaminate(
        [Source(str(world / f"{name}.jsonl")) for name in HELD_OUT] + [Source(str(world / "benchmarks/*.jsonl"))]
    )
    found = set()
    for name in ("general", "domain"):
        for row in read(world / f"{name}.jsonl"):
            if step.filter(Document(row["text"], row["id"])) is not True:
                found.add(row["id"])
    assert found == {identity for identity, kind in planted.items() if kind == "leaked"}
    for name, column in (("instructions", "messages"), ("prompts", "prompt")):
        for row in read(world / f"{name}.jsonl"):
            asked = [message["content"] for message in row[column] if message["role"] == "user"]
            told = [row[column][-1]["content"]] if row["kind"] in ("story", "continue") else []
            for text in asked + told:
                assert step.filter(Document(text, name)) is True, text


@pytest.mark.parametrize("name", ["general", "domain"])
def test_cleaning_finds_the_planted_dirt_and_little_else(world, planted, tmp_path, name):
    """At least 0.95 of exact and near duplicates, broken encoding, other languages and leaks; under 1 % of clean text is a near duplicate.

    Precision of a step counts any planted dirt as right. The options are those of configs/tiny/clean.yaml."""
    held_out = [Source(str(world / f"{file}.jsonl")) for file in HELD_OUT] + [Source(str(world / "benchmarks/*.jsonl"))]
    settings = load_yaml("recipes/configs/tiny/clean.yaml")
    _, config = _job(settings["sources"][name], CleaningConfig(options=settings["options"], workers=1))
    clean(Source(str(world / f"{name}.jsonl")), tmp_path / "clean", config, held_out)
    dropped = read_dropped(tmp_path / "clean")
    truth = {identity: kind for identity, kind in planted.items() if identity.startswith(name)}
    scores = score_against_truth(dropped, truth)
    for kind in (
        "exact_duplicate",
        "broken_encoding",
        "other_language",
        "leaked",
        "boilerplate",
        "gibberish",
        "repeated_lines",
    ):
        assert scores[kind]["recall"] >= 0.95, (kind, scores[kind])
    assert (
        scores["near_duplicate"]["recall"] >= 0.9
    )  # of about 16 (domain) or 64 planted ones: 0.95 is measured on the whole world
    for kind in ("exact_duplicate", "broken_encoding", "other_language", "leaked"):
        assert scores[kind]["precision"] >= 0.95, (kind, scores[kind])
    clean_rows = sum(row["id"].startswith(name) for row in read(world / "states.jsonl"))
    alike = [identity for identity, step in dropped.items() if step == "near_duplicates" and identity not in truth]
    assert len(alike) / clean_rows < 0.01
    assert scores["clean"]["dropped"] / clean_rows < 0.04


def test_careless_demonstrators_spoil_their_share_of_the_answers_and_no_prompt(world, tmp_path):
    """Against the same world without them: the same tasks in the same order, and what a careful one answers is the same."""
    write_world(tmp_path, WorldConfig(**SMALL | {"documents": 20}, careless=0.5), seed=1)
    careful, mixed = read(world / "instructions.jsonl"), read(tmp_path / "instructions.jsonl")
    assert {row["demonstrator"] for row in careful} == {"careful"}
    assert read(world / "instructions_careful.jsonl") == careful
    spoilt = [row for row in mixed if row["demonstrator"] != "careful"]
    assert abs(len(spoilt) - 250) < 45  # of 500; four standard deviations of a fair coin
    assert {row["demonstrator"] for row in spoilt} == set(DEMONSTRATORS) - {"careful"}
    for before, after in zip(careful, mixed, strict=True):
        assert before["messages"][:-1] == after["messages"][:-1] and before["record"] == after["record"]
        assert (before["messages"] == after["messages"]) == (after["demonstrator"] == "careful"), after
        assert (after["demonstrator"] == "complies") <= (after["kind"] == "decline")
        assert (after["demonstrator"] == "made_up") <= (after["kind"] == "unknown")
    assert read(tmp_path / "instructions_careful.jsonl") == [row for row in mixed if row not in spoilt]
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"| rude | {sum(row['demonstrator'] == 'rude' for row in mixed)} |" in card


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    folder = tmp_path_factory.mktemp("narrow")
    numbers = write_world(
        folder, WorldConfig(**SMALL | {"documents": 600, "instructions": 1500}, breadth="small"), seed=1
    )
    return folder, numbers


def test_a_small_world_names_few_people_and_tells_them_the_towns_own_facts(narrow):
    """16 residents in stories, and the vet and the nurse, who are in every clinic; the checker of facts is not the generator."""
    folder, numbers = narrow
    planted = {row["id"] for row in read(folder / "dirt.jsonl")}
    texts = [r["text"] for n in ("general", "domain") for r in read(folder / f"{n}.jsonl") if r["id"] not in planted]
    named = {person.name for person in the_town() if any(re.search(rf"\b{person.name}\b", text) for text in texts)}
    assert 12 <= len(named) <= 18 and not named & {person.name for person in the_town().held_out_people}
    assert numbers["facts"]["wrong"] == 0 and numbers["facts"]["read"] > 1000
    assert numbers["distinct_words"] < 1500


def test_a_small_world_keeps_the_shares_of_the_kinds_of_task_and_its_prompts_are_short(narrow):
    """Tolerance: four standard deviations of a binomial."""
    rows = read(narrow[0] / "instructions.jsonl")
    assert all(sum(len(m["content"]) for m in row["messages"][:-1]) <= 340 for row in rows)
    told = sum(row["kind"] == "story" for row in rows)
    assert abs(told - 0.16 * 1500) < 4 * (1500 * 0.16 * 0.84) ** 0.5
    assert len({row["kind"] for row in rows}) == len(KINDS)


def test_wrong_answers_of_a_small_worlds_benchmark_are_words_that_its_texts_know(narrow):
    texts = " ".join(
        row["text"] for name in ("general", "general_heldout") for row in read(narrow[0] / f"{name}.jsonl")
    )
    rows = read(narrow[0] / "benchmarks/tinytown_qa.jsonl")
    words = [w for row in rows for choice in row["choices"] for w in re.findall(r"[A-Za-z]+", choice)]
    strange = [w for w in words if not re.search(rf"\b{w}", texts)]
    assert len(strange) / len(words) < 0.02
    for name in benchmarks.TASKS:
        answers = [row["answer"] for row in read(narrow[0] / f"benchmarks/{name}.jsonl")]
        assert len(answers) > 100 and len({answers.count(position) for position in set(answers)}) == 1


def test_an_unknown_breadth_is_refused():
    with pytest.raises(ValueError, match="breadth is 'tiny'; there are full and small"):
        WorldConfig(breadth="tiny")


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_of_careless_demonstrators_is_from_0_to_1(share):
    with pytest.raises(ValueError, match=f"careless is {share}; it is a share of the instructions, from 0 to 1"):
        WorldConfig(careless=share)


def test_there_are_1500_distinct_words(training_texts):
    words = {word for text in training_texts for word in re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower())}
    assert len(words) >= 1500


def test_the_data_card_counts_and_shows_what_is_there(world):
    card = (world / "README.md").read_text(encoding="utf-8")
    assert card.count("\n**") >= 20 and "0 wrong" in card and "| general | 3,200 |" in card
    for path in world.rglob("*.jsonl"):
        assert str(path.relative_to(world)) in card


def test_a_count_below_one_is_refused():
    with pytest.raises(ValueError, match="prompts is 0; it must be at least 1"):
        WorldConfig(prompts=0)
