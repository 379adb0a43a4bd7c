"""Preference pairs from a checkpoint's own answers, judged by whom you like.

    python -m recipes.preferences --config recipes/configs/tiny/preferences.yaml
    python -m recipes.preferences --config recipes/configs/tiny/preferences.yaml --judge person --prompts 20
    python -m recipes.preferences --config ... --judge runs/tiny/reward_model | tinytown_gold | https://host/v1#MODEL

Samples `answers` to each prompt, asks about `pairs_per_prompt` of their pairs, and writes train.jsonl and heldout.jsonl (TRL's prompt,
chosen, rejected; split by prompt). Every answer and verdict is on disk before the next is asked for: stop at any time, and the same
command with --resume goes on, to the same pairs. The tiny config makes about 6,600 pairs in 30 s on 2 cores.
"""

import random
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recipes.run.cli import command, parse
from recipes.run.finetune import DataConfig, load_tokenizer
from recipes.run.run import Run, RunConfig
from recipes.run.stage import Stage

STAGE = Stage("preferences", kind="preferences")


@dataclass(frozen=True)
class PreferencesConfig:
    """Whose answers, how many, and who judges them. `data` holds the prompts."""

    model: str = field(metadata={"help": "checkpoint that answers"})
    judge: str = field(
        metadata={
            "help": "tinytown_annotators, person, tinytown_gold, a reward model's folder, or https://host/v1#MODEL"
        }
    )
    prompts: int | None = None  # at most so many, drawn by the seed; None: all
    answers: int = 4  # sampled to each prompt
    pairs_per_prompt: int = 3  # questions asked of a prompt's answers
    fit_pairs_per_prompt: int = 0  # questions on a chosen answer beside one chosen for another prompt: train_fit.jsonl
    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    prompts_at_once: int = 32  # sampled together
    heldout_fraction: float = 0.15  # of the prompts
    annotator_noise: float = 0.15  # tinytown_annotators: gold difference at which 73 % agree
    annotator_length_bias: float = 0.3  # tinytown_annotators: log-odds for ten words more
    annotator_ties_below: float = 0.0  # tinytown_annotators: gold difference under which they call it a tie

    def __post_init__(self) -> None:
        for name in ("prompts", "pairs_per_prompt", "max_new_tokens", "temperature", "prompts_at_once"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.fit_pairs_per_prompt < 0:
            raise ValueError(f"fit_pairs_per_prompt must not be negative, got {self.fit_pairs_per_prompt}")
        if self.answers < 2:
            raise ValueError(f"answers must be at least 2 to make a pair, got {self.answers}")
        if not 0 <= self.heldout_fraction < 1:
            raise ValueError(f"heldout_fraction must be in [0, 1), got {self.heldout_fraction}")


CONFIG_TYPES = (RunConfig, PreferencesConfig, DataConfig)


def main(argv: list[str] | None = None) -> Path:
    """Run the stage; returns its folder."""
    run_config, config, data = parse(*CONFIG_TYPES, argv=argv)
    from reward.on_policy import ask_about, ask_about_fit
    from reward.preferences import split_by_prompt, write_preferences

    parents = [config.model, *([config.judge] if Path(config.judge, "config.json").is_file() else [])]
    run = Run.start(STAGE, run_config, (config, data), parents=parents, data=[data.data])
    with run.checking():
        rows = read_prompts(data, config, run_config.seed)
        check_judge(config.judge)
    answers = sample(run, config, rows)
    questions = [
        question
        for row, made in zip(rows, answers, strict=True)
        for question in ask_about(row, [answer["text"] for answer in made], config.pairs_per_prompt, run_config.seed)
    ]
    verdicts = judge(run, config, questions, "verdicts")
    counts: Counter[str] = Counter()
    train, heldout = split_by_prompt(sound_pairs(questions, verdicts, counts), config.heldout_fraction, run_config.seed)
    write_preferences(run.out / "train.jsonl", train)
    write_preferences(run.out / "heldout.jsonl", heldout)
    if config.fit_pairs_per_prompt:  # apart, since DPO does not want them: nobody's policy gives such answers
        fit_questions = ask_about_fit(train, config.fit_pairs_per_prompt, run_config.seed)
        fit = sound_pairs(fit_questions, judge(run, config, fit_questions, "fit_verdicts"), Counter())
        write_preferences(run.out / "train_fit.jsonl", fit)
        run.note("fit_pairs", len(fit))
    made = [answer for of_prompt in answers for answer in of_prompt]
    known = [verdict.probability for verdict in verdicts if verdict.probability is not None]
    run.note("counts", {"prompts": len(rows), "answers": len(made), "questions": len(questions), **counts})
    run.note("pairs", {"train": len(train), "heldout": len(heldout)})
    run.note("stopped_share", sum(answer["stopped"] for answer in made) / len(made))
    if known:  # what a perfect judge of these annotators would reach: it always says the likelier winner
        run.note("bayes_accuracy", sum(max(p, 1 - p) for p in known) / len(known))
    is_enough = bool(train) and (bool(heldout) or config.heldout_fraction == 0)
    run.check(
        "there are pairs to learn from",
        is_enough,
        f"{len(train)} for training, {len(heldout)} held out",
    )
    return run.finish()


def read_prompts(data: DataConfig, config: PreferencesConfig, seed: int) -> list[dict[str, Any]]:
    """Rows with a prompt, each prompt once, in the order drawn by the seed. Raises ValueError if there is none."""
    from base_model.chat import check_prompt
    from base_model.documents import read_rows
    from reward.preferences import prompt_key

    tokenizer = load_tokenizer(config.model)
    found = read_rows(
        data.source, ("prompt",), check=lambda fields: check_prompt(fields["prompt"], tokenizer=tokenizer)
    )
    rows = list({prompt_key(row.fields["prompt"]): row.fields for row in found}.values())
    if not rows:
        raise ValueError(f"{data.data} holds no prompts")
    random.Random(seed).shuffle(rows)
    return rows[: config.prompts]


def sample(run: Run, config: PreferencesConfig, rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Each prompt's answers, from the journal as far as it goes, then from the model."""
    from reward.journal import Journal

    journal = Journal(run.checkpoints / "answers.jsonl", total=len(rows), batch=config.prompts_at_once)
    if len(journal.entries) < len(rows):
        from transformers import AutoTokenizer

        from base_model.precision import find_device
        from reward.on_policy import sample_answers
        from sft.lora import load_parent

        model = load_parent(config.model).to(find_device()).eval()
        tokenizer = AutoTokenizer.from_pretrained(config.model, trust_remote_code=False)
        for start in range(len(journal.entries), len(rows), config.prompts_at_once):
            batch = [row["prompt"] for row in rows[start : start + config.prompts_at_once]]
            made = sample_answers(
                model,
                tokenizer,
                batch,
                config.answers,
                max_new_tokens=config.max_new_tokens,
                temperature=config.temperature,
                top_p=config.top_p,
                seed=run.config.seed + start,  # each batch has its own numbers, whichever process draws them
            )
            journal.append(made)
            run.log({"step": len(journal.entries), "prompts": len(rows), "phase": "sample"})
    return journal.entries


def judge(run: Run, config: PreferencesConfig, questions: list, name: str) -> list:
    """A verdict on each question, from the journal `name` as far as it goes, then from the judge."""
    from reward.journal import Journal
    from reward.on_policy import Verdict

    batch = 1 if config.judge == "person" else 64
    journal = Journal(run.checkpoints / f"{name}.jsonl", total=len(questions), batch=batch)
    if len(journal.entries) < len(questions):
        compare = comparer(config, run.config.seed, len(questions), len(journal.entries))
        for start in range(len(journal.entries), len(questions), batch):
            journal.append([asdict(verdict) for verdict in compare(questions[start : start + batch])])
        run.log({"step": len(journal.entries), "questions": len(questions), "phase": "judge"})
    return [Verdict(**entry) for entry in journal.entries]


def sound_pairs(questions: list, verdicts: list, counts: Counter[str]) -> list[dict[str, Any]]:
    """The pairs that the verdicts make, without ties and doubles, which are counted."""
    from reward.on_policy import to_preference
    from reward.preferences import check_pairs

    pairs = [to_preference(question, verdict) for question, verdict in zip(questions, verdicts, strict=True)]
    counts["ties"] += sum(pair is None for pair in pairs)
    return check_pairs([pair for pair in pairs if pair is not None], counts)


def check_judge(name: str) -> None:
    """Raise ValueError for a judge that is nowhere, before the model is asked for answers."""
    from recipes.judges.registry import check_judges

    if name not in ("person", "tinytown_annotators"):
        check_judges([name])


def comparer(config: PreferencesConfig, seed: int, total: int, answered: int):
    """The judge by name. Raises ValueError for a name that is nowhere."""
    if config.judge == "person":
        from recipes.judges.person import by_person

        return by_person(total, answered)
    if config.judge == "tinytown_annotators":
        from recipes.tinytown.annotators import Annotators

        return by_annotators(
            Annotators(config.annotator_noise, config.annotator_length_bias, config.annotator_ties_below, seed)
        )
    from recipes.judges.registry import resolve
    from reward.on_policy import by_score

    return by_score(resolve([config.judge])[config.judge])


def by_annotators(annotators):
    """Tinytown's simulated annotators: a winner with its probability, and no margin (an annotator does not say how sure she is)."""
    from reward.on_policy import Verdict

    def compare(questions):
        verdicts = []
        for question in questions:
            record = question.columns["record"]
            if annotators.is_tie(record, question.a, question.b):
                verdicts.append(Verdict(None))
                continue
            winner, probability_a = annotators.prefer(record, question.a, question.b)
            verdicts.append(Verdict(winner, probability=probability_a if winner == 0 else 1 - probability_a))
        return verdicts

    return compare


if __name__ == "__main__":
    command(main)
