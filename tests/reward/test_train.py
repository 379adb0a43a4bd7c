import gc
import json
import math
import tracemalloc
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from reward.model import RewardModel, encode_answers, score_rows
from reward.train import (
    TOO_LONG,
    RewardTrainingConfig,
    fitting_pairs,
    length_grouped_order,
    load_for_reward,
    make_trainer,
    trainer_arguments,
)
from sft.lora import LoRAConfig, finish_adapter
from tests.processes import together

POLITE, RUDE = "yes, of course. thank you", "no. go"


def made_pairs(count=48):
    """Polite answers beat rude ones; every third pair is rated."""
    pairs = []
    for i in range(count):
        prompt = [{"role": "user", "content": f"please write {'a short note ' * (i % 5)}{i}"}]
        pairs.append({"prompt": prompt, "chosen": f"{POLITE} {i}", "rejected": f"{RUDE} {i % 7}"})
        if i % 3 == 0:
            pairs[-1]["margin"] = i / 10
    return pairs


def settings(**changes):
    return RewardTrainingConfig(
        **{"per_device_train_batch_size": 4, "learning_rate": 3e-3, "precision": "fp32", "logging_steps": 1} | changes
    )


@pytest.fixture
def start(chat_checkpoint, chat_tokenizer, tmp_path):
    """start(config, lora=None, ...): a trainer on the made pairs, from the tiny chat checkpoint, that writes to tmp_path / folder."""

    def make(config=None, pairs=None, folder="out", **options):
        model = load_for_reward(chat_checkpoint, seed=3)
        return make_trainer(
            model,
            chat_tokenizer,
            pairs or made_pairs(),
            config or settings(),
            output_dir=tmp_path / folder,
            seed=3,
            **options,
        )

    return make


def by_hand(scores_chosen, scores_rejected, margins, coefficient):
    """Bradley-Terry in float64, written out: -log(1 / (1 + exp(-(r_c - r_r - m)))) + c (r_c + r_r)^2, averaged."""
    losses = [
        math.log1p(math.exp(-(good - bad - margin))) + coefficient * (good + bad) ** 2
        for good, bad, margin in zip(scores_chosen, scores_rejected, margins, strict=True)
    ]
    return sum(losses) / len(losses)


@pytest.mark.parametrize("margin_coefficient", [0.0, 0.5])
def test_the_loss_is_bradley_terry_with_margin_and_centring(start, margin_coefficient):
    pairs = made_pairs(4)
    trainer = start(settings(margin_coefficient=margin_coefficient, center_rewards_coefficient=0.3), pairs=pairs)
    torch.nn.init.normal_(trainer.model.score.weight, std=0.5)  # scores of order 1, so that every term matters
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, dict(batch)).item()
    reward = RewardModel(trainer.model, trainer.processing_class)
    sides = [
        reward.raw_scores([p["prompt"] for p in pairs], [p[side] for p in pairs]).tolist()
        for side in ("chosen", "rejected")
    ]
    margins = [margin_coefficient * pair.get("margin", 0.0) for pair in pairs]
    assert max(margins) == pytest.approx(0.3 * margin_coefficient)
    assert loss == pytest.approx(by_hand(*sides, margins, 0.3), abs=1e-5)  # float32 against float64


def test_ids_are_those_trl_makes_of_the_same_messages(start, chat_tokenizer, tmp_path):
    from datasets import Dataset
    from trl import RewardTrainer

    from reward.preferences import to_trl

    pairs = made_pairs(6)
    _, chosen, rejected = zip(*fitting_pairs(chat_tokenizer, pairs, 128, Counter()), strict=True)
    trainer = start(pairs=pairs)
    rows = [{key: value for key, value in to_trl(pair).items() if key != "margin"} for pair in pairs]
    theirs = RewardTrainer(
        trainer.model, args=trainer.args, train_dataset=Dataset.from_list(rows), processing_class=chat_tokenizer
    )
    assert list(chosen) == theirs.train_dataset["chosen_ids"][:]
    assert list(rejected) == theirs.train_dataset["rejected_ids"][:]


