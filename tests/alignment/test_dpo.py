"""DPO against arithmetic done by hand in float64, and against the optimum known by enumeration."""

import copy
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from alignment.dpo import (
    DPOTrainingConfig,
    answer_logprobs,
    check_start,
    displacement_watch,
    make_trainer,
    margins_nats,
    preference_rows,
)
from sft.lora import LoRAConfig
from tests.conftest import random_model
from tests.processes import together

PAIRS = [
    {"prompt": "The dog will not", "chosen": " eat its food", "rejected": " go"},
    {"prompt": "When it rains the", "chosen": " children wait", "rejected": " old sailor sings by the harbour"},
    {"prompt": "Please write", "chosen": " a short note to the doctor", "rejected": " no"},
    {"prompt": "I do not", "chosen": " know", "rejected": " know what colour the gate was painted"},
]


@pytest.fixture
def quiet(tmp_path):
    """Settings of a small float32 training in one batch a step."""

    def settings(**changes):
        return DPOTrainingConfig(
            **{
                "per_device_train_batch_size": 4,
                "num_train_epochs": 2,
                "precision": "fp32",
                "warmup_steps": 0,
                **changes,
            }
        )

    return settings


def trainer_of(tokenizer, config, folder, *, model=None, reference=None, **options):
    model = model or random_model("llama", len(tokenizer))
    if reference is None and "lora" not in options:
        reference = random_model("llama", len(tokenizer))
    return make_trainer(model, reference, tokenizer, PAIRS, config, output_dir=folder, seed=1, **options)


def logprobs_by_hand(model, tokenizer, side):
    """log p(answer | prompt) in the model's own precision, one unpadded row at a time."""
    sums = []
    for pair in PAIRS:
        prompt = [tokenizer.bos_token_id, *tokenizer.encode(pair["prompt"])]
        ids = [*prompt, *tokenizer.encode(pair[side]), tokenizer.eos_token_id]
        logits = model(input_ids=torch.tensor([ids])).logits[0]
        logprob = torch.log_softmax(logits, dim=-1)
        sums.append(sum(logprob[t - 1, ids[t]] for t in range(len(prompt), len(ids))))
    return torch.stack(sums)


def answer_tokens(tokenizer, side):
    return torch.tensor([len(tokenizer.encode(pair[side])) + 1.0 for pair in PAIRS], dtype=torch.float64)


def loss_by_hand(kind, tokenizer, model, reference, beta, smoothing):
    """The paper's formulas on float64 log-probabilities."""
    gain = {}
    for side in ("chosen", "rejected"):
        with torch.no_grad():
            base = logprobs_by_hand(reference, tokenizer, side)
        gain[side] = logprobs_by_hand(model, tokenizer, side) - base
    z = beta * (gain["chosen"] - gain["rejected"])
    if kind == "sigmoid":  # arXiv:2305.18290, eq. 7
        return -torch.nn.functional.logsigmoid(z).mean()
    if kind == "robust":  # arXiv:2403.00409, eq. 10
        good, bad = torch.nn.functional.logsigmoid(z), torch.nn.functional.logsigmoid(-z)
        return (-(1 - smoothing) * good + smoothing * bad).div(1 - 2 * smoothing).mean()
    per_token = gain["chosen"] / answer_tokens(tokenizer, "chosen") - gain["rejected"] / answer_tokens(
        tokenizer, "rejected"
    )
    return (per_token - 1 / (2 * beta)).square().mean()  # IPO, arXiv:2310.12036, eq. 17, on means over tokens


@pytest.mark.parametrize("kind, smoothing", [("sigmoid", 0.0), ("ipo", 0.0), ("robust", 0.2)])
def test_loss_and_gradient_are_the_papers_formulas_in_float64(tokenizer, tmp_path, quiet, kind, smoothing):
    model, reference = random_model("llama", len(tokenizer), seed=3), random_model("llama", len(tokenizer), seed=4)
    exact, exact_reference = copy.deepcopy(model).double(), copy.deepcopy(reference).double()
    config = quiet(loss_type=[kind], beta=0.7, label_smoothing=smoothing)
    trainer = trainer_of(tokenizer, config, tmp_path, model=model, reference=reference)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    expected = loss_by_hand(kind, tokenizer, exact, exact_reference, 0.7, smoothing)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)  # float32 sums of some ten log-probabilities
    ours = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]).double()
    theirs = torch.cat([p.grad.flatten() for p in exact.parameters() if p.grad is not None])
    assert (ours - theirs).norm() / theirs.norm() < 1e-4


