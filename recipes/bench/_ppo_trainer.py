"""One PPO trainer in a process of its own, for `recipes.bench ppo`: `trl`, or ours as `separate` or `shared`.

    python -m recipes.bench._ppo_trainer KIND PRESET PRECISION ORACLE FOLDER eager|compiled

Reads JSON lines: {"updates": n} trains n updates and answers with seconds by part; {"learn": n} trains a fresh policy for n updates and
answers with its (KL, reward) curve, measured by this project's own sampling and forward for either trainer.
"""

import copy
import json
import resource
import sys
import time
from collections import defaultdict
from typing import Any

from recipes.bench.ppo import ANSWER

EPISODES, PROMPT_TOKENS, RESPONSE_TOKENS, MICROBATCH, PASSES, KL_COEF, LEARNING_RATE = 64, 24, 32, 16, 4, 0.05, 3e-4
IS_BF16, IS_COMPILED = sys.argv[3:4] == ["bf16"], sys.argv[6:7] == ["compiled"]
SPECIAL = ("<pad>", "<bos>", "<eos>")
LOW, LOW_SHARE = 256, 1 / 8  # of the 2,048 words of llama-2m
LOW_STD = (LOW_SHARE * (1 - LOW_SHARE) / RESPONSE_TOKENS) ** 0.5


def make_tokenizer(n_vocabulary: int):
    """Words w3, w4, ... separated by spaces: ids to text and back without loss, so that every trainer scores the same answers."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {**{name: i for i, name in enumerate(SPECIAL)}, **{f"w{i}": i for i in range(len(SPECIAL), n_vocabulary)}}
    plain = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # No decoder: even an empty sequence of them joins words without spaces.
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    tokenizer.padding_side = "left"
    return tokenizer


def make_models(preset_name: str):
    """(policy, one-label classifier of its size), random and the same in every process."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from base_model.gpt import GPT, preset
    from base_model.hf import to_hf

    torch.manual_seed(0)
    policy = to_hf(GPT(preset(preset_name)))
    policy.config.pad_token_id, policy.config.bos_token_id, policy.config.eos_token_id = 0, 1, 2
    policy.generation_config.eos_token_id = 2
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    return policy.eval(), AutoModelForSequenceClassification.from_config(config).eval()


def make_prompts(n_vocabulary: int, count: int, seed: int) -> list[str]:
    """Random words; with the bos token each prompt has PROMPT_TOKENS tokens."""
    import numpy as np

    words = np.random.default_rng(seed).integers(len(SPECIAL), n_vocabulary, (count, PROMPT_TOKENS - 1))
    return [" ".join(f"w{word}" for word in row) for row in words]


def share_of_low_words(completions) -> list[float]:
    """Of each answer the share of words whose number is below LOW."""
    return [sum(int(word[1:]) < LOW for word in text.split()) / max(1, len(text.split())) for text in completions]


def low_words(prompts, completions, **columns) -> list[float]:
    """The reward that is learnt: that share in standard deviations (of answers of random words, an eighth of them low), so that KL_COEF
    does not drown it."""
    return [(share - LOW_SHARE) / LOW_STD for share in share_of_low_words(completions)]


