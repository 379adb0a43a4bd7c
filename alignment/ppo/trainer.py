"""PPO for language models: `PPOTrainer`, with the interface of TRL's living trainers.

    trainer = PPOTrainer(model, reward_funcs=[score], args=PPOConfig("out"), train_dataset=prompts, processing_class=tokenizer)
    trainer.train()

One update: sample a batch of responses, score them, measure policy, reference and critic on them, shape rewards, estimate
advantages, then `num_ppo_epochs` passes of `num_mini_batches` optimizer steps. Everything random (which prompts, their
samples, the shuffles) is a function of the seed and the update's number, so a resumed run needs no luck.

Why this stands on accelerate alone and not on transformers.Trainer: Trainer's loop is one data loader, one optimizer, and a
step every `gradient_accumulation_steps` batches. PPO has a rollout between the steps, two optimizers with their own rates,
minibatches cut anew in every pass, and checkpoints that must fall between updates. The last PPO of TRL inherited Trainer and
replaced its loop; the settings that only the old loop read (max_grad_norm, the accumulation that `num_mini_batches` stood on,
saving and resuming) were then silently without effect. Here the whole loop is below and every field of PPOConfig acts. What is
worth keeping of Trainer is used from outside: its callbacks and their control flow, and its trackers.

Departures from Ziegler et al. 2019 (arXiv:1909.08593) and Huang et al. 2024 (arXiv:2403.17031): rewards are not whitened; the
loss is averaged over the tokens of an optimizer minibatch, not over microbatches; sampling and all log-probabilities share
one temperature; the critic's clip can be switched off.

Legend: B episodes of an update (all processes'), R response tokens, N response tokens packed, K reward functions.
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alignment.ppo import losses, returns
from alignment.ppo import state as training_state
from alignment.ppo.actor_critic import ActorCritic, build_critic, build_policy, is_peft, set_gradient_checkpointing
from alignment.ppo.alarms import Alarm, curve_alarms, gold_alarms
from alignment.ppo.config import PPOConfig
from alignment.ppo.distributed import full_weights, make_accelerator, own_shards
from alignment.ppo.inputs import build_judges, context_tokens, critic_start, load_model, room_tokens, special_ids
from alignment.ppo.progress_bar import ProgressLine
from alignment.ppo.prompts import PromptSet
from alignment.ppo.rollout import Rollout, by_length, gather_rollout, measure_episodes, pack, sample_responses
from alignment.ppo.scoring import build_rewards, score_all
from alignment.ppo.validation import evaluate_policy, write_samples
from base_model.generate import SamplingConfig
from base_model.optim import FUSED_DEVICES
from base_model.precision import keep_freed_memory
from base_model.sequence import masked_mean, masked_sum, masked_whiten
from sft.attention import ease_attention


class PPOTrainer:
    """Trains a causal language model to earn more of `reward_funcs`, at a price of `kl_coef` a nat of KL from where it began.

    model: a transformers causal LM, a PeftModel over one, or a path or hub name.
    reward_funcs: one or several of: f(prompts, completions, **columns) -> list[float]; a one-label sequence classifier; its
        folder. eval_judges: further such functions by name (a gold score), used by `evaluate` only, never trained on.
    train_dataset, eval_dataset: rows with a `prompt` column, text or messages; other columns go to the functions.
    peft_config: train an adapter; the reference is then the model without it. ref_model: another reference.
    value_model: what a separate critic starts from (None: the first reward model that shares the policy's tokens, else the
        policy's trunk).

    Raises ValueError at build time for every mistake in these that can be seen then."""

    def __init__(
        self,
        model: Any,
        reward_funcs: Any,
        args: PPOConfig,
        train_dataset: Any,
        eval_dataset: Any = None,
        processing_class: Any = None,
        reward_processing_classes: Any = None,
        callbacks: Sequence[Any] | None = None,
        peft_config: Any = None,
        ref_model: Any = None,
        value_model: Any = None,
        eval_judges: Mapping[str, Any] | None = None,
    ) -> None:
        keep_freed_memory()
        self.args = args
        self.callback_args = args.training_arguments()  # before the accelerator: making one resets accelerate's state
        self.accelerator = make_accelerator(args)
        args.check_processes(self.accelerator.num_processes)
        model, self.processing_class = load_model(model, processing_class)
        self.stop_token_ids, self.pad_id = special_ids(self.processing_class, args, model)
        self.sampling = SamplingConfig(
            max_new_tokens=args.max_completion_length,
            temperature=args.temperature,
            stop_token_ids=tuple(self.stop_token_ids),
        )
        device = self.accelerator.device
        self.rewards = build_rewards(reward_funcs, args.reward_weights, reward_processing_classes, device)
        self.judges = build_judges(eval_judges, device)
        prompt_limits = {"room_tokens": room_tokens(model, args), "overlong": args.overlong_prompts}
        self.prompts = PromptSet(train_dataset, self.processing_class, name="train_dataset", **prompt_limits)
        self.eval_prompts = None
        if eval_dataset is not None:
            self.eval_prompts = PromptSet(eval_dataset, self.processing_class, name="eval_dataset", **prompt_limits)
        elif args.eval_strategy != "no":
            raise ValueError(
                f"eval_strategy is {args.eval_strategy!r} but there is no eval_dataset; give one, or set it to 'no'"
            )

        if args.critic == "separate" and value_model is None:
            value_model = critic_start(self.rewards, model)
        critic, value_head = build_critic(model, args.critic, value_model)
        policy, reference = build_policy(model, peft_config, ref_model)
        self.policy_class = type(policy)
        self.module = ActorCritic(policy, value_head, reference=reference, critic=critic, temperature=args.temperature)
        for parameter in self.module.parameters():
            if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
                parameter.data = parameter.data.float()  # Adam's small steps would be rounded away
        if args.gradient_checkpointing:
            set_gradient_checkpointing(self.module)
        readers = [each for each in (policy, self.module.reference, critic) if each is not None]
        bases = [each.get_base_model() if is_peft(each) else each for each in readers]
        self.context_tokens = min(context_tokens(base) for base in bases)
        for base in bases:
            ease_attention(base, self.accelerator.mixed_precision)
        if args.torch_compile:
            self.module.compile_parts([base.base_model for base in bases], on_cpu=device.type == "cpu")
        self.fingerprint = training_state.frozen_fingerprint(self.module)
        self.wrapped, self.policy_optimizer, self.critic_optimizer = self._prepare()
        self.kl_coef = args.kl_coef
        self.alarms: list[Alarm] = []
        self.evaluations: list[dict[str, Any]] = []
        self._begin_callbacks(callbacks)

    def _prepare(self):
        args = self.args
        adam = {
            "betas": (args.adam_beta1, args.adam_beta2),
            "eps": args.adam_epsilon,
            "weight_decay": args.weight_decay,
            "fused": self.accelerator.device.type in FUSED_DEVICES,
        }
        critic_lr = 3 * args.learning_rate if args.critic_learning_rate is None else args.critic_learning_rate
        return self.accelerator.prepare(
            self.module,
            torch.optim.AdamW(self.module.policy_parameters(), lr=args.learning_rate, **adam),
            torch.optim.AdamW(self.module.critic_parameters(), lr=critic_lr, **adam),
        )

    def _begin_callbacks(self, callbacks: Sequence[Any] | None) -> None:
        from transformers import TrainerControl, TrainerState
        from transformers.integrations import get_reporting_integration_callbacks
        from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback

        own = [DefaultFlowCallback] + ([] if self.args.disable_tqdm else [ProgressLine])
        trackers = get_reporting_integration_callbacks(list(self.args.report_to))
        self.callbacks = CallbackHandler(
            [*own, *trackers, *(callbacks or [])], self.policy, self.processing_class, self.policy_optimizer, None
        )
        is_main = self.accelerator.is_main_process
        self.state = TrainerState(
            is_world_process_zero=is_main, is_local_process_zero=self.accelerator.is_local_main_process
        )
        self.state.compute_steps(self.callback_args, self.args.max_steps)
        self.state.max_steps = self.args.max_steps
        self.control = TrainerControl()
        self._call("on_init_end")

    @property
    def policy(self):
        """The model that trains: a causal LM, or the PeftModel over one."""
        return self.module.policy

    def full_weights(self):
        """A context in which this process holds every weight whole (FSDP gathers them)."""
        return full_weights(self.wrapped)

    def _call(self, event: str, **details: Any) -> None:
        self.control = getattr(self.callbacks, event)(self.callback_args, self.state, self.control, **details)

    # ------------------------------------------------------------------------------------------------- the loop

    def train(self, resume_from_checkpoint: str | Path | bool | None = None) -> dict[str, float]:
        """Train to max_steps; returns the last update's metrics.

        resume_from_checkpoint: a checkpoint folder, or True: the newest whole one below output_dir. Raises ValueError if it
        is damaged, was made with other settings or another model, or (True) there is none."""
        if resume_from_checkpoint:
            training_state.resume(self, resume_from_checkpoint)
        self._call("on_train_begin")
        if self.alarms and self.args.alarm_action == "stop":  # the checkpoint is of the update that was the last
            self.control.should_training_stop = True
        if self.state.global_step == 0 and self.args.eval_strategy == "steps" and self.args.eval_on_start:
            self.evaluate()
        metrics: dict[str, float] = {}
        while self.state.global_step < self.args.max_steps and not self.control.should_training_stop:
            self._call("on_step_begin")
            metrics = self.step()
            self._call("on_step_end")
            if self.control.should_log:
                self.log(metrics)
            if self.control.should_evaluate:
                self.evaluate()
            if self.control.should_save:
                self.save_checkpoint()
        self._call("on_train_end")
        return metrics

    def step(self) -> dict[str, float]:
        """One update: rollout, scores, advantages, optimizer steps. Returns its metrics; global_step counts it."""
        clock = _Clock()
        step = self.state.global_step
        rollout = self.rollout(step, clock)
        prepared, metrics = self.advantages(rollout)
        metrics |= self.update(rollout, *prepared, step=step)
        clock.lap("update")
        if self.args.kl_target is not None:
            self.kl_coef = returns.adapted_kl_coef(
                self.kl_coef,
                metrics["objective/kl_nats"],
                target_nats=self.args.kl_target,
                episodes=self.args.rollout_batch_size,
                horizon=self.args.kl_horizon,
            )
        self.state.global_step = step + 1
        self.state.num_input_tokens_seen += int(rollout.tokens_B.sum())
        self.state.epoch = self.state.global_step * self.args.rollout_batch_size / len(self.prompts)
        seconds = sum(clock.seconds.values())
        metrics["throughput/tokens_per_s"] = rollout.response_tokens_B.sum().item() / seconds
        metrics["throughput/episodes_per_s"] = self.args.rollout_batch_size / seconds
        return metrics | {f"time/{part}_s": value for part, value in clock.seconds.items()}

    def rollout(self, step: int, clock: "_Clock | None" = None) -> Rollout:
        """The finished episodes of update `step`, those of every process on every process."""
        clock = clock or _Clock()
        args, accelerator = self.args, self.accelerator
        n_local = args.rollout_batch_size // accelerator.num_processes
        first_row = accelerator.process_index * n_local
        places = self.prompts.places(step * args.rollout_batch_size + first_row, n_local, args.seed)
        batch = self.prompts.batch(places)
        with self.full_weights():
            responses = sample_responses(
                self.policy, batch.ids, self.sampling, pad_id=self.pad_id,
                seed=mixed_seed(args.seed, step), first_row=first_row, batch_size=args.generation_batch_size,
            )  # fmt: skip
        clock.lap("rollout")
        completions = self.processing_class.batch_decode(responses, skip_special_tokens=True)
        score_BK = score_all(self.rewards, batch.prompts, completions, batch.columns, autocast=accelerator.autocast)
        clock.lap("scoring")
        rollout = measure_episodes(
            self.wrapped, batch.ids, responses, stop_token_ids=self.stop_token_ids, pad_id=self.pad_id,
            batch_size=args.per_device_train_batch_size, context_tokens=self.context_tokens, device=accelerator.device,
        )  # fmt: skip
        rollout.score_BK = score_BK.to(accelerator.device)
        rollout = gather_rollout(rollout, accelerator)
        clock.lap("forward")
        return rollout

    def advantages(self, rollout: Rollout) -> tuple[tuple[Tensor, Tensor], dict[str, float]]:
        """((advantage_BR as the policy loss takes it, target_BR of the critic), metrics of the batch)."""
        args, is_response_BR = self.args, rollout.is_response_BR
        weight_K = torch.tensor([reward.weight for reward in self.rewards], device=rollout.score_BK.device)
        score_B = returns.combine_scores(
            rollout.score_BK, weight_K, rollout.is_stopped_B,
            missing_eos_penalty=args.missing_eos_penalty, clip=args.score_clip,
        )  # fmt: skip
        reward_BR = returns.shaped_rewards(
            score_B, rollout.logprob_BR, rollout.reference_BR, is_response_BR, kl_coef=self.kl_coef
        )
        if args.whiten_rewards:
            mean = masked_mean(reward_BR, is_response_BR)
            reward_BR = (masked_whiten(reward_BR, is_response_BR) + mean).masked_fill(~is_response_BR, 0)
        advantage_BR = returns.gae(reward_BR, rollout.value_BR, is_response_BR, gamma=args.gamma, lam=args.lam)
        target_BR = advantage_BR + rollout.value_BR
        if args.whiten_advantages:
            advantage_BR = masked_whiten(advantage_BR, is_response_BR)
        kl_BR = losses.kl_k1(rollout.logprob_BR, rollout.reference_BR)
        value_N, target_N = rollout.value_BR[is_response_BR], target_BR[is_response_BR]
        metrics = {
            "objective/score": (rollout.score_BK @ weight_K).mean().item(),
            "objective/kl_nats": masked_sum(kl_BR, is_response_BR, dim=1).mean().item(),
            "objective/kl_coef": self.kl_coef,
            "objective/shaped_reward": masked_sum(reward_BR, is_response_BR, dim=1).mean().item(),
            "objective/entropy_nats": masked_mean(rollout.entropy_BR, is_response_BR).item(),
            "value/explained_variance": losses.explained_variance(value_N, target_N),
            "rollout/length_tokens": rollout.response_tokens_B.float().mean().item(),
            "rollout/eos_rate": rollout.is_stopped_B.float().mean().item(),
        }
        for reward, score_B in zip(self.rewards, rollout.score_BK.T, strict=True):
            metrics[f"reward/{reward.name}"] = score_B.mean().item()
        return (advantage_BR, target_BR), metrics

    def update(self, rollout: Rollout, advantage_BR: Tensor, target_BR: Tensor, *, step: int) -> dict[str, float]:
        """num_ppo_epochs passes of num_mini_batches optimizer steps over the episodes; returns their mean metrics."""
        args = self.args
        self._set_learning_rates(step)
        totals, norms, optimizer_steps = [], [], 0
        for epoch in range(args.num_ppo_epochs):
            generator = torch.Generator().manual_seed(mixed_seed(args.seed, step, epoch + 1))
            order = torch.randperm(args.rollout_batch_size, generator=generator)
            epoch_totals = []
            for rows in order.chunk(args.num_mini_batches):
                sums, norm = self.optimizer_step(
                    rollout, advantage_BR, target_BR, rows, is_warmup=step < args.critic_warmup_steps
                )
                epoch_totals.append(sums)
                norms.append(norm)
                optimizer_steps += 1
            totals.append(self.accelerator.reduce(torch.stack(epoch_totals).sum(0), reduction="sum"))
            if args.max_approx_kl is not None and (totals[-1][2] / totals[-1][4]).item() > args.max_approx_kl:
                break
        policy_loss, value_loss, approx_kl, clipped, tokens = torch.stack(totals).sum(0).tolist()
        policy_norm, critic_norm = torch.stack(norms).mean(0).tolist()
        metrics = {
            "policy/loss": policy_loss / tokens,
            "policy/approx_kl": approx_kl / tokens,
            "policy/clip_fraction": clipped / tokens,
            "policy/grad_norm": policy_norm,
            "policy/learning_rate": self.policy_optimizer.param_groups[0]["lr"],
            "policy/optimizer_steps": optimizer_steps,
            "value/loss": value_loss / tokens,
            "value/grad_norm": critic_norm,
        }
        broken = [
            name for name in ("policy/loss", "value/loss", "policy/grad_norm") if not math.isfinite(metrics[name])
        ]
        if broken:
            raise ValueError(
                f"{broken[0]} is {metrics[broken[0]]} in update {step + 1}: stopped; lower the learning rate"
            )
        return metrics

    def optimizer_step(
        self, rollout: Rollout, advantage_BR: Tensor, target_BR: Tensor, rows: Tensor, *, is_warmup: bool = False
    ) -> tuple[Tensor, Tensor]:
        """One step on the episodes `rows` (all processes'): the gradient of sum over their tokens / number of their tokens.

        Returns this process's sums (policy loss, value loss, approx KL, clipped, tokens) and the two gradient norms."""
        accelerator = self.accelerator
        world, rank = accelerator.num_processes, accelerator.process_index
        tokens_B = rollout.tokens_B.tolist()
        mine = sorted(rows.tolist(), key=lambda row: tokens_B[row])[rank::world]
        n_tokens = rollout.response_tokens_B[rows.to(rollout.tokens_BT.device)].sum()
        batches = by_length([tokens_B[row] for row in mine], self.args.per_device_train_batch_size)
        sums = torch.zeros(5, device=accelerator.device)
        for i, batch in enumerate(batches):
            is_last = i == len(batches) - 1
            with nullcontext() if is_last else accelerator.no_sync(self.wrapped):
                index = torch.tensor([mine[j] for j in batch], device=accelerator.device)
                loss, batch_sums = self.loss(rollout, advantage_BR, target_BR, index, is_warmup=is_warmup)
                accelerator.backward(loss * (world / n_tokens))  # processes average their gradients; this undoes it
            sums += batch_sums
        norms = []
        for optimizer in (self.policy_optimizer, self.critic_optimizer):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            norm = accelerator.clip_grad_norm_(parameters, self.args.max_grad_norm)
            norms.append(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
            if optimizer is self.critic_optimizer or not is_warmup:
                optimizer.step()
            optimizer.zero_grad()
        return sums, torch.stack(norms).detach()

    def loss(
        self, rollout: Rollout, advantage_BR: Tensor, target_BR: Tensor, index: Tensor, *, is_warmup: bool = False
    ) -> tuple[Tensor, Tensor]:
        """(loss summed over the tokens of the episodes `index`, its parts as `optimizer_step` returns them)."""
        args = self.args
        packed = pack(rollout.tokens_BT[index], rollout.prompt_tokens_B[index], rollout.response_tokens_B[index])
        is_response_BR = packed.is_response_BR
        old_N, advantage_N, old_value_N, target_N = (
            values_BR[index, : is_response_BR.shape[1]][is_response_BR]
            for values_BR in (rollout.logprob_BR, advantage_BR, rollout.value_BR, target_BR)
        )
        out = self.wrapped(packed.tokens_BT, packed.place_N, packed.target_N, value_trains_trunk=not is_warmup)
        log_ratio_N = losses.log_ratio(out.logprob_N, old_N)
        policy_N, is_clipped_N = losses.policy_loss(log_ratio_N, advantage_N, cliprange=args.cliprange)
        value_N = losses.value_loss(out.value_N, old_value_N, target_N, cliprange=args.cliprange_value)
        # In a critic-only update the policy's gradient is 0, not absent: DDP waits for one of every parameter.
        loss = (0.0 if is_warmup else 1.0) * policy_N.sum() + args.vf_coef * value_N.sum()
        approx_kl_N = losses.approx_kl(log_ratio_N.detach())
        parts = (policy_N.detach(), value_N.detach(), approx_kl_N, is_clipped_N, torch.ones_like(policy_N))
        return loss, torch.stack([part.sum().float() for part in parts])

    def _set_learning_rates(self, step: int) -> None:
        args = self.args
        critic = 3 * args.learning_rate if args.critic_learning_rate is None else args.critic_learning_rate
        for optimizer, peak in ((self.policy_optimizer, args.learning_rate), (self.critic_optimizer, critic)):
            for group in optimizer.param_groups:
                group["lr"] = peak * args.lr_factor(step)

    # ---------------------------------------------------------------------------------- watching, keeping, ending

    def log(self, metrics: Mapping[str, float]) -> None:
        """Metrics to the log history, the callbacks and trackers; alarms that they raise are added under "alarms"."""
        row = {**metrics, "step": self.state.global_step}
        raised = curve_alarms([*self.state.log_history, row], self.args)
        row.pop("step")
        self._publish(row, raised)

    def _publish(self, metrics: dict[str, Any], raised: list[Alarm]) -> None:
        if raised:
            metrics["alarms"] = ", ".join(alarm.name for alarm in raised)
            self.alarms += raised
            if self.args.alarm_action == "stop":
                self.control.should_training_stop = True
        self.state.log_history.append({**metrics, "step": self.state.global_step})
        self._call("on_log", logs=dict(metrics))

    def evaluate(self, eval_dataset: Any = None) -> dict[str, float]:
        """The policy on held-out prompts (None: those given at build time); returns and logs metrics named eval/...

        The first `num_eval_samples` responses are kept in output_dir/samples. Raises ValueError without prompts."""
        prompts = self.eval_prompts
        if eval_dataset is not None:
            limits = {"room_tokens": room_tokens(self.policy, self.args), "overlong": self.args.overlong_prompts}
            prompts = PromptSet(eval_dataset, self.processing_class, name="eval_dataset", **limits)
        if prompts is None:
            raise ValueError("there are no held-out prompts to evaluate on; pass eval_dataset")
        metrics, rows = evaluate_policy(self, prompts, mixed_seed(self.args.seed, -1))
        judged = {judge.name: [row[judge.name] for row in rows] for judge in self.judges}
        seen = {"step": self.state.global_step, "score": metrics["eval/score"], "kl_nats": metrics["eval/kl_nats"]}
        self.evaluations.append({**seen, "judges": judged})
        if self.accelerator.is_main_process:
            write_samples(
                Path(self.args.output_dir) / "samples", self.state.global_step, rows[: self.args.num_eval_samples]
            )
        self._publish(dict(metrics), gold_alarms(self.evaluations, self.args))
        self._call("on_evaluate", metrics=metrics)
        return metrics

    def save_checkpoint(self) -> Path:
        """Write output_dir/checkpoint-<step>, whole or not at all, and drop the oldest beyond save_total_limit."""
        folder = training_state.save(self)
        self._call("on_save")
        return folder

    def whole_policy(self) -> tuple[Any, dict[str, Tensor] | None]:
        """(the policy, None); where FSDP has split it (every process must call), its weights put together on the main process:
        (a whole model, None), or for an adapter (the PeftModel, its full state dict)."""
        if not self.accelerator.is_fsdp2:
            return self.policy, None
        own_shards(self.wrapped)
        state = self.accelerator.get_state_dict(self.wrapped)
        weights = {name.removeprefix("policy."): tensor for name, tensor in state.items() if name.startswith("policy.")}
        if is_peft(self.policy) or not self.accelerator.is_main_process:
            return self.policy, weights
        whole = self.policy_class(self.policy.config)  # fully_shard changes the class of what it splits
        whole.load_state_dict(weights, strict=False)  # a tied head has no entry of its own
        return whole, None

    def save_model(self, output_dir: str | Path | None = None) -> None:
        """The policy (an adapter, for a PeftModel) and its tokenizer as a Hugging Face checkpoint."""
        model, weights = self.whole_policy()
        if self.accelerator.is_main_process:
            model.save_pretrained(output_dir or self.args.output_dir, state_dict=weights)
            self.processing_class.save_pretrained(output_dir or self.args.output_dir)
        self.accelerator.wait_for_everyone()


def mixed_seed(*numbers: int) -> int:
    """One 63-bit seed from several integers; near inputs give unrelated seeds (splitmix64, Steele et al. 2014)."""
    mask, state = 2**64 - 1, 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state >> 1


class _Clock:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last_s = time.perf_counter()

    def lap(self, part: str) -> None:
        """Everything since the last lap belongs to `part`."""
        now_s = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now_s - self._last_s
        self._last_s = now_s