def test_the_ids_of_all_pairs_are_never_in_memory_at_once(start):
    def peak_mib(count):
        pairs = made_pairs(count)
        gc.collect()
        tracemalloc.start()
        try:
            start(pairs=pairs)
            return tracemalloc.get_traced_memory()[1] / 2**20
        finally:
            tracemalloc.stop()

    peak_mib(8)  # imports
    few, many = peak_mib(1600), peak_mib(3200)
    assert many < 1.2 * few  # seen: 2.4 and 2.5; with all ids in lists 3.6 and 6.7


def test_training_learns_to_tell_the_chosen_from_the_rejected(start):
    trainer = start(settings(num_train_epochs=3))
    trainer.train()
    reward = RewardModel(trainer.model, trainer.processing_class)
    new = [{"role": "user", "content": "tell the children a story"}]
    polite, rude = reward.score([new, new], [f"{POLITE} 99", f"{RUDE} 99"])
    assert polite > rude + 1


def stop_after(step):
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = control.should_training_stop or state.global_step == step

    return Stop()


def trained_weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


@pytest.mark.parametrize("lora", [None, LoRAConfig(lora_r=4)], ids=["full", "lora"])
def test_a_stopped_and_resumed_run_ends_with_the_same_bits(start, lora, tmp_path):
    config = settings(num_train_epochs=2, save_steps=7)  # 24 steps; the stop is inside the second epoch
    whole = start(config, lora=lora, folder="whole")
    whole.train()
    expected, log = trained_weights(whole), whole.state.log_history
    # Not beside the whole run's newer checkpoints: to the rotation of old ones this run's own would be the oldest.
    stopped = start(config, lora=lora, folder="stopped", callbacks=[stop_after(14)])
    stopped.train()
    assert stopped.state.global_step == 14
    resumed = start(config, lora=lora, folder="stopped")
    resumed.train(resume_from_checkpoint=str(tmp_path / "stopped" / "checkpoint-14"))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.model.state_dict().items())
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[14:] == [entry["loss"] for entry in resumed.state.log_history if "loss" in entry][14:]


