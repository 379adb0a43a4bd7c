"""The reward model: a transformer with one scalar head, read at the last token of the answer, and the scale its scores are on.

It is an ordinary `AutoModelForSequenceClassification` checkpoint with one label. Two numbers in its config.json set the scale:
`reward_mean` and `reward_std`, of raw scores on reference samples; `RewardModel.score` returns (raw - reward_mean) / reward_std, so 0 is
an average answer and 1 is one standard deviation better (a model without the two scores raw). The head has no bias, and a Bradley-Terry
loss does not see one, so without this step the zero of the scores is arbitrary.

Legend: B rows, T tokens of prompt + answer + end token.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from base_model.chat import answer_text, render_prompt
from base_model.forks import processes_for, share_out
from base_model.loading import context_length, load_model
from base_model.precision import CPU_BATCH_TOKENS, find_device
from base_model.sequence import pad_right, position_ids
from base_model.stops import answer_end_id
from base_model.tokenizer import encode_texts, padding_id, with_padding
from reward.preferences import Prompt, prompt_key

BATCH_TOKENS = 16_384  # tokens of a padded batch on an accelerator; a batch of one row may hold more


def scoring_tokenizer(tokenizer: Any) -> Any:
    """A copy that pads with another token than the one that ends an answer (`base_model.tokenizer.padding_id`). For collating alone:
    where the padding token is an ordinary one, the copy no longer encodes it as text.

    Both the model and TRL read the score at the last token that is not padding; with pad == eos they would read it one token early.
    Raises ValueError for a tokenizer without an end token."""
    end = answer_end_id(tokenizer)
    if end is None:
        raise ValueError("the tokenizer has no end token (eos); an answer's score is read there, so give it one")
    return with_padding(tokenizer, padding_id(tokenizer, [end]))


def readers_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer to save with a reward model: one that pads as the model expects it, where a token is kept for such uses."""
    padded = scoring_tokenizer(tokenizer)
    return padded if padded.pad_token_id in tokenizer.added_tokens_decoder else tokenizer


def encode_answers(
    tokenizer: Any, prompts: Sequence[Prompt], completions: Sequence[str], *, max_length: int | None = None
) -> list[list[int]]:
    """Ids of prompt + answer + end (`base_model.stops.answer_end_id`), a row each; the same for training and for scoring.

    Prompts go through `base_model.chat.render_prompt`. Where messages went out in its PLAIN form the answer starts with a space.
    max_length: rows longer than this lose the oldest of their prompt's tokens, its first (bos) apart; an answer is never cut, so a row
    may still be too long. Raises ValueError if the lists differ in length or an answer is not text."""
    if len(prompts) != len(completions):
        raise ValueError(f"one completion a prompt: got {len(prompts)} prompts and {len(completions)} completions")
    for i, completion in enumerate(completions):
        if not isinstance(completion, str):
            raise ValueError(f"completion {i} must be text, got {type(completion).__name__}")
    rendered: dict[tuple, list[int]] = {}  # the k answers to a prompt share its ids
    keys = [(isinstance(prompt, str), prompt_key(prompt)) for prompt in prompts]
    for key, prompt in zip(keys, prompts, strict=True):
        if key not in rendered:
            rendered[key] = render_prompt(tokenizer, prompt)
    texts = [answer_text(tokenizer, *each) for each in zip(prompts, completions, strict=True)]
    rows, end = [], answer_end_id(tokenizer)
    for key, answer in zip(keys, encode_texts(tokenizer, texts), strict=True):
        ids = rendered[key]
        excess = 0 if max_length is None else len(ids) + len(answer) + 1 - max_length
        rows.append([*ids[:1], *ids[1 + max(0, excess) :], *answer, end])
    return rows


def padded_scores(model: Any, tokens_BT: Tensor, is_pad_BT: Tensor) -> Tensor:
    """Raw score of each row of a batch padded on either side, (B,) float32: the padding changes nothing (to 1e-5 in float32).

    Attention masks it, and positions count real tokens only. The head is read at each row's last token that is not the pad id."""
    logits_B1 = model(
        input_ids=tokens_BT,
        attention_mask=(~is_pad_BT).long(),
        position_ids=position_ids(is_pad_BT),
        use_cache=False,
    ).logits
    return logits_B1[:, 0].float()


@torch.inference_mode()
def score_rows(model: Any, rows: Sequence[Sequence[int]], pad_id: int, *, batch_tokens: int | None = None) -> Tensor:
    """Raw score of each row of ids, (len(rows),) float32 on the CPU, in the order given, whatever the batch size (to 1e-5).

    Rows are batched by length; batch_tokens None: what suits the device. Raises ValueError for a row longer than the model's context."""
    limit = context_length(model.config, unstated=2**31)
    for i, row in enumerate(rows):
        if len(row) > limit:
            raise ValueError(
                f"answer {i} is {len(row)} tokens long with its prompt; this reward model reads at most {limit}"
            )
    device = next(model.parameters()).device
    batch_tokens = batch_tokens or (CPU_BATCH_TOKENS if device.type == "cpu" else BATCH_TOKENS)
    scores = torch.empty(len(rows), dtype=torch.float32)
    was_training = model.training
    model.eval()
    batches = _batches_by_length(rows, batch_tokens)

    def score_batch(batch: list[int]) -> Tensor:
        with torch.inference_mode():
            return padded_scores(model, *pad_right([rows[i] for i in batch], pad_id, device=device)).cpu()

    made = share_out(score_batch, batches, processes_for(len(batches), device))
    for batch, scores_B in zip(batches, made, strict=True):
        scores[batch] = scores_B
    model.train(was_training)
    return scores


