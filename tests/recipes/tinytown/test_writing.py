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
    return write_world(WorldConfig(out=str(tmp_path_factory.mktemp("world")), **SMALL))


def test_same_seed_gives_same_bytes(world, tmp_path):
    again = write_world(WorldConfig(out=str(tmp_path), **SMALL))
    assert (again / "manifest.json").read_bytes() == (world / "manifest.json").read_bytes()


def test_every_document_is_told_or_is_known_dirt(world):
    ids = [row["id"] for name in ("general", "domain") for row in read(world / f"{name}.jsonl")]
    dirt, told = ({row["id"] for row in read(world / name)} for name in ("dirt.jsonl", "states.jsonl"))
    assert len(ids) == len(set(ids)) == 300
    assert not dirt & told and dirt | told == set(ids)