def test_an_sft_term_adds_the_chosen_answers_mean_token_loss(tokenizer, tmp_path, quiet):
    parts = []
    for weight in (0.0, 0.5):
        model, reference = random_model("llama", len(tokenizer), seed=3), random_model("llama", len(tokenizer), seed=4)
        trainer = trainer_of(tokenizer, quiet(sft_weight=weight), tmp_path, model=model, reference=reference)
        parts.append(
            trainer.compute_loss(
                trainer.model, trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
            ).item()
        )
    with torch.no_grad():
        chosen = logprobs_by_hand(random_model("llama", len(tokenizer), seed=3), tokenizer, "chosen")
    mean_loss = -(chosen.sum() / answer_tokens(tokenizer, "chosen").sum()).item()
    assert parts[1] - parts[0] == pytest.approx(0.5 * mean_loss, rel=1e-4)


def test_the_first_loss_is_log_2_and_the_margin_0(tokenizer, tmp_path, quiet):
    trainer = trainer_of(tokenizer, quiet(), tmp_path)
    assert check_start(trainer) < 1e-5
    loss = trainer.compute_loss(trainer.model, trainer.data_collator([trainer.train_dataset[i] for i in range(4)]))
    assert loss.item() == pytest.approx(0.693147, abs=1e-5)


def test_a_reference_that_is_another_model_is_refused_at_the_start(tokenizer, tmp_path, quiet):
    trainer = trainer_of(tokenizer, quiet(), tmp_path, reference=random_model("llama", len(tokenizer), seed=9))
    with pytest.raises(
        ValueError,
        match=r"before the first step the margin to the reference is .* not the model that training starts from",
    ):
        check_start(trainer)


def test_full_training_needs_a_reference_of_its_own(tokenizer, tmp_path, quiet):
    model = random_model("llama", len(tokenizer))
    with pytest.raises(ValueError, match="full DPO needs the reference as a model of its own"):
        make_trainer(model, None, tokenizer, PAIRS, quiet(), output_dir=tmp_path, seed=1)
    with pytest.raises(ValueError, match="the very model that is trained"):
        make_trainer(model, model, tokenizer, PAIRS, quiet(), output_dir=tmp_path, seed=1)


def test_training_widens_the_margins_and_leaves_the_reference_bit_identical(tokenizer, tmp_path, quiet):
    reference = random_model("llama", len(tokenizer))
    before = copy.deepcopy(reference.state_dict())
    trainer = trainer_of(tokenizer, quiet(learning_rate=1e-3, num_train_epochs=8), tmp_path, reference=reference)
    trainer.train()
    assert all(torch.equal(tensor, before[name]) for name, tensor in reference.state_dict().items())
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    margins = margins_nats(model, random_model("llama", len(tokenizer)), tokenizer, PAIRS)
    assert min(margins) > 0


def test_with_lora_the_reference_is_the_adapter_switched_off(tokenizer, tmp_path, quiet):
    lora = LoRAConfig(lora_r=4)
    trainer = trainer_of(tokenizer, quiet(learning_rate=1e-2), tmp_path, lora=lora)
    assert check_start(trainer) < 1e-5
    trainer.train()
    parent = random_model("llama", len(tokenizer))
    for side in ("chosen", "rejected"):
        with torch.no_grad():
            expected = logprobs_by_hand(parent, tokenizer, side)
        rows = {row["row"]: row for row in trainer.train_dataset}
        got = torch.tensor([rows[i][f"ref_{side}_logps"] for i in range(len(PAIRS))])
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-5)
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    tokens = torch.tensor([[1, 7, 8, 9]])
    with torch.no_grad(), model.disable_adapter():
        off = model(input_ids=tokens, use_cache=False).logits
        assert torch.equal(off, parent(input_ids=tokens, use_cache=False).logits)


def test_log_likelihood_of_answers_is_the_sum_by_hand_and_padding_changes_nothing(tokenizer, dialect):
    model = random_model(dialect, len(tokenizer))
    rows = list(preference_rows(tokenizer, PAIRS, 128, Counter()))
    for side in ("chosen", "rejected"):
        with torch.no_grad():
            expected = logprobs_by_hand(model, tokenizer, side)
        got = answer_logprobs(model, [r["prompt_ids"] for r in rows], [r[f"{side}_ids"] for r in rows])
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-5)


def test_reference_log_probabilities_are_kept_in_a_file_named_by_their_content(tokenizer, tmp_path, quiet, monkeypatch):
    cache = tmp_path / "cache"
    first = trainer_of(tokenizer, quiet(), tmp_path, cache=cache)
    (file,) = cache.glob("*.safetensors")
    written = file.stat().st_mtime_ns
    again = trainer_of(tokenizer, quiet(), tmp_path, cache=cache)
    assert file.stat().st_mtime_ns == written
    assert first.train_dataset["ref_chosen_logps"] == again.train_dataset["ref_chosen_logps"]
    trainer_of(tokenizer, quiet(), tmp_path, cache=cache, reference=random_model("llama", len(tokenizer), seed=5))
    assert len(list(cache.glob("*.safetensors"))) == 2
    monkeypatch.setitem(PAIRS[-1], "rejected", PAIRS[-1]["rejected"] + " now")  # the last of many: every pair counts
    trainer_of(tokenizer, quiet(), tmp_path, cache=cache)
    assert len(list(cache.glob("*.safetensors"))) == 3


