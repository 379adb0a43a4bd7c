"""What several areas' tests need: real small checkpoints (random weights, this project's tokenizer), and the data folder."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes on two cores: more threads would fight
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

TEXTS = [
    "The baker keeps three loaves for the old sailor who lives by the harbour.",
    "When it rains, the children wait under the bridge and tell each other stories.",
    "Please write a short note to the doctor. The dog has a sore paw and will not eat.",
    "Yes, of course. No, thank you. I do not know what colour the gate was painted.",
] * 8


@pytest.fixture(scope="session")
def tokenizer():
    """A 400-token byte-level BPE of this project's kind, without a chat template. Do not change it: copy.deepcopy it first."""
    from base_model.tokenizer import train_tokenizer

    return train_tokenizer(TEXTS, 400)


@pytest.fixture(scope="session", params=["gpt2", "llama"])
def dialect(request):
    """Both stock dialects in turn."""
    return request.param


def random_model(dialect: str, vocab_size: int, seed: int = 0):
    """A tiny random transformers model: width 32, 2 layers, 4 heads (2 key/value heads for Llama), 128 positions, fp32, no dropout."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if dialect == "gpt2":
        drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        config = GPT2Config(vocab_size=vocab_size, n_positions=128, n_embd=32, n_layer=2, n_head=4, **drop, **ids)
        return GPT2LMHeadModel(config).eval()
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        **ids,
    )
    return LlamaForCausalLM(config).eval()


def write_checkpoint(folder: Path, tokenizer, dialect: str = "llama", seed: int = 0) -> Path:
    """A random model and the tokenizer saved as a Hugging Face checkpoint; returns the folder."""
    random_model(dialect, len(tokenizer), seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llama_checkpoint(tmp_path_factory, tokenizer):
    """Folder of a tiny random Llama checkpoint. Read only: write runs elsewhere."""
    return write_checkpoint(tmp_path_factory.mktemp("llama") / "base", tokenizer, "llama")


@pytest.fixture(scope="session")
def foreign_parent(tmp_path_factory):
    """foreign_parent(family) -> folder of a tiny checkpoint as that family's project saves it, made once. Read only."""
    made = {}

    def folder_of(family: str) -> Path:
        if family not in made:
            from tests.parents import write_parent

            made[family] = write_parent(family, tmp_path_factory.mktemp("parents") / family)
        return made[family]

    return folder_of


def put_in_hub_cache(cache: Path, name: str, checkpoint: Path, commit: str) -> Path:
    """A checkpoint as huggingface_hub keeps it: blobs named by hash, a snapshot of links to them, main's commit. Returns the snapshot."""
    from base_model.checkpoints import sha256_file

    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    for folder in (repository / "blobs", repository / "refs", snapshot):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    for file in checkpoint.iterdir():
        blob = repository / "blobs" / sha256_file(file)
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(Path("../../blobs", blob.name))
    return snapshot


@pytest.fixture(scope="session")
def gpt2_checkpoint(tmp_path_factory, tokenizer):
    """Folder of a tiny random GPT-2 checkpoint. Read only: write runs elsewhere."""
    return write_checkpoint(tmp_path_factory.mktemp("gpt2") / "base", tokenizer, "gpt2")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets, from $PLUMBLINE_DATA; tests that need it are skipped where it is not set."""
    folder = os.environ.get("PLUMBLINE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("PLUMBLINE_DATA does not name the folder of real data sets")
    return Path(folder)