@pytest.mark.parametrize(("context", "multiple"), [(128, 16), (100, 4), (99, 1)])
def test_rows_are_padded_to_few_lengths_and_never_past_the_last_position(
    context, multiple, chat_checkpoint, chat_tokenizer, tmp_path
):
    model = load_for_reward(chat_checkpoint, seed=3)
    model.config.max_position_embeddings = context
    trainer = make_trainer(model, chat_tokenizer, made_pairs(), settings(), output_dir=tmp_path, seed=3)
    assert trainer.args.pad_to_multiple_of == multiple
    lengths = {batch["input_ids"].shape[1] for batch in trainer.get_train_dataloader()}
    assert lengths and max(lengths) <= context and all(length % multiple == 0 for length in lengths)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(chat_checkpoint):
    heads = [load_for_reward(chat_checkpoint, seed).score.weight for seed in (3, 3, 4)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def train_eight_a_step(checkpoint, out, resume_from=None):
    """Six steps of 8 pairs, at most 4 of them on a process at once; the main process leaves the weights in `out`."""
    config = settings(batch_size=8, per_device_train_batch_size=4, num_train_epochs=1, save_steps=3)
    model, tokenizer = load_for_reward(checkpoint, 3), AutoTokenizer.from_pretrained(checkpoint)
    trainer = make_trainer(model, tokenizer, made_pairs(), config, output_dir=out, seed=3)
    trainer.train(resume_from_checkpoint=resume_from)
    assert trainer.state.global_step == 6
    weights = trainer.accelerator.unwrap_model(trainer.model).state_dict()
    if trainer.is_world_process_zero():
        save_file(weights, out / "weights.safetensors")
    return weights


def test_two_processes_train_the_model_that_one_does_and_one_goes_on_from_them(chat_checkpoint, tmp_path):
    """One process makes two passes a step. The mean over 8 pairs is a mean of two means: equal but for the order of float32 sums."""
    one = train_eight_a_step(chat_checkpoint, tmp_path / "one")
    start = load_for_reward(chat_checkpoint, 3).state_dict()
    assert max((one[name] - start[name]).abs().max() for name in one) > 1e-3  # something was learnt
    together(train_eight_a_step, chat_checkpoint, tmp_path / "two")
    two = load_file(tmp_path / "two" / "weights.safetensors")
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    on = train_eight_a_step(chat_checkpoint, tmp_path / "on", str(tmp_path / "two" / "checkpoint-3"))
    assert all(torch.allclose(one[name], on[name], atol=1e-5) for name in one)


def test_lora_trains_adapters_and_the_head_and_what_is_written_gives_the_same_scores(start, chat_checkpoint, tmp_path):
    trainer = start(settings(num_train_epochs=2), lora=LoRAConfig(lora_r=4))
    trainable = {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert all("lora_" in name or "score" in name for name in trainable) and any("score" in name for name in trainable)
    trainer.train()
    pairs = made_pairs(6)
    rows = encode_answers(trainer.processing_class, [p["prompt"] for p in pairs], [p["chosen"] for p in pairs])
    before = score_rows(trainer.model, rows, 0)
    folder = tmp_path / "finished"
    plain, check = finish_adapter(
        trainer.model, folder, parent=chat_checkpoint, prompts=rows, load=load_for_reward,
        save=lambda model: model.save_pretrained(folder),
    )  # fmt: skip
    assert check.largest_difference <= 1e-4 and check.greedy_tokens_compared == 0
    assert type(plain).__name__ == "LlamaForSequenceClassification"
    assert not any("lora" in name for name in plain.state_dict())
    plain.config.pad_token_id = 0
    assert score_rows(plain, rows, 0).tolist() == pytest.approx(before.tolist(), abs=1e-4)  # sums in another order
    untrained = load_for_reward(chat_checkpoint, seed=3).score.weight
    assert not torch.equal(plain.score.weight, untrained)


def test_a_head_of_two_labels_is_refused(chat_checkpoint, tmp_path):
    from transformers import AutoModelForSequenceClassification

    AutoModelForSequenceClassification.from_pretrained(chat_checkpoint, num_labels=2).save_pretrained(tmp_path / "two")
    with pytest.raises(ValueError, match="has a head of 2 labels, a reward model one; start from a causal checkpoint"):
        load_for_reward(tmp_path / "two")


def test_pairs_that_do_not_fit_are_counted_not_cut(chat_tokenizer):
    pairs = made_pairs(2)
    pairs[0]["rejected"] = "word " * 200
    counts = Counter()
    kept = [pair for pair, *_ in fitting_pairs(chat_tokenizer, pairs, 100, counts)]
    assert kept == pairs[1:] and counts[TOO_LONG] == 1


def test_a_long_prompt_may_lose_its_beginning_but_never_an_answer_its_end(chat_tokenizer):
    long_prompt = {**made_pairs(1)[0], "prompt": [{"role": "user", "content": "the old sailor waits " * 40}]}
    long_answer = {**made_pairs(1)[0], "chosen": "word " * 200}
    counts = Counter()
    ((pair, chosen_ids, _),) = fitting_pairs(
        chat_tokenizer, [long_prompt, long_answer], 60, counts, cut_long_prompts=True
    )
    assert pair == long_prompt and counts[TOO_LONG] == 1
    whole = encode_answers(chat_tokenizer, [long_prompt["prompt"]], [long_prompt["chosen"]])[0]
    assert chosen_ids == [whole[0], *whole[-59:]]  # bos, then the last 59


@pytest.mark.parametrize("pad", ["<|eos|>", None])
def test_a_tokenizer_that_pads_with_its_end_or_not_at_all_is_trained_with_as_ever(start, chat_tokenizer, pad):
    """In each batch the head reads the same tokens: the same losses, and the tokenizer is not written to."""
    losses = []
    for token in (chat_tokenizer.pad_token, pad):
        chat_tokenizer.pad_token = token
        trainer = start(settings(num_train_epochs=1, logging_steps=1))
        trainer.train()
        losses.append([line["loss"] for line in trainer.state.log_history if "loss" in line])
    assert losses[0] == losses[1] and chat_tokenizer.pad_token == pad


def test_batches_hold_rows_of_about_equal_length_and_each_row_once_an_epoch():
    lengths = [(37 * i) % 101 for i in range(330)]
    order = length_grouped_order(lengths, 8, 2, seed=5)
    epochs = order[:328], order[328:]
    assert all(len(set(epoch)) == 328 for epoch in epochs) and epochs[0] != epochs[1]
    batches = [order[i : i + 8] for i in range(0, len(order), 8)]
    spread = [max(lengths[row] for row in batch) - min(lengths[row] for row in batch) for batch in batches]
    assert sum(spread) / len(spread) < 10  # of 100; a random batch of 8 spreads over about 79
    starts = [lengths[batch[0]] for batch in batches]
    assert sorted(starts[:20]) != starts[:20]  # short batches do not all come first


def test_the_trainer_meets_the_batches_in_the_order_that_was_fixed(start):
    trainer = start(settings(num_train_epochs=2))
    rows = trainer.train_dataset
    for number, batch in enumerate(trainer.get_train_dataloader()):
        expected = [rows[i][side] for side in ("chosen_ids", "rejected_ids") for i in range(4 * number, 4 * number + 4)]
        met = [ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
        assert met == expected
    assert number == 23


def test_pairs_that_are_all_too_long_are_said_to_be(tokenizer):
    pairs = [{"prompt": "The baker " * 20, "chosen": "yes", "rejected": "no"}] * 3
    with pytest.raises(ValueError, match="all 3 pairs are longer than 16 tokens with their prompt; raise max_length"):
        list(fitting_pairs(tokenizer, pairs, 16, Counter()))


def test_the_order_is_fixed_by_its_seed_and_ends_at_a_whole_batch():
    lengths = list(range(50))
    assert length_grouped_order(lengths, 8, 1, seed=1) == length_grouped_order(lengths, 8, 1, seed=1)
    assert length_grouped_order(lengths, 8, 1, seed=1) != length_grouped_order(lengths, 8, 1, seed=2)
    assert len(length_grouped_order(lengths, 8, 1.5, seed=1)) == 9 * 8  # 6 batches an epoch
    with pytest.raises(ValueError, match="50 pairs do not fill one batch of 64"):
        length_grouped_order(lengths, 64, 1, seed=1)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"learning_rate": 0}, "learning_rate must be above 0, got 0"),
        ({"max_length": 1}, "max_length must be at least 2 tokens, got 1"),
        ({"margin_coefficient": -1}, "margin_coefficient must be >= 0, got -1"),
        ({"trainer": "[1]"}, r"trainer must be a JSON object of the trainer's fields, got '\[1\]'"),
        ({"trainer": "{"}, "trainer must be a JSON object"),
    ],
)
def test_impossible_settings_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        settings(**changes)


def test_other_trainer_fields_pass_through_and_unknown_ones_are_named(tmp_path):
    from trl import RewardConfig

    arguments = trainer_arguments(
        RewardConfig, settings(trainer=json.dumps({"adam_beta2": 0.95})), context=64, output_dir=tmp_path, seed=1
    )
    assert arguments.adam_beta2 == 0.95 and arguments.report_to in ([], "none")
    with pytest.raises(ValueError, match="RewardConfig has no field 'adam_beta3'; did you mean 'adam_beta"):
        trainer_arguments(RewardConfig, settings(trainer={"adam_beta3": 1}), context=64, output_dir=tmp_path, seed=1)
    with pytest.raises(ValueError, match="'seed' is set by its own option"):
        trainer_arguments(RewardConfig, settings(trainer={"seed": 1}), context=64, output_dir=tmp_path, seed=1)