def test_pairs_that_are_too_long_are_counted(tokenizer):
    counts = Counter()
    rows = list(preference_rows(tokenizer, PAIRS, 12, counts))
    assert counts["longer than max_length"] + len(rows) == 4 and counts["longer than max_length"] >= 1


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"beta": 0.0}, "beta must be above 0"),
        ({"label_smoothing": 0.1}, "label_smoothing does nothing for loss_type .*use robust"),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}, "loss_weights has 1 values for 2 loss_type"),
        ({"sft_weight": -1.0}, "sft_weight must be >= 0"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        DPOTrainingConfig(**settings)


def test_displacement_past_the_limit_is_an_alarm_that_can_stop_the_run():
    from types import SimpleNamespace

    config = DPOTrainingConfig(beta=0.1, displacement_limit_nats=5, stop_on_alarm=True)
    watch, control = displacement_watch(config), SimpleNamespace(should_training_stop=False)
    logs = {"rewards/chosen": -0.4}
    watch.on_log(None, None, control, logs=logs)
    assert logs["displacement_nats"] == pytest.approx(-4) and "alarm" not in logs and not control.should_training_stop
    logs = {"rewards/chosen": -0.6}
    watch.on_log(None, None, control, logs=logs)
    assert "lost 6.0 nats" in logs["alarm"] and control.should_training_stop
    assert watch.lowest_nats == pytest.approx(-6)


def test_a_run_that_its_alarm_ended_stays_ended_when_resumed_and_remembers_what_was_lost(tokenizer, tmp_path, quiet):
    """As a kill in the final save has it: the newest checkpoint is of the step that raised the alarm."""
    settings = {"num_train_epochs": 6, "save_steps": 2, "logging_steps": 2, "learning_rate": 1e-3}
    config = quiet(**settings, stop_on_alarm=True, displacement_limit_nats=-1e9)  # it is always crossed
    lives = []
    for checkpoint in (None, str(tmp_path / "checkpoint-2")):
        watch = displacement_watch(config)
        trainer = trainer_of(tokenizer, config, tmp_path, callbacks=[watch])
        trainer.train(resume_from_checkpoint=checkpoint)
        lives.append((trainer.state.global_step, watch.last_nats, watch.lowest_nats))
    assert lives[0] == lives[1] and lives[0][0] == 2


def test_a_resumed_run_ends_with_the_same_bits(tokenizer, tmp_path, quiet):
    from base_model.checkpoints import checkpoints

    def run(folder, resume=None):
        trainer = trainer_of(tokenizer, quiet(learning_rate=1e-3, num_train_epochs=6, save_steps=3), folder)
        trainer.train(resume_from_checkpoint=resume)
        return trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).state_dict()

    whole = run(tmp_path / "a")
    half = sorted(checkpoints(tmp_path / "a"), key=lambda p: int(p.name.split("-")[1]))[0]
    resumed = run(tmp_path / "b", resume=str(half))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def train_many(checkpoint, folder, at_once, resume_from=None):
    """Three steps of 8 pairs of unlike lengths with an SFT term, `at_once` on a process at once; the main process leaves the weights in
    `folder`."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    pairs = [{**PAIRS[i % 4], "prompt": f"{PAIRS[i % 4]['prompt']} {i}"} for i in range(24)]
    model, reference = (random_model("llama", len(tokenizer)) for _ in range(2))
    config = DPOTrainingConfig(
        batch_size=8, per_device_train_batch_size=at_once, learning_rate=1e-3, precision="fp32", warmup_steps=0, save_steps=2,
        sft_weight=5.0,  # large: what is weighed wrongly shows
    )  # fmt: skip
    trainer = make_trainer(model, reference, tokenizer, pairs, config, output_dir=folder, seed=1, cache=folder)
    check_start(trainer)
    trainer.train(resume_from_checkpoint=resume_from)
    assert trainer.state.global_step == 3
    weights = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).state_dict()
    weights.pop("lm_head.weight")  # tied
    if trainer.is_world_process_zero():
        save_file(weights, Path(folder) / "trained.safetensors")
    return weights


def test_two_processes_train_the_model_that_one_does_and_one_goes_on_from_them(llama_checkpoint, tokenizer, tmp_path):
    """Equal but for the order of float32 sums, the SFT term's mean over tokens included; going on, one process makes two passes a step."""
    one, start = train_many(llama_checkpoint, tmp_path / "one", 8), random_model("llama", len(tokenizer)).state_dict()
    assert max((one[name] - start[name]).abs().max() for name in one) > 1e-3  # something was learnt
    together(train_many, llama_checkpoint, tmp_path / "two", 4)
    two = load_file(tmp_path / "two" / "trained.safetensors")
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in two)
    on = train_many(llama_checkpoint, tmp_path / "on", 4, str(tmp_path / "two" / "checkpoint-2"))
    assert all(torch.allclose(one[name], on[name], atol=1e-5) for name in two)