class Clock:
    """Seconds by part, from functions that are wrapped to be timed."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = defaultdict(float)

    def timed(self, function, part):
        """The function with its time added to part(...) (a name, or a function of its arguments; None: not counted)."""

        def wrapped(*args, **kwargs):
            name = part(*args) if callable(part) else part
            began_s = time.perf_counter()
            result = function(*args, **kwargs)
            if name:
                self.parts[name] += time.perf_counter() - began_s
            return result

        return wrapped


class Ours:
    """This project's trainer."""

    def __init__(self, kind: str, preset_name: str, folder: str, reward: Any = None, updates: int = 10**6) -> None:
        from alignment import PPOConfig, PPOTrainer

        self.policy, classifier = make_models(preset_name)
        self.tokenizer = make_tokenizer(self.policy.config.vocab_size)
        rows = [{"prompt": text} for text in make_prompts(self.policy.config.vocab_size, 512, seed=1)]
        args = PPOConfig(
            folder, max_steps=updates, rollout_batch_size=EPISODES, max_completion_length=RESPONSE_TOKENS, kl_coef=KL_COEF,
            num_ppo_epochs=PASSES, num_mini_batches=1, per_device_train_batch_size=MICROBATCH, learning_rate=LEARNING_RATE,
            critic_learning_rate=LEARNING_RATE, critic=kind, critic_warmup_steps=0, bf16=IS_BF16, use_cpu=True, disable_tqdm=True,
            alarm_eos_rate=None, score_clip=None, torch_compile=IS_COMPILED,
        )  # fmt: skip
        self.trainer = PPOTrainer(
            self.policy, reward or classifier, args, rows, processing_class=self.tokenizer,
            reward_processing_classes=None if reward else self.tokenizer,
        )  # fmt: skip

    def run(self, updates: int) -> dict[str, float]:
        """Train some updates; returns seconds by part."""
        parts: dict[str, float] = defaultdict(float)
        for _ in range(updates):
            for name, value in self.trainer.step().items():
                if name.startswith("time/"):
                    parts[name.removeprefix("time/").removesuffix("_s")] += value
        return parts

    def learn(self, updates: int, look) -> None:
        """Train `updates` updates, calling look() after each."""
        for _ in range(updates):
            self.trainer.step()
            look()


