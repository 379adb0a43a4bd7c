"""The loop against plain torch, against itself split and interrupted, and against what goes wrong."""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from base_model.checkpoints import checkpoints, newest_sealed, step_of
from base_model.gpt import GPT, GPTConfig
from base_model.pretrain import join_processes, pretrain
from base_model.pretrain_config import PretrainConfig
from base_model.training_state import MODEL, OPTIMIZER, read_notes
from tests.processes import context, together

ROOT = Path(__file__).parents[2]
CONFIG = PretrainConfig(
    steps=6,
    batch_size=4,
    lr=1e-2,
    warmup_steps=2,
    precision="fp32",
    compile=False,
    save_every=0,
    log_every=1,
    trackers="none",
)


class Counting:
    """Rows that count upwards modulo 32 from a start that depends on the batch: learnable, and the same for the same step."""

    windows = 1000

    def __init__(self, batch_size, rank=0, world_size=1, poisoned=None):
        self.batch_size, self.rank, self.world_size, self.poisoned = batch_size, rank, world_size, poisoned

    def batch(self, step):
        first = (step * self.world_size + self.rank) * self.batch_size
        starts = torch.arange(first, first + self.batch_size)[:, None] * 7
        tokens = (starts + torch.arange(17)) % 32
        documents = torch.zeros_like(tokens)
        documents[:, 9:] = 1
        return {"tokens_BT": tokens, "document_ids_BT": documents}


def tiny(dialect="llama", **changes):
    torch.manual_seed(0)
    return GPT(GPTConfig(dialect, vocab_size=32, n_layer=2, n_head=2, d_model=16, context_length=16, **changes))


def train(model, config=CONFIG, loader=None, **more):
    lines = []
    loader = loader or Counting(config.rows_per_micro_batch())
    result = pretrain(model, loader, config, log=lines.append, show_progress=False, **more)
    return result, lines


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_same_bits(one, other):
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_the_loop_is_plain_adamw_with_clipping_and_warmup(dialect):
    """Six steps written out with torch alone. Fused AdamW rounds otherwise than the plain one: weights move by up to 0.01 a step, and
    agree to 1e-5 after six."""
    theirs = tiny(dialect)
    decayed = [p for p in theirs.parameters() if p.ndim == 2]
    plain = [p for p in theirs.parameters() if p.ndim == 1]
    adamw = torch.optim.AdamW(
        [{"params": decayed}, {"params": plain, "weight_decay": 0.0}], betas=(0.9, 0.95), weight_decay=0.1
    )
    losses, norms, loader = [], [], Counting(4)
    for step in range(6):
        factor = (step + 1) / 3 if step < 2 else 0.5 * (1 + math.cos(math.pi * (step - 2) / 4))
        for group in adamw.param_groups:
            group["lr"] = 1e-2 * factor
        tokens = loader.batch(step)["tokens_BT"]
        loss = F.cross_entropy(theirs(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5).item())
        adamw.step()
        adamw.zero_grad()
        losses.append(loss.item())
    result, lines = train(tiny(dialect), replace(CONFIG, clip_norm=0.5))
    assert [line["loss"] for line in lines] == pytest.approx(losses, abs=1e-5)
    assert [line["grad_norm"] for line in lines] == pytest.approx(norms, abs=1e-4)
    assert max(norms) > 0.5, "clipping was not put to the test"
    for name, p in theirs.named_parameters():
        torch.testing.assert_close(weights(result.model)[name], p.detach(), atol=1e-5, rtol=0)
    assert lines[-1]["tokens"] == result.tokens == 6 * 4 * 16


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_accumulation_changes_memory_and_not_the_result(optimizer):
    """Four rows in one micro-batch or in four: the same mean, summed in another order. AdamW divides by sqrt(v), which near the
    start turns a difference of 1e-7 into one of 1e-5 of the learning rate; Muon rounds to bf16 (2^-8), in steps of 0.02."""
    config = replace(CONFIG, optimizer=optimizer)
    (whole, _), (split, _) = train(tiny(), config), train(tiny(), replace(config, accumulation=4))
    tolerance = 1e-4 if optimizer == "adamw" else 5e-3
    for name, tensor in weights(whole.model).items():
        torch.testing.assert_close(tensor, weights(split.model)[name], atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    "changes", [{}, {"optimizer": "muon"}, {"precision": "bf16"}, {"schedule": "wsd"}, {"accumulation": 2}]
)
def test_it_learns_to_count(changes):
    config = replace(CONFIG, steps=60, log_every=60, **changes)
    _, lines = train(tiny(), config)
    assert lines[-1]["loss"] < 1.0 < 3.0 < math.log(32)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path, dialect):
    for changes in ({}, {"optimizer": "muon", "accumulation": 2}, {"precision": "bf16"}):
        folder = tmp_path / f"{dialect}-{'-'.join(changes) or 'plain'}"
        config = replace(CONFIG, steps=8, save_every=3, **changes)
        whole, _ = train(tiny(dialect), config, checkpoints=folder)
        resumed, lines = train(tiny(dialect), config, resume_from=folder / "checkpoint-3")
        assert lines[0]["step"] == 4
        assert_same_bits(weights(whole.model), weights(resumed.model))


