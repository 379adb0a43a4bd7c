"""PPO's settings. Names are those of TRL's and transformers' configs where the meaning is the same; every field here acts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import TrainingArguments


def _words(text: str) -> list[str]:
    return text.split()


RESUMABLE_CHANGES = frozenset(  # settings that a resumed run may change: they do not touch what is learnt
    _words(
        "output_dir report_to run_name logging_steps disable_tqdm eval_strategy eval_steps eval_on_start "
        "num_eval_samples save_strategy save_steps save_total_limit resume overwrite evaluation"
    )
)
POSITIVE = _words(
    "max_steps rollout_batch_size max_completion_length num_ppo_epochs num_mini_batches per_device_train_batch_size "
    "logging_steps eval_steps save_steps kl_horizon temperature learning_rate max_grad_norm adam_epsilon"
)
NOT_NEGATIVE = _words("kl_coef vf_coef missing_eos_penalty weight_decay warmup_steps critic_warmup_steps seed")
POSITIVE_OR_OFF = _words(
    "score_clip kl_target cliprange_value max_approx_kl critic_learning_rate generation_batch_size "
    "alarm_kl_nats alarm_entropy_fraction alarm_length_factor alarm_eos_rate alarm_gold_drop_se"
)
TOLD_TO_CALLBACKS = _words(
    "output_dir seed max_steps logging_steps report_to run_name disable_tqdm eval_strategy eval_steps use_cpu "
    "save_strategy save_steps save_total_limit learning_rate max_grad_norm weight_decay per_device_train_batch_size"
)


@dataclass(frozen=True)
class PPOConfig:
    """Everything that PPO does by number. A step is one update: a rollout batch and the optimizer steps made from it."""

    output_dir: str  # checkpoint-<step> folders and samples go below it
    seed: int = 1
    max_steps: int = 100  # updates

    # Rollout
    rollout_batch_size: int = 128  # episodes an update, over all processes
    max_completion_length: int = 64  # tokens, the end token included
    temperature: float = 1.0  # of sampling AND of every log-probability
    stop_token_ids: list[int] | None = None  # None: all that end an answer (base_model/stops.py)
    generation_batch_size: int | None = None  # episodes generated at once on a process; None: all of them
    overlong_prompts: Literal["error", "skip"] = "error"  # what to do with prompts that leave no room for an answer

    # Reward
    reward_weights: list[float] | None = None  # one a reward function; None: 1 each
    score_clip: float | None = 10.0  # scores are kept in +-this; None: no clip
    missing_eos_penalty: float = 1.0  # taken off the score of an episode that did not end itself
    kl_coef: float = 0.05  # reward units a nat
    kl_target: float | None = None  # nats an episode; not None: kl_coef adapts, which moves the objective
    kl_horizon: int = 10_000  # episodes over which the adaptive coefficient corrects
    whiten_rewards: bool = False  # changes the objective

    # Advantages and the critic
    gamma: float = 1.0
    lam: float = 0.95
    whiten_advantages: bool = True  # over the whole rollout batch, across processes
    critic: Literal["shared", "separate"] = "shared"  # a value head on the policy's trunk, or a model of its own
    critic_learning_rate: float | None = None  # None: 3 x learning_rate
    critic_warmup_steps: int = 5  # first updates, in which only the critic learns
    vf_coef: float = 0.1
    cliprange_value: float | None = 0.2  # reward units; None: no clip

    # Update
    num_ppo_epochs: int = 4  # passes over a rollout batch
    num_mini_batches: int = 4  # optimizer steps a pass
    per_device_train_batch_size: int = 32  # episodes in one forward and backward pass
    cliprange: float = 0.2  # ratio kept in [1-c, 1+c]
    max_approx_kl: float | None = None  # nats a token; a pass that ends above it is the update's last
    learning_rate: float = 3e-6
    lr_scheduler_type: Literal["linear", "constant"] = "linear"  # to 0 at max_steps
    warmup_steps: int = 0  # updates
    max_grad_norm: float = 1.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-5
    weight_decay: float = 0.0

    # Machine
    bf16: bool | None = None  # None: where the device computes in it fast
    use_cpu: bool = False
    gradient_checkpointing: bool = False
    torch_compile: bool = False  # in the first update: 20 s or more, worth it where hundreds follow

    # Watching and keeping
    logging_steps: int = 1
    report_to: list[str] = field(default_factory=list)  # trackers, e.g. tensorboard
    run_name: str | None = None
    disable_tqdm: bool = False
    eval_strategy: Literal["no", "steps"] = "no"
    eval_steps: int = 20
    eval_on_start: bool = True  # with eval_strategy steps: measure step 0 as well
    num_eval_samples: int = 8  # episodes of each evaluation kept as text, the same prompts each time
    save_strategy: Literal["no", "steps"] = "no"
    save_steps: int = 20
    save_total_limit: int = 2  # newest checkpoints kept

    # Alarms: shown in the progress line, the log and `trainer.alarms`
    alarm_action: Literal["warn", "stop"] = "warn"
    alarm_kl_nats: float | None = 50.0  # objective/kl_nats above it: the policy runs away
    alarm_entropy_fraction: float | None = 0.2  # of the first updates' entropy: below it the policy collapses
    alarm_length_factor: float | None = 2.0  # mean length above this many times the first updates', or below 1/this
    alarm_eos_rate: float | None = 0.5  # fewer episodes than this share end themselves
    alarm_gold_drop_se: float | None = (
        2.0  # eval judge below its first value by this many standard errors as the score rises
    )

    def __post_init__(self) -> None:
        for name in POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        for name in NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        for name in POSITIVE_OR_OFF:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be > 0 or null (off), got {value}")
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if not 0 < self.cliprange < 1:
            raise ValueError(f"cliprange must be in (0, 1), got {self.cliprange}")
        if self.save_strategy == "steps" and self.save_total_limit < 2:
            raise ValueError(
                f"save_total_limit must be >= 2, got {self.save_total_limit}: "
                "one checkpoint is kept to fall back on when the newest is damaged"
            )
        if self.rollout_batch_size % self.num_mini_batches:
            raise ValueError(
                f"rollout_batch_size {self.rollout_batch_size} does not divide by num_mini_batches "
                f"{self.num_mini_batches}: every optimizer step must see as many episodes"
            )

    def check_processes(self, processes: int) -> None:
        """Raise ValueError unless each optimizer minibatch deals evenly to this many processes."""
        minibatch = self.rollout_batch_size // self.num_mini_batches
        if minibatch % processes:
            raise ValueError(
                f"a minibatch has {minibatch} episodes (rollout_batch_size {self.rollout_batch_size} / num_mini_batches "
                f"{self.num_mini_batches}), which does not divide by {processes} processes"
            )

    def lr_factor(self, step: int) -> float:
        """Share of the peak learning rate in update `step` (from 0): linear warm-up, then linear to 0 at max_steps, or 1."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        return 1 - step / self.max_steps if self.lr_scheduler_type == "linear" else 1.0

    def training_arguments(self) -> TrainingArguments:
        """What transformers' callbacks and trackers ask a trainer for; the training itself never reads it."""
        from transformers import TrainingArguments

        return TrainingArguments(**{name: getattr(self, name) for name in TOLD_TO_CALLBACKS})
