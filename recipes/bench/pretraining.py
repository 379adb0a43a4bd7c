"""Pretraining: `base_model.pretrain` and transformers' Trainer on a model of the same shape and weights, in alternation.

    python -m recipes.bench pretraining [--preset llama-2m] [--precision bf16] [--rounds 3] [--steps 20]

Expect 1.5 times the Trainer's tokens/s or more for models of 1 to 6 million parameters on a CPU, and half of the matmul ceiling's FLOP/s.
Both train from the same random weights on the same rows with fused AdamW and clipping, and save nothing; rounds of theirs run between
rounds of ours, and compilation and a first round are not counted. FLOPs are 6 a matrix parameter plus causal attention
(base_model/plan.py), whatever is really computed.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import statistics
import tempfile

from base_model.gpt import PRESETS, preset
from base_model.pretrain_config import PretrainConfig
from recipes.bench.timing import machine, matmul_ceiling


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="recipes.bench pretraining", description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="llama-2m", choices=PRESETS)
    parser.add_argument("--context_length", type=int, default=256)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "fp16", "fp32"))
    parser.add_argument("--optimizer", default="adamw", choices=("adamw", "muon"), help="ours; the Trainer takes AdamW")
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no_compile", action="store_true", help="ours without torch.compile")
    parser.add_argument("--compile_theirs", action="store_true", help="the Trainer with torch.compile as well")
    parser.add_argument("--only_ours", action="store_true", help="no Trainer: tokens/s and FLOP/s alone")
    options = parser.parse_args(argv)

    import torch

    from base_model.gpt import GPT
    from base_model.plan import flops_per_token
    from base_model.precision import DTYPES, find_device, find_precision
    from base_model.pretrain import pretrain

    device = find_device()
    precision = find_precision(options.precision, device)
    config = preset(options.preset, context_length=options.context_length)
    rounds = options.rounds + 1  # the first one warms up
    settings = PretrainConfig(
        steps=options.steps * rounds,
        batch_size=options.batch_size,
        optimizer=options.optimizer,
        warmup_steps=1,
        precision=precision,
        compile=not options.no_compile,
        log_every=options.steps,
        save_every=0,
        trackers="none",
    )
    torch.manual_seed(0)
    rows = Rows(torch.randint(0, config.vocab_size, (64 * options.batch_size, options.context_length + 1)), settings)
    model = GPT(config)
    theirs = None if options.only_ours else Theirs(model, settings, rows, device.type, options.compile_theirs)
    print(machine(device.type))
    print(
        f"{options.preset}: {config.n_parameters:,} parameters, {options.batch_size} rows of {options.context_length} tokens,"
        f" {precision}, {options.steps} steps a round"
    )
    rates: dict[str, list[float]] = {"ours": [], "transformers": []}
    ceilings: list[float] = []

    def after_a_round(line: dict) -> None:
        rates["ours"].append(line["tokens_per_s"])
        if theirs:
            rates["transformers"].append(theirs.tokens_per_s(options.steps))
        ceilings.append(matmul_ceiling(DTYPES[precision], device=device.type) * 1e9)

    pretrain(model, rows, settings, log=after_a_round, show_progress=False)
    ours, transformers = (values[1:] for values in rates.values())
    for name, values in (("ours", ours), ("transformers", transformers)):
        if values:
            rate, flops = statistics.median(values), flops_per_token(config) * statistics.median(values)
            share = flops / max(ceilings)
            print(f"{name:13} {rate:10,.0f} tokens/s  {flops / 1e9:8,.0f} GFLOP/s  {share:4.0%} of the matmul ceiling")
    if theirs:
        ratio = statistics.median(a / b for a, b in zip(ours, transformers, strict=True))
        print(f"ours / transformers {ratio:.2f} (median of {options.rounds} rounds)")


class Rows:
    """The same rows for both: batch i for ours, a list of examples for the Trainer."""

    def __init__(self, tokens_NT, settings: PretrainConfig) -> None:
        self.tokens_NT, self.batch_size, self.windows = tokens_NT, settings.batch_size, len(tokens_NT)

    def batch(self, step: int) -> dict:
        first = step * self.batch_size % self.windows
        return {"tokens_BT": self.tokens_NT[first : first + self.batch_size]}

    def examples(self) -> list[dict]:
        return [{"input_ids": row, "labels": row} for row in self.tokens_NT[:, :-1].clone()]


class Theirs:
    """transformers' Trainer on the same weights, with the settings that make its steps the same."""

    def __init__(self, model, settings: PretrainConfig, rows: Rows, device: str, is_compiled: bool) -> None:
        from base_model.hf import to_hf

        self.model, self.examples = copy.deepcopy(to_hf(model)), rows.examples()
        self.settings, self.device, self.is_compiled = settings, device, is_compiled

    def tokens_per_s(self, steps: int) -> float:
        """Train for `steps` and return the Trainer's own account of it."""
        from transformers import Trainer, TrainingArguments

        settings = self.settings
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=settings.batch_size,
                learning_rate=settings.lr,
                weight_decay=settings.weight_decay,
                max_grad_norm=settings.clip_norm,
                optim="adamw_torch_fused",
                lr_scheduler_type="cosine",
                warmup_steps=1,
                bf16=settings.precision == "bf16",
                fp16=settings.precision == "fp16",
                use_cpu=self.device == "cpu",
                torch_compile=self.is_compiled,
                logging_strategy="no",
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                dataloader_pin_memory=self.device == "cuda",
            )
            with contextlib.redirect_stdout(None):  # it prints its metrics
                done = Trainer(self.model, arguments, train_dataset=self.examples).train()
        return steps * settings.batch_size * len(self.examples[0]["input_ids"]) / done.metrics["train_runtime"]