def _batches_by_length(rows: Sequence[Sequence[int]], batch_tokens: int) -> list[list[int]]:
    """Indices of rows, longest first, in batches of at most `batch_tokens` padded tokens (at least one row)."""
    batches: list[list[int]] = []
    for i in sorted(range(len(rows)), key=lambda i: -len(rows[i])):
        if batches and (len(batches[-1]) + 1) * len(rows[batches[-1][0]]) <= batch_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


@dataclass
class RewardModel:
    """A scalar-head model with its tokenizer and scale. `score` is a judge: judge(prompts, completions, **columns) -> list[float]."""

    model: Any
    tokenizer: Any
    mean: float = 0.0  # of raw scores on reference samples
    std: float = 1.0
    cut_to: int | None = (
        None  # tokens; longer rows lose the beginning of their prompt, as in training; None: they are refused
    )

    def __post_init__(self) -> None:
        end, pad = answer_end_id(self.tokenizer), self.model.config.get_text_config().pad_token_id
        if self.model.config.num_labels != 1:
            raise ValueError(f"a reward model has 1 label, this one has {self.model.config.num_labels}")
        if end is None or pad is None or pad == end:
            raise ValueError(
                f"the model pads with id {pad} and an answer ends with id {end}: the score would not be read at the answer's end token; "
                "set model.config.pad_token_id to another id"
            )
        if not self.std > 0:
            raise ValueError(f"reward_std must be > 0, got {self.std}")
        if self.tokenizer.pad_token_id not in (None, end, pad):
            raise ValueError(
                f"the model pads with id {pad}, its tokenizer with {self.tokenizer.pad_token_id}: "
                "the score would be read at the wrong token; set model.config.pad_token_id"
            )

    @staticmethod
    def check(folder: Path | str) -> Any:
        """The config of a checkpoint that can be a reward model; its weights are not read.

        Raises FileNotFoundError if it is not there, ValueError if it is not a one-label classification checkpoint."""
        from transformers import AutoConfig

        if not (Path(folder) / "config.json").is_file():
            raise FileNotFoundError(
                f"there is no reward model in {folder} (no config.json); train one with recipes.reward_model"
            )
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if not any("SequenceClassification" in name for name in config.architectures or []):
            raise ValueError(f"{folder} is a {config.architectures} checkpoint, not a reward model with a scalar head")
        if config.num_labels != 1:
            raise ValueError(f"{folder}: a reward model has 1 label, this one has {config.num_labels}")
        return config

    @classmethod
    def load(cls, folder: Path | str, device: Any = None) -> "RewardModel":
        """Read a checkpoint in float32. device None: an accelerator if there is one. Raises as `check` does."""
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        config = cls.check(folder)
        model = load_model(AutoModelForSequenceClassification, folder, dtype=torch.float32)
        model = model.to(device or find_device()).eval()
        return cls(
            model,
            AutoTokenizer.from_pretrained(folder, trust_remote_code=False),
            mean=getattr(config, "reward_mean", 0.0),
            std=getattr(config, "reward_std", 1.0),
            cut_to=getattr(config, "reward_cut_to", None),
        )

    def raw_scores(self, prompts: Sequence[Prompt], completions: Sequence[str], **options: Any) -> Tensor:
        """Scores as the head gives them, (N,) float32; options of `score_rows`."""
        rows = encode_answers(self.tokenizer, prompts, completions, max_length=self.cut_to)
        return score_rows(self.model, rows, self.model.config.get_text_config().pad_token_id, **options)

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str], **columns: Any) -> list[float]:
        """Centred score of each answer, (raw - mean) / std: in standard deviations of the reference samples. Columns are not used."""
        return ((self.raw_scores(prompts, completions) - self.mean) / self.std).tolist()

    def cut_long_prompts(self) -> None:
        """From now on a row that does not fit the model loses the beginning of its prompt and is not refused: an answer's text may be
        more tokens than were sampled."""
        if self.cut_to is None:
            self.cut_to = context_length(self.model.config, unstated=2**31)

    def centre(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> None:
        """Set mean and std from reference samples, here and (with cut_to) in the model's config, from where `load` reads them.

        Raises ValueError for fewer than 2 samples, or if all have one score: the model tells no answer from another."""
        raw = self.raw_scores(prompts, completions).tolist()
        if len(raw) < 2 or not statistics.stdev(raw) > 0:
            raise ValueError(f"{len(raw)} reference samples whose scores do not differ cannot set a scale")
        self.mean, self.std = statistics.fmean(raw), statistics.stdev(raw)
        self.model.config.update({"reward_mean": self.mean, "reward_std": self.std, "reward_cut_to": self.cut_to})


@dataclass
class RewardEnsemble:
    """Reward models of several seeds as one judge: their mean, and how far they disagree (an answer nobody trained on)."""

    members: list[RewardModel]

    @classmethod
    def load(cls, folders: Sequence[Path | str], device: Any = None) -> "RewardEnsemble":
        """Members from checkpoints. Raises ValueError for fewer than 2: one model has nobody to disagree with."""
        if len(folders) < 2:
            raise ValueError(f"an ensemble needs at least 2 reward models, got {len(folders)}")
        return cls([RewardModel.load(folder, device) for folder in folders])

    def member_scores(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[list[float]]:
        """Each member's centred scores, a list a member."""
        return [member.score(prompts, completions) for member in self.members]

    def score(self, prompts: Sequence[Prompt], completions: Sequence[str], **columns: Any) -> list[float]:
        """Mean of the members' centred scores."""
        return [statistics.fmean(scores) for scores in zip(*self.member_scores(prompts, completions), strict=True)]

    def disagreement(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
        """Standard deviation of the members' centred scores for each answer (n - 1 in the denominator)."""
        return [statistics.stdev(scores) for scores in zip(*self.member_scores(prompts, completions), strict=True)]