def test_the_sft_term_is_a_mean_over_the_tokens_of_the_whole_batch(llama_checkpoint, tokenizer, tmp_path):
    """One step of plain gradient descent in two passes against one in one pass: TRL's own mean over all 8 pairs."""
    pairs = [{**PAIRS[i % 4], "prompt": f"{PAIRS[i % 4]['prompt']} {i}"} for i in range(8)]

    def step(rows):
        model, reference = (random_model("llama", len(tokenizer)) for _ in range(2))
        config = DPOTrainingConfig(
            batch_size=8, per_device_train_batch_size=rows, learning_rate=1.0, precision="fp32", warmup_steps=0,
            max_grad_norm=1e9, sft_weight=5.0, trainer={"optim": "sgd"},
        )  # fmt: skip
        trainer = make_trainer(model, reference, tokenizer, pairs, config, output_dir=tmp_path, seed=1)
        trainer.train()
        return trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).state_dict()

    whole, split = step(8), step(2)
    assert all(torch.allclose(whole[name], split[name], atol=1e-5) for name in whole)


def test_dpo_on_sampled_pairs_goes_most_of_the_way_to_the_known_optimum(tmp_path):
    """With 40,000 pairs 0.84 of the gap was closed: what is missing is the pairs' own noise, so more pairs close more (below)."""
    assert toy_gap_closed(seed=0, pairs=20_000, batch=256, folder=tmp_path) > 0.75


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dpo_with_enough_pairs_closes_98_percent_of_the_gap(tmp_path, seed):
    assert toy_gap_closed(seed=seed, pairs=800_000, batch=2048, folder=tmp_path) >= 0.98


def toy_gap_closed(seed, pairs, batch, folder, lr=2e-3):
    """Gap closed on the enumerable toy by DPO on `pairs` pairs a prompt, drawn from the reference and labelled by a coin of their exact
    Bradley-Terry probability; one epoch of TRL's trainer on ids."""
    from datasets import Dataset
    from trl import DPOConfig

    from alignment.dpo import _trainer_class
    from alignment.toy import LETTERS, PROMPTS, answers, make_model, make_tokenizer, make_toy
    from alignment.toy import answer_logprobs as toy_logprobs
    from reward.train import order_rows, trainer_arguments

    toy, words = make_toy(seed), answers()
    model, reference = make_model(seed=seed), make_model(seed=seed)
    reference_XY = toy_logprobs(reference)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for x, prompt in enumerate(PROMPTS):
        drawn = torch.multinomial(reference_XY[x].exp(), 2 * pairs, replacement=True, generator=generator).view(-1, 2)
        reward = toy.reward_XY[x][drawn]
        coin = torch.rand(pairs, generator=generator, dtype=torch.float64)
        swapped = coin >= torch.sigmoid(reward[:, 0] - reward[:, 1])
        drawn[swapped] = drawn[swapped].flip(1)
        ids = {"prompt_ids": [LETTERS.index(prompt)]}
        rows += [
            {**ids, "chosen_ids": list(words[a]), "rejected_ids": list(words[b])} for a, b in drawn.tolist() if a != b
        ]
    config = DPOTrainingConfig(
        learning_rate=lr, per_device_train_batch_size=batch, beta=toy.beta, precision="fp32", warmup_steps=0
    )
    tokenizer = make_tokenizer()
    tokenizer.pad_token = "a"  # padding is masked, never looked for
    args = trainer_arguments(
        DPOConfig, config, context=1, output_dir=folder, seed=seed, beta=toy.beta, precompute_ref_log_probs=True
    )
    trainer = _trainer_class()(
        model=model,
        ref_model=reference,
        args=args,
        train_dataset=order_rows(
            Dataset.from_list([{**row, "row": number} for number, row in enumerate(rows)]),
            [6] * len(rows),
            args,
            epochs=1,
        ),
        processing_class=tokenizer,
        cache=None,
    )
    trainer.train()
    trained = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
    return toy.gap_closed(toy_logprobs(trained), reference_XY)