def test_a_resumed_run_does_not_race_for_its_precision_again(tmp_path):
    config = replace(CONFIG, save_every=3, precision="bf16")
    train(tiny(), config, checkpoints=tmp_path)
    resumed, _ = train(tiny(), replace(config, precision="auto"), resume_from=tmp_path / "checkpoint-3")
    assert resumed.precision == "bf16"


def test_random_numbers_go_on_where_they_were(tmp_path):
    class Drawing(Counting):
        def batch(self, step):
            batch = super().batch(step)
            batch["tokens_BT"] = (batch["tokens_BT"] + torch.randint(0, 32, (1, 1))) % 32
            return batch

    config = replace(CONFIG, save_every=3)
    whole, _ = train(tiny(), config, Drawing(4), checkpoints=tmp_path)
    torch.manual_seed(123)
    model = tiny()
    resumed, _ = train(model, config, Drawing(4), resume_from=tmp_path / "checkpoint-3")
    assert_same_bits(weights(whole.model), weights(resumed.model))


def test_checkpoints_are_sealed_kept_to_the_newest_and_hold_no_pickle(tmp_path):
    train(tiny(), replace(CONFIG, save_every=1), checkpoints=tmp_path)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["checkpoint-5", "checkpoint-4"]
    assert newest_sealed(tmp_path) == tmp_path / "checkpoint-5"
    names = {path.name for path in (tmp_path / "checkpoint-5").iterdir()}
    assert names == {MODEL, OPTIMIZER, "random.safetensors", "training_state.json", "sealed.json"}
    assert read_notes(tmp_path / "checkpoint-5")["step"] == 5


def test_a_checkpoint_of_another_model_or_optimizer_is_refused(tmp_path):
    train(tiny(), replace(CONFIG, save_every=3), checkpoints=tmp_path)
    with pytest.raises(ValueError, match=r"blocks.0.mlp.inner.weight should be \(64, 16\), found \(128, 16\)"):
        train(tiny(d_ff=32), resume_from=tmp_path / "checkpoint-3")
    with pytest.raises(ValueError, match="is the state of another optimizer; resume with the same one"):
        train(tiny(), replace(CONFIG, optimizer="muon"), resume_from=tmp_path / "checkpoint-3")
    with pytest.raises(FileNotFoundError, match="give a checkpoint-<step> folder"):
        train(tiny(), resume_from=tmp_path)


def test_a_loss_that_is_not_finite_stops_with_step_and_batch_and_keeps_the_last_checkpoint(tmp_path):
    class Poisoned(Counting):
        def batch(self, step):
            if step == 9:  # the second micro-batch of step 5
                with torch.no_grad():
                    model.norm.weight[0] = math.nan
            return super().batch(step)

    model = tiny()
    config = replace(CONFIG, accumulation=2, save_every=2)
    with pytest.raises(ValueError, match="the loss is nan at step 5, batch 9 of process 0"):
        train(model, config, Poisoned(2), checkpoints=tmp_path)
    from safetensors.torch import load_file

    kept = newest_sealed(tmp_path)
    assert kept.name == "checkpoint-4" and all(t.isfinite().all() for t in load_file(kept / MODEL).values())


