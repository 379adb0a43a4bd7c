"""Generation: `base_model.generate` and transformers' `generate` on the same transformers model, in alternation.

    python -m recipes.bench generation [--preset llama-2m] [--batch 1 32 128] [--rounds 5]

Expect 2.5 times transformers' tokens/s or more for models of 1 to 6 million parameters on a CPU. Both sample (temperature 1, no
filter) from random weights, prompts of 24 to 32 tokens, none stopping early, so every row runs its full length.
"""

from __future__ import annotations

import argparse

from recipes.bench.timing import alternate, machine


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="recipes.bench generation", description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="llama-2m", help="a size in base_model/gpt.py")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--new_tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--greedy", action="store_true", help="the likeliest token, where sampling is the default")
    parser.add_argument("--top_p", type=float, default=1.0)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    options = parser.parse_args(argv)

    import torch

    from base_model.generate import SamplingConfig, generate
    from base_model.gpt import GPT, preset
    from base_model.hf import to_hf

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = to_hf(GPT(preset(options.preset))).to(device, getattr(torch, options.dtype))
    sampling = SamplingConfig(options.new_tokens, top_p=options.top_p, greedy=options.greedy)
    draws = {"do_sample": False} if options.greedy else {"do_sample": True, "top_k": 0, "top_p": options.top_p}
    print(machine(device))
    print(f"{options.preset}, {options.dtype}, {options.new_tokens} new tokens after prompts of 24 to 32")
    print(
        f"{'batch':>5}  {'ours tok/s':>11}  {'theirs tok/s':>12}  {'ours ms/step':>12}  {'theirs ms/step':>14}  {'ratio':>5}"
    )
    for batch in options.batch:
        lengths = [32 - i % 9 for i in range(batch)]
        prompts = [torch.randint(6, model.config.vocab_size, (length,)).tolist() for length in lengths]
        is_token = torch.tensor([[0] * (32 - n) + [1] * n for n in lengths], device=device)
        tokens = torch.tensor([[0] * (32 - len(prompt)) + prompt for prompt in prompts], device=device)

        def ours(prompts=prompts):
            generate(model, prompts, sampling, pad_id=0, seed=0)

        def theirs(tokens=tokens, is_token=is_token):
            model.generate(
                tokens,
                attention_mask=is_token,
                max_new_tokens=options.new_tokens,
                eos_token_id=None,
                pad_token_id=0,
                **draws,
            )

        timings = alternate({"ours": ours, "theirs": theirs}, options.rounds)
        seconds = [timings.median_s(name) for name in ("ours", "theirs")]
        rates = [batch * options.new_tokens / s for s in seconds]
        steps = [1e3 * s / options.new_tokens for s in seconds]
        print(
            f"{batch:5}  {rates[0]:11,.0f}  {rates[1]:12,.0f}  {steps[0]:12.2f}  {steps[1]:14.2f}"
            f"  {timings.ratio('theirs', 'ours'):5.2f}"
        )
