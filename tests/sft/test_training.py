"""The trainer of both stages: it goes on bit for bit, counts what it saw, and touches only what it trains."""

import copy
import json
import os
import time

import pytest
import torch

from base_model.chat import set_chat_template
from sft.arrow import write_dataset
from sft.examples import encode_messages
from sft.lora import LoRAConfig, attach
from sft.packing import pack
from sft.training import TrainingConfig, make_trainer
from tests.conftest import TEXTS, random_model

LORA = LoRAConfig(lora_r=4, lora_dropout=0.2)


@pytest.fixture(scope="module")
def chat_tokenizer(tokenizer):
    return set_chat_template(copy.deepcopy(tokenizer))


@pytest.fixture(scope="module")
def rows(chat_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    conversations = [
        [{"role": "user", "content": TEXTS[i % 4]}, {"role": "assistant", "content": TEXTS[(i + 1) % 4][: 10 + i]}]
        for i in range(60)
    ]
    encoded = [encode_messages(conversation, chat_tokenizer) for conversation in conversations]
    return pack(write_dataset(lambda: encoded, folder / "rows.arrow"), folder / "packed.arrow", row_tokens=128)


def trainer_in(folder, tokenizer, rows, lora=None, **settings):
    """A trainer that checkpoints every 3 of its 8 steps; the model and adapter are the same each time."""
    fixed = {"per_device_train_batch_size": 4, "max_steps": 8, "save_steps": 3, "precision": "fp32", "logging_steps": 1}
    config = TrainingConfig(**{**fixed, **settings})
    model = random_model("llama", len(tokenizer))
    if lora:
        torch.manual_seed(5)
        model = attach(model, lora)
    return make_trainer(model, tokenizer, rows, config, output_dir=folder, seed=7)


def weights(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize(
    "lora", [None, LORA, LoRAConfig(lora_r=4, use_dora=True)], ids=["full", "LoRA with dropout", "DoRA"]
)
def test_resumed_training_ends_with_the_same_bits(tmp_path, chat_tokenizer, rows, lora):
    """Also over the end of an epoch, with dropout, from the adapter's own checkpoint."""
    whole = trainer_in(tmp_path / "whole", chat_tokenizer, rows, lora)
    whole.train()
    assert whole.state.epoch > 1
    again = trainer_in(tmp_path / "again", chat_tokenizer, rows, lora)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-6"))
    ours, theirs = weights(again), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert again.state.num_input_tokens_seen == whole.state.num_input_tokens_seen
    steps = [entry["step"] for entry in again.state.log_history if "loss" in entry]
    assert steps == list(range(1, 9))


@pytest.mark.parametrize("settings", [{"max_steps": 7}, {"max_steps": -1, "num_train_epochs": 1.5}])
def test_resumed_from_the_last_steps_checkpoint_nothing_more_is_trained(tmp_path, chat_tokenizer, rows, settings):
    """As a kill in the final save or in evaluation has it, in the middle of an epoch; at a constant rate one step more is seen."""
    constant = {**settings, "lr_scheduler_type": "constant"}
    whole = trainer_in(tmp_path, chat_tokenizer, rows, **constant)
    whole.train()
    steps = whole.state.global_step
    assert whole.state.epoch % 1
    for _ in range(2):
        again = trainer_in(tmp_path, chat_tokenizer, rows, **constant)
        again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{steps}"))
        assert again.state.global_step == steps
        assert again.state.num_input_tokens_seen == whole.state.num_input_tokens_seen
        ours, theirs = weights(again), weights(whole)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_resumed_run_logs_the_same_averages_where_a_line_spans_the_checkpoint(tmp_path, chat_tokenizer, rows):
    def lines(trainer):
        return [(e["step"], e["loss"], e["mean_token_accuracy"]) for e in trainer.state.log_history if "loss" in e]

    whole = trainer_in(tmp_path, chat_tokenizer, rows, logging_steps=4)
    whole.train()
    again = trainer_in(tmp_path, chat_tokenizer, rows, logging_steps=4)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert [step for step, *_ in lines(whole)] == [3, 4, 6, 8]
    assert lines(again) == lines(whole)


@pytest.mark.parametrize("newest", [6, 8], ids=["from the newest", "from the one before, the newest being damaged"])
def test_a_clock_that_was_set_back_does_not_cost_the_checkpoint_just_written(tmp_path, chat_tokenizer, rows, newest):
    """Nor is one kept that lies after it: the run went back before that one, and makes it again."""
    trainer_in(tmp_path, chat_tokenizer, rows, max_steps=newest).train()  # leaves 3 and 6, or 6 and 8
    for folder in tmp_path.glob("checkpoint-*"):
        os.utime(folder, (time.time() + 3600,) * 2)
    again = trainer_in(tmp_path, chat_tokenizer, rows, save_steps=1, max_steps=7)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-6", "checkpoint-7"}


def test_training_one_adapter_leaves_the_base_bit_identical(tmp_path, chat_tokenizer, rows):
    before = {name: value.clone() for name, value in random_model("llama", len(chat_tokenizer)).state_dict().items()}
    trainer = trainer_in(tmp_path, chat_tokenizer, rows, LORA)
    trainer.train()
    after = {
        name.replace("base_model.model.", "").replace("base_layer.", ""): v for name, v in weights(trainer).items()
    }
    assert all(torch.equal(after[name], before[name]) for name in before)
    moved = [value.abs().max() for name, value in after.items() if "lora_B" in name]
    assert moved and all(value > 0 for value in moved)  # every adapted layer was trained


def test_the_log_counts_tokens_that_are_not_padding_and_nothing_twice(tmp_path, chat_tokenizer, rows):
    from transformers import TrainerCallback

    class Collect(TrainerCallback):
        counts = []  # noqa: RUF012 - one test, one list

        def on_log(self, args, state, control, logs=None, **kwargs):
            self.counts.append(logs.get("num_tokens"))

    config = TrainingConfig(per_device_train_batch_size=6, num_train_epochs=2, precision="fp32", logging_steps=1)
    model = random_model("llama", len(chat_tokenizer))
    assert len(rows) % 6 == 0  # no partial batch to drop
    make_trainer(model, chat_tokenizer, rows, config, output_dir=tmp_path, seed=1, callbacks=[Collect()]).train()
    tokens = sum(map(len, rows["input_ids"]))
    assert Collect.counts[2] == tokens and Collect.counts[5] == 2 * tokens


def test_the_same_seed_trains_the_same_bits_and_another_does_not(tmp_path, chat_tokenizer, rows):
    first, second = (trainer_in(tmp_path / name, chat_tokenizer, rows) for name in "ab")
    first.train(), second.train()
    assert all(torch.equal(value, weights(second)[name]) for name, value in weights(first).items())
    config = TrainingConfig(per_device_train_batch_size=4, max_steps=8, precision="fp32")
    third = make_trainer(
        random_model("llama", len(chat_tokenizer)), chat_tokenizer, rows, config, output_dir=tmp_path / "c", seed=8
    )
    third.train()
    assert any(not torch.equal(value, weights(third)[name]) for name, value in weights(first).items())


@pytest.mark.parametrize("batch_size, at_once, passes", [(8, 8, 1), (8, 2, 4), (4, 16, 1)])
def test_batch_size_is_the_rows_of_a_step_and_an_epoch_is_whole_batches(
    tmp_path, chat_tokenizer, rows, batch_size, at_once, passes
):
    config = TrainingConfig(batch_size=batch_size, per_device_train_batch_size=at_once, precision="fp32")
    model = random_model("llama", len(chat_tokenizer))
    trainer = make_trainer(model, chat_tokenizer, rows, config, output_dir=tmp_path, seed=1)
    assert trainer.args.gradient_accumulation_steps == passes
    assert trainer.args.per_device_train_batch_size == batch_size // passes
    assert len(rows) % 8 and len(trainer.get_train_dataloader()) == len(rows) // batch_size * passes


def test_fewer_rows_than_a_batch_are_still_trained_on(tmp_path, chat_tokenizer, rows):
    config = TrainingConfig(per_device_train_batch_size=64, num_train_epochs=2, precision="fp32")
    trainer = make_trainer(
        random_model("llama", len(chat_tokenizer)), chat_tokenizer, rows, config, output_dir=tmp_path, seed=1
    )
    trainer.train()
    assert trainer.state.global_step == 2


def test_any_field_of_trls_config_can_be_set_and_a_wrong_one_is_named(tmp_path, chat_tokenizer, rows):
    def arguments(trainer):
        config = TrainingConfig(trainer=trainer, precision="fp32", gradient_checkpointing=True, packing=True)
        model = random_model("llama", len(chat_tokenizer))
        return make_trainer(model, chat_tokenizer, rows, config, output_dir=tmp_path, seed=1).args

    made = arguments('{"neftune_noise_alpha": 5.0, "optim": "sgd", "report_to": "tensorboard"}')
    assert (made.neftune_noise_alpha, made.optim, made.report_to) == (5.0, "sgd", ["tensorboard"])
    assert made.gradient_checkpointing and not made.packing  # the rows come packed
    with pytest.raises(ValueError, match="trl.SFTConfig has no field 'learning_rte'; did you mean 'learning_rate'?"):
        arguments({"learning_rte": 1})
    for name in (
        "packing",
        "max_length",
        "seed",
        "learning_rate",
        "gradient_checkpointing",
        "activation_checkpointing",
    ):
        with pytest.raises(ValueError, match=f"'{name}' is set by its own option, not through trainer"):
            arguments({name: True})


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"max_steps": 0}, "max_steps 0 and num_train_epochs 1.0 leave nothing to train"),
        ({"num_train_epochs": 0.0}, "max_steps -1 and num_train_epochs 0.0 leave nothing to train"),
        ({"batch_size": 0}, "batch_size must be at least 1 row, or left out, got 0"),
        (
            {"batch_size": 8, "gradient_accumulation_steps": 2},
            "gradient_accumulation_steps 2 follows from batch_size 8 where that is given; give one of the two",
        ),
        ({"context_length": 1}, "context_length must be at least 2 tokens, got 1"),
        ({"trainer": "[1"}, "trainer must be a JSON object of the trainer's fields, got '[1': Expecting"),
        ({"trainer": "[1]"}, "trainer must be a JSON object of the trainer's fields, got '[1]'"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError) as caught:
        TrainingConfig(**settings)
    assert message in str(caught.value)


def test_checkpoints_hold_no_weights_that_must_be_unpickled(tmp_path, chat_tokenizer, rows):
    trainer_in(tmp_path, chat_tokenizer, rows, LORA).train()
    names = {path.name for path in (tmp_path / "checkpoint-6").iterdir()}
    assert "adapter_model.safetensors" in names and not {
        name for name in names if name.startswith(("pytorch_model", "adapter_model.bin"))
    }
    assert json.loads((tmp_path / "checkpoint-6" / "trainer_state.json").read_text())["global_step"] == 6