def test_bits_per_byte_is_the_loss_of_transformers_over_the_bytes():
    """Two validation batches of 4 x 16 targets; each token stands for 1 to 3 bytes. transformers' loss on the exported model."""
    from base_model.hf import to_hf

    token_bytes = torch.arange(32) % 3 + 1
    validation = Counting(4)
    validation.windows = 8  # two batches an epoch
    result, lines = train(tiny(), replace(CONFIG, eval_batches=5), validation=validation, token_bytes_V=token_bytes)
    theirs = to_hf(result.model)
    nats = n_bytes = 0.0
    for step in (0, 1):
        tokens = validation.batch(step)["tokens_BT"]
        with torch.no_grad():
            nats += theirs(tokens, labels=tokens).loss.item() * 64
        n_bytes += token_bytes[tokens[:, 1:]].sum().item()
    assert result.metrics["validation_loss"] == pytest.approx(nats / 128, rel=1e-5)
    assert result.metrics["bits_per_byte"] == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-5)
    assert lines[-1]["bits_per_byte"] == result.metrics["bits_per_byte"]


def test_a_document_mask_keeps_packed_documents_apart():
    """Token 9 starts a document; with the mask its loss does not depend on what came before it."""
    masked, plain = (train(tiny(), replace(CONFIG, steps=3, document_mask=mask))[1] for mask in (True, False))
    assert masked[0]["loss"] != plain[0]["loss"]


def test_the_model_that_comes_back_is_plain_and_can_be_trained_again():
    result, _ = train(tiny(), replace(CONFIG, precision="bf16"))
    logits = result.model(torch.zeros(1, 4, dtype=torch.long))
    assert logits.dtype == torch.float32
    again, lines = train(result.model)
    assert lines[0]["loss"] < math.log(32) and again.model is result.model


def test_samples_are_logged_and_leave_the_training_as_it_was():
    plain, _ = train(tiny())
    sampled, lines = train(
        tiny(), replace(CONFIG, sample_every=2), sample=lambda model: [f"{model.config.d_model} wide"]
    )
    assert [line["samples"] for line in lines if "samples" in line] == [["16 wide"]] * 3
    assert_same_bits(weights(plain.model), weights(sampled.model))


def test_trackers_are_accelerates(tmp_path):
    train(tiny(), replace(CONFIG, trackers="tensorboard"), tracker_dir=tmp_path)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "pretrain")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]


def test_without_a_compiler_one_line_says_so_and_training_goes_on(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    _, lines = train(tiny(), replace(CONFIG, compile=True))
    assert capsys.readouterr().err.count("torch.compile finds no C++ compiler; training goes on, slower") == 1
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"lr": -1.0}, "lr is -1.0; it must not be negative"),
        ({"warmup_steps": 6}, "warmup_steps 6 must be below steps 6"),
        ({"final_lr_factor": 2.0}, "final_lr_factor 2.0 in"),
        ({"keep_checkpoints": 1, "save_every": 5}, "keep_checkpoints is 1; keep 2 or more"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)


def test_a_batch_that_does_not_divide_is_refused():
    assert replace(CONFIG, batch_size=12, accumulation=3).rows_per_micro_batch(2) == 2
    with pytest.raises(ValueError, match=r"batch_size 4 does not divide into 3 process\(es\) x accumulation 1"):
        CONFIG.rows_per_micro_batch(3)


# What follows runs in processes of their own: killed ones, and several at once.


def run(folder: Path, changes: dict) -> None:
    """Train in this process from the newest checkpoint in the folder, if there is one; leave weights and log there."""
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    config, processes, lines = replace(CONFIG, **changes), join_processes(), []
    loader = Counting(
        config.rows_per_micro_batch(processes.num_processes), processes.process_index, processes.num_processes
    )
    newest = newest_sealed(folder / "checkpoints")
    result = pretrain(
        tiny(),
        loader,
        config,
        checkpoints=folder / "checkpoints",
        resume_from=newest,
        log=lines.append,
        show_progress=False,
    )
    if processes.is_main_process:
        save_file(weights(result.model), folder / "final.safetensors")
        (folder / "log.json").write_text(json.dumps(lines))


@pytest.fixture(scope="module")
def start():
    """Starts `run` in a new process, forked from one that has torch loaded (but has computed nothing)."""

    def start(folder, changes):
        folder.mkdir(exist_ok=True)
        process = context.Process(target=run, args=(folder, changes))
        process.start()
        return process

    return start


