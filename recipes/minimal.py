"""The whole idea in one flat file: text, a tokenizer, a GPT, a training loop, samples. Nothing of this project is imported but the text.

    python -m recipes.minimal                      (about 40 s on two cores; the loss falls from 7.0 to about 1.7 nats)
    python -m recipes.minimal --text notes.txt     your own text, documents parted by blank lines

Read it from top to bottom; then base_model/ is the same again with everything that a real run needs: a KV cache, resume, precision,
many processes, checkpoints that transformers loads. The model is Llama's: RMSNorm, rotary positions, SwiGLU, no biases, tied embeddings.

Shapes: B rows, T tokens, D width, H heads, V vocabulary.
"""

import argparse
import math
import os
import time
from pathlib import Path

VOCABULARY, CONTEXT, WIDTH, LAYERS, HEADS = 1024, 128, 96, 3, 4
ROWS, STEPS, PEAK_RATE, WARMUP = 16, 450, 8e-3, 20


def main(argv: list[str] | None = None) -> float:
    """Train and sample; returns the mean loss of the last 20 steps, nats a token."""
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # before torch loads: threads that spin while they wait starve others

    import torch
    import torch.nn.functional as F
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from torch import nn

    parser = argparse.ArgumentParser(prog="recipes.minimal", description=__doc__.split("\n")[0])
    parser.add_argument("--text", type=Path, help="a text file; without it, stories of the embedded world")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)

    # 1. Text: one string a document.
    if options.text:
        texts = [text for text in options.text.read_text(encoding="utf-8").split("\n\n") if text.strip()]
    else:
        from random import Random

        from recipes.tinytown.breadth import BREADTHS
        from recipes.tinytown.writing import tell_document

        rng = Random(options.seed)
        texts = [
            tell_document(rng, is_domain=False, is_held_out=False, breadth=BREADTHS["small"]).text for _ in range(2000)
        ]

    # 2. Tokenizer: byte-level BPE; <|end|> closes each document.
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    end, vocabulary = tokenizer.token_to_id("<|end|>"), tokenizer.get_vocab_size()
    stream = torch.tensor([i for encoding in tokenizer.encode_batch(texts) for i in (*encoding.ids, end)])
    if len(stream) <= CONTEXT + 1:
        raise SystemExit(f"error: the text has {len(stream)} tokens; give at least {CONTEXT + 2}")

    # 3. Model.
    def rotate(x_BHTD: torch.Tensor) -> torch.Tensor:
        """Rotary positions (arXiv:2104.09864): each pair of dimensions turns by its own angle a position."""
        half = x_BHTD.shape[-1] // 2
        rates = 10000.0 ** (-torch.arange(half) / half)
        angles = torch.arange(x_BHTD.shape[-2])[:, None] * rates
        a, b = x_BHTD[..., :half], x_BHTD[..., half:]
        return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), dim=-1)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm_1, self.norm_2 = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
            hidden = 8 * WIDTH // 3
            self.gate, self.up = nn.Linear(WIDTH, hidden, bias=False), nn.Linear(WIDTH, hidden, bias=False)
            self.down = nn.Linear(hidden, WIDTH, bias=False)

        def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
            heads = (
                t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.qkv(self.norm_1(x_BTD)).chunk(3, dim=-1)
            )
            q, k, v = heads  # B H T D/H
            seen = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
            x_BTD = x_BTD + self.out(seen.transpose(1, 2).flatten(2))
            h = self.norm_2(x_BTD)
            return x_BTD + self.down(F.silu(self.gate(h)) * self.up(h))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(vocabulary, WIDTH)
            self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
            self.norm = nn.RMSNorm(WIDTH)
            for weight in self.parameters():
                if weight.dim() == 2:
                    nn.init.normal_(weight, std=0.02)

        def forward(self, ids_BT: torch.Tensor) -> torch.Tensor:
            x_BTD = self.tokens(ids_BT)
            for block in self.blocks:
                x_BTD = block(x_BTD)
            return self.norm(x_BTD) @ self.tokens.weight.T  # logits; the embedding serves as the head, too

    model = GPT()
    print(
        f"{len(texts):,} documents, {len(stream):,} tokens, {sum(p.numel() for p in model.parameters()):,} parameters"
    )

    # 4. Training loop: random windows, AdamW, warm-up and cosine, clipped gradients.
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.1)
    losses, began = [], time.monotonic()
    for step in range(options.steps):
        progress = max(0, step - WARMUP) / max(1, options.steps - WARMUP)
        rate = PEAK_RATE * min(1, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(len(stream) - CONTEXT - 1, (ROWS,))
        rows = torch.stack([stream[start : start + CONTEXT + 1] for start in starts.tolist()])
        logits_BTV = model(rows[:, :-1])
        loss = F.cross_entropy(logits_BTV.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % 50 == 0 or step == options.steps - 1:
            left_s = (time.monotonic() - began) / (step + 1) * (options.steps - step - 1)
            print(f"step {step:4d}   loss {losses[-1]:.3f} nats a token   {left_s:.0f} s left", flush=True)

    # 5. Samples: one token at a time from the model's distribution at temperature 0.8, until <|end|>.
    model.eval()
    for _ in range(3):
        ids = [end]
        with torch.no_grad():
            while len(ids) < 2 or (ids[-1] != end and len(ids) < CONTEXT):
                logits_V = model(torch.tensor([ids]))[0, -1] / 0.8
                ids.append(int(torch.multinomial(logits_V.softmax(-1), 1)))
        print("\n> " + tokenizer.decode(ids[1:]).strip())
    return sum(losses[-20:]) / len(losses[-20:])


if __name__ == "__main__":
    main()
