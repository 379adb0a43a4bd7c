"""The files of the world: formats, determinism."""

import json

import pytest

from recipes.tinytown.writing import WorldConfig, write_world

SMALL = {
    "documents": 300,
    "instructions": 80,
    "prompts": 40,
    "heldout_documents": 20,
    "heldout_instructions": 30,
    "heldout_prompts": 20,
}


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, WorldConfig(**SMALL), seed=1)
    return folder


def test_same_seed_gives_same_bytes(world, tmp_path):
    write_world(tmp_path, WorldConfig(**SMALL), seed=1)
    files = sorted(path.relative_to(world) for path in world.rglob("*") if path.is_file())
    assert len(files) > 15
    for file in files:
        assert (tmp_path / file).read_bytes() == (world / file).read_bytes(), file


def test_every_document_is_told_or_is_known_dirt(world):
    ids = [row["id"] for name in ("general", "domain") for row in read(world / f"{name}.jsonl")]
    dirt, told = ({row["id"] for row in read(world / name)} for name in ("dirt.jsonl", "states.jsonl"))
    assert len(ids) == len(set(ids)) == 300
    assert not dirt & told and dirt | told == set(ids)
