"""Fine-tuning: our SFT, LoRA, reward model and DPO beside TRL's trainers as they come, in alternation.

    python -m recipes.bench finetuning [--precision fp32] [--no_packing] [--rounds 3] [--steps 20] [--only dpo reward_model]

Expect 1.5 times TRL's speed or more for the tiny pipeline's model and rows on a CPU. Both get the same random weights, the same rows in the
same order and the same arguments, ours from `make_trainer` of each stage, TRL's class with nothing but them. SFT is packed in both (TRL
lays a packed batch into one row, whose attention grows with its square), or padded in both. First both train in fp32, and a loss that
differs by more than 1e-4 at any step is an error. Then rounds of theirs run between rounds of ours, each from new trainers and without
its first steps, in which kernels are made.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from recipes.bench.timing import Timings, machine
from recipes.run.quiet import quiet_bars

STAGES = ("domain_sft", "lora_sft", "reward_model", "dpo")
LARGEST_DIFFERENCE = 1e-4  # of a step's loss, in fp32
UNCOUNTED_STEPS = 3
PROMPT_TOKENS, ANSWER_TOKENS = (12, 70), (5, 34)  # least and most, as in the tiny pipeline's pairs
ROW_TOKENS = 170  # of a packed row
VOCABULARY = 2048


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="recipes.bench finetuning", description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="llama-1m")
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "fp32"))
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps a round, at least 2")
    parser.add_argument("--check_steps", type=int, default=10, help="steps whose losses must be equal, at least 2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no_packing", action="store_true", help="SFT on padded rows of one conversation each")
    parser.add_argument("--only", nargs="+", default=STAGES, choices=STAGES)
    options = parser.parse_args(argv)

    from base_model.precision import find_device, find_precision

    quiet_bars()
    precision = find_precision(options.precision)
    print(machine(find_device().type))
    print(
        f"{options.preset}, {precision}, {options.steps} steps a round; losses of {options.check_steps} steps in fp32"
    )
    print(f"{'stage':14} {'ours ms':>8} {'TRL ms':>8} {'ratio':>6} {'difference of loss':>19}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.preset, packing=not options.no_packing)
        for stage in options.only:
            difference = bench.loss_difference(stage, options.check_steps)
            seconds: dict[str, list[float]] = {"ours": [], "TRL": []}
            for _ in range(options.rounds):
                for name, trainer in zip(seconds, bench.trainers(stage, precision, options.steps), strict=True):
                    seconds[name].append(seconds_a_step(trainer))
            timings = Timings(seconds)
            ours_ms, trl_ms = (1e3 * timings.median_s(name) for name in seconds)
            print(f"{stage:14} {ours_ms:8.0f} {trl_ms:8.0f} {timings.ratio('TRL', 'ours'):6.2f} {difference:19.1e}")


class Bench:
    """The rows, and pairs of trainers on them; everything is written below `folder`."""

    def __init__(self, folder: Path, preset_name: str, *, packing: bool) -> None:
        import torch

        from base_model.gpt import GPT, preset
        from base_model.hf import to_hf
        from recipes.bench._ppo_trainer import make_tokenizer

        self.folder, self.tokenizer, self.parent = folder, make_tokenizer(VOCABULARY), str(folder / "parent")
        torch.manual_seed(0)
        to_hf(GPT(preset(preset_name, vocab_size=VOCABULARY)), pad_token_id=0).save_pretrained(self.parent)
        self.chance, self.packing = random.Random(0), packing

    def words(self, least: int, most: int) -> list[int]:
        return self.chance.choices(range(10, VOCABULARY), k=self.chance.randint(least, most))

    def trainers(self, stage: str, precision: str, steps: int) -> tuple[Any, Any]:
        """(ours, TRL's) of a stage, alike in weights, rows and arguments, ready to train for so many steps."""
        self.chance.seed(1)
        out = tempfile.mkdtemp(dir=self.folder)
        settings = {"precision": precision, "logging_steps": 1, "trainer": {"disable_tqdm": True}}
        return getattr(self, stage)(out, settings, steps)

    def domain_sft(self, out: str, settings: dict, steps: int, adapter: Any = None):
        import torch
        from trl import SFTTrainer

        from sft.arrow import write_dataset
        from sft.examples import IGNORED
        from sft.lora import attach, load_parent
        from sft.packing import pack
        from sft.training import TrainingConfig, make_trainer

        def rows():
            for _ in range(60 * (steps + 1)):
                prompt, answer = self.words(*PROMPT_TOKENS), self.words(*ANSWER_TOKENS)
                learnt = prompt if adapter is None else [IGNORED] * len(prompt)
                yield {"input_ids": prompt + answer, "labels": learnt + answer}

        def model():
            torch.manual_seed(0)
            return load_parent(self.parent) if adapter is None else attach(load_parent(self.parent), adapter)

        dataset = write_dataset(rows, Path(out, "rows.arrow"))
        if self.packing:
            dataset = pack(dataset, Path(out, "packed.arrow"), row_tokens=ROW_TOKENS)
        size = 16 if adapter is None else 8
        config = TrainingConfig(**settings, per_device_train_batch_size=size, max_steps=steps)
        ours = make_trainer(model(), self.tokenizer, dataset, config, output_dir=out, seed=1)
        arguments = copy.copy(ours.args)
        arguments.padding_free = self.packing  # TRL's own way with packed rows
        return ours, SFTTrainer(model(), arguments, train_dataset=dataset, processing_class=self.tokenizer)

    def lora_sft(self, out: str, settings: dict, steps: int):
        from sft.lora import LoRAConfig

        adapter = LoRAConfig(lora_r=16, lora_alpha=32)
        return self.domain_sft(out, {**settings, "learning_rate": 5e-3}, steps, adapter)

    def pairs(self, count: int) -> list[dict]:
        def text(limits: tuple[int, int]) -> str:
            return " ".join(f"w{word}" for word in self.words(*limits))

        limits = {"prompt": PROMPT_TOKENS, "chosen": ANSWER_TOKENS, "rejected": ANSWER_TOKENS}
        return [{name: text(each) for name, each in limits.items()} for _ in range(count)]

    def reward_model(self, out: str, settings: dict, steps: int):
        from trl import RewardTrainer

        from reward.train import RewardTrainingConfig, load_for_reward, make_trainer

        config = RewardTrainingConfig(**settings, learning_rate=1.5e-3)
        model = load_for_reward(self.parent, 1)
        ours = make_trainer(model, self.tokenizer, self.pairs(32 * steps), config, output_dir=out, seed=1)
        model = load_for_reward(self.parent, 1)
        model.config.pad_token_id = self.tokenizer.pad_token_id
        return ours, RewardTrainer(model, ours.args, train_dataset=ours.train_dataset, processing_class=self.tokenizer)

    def dpo(self, out: str, settings: dict, steps: int):
        from trl import DPOTrainer

        from alignment.dpo import DPOTrainingConfig, make_trainer
        from sft.lora import load_parent

        class OnIds(DPOTrainer):
            """TRL's, on rows that are tokenised."""

            def _prepare_dataset(self, dataset, *arguments: Any):
                return dataset

        def model():
            return load_parent(self.parent)

        size = {"per_device_train_batch_size": 32}
        config = DPOTrainingConfig(**settings, **size, learning_rate=3e-4, sft_weight=2, beta=0.2)
        pairs = self.pairs(32 * steps)
        ours = make_trainer(model(), model(), self.tokenizer, pairs, config, output_dir=out, seed=1)
        rows = ours.train_dataset.remove_columns(["ref_chosen_logps", "ref_rejected_logps"])
        return ours, OnIds(model(), model(), ours.args, train_dataset=rows, processing_class=self.tokenizer)

    def loss_difference(self, stage: str, steps: int) -> float:
        """The largest difference of a step's loss in fp32. Raises ValueError where it is above LARGEST_DIFFERENCE."""
        losses = []
        for trainer in self.trainers(stage, "fp32", steps):
            seconds_a_step(trainer)
            losses.append([line["loss"] for line in trainer.state.log_history if "loss" in line])
        largest = max(abs(a - b) for a, b in zip(*losses, strict=True))
        if not largest <= LARGEST_DIFFERENCE:
            raise ValueError(f"{stage}: losses differ by {largest:.2g} from TRL's, more than {LARGEST_DIFFERENCE:g}")
        return largest


def seconds_a_step(trainer: Any) -> float:
    """Train, and the median seconds of a step, the first ones left out."""
    from transformers import TrainerCallback

    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *arguments: Any, **more: Any) -> None:
            times.append(time.perf_counter())

    trainer.add_callback(Clock())
    with contextlib.redirect_stdout(None):  # it prints its metrics
        trainer.train()
    ends = times[min(UNCOUNTED_STEPS, len(times) - 2) :]
    return statistics.median(end - start for start, end in itertools.pairwise(ends))