def test_killed_with_signal_9_at_odd_moments_it_ends_with_the_same_bits(tmp_path, start):
    """Each step saves, which takes most of its time, so kills fall into saves too. Killed at another moment of the step each time, the
    run goes on from what is on disk."""
    from safetensors.torch import load_file

    changes = {"steps": 40, "save_every": 1, "optimizer": "muon"}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    uninterrupted = start(whole, changes)
    for kill in range(5):
        process, is_killed = start(broken, changes), False
        while process.is_alive() and not is_killed:
            reached = max((step_of(folder) for folder in checkpoints(broken / "checkpoints")), default=0)
            if reached >= 3 + 6 * kill:
                time.sleep(0.003 * kill)
                os.kill(process.pid, signal.SIGKILL)
                is_killed = True
            time.sleep(0.001)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it ended before it was killed"
    last = start(broken, changes)
    for process in (uninterrupted, last):
        process.join()
        assert process.exitcode == 0
    assert_same_bits(load_file(whole / "final.safetensors"), load_file(broken / "final.safetensors"))
    assert json.loads((broken / "log.json").read_text())[0]["step"] > 3 + 6 * 4


PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from accelerate.utils import DistributedType
from tests.base_model.test_pretrain import join_processes, run
folder, changes, is_sharded = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3] == "fsdp"
processes = join_processes()
assert processes.num_processes == 2
if is_sharded:  # accelerate offers FSDP to accelerators only; on CPUs it works as well, over gloo
    processes._shared_state["distributed_type"] = DistributedType.MULTI_GPU
run(folder, changes)
processes.destroy_process_group()
"""


def launch(folder: Path, changes: dict, config: str) -> None:
    """`accelerate launch` with the YAML that ships, two processes on this machine's cores."""
    folder.mkdir(exist_ok=True)
    (folder / "program.py").write_text(PROGRAM.format(root=str(ROOT)))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    file = ROOT / "recipes" / "configs" / "accelerate" / f"{config}.yaml"
    options = ["--config_file", str(file), "--num_processes", "2", "--main_process_port", str(port)]
    program = [str(folder / "program.py"), str(folder), json.dumps(changes), config]
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *options, *program],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("config", "optimizer"),
    [
        ("ddp", "adamw"),
        pytest.param("ddp", "muon", marks=SLOW),
        pytest.param("fsdp", "adamw", marks=SLOW),
        pytest.param("fsdp", "muon", marks=SLOW),
    ],
)
def test_two_processes_give_the_losses_of_one_at_the_same_global_batch(tmp_path, config, optimizer):
    """Gradients are averaged in another order: losses within 1e-4 over 12 steps, at accumulation 2. Muon orthogonalises in bf16, which
    magnifies that: 5e-4."""
    changes = {"steps": 12, "accumulation": 2, "optimizer": optimizer}
    launch(tmp_path / "two", changes, config)
    _, lines = train(tiny(), replace(CONFIG, **changes))
    two = [line["loss"] for line in json.loads((tmp_path / "two" / "log.json").read_text())]
    assert two == pytest.approx([line["loss"] for line in lines], abs=1e-4 if optimizer == "adamw" else 5e-4)
    assert len(two) == 12


@pytest.mark.parametrize("first, then", [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes_as_if_it_had_not_changed(tmp_path, first, then):
    """8 rows a step, 2 at once: 4 passes of one process, 2 of two. float32 sums in another order: within 1e-5 of weights that move
    by 1e-1."""
    from safetensors.torch import load_file

    changes = {"steps": 12, "save_every": 6, "batch_size": 8, "per_device_train_batch_size": 2}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    together(run, whole, changes, processes=1)
    together(run, stopped, changes, processes=first)  # its last checkpoint is of step 6
    start = load_file(stopped / "checkpoints" / "checkpoint-6" / MODEL)
    together(run, stopped, changes, processes=then)
    assert json.loads((stopped / "log.json").read_text())[0]["step"] == 7
    ours, theirs = (load_file(folder / "final.safetensors") for folder in (stopped, whole))
    assert max((theirs[name] - start[name]).abs().max() for name in start) > 1e-2
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in theirs)


@pytest.mark.slow
def test_a_sharded_run_is_saved_whole_and_goes_on(tmp_path):
    """Stopped after 6 of 12 steps and resumed, each time on two processes; the same sums in the same order: the same bits."""
    from safetensors.torch import load_file

    changes = {"steps": 12, "save_every": 6}
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    launch(whole, changes, "fsdp")
    assert load_file(whole / "checkpoints" / "checkpoint-6" / MODEL)["embedding.weight"].shape == (32, 16)
    shutil.copytree(whole / "checkpoints", resumed / "checkpoints")
    launch(resumed, changes, "fsdp")
    assert json.loads((resumed / "log.json").read_text())[0]["step"] == 7
    assert_same_bits(load_file(whole / "final.safetensors"), load_file(resumed / "final.safetensors"))
