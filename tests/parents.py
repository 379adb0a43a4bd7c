"""Tiny random checkpoints in the form in which other projects save theirs: file names, tokenizer classes, special tokens, templates.

`write_parent(family, folder)` makes one. tokenizer.json has merges as strings (all from before tokenizers 0.20 have), tokenizer_config.json
names the family's class, no chat template has {% generation %} marks, and weights have the type that the family is published in.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.conftest import TEXTS

WORDS = 120  # merges learnt
SPLIT = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UNSET_LENGTH = int(1e30)  # how transformers writes a tokenizer without a model_max_length

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe helpful.<|im_end|>\n' }}{% endif %}" + CHATML
)
THINKING = CHATML.replace("'assistant\n' }}", "'assistant\n<think>\n\n</think>\n\n' }}")
LLAMA_2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n'"
    " + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def byte_level(first: list[str] = (), last: list[str] = (), *, pattern: str | None = None) -> Tokenizer:
    """A byte-level BPE; `first` stand before the learnt tokens, `last` after them."""
    tokenizer = Tokenizer(models.BPE())
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    split = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, bytes_]) if split else bytes_
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=len(first) + 256 + WORDS,
        initial_alphabet=alphabet,
        special_tokens=list(first),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in last])
    return tokenizer


def sentencepiece(special: list[str]) -> Tokenizer:
    """What a SentencePiece BPE is as tokenizer.json: spaces as U+2581, one before a text, and a token for each byte to fall back on."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    learner.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=60 + WORDS, show_progress=False))
    learnt = json.loads(learner.to_str())["model"]
    pieces = sorted(learnt["vocab"], key=learnt["vocab"].get)
    names = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    merges = [tuple(merge) for merge in learnt["merges"]]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def begun_with(tokenizer: Tokenizer, token: str) -> Tokenizer:
    """The tokenizer, putting `token` in front of every text by itself."""
    known = [(token, tokenizer.token_to_id(token))]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=known
    )
    return tokenizer


def _gpt2() -> tuple[Tokenizer, dict, str, dict, dict]:
    end = "<|endoftext|>"
    names = {"bos_token": end, "eos_token": end, "unk_token": end, "add_prefix_space": False, "model_max_length": 1024}
    return byte_level(last=[end]), {"tokenizer_class": "GPT2Tokenizer", **names}, "gpt2", {}, {}


def _gpt_neox():
    end = "<|endoftext|>"
    names = {"bos_token": end, "eos_token": end, "unk_token": end, "add_prefix_space": False}
    tokenizer = byte_level(first=[end, "<|padding|>"])
    return tokenizer, {"tokenizer_class": "GPTNeoXTokenizer", **names}, "gpt_neox", {"intermediate_size": 64}, {}


def _opt():
    names = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>", "add_bos_token": True}
    tokenizer = begun_with(byte_level(first=["<s>", "<pad>", "</s>", "<unk>"]), "</s>")
    more = {"ffn_dim": 64, "word_embed_proj_dim": 32, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2}
    return tokenizer, {"tokenizer_class": "GPT2Tokenizer", **names}, "opt", more, {}


def _llama2():
    tokenizer = begun_with(sentencepiece(["<unk>", "<s>", "</s>"]), "<s>")
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True, "legacy": False}
    return tokenizer, {"tokenizer_class": "LlamaTokenizer", "chat_template": LLAMA_2, **names}, "llama", {}, {}


def _llama3():
    last = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>"]
    last += ["<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"]
    tokenizer = begun_with(byte_level(last=last, pattern=SPLIT), "<|begin_of_text|>")
    names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "chat_template": LLAMA_3}
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling |= {"original_max_position_embeddings": 32, "rope_theta": 500000.0}
    stops = [tokenizer.token_to_id(token) for token in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")]
    generation = {"eos_token_id": stops, "do_sample": True, "temperature": 0.6, "top_p": 0.9}
    more = {"rope_parameters": scaling, "num_key_value_heads": 2}
    return tokenizer, {"tokenizer_class": "PreTrainedTokenizerFast", **names}, "llama", more, generation


def _qwen(model_type: str, template: str):
    last = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = byte_level(last=last, pattern=SPLIT)
    tokenizer.normalizer = normalizers.NFC()
    names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": template}
    stops = [tokenizer.token_to_id(token) for token in ("<|im_end|>", "<|endoftext|>")]
    generation = {"eos_token_id": stops, "pad_token_id": stops[1], "do_sample": True, "temperature": 0.7}
    generation |= {"top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
    more = {"num_key_value_heads": 2, "tie_word_embeddings": True}
    return tokenizer, {"tokenizer_class": "Qwen2Tokenizer", **names}, model_type, more, generation


def _gemma():
    tokenizer = sentencepiece(["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"])
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    names |= {"add_bos_token": True, "chat_template": GEMMA, "tokenizer_class": "GemmaTokenizer"}
    more = {"num_key_value_heads": 1, "head_dim": 16, "hidden_act": "gelu_pytorch_tanh"}
    more |= {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    return begun_with(tokenizer, "<bos>"), names, "gemma", more, {"eos_token_id": [1, 5]}


def _smollm2():
    first = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>"}
    names |= {"pad_token": "<|im_end|>", "chat_template": DEFAULT_SYSTEM, "tokenizer_class": "GPT2Tokenizer"}
    more = {"num_key_value_heads": 2, "tie_word_embeddings": True}
    return byte_level(first=first), names, "llama", more, {"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 2}


FAMILIES = {
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "opt": _opt,
    "llama2": _llama2,
    "llama3": _llama3,
    "qwen2": lambda: _qwen("qwen2", DEFAULT_SYSTEM),
    "qwen3": lambda: _qwen("qwen3", THINKING),
    "gemma": _gemma,
    "smollm2": _smollm2,
}
BFLOAT16 = ("llama3", "qwen2", "qwen3", "gemma", "smollm2")
SPARE_ROWS = 8  # of the embedding, which no token has: many are rounded up


def write_parent(family: str, folder: Path) -> Path:
    """A random model of the family (width 32, 2 layers, 256 positions) and its tokenizer; returns the folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    tokenizer, names, model_type, sizes, generation = FAMILIES[family]()
    special = {
        name: tokenizer.token_to_id(names[name.removesuffix("_id")]) if name.removesuffix("_id") in names else None
        for name in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    common = {
        "vocab_size": tokenizer.get_vocab_size() + SPARE_ROWS,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
    }
    if model_type not in ("gpt2", "opt", "gpt_neox"):
        common |= {"intermediate_size": 64, "head_dim": 8}
    config = AutoConfig.for_model(model_type, **{**common, **special, **sizes})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    if family in BFLOAT16:
        model = model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(**{**special, **generation})
    model.save_pretrained(folder)
    written = json.loads(tokenizer.to_str())
    written["model"]["merges"] = [" ".join(pair) for pair in written["model"]["merges"]]
    written["model"].pop("ignore_merges")
    (folder / "tokenizer.json").write_text(json.dumps(written, ensure_ascii=False))
    settings = {"model_max_length": UNSET_LENGTH, "clean_up_tokenization_spaces": False, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if settings["tokenizer_class"] in ("GPT2Tokenizer", "Qwen2Tokenizer"):
        (folder / "vocab.json").write_text(json.dumps(written["model"]["vocab"], ensure_ascii=False))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(written["model"]["merges"]) + "\n")
    return folder