class TRL:
    """TRL 1.12.0's trainer, from its unzipped wheel."""

    def __init__(self, preset_name: str, folder: str, reward: Any = None, updates: int = 2, look=None) -> None:
        import torch
        from datasets import Dataset
        from transformers import TrainerCallback
        from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

        self.policy, classifier = make_models(preset_name)
        self.tokenizer = make_tokenizer(self.policy.config.vocab_size)
        ids = [
            [1, *self.tokenizer(text).input_ids] for text in make_prompts(self.policy.config.vocab_size, 512, seed=1)
        ]
        self.args = PPOConfig(
            output_dir=folder, per_device_train_batch_size=MICROBATCH, gradient_accumulation_steps=EPISODES // MICROBATCH,
            num_mini_batches=1, num_ppo_epochs=PASSES, total_episodes=EPISODES * updates, response_length=RESPONSE_TOKENS,
            stop_token="eos", temperature=1.0, kl_coef=KL_COEF, learning_rate=LEARNING_RATE, missing_eos_penalty=1.0,
            adam_epsilon=1e-5, bf16=IS_BF16, gradient_checkpointing=False, use_cpu=True, report_to=[], save_strategy="no",
            disable_tqdm=True, torch_compile=IS_COMPILED, num_sample_generations=0,
            local_rollout_forward_batch_size=EPISODES, logging_steps=10**9,
        )  # fmt: skip

        class Look(TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                if look is not None:
                    look()

        self.clock = Clock()
        reward_model = reward or classifier
        self.trainer = PPOTrainer(
            args=self.args, processing_class=self.tokenizer, model=self.policy, ref_model=copy.deepcopy(self.policy),
            reward_model=reward_model, value_model=copy.deepcopy(classifier), train_dataset=Dataset.from_dict({"input_ids": ids}),
            callbacks=[Look()],
        )  # fmt: skip
        ppo_trainer.batch_generation = self.clock.timed(ppo_trainer.batch_generation, "rollout")
        ppo_trainer.get_reward = self.clock.timed(
            ppo_trainer.get_reward, lambda model, *_: "scoring" if model is reward_model else "forward"
        )
        ppo_trainer.forward = self.clock.timed(
            ppo_trainer.forward, lambda *_: None if torch.is_grad_enabled() else "forward"
        )

    def run(self, updates: int) -> dict[str, float]:
        """Train some updates (as many as it was built for); returns seconds by part, the rest being the update."""
        assert self.args.num_total_batches == updates
        self.clock.parts.clear()
        began_s = time.perf_counter()
        self.trainer.train()
        parts = dict(self.clock.parts)
        parts["update"] = time.perf_counter() - began_s - sum(parts.values())
        return parts


def low_words_module():
    """`low_words` as the module that TRL wants: its "hidden state" is the reward of the words from the prompt's end to there."""
    from types import SimpleNamespace

    import torch

    class Backbone(torch.nn.Module):
        def forward(self, input_ids, **_):
            is_low_BT = ((input_ids >= len(SPECIAL)) & (input_ids < LOW)).float()
            is_low_BT[:, :PROMPT_TOKENS] = 0
            places_T = torch.arange(input_ids.shape[1]) - PROMPT_TOKENS + 1
            share_BT = is_low_BT.cumsum(1) / places_T.clamp(min=1)
            return SimpleNamespace(hidden_states=[((share_BT - LOW_SHARE) / LOW_STD).unsqueeze(-1)])

    class Module(torch.nn.Module):
        base_model_prefix = "backbone"

        def __init__(self):
            super().__init__()
            self.backbone, self.score = Backbone(), torch.nn.Identity()

    return Module()


def yardstick(policy, tokenizer):
    """A function that measures (KL to the start in nats, reward) on 128 held-out prompts, 1 sample each, always the same numbers."""
    from alignment.ppo.actor_critic import ActorCritic, build_critic
    from alignment.ppo.rollout import measure_episodes, sample_responses
    from base_model.generate import SamplingConfig
    from base_model.sequence import masked_sum

    start = copy.deepcopy(policy).requires_grad_(False)
    ids = [[1, *tokenizer(text).input_ids] for text in make_prompts(policy.config.vocab_size, 128, seed=2)]
    sampling = SamplingConfig(RESPONSE_TOKENS, stop_token_ids=(2,))
    points: list[list[float]] = []

    def look() -> None:
        responses = sample_responses(policy, ids, sampling, pad_id=0, seed=5)
        module = ActorCritic(policy, build_critic(policy, "shared")[1], reference=start)
        rollout = measure_episodes(
            module,
            ids,
            responses,
            stop_token_ids=[2],
            pad_id=0,
            batch_size=64,
            context_tokens=64,
            device="cpu",
            want_value=False,
        )
        kl_B = masked_sum(rollout.logprob_BR - rollout.reference_BR, rollout.is_response_BR, dim=1)
        texts = tokenizer.batch_decode(responses, skip_special_tokens=True)
        points.append([kl_B.mean().item(), sum(share_of_low_words(texts)) / len(texts)])

    return points, look


def reply(answer: dict) -> None:
    """One line that the parent knows from the trainers' own output."""
    print(ANSWER + json.dumps(answer), flush=True)


def main() -> None:
    kind, preset_name, _, oracle, folder, _ = sys.argv[1:]
    if kind == "trl":
        sys.path.insert(0, oracle)
    trainer = None
    for line in sys.stdin:
        work = json.loads(line)
        if "learn" in work:
            reply({"curve": learn(kind, preset_name, folder, work["learn"])})
            continue
        updates = work["updates"]
        if trainer is None:
            trainer = TRL(preset_name, folder, updates=updates) if kind == "trl" else Ours(kind, preset_name, folder)
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        parts = trainer.run(updates)
        answer = {
            "seconds": time.perf_counter() - began_s,
            "cpu_seconds": time.process_time() - began_cpu_s,
            "parts": parts,
            "episodes": updates * EPISODES,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        reply(answer)


def learn(kind: str, preset_name: str, folder: str, updates: int) -> list[list[float]]:
    """The (KL, reward) curve of a fresh policy over some updates, its start included."""
    if kind == "trl":
        looks: list = []
        made = TRL(preset_name, folder, low_words_module(), updates, look=lambda: looks[0]())
        points, look = yardstick(made.policy, made.tokenizer)
        looks.append(look)
        look()
        made.trainer.train()
    else:
        made = Ours(kind, preset_name, folder, low_words, updates)
        points, look = yardstick(made.policy, made.tokenizer)
        look()
        made.learn(updates, look)
    return points


if __name__ == "__main__":
    main()
